"""Links between hosts: at most once for datagrams, in order or broken for sessions, whatever happens."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.actors import (
    Actor,
    ActorSystem,
    AskTimeout,
    ChannelWriter,
    EndOfChannel,
    HostUnreachable,
    Ref,
    Shuffled,
    SimWorld,
    handles,
)
from understudy.actors.host_network import LinkConditions
from understudy.actors.testkit import Probe
from understudy.mailbox import Message, Request, message


class Far:
    """Protocol of the test."""


@message("network.note")
@frozen
class Note(Message[Far]):
    number: int


@message("network.echo")
@frozen
class Echo(Request[Far, int]):
    number: int


@message("network.stream")
@frozen
class Stream(Request[Far, None]):
    to: ChannelWriter[int]
    count: int


class FarActor(Actor[Far]):
    def __init__(self, notes: list[int]) -> None:
        self.notes = notes
        self.echoes = 0

    @handles(Note)
    def note(self, note: Note) -> None:
        self.notes.append(note.number)

    @handles(Echo)
    def echo(self, echo: Echo) -> int:
        self.notes.append(echo.number)
        return echo.number

    @handles(Stream)
    def stream(self, stream: Stream) -> None:
        self.context.start_soon(self.write, stream)

    async def write(self, stream: Stream) -> None:
        self.context.adopt(stream.to)
        for number in range(stream.count):
            await stream.to.send(number)
        stream.to.close()


class Bench:
    def __init__(self, world: SimWorld, system: ActorSystem) -> None:
        self.world, self.system, self.network = world, system, world.network
        self.notes: list[int] = []
        self.far: Ref[Far] = system.spawn(lambda: FarActor(self.notes), "far", host="far")


def run(scenario: Callable[[Bench], Awaitable[Any]], seed: int = 0) -> Any:
    async def main(world: SimWorld) -> Any:
        async with ActorSystem.open(world) as system:
            return await scenario(Bench(world, system))

    return SimWorld(seed, Shuffled(seed) if seed else None).run(main)


def test_latency_is_each_ways() -> None:
    async def scenario(b: Bench) -> None:
        b.network.link("local", "far").latency_seconds = 0.2
        b.network.link("far", "local").latency_seconds = 0.3
        await b.far.ask(Echo(1))
        assert b.world.monotonic() == pytest.approx(0.5)

    run(scenario)


def test_a_lost_request_is_a_time_out_and_a_lost_answer_comes_late() -> None:
    async def scenario(b: Bench) -> None:
        await b.world.sleep(0.1)
        b.network.link("local", "far").loss = 1.0
        with pytest.raises(AskTimeout):
            await b.far.ask(Echo(1), timeout_seconds=2.0)
        assert b.notes == []
        b.network.link("local", "far").loss = 0.0
        # The answer is lost at first, and sent again.
        back = b.network.link("far", "local")
        back.loss = 1.0
        b.world.call_later(0.3, lambda: setattr(back, "loss", 0.0))
        before = b.world.monotonic()
        assert await b.far.ask(Echo(2), timeout_seconds=5.0) == 2
        assert 0.3 < b.world.monotonic() - before < 1.5

    run(scenario)


def test_a_one_way_partition_lets_the_request_through_and_not_the_answer() -> None:
    async def scenario(b: Bench) -> None:
        await b.world.sleep(0.1)
        b.network.block("far", "local")
        with pytest.raises(AskTimeout):
            await b.far.ask(Echo(1), timeout_seconds=1.0)
        assert b.notes == [1]
        b.network.unblock("far", "local")
        b.network.block("local", "far")
        with pytest.raises(AskTimeout):
            await b.far.ask(Echo(2), timeout_seconds=1.0)
        assert b.notes == [1]
        b.network.heal()
        assert await b.far.ask(Echo(3)) == 3

    run(scenario)


def test_a_short_partition_stalls_a_channel_and_a_long_one_breaks_it() -> None:
    async def scenario(b: Bench) -> None:
        for blocked, ends in ((5.0, False), (11.0, True)):
            writer, reader = b.system.channel("numbers", 4)
            await b.far.ask(Stream(writer, 20))
            got = [await reader.receive()]
            b.network.partition(["local"], ["far"])
            b.world.call_later(blocked, b.network.heal)
            before = b.world.monotonic()
            try:
                while True:
                    got.append(await reader.receive())
            except HostUnreachable:
                assert ends and len(got) < 20 and b.world.monotonic() - before == pytest.approx(10.0)
            except EndOfChannel:
                assert not ends and len(got) == 20
            assert got == list(range(len(got)))
            await b.world.sleep(15.0)

    run(scenario)


def test_watchers_hear_of_a_host_that_cannot_be_reached() -> None:
    async def scenario(b: Bench) -> None:
        probe: Probe[Any] = Probe(b.system)
        await probe.watch(b.far)
        await b.far.ask(Echo(1))
        b.network.block("far", "local")
        terminated = await probe.expect_terminated(b.far, within_seconds=11.0)
        assert "HostUnreachable" in str(terminated.reason) and not terminated.final

    run(scenario)


def test_groups_are_partitioned_pairwise() -> None:
    async def scenario(b: Bench) -> None:
        b.network.partition(["a", "b"], ["c"], ["d"])
        assert b.network.is_blocked("a", "c") and b.network.is_blocked("c", "b")
        assert b.network.is_blocked("d", "c") and not b.network.is_blocked("a", "b")

    run(scenario)


conditions = st.builds(
    LinkConditions,
    latency_seconds=st.sampled_from([0.0, 0.001, 0.05]),
    jitter_seconds=st.sampled_from([0.0, 0.1]),
    loss=st.sampled_from([0.0, 0.1, 0.5]),
    duplication=st.sampled_from([0.0, 0.5]),
    reordering=st.sampled_from([0.0, 0.5]),
)
blocks = st.lists(
    st.tuples(st.floats(0.0, 3.0), st.sampled_from(["there", "back", "both"]), st.floats(0.1, 4.0)),
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 20), conditions, conditions, blocks)
def test_at_most_once_and_in_order_or_broken(
    seed: int, there: LinkConditions, back: LinkConditions, cuts: list[tuple[float, str, float]]
) -> None:
    async def scenario(b: Bench) -> None:
        network = b.network
        network._links["local", "far"], network._links["far", "local"] = there, back
        writer, reader = b.system.channel("numbers", 8)
        got: list[int] = []
        answers: list[int] = []

        async def cut() -> None:
            for wait, which, lasting in cuts:
                await b.world.sleep(wait)
                if which != "back":
                    network.block("local", "far")
                if which != "there":
                    network.block("far", "local")
                await b.world.sleep(lasting)
                network.heal()

        async def read() -> None:
            try:
                while True:
                    got.append(await reader.receive())
            except HostUnreachable:
                got.append(-1)
            except EndOfChannel:
                pass

        async def ask() -> None:
            for number in range(100, 110):
                try:
                    answers.append(await b.far.ask(Echo(number), timeout_seconds=1.0))
                except AskTimeout:
                    answers.append(-number)

        async with b.world.nursery() as nursery:
            nursery.start_soon(cut)
            for number in range(30):
                b.far.tell(Note(number))
            nursery.start_soon(ask)
            try:
                await b.far.ask(Stream(writer, 40), timeout_seconds=60.0)
                nursery.start_soon(read)
            except AskTimeout:
                pass
        # At most once, and in order unless the link reorders.
        counts = Counter(b.notes)
        assert not counts or max(counts.values()) == 1
        told = [number for number in b.notes if number < 100]
        if not there.reordering:
            assert told == sorted(told)
        if not there.loss and not cuts:
            assert len(told) == 30
        # Whoever was answered was heard.
        assert [abs(number) for number in answers] == list(range(100, 110))
        assert {number for number in answers if number > 0} <= set(b.notes)
        # The channel's items come in order and none twice; all of them, or the break is told.
        items = [number for number in got if number >= 0]
        assert items == list(range(len(items)))
        assert not got or got[-1] == -1 or len(items) == 40
        counted = network.counts
        assert counted.duplicates_dropped == 0 or there.duplication or back.duplication

    run(scenario, seed)


def test_duplicates_are_made_and_dropped() -> None:
    async def scenario(b: Bench) -> None:
        b.network.link("local", "far").duplication = 1.0
        for number in range(10):
            b.far.tell(Note(number))
        await b.world.sleep(1.0)
        assert b.notes == list(range(10)) and b.network.counts.duplicates_dropped == 10

    run(scenario)


def test_reordered_messages_overtake() -> None:
    async def scenario(b: Bench) -> None:
        b.network.link("local", "far").reordering = 0.5
        for number in range(50):
            b.far.tell(Note(number))
        await b.world.sleep(1.0)
        assert sorted(b.notes) == list(range(50)) and b.notes != list(range(50))

    run(scenario)
