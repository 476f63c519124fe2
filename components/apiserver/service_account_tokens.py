"""Service account tokens: signed statements that their bearer is a service account, for a while.

RS256, so that the same claims give the same token. A token is good as long as what it is bound to exists
under the same uid; the clock is the World's.

Source: Kubernetes documentation, "Managing Service Accounts"; KEP-1205 (bound tokens), KEP-4193 (JTI).
"""

import base64
import hashlib
from datetime import UTC, datetime
from typing import Any

from attrs import define, field, frozen

from understudy.actors import World
from understudy.components.machinery.api import Object
from understudy.components.machinery.errors import (
    FieldError,
    bad_request,
    conflict,
    invalid,
    not_found,
)
from understudy.components.machinery.resources import NODES, PODS, SECRETS, SERVICE_ACCOUNTS, Resource

from .context import UserInfo
from .encoding import Stored
from .registry import Registry

ISSUER = "https://kubernetes.default.svc.cluster.local"
EXPIRATION_SECONDS_MIN = 600
EXPIRATION_SECONDS_MAX = 1 << 32
EXPIRATION_SECONDS_DEFAULT = 3600
EXTENDED_FROM_SECONDS = 3607
"""What kubelets ask for on behalf of clients that may not know that tokens expire."""
EXTENDED_TO_SECONDS = 365 * 24 * 3600
DELETION_LEEWAY_SECONDS = 60
"""A token lives on that long after its object's deletion was due, so that a pod can end in peace."""
REMEMBERED_TOKENS_MAX = 1024

_BOUND: dict[str, Resource] = {"pod": PODS, "secret": SECRETS, "node": NODES}


class InvalidToken(Exception):
    """A token that is none of ours, has expired, or whose owner is gone."""


@frozen
class IssuedToken:
    """A new token."""

    token: str
    expires_at: datetime
    """When its bearer should have got another one."""


@define(eq=False)
class ServiceAccountTokens:
    """Issues and checks tokens. The key is made when it is first needed."""

    registry: Registry
    world: World
    _private_key: Any = None
    _key_id: str = ""
    _verified: dict[str, Object] = field(factory=dict)
    """Claims of tokens whose signature was checked."""

    async def _key(self) -> Any:
        if self._private_key is None:
            from cryptography.hazmat.primitives.serialization import (
                Encoding,
                PublicFormat,
                load_pem_private_key,
            )

            pem = await self.world.keys.rsa_private_key("service-account")
            private = load_pem_private_key(pem, None)
            der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            self._key_id = _base64(hashlib.sha256(der).digest())
            self._private_key = private
        return self._private_key

    # -- issuing

    async def issue(
        self,
        account: Stored,
        audiences: tuple[str, ...] = (ISSUER,),
        expiration_seconds: int = EXPIRATION_SECONDS_DEFAULT,
        bound: tuple[str, Stored] | None = None,
    ) -> IssuedToken:
        """A token of a service account; `bound` is ("pod" | "secret" | "node", the object)."""
        import jwt

        key = await self._key()
        now = int(self.world.now().timestamp())
        own: Object = {
            "namespace": account.namespace,
            "serviceaccount": {"name": account.name, "uid": account.uid},
        }
        lifetime = expiration_seconds
        if bound is not None:
            kind, entry = bound
            own[kind] = {"name": entry.name, "uid": entry.uid}
            if kind == "pod":
                node = self.registry.cache(NODES).get("", entry.fields.get("spec.nodeName", ""))
                if node is not None:
                    own["node"] = {"name": node.name, "uid": node.uid}
                if expiration_seconds == EXTENDED_FROM_SECONDS and audiences == (ISSUER,):
                    own["warnafter"] = now + expiration_seconds
                    lifetime = EXTENDED_TO_SECONDS
        claims = {
            "aud": list(audiences),
            "exp": now + lifetime,
            "iat": now,
            "iss": ISSUER,
            "jti": self.world.uuid("token ids"),
            "kubernetes.io": own,
            "nbf": now,
            "sub": f"system:serviceaccount:{account.namespace}:{account.name}",
        }
        token = jwt.encode(claims, key, algorithm="RS256", headers={"kid": self._key_id})
        return IssuedToken(token, datetime.fromtimestamp(now + expiration_seconds, UTC))

    async def request(self, namespace: str, name: str, obj: Object, *, dry_run: bool = False) -> Object:
        """Answer a TokenRequest, decoded and defaulted or not. Raises 400, 404, 409, 422."""
        account = await self._existing(SERVICE_ACCOUNTS, namespace, name)
        if account is None:
            raise not_found("", "serviceaccounts", name)
        spec = obj.get("spec") or {}
        seconds = spec.get("expirationSeconds")
        seconds = EXPIRATION_SECONDS_DEFAULT if seconds is None else seconds
        self._check_lifetime(seconds)
        metadata = obj.get("metadata") or {}
        if (metadata.get("name") or name, metadata.get("namespace") or namespace) != (name, namespace):
            raise bad_request("must match the service account of the path")
        audiences = tuple(spec.get("audiences") or (ISSUER,))
        reference = spec.get("boundObjectRef")
        bound = None if reference is None else await self._bound_object(account, reference)
        issued = await self.issue(account, audiences, seconds, bound)
        stamp = self.world.now_text()
        status = {
            "expirationTimestamp": issued.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "token": "" if dry_run else issued.token,
        }
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                **metadata,
                "name": name,
                "namespace": namespace,
                "creationTimestamp": metadata.get("creationTimestamp") or stamp,
            },
            "spec": {
                "audiences": list(audiences),
                "expirationSeconds": seconds,
                "boundObjectRef": reference,
            },
            "status": status,
        }

    def _check_lifetime(self, seconds: int) -> None:
        problem = ""
        if seconds < EXPIRATION_SECONDS_MIN:
            problem = "may not specify a duration less than 10 minutes"
        elif seconds > EXPIRATION_SECONDS_MAX:
            problem = "may not specify a duration larger than 2^32 seconds"
        if problem:
            finding = FieldError("FieldValueInvalid", "spec.expirationSeconds", seconds, problem)
            raise invalid("authentication.k8s.io", "TokenRequest", "", [finding])

    async def _bound_object(self, account: Stored, reference: Object) -> tuple[str, Stored]:
        kind = str(reference.get("kind", "")).lower()
        name, uid = reference.get("name", ""), reference.get("uid", "")
        if kind not in _BOUND or reference.get("apiVersion", "v1") not in ("", "v1"):
            shown = f"{reference.get('apiVersion', '')}, Kind={reference.get('kind', '')}"
            raise bad_request(f"cannot bind token to object of type {shown}")
        resource = _BOUND[kind]
        entry = await self._existing(resource, account.namespace if resource.namespaced else "", name)
        if entry is None:
            raise not_found("", resource.plural, name)
        if kind == "pod" and entry.fields.get("spec.serviceAccountName", "") != account.name:
            running = entry.fields.get("spec.serviceAccountName", "")
            raise bad_request(
                f'cannot bind token for serviceaccount "{account.name}" to pod running with different'
                f' serviceaccount name "{running}"'
            )
        if uid and uid != entry.uid:
            raise conflict(
                "",
                resource.plural,
                name,
                f"the UID in the bound object reference ({uid}) does not match the UID in record."
                " The object might have been deleted and then recreated",
            )
        return kind, entry

    # -- checking

    async def verify(self, token: str, audiences: tuple[str, ...] = (ISSUER,)) -> UserInfo:
        """Whose token it is. Raises InvalidToken."""
        user, _ = await self.verify_audiences(token, audiences)
        return user

    async def verify_audiences(
        self, token: str, audiences: tuple[str, ...]
    ) -> tuple[UserInfo, tuple[str, ...]]:
        """Whose token it is and which of `audiences` it is meant for. Raises InvalidToken."""
        claims = self._verified.get(token)
        if claims is None:
            claims = await self._signed_claims(token)
            if len(self._verified) >= REMEMBERED_TOKENS_MAX:
                self._verified.clear()
            self._verified[token] = claims
        meant_for = tuple(name for name in audiences if name in claims["aud"])
        if not meant_for:
            raise InvalidToken(f"the token is for {claims['aud']}, not for {list(audiences)}")
        now = self.world.now().timestamp()
        if now >= claims["exp"]:
            raise InvalidToken("the token has expired")
        if now < claims["nbf"] or now < claims["iat"]:
            raise InvalidToken("the token is not valid yet")
        return await self._owner(claims), meant_for

    async def _signed_claims(self, token: str) -> Object:
        import jwt

        key = await self._key()
        try:
            claims: Object = jwt.decode(
                token,
                key.public_key(),
                algorithms=["RS256"],
                # The library would ask the machine's clock: the caller checks times against the World's.
                options={
                    "verify_signature": True,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                    "verify_iss": False,
                    "verify_sub": False,
                    "verify_jti": False,
                },
            )
        except jwt.PyJWTError as error:
            raise InvalidToken(str(error)) from None
        if claims.get("iss") != ISSUER or not isinstance(claims.get("kubernetes.io"), dict):
            raise InvalidToken("the token is no service account token of this cluster")
        return claims

    async def _owner(self, claims: Object) -> UserInfo:
        own = claims["kubernetes.io"]
        namespace, account = own["namespace"], own["serviceaccount"]
        await self._alive(SERVICE_ACCOUNTS, namespace, account)
        extra = [("authentication.kubernetes.io/credential-id", (f"JTI={claims['jti']}",))]
        for kind in ("node", "pod", "secret"):
            if kind not in own:
                continue
            if kind != "node" or "pod" not in own:
                resource = _BOUND[kind]
                await self._alive(resource, namespace if resource.namespaced else "", own[kind])
            if kind != "secret":
                extra.append((f"authentication.kubernetes.io/{kind}-name", (own[kind]["name"],)))
                extra.append((f"authentication.kubernetes.io/{kind}-uid", (own[kind]["uid"],)))
        return UserInfo(claims["sub"], service_account_groups(namespace), account["uid"], tuple(extra))

    async def _alive(self, resource: Resource, namespace: str, named: Object) -> None:
        entry = self.registry.cache(resource).get(namespace, named["name"])
        if entry is None or entry.uid != named["uid"]:
            entry = await self.registry.live(resource, namespace, named["name"])
        if entry is None or entry.uid != named["uid"]:
            raise InvalidToken(f"the {resource.kind} {named['name']} that the token is bound to is gone")
        if b'"deletionTimestamp"' in entry.data:
            due = entry.parse()["metadata"].get("deletionTimestamp")
            if due is not None:
                since = self.world.now().timestamp() - datetime.fromisoformat(due).timestamp()
                if since > DELETION_LEEWAY_SECONDS:
                    raise InvalidToken(f"the {resource.kind} {named['name']} is being deleted")

    async def _existing(self, resource: Resource, namespace: str, name: str) -> Stored | None:
        entry = self.registry.cache(resource).get(namespace, name)
        return entry if entry is not None else await self.registry.live(resource, namespace, name)

    # -- discovery

    async def key_set(self) -> Object:
        """The JSON Web Key Set with which others can check tokens."""
        numbers = (await self._key()).public_key().public_numbers()
        modulus = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")
        exponent = numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8, "big")
        key = {"use": "sig", "kty": "RSA", "kid": self._key_id, "alg": "RS256"}
        return {"keys": [{**key, "n": _base64(modulus), "e": _base64(exponent)}]}


OPENID_CONFIGURATION: Object = {
    "issuer": ISSUER,
    "jwks_uri": f"{ISSUER}/openid/v1/jwks",
    "response_types_supported": ["id_token"],
    "subject_types_supported": ["public"],
    "id_token_signing_alg_values_supported": ["RS256"],
}
"""What /.well-known/openid-configuration answers."""


def service_account_groups(namespace: str) -> tuple[str, ...]:
    """The groups of every service account of a namespace."""
    return ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
