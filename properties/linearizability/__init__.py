"""Is a concurrent history linearizable? Operations, a search for a witness, and models of an etcd store.

- `Operation`: what one client called, when, and what it heard; `requests` has what can be called.
- `check`: the verdict, with an order that explains the history or the place where every order fails.
- `StoreModel`: puts, reads, compare-and-sets and deletions of an etcd store, with their revisions, one key
  at a time or several together; the past and its compaction; the keys of leases.
- `settle`: what became of the operations that nobody answered, from the ledger of all that was written.
- `expiries`, `check_leases`: that leases last as long as they were said to, and then end.
"""

from .checker import Model as Model
from .checker import Verdict as Verdict
from .checker import check as check
from .history import UNKNOWN as UNKNOWN
from .history import Operation as Operation
from .leases import LeaseModel as LeaseModel
from .leases import check_leases as check_leases
from .leases import expiries as expiries
from .leases import of_keys as of_keys
from .requests import Attached as Attached
from .requests import CompactAt as CompactAt
from .requests import CompareAndSet as CompareAndSet
from .requests import Delete as Delete
from .requests import Expire as Expire
from .requests import Grant as Grant
from .requests import Granted as Granted
from .requests import IsFuture as IsFuture
from .requests import KeepAlive as KeepAlive
from .requests import LeaseIds as LeaseIds
from .requests import NoLease as NoLease
from .requests import Read as Read
from .requests import ReadAll as ReadAll
from .requests import ReadAllResult as ReadAllResult
from .requests import ReadAt as ReadAt
from .requests import ReadLeases as ReadLeases
from .requests import ReadResult as ReadResult
from .requests import Revoke as Revoke
from .requests import Revoked as Revoked
from .requests import TimeToLive as TimeToLive
from .requests import WasCompacted as WasCompacted
from .requests import Write as Write
from .requests import WriteResult as WriteResult
from .requests import WriteTogether as WriteTogether
from .settling import Unexplained as Unexplained
from .settling import settle as settle
from .store import StoreModel as StoreModel
