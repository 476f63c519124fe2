"""Whether somebody may do what he asks for: every request of the contract, against users and roles.

Keys need a permission to read or write; a lease, one for each key that lives by it; the users' business, and
whatever has no rule here, the role root. Nested transactions are looked into (etcd before 3.5.27 did not, and
let their contents pass).
"""

from typing import Any

from understudy.raftstore.leases import LeaseTable
from understudy.raftstore.storage import (
    Alarm,
    AssignToken,
    AuthError,
    Compact,
    DeleteRange,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseList,
    LeaseRevoke,
    LeaseTimeToLive,
    PasswordHash,
    Put,
    Range,
    RequestProgress,
    RoleGet,
    Status,
    Txn,
    UserGet,
    Watch,
)
from understudy.raftstore.users import Users


def check_permission(request: Any, user: str, users: Users, leases: LeaseTable) -> None:
    """Raises `AuthError` unless the user ("" for nobody) may do it; authentication is enabled."""
    match request:
        case Range() | Watch():
            users.require(user, "read", request.key, request.range_end)
        case Put():
            users.require(user, "write", request.key)
            for key in leases.keys(request.lease) if request.lease else ():
                # Whoever may not write them must not keep them alive, or let them end.
                users.require(user, "write", key)
            if request.prev_kv:
                users.require(user, "read", request.key)
        case DeleteRange():
            users.require(user, "write", request.key, request.range_end)
            if request.prev_kv:
                users.require(user, "read", request.key, request.range_end)
        case Txn():
            for compare in request.compares:
                users.require(user, "read", compare.key, compare.range_end)
            for operation in (*request.success, *request.failure):
                check_permission(operation, user, users, leases)
        case LeaseRevoke():
            for key in leases.keys(request.id):
                users.require(user, "write", key)
        case LeaseTimeToLive():
            for key in leases.keys(request.id) if request.keys else ():
                users.require(user, "read", key)
        case UserGet():
            if user != request.name or not user:
                users.require_admin(user)
        case RoleGet():
            held = users.users.get(user)
            if held is None or request.role not in held.roles:
                users.require_admin(user)
        case (
            Compact() | LeaseGrant() | LeaseKeepAlive() | LeaseList() | RequestProgress() | Status() | Alarm()
        ):
            pass
        case PasswordHash() | AssignToken():
            pass  # From the store's own edge, for somebody who is about to become known.
        case _:
            users.require_admin(user)


def check_auth_revision(known: int, users: Users) -> None:
    """Raises `AuthError` if users or roles changed since a request was let in; 0 is not looked at."""
    if known and known != users.revision:
        raise AuthError("old auth revision")
