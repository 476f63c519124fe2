"""The Auth service: users, roles and tokens."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from attrs import define

from understudy.mailbox import Request
from understudy.raftstore.storage import (
    AuthDisable,
    AuthEnable,
    Authenticate,
    AuthReply,
    AuthStatus,
    Permission,
    PermissionType,
    RoleAdd,
    RoleDelete,
    RoleGet,
    RoleGrantPermission,
    RoleList,
    RoleRevokePermission,
    Storage,
    UserAdd,
    UserChangePassword,
    UserDelete,
    UserGet,
    UserGrantRole,
    UserList,
    UserRevokeRole,
)

from .calls import Call
from .errors import INVALID_AUTH_MANAGEMENT
from .grpc import RpcError
from .schema import METHODS, messages

if TYPE_CHECKING:
    from .service import EtcdService, Handler

PERMISSION_TYPES: Final[tuple[PermissionType, ...]] = ("read", "write", "readwrite")
"""Each by its number in the protocol."""


def user_add(request: Any) -> UserAdd:
    no_password = request.options.no_password
    return UserAdd(request.name, "" if no_password else request.password, no_password)


def user_change_password(request: Any) -> UserChangePassword:
    return UserChangePassword(request.name, request.password)


def role_grant_permission(request: Any) -> RoleGrantPermission:
    if not request.HasField("perm"):
        return RoleGrantPermission(request.name, None)
    granted = request.perm
    if not 0 <= granted.permType < len(PERMISSION_TYPES):
        raise RpcError(*INVALID_AUTH_MANAGEMENT)
    permission = Permission(PERMISSION_TYPES[granted.permType], granted.key, granted.range_end)
    return RoleGrantPermission(request.name, permission)


_WRITES: Final[dict[str, Callable[[Any], Request[Storage, AuthReply]]]] = {
    "AuthEnable": lambda request: AuthEnable(),
    "AuthDisable": lambda request: AuthDisable(),
    "UserAdd": user_add,
    "UserDelete": lambda request: UserDelete(request.name),
    "UserChangePassword": user_change_password,
    "UserGrantRole": lambda request: UserGrantRole(request.user, request.role),
    "UserRevokeRole": lambda request: UserRevokeRole(request.name, request.role),
    "RoleAdd": lambda request: RoleAdd(request.name),
    "RoleDelete": lambda request: RoleDelete(request.role),
    "RoleGrantPermission": role_grant_permission,
    "RoleRevokePermission": lambda request: RoleRevokePermission(
        request.role, request.key, request.range_end
    ),
}
"""What is answered with a header and nothing else."""


@define
class Authority:
    service: "EtcdService"

    @property
    def unary(self) -> "dict[str, Handler]":
        named: dict[str, Handler] = {
            "AuthStatus": self._status,
            "Authenticate": self._authenticate,
            "UserGet": self._user_get,
            "UserList": self._user_list,
            "RoleGet": self._role_get,
            "RoleList": self._role_list,
        }
        named |= dict.fromkeys(_WRITES, self._write)
        return {f"/etcdserverpb.Auth/{name}": handler for name, handler in named.items()}

    async def _write(self, request: Any, call: Call) -> Any:
        reply = await self.service.ask(_WRITES[call.method.name](request), call)
        return METHODS[call.method.path].response(header=self.service.header(reply.revision))

    async def _status(self, request: Any, call: Call) -> Any:
        reply = await self.service.ask(AuthStatus(), call)
        return messages.AuthStatusResponse(
            header=self.service.header(reply.revision),
            enabled=reply.enabled,
            authRevision=reply.auth_revision,
        )

    async def _authenticate(self, request: Any, call: Call) -> Any:
        reply = await self.service.ask(Authenticate(request.name, request.password))
        return messages.AuthenticateResponse(header=self.service.header(reply.revision), token=reply.token)

    async def _user_get(self, request: Any, call: Call) -> Any:
        reply = await self.service.ask(UserGet(request.name), call)
        return messages.AuthUserGetResponse(header=self.service.header(reply.revision), roles=reply.roles)

    async def _user_list(self, request: Any, call: Call) -> Any:
        reply = await self.service.ask(UserList(), call)
        return messages.AuthUserListResponse(header=self.service.header(reply.revision), users=reply.users)

    async def _role_get(self, request: Any, call: Call) -> Any:
        reply = await self.service.ask(RoleGet(request.role), call)
        permissions = [
            messages.Permission(
                permType=PERMISSION_TYPES.index(each.type), key=each.key, range_end=each.range_end
            )
            for each in reply.permissions
        ]
        return messages.AuthRoleGetResponse(header=self.service.header(reply.revision), perm=permissions)

    async def _role_list(self, request: Any, call: Call) -> Any:
        reply = await self.service.ask(RoleList(), call)
        return messages.AuthRoleListResponse(header=self.service.header(reply.revision), roles=reply.roles)
