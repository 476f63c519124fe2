"""What the store refuses, as etcd's clients know it: a gRPC status code and a text each.

Clients compare the texts (`rpctypes` in etcd's Go client), so they are a part of the protocol.
"""

from typing import Any, Final

from understudy.actors import Unhandled
from understudy.mailbox import Refusal
from understudy.raftstore import storage
from understudy.raftstore.machine import size_bytes
from understudy.raftstore.options import GroupOptions
from understudy.raftstore.storage.cluster import ClusterChange, MembershipError, MembershipProblem, MoveLeader
from understudy.raftstore.transaction import MAX_OPERATIONS

from .grpc import Code, NotSent, RpcError

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
    "NoSpace": (Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"),
    "Corrupt": (Code.DATA_LOSS, "etcdserver: corrupt cluster"),
    "NotLeader": (Code.FAILED_PRECONDITION, "etcdserver: not leader"),
}
"""By the name of the refusal's class."""

_AUTH: Final[dict[storage.AuthProblem, tuple[Code, str]]] = {
    "auth not enabled": (Code.FAILED_PRECONDITION, "etcdserver: authentication is not enabled"),
    "authentication failed": (
        Code.INVALID_ARGUMENT,
        "etcdserver: authentication failed, invalid user ID or password",
    ),
    "invalid auth token": (Code.UNAUTHENTICATED, "etcdserver: invalid auth token"),
    "old auth revision": (Code.INVALID_ARGUMENT, "etcdserver: revision of auth store is old"),
    "permission denied": (Code.PERMISSION_DENIED, "etcdserver: permission denied"),
    "user name is empty": (Code.INVALID_ARGUMENT, "etcdserver: user name is empty"),
    "role name is empty": (Code.INVALID_ARGUMENT, "etcdserver: role name is empty"),
    "user already exists": (Code.FAILED_PRECONDITION, "etcdserver: user name already exists"),
    "user not found": (Code.FAILED_PRECONDITION, "etcdserver: user name not found"),
    "role already exists": (Code.FAILED_PRECONDITION, "etcdserver: role name already exists"),
    "role not found": (Code.FAILED_PRECONDITION, "etcdserver: role name not found"),
    "role not granted": (Code.FAILED_PRECONDITION, "etcdserver: role is not granted to the user"),
    "permission not granted": (
        Code.FAILED_PRECONDITION,
        "etcdserver: permission is not granted to the role",
    ),
    "permission not given": (Code.INVALID_ARGUMENT, "etcdserver: permission not given"),
    "invalid auth management": (Code.INVALID_ARGUMENT, "etcdserver: invalid auth management"),
    "root user does not exist": (Code.FAILED_PRECONDITION, "etcdserver: root user does not exist"),
    "root role not granted": (Code.FAILED_PRECONDITION, "etcdserver: root user does not have root role"),
    # etcd has no status of its own for these two: they come as an unknown error with their text.
    "user has no password": (
        Code.UNKNOWN,
        "auth: authentication failed, password was given for no password user",
    ),
    "password too long": (Code.UNKNOWN, "bcrypt: password length exceeds 72 bytes"),
}

_MEMBERSHIP: Final[dict[MembershipProblem, tuple[Code, str]]] = {
    "member not found": (Code.NOT_FOUND, "etcdserver: member not found"),
    "member ID already exist": (Code.FAILED_PRECONDITION, "etcdserver: member ID already exist"),
    "Peer URLs already exists": (Code.FAILED_PRECONDITION, "etcdserver: Peer URLs already exists"),
    "peer URLs are missing": (Code.INVALID_ARGUMENT, "etcdserver: given member URLs are invalid"),
    "too many learner members in cluster": (
        Code.FAILED_PRECONDITION,
        "etcdserver: too many learner members in cluster",
    ),
    "can only promote a learner member": (
        Code.FAILED_PRECONDITION,
        "etcdserver: can only promote a learner member",
    ),
    "can only promote a learner member which is in sync with leader": (
        Code.FAILED_PRECONDITION,
        "etcdserver: can only promote a learner member which is in sync with leader",
    ),
    "re-configuration failed due to not enough started members": (
        Code.FAILED_PRECONDITION,
        "etcdserver: re-configuration failed due to not enough started members",
    ),
    "unhealthy cluster": (Code.UNAVAILABLE, "etcdserver: unhealthy cluster"),
    "bad leader transferee": (Code.FAILED_PRECONDITION, "etcdserver: bad leader transferee"),
}

NO_LEADER: Final = (Code.UNAVAILABLE, "etcdserver: no leader")
TIMED_OUT: Final = (Code.UNAVAILABLE, "etcdserver: request timed out")
STOPPED: Final = (Code.UNAVAILABLE, "etcdserver: server stopped")
TOO_MANY_REQUESTS: Final = (Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests")
VALUE_PROVIDED: Final = (Code.INVALID_ARGUMENT, "etcdserver: value is provided")
LEASE_PROVIDED: Final = (Code.INVALID_ARGUMENT, "etcdserver: lease is provided")
KEY_NOT_FOUND: Final = (Code.INVALID_ARGUMENT, "etcdserver: key not found")
COMPACTED: Final = _TEXTS["Compacted"]
FUTURE_REVISION: Final = _TEXTS["FutureRevision"]
LEASE_NOT_FOUND: Final = _TEXTS["LeaseNotFound"]
INVALID_DOWNGRADE: Final = (Code.INVALID_ARGUMENT, "etcdserver: invalid downgrade target version")
DOWNGRADE_FORMAT: Final = (Code.INVALID_ARGUMENT, "etcdserver: wrong downgrade target version format")
NO_DOWNGRADE: Final = (Code.FAILED_PRECONDITION, "etcdserver: no inflight downgrade job")
INVALID_AUTH_MANAGEMENT: Final = _AUTH["invalid auth management"]
NOT_LEADER: Final = _TEXTS["NotLeader"]
BAD_TRANSFEREE: Final = _MEMBERSHIP["bad leader transferee"]
MEMBER_BAD_URLS: Final = _MEMBERSHIP["peer URLs are missing"]
INVALID_SORT: Final = (Code.INVALID_ARGUMENT, "etcdserver: invalid sort option")
INVALID_COMPARE: Final = (Code.INVALID_ARGUMENT, "etcdserver: invalid compare target or result")
"""Our own words: etcd takes such a condition for true."""


_BACK: Final = {status: name for name, status in _TEXTS.items()}
_MEMBERSHIP_BACK: Final = {status[1]: problem for problem, status in _MEMBERSHIP.items()}
_AUTH_BACK: Final = {status[1]: problem for problem, status in _AUTH.items()}
# What etcd's users say is let out as it is by some of its methods.
for _problem in ("permission denied", "user name is empty", "invalid auth token"):
    _AUTH_BACK[f"auth: {_problem}"] = _problem


def rpc_error(refusal: Refusal) -> RpcError:
    """The status with which etcd answers what the store refuses so."""
    known = _TEXTS.get(type(refusal).__name__)
    if known is not None:
        return RpcError(*known)
    match refusal:
        case MembershipError():
            return RpcError(*_MEMBERSHIP[refusal.problem])
        case Unhandled():
            return RpcError(Code.UNIMPLEMENTED, "this store does not do that")
        case storage.AuthError():
            return RpcError(*_AUTH[refusal.problem])
        case storage.Unavailable():
            return RpcError(*(NO_LEADER if "no leader" in refusal.reason else TIMED_OUT))
        case _:
            return RpcError(Code.UNKNOWN, f"etcdserver: {refusal}")


def refusal_of(error: RpcError, request: Any) -> storage.StorageError:
    """What the store refuses when etcd answers so; the request tells the values that the text leaves out."""
    status = (error.code, error.message)
    # A watch that is refused tells it with the code inside the text.
    problem = _AUTH_BACK.get(error.message.partition(" desc = ")[2] or error.message)
    if problem is not None:
        return storage.AuthError(problem)
    membership = _MEMBERSHIP_BACK.get(error.message)
    if membership is not None and isinstance(request, ClusterChange | MoveLeader):
        return MembershipError(membership)
    match _BACK.get(status):
        case "EmptyKey":
            return storage.EmptyKey()
        case "KeyNotFound":
            return storage.KeyNotFound(_key(request, storage.Put))
        case "DuplicateKey":
            return storage.DuplicateKey(_key(request, storage.Put))
        case "TooManyOperations":
            return storage.TooManyOperations(_operations(request), MAX_OPERATIONS)
        case "RequestTooLarge":
            return _too_large(request)
        case "LeaseNotFound":
            return storage.LeaseNotFound(getattr(request, "lease", 0) or getattr(request, "id", 0))
        case "LeaseExists":
            return storage.LeaseExists(request.id)
        case "LeaseTtlTooLarge":
            return storage.LeaseTtlTooLarge(request.ttl_s)
        case "NoSpace":
            return storage.NoSpace()
        case "Corrupt":
            return storage.Corrupt()
    if error.code is Code.RESOURCE_EXHAUSTED and "larger than max" in error.message:
        return _too_large(request)
    if error.code in (Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED):
        return storage.InvalidRequest(error.message)
    return storage.Unavailable(
        f"{error.code.name}: {error.message}", maybe_applied=not isinstance(error, NotSent)
    )


def _too_large(request: Any) -> storage.RequestTooLarge:
    # The server's limit is not told: most have the default.
    return storage.RequestTooLarge(size_bytes(request), GroupOptions().max_request_bytes)


def _key(request: Any, kind: type) -> bytes:
    """The key of the first operation of a kind in a request."""
    if isinstance(request, kind):
        key: bytes = request.key  # type: ignore[attr-defined]
        return key
    if isinstance(request, storage.Txn):
        for operation in (*request.success, *request.failure):
            if key := _key(operation, kind):
                return key
    return b""


def _operations(request: Any) -> int:
    if not isinstance(request, storage.Txn):
        return 0
    branches = (request.compares, request.success, request.failure)
    inner = [_operations(operation) for operation in (*request.success, *request.failure)]
    return max([*(len(branch) for branch in branches), *inner])
