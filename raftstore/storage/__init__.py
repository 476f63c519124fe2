"""The Storage contract: what every store of Understudy promises, as messages.

It is the data model of an etcd v3 store. Three implementations can replace one another behind it: the Raft
group, the single in-memory actor, and a real etcd over gRPC; one contract test suite runs against all of
them.

Keys and values are bytes. A *range* is named as etcd names it: `range_end` empty means the one key `key`;
otherwise the half-open interval [key, range_end); `range_end == b"\\0"` means every key from `key` on;
`prefix_end` makes the end of a prefix. Revisions count mutating transactions: a fresh store is at revision 1,
and every event of one transaction carries the same revision. Every reply carries the revision of the store at
which it was computed.

Source of the rules: etcd's API reference and "KV API guarantees", v3.6.

- `protocol`: what they have in common
- `keyvalue`, `leases`, `watches`: what is stored
- `maintenance`, `auth`: status, alarms, snapshots; users and roles
- `errors`: what is refused
"""

from typing import get_args

from .auth import AssignToken as AssignToken
from .auth import AsUser as AsUser
from .auth import AuthDisable as AuthDisable
from .auth import AuthEnable as AuthEnable
from .auth import Authenticate as Authenticate
from .auth import AuthenticateReply as AuthenticateReply
from .auth import AuthRead as AuthRead
from .auth import AuthReply as AuthReply
from .auth import AuthStatus as AuthStatus
from .auth import AuthStatusReply as AuthStatusReply
from .auth import AuthWrite as AuthWrite
from .auth import ExpireTokens as ExpireTokens
from .auth import PasswordHash as PasswordHash
from .auth import PasswordHashReply as PasswordHashReply
from .auth import Permission as Permission
from .auth import PermissionType as PermissionType
from .auth import RoleAdd as RoleAdd
from .auth import RoleDelete as RoleDelete
from .auth import RoleGet as RoleGet
from .auth import RoleGetReply as RoleGetReply
from .auth import RoleGrantPermission as RoleGrantPermission
from .auth import RoleList as RoleList
from .auth import RoleListReply as RoleListReply
from .auth import RoleRevokePermission as RoleRevokePermission
from .auth import UserAdd as UserAdd
from .auth import UserChangePassword as UserChangePassword
from .auth import UserDelete as UserDelete
from .auth import UserGet as UserGet
from .auth import UserGetReply as UserGetReply
from .auth import UserGrantRole as UserGrantRole
from .auth import UserList as UserList
from .auth import UserListReply as UserListReply
from .auth import UserRevokeRole as UserRevokeRole
from .errors import AuthError as AuthError
from .errors import AuthProblem as AuthProblem
from .errors import Compacted as Compacted
from .errors import Corrupt as Corrupt
from .errors import DuplicateKey as DuplicateKey
from .errors import EmptyKey as EmptyKey
from .errors import FutureRevision as FutureRevision
from .errors import InvalidRequest as InvalidRequest
from .errors import KeyNotFound as KeyNotFound
from .errors import LeaseExists as LeaseExists
from .errors import LeaseNotFound as LeaseNotFound
from .errors import LeaseTtlTooLarge as LeaseTtlTooLarge
from .errors import NoSpace as NoSpace
from .errors import NotLeader as NotLeader
from .errors import Overflowed as Overflowed
from .errors import RequestTooLarge as RequestTooLarge
from .errors import StorageError as StorageError
from .errors import TooManyOperations as TooManyOperations
from .errors import Unavailable as Unavailable
from .keyvalue import Compact as Compact
from .keyvalue import CompactReply as CompactReply
from .keyvalue import Compare as Compare
from .keyvalue import CompareOperator as CompareOperator
from .keyvalue import CompareTarget as CompareTarget
from .keyvalue import DeleteRange as DeleteRange
from .keyvalue import DeleteRangeReply as DeleteRangeReply
from .keyvalue import KeyValue as KeyValue
from .keyvalue import Operation as Operation
from .keyvalue import OperationReply as OperationReply
from .keyvalue import Put as Put
from .keyvalue import PutReply as PutReply
from .keyvalue import Range as Range
from .keyvalue import RangeReply as RangeReply
from .keyvalue import SortOrder as SortOrder
from .keyvalue import SortTarget as SortTarget
from .keyvalue import Txn as Txn
from .keyvalue import TxnReply as TxnReply
from .leases import LeaseCheckpoint as LeaseCheckpoint
from .leases import LeaseCheckpointReply as LeaseCheckpointReply
from .leases import LeaseGrant as LeaseGrant
from .leases import LeaseGrantReply as LeaseGrantReply
from .leases import LeaseKeepAlive as LeaseKeepAlive
from .leases import LeaseKeepAliveReply as LeaseKeepAliveReply
from .leases import LeaseList as LeaseList
from .leases import LeaseListReply as LeaseListReply
from .leases import LeaseRevoke as LeaseRevoke
from .leases import LeaseRevokeReply as LeaseRevokeReply
from .leases import LeaseTimeToLive as LeaseTimeToLive
from .leases import LeaseTimeToLiveReply as LeaseTimeToLiveReply
from .maintenance import Alarm as Alarm
from .maintenance import AlarmAction as AlarmAction
from .maintenance import AlarmMember as AlarmMember
from .maintenance import AlarmReply as AlarmReply
from .maintenance import AlarmType as AlarmType
from .maintenance import Hash as Hash
from .maintenance import HashKV as HashKV
from .maintenance import HashKVReply as HashKVReply
from .maintenance import HashReply as HashReply
from .maintenance import OpenSnapshot as OpenSnapshot
from .maintenance import SnapshotPart as SnapshotPart
from .maintenance import Status as Status
from .maintenance import StatusReply as StatusReply
from .protocol import ALL_KEYS_END as ALL_KEYS_END
from .protocol import Storage as Storage
from .protocol import prefix_end as prefix_end
from .watches import Event as Event
from .watches import EventType as EventType
from .watches import OpenWatch as OpenWatch
from .watches import ProgressReply as ProgressReply
from .watches import RequestProgress as RequestProgress
from .watches import Watch as Watch
from .watches import WatchBatch as WatchBatch
from .watches import WatchOpened as WatchOpened

StorageRequest = (
    Range
    | Put
    | DeleteRange
    | Txn
    | Compact
    | LeaseGrant
    | LeaseRevoke
    | LeaseKeepAlive
    | LeaseTimeToLive
    | LeaseList
    | LeaseCheckpoint
    | RequestProgress
    | Status
    | HashKV
    | Hash
    | Alarm
    | AuthWrite
    | AuthRead
    | Authenticate
    | AsUser
)
REQUESTS = get_args(StorageRequest)
"""All of them, as classes: what an actor that is a `Storage` answers, besides `OpenWatch` and
`OpenSnapshot`."""
