"""Authentication: who sent a request, and as whom it is to be handled.

A client certificate (verified by the transport), else a bearer token, else nobody in particular. A bearer
token that does not hold is refused even where anonymous requests are let in. Source: Kubernetes
documentation, "Authenticating" and "User impersonation".
"""

from collections.abc import Sequence
from urllib.parse import unquote

from attrs import define, field, frozen

from understudy.actors import World
from understudy.components.machinery.api import ApiRequest
from understudy.components.machinery.errors import internal_error, unauthorized

from .access import AccessAttributes
from .authorization import Authorizer
from .context import ANONYMOUS, UserInfo
from .rbac import SERVICE_ACCOUNT_PREFIX
from .registry import Registry
from .service_account_tokens import ISSUER, InvalidToken, ServiceAccountTokens, service_account_groups

AUTHENTICATED_GROUP = "system:authenticated"
UNAUTHENTICATED_GROUP = "system:unauthenticated"
_AUTHENTICATION = "authentication.k8s.io"


@frozen
class StaticToken:
    """A bearer token and whom it stands for, as a line of --token-auth-file says it."""

    token: str = field(repr=False)
    user: str = ""
    groups: tuple[str, ...] = ()
    uid: str = ""


@define(eq=False)
class Authenticator:
    """Who is who."""

    registry: Registry
    world: World
    authorizer: Authorizer
    static_tokens: Sequence[StaticToken] = ()
    anonymous: bool = True
    tokens: ServiceAccountTokens = field(init=False)
    _static: dict[str, UserInfo] = field(init=False)
    _peers: dict[tuple[str, tuple[str, ...]], UserInfo] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.tokens = ServiceAccountTokens(self.registry, self.world)
        self._static = {
            known.token: UserInfo(known.user, with_authenticated(known.groups), known.uid)
            for known in self.static_tokens
        }

    async def authenticate(self, request: ApiRequest) -> UserInfo:
        """The user as whom the request is handled. Raises 401, and 403 for an impersonation too far."""
        impersonated: list[tuple[str, str]] = []
        authorization: str | None = None
        for item in request.headers:
            name = item[0]
            if name == "authorization":
                if authorization is None:
                    authorization = item[1]
            elif name.startswith("impersonate-"):
                impersonated.append(item)
        user = await self._sender(request, authorization)
        return self._impersonate(user, impersonated) if impersonated else user

    async def _sender(self, request: ApiRequest, authorization: str | None) -> UserInfo:
        peer = request.peer
        if peer is not None and peer.user:
            key = (peer.user, peer.groups)
            user = self._peers.get(key)
            if user is None:
                if len(self._peers) >= 4096:
                    self._peers.clear()
                user = self._peers[key] = UserInfo(peer.user, with_authenticated(peer.groups))
            return user
        if authorization is not None:
            scheme, _, token = authorization.strip().partition(" ")
            if scheme.lower() == "bearer" and token.strip():
                return await self.bearer(token.strip())
        if not self.anonymous:
            raise unauthorized()
        return ANONYMOUS

    async def bearer(self, token: str) -> UserInfo:
        """Whom a bearer token stands for. Raises 401."""
        user, _ = await self.token_audiences(token, (ISSUER,))
        return user

    async def token_audiences(
        self, token: str, audiences: tuple[str, ...]
    ) -> tuple[UserInfo, tuple[str, ...]]:
        """Whom a bearer token stands for, and for which of the audiences it is meant. Raises 401."""
        known = self._static.get(token)
        if known is not None:
            if ISSUER not in audiences:
                raise unauthorized()
            return known, (ISSUER,)
        try:
            return await self.tokens.verify_audiences(token, audiences)
        except InvalidToken:
            raise unauthorized() from None

    # -- impersonation

    def _impersonate(self, user: UserInfo, headers: Sequence[tuple[str, str]]) -> UserInfo:
        name, uid = "", ""
        groups: list[str] = []
        extra: dict[str, list[str]] = {}
        for header, value in headers:
            if header == "impersonate-user":
                name = name or value
            elif header == "impersonate-group":
                groups.append(value)
            elif header == "impersonate-uid":
                uid = uid or value
            elif header.startswith("impersonate-extra-"):
                extra.setdefault(unquote(header[len("impersonate-extra-") :]).lower(), []).append(value)
        if not name:
            if groups or uid or extra:
                raise internal_error("impersonation of groups, a uid or extra fields needs Impersonate-User")
            return user
        account = service_account(name)
        if account is not None:
            self._require(user, "serviceaccounts", account[1], namespace=account[0])
        else:
            self._require(user, "users", name)
        for group in groups:
            self._require(user, "groups", group)
        if account is not None and not groups:
            groups = list(service_account_groups(account[0]))
        for key, values in extra.items():
            for value in values:
                self._require(user, "userextras", value, group=_AUTHENTICATION, subresource=key)
        if uid:
            self._require(user, "uids", uid, group=_AUTHENTICATION)
        implied = UNAUTHENTICATED_GROUP if name == ANONYMOUS.name else AUTHENTICATED_GROUP
        if AUTHENTICATED_GROUP not in groups and UNAUTHENTICATED_GROUP not in groups:
            groups.append(implied)
        kept = tuple((key, tuple(values)) for key, values in extra.items())
        return UserInfo(name, tuple(groups), uid, kept)

    def _require(
        self,
        user: UserInfo,
        plural: str,
        name: str,
        *,
        namespace: str = "",
        group: str = "",
        subresource: str = "",
    ) -> None:
        self.authorizer.require(
            AccessAttributes(
                user,
                "impersonate",
                group=group,
                version="v1" if group else "",
                plural=plural,
                subresource=subresource,
                namespace=namespace,
                name=name,
            )
        )


def service_account(user: str) -> tuple[str, str] | None:
    """Namespace and name of the service account that a user name stands for, or None."""
    if not user.startswith(SERVICE_ACCOUNT_PREFIX):
        return None
    namespace, separator, name = user[len(SERVICE_ACCOUNT_PREFIX) :].partition(":")
    if not namespace or not separator or not name or ":" in name:
        return None
    return namespace, name


def with_authenticated(groups: tuple[str, ...]) -> tuple[str, ...]:
    """The groups of somebody whose credentials hold."""
    return groups if AUTHENTICATED_GROUP in groups else (*groups, AUTHENTICATED_GROUP)
