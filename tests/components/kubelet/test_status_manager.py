"""Statuses reach the API server: the newest, once, and whatever goes wrong on the way."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson
import pytest

from understudy.actors import SimWorld, World
from understudy.components.client import Client, Transport
from understudy.components.client.transport import Headers, Query
from understudy.components.kubelet.status_manager import StatusManager
from understudy.components.machinery.api import ApiResponse
from understudy.components.machinery.errors import ApiError, conflict, not_found, unavailable

from .pods import Object, pod


class Server(Transport):
    """One pod; refuses as often as it is told to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.uid = "uid-web"
        self.refusals: list[ApiError] = []
        self.calls: list[tuple[str, Object]] = []

    async def request(
        self, method: str, path: str, query: Query, headers: Headers, body: bytes, timeout_seconds: float
    ) -> ApiResponse:
        await self.world.sleep(0.01, "request")
        if method == "GET":
            return ApiResponse(200, (), orjson.dumps({"metadata": {"uid": self.uid}}))
        self.calls.append((method, orjson.loads(body)))
        if self.refusals:
            error = self.refusals.pop(0)
            return ApiResponse(error.code, (), orjson.dumps(error.status))
        return ApiResponse(200, (), b"{}")

    def stream(
        self, method: str, path: str, query: Query, headers: Headers
    ) -> AbstractAsyncContextManager[Any]:
        raise NotImplementedError("no watches here")


def simulate(main: Callable[[World, Server, StatusManager], Awaitable[None]]) -> None:
    async def run(world: World) -> None:
        server = Server(world)
        manager = StatusManager(Client(server, "kubelet", world))
        async with world.nursery() as nursery:
            nursery.start_soon(manager.run)
            await main(world, server, manager)
            nursery.cancel()

    SimWorld(seed=1).run(run)


def status(phase: str) -> Object:
    return {"phase": phase, "conditions": []}


def phases(server: Server) -> list[str]:
    return [body["status"]["phase"] for method, body in server.calls if method == "PATCH"]


def test_only_the_newest_status_is_written_and_only_once() -> None:
    async def main(world: World, server: Server, manager: StatusManager) -> None:
        for phase in ("Pending", "Running"):
            manager.set(pod(), status(phase))
        await world.sleep(1)
        manager.set(pod(), status("Running"))
        await world.sleep(1)
        assert phases(server) == ["Running"]

    simulate(main)


def test_a_status_that_changes_while_it_is_written_is_written_again() -> None:
    async def main(world: World, server: Server, manager: StatusManager) -> None:
        manager.set(pod(), status("Pending"))
        await world.sleep(0.005)
        manager.set(pod(), status("Running"))
        await world.sleep(1)
        assert phases(server) == ["Pending", "Running"]

    simulate(main)


@pytest.mark.parametrize("error", [unavailable("down"), conflict("", "pods", "web", "modified meanwhile")])
def test_a_failed_write_is_tried_again(error: ApiError) -> None:
    async def main(world: World, server: Server, manager: StatusManager) -> None:
        server.refusals = [error, error, error]
        manager.set(pod(), status("Running"))
        await world.sleep(10)
        assert phases(server) == ["Running"] * 4

    simulate(main)


@pytest.mark.parametrize("error", [not_found("", "pods", "web"), conflict("", "pods", "web", "uid")])
def test_a_pod_that_is_gone_or_replaced_is_let_go(error: ApiError) -> None:
    async def main(world: World, server: Server, manager: StatusManager) -> None:
        server.refusals = [error]
        server.uid = "uid-of-another"
        manager.set(pod(), status("Running"))
        await world.sleep(10)
        assert len(server.calls) == 1
        assert manager.get("uid-web") is None

    simulate(main)


def test_a_finished_pod_is_deleted_after_its_last_status() -> None:
    async def main(world: World, server: Server, manager: StatusManager) -> None:
        manager.set(pod(), status("Succeeded"))
        manager.finish(pod())
        await world.sleep(1)
        assert [method for method, _ in server.calls] == ["PATCH", "DELETE"]
        options = server.calls[1][1]
        assert options["preconditions"] == {"uid": "uid-web"}
        assert options["gracePeriodSeconds"] == 0

    simulate(main)
