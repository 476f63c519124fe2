"""Users, roles and what they may do: etcd's Auth service.

A *role* holds permissions on key ranges, a *user* has roles. The user `root` and the role `root` are special:
authentication can be enabled only when that user has that role, whose holders may do everything. Once it is
enabled, every request must come as somebody: within `AsUser`.
"""

from typing import Any, Literal

from attrs import field, frozen

from understudy.mailbox import Request, message

from .errors import InvalidRequest
from .protocol import Storage

PermissionType = Literal["read", "write", "readwrite"]


@message("etcd.permission")
@frozen
class Permission:
    """What may be done with the keys of a range (named as everywhere)."""

    type: PermissionType
    key: bytes
    range_end: bytes = b""


@message("etcd.as-user")
@frozen
class AsUser(Request[Storage, Any]):
    """A request on somebody's behalf; answered as `request` is.

    Errors besides those of `request`: `AuthError` with "invalid auth token", "permission denied", "old auth
    revision" (authentication changed while the request was on its way: get a new token and try again).
    """

    request: Any
    token: str = field(default="", repr=False)
    """What `Authenticate` answered ..."""
    user: str = ""
    """... or, without a token, the name in a client certificate that the wire front has verified."""
    auth_revision: int = 0
    """Set by the member that proposes it; the state of users and roles on which it was let in."""

    def __attrs_post_init__(self) -> None:
        if isinstance(self.request, AsUser):
            raise InvalidRequest("somebody asks on behalf of one who asks on another's behalf: wrap it once")


@message("etcd.auth-reply")
@frozen
class AuthReply:
    """Done."""

    revision: int


@message("etcd.auth-enable")
@frozen
class AuthEnable(Request[Storage, AuthReply]):
    """From now on, who may do what counts. Errors: "root user does not exist", "root role not granted"."""


@message("etcd.auth-disable")
@frozen
class AuthDisable(Request[Storage, AuthReply]):
    """From now on, everybody may do everything; tokens are void."""


@message("etcd.auth-status")
@frozen
class AuthStatus(Request[Storage, "AuthStatusReply"]):
    """Answered by `AuthStatusReply`."""


@message("etcd.auth-status-reply")
@frozen
class AuthStatusReply:
    revision: int
    enabled: bool
    auth_revision: int
    """Grows by one with each change of users, roles and permissions; 1 in a fresh store."""


@message("etcd.authenticate")
@frozen
class Authenticate(Request[Storage, "AuthenticateReply"]):
    """Get a token for a name and a password. Answered by `AuthenticateReply`; errors: "auth not enabled",
    "authentication failed", "user has no password".
    """

    name: str
    password: str = field(repr=False)


@message("etcd.authenticate-reply")
@frozen
class AuthenticateReply:
    revision: int
    token: str = field(repr=False)
    """Good until it was not used for five minutes, or its user or the password goes."""


@message("etcd.user-add")
@frozen
class UserAdd(Request[Storage, AuthReply]):
    """Errors: "user name is empty", "user already exists", "password too long"."""

    name: str
    password: str = field(default="", repr=False)
    no_password: bool = False
    """Nobody can authenticate as this user with a password, only by a certificate."""
    hashed_password: str = field(default="", repr=False)
    """bcrypt's, in place of `password`: what goes into the log. Set by the store's edge alone."""


@message("etcd.user-get")
@frozen
class UserGet(Request[Storage, "UserGetReply"]):
    """Answered by `UserGetReply`; error: "user not found". Everybody may ask about himself."""

    name: str


@message("etcd.user-get-reply")
@frozen
class UserGetReply:
    revision: int
    roles: tuple[str, ...]


@message("etcd.user-list")
@frozen
class UserList(Request[Storage, "UserListReply"]):
    """Answered by `UserListReply`."""


@message("etcd.user-list-reply")
@frozen
class UserListReply:
    revision: int
    users: tuple[str, ...]


@message("etcd.user-delete")
@frozen
class UserDelete(Request[Storage, AuthReply]):
    """Errors: "user not found", "invalid auth management" (of root, while authentication is enabled)."""

    name: str


@message("etcd.user-change-password")
@frozen
class UserChangePassword(Request[Storage, AuthReply]):
    """Error: "user not found"."""

    name: str
    password: str = field(default="", repr=False)
    hashed_password: str = field(default="", repr=False)


@message("etcd.user-grant-role")
@frozen
class UserGrantRole(Request[Storage, AuthReply]):
    """Errors: "user not found", "role not found" (not for the role root, which needs not be there)."""

    user: str
    role: str


@message("etcd.user-revoke-role")
@frozen
class UserRevokeRole(Request[Storage, AuthReply]):
    """Errors: "user not found", "role not granted", "invalid auth management" (root of root)."""

    name: str
    role: str


@message("etcd.role-add")
@frozen
class RoleAdd(Request[Storage, AuthReply]):
    """Errors: "role name is empty", "role already exists"."""

    name: str


@message("etcd.role-get")
@frozen
class RoleGet(Request[Storage, "RoleGetReply"]):
    """Answered by `RoleGetReply`; error: "role not found". Everybody may ask about his own roles."""

    role: str


@message("etcd.role-get-reply")
@frozen
class RoleGetReply:
    revision: int
    permissions: tuple[Permission, ...]
    """Ascending by key."""


@message("etcd.role-list")
@frozen
class RoleList(Request[Storage, "RoleListReply"]):
    """Answered by `RoleListReply`."""


@message("etcd.role-list-reply")
@frozen
class RoleListReply:
    revision: int
    roles: tuple[str, ...]


@message("etcd.role-delete")
@frozen
class RoleDelete(Request[Storage, AuthReply]):
    """Its users lose it. Errors: "role not found", "invalid auth management" (of root, while authentication
    is enabled)."""

    role: str


@message("etcd.role-grant-permission")
@frozen
class RoleGrantPermission(Request[Storage, AuthReply]):
    """A permission on a range that the role has one on already replaces it. Errors: "role not found",
    "permission not given", "invalid auth management" (of an empty range)."""

    name: str
    permission: Permission | None


@message("etcd.role-revoke-permission")
@frozen
class RoleRevokePermission(Request[Storage, AuthReply]):
    """Errors: "role not found", "permission not granted"."""

    role: str
    key: bytes
    range_end: bytes = b""


# What the members of a store say among themselves.


@message("etcd.password-hash")
@frozen
class PasswordHash(Request[Storage, "PasswordHashReply"]):
    """What to compare a password with. Answered by `PasswordHashReply`; refused as `Authenticate` is.

    Only for the store's own edge: a wire front never passes it on."""

    name: str


@message("etcd.password-hash-reply")
@frozen
class PasswordHashReply:
    revision: int
    auth_revision: int
    hashed_password: str = field(repr=False)


@message("etcd.assign-token")
@frozen
class AssignToken(Request[Storage, AuthenticateReply]):
    """Give a user whose password was found right a token. Only for the store's own edge."""

    name: str
    nonce: str = field(repr=False)
    """What makes the token hard to guess."""
    auth_revision: int
    """When the password was compared; refused with "old auth revision" when it is another now."""


@message("etcd.expire-tokens")
@frozen
class ExpireTokens(Request[Storage, AuthReply]):
    """These tokens were not used for too long. Proposed by the leader itself."""

    tokens: tuple[str, ...] = field(repr=False)


AuthWrite = (
    AuthEnable
    | AuthDisable
    | UserAdd
    | UserDelete
    | UserChangePassword
    | UserGrantRole
    | UserRevokeRole
    | RoleAdd
    | RoleDelete
    | RoleGrantPermission
    | RoleRevokePermission
    | AssignToken
    | ExpireTokens
)
AuthRead = AuthStatus | UserGet | UserList | RoleGet | RoleList | PasswordHash
