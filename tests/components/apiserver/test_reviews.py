"""What a client sees of reviews and tokens, through the whole API server."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define

from understudy.actors import ActorSystem, Ref, SimWorld
from understudy.components.apiserver.server import ApiServer, ApiServerOptions
from understudy.components.boundary.fake_podnet import FakePodNetwork
from understudy.components.machinery.api import ApiRequest, ApiServing, PeerIdentity
from understudy.raftstore.memory import memory_store

Object = dict[str, Any]
ADMINISTRATOR = PeerIdentity("admin", ("system:masters",))
ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
AUTHENTICATION, AUTHORIZATION = "authentication.k8s.io/v1", "authorization.k8s.io/v1"


@define
class Caller:
    """Somebody who posts objects."""

    server: Ref[ApiServing]
    world: SimWorld

    async def post(
        self, path: str, obj: Object, token: str = "", peer: PeerIdentity | None = ADMINISTRATOR
    ) -> Object:
        headers = [("content-type", "application/json")]
        if token:
            headers.append(("authorization", f"Bearer {token}"))
            peer = None
        body = json.dumps(obj).encode()
        answer = await self.server.ask(
            ApiRequest("POST", path, headers=tuple(headers), body=body, peer=peer), 30.0
        )
        found: Object = json.loads(answer.body)
        return found

    async def review(self, api_version: str, kind: str, spec: Object, token: str = "") -> Object:
        path = f"/apis/{api_version}/{kind.lower()}s"
        return await self.post(path, {"kind": kind, "apiVersion": api_version, "spec": spec}, token)

    async def token(self, **spec: Any) -> str:
        request = {"kind": "TokenRequest", "apiVersion": AUTHENTICATION, "spec": spec}
        answer = await self.post(f"{ACCOUNTS}/robot/token", request)
        return str(answer["status"]["token"])


def calling(main: Callable[[Caller], Awaitable[None]]) -> None:
    async def body(world: SimWorld) -> None:
        async with ActorSystem.open(world) as system:
            store = system.spawn(memory_store(), "store")
            network = system.spawn(FakePodNetwork, "network")
            server: Ref[ApiServing] = system.spawn(
                lambda: ApiServer(
                    store, ApiServerOptions(), lambda node: system.ref(f"/{node}/kubelet"), network
                ),
                "server",
            )
            caller = Caller(server, world)
            account = {"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "robot"}}
            await caller.post(ACCOUNTS, account)
            await main(caller)

    SimWorld(seed=1).run(body)


def test_a_token_lets_its_bearer_in_until_it_expires() -> None:
    async def main(caller: Caller) -> None:
        token = await caller.token(expirationSeconds=600)
        seen = await caller.review(AUTHENTICATION, "SelfSubjectReview", {}, token)
        assert seen["status"]["userInfo"]["username"] == "system:serviceaccount:default:robot"
        await caller.world.sleep(600)
        assert (await caller.review(AUTHENTICATION, "SelfSubjectReview", {}, token))["code"] == 401

    calling(main)


def test_a_token_review_says_whose_token_it_is_and_for_whom() -> None:
    async def main(caller: Caller) -> None:
        own = {"token": await caller.token()}
        status = (await caller.review(AUTHENTICATION, "TokenReview", own))["status"]
        assert status["authenticated"] is True
        assert status["user"]["username"] == "system:serviceaccount:default:robot"
        vault = {"token": await caller.token(audiences=["vault"])}
        status = (await caller.review(AUTHENTICATION, "TokenReview", vault))["status"]
        assert "authenticated" not in status and status["error"]
        asked = {**vault, "audiences": ["vault", "bank"]}
        status = (await caller.review(AUTHENTICATION, "TokenReview", asked))["status"]
        assert status["authenticated"] is True and status["audiences"] == ["vault"]
        status = (await caller.review(AUTHENTICATION, "TokenReview", {"token": "no"}))["status"]
        assert "authenticated" not in status

    calling(main)


def test_rules_are_listed_as_granted() -> None:
    async def main(caller: Caller) -> None:
        token = await caller.token()
        spec = {"namespace": "default"}
        answer = await caller.review(AUTHORIZATION, "SelfSubjectRulesReview", spec, token)
        found = [rule["resources"] for rule in answer["status"]["resourceRules"]]
        assert ["selfsubjectaccessreviews", "selfsubjectrulesreviews"] in found
        assert answer["status"]["incomplete"] is True

    calling(main)


def test_a_token_is_not_given_to_just_anybody() -> None:
    async def main(caller: Caller) -> None:
        token = await caller.token()
        answer = await caller.post(f"{ACCOUNTS}/robot/token", {"spec": {}}, token)
        assert (answer["code"], answer["reason"]) == (403, "Forbidden")
        node = PeerIdentity("system:node:n", ("system:nodes",))
        answer = await caller.post(f"{ACCOUNTS}/robot/token", {"spec": {}}, peer=node)
        assert answer["code"] == 403

    calling(main)
