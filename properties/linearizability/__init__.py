"""Is a concurrent history linearizable? Operations, a search for a witness, and a model of the store.

- `Operation`: what one client called, when, and what it heard.
- `check`: the verdict, with an order that explains the history or the place where every order fails.
- `StoreModel`: puts, reads, compare-and-sets and deletions of an etcd store, with their revisions, one key
  at a time or several together.
- `settle`: what became of the operations that nobody answered, from the ledger of all that was written.
"""

from .checker import Model as Model
from .checker import Verdict as Verdict
from .checker import check as check
from .history import UNKNOWN as UNKNOWN
from .history import Operation as Operation
from .settling import Unexplained as Unexplained
from .settling import settle as settle
from .store import CompareAndSet as CompareAndSet
from .store import Delete as Delete
from .store import Read as Read
from .store import ReadAll as ReadAll
from .store import ReadAllResult as ReadAllResult
from .store import ReadResult as ReadResult
from .store import StoreModel as StoreModel
from .store import Write as Write
from .store import WriteResult as WriteResult
from .store import WriteTogether as WriteTogether
