"""What watches of a store promise, as checks of what they told: etcd's nine guarantees.

- `WatchRecord`: what one watch asked for and was told, bookmarks and all.
- `Ledger`: the history of writes that it is held against.
- `check_watch`: every guarantee that was broken, with the events that show it.
- `check_reader`: the same for a reader who began again after each of several watches.
"""

from .guarantees import GUARANTEES as GUARANTEES
from .guarantees import Breach as Breach
from .guarantees import check_reader as check_reader
from .guarantees import check_watch as check_watch
from .ledger import ContradictoryEvents as ContradictoryEvents
from .ledger import Ledger as Ledger
from .record import WatchRecord as WatchRecord
