"""What the store refuses, as etcd's clients know it: a gRPC status code and a text each.

Clients compare the texts (`rpctypes` in etcd's Go client), so they are a part of the protocol.
"""

from typing import Final

from understudy.mailbox import Refusal
from understudy.raftstore import storage

from .grpc import Code, RpcError

_TEXTS: Final[dict[str, tuple[Code, str]]] = {
    "EmptyKey": (Code.INVALID_ARGUMENT, "etcdserver: key is not provided"),
    "KeyNotFound": (Code.INVALID_ARGUMENT, "etcdserver: key not found"),
    "TooManyOperations": (Code.INVALID_ARGUMENT, "etcdserver: too many operations in txn request"),
    "DuplicateKey": (Code.INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request"),
    "RequestTooLarge": (Code.INVALID_ARGUMENT, "etcdserver: request is too large"),
    "Compacted": (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted"),
    "FutureRevision": (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"),
    "LeaseNotFound": (Code.NOT_FOUND, "etcdserver: requested lease not found"),
    "LeaseExists": (Code.FAILED_PRECONDITION, "etcdserver: lease already exists"),
    "LeaseTtlTooLarge": (Code.OUT_OF_RANGE, "etcdserver: too large lease TTL"),
    "NotLeader": (Code.FAILED_PRECONDITION, "etcdserver: not leader"),
}
"""By the name of the refusal's class."""

NO_LEADER: Final = (Code.UNAVAILABLE, "etcdserver: no leader")
TIMED_OUT: Final = (Code.UNAVAILABLE, "etcdserver: request timed out")
MOVED: Final = (Code.UNAVAILABLE, "etcdserver: leader changed")
STOPPED: Final = (Code.UNAVAILABLE, "etcdserver: server stopped")
TOO_MANY_REQUESTS: Final = (Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests")
VALUE_PROVIDED: Final = (Code.INVALID_ARGUMENT, "etcdserver: value is provided")
LEASE_PROVIDED: Final = (Code.INVALID_ARGUMENT, "etcdserver: lease is provided")
KEY_NOT_FOUND: Final = (Code.INVALID_ARGUMENT, "etcdserver: key not found")
LEASE_NOT_FOUND: Final = _TEXTS["LeaseNotFound"]
INVALID_DOWNGRADE: Final = (Code.INVALID_ARGUMENT, "etcdserver: invalid downgrade target version")
NO_DOWNGRADE: Final = (Code.FAILED_PRECONDITION, "etcdserver: no inflight downgrade job")
PERMISSION_DENIED: Final = (Code.PERMISSION_DENIED, "etcdserver: permission denied")
INVALID_SORT: Final = (Code.INVALID_ARGUMENT, "etcdserver: invalid sort option")


def rpc_error(refusal: Refusal) -> RpcError:
    """The status with which etcd answers what the store refuses so."""
    known = _TEXTS.get(type(refusal).__name__)
    if known is not None:
        return RpcError(*known)
    match refusal:
        case storage.Unavailable():
            return RpcError(*(NO_LEADER if "no leader" in refusal.reason else TIMED_OUT))
        case _:
            return RpcError(Code.UNKNOWN, f"etcdserver: {refusal}")
