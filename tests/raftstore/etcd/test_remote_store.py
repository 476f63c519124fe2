"""A store behind the etcd API whose server breaks off, says nothing, or takes a permission back."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from attrs import define, field

from understudy.actors import ActorSystem, ChannelReader, SimWorld, World
from understudy.raftstore.etcd.calls import Channel, ClientStream
from understudy.raftstore.etcd.errors import COMPACTED, FUTURE_REVISION
from understudy.raftstore.etcd.grpc import Code, RpcError
from understudy.raftstore.etcd.remote_store import RemoteOptions, remote_store
from understudy.raftstore.etcd.schema import messages
from understudy.raftstore.storage import (
    AuthError,
    Compact,
    FutureRevision,
    OpenWatch,
    Range,
    Txn,
    Unavailable,
    Watch,
    WatchBatch,
)
from understudy.raftstore.storage.cluster import AwaitLeader, Leadership

Answer = Any
SILENCE = "nothing more is said"
BROKEN = RpcError(Code.UNAVAILABLE, "the connection has ended")


@define(eq=False)
class Scripted(ClientStream):
    """A call whose server answers what is written down."""

    world: World
    answers: list[Answer]
    cancelled: bool = False

    async def send(self, request: Any) -> None:
        pass

    async def receive(self) -> Any:
        answer = self.answers.pop(0) if self.answers else SILENCE
        if answer is SILENCE:
            await self.world.event("never").wait()
        if isinstance(answer, RpcError):
            raise answer
        return answer

    def cancel(self) -> None:
        self.cancelled = True


@define(eq=False)
class ScriptedChannel(Channel):
    world: World
    streams: list[list[Answer]]
    statuses: list[Any] = field(factory=list)
    begun: list[Scripted] = field(factory=list)

    async def run(self) -> None:
        pass

    async def connect(self) -> None:
        pass

    async def unary(
        self, path: str, request: Any, timeout_seconds: float, metadata: Mapping[str, str] | None = None
    ) -> Any:
        answer = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if isinstance(answer, RpcError):
            raise answer
        return answer

    def stream(self, path: str, metadata: Mapping[str, str] | None = None) -> ClientStream:
        self.begun.append(Scripted(self.world, self.streams.pop(0)))
        return self.begun[-1]


def created(revision: int) -> Any:
    return messages.WatchResponse(header=messages.ResponseHeader(revision=revision), created=True)


def refused(reason: str) -> Any:
    return messages.WatchResponse(created=True, canceled=True, cancel_reason=reason)


def put(revision: int) -> Any:
    pair = messages.KeyValue(key=b"k", value=b"%d" % revision, mod_revision=revision, create_revision=2)
    header = messages.ResponseHeader(revision=revision)
    return messages.WatchResponse(header=header, events=[messages.Event(kv=pair)])


def watching(
    streams: list[list[Answer]],
    scenario: Callable[[World, ScriptedChannel, "ChannelReader[WatchBatch]"], Awaitable[None]],
) -> None:
    async def main(world: World) -> None:
        channel = ScriptedChannel(world, streams)
        async with ActorSystem.open(world) as system:
            store = system.spawn(remote_store(lambda: channel, RemoteOptions()), "etcd")
            writer, reader = system.own_channel("watch", 4)
            await store.ask(OpenWatch(Watch(b"k"), writer))
            with world.deadline(60.0):
                await scenario(world, channel, reader)

    SimWorld(1).run(main)


def test_a_watch_that_is_begun_again_and_not_answered_is_begun_once_more() -> None:
    async def scenario(world: World, channel: ScriptedChannel, reader: "ChannelReader[WatchBatch]") -> None:
        assert (await reader.receive()).revision == 2
        assert (await reader.receive()).revision == 3
        first, second, third = channel.begun
        assert first.cancelled and second.cancelled and not third.cancelled
        assert 4.0 < world.monotonic() < 6.0

    watching([[created(1), put(2), BROKEN], [SILENCE], [created(2), put(3)]], scenario)


def test_a_watch_that_is_permitted_no_more_ends_with_the_reason() -> None:
    async def scenario(world: World, channel: ScriptedChannel, reader: "ChannelReader[WatchBatch]") -> None:
        with pytest.raises(AuthError) as ended:
            await reader.receive()
        assert ended.value.problem == "permission denied"
        assert len(channel.begun) == 2

    reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
    watching([[created(1), BROKEN], [refused(reason)]], scenario)


def test_the_server_is_asked_who_leads_until_it_is_somebody_else() -> None:
    async def main(world: World) -> None:
        def status(leader: int, term: int) -> Any:
            header = messages.ResponseHeader(member_id=1)
            return messages.StatusResponse(header=header, leader=leader, raftTerm=term)

        channel = ScriptedChannel(world, [], [status(2, 5), status(2, 5), status(2, 5), status(1, 6)])
        async with ActorSystem.open(world) as system:
            store = system.spawn(remote_store(lambda: channel, RemoteOptions()), "etcd")
            known = await store.ask(AwaitLeader())
            assert known == Leadership(member=1, leader=2, term=5)
            assert await store.ask(AwaitLeader(known)) == Leadership(member=1, leader=1, term=6)
            assert 0.9 < world.monotonic() < 1.1

    SimWorld(1).run(main)


@pytest.mark.parametrize("ask", [Range(b"k", revision=5), Compact(5), Compact(500)])
def test_a_refusal_that_the_server_does_not_live_to_explain_is_unavailable(ask: Any) -> None:
    """What is compacted, and which revision is not there yet, takes another question."""
    code, text = FUTURE_REVISION if ask == Compact(500) else COMPACTED

    async def main(world: World) -> None:
        channel = ScriptedChannel(world, [[BROKEN]], [RpcError(code, text), BROKEN])
        async with ActorSystem.open(world) as system:
            store = system.spawn(remote_store(lambda: channel, RemoteOptions()), "etcd")
            with pytest.raises(Unavailable, match="the connection has ended"):
                await store.ask(ask)

    SimWorld(1).run(main)


@pytest.mark.parametrize(
    "ask", [Range(b"k", revision=500), Txn(failure=(Range(b"k", revision=3), Range(b"k", revision=500)))]
)
def test_what_is_asked_of_the_future_is_refused_with_both_revisions(ask: Any) -> None:
    async def main(world: World) -> None:
        status = messages.StatusResponse(header=messages.ResponseHeader(revision=7))
        channel = ScriptedChannel(world, [], [RpcError(*FUTURE_REVISION), status])
        async with ActorSystem.open(world) as system:
            store = system.spawn(remote_store(lambda: channel, RemoteOptions()), "etcd")
            with pytest.raises(FutureRevision) as refused:
                await store.ask(ask)
        assert (refused.value.requested, refused.value.revision) == (500, 7)

    SimWorld(1).run(main)
