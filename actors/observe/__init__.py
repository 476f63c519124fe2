"""Looking into a running system: its tree, one actor at a time, causes, and figures for Prometheus.

- `snapshot`, `tree_text`: every actor with state, mailbox, restarts and handler times
- `HandlerTimes`: count, total and longest time by actor and message; off until installed
- `get_state`, `suspend`, `resume`, `trace`: one actor at run time, as Erlang's `sys` does
- `CauseTrace`: which message caused which, across actors; off until installed
- `metrics`: a collector for prometheus-client (`understudy[metrics]`)
- `serving`: a snapshot for another process, which `understudy actors` shows
"""

from .causes import CauseTrace as CauseTrace
from .causes import Step as Step
from .inspection import TraceEvent as TraceEvent
from .inspection import get_state as get_state
from .inspection import resume as resume
from .inspection import suspend as suspend
from .inspection import trace as trace
from .tree import ActorNode as ActorNode
from .tree import HandlerTimes as HandlerTimes
from .tree import MessageTime as MessageTime
from .tree import snapshot as snapshot
from .tree import tree_text as tree_text
