"""The scheduler as an actor, against a small API server double, in virtual time."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from understudy.actors import ActorSystem, Ref, SimWorld, World
from understudy.actors.world import Signal
from understudy.components.client import Client, Transport
from understudy.components.client.transport import Headers, Query
from understudy.components.machinery.api import ApiResponse
from understudy.components.machinery.errors import ApiError, conflict, not_found
from understudy.components.scheduler.explanation import Explain, Scheduling
from understudy.components.scheduler.scheduler import Scheduler

PODS, NODES = "/api/v1/pods", "/api/v1/nodes"


class ApiDouble(Transport):
    """Pods and nodes with lists, watches, bindings, status patches and deletions; the rest is empty."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.revision = 1
        self.objects: dict[str, dict[str, Any]] = {PODS: {}, NODES: {}}
        self.watchers: list[tuple[str, deque[bytes], Signal]] = []
        self.events: list[dict[str, Any]] = []
        self.refuse_bindings: list[ApiError] = []
        self.bindings: list[tuple[str, str]] = []

    def put(self, path: str, obj: dict[str, Any]) -> None:
        self.revision += 1
        meta = obj["metadata"] | {"resourceVersion": str(self.revision)}
        kind = {PODS: "Pod", NODES: "Node"}[path]
        stored = {"apiVersion": "v1", "kind": kind} | obj | {"metadata": meta}
        name = meta["name"]
        self._emit(path, "MODIFIED" if name in self.objects[path] else "ADDED", stored)
        self.objects[path][name] = stored

    def remove(self, path: str, name: str) -> None:
        self.revision += 1
        gone = self.objects[path].pop(name)
        meta = gone["metadata"] | {"resourceVersion": str(self.revision)}
        self._emit(path, "DELETED", gone | {"metadata": meta})

    def _emit(self, path: str, kind: str, obj: dict[str, Any]) -> None:
        line = orjson.dumps({"type": kind, "object": obj}) + b"\n"
        for watched, lines, signal in self.watchers:
            if watched == path:
                lines.append(line)
                signal.set()

    async def request(
        self, method: str, path: str, query: Query, headers: Headers, body: bytes, timeout_seconds: float
    ) -> ApiResponse:
        await self.world.sleep(0.001, "request")
        try:
            answer = self._answer(method, path, orjson.loads(body) if body else {})
        except ApiError as error:
            return ApiResponse(error.code, (), orjson.dumps(error.status))
        return ApiResponse(200, (), orjson.dumps(answer))

    def _answer(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if method == "GET":
            items = list(self.objects.get(path, {}).values())
            return {"metadata": {"resourceVersion": str(self.revision)}, "items": items}
        if path.endswith("/events"):
            self.events.append(body)
            return body
        if "/events/" in path:
            return {}
        name = path.split("/")[6]
        pod = self.objects[PODS].get(name)
        if pod is None:
            raise not_found("", "pods", name)
        if path.endswith("/binding"):
            if self.refuse_bindings:
                raise self.refuse_bindings.pop()
            assert body["metadata"]["uid"] == pod["metadata"]["uid"]
            self.bindings.append((name, body["target"]["name"]))
            self.put(PODS, pod | {"spec": pod["spec"] | {"nodeName": body["target"]["name"]}})
        elif method == "DELETE":
            self.remove(PODS, name)
        else:
            conditions = {c["type"]: c for c in pod.get("status", {}).get("conditions", ())}
            for condition in body["status"].pop("conditions"):
                conditions[condition["type"]] = conditions.get(condition["type"], {}) | condition
            status = pod.get("status", {}) | body["status"] | {"conditions": list(conditions.values())}
            self.put(PODS, pod | {"status": status})
        return {}

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, query: Query, headers: Headers
    ) -> AsyncIterator[tuple[ApiResponse, AsyncIterator[bytes]]]:
        await self.world.sleep(0.001, "watch")
        lines: deque[bytes] = deque()
        signal = self.world.signal(f"watch {path}")
        since = int(dict(query)["resourceVersion"])
        for obj in self.objects.get(path, {}).values():
            if int(obj["metadata"]["resourceVersion"]) > since:
                lines.append(orjson.dumps({"type": "ADDED", "object": obj}) + b"\n")
        self.watchers.append((path, lines, signal))

        async def chunks() -> AsyncIterator[bytes]:
            while True:
                while lines:
                    yield lines.popleft()
                await signal.wait()

        yield ApiResponse(200, (), b"", streaming=True), chunks()

    def condition(self, name: str) -> dict[str, Any]:
        conditions = self.objects[PODS][name]["status"]["conditions"]
        return next(c for c in conditions if c["type"] == "PodScheduled")

    def said(self, reason: str) -> list[tuple[str, str]]:
        return [(e["involvedObject"]["name"], e["message"]) for e in self.events if e["reason"] == reason]


def node(name: str, cpu: str = "2", **spec: Any) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name}
    status = {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "10"}}
    return {"metadata": {"name": name, "uid": name, "labels": labels}, "spec": spec, "status": status}


def pod(name: str, cpu: str = "1", **spec: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}", "generation": 1}
    container = {"name": "c", "image": "nginx", "resources": {"requests": {"cpu": cpu}}}
    return {
        "metadata": meta,
        "spec": {"schedulerName": "default-scheduler", "containers": [container], **spec},
    }


def simulate(main: Callable[[World, ApiDouble, Ref[Scheduling]], Any]) -> ApiDouble:
    world = SimWorld(seed=1)
    api = ApiDouble(world)

    async def run(world: World) -> None:
        async with ActorSystem.open(world) as system:
            client = Client(api, "kube-scheduler", world)
            scheduler = system.spawn(lambda: Scheduler(client), "scheduler")
            await main(world, api, scheduler)

    world.run(run)
    return api


def test_pods_are_bound_and_it_is_said() -> None:
    async def main(world: World, api: ApiDouble, scheduler: Ref[Scheduling]) -> None:
        for name in ("a", "b"):
            api.put(NODES, node(name))
        api.put(PODS, pod("early"))
        await world.sleep(0.1)
        api.put(PODS, pod("late"))
        api.put(PODS, pod("foreign", schedulerName="another"))
        await world.sleep(0.1)
        why = await scheduler.ask(Explain("default/early"))
        assert why.node == dict(api.bindings)["early"]
        assert {n.node for n in why.nodes} == {"a", "b"}
        assert not (await scheduler.ask(Explain("default/foreign"))).decided

    api = simulate(main)
    placed = dict(api.bindings)
    assert sorted(placed) == ["early", "late"]
    assert set(placed.values()) == {"a", "b"}, "the emptier node"
    assert sorted(api.said("Scheduled")) == [
        (name, f"Successfully assigned default/{name} to {node}") for name, node in sorted(placed.items())
    ]


def test_a_pod_that_fits_nowhere_says_why_and_goes_when_there_is_room() -> None:
    message = (
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: "
        "0/1 nodes are available: 1 No preemption victims found for incoming pod."
    )

    async def main(world: World, api: ApiDouble, scheduler: Ref[Scheduling]) -> None:
        api.put(NODES, node("a", cpu="1"))
        api.put(PODS, pod("first", nodeName="a"))
        api.put(PODS, pod("second"))
        await world.sleep(60.0)
        condition = api.condition("second")
        assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
        assert condition["message"] == message
        assert len(api.said("FailedScheduling")) == 1, "it is not tried again while nothing changes"
        assert api.bindings == []
        api.remove(PODS, "first")
        await world.sleep(0.1)
        assert api.bindings == [("second", "a")]

    assert simulate(main).said("FailedScheduling") == [("second", message)]


@pytest.mark.parametrize("code", [409, 500])
def test_a_refused_binding_frees_the_room_and_is_tried_again(code: int) -> None:
    refusal = conflict("", "pods", "p", "x") if code == 409 else ApiError(500, "InternalError", "x")

    async def main(world: World, api: ApiDouble, scheduler: Ref[Scheduling]) -> None:
        api.refuse_bindings.append(refusal)
        api.put(NODES, node("a", cpu="1"))
        api.put(PODS, pod("p"))
        await world.sleep(0.9)
        assert api.bindings == []
        await world.sleep(0.3)
        assert api.bindings == [("p", "a")]

    assert simulate(main).said("FailedScheduling") == [("p", f"binding rejected: {refusal.message}")]


def test_a_pod_that_is_deleted_while_it_is_bound_takes_no_room() -> None:
    async def main(world: World, api: ApiDouble, scheduler: Ref[Scheduling]) -> None:
        api.put(NODES, node("a", cpu="1"))
        await world.sleep(0.1)
        api.put(PODS, pod("p"))
        api.remove(PODS, "p")
        await world.sleep(0.1)
        api.put(PODS, pod("q"))
        await world.sleep(0.1)
        assert api.bindings == [("q", "a")]

    simulate(main)


def test_preemption_evicts_and_the_room_is_kept_for_the_preemptor() -> None:
    async def main(world: World, api: ApiDouble, scheduler: Ref[Scheduling]) -> None:
        api.put(NODES, node("a", cpu="1"))
        api.put(PODS, pod("low", nodeName="a", priority=1))
        await world.sleep(0.1)
        api.put(PODS, pod("high", priority=10))
        await world.sleep(2.0)
        assert api.bindings == [("high", "a")]
        assert "low" not in api.objects[PODS]

    assert simulate(main).said("Preempted") == [("low", "Preempted by pod uid-high on node a")]


def test_gates_and_cordons_hold_pods_back() -> None:
    async def main(world: World, api: ApiDouble, scheduler: Ref[Scheduling]) -> None:
        api.put(NODES, node("a", unschedulable=True))
        api.put(PODS, pod("gated", schedulingGates=[{"name": "g"}]))
        api.put(PODS, pod("p"))
        await world.sleep(5.0)
        assert "1 node(s) were unschedulable" in api.condition("p")["message"]
        api.put(NODES, node("a"))
        await world.sleep(0.1)
        assert [name for name, _ in api.bindings] == ["p"]
        api.put(PODS, pod("gated"))
        await world.sleep(0.1)
        assert [name for name, _ in api.bindings] == ["p", "gated"]

    simulate(main)


def test_two_hundred_pods_at_once_are_spread_evenly() -> None:
    async def main(world: World, api: ApiDouble, scheduler: Ref[Scheduling]) -> None:
        for index in range(20):
            big = node(f"n{index:02}", cpu="64")
            big["status"]["allocatable"]["pods"] = "110"
            api.put(NODES, big)
        for index in range(200):
            api.put(PODS, pod(f"p{index}", cpu="100m"))
        await world.sleep(1.0)
        assert len(api.bindings) == 200

    placed = [name for _, name in simulate(main).bindings]
    assert {placed.count(name) for name in set(placed)} == {10}
