"""What happened to a manifest, in order, told from the real messages.

`telling.story` makes steps of recorded deliveries; `text` and `page` show them; `running` applies a manifest
to a cluster and records. Everything but `running` is pure.
"""

from .step import KINDS as KINDS
from .step import ObjectName as ObjectName
from .step import Step as Step
from .telling import story as story
