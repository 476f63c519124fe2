"""An informer's cache and what its subscribers hear, whatever the server does to its watches.

The server is a history of transactions, each of which changes several objects at one revision. Its watches
break behind any event, in the middle of a transaction as well; it forgets, refuses, falls silent.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import orjson
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.actors import SimWorld
from understudy.components.client import Change, Client, Informer, Transport
from understudy.components.machinery.api import ApiResponse
from understudy.components.machinery.errors import unavailable
from understudy.components.machinery.resources import CONFIG_MAPS
from understudy.mailbox import Phase

JSON = (("content-type", "application/json"),)
NAMES = "abc"


def config_map(name: str, revision: int) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "n", "uid": name, "resourceVersion": str(revision)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


@define
class Server(Transport):
    world: SimWorld
    revision: int = 1
    forgotten: int = 1
    """Watches from before it are refused."""
    history: list[tuple[str, str, int]] = field(factory=list)
    """Type, name, revision."""
    there: dict[str, int] = field(factory=dict)
    """Name to revision."""
    mood: str = "well"
    left: int = 1_000_000
    """So many events until the watch breaks."""
    lists: list[str] = field(factory=list)
    """The resourceVersion that each list asked for."""

    def transact(self, names: set[str]) -> None:
        self.revision += 1
        for name in sorted(names):
            if name in self.there and (self.revision + ord(name)) % 3 == 0:
                del self.there[name]
                self.history.append(("DELETED", name, self.revision))
            else:
                type = "MODIFIED" if name in self.there else "ADDED"
                self.there[name] = self.revision
                self.history.append((type, name, self.revision))

    async def request(self, method: str, path: str, query: Any, *_: Any) -> ApiResponse:
        if self.mood == "down":
            raise unavailable("down")
        self.lists.append(dict(query).get("resourceVersion", ""))
        items = [config_map(name, revision) for name, revision in self.there.items()]
        body = {"items": items, "metadata": {"resourceVersion": str(self.revision)}}
        return ApiResponse(200, JSON, orjson.dumps(body))

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, query: Any, headers: Any
    ) -> AsyncIterator[tuple[ApiResponse, AsyncIterator[bytes]]]:
        if self.mood == "down":
            raise unavailable("down")
        async with aclosing(self.events(int(dict(query)["resourceVersion"]))) as chunks:
            yield ApiResponse(200, JSON, b"", streaming=True), chunks

    async def events(self, after: int) -> AsyncGenerator[bytes, None]:
        if after < self.forgotten:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            yield orjson.dumps({"type": "ERROR", "object": gone}) + b"\n"
            return
        at = sum(revision <= after for _, _, revision in self.history)
        while True:
            if self.left <= 0:
                self.left = 1_000_000
                return
            if self.mood == "down":
                raise unavailable("down")
            if at < len(self.history) and self.mood == "well":
                type, name, revision = self.history[at]
                at, self.left = at + 1, self.left - 1
                yield orjson.dumps({"type": type, "object": config_map(name, revision)}) + b"\n"
            else:
                await self.world.sleep(0.2)


@define
class Listener:
    """Hears every change, and keeps what follows from them."""

    there: dict[str, int] = field(factory=dict)

    def hear(self, change: Change) -> None:
        name = change.key.removeprefix("n/")
        if change.type == "DELETED":
            assert name in self.there, "of what it has heard of"
            del self.there[name]
            return
        assert change.new is not None
        revision = int(change.new["metadata"]["resourceVersion"])
        assert (change.type == "ADDED") == (name not in self.there)
        assert revision > self.there.get(name, 0), "each change once, and in order"
        self.there[name] = revision


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("transact"), st.sets(st.sampled_from(NAMES), min_size=1)),
        st.tuples(st.just("break behind"), st.integers(0, 3)),
        st.tuples(st.sampled_from(["forget", "down", "well", "silent", "wait"]), st.just(None)),
    ),
    max_size=20,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_the_cache_is_right_in_the_end_and_each_change_is_heard_once(steps: list[tuple[str, Any]]) -> None:
    async def main(world: SimWorld) -> None:
        server, listener = Server(world), Listener()
        informer = Informer(Client(server, "test", world), CONFIG_MAPS)
        informer.subscribe(listener.hear)
        async with world.nursery() as nursery:
            nursery.start_soon(informer.run)
            await informer.synced()
            for what, value in steps:
                if what == "transact":
                    server.transact(value)
                elif what == "break behind":
                    server.left = value
                elif what == "forget":
                    server.forgotten = server.revision
                elif what in ("down", "well", "silent"):
                    server.mood = what
                await world.sleep(3.0 if what == "wait" else 0.25)
            server.mood = "well"
            # The longest wait before a reconnection, or until silence is noticed.
            await world.sleep(250.0)
            assert listener.there == server.there
            assert {int(obj["metadata"]["resourceVersion"]) for obj in informer.list()} == set(
                server.there.values()
            )
            assert informer.statistics().phase is Phase.LIVE
            nursery.cancel()

    SimWorld().run(main)


def follow(*steps: tuple[str, Any]) -> Server:
    servers: list[Server] = []

    async def main(world: SimWorld) -> None:
        server, listener = Server(world), Listener()
        servers.append(server)
        informer = Informer(Client(server, "test", world), CONFIG_MAPS)
        informer.subscribe(listener.hear)
        async with world.nursery() as nursery:
            nursery.start_soon(informer.run)
            await informer.synced()
            for what, value in steps:
                getattr(server, what)(value) if what == "transact" else setattr(server, what, value)
                await world.sleep(3.0)
            await world.sleep(20.0)
            assert listener.there == server.there
            nursery.cancel()

    SimWorld().run(main)
    return servers[0]


def test_the_rest_of_a_transaction_whose_watch_broke_in_the_middle_comes() -> None:
    server = follow(("transact", {"a"}), ("left", 2), ("transact", {"a", "b", "c"}))
    assert server.lists == ["0"], "without listing again"


def test_a_list_after_a_410_is_as_new_as_the_store() -> None:
    server = follow(
        ("transact", {"a"}), ("mood", "down"), ("transact", {"b"}), ("forgotten", 3), ("mood", "well")
    )
    assert server.lists == ["0", ""]
