"""Looking into a running system: its tree, one actor at a time, causes, and figures for Prometheus.

- `snapshot`, `tree_text`: every actor with state, mailbox, restarts and handler times
- `HandlerTimes`: count, total and longest time by actor and message; off until installed
- `get_state`, `suspend`, `resume`, `trace`: one actor at run time, as Erlang's `sys` does
- `CauseTrace`: which message caused which, across actors; off until installed
- `Inspector`: lets other nodes do all that, where it is started; `remote_trace`, `gather_story`
- `metrics`: a collector for prometheus-client (`understudy[metrics]`)
- `serving`: `InspectionPoint`, an actor that lets `understudy actors` show its system from another process
"""

from .causes import CauseTrace as CauseTrace
from .causes import Step as Step
from .inspecting import INSPECTOR as INSPECTOR
from .inspecting import NotInspectable as NotInspectable
from .inspecting import Shown as Shown
from .inspection import TraceEvent as TraceEvent
from .inspection import get_state as get_state
from .inspection import resume as resume
from .inspection import suspend as suspend
from .inspection import trace as trace
from .inspector import Inspector as Inspector
from .inspector import Story as Story
from .inspector import gather_story as gather_story
from .inspector import remote_trace as remote_trace
from .serving import InspectionError as InspectionError
from .serving import InspectionPoint as InspectionPoint
from .tree import ActorNode as ActorNode
from .tree import HandlerTimes as HandlerTimes
from .tree import MessageTime as MessageTime
from .tree import snapshot as snapshot
from .tree import tree_text as tree_text
