"""Channels between actors, on one host and across hosts, whichever end goes first."""

from typing import Any

import pytest
from attrs import frozen

from understudy.actors import (
    Actor,
    ActorFailed,
    ActorStopped,
    ActorSystem,
    ChannelReader,
    ChannelWriter,
    EndOfChannel,
    Fifo,
    HostUnreachable,
    Ref,
    Shuffled,
    SimWorld,
    Supervision,
    World,
    handles,
)
from understudy.mailbox import ChannelClosed, ChannelFull, CodecError, Message, Request, message


class Writing:
    """Protocol of the actors that write."""


@message("test.channels.take")
@frozen
class Take(Request[Writing, None]):
    writer: ChannelWriter[Any]


@message("test.channels.write")
@frozen
class Write(Request[Writing, None]):
    items: tuple[Any, ...]
    close: bool = False


@message("test.channels.kept")
@frozen
class Kept:
    unsent: int
    conflated: int


@message("test.channels.latest")
@frozen
class Latest(Request[Writing, Kept]):
    """Write without waiting, by the first letter of each item."""

    items: tuple[str, ...]
    close: bool = False
    keys_max: int = 100


@message("test.channels.pass_on")
@frozen
class PassOn(Request[Writing, None]):
    to: Ref[Writing]


@message("test.channels.fail")
@frozen
class Fail(Message[Writing]):
    pass


class Writer(Actor[Writing]):
    """Holds a channel's writing end and does what it is told with it."""

    adopts = True

    @handles(Take)
    def take(self, take: Take) -> None:
        self.writer = take.writer
        if self.adopts:
            self.context.adopt(take.writer)

    @handles(Write)
    async def write(self, write: Write) -> None:
        for item in write.items:
            await self.writer.send(item)
        if write.close:
            self.writer.close()

    @handles(Latest)
    def latest(self, latest: Latest) -> Kept:
        for item in latest.items:
            self.writer.send_latest(item, item[0], keys_max=latest.keys_max)
        if latest.close:
            self.writer.close()
        statistics = self.writer.statistics()
        return Kept(statistics.unsent, statistics.conflated)

    @handles(PassOn)
    async def pass_on(self, pass_on: PassOn) -> None:
        await pass_on.to.ask(Take(self.writer))

    @handles(Fail)
    def fail(self, _: Fail) -> None:
        raise RuntimeError("fail")


class Mover(Writer):
    adopts = False


@pytest.fixture(params=["here", "there"])
def host(request: pytest.FixtureRequest) -> str:
    """Where the writer is; the reader is always here."""
    return "local" if request.param == "here" else "there"


def simulate(scenario: Any, schedule: Any = None) -> Any:
    async def main(world: World) -> Any:
        async with ActorSystem.open(world) as system:
            return await scenario(world, system)

    return SimWorld(seed=5, schedule=schedule or Fifo()).run(main)


def test_a_writer_that_dies_is_heard_after_its_items(host: str) -> None:
    async def scenario(world: World, system: ActorSystem) -> None:
        ref = system.spawn(Writer, "writer", host=host)
        writer, reader = system.channel("numbers", 8)
        await ref.ask(Take(writer))
        await ref.ask(Write((1, 2)))
        ref.tell(Fail())
        await world.sleep(1.0)
        assert await reader.receive() == 1
        assert await reader.receive() == 2
        with pytest.raises(ActorStopped):
            await reader.receive()
        with pytest.raises(ActorStopped):
            await reader.receive()

    simulate(scenario)


def test_a_reader_that_dies_fails_a_send_that_waits(host: str) -> None:
    class Reader(Actor[Writing]):
        async def on_start(self) -> None:
            writer, self.reader = self.context.channel("numbers", 2)
            await system_ref.ask(Take(writer))

    async def scenario(world: World, system: ActorSystem) -> None:
        nonlocal system_ref
        system_ref = system.spawn(Mover, "writer", host=host)
        reader = system.spawn(Reader, "reader")
        await world.sleep(0.1)
        with pytest.raises(ChannelClosed, match="/reader numbers"):
            async with world.nursery() as nursery:
                nursery.start_soon(system_ref.ask, Write((1, 2, 3, 4)), 60.0)
                await world.sleep(1.0)
                await system.stop(reader)

    system_ref: Ref[Writing]
    simulate(scenario)


def test_try_send_never_waits(host: str) -> None:
    async def scenario(world: World, system: ActorSystem) -> None:
        writer, reader = system.channel("numbers", 2)
        heard: list[str] = []
        writer.on_end(lambda: heard.append("end"))
        writer.try_send(1)
        writer.try_send(2)
        with pytest.raises(ChannelFull):
            writer.try_send(3)
        assert reader.receive_nowait() == 1
        writer.try_send(3)
        reader.cancel()
        assert heard == ["end"]
        with pytest.raises(ChannelClosed):
            writer.try_send(4)
        assert reader.receive_nowait() is None
        with pytest.raises(EndOfChannel):
            await reader.receive()
        writer.on_end(lambda: heard.append("late"))
        assert heard == ["end", "late"]
        writer.close()
        reader.cancel()

    simulate(scenario)


def test_a_slow_reader_sees_the_newest_item_of_each_key(host: str) -> None:
    async def scenario(world: World, system: ActorSystem) -> None:
        ref = system.spawn(Writer, "writer", host=host)
        writer, reader = system.channel("states", 2)
        await ref.ask(Take(writer))
        assert await ref.ask(Latest(("a1", "b1"))) == Kept(0, 0), "there was credit"
        assert await ref.ask(Latest(("c1", "a2", "c2", "a3"))) == Kept(2, 2)
        with pytest.raises(ChannelFull):
            await ref.ask(Latest(("a4", "e1"), keys_max=2))
        assert [await reader.receive() for _ in range(4)] == ["a1", "b1", "c2", "a4"]
        await world.sleep(1.0)
        assert await ref.ask(Latest(("a5", "a6", "a7", "b2"), close=True)) == Kept(2, 3)
        with pytest.raises(ChannelClosed):
            await ref.ask(Latest(("a8",)))
        assert [item async for item in reader] == ["a5", "a6", "a7", "b2"]

    simulate(scenario)


def test_a_writer_that_dies_takes_along_what_it_kept(host: str) -> None:
    async def scenario(world: World, system: ActorSystem) -> None:
        ref = system.spawn(Writer, "writer", host=host)
        writer, reader = system.channel("states", 1)
        await ref.ask(Take(writer))
        await ref.ask(Latest(("a1", "a2", "b1")))
        ref.tell(Fail())
        await world.sleep(1.0)
        assert await reader.receive() == "a1"
        with pytest.raises(ActorStopped):
            await reader.receive()

    simulate(scenario)


def test_a_writer_that_closed_with_kept_items_hears_no_more_of_a_reader_that_goes(host: str) -> None:
    async def scenario(world: World, system: ActorSystem) -> None:
        ref = system.spawn(Writer, "writer", host=host)
        writer, reader = system.channel("states", 1)
        await ref.ask(Take(writer))
        await ref.ask(Latest(("a1", "a2"), close=True))
        await world.sleep(1.0)
        reader.cancel()
        await world.sleep(1.0)
        assert writer.statistics().unsent == 0 and not system._channels

    simulate(scenario)


def test_a_closed_writer_gives_up_what_it_kept_when_its_reader_s_host_is_lost() -> None:
    async def scenario(world: Any, system: ActorSystem) -> None:
        ref = system.spawn(Writer, "writer", host="there")
        writer, reader = system.channel("states", 1)
        await ref.ask(Take(writer))
        await ref.ask(Latest(("a1", "a2"), close=True))
        world.network.partition(["local"], ["there"])
        await world.sleep(15.0)
        assert writer.statistics().unsent == 0
        assert await reader.receive() == "a1"
        with pytest.raises(HostUnreachable):
            await reader.receive()

    simulate(scenario)


def test_a_writer_that_keeps_items_does_not_travel() -> None:
    async def scenario(world: World, system: ActorSystem) -> None:
        first, other = (system.spawn(Mover, f"writer-{n}", host=f"h{n}") for n in range(2))
        writer, reader = system.channel("states", 1)
        await first.ask(Take(writer))
        await first.ask(Latest(("a1", "a2")))
        with pytest.raises(ActorFailed, match="keeps 1 unsent items"):
            await first.ask(PassOn(other))
        assert [await reader.receive() for _ in range(2)] == ["a1", "a2"]

    simulate(scenario)


def test_an_item_without_a_wire_form_that_was_kept_fails_the_channel() -> None:
    class Sender(Writer):
        @handles(Fail)
        def fail(self, _: Fail) -> None:
            self.writer.send_latest("first", "a")
            self.writer.send_latest(object(), "a")

    async def scenario(world: World, system: ActorSystem) -> None:
        ref = system.spawn(Sender, "writer", host="there")
        writer, reader = system.channel("states", 1)
        await ref.ask(Take(writer))
        ref.tell(Fail())
        assert await reader.receive() == "first"
        with pytest.raises(ActorFailed, match="object has no wire name"):
            await reader.receive()
        assert system.statistics()[0].restarts == 0

    simulate(scenario)


def test_an_item_without_a_wire_form_costs_nothing_but_itself() -> None:
    class Sender(Writer):
        @handles(Fail)
        def fail(self, _: Fail) -> None:
            with pytest.raises(CodecError):
                self.writer.try_send(object())
            self.writer.try_send("after it")
            self.writer.close(ValueError("no wire form either"))

    async def scenario(world: World, system: ActorSystem) -> None:
        ref = system.spawn(Sender, "writer", host="there")
        writer, reader = system.channel("numbers", 2)
        await ref.ask(Take(writer))
        ref.tell(Fail())
        assert await reader.receive() == "after it"
        with pytest.raises(ActorFailed, match="no wire form either"):
            await reader.receive()

    simulate(scenario)


def test_a_writer_that_arrives_after_its_reader_has_gone_is_a_closed_one() -> None:
    async def scenario(world: World, system: ActorSystem) -> None:
        ref = system.spawn(Writer, "writer", host="there")
        await world.sleep(0.1)
        writer, reader = system.channel("numbers", 2)
        ref.tell(Take(writer))
        reader.cancel()
        with pytest.raises(ChannelClosed):
            await ref.ask(Write((1,)))
        assert system.dead_letter_count == 0

    simulate(scenario)


@pytest.mark.parametrize("seed", range(20))
def test_a_writer_that_moves_to_another_host_keeps_its_order(seed: int) -> None:
    async def scenario(world: World, system: ActorSystem) -> list[int]:
        refs = [system.spawn(Mover, f"writer-{n}", host=f"h{n}") for n in range(3)]
        writer, reader = system.channel("numbers", 4)
        await refs[0].ask(Take(writer))
        received: list[int] = []

        async def read() -> None:
            received.extend([number async for number in reader])

        async with world.nursery() as nursery:
            nursery.start_soon(read)
            for turn in range(6):
                ref = refs[turn % 3]
                await ref.ask(Write(tuple(range(turn * 3, turn * 3 + 3)), close=turn == 5))
                if turn < 5:
                    await ref.ask(PassOn(refs[(turn + 1) % 3]))
        return received

    assert simulate(scenario, Shuffled(seed)) == list(range(18))


@pytest.mark.parametrize("seed", range(10))
def test_credits_bound_what_is_under_way(seed: int) -> None:
    async def scenario(world: World, system: ActorSystem) -> None:
        ref = system.spawn(Writer, "writer", host="there")
        writer, reader = system.channel("numbers", 5)
        await ref.ask(Take(writer))
        ref.tell(Write(tuple(range(100)), close=True))
        rng = world.rng("reader")
        received = []
        async for number in reader:
            received.append(number)
            state = writer._core.writer
            assert state.sent - len(received) <= 5 and state.credits >= 0
            if rng.random() < 0.3:
                await world.sleep(rng.random() * 0.01)
        assert received == list(range(100))

    simulate(scenario, Shuffled(seed))


def test_a_cancelled_wait_loses_no_item() -> None:
    async def scenario(world: World, system: ActorSystem) -> None:
        writer, reader = system.channel("numbers", 4)
        received: list[int] = []

        async def write() -> None:
            for number in range(50):
                await world.sleep(0.0007)
                await writer.send(number)
            writer.close()

        async def read(reader: ChannelReader[int]) -> None:
            async for number in reader:
                received.append(number)  # noqa: PERF401  # kept when cancelled half-way

        async with world.nursery() as nursery:
            nursery.start_soon(write)
            while not reader.finished or reader._core.reader.buffer:
                with world.limit(0.001):
                    await read(reader)
        assert received == list(range(50))

    for seed in range(5):
        simulate(scenario, Shuffled(seed))


def test_one_task_at_a_time_waits_at_an_end() -> None:
    async def scenario(world: World, system: ActorSystem) -> None:
        _, reader = system.channel("numbers", 4)
        with pytest.raises(AssertionError, match="two tasks wait for the signal numbers readable"):
            async with world.nursery() as nursery:
                nursery.start_soon(reader.receive)
                nursery.start_soon(reader.receive)

    simulate(scenario)


@frozen
class Unregistered:
    """Has no wire name."""


class Far(Actor[Writing]):
    @handles(Take)
    def take(self, take: Take) -> Any:
        return Unregistered()


def test_an_answer_without_a_wire_form_fails_its_ask_and_crashes_its_actor() -> None:
    async def scenario(world: World, system: ActorSystem) -> None:
        ref = system.spawn(Far, "far", Supervision(restarts_max=5), host="there")
        writer, _ = system.channel("numbers")
        with pytest.raises(ActorFailed, match="Unregistered has no wire name"):
            await ref.ask(Take(writer))
        await world.sleep(1.0)
        assert system.statistics()[0].restarts == 1

    simulate(scenario)


def test_one_task_reads_many_channels_and_writes_to_many() -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            writers, readers = zip(*[system.own_channel(f"{n}", capacity=2) for n in range(3)], strict=True)
            news: list[tuple[str, int]] = []
            writers[2].try_send("before")
            for number in range(3):
                writers[number].on_room(lambda number=number: news.append(("room", number)))  # type: ignore[misc]
                readers[number].on_readable(lambda number=number: news.append(("came", number)))  # type: ignore[misc]
            assert news == [("came", 2)]
            writers[0].try_send("a")
            writers[0].try_send("b")
            assert news == [("came", 2), ("came", 0), ("came", 0)]
            with pytest.raises(ChannelFull):
                writers[0].try_send("c")
            assert readers[0].receive_nowait() == "a" and news[-1] == ("room", 0)
            writers[0].try_send("c")
            del news[:]
            writers[1].close(ValueError("why"))
            assert news == [("came", 1)] and readers[1].finished
            with pytest.raises(ValueError, match="why"):
                await readers[1].receive()
            readers[1].on_readable(lambda: news.append(("late", 1)))
            assert news[-1] == ("late", 1)

    SimWorld(1).run(main)
