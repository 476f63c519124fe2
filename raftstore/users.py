"""Users, roles and tokens: the part of the state machine that says who may do what.

Deterministic as the rest of it. Passwords never come here, only what bcrypt made of them; tokens are handed
out here, and given up when the leader proposes it. The rules and the order of refusals are etcd's.
"""

from typing import Final, Literal

from attrs import define, evolve, field, frozen

from understudy.mailbox import message
from understudy.raftstore.permissions import Coverage, covers
from understudy.raftstore.storage import (
    ALL_KEYS_END,
    AssignToken,
    AuthDisable,
    AuthEnable,
    AuthError,
    AuthWrite,
    ExpireTokens,
    Permission,
    RoleAdd,
    RoleDelete,
    RoleGrantPermission,
    RoleRevokePermission,
    UserAdd,
    UserChangePassword,
    UserDelete,
    UserGrantRole,
    UserRevokeRole,
)

ROOT: Final = "root"
"""The user, and the role, that may do everything."""
FIRST_AUTH_REVISION: Final = 1


@message("etcd.user-state")
@frozen
class User:
    name: str
    hashed_password: str = field(default="", repr=False)
    """bcrypt's; "" for a user without a password."""
    no_password: bool = False
    roles: tuple[str, ...] = ()
    """Sorted."""


@message("etcd.role-state")
@frozen
class Role:
    name: str
    permissions: tuple[Permission, ...] = ()
    """Ascending by key."""


@message("etcd.users-state")
@frozen
class UsersState:
    """All of it, as it is in a snapshot."""

    enabled: bool
    revision: int
    users: tuple[User, ...]
    roles: tuple[Role, ...]
    tokens: tuple[tuple[str, str], ...] = field(repr=False)
    next_token: int


@define
class Users:
    enabled: bool = False
    revision: int = FIRST_AUTH_REVISION
    """One more with each change of users, roles or permissions."""
    users: dict[str, User] = field(factory=dict)
    roles: dict[str, Role] = field(factory=dict)
    tokens: dict[str, str] = field(factory=dict, repr=False)
    """Whose each token is."""
    next_token: int = 1
    _coverage: dict[str, Coverage] = field(factory=dict)
    """What a user may do, as far as somebody asked."""

    # ---------------------------------------------------------------- changing

    def apply(self, request: AuthWrite) -> str:
        """Do what a log entry says; returns the token of an `AssignToken`, else "". Raises `AuthError`, and
        then nothing has changed."""
        match request:
            case AuthEnable():
                self._enable()
            case AuthDisable():
                self._disable()
            case AssignToken():
                return self._assign(request)
            case ExpireTokens():
                for token in request.tokens:
                    self.tokens.pop(token, None)
            case UserAdd() | UserDelete() | UserChangePassword() | UserGrantRole() | UserRevokeRole():
                self._change_user(request)
            case RoleAdd() | RoleDelete() | RoleGrantPermission() | RoleRevokePermission():
                self._change_role(request)
        return ""

    def _changed(self) -> None:
        self.revision += 1
        self._coverage.clear()

    def _enable(self) -> None:
        if self.enabled:
            return
        root = self.users.get(ROOT)
        if root is None:
            raise AuthError("root user does not exist")
        if ROOT not in root.roles:
            raise AuthError("root role not granted")
        self.enabled = True

    def _disable(self) -> None:
        if self.enabled:
            self.enabled = False
            self.tokens.clear()
            self._changed()

    def _assign(self, request: AssignToken) -> str:
        self.password_of(request.name)
        if request.auth_revision != self.revision:
            raise AuthError("old auth revision")
        token = f"{request.nonce}.{self.next_token}"
        self.next_token += 1
        self.tokens[token] = request.name
        return token

    def _drop_tokens(self, user: str) -> None:
        for token in [token for token, owner in self.tokens.items() if owner == user]:
            del self.tokens[token]

    def _change_user(
        self, request: UserAdd | UserDelete | UserChangePassword | UserGrantRole | UserRevokeRole
    ) -> None:
        match request:
            case UserAdd():
                if not request.name:
                    raise AuthError("user name is empty")
                if request.name in self.users:
                    raise AuthError("user already exists", request.name)
                assert not request.password, "a password was proposed as it is"
                hashed = "" if request.no_password else request.hashed_password
                self.users[request.name] = User(request.name, hashed, request.no_password)
            case UserDelete():
                if self.enabled and request.name == ROOT:
                    raise AuthError("invalid auth management", "root cannot be deleted while it is enabled")
                self.user(request.name)
                del self.users[request.name]
                self._drop_tokens(request.name)
            case UserChangePassword():
                assert not request.password, "a password was proposed as it is"
                user = self.user(request.name)
                if not user.no_password:
                    self.users[user.name] = evolve(user, hashed_password=request.hashed_password)
                self._drop_tokens(request.name)
            case UserGrantRole():
                user = self.user(request.user)
                if request.role != ROOT and request.role not in self.roles:
                    raise AuthError("role not found", request.role)
                if request.role in user.roles:
                    return
                self.users[user.name] = evolve(user, roles=tuple(sorted((*user.roles, request.role))))
            case UserRevokeRole():
                if self.enabled and request.name == ROOT and request.role == ROOT:
                    raise AuthError("invalid auth management", "root keeps its role while it is enabled")
                user = self.user(request.name)
                if request.role not in user.roles:
                    raise AuthError("role not granted", request.role)
                self._take_role(user, request.role)
        self._changed()

    def _take_role(self, user: User, role: str) -> None:
        self.users[user.name] = evolve(user, roles=tuple(name for name in user.roles if name != role))

    def _change_role(
        self, request: RoleAdd | RoleDelete | RoleGrantPermission | RoleRevokePermission
    ) -> None:
        match request:
            case RoleAdd():
                if not request.name:
                    raise AuthError("role name is empty")
                if request.name in self.roles:
                    raise AuthError("role already exists", request.name)
                self.roles[request.name] = Role(request.name)
            case RoleDelete():
                if self.enabled and request.role == ROOT:
                    raise AuthError("invalid auth management", "root cannot be deleted while it is enabled")
                self.role(request.role)
                del self.roles[request.role]
                for user in [user for user in self.users.values() if request.role in user.roles]:
                    self._take_role(user, request.role)
            case RoleGrantPermission():
                self._grant(request)
            case RoleRevokePermission():
                role = self.role(request.role)
                place = request.key, request.range_end
                left = tuple(p for p in role.permissions if (p.key, p.range_end) != place)
                if len(left) == len(role.permissions):
                    raise AuthError("permission not granted", request.role)
                self.roles[role.name] = evolve(role, permissions=left)
        self._changed()

    def _grant(self, request: RoleGrantPermission) -> None:
        granted = request.permission
        if granted is None:
            raise AuthError("permission not given")
        key, end = granted.key, granted.range_end
        if not key or (end and end != ALL_KEYS_END and key >= end):
            raise AuthError("invalid auth management", f"no range: {key!r} to {end!r}")
        role = self.role(request.name)
        others = [p for p in role.permissions if (p.key, p.range_end) != (key, end)]
        ordered = sorted((*others, granted), key=lambda p: (p.key, p.range_end))
        self.roles[role.name] = evolve(role, permissions=tuple(ordered))

    # ---------------------------------------------------------------- looking

    def user(self, name: str) -> User:
        """Raises `AuthError`."""
        user = self.users.get(name)
        if user is None:
            raise AuthError("user not found", name)
        return user

    def role(self, name: str) -> Role:
        """Raises `AuthError`."""
        role = self.roles.get(name)
        if role is None:
            raise AuthError("role not found", name)
        return role

    def permissions(self, name: str) -> tuple[Permission, ...]:
        """Of a role. Raises `AuthError`."""
        return self.role(name).permissions

    def password_of(self, name: str) -> str:
        """What bcrypt made of a user's password. Raises `AuthError` if nobody can authenticate so."""
        if not self.enabled:
            raise AuthError("auth not enabled")
        user = self.users.get(name)
        if user is None:
            raise AuthError("authentication failed")
        if user.no_password:
            raise AuthError("user has no password", name)
        return user.hashed_password

    # ---------------------------------------------------------------- who may do what

    def owner(self, token: str) -> str:
        """Whose a token is. Raises `AuthError`."""
        user = self.tokens.get(token)
        if user is None:
            raise AuthError("invalid auth token")
        return user

    def is_root(self, name: str) -> bool:
        user = self.users.get(name)
        return user is not None and ROOT in user.roles

    def require_admin(self, name: str) -> None:
        """Raises `AuthError` unless the user may do everything."""
        if not name:
            raise AuthError("user name is empty")
        if not self.is_root(name):
            raise AuthError("permission denied")

    def require(self, name: str, kind: Literal["read", "write"], key: bytes, range_end: bytes = b"") -> None:
        """Raises `AuthError` unless the user may read, or write, all of a range."""
        if not name:
            raise AuthError("user name is empty")
        user = self.users.get(name)
        if user is None:
            raise AuthError("permission denied")
        if ROOT in user.roles:
            return
        coverage = self._coverage.get(name)
        if coverage is None:
            granted = [p for role in user.roles if role in self.roles for p in self.roles[role].permissions]
            coverage = self._coverage[name] = Coverage.of(granted)
        if not covers(coverage.read if kind == "read" else coverage.write, key, range_end):
            raise AuthError("permission denied")

    # ---------------------------------------------------------------- snapshots

    def state(self) -> UsersState:
        return UsersState(
            self.enabled,
            self.revision,
            tuple(self.users[name] for name in sorted(self.users)),
            tuple(self.roles[name] for name in sorted(self.roles)),
            tuple(self.tokens.items()),
            self.next_token,
        )

    @classmethod
    def restore(cls, state: UsersState) -> "Users":
        return cls(
            state.enabled,
            state.revision,
            {user.name: user for user in state.users},
            {role.name: role for role in state.roles},
            dict(state.tokens),
            state.next_token,
        )
