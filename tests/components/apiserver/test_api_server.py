"""The API server as its clients rely on it: current reads, no lost write, no lost event, nobody held up."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from attrs import define

from understudy.actors import ActorSystem, EndOfChannel, Ref, SimWorld
from understudy.components.apiserver.server import ApiServer, ApiServerOptions
from understudy.components.boundary.fake_podnet import FakePodNetwork
from understudy.components.client import ActorTransport, Client
from understudy.components.machinery.api import ApiRequest, ApiServing, PeerIdentity
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import (
    CONFIG_MAPS,
    EVENTS,
    IP_ADDRESSES,
    NAMESPACES,
    PODS,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from understudy.raftstore import storage as etcd
from understudy.raftstore.memory import memory_store

ADMINISTRATOR = PeerIdentity("admin", ("system:masters",))
NAMESPACE = "default"


@define
class Stage:
    """A server, its store and a client."""

    world: SimWorld
    system: ActorSystem
    store: Ref[etcd.Storage]
    server: Ref[ApiServing]
    client: Client


def on_stage(
    play: Callable[[Stage], Awaitable[None]], options: ApiServerOptions | None = None, seed: int = 1
) -> None:
    """Run a play in virtual time."""

    async def main(world: SimWorld) -> None:
        async with ActorSystem.open(world) as system:
            store = system.spawn(memory_store(), "etcd")
            network = system.spawn(FakePodNetwork, "network")
            chosen = options or ApiServerOptions()
            server = system.spawn(
                lambda: ApiServer(store, chosen, lambda node: system.ref(f"/{node}"), network), "api"
            )
            client = Client(ActorTransport(system, server, ADMINISTRATOR), "test", world)
            await play(Stage(world, system, store, server, client))

    SimWorld(seed=seed).run(main)


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


def test_events_are_gone_after_their_time_and_watchers_are_told() -> None:
    async def play(stage: Stage) -> None:
        client = stage.client
        event = {
            "metadata": {"name": "e"},
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": NAMESPACE},
        }
        made = await client.create(EVENTS, event, NAMESPACE)
        kept = await client.create(CONFIG_MAPS, config_map("kept"), NAMESPACE)
        version = made["metadata"]["resourceVersion"]
        async with client.watch(EVENTS, NAMESPACE, resource_version=version) as events:
            await stage.world.sleep(599.0)
            await client.get(EVENTS, "e", NAMESPACE)
            with stage.world.deadline(120.0):
                async for seen in events:
                    if seen.type == "BOOKMARK":
                        continue
                    assert (seen.type, seen.object["metadata"]["name"]) == ("DELETED", "e")
                    break
        assert (await client.list(EVENTS, NAMESPACE)).items == []
        assert await client.get(CONFIG_MAPS, "kept", NAMESPACE) == kept

    on_stage(play, ApiServerOptions(event_ttl_seconds=600))


def test_a_write_that_changes_nothing_is_not_stored() -> None:
    async def play(stage: Stage) -> None:
        made = await stage.client.create(CONFIG_MAPS, config_map("a", x="1"), NAMESPACE)
        before = (await stage.store.ask(etcd.Range(b"/"))).revision
        await stage.world.sleep(5.0)
        assert await stage.client.update(CONFIG_MAPS, made) == made
        assert await stage.client.patch(CONFIG_MAPS, "a", {"data": {"x": "1"}}, NAMESPACE) == made
        assert (await stage.store.ask(etcd.Range(b"/"))).revision == before

    on_stage(play)


@pytest.mark.parametrize("seed", range(5))
def test_patches_at_the_same_time_all_land(seed: int) -> None:
    async def play(stage: Stage) -> None:
        await stage.client.create(CONFIG_MAPS, config_map("a"), NAMESPACE)

        async def patch(number: int) -> None:
            await stage.client.patch(CONFIG_MAPS, "a", {"data": {f"k{number}": "v"}}, NAMESPACE)

        async with stage.world.nursery() as nursery:
            for number in range(10):
                nursery.start_soon(patch, number)
        found = await stage.client.get(CONFIG_MAPS, "a", NAMESPACE)
        assert sorted(found["data"]) == sorted(f"k{number}" for number in range(10))

    on_stage(play, seed=seed)


def test_of_two_updates_of_one_version_one_is_refused() -> None:
    async def play(stage: Stage) -> None:
        made = await stage.client.create(CONFIG_MAPS, config_map("a"), NAMESPACE)
        outcomes: list[int] = []

        async def update(value: str) -> None:
            try:
                await stage.client.update(CONFIG_MAPS, {**made, "data": {"x": value}})
                outcomes.append(200)
            except ApiError as error:
                outcomes.append(error.code)

        async with stage.world.nursery() as nursery:
            nursery.start_soon(update, "1")
            nursery.start_soon(update, "2")
        assert sorted(outcomes) == [200, 409]

    on_stage(play)


def test_a_read_shows_what_somebody_else_has_just_stored() -> None:
    async def play(stage: Stage) -> None:
        await stage.client.create(CONFIG_MAPS, config_map("a", x="1"), NAMESPACE)
        key = f"/registry/configmaps/{NAMESPACE}/a".encode()
        for number in range(20):
            pair = (await stage.store.ask(etcd.Range(key))).kvs[0]
            obj = orjson.loads(pair.value)
            obj["data"]["x"] = str(number)
            await stage.store.ask(etcd.Put(key, orjson.dumps(obj)))
            found = await stage.client.get(CONFIG_MAPS, "a", NAMESPACE)
            assert found["data"]["x"] == str(number)

    on_stage(play)


def test_a_watch_from_any_revision_sees_each_later_change_once() -> None:
    async def play(stage: Stage) -> None:
        versions = []
        for number in range(10):
            made = await stage.client.create(CONFIG_MAPS, config_map(f"c{number}"), NAMESPACE)
            versions.append(made["metadata"]["resourceVersion"])
        for start, version in enumerate(versions):
            names = []
            async with stage.client.watch(CONFIG_MAPS, NAMESPACE, resource_version=version) as events:
                last = await stage.client.create(CONFIG_MAPS, config_map(f"later{start}"), NAMESPACE)
                async for event in events:
                    names.append(event.object["metadata"]["name"])
                    if names[-1] == last["metadata"]["name"]:
                        break
            earlier = [f"c{number}" for number in range(start + 1, 10)]
            assert names == earlier + [f"later{number}" for number in range(start + 1)]

    on_stage(play)


def test_a_reader_that_never_reads_loses_its_watch_and_holds_up_nobody() -> None:
    async def play(stage: Stage) -> None:
        writer, reader = stage.system.own_channel("slow", 2)
        head = await stage.server.ask(
            ApiRequest(
                "GET",
                f"/api/v1/namespaces/{NAMESPACE}/configmaps",
                (("watch", "true"),),
                peer=ADMINISTRATOR,
                stream=writer,
            )
        )
        assert head.status == 200
        before = stage.world.monotonic()
        for number in range(10):
            await stage.client.create(CONFIG_MAPS, config_map(f"c{number}"), NAMESPACE)
        assert stage.world.monotonic() - before < 1.0
        seen = []
        with pytest.raises(EndOfChannel):
            while True:
                seen.append(await reader.receive())
        assert len(seen) == 2

    on_stage(play)


def test_a_cluster_ip_is_given_once_and_comes_back() -> None:
    async def play(stage: Stage) -> None:
        client, outcomes = stage.client, []

        async def create(name: str) -> None:
            try:
                await client.create(SERVICES, service(name, clusterIP="10.96.0.77"), NAMESPACE)
                outcomes.append((201, name))
            except ApiError as error:
                outcomes.append((error.code, name))

        async with stage.world.nursery() as nursery:
            nursery.start_soon(create, "a")
            nursery.start_soon(create, "b")
        assert sorted(code for code, _ in outcomes) == [201, 422]
        first = next(name for code, name in outcomes if code == 201)
        await client.delete(SERVICES, first, NAMESPACE)
        await create("c")
        assert outcomes[-1] == (201, "c")

    on_stage(play)


def test_a_dry_run_stores_nothing_and_takes_nothing() -> None:
    async def play(stage: Stage) -> None:
        path = f"/api/v1/namespaces/{NAMESPACE}/services"
        body = orjson.dumps(service("a", clusterIP="10.96.0.77"))
        headers = (("content-type", "application/json"),)
        for _ in range(2):
            answer = await stage.client.request("POST", path, (("dryRun", "All"),), body, headers)
            assert answer.status == 201
            assert "resourceVersion" not in orjson.loads(answer.body)["metadata"]
        with pytest.raises(ApiError) as missing:
            await stage.client.get(SERVICES, "a", NAMESPACE)
        assert missing.value.code == 404

    on_stage(play)


def test_a_read_of_the_future_is_refused_in_time() -> None:
    async def play(stage: Stage) -> None:
        with stage.world.deadline(10.0), pytest.raises(ApiError) as refused:
            await stage.client.get(NAMESPACES, NAMESPACE, resource_version="999999")
        assert refused.value.code == 504

    on_stage(play)


def test_a_store_that_is_gone_is_said_so_and_reads_from_the_cache_go_on() -> None:
    async def play(stage: Stage) -> None:
        await stage.client.create(CONFIG_MAPS, config_map("a"), NAMESPACE)
        await stage.world.sleep(1.0)
        await stage.system.stop(stage.store)
        with pytest.raises(ApiError) as refused:
            await stage.client.create(CONFIG_MAPS, config_map("b"), NAMESPACE)
        assert refused.value.code == 503
        cached = await stage.client.get(CONFIG_MAPS, "a", NAMESPACE, resource_version="0")
        assert cached["metadata"]["name"] == "a"

    on_stage(play)


def test_the_state_is_sent_first_to_who_asks_for_it_and_its_end_is_marked() -> None:
    async def play(stage: Stage) -> None:
        for number in range(3):
            await stage.client.create(CONFIG_MAPS, config_map(f"c{number}"), "kube-public")
        seen = []
        async with stage.client.watch(CONFIG_MAPS, "kube-public", send_initial_events=True) as events:
            with stage.world.limit(5.0):
                async for event in events:
                    seen.append((event.type, event.object["metadata"].get("name")))  # noqa: PERF401
        assert seen[:3] == [("ADDED", f"c{number}") for number in range(3)]
        assert {kind for kind, _ in seen[3:]} <= {"BOOKMARK"}

    on_stage(play)


def test_a_pod_waits_for_its_kubelet_when_it_is_deleted() -> None:
    async def play(stage: Stage) -> None:
        client = stage.client
        await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, NAMESPACE)
        spec = {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"}
        await client.create(PODS, {"metadata": {"name": "p"}, "spec": spec}, NAMESPACE)
        await client.delete(PODS, "p", NAMESPACE)
        waiting = await client.get(PODS, "p", NAMESPACE)
        assert waiting["metadata"]["deletionGracePeriodSeconds"] == 30
        await client.delete(PODS, "p", NAMESPACE, grace_period_seconds=0)
        with pytest.raises(ApiError) as missing:
            await client.get(PODS, "p", NAMESPACE)
        assert missing.value.code == 404

    on_stage(play)


def test_what_another_server_gives_to_a_service_is_taken_here_too() -> None:
    async def play(stage: Stage) -> None:
        made = await stage.client.create(SERVICES, service("a", clusterIP="10.96.0.77"), NAMESPACE)
        prefix = f"/registry/services/{NAMESPACE}/".encode()
        stored = orjson.loads((await stage.store.ask(etcd.Range(prefix + b"a"))).kvs[0].value)
        # Somebody else stores one service and deletes another behind this server's back.
        stored["metadata"] |= {"name": "other", "uid": "00000000-0000-4000-8000-000000000001"}
        stored["spec"] |= {"clusterIP": "10.96.0.88", "clusterIPs": ["10.96.0.88"]}
        await stage.store.ask(etcd.Put(prefix + b"other", orjson.dumps(stored)))
        await stage.store.ask(etcd.DeleteRange(prefix + b"a"))
        await stage.store.ask(etcd.DeleteRange(b"/registry/networking.k8s.io/ipaddresses/10.96.0.77"))
        await stage.client.list(SERVICES, NAMESPACE)
        with pytest.raises(ApiError) as refused:
            await stage.client.create(SERVICES, service("b", clusterIP="10.96.0.88"), NAMESPACE)
        assert refused.value.code == 422
        again = await stage.client.create(SERVICES, service("c", clusterIP="10.96.0.77"), NAMESPACE)
        assert again["spec"]["clusterIP"] == made["spec"]["clusterIP"]

    on_stage(play)


def test_an_address_that_changed_hands_stays_with_its_new_owner() -> None:
    async def play(stage: Stage) -> None:
        client = stage.client
        for number in range(5):
            await client.create(SERVICES, service(f"s{number}", clusterIP="10.96.0.77"), NAMESPACE)
            with pytest.raises(ApiError):
                await client.create(SERVICES, service("thief", clusterIP="10.96.0.77"), NAMESPACE)
            await client.delete(SERVICES, f"s{number}", NAMESPACE)
        last = await client.create(SERVICES, service("last", clusterIP="10.96.0.77"), NAMESPACE)
        await stage.world.sleep(1.0)
        with pytest.raises(ApiError):
            await client.create(SERVICES, service("thief", clusterIP="10.96.0.77"), NAMESPACE)
        external = {"spec": {"type": "ExternalName", "externalName": "example.com"}}
        await client.patch(SERVICES, last["metadata"]["name"], external, NAMESPACE)
        await client.create(SERVICES, service("heir", clusterIP="10.96.0.77"), NAMESPACE)

    on_stage(play)


def test_an_address_is_an_object_that_comes_and_goes_with_its_service() -> None:
    async def play(stage: Stage) -> None:
        client = stage.client

        async def addresses() -> dict[str, str]:
            found = (await client.list(IP_ADDRESSES)).items
            return {obj["metadata"]["name"]: obj["spec"]["parentRef"]["name"] for obj in found}

        own = {"10.96.0.1": "kubernetes"}
        assert await addresses() == own
        await client.create(SERVICES, service("a", clusterIP="10.96.0.77"), NAMESPACE)
        assert await addresses() == {**own, "10.96.0.77": "a"}
        with pytest.raises(ApiError) as refused:
            await client.create(SERVICES, service("a"), NAMESPACE)
        assert refused.value.reason == "AlreadyExists"
        external = {"spec": {"type": "ExternalName", "externalName": "example.com"}}
        await client.patch(SERVICES, "a", external, NAMESPACE)
        assert await addresses() == own
        await client.patch(SERVICES, "a", {"spec": {"type": "ClusterIP"}}, NAMESPACE)
        assert set((await addresses()).values()) == {"kubernetes", "a"}
        await client.delete(SERVICES, "a", NAMESPACE)
        assert await addresses() == own

    on_stage(play)


def test_an_address_that_somebody_else_has_claimed_is_not_given() -> None:
    async def play(stage: Stage) -> None:
        claim = {
            "metadata": {"name": "10.96.0.77"},
            "spec": {"parentRef": {"resource": "gateways", "group": "x.io", "name": "g"}},
        }
        await stage.client.create(IP_ADDRESSES, claim)
        for _ in range(2):  # the first attempt must leave nothing behind
            with pytest.raises(ApiError) as refused:
                await stage.client.create(SERVICES, service("a", clusterIP="10.96.0.77"), NAMESPACE)
            assert (refused.value.code, refused.value.reason) == (422, "Invalid")
        await stage.client.delete(IP_ADDRESSES, "10.96.0.77")
        await stage.client.create(SERVICES, service("a", clusterIP="10.96.0.77"), NAMESPACE)

    on_stage(play)


def test_after_a_gap_that_the_store_has_forgotten_watchers_get_the_difference() -> None:
    async def main(world: SimWorld) -> None:
        async with ActorSystem.open(world) as system:
            keep_store = memory_store()
            store: Ref[etcd.Storage] = system.spawn(keep_store, "etcd")
            network = system.spawn(FakePodNetwork, "network")
            server = system.spawn(
                lambda: ApiServer(store, ApiServerOptions(), lambda node: system.ref(f"/{node}"), network),
                "api",
            )
            client = Client(ActorTransport(system, server, ADMINISTRATOR), "test", world)
            for name in ("changed", "deleted", "kept"):
                await client.create(CONFIG_MAPS, config_map(name, x="1"), NAMESPACE)
            version = (await client.list(CONFIG_MAPS, NAMESPACE)).resource_version
            prefix = f"/registry/configmaps/{NAMESPACE}/".encode()
            async with client.watch(CONFIG_MAPS, NAMESPACE, resource_version=version) as events:
                await system.stop(store)
                system.spawn(keep_store, "etcd")
                # Before the server is back, somebody else writes, and the store forgets how it came about.
                changed = (await store.ask(etcd.Range(prefix + b"changed"))).kvs[0].value
                await store.ask(etcd.Put(prefix + b"changed", changed.replace(b'"x":"1"', b'"x":"2"')))
                await store.ask(etcd.DeleteRange(prefix + b"deleted"))
                new = changed.replace(b'"name":"changed"', b'"name":"new"')
                revision = (await store.ask(etcd.Put(prefix + b"new", new))).revision
                await store.ask(etcd.Compact(revision))
                seen = []
                with world.deadline(30.0):
                    async for event in events:
                        seen.append((event.type, event.object["metadata"]["name"]))
                        if len(seen) == 3:
                            break
            assert seen == [("MODIFIED", "changed"), ("ADDED", "new"), ("DELETED", "deleted")]
            found = (await client.list(CONFIG_MAPS, NAMESPACE)).items
            assert [obj["metadata"]["name"] for obj in found] == ["changed", "kept", "new"]
            made = await client.create(CONFIG_MAPS, config_map("later"), NAMESPACE)
            assert int(made["metadata"]["resourceVersion"]) > revision

    SimWorld(seed=3).run(main)
