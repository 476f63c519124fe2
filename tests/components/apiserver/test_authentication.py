"""What authentication promises: credentials that hold, and as whom one may act."""

from collections.abc import Callable
from typing import Any

import pytest

from understudy.components.apiserver.authentication import Authenticator, StaticToken, service_account
from understudy.components.apiserver.authorization import Authorizer
from understudy.components.apiserver.context import ANONYMOUS, UserInfo
from understudy.components.apiserver.service_account_tokens import ISSUER
from understudy.components.machinery.api import ApiRequest, PeerIdentity
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import SERVICE_ACCOUNTS

Perform = Callable[[Callable[[Any], Any]], Any]
ADMINISTRATOR = PeerIdentity("admin", ("system:masters",))
ACCOUNT = {"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "robot", "namespace": "ns"}}
POD = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {"name": "p", "namespace": "ns"},
    "spec": {"serviceAccountName": "robot", "nodeName": "n", "containers": []},
}
NODE = {"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n"}, "spec": {}}


def authenticator(stage: Any, **options: Any) -> Authenticator:
    return Authenticator(stage.registry, stage.world, Authorizer(stage.registry), **options)


def asking(peer: PeerIdentity | None = None, **headers: str) -> ApiRequest:
    shown = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return ApiRequest("GET", "/api", peer=peer, headers=shown)


async def refused(who: Authenticator, request: ApiRequest) -> int:
    with pytest.raises(ApiError) as caught:
        await who.authenticate(request)
    return caught.value.code


def test_a_certificate_names_user_and_groups(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        found = await authenticator(stage).authenticate(asking(PeerIdentity("jane", ("devs",))))
        assert found == UserInfo("jane", ("devs", "system:authenticated"))

    perform(main)


def test_no_credentials_are_anonymous_unless_that_is_off_and_bad_ones_are_refused(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        assert await authenticator(stage).authenticate(asking()) == ANONYMOUS
        assert await authenticator(stage).authenticate(asking(authorization="Basic YTpi")) == ANONYMOUS
        assert await refused(authenticator(stage, anonymous=False), asking()) == 401
        assert await refused(authenticator(stage), asking(authorization="Bearer bogus")) == 401

    perform(main)


def test_a_static_token_stands_for_its_user(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        who = authenticator(stage, static_tokens=(StaticToken("s3cret", "ann", ("ops",), "7"),))
        found = await who.authenticate(asking(authorization="Bearer s3cret"))
        assert found == UserInfo("ann", ("ops", "system:authenticated"), "7")

    perform(main)


def test_a_token_holds_until_it_expires(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        who = authenticator(stage)
        (account,) = await stage.store(ACCOUNT)
        issued = await who.tokens.issue(account, expiration_seconds=600)
        request = asking(authorization=f"Bearer {issued.token}")
        found = await who.authenticate(request)
        assert found.name == "system:serviceaccount:ns:robot" and found.uid == account.uid
        assert found.groups == ("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated")
        await stage.world.sleep(599.0)
        await who.authenticate(request)
        await stage.world.sleep(1.0)
        assert await refused(who, request) == 401

    perform(main)


def test_a_token_dies_with_its_account_and_with_the_pod_it_is_bound_to(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        who = authenticator(stage)
        account, pod, node = await stage.store(ACCOUNT, POD, NODE)
        free = asking(authorization=f"Bearer {(await who.tokens.issue(account)).token}")
        issued = await who.tokens.issue(account, bound=("pod", pod))
        bound = asking(authorization=f"Bearer {issued.token}")
        extra = dict((await who.authenticate(bound)).extra)
        assert extra["authentication.kubernetes.io/pod-name"] == ("p",)
        assert extra["authentication.kubernetes.io/pod-uid"] == (pod.uid,)
        assert extra["authentication.kubernetes.io/node-uid"] == (node.uid,)
        await stage.remove(POD)
        assert await refused(who, bound) == 401
        await who.authenticate(free)
        await stage.remove(ACCOUNT)
        assert await refused(who, free) == 401
        await stage.store(ACCOUNT)
        assert await refused(who, free) == 401, "another account of the same name is another account"

    perform(main)


def test_a_token_is_good_for_its_audience_only_and_cannot_be_altered(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        who = authenticator(stage)
        (account,) = await stage.store(ACCOUNT)
        vault = (await who.tokens.issue(account, ("vault",))).token
        assert await refused(who, asking(authorization=f"Bearer {vault}")) == 401
        found, meant_for = await who.token_audiences(vault, ("vault", "other"))
        assert found.name == "system:serviceaccount:ns:robot" and meant_for == ("vault",)
        head, body, signature = (await who.tokens.issue(account)).token.split(".")
        other = (await who.tokens.issue(account)).token.split(".")[1]
        assert other != body, "every token has an id of its own"
        assert await refused(who, asking(authorization=f"Bearer {head}.{other}.{signature}")) == 401

    perform(main)


def test_a_token_request_is_checked_and_answered(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        who = authenticator(stage)
        _, pod = await stage.store(ACCOUNT, POD)
        answer = await who.tokens.request("ns", "robot", {"spec": {"expirationSeconds": 3607}})
        assert answer["status"]["expirationTimestamp"] == "2026-01-01T01:00:07Z"
        assert answer["spec"]["audiences"] == [ISSUER]
        assert (await who.bearer(answer["status"]["token"])).name == "system:serviceaccount:ns:robot"

        async def code(name: str, **spec: Any) -> int:
            with pytest.raises(ApiError) as caught:
                await who.tokens.request("ns", name, {"spec": spec})
            return caught.value.code

        def bound(**more: str) -> dict[str, str]:
            return {"kind": "Pod", "apiVersion": "v1", "name": "p", **more}

        assert await code("nobody") == 404
        assert await code("robot", expirationSeconds=599) == 422
        assert await code("robot", boundObjectRef=bound(name="q")) == 404
        assert await code("robot", boundObjectRef=bound(uid="other")) == 409
        assert await code("robot", boundObjectRef={"kind": "Deployment", "apiVersion": "apps/v1"}) == 400
        kept = await who.tokens.request("ns", "robot", {"spec": {"boundObjectRef": bound(uid=pod.uid)}})
        assert (await who.bearer(kept["status"]["token"])).extra

    perform(main)


def test_the_published_keys_check_tokens(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        import jwt

        who = authenticator(stage)
        (account,) = await stage.store(ACCOUNT)
        token = (await who.tokens.issue(account)).token
        (key,) = (await who.tokens.key_set())["keys"]
        assert jwt.get_unverified_header(token)["kid"] == key["kid"]
        clockless: Any = {f"verify_{name}": False for name in ("exp", "iat", "nbf")}
        jwt.decode(token, jwt.PyJWK(key), ["RS256"], audience=ISSUER, options=clockless)
        assert stage.registry.cache(SERVICE_ACCOUNTS).get("ns", "robot") is not None

    perform(main)


def test_a_master_may_act_as_anybody(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        who = authenticator(stage)
        request = ApiRequest(
            "GET",
            "/api",
            peer=ADMINISTRATOR,
            headers=(
                ("impersonate-user", "bob"),
                ("impersonate-group", "devs"),
                ("impersonate-group", "ops"),
                ("impersonate-uid", "9"),
                ("impersonate-extra-Scopes", "a"),
                ("impersonate-extra-scopes", "b"),
            ),
        )
        assert await who.authenticate(request) == UserInfo(
            "bob", ("devs", "ops", "system:authenticated"), "9", (("scopes", ("a", "b")),)
        )
        robot = await who.authenticate(
            asking(ADMINISTRATOR, impersonate_user="system:serviceaccount:ns:robot")
        )
        assert robot.groups == ("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated")
        nobody = await who.authenticate(asking(ADMINISTRATOR, impersonate_user="system:anonymous"))
        assert nobody == ANONYMOUS
        assert await refused(who, asking(ADMINISTRATOR, impersonate_group="devs")) == 500

    perform(main)


def test_acting_as_somebody_needs_permission_for_each_part(perform: Perform) -> None:
    async def main(stage: Any) -> None:
        rbac = "rbac.authorization.k8s.io"
        role = {
            "kind": "ClusterRole",
            "apiVersion": f"{rbac}/v1",
            "metadata": {"name": "actor"},
            "rules": [
                {
                    "verbs": ["impersonate"],
                    "apiGroups": [""],
                    "resources": ["users"],
                    "resourceNames": ["bob"],
                },
            ],
        }
        bound = {
            "kind": "ClusterRoleBinding",
            "apiVersion": f"{rbac}/v1",
            "metadata": {"name": "actor"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "actor"},
            "subjects": [{"apiGroup": rbac, "kind": "User", "name": "jane"}],
        }
        who = authenticator(stage)
        await stage.store(role, bound)
        jane = PeerIdentity("jane", ())
        assert (await who.authenticate(asking(jane, impersonate_user="bob"))).name == "bob"
        assert await refused(who, asking(jane, impersonate_user="root")) == 403
        assert (
            await refused(who, asking(jane, impersonate_user="bob", impersonate_group="system:masters"))
            == 403
        )
        assert await refused(who, asking(jane, impersonate_user="bob", impersonate_uid="1")) == 403
        assert await refused(who, asking(jane, impersonate_user="system:serviceaccount:ns:robot")) == 403

    perform(main)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("system:serviceaccount:ns:robot", ("ns", "robot")),
        ("system:serviceaccount:ns", None),
        ("system:serviceaccount:a:b:c", None),
        ("robot", None),
    ],
)
def test_service_account_names(name: str, found: tuple[str, str] | None) -> None:
    assert service_account(name) == found
