"""Supervised channels: whatever becomes of the source and of the way to it, the consumer's view is right.

The source keeps numbered items for as long as its memory reaches, lives on another host, and crashes, is
cut off, forgets, overflows and falls silent. The view is a list of numbers: a notice replaces it, an item is
added.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from attrs import define, field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.actors import (
    TEMPORARY,
    Actor,
    ActorSystem,
    ChannelReader,
    ChannelWriter,
    Feed,
    Ref,
    Restarted,
    Shuffled,
    SimWorld,
    Supervised,
    Supervision,
    asked,
    handles,
)
from understudy.mailbox import (
    ChannelClosed,
    ChannelFull,
    CodecError,
    Message,
    Patience,
    Phase,
    PositionGone,
    Request,
    SourceSilent,
    message,
)


class Telling:
    """Protocol of the source."""


@message("test.supervised.follow")
@frozen
class Follow(Request[Telling, None]):
    after: int
    to: ChannelWriter[int]
    heartbeat: bool = False


@message("test.supervised.snapshot")
@frozen
class Snapshot(Request[Telling, int]):
    """Answered with the number of the newest item."""


@message("test.supervised.upset")
@frozen
class Upset(Message[Telling]):
    how: str


@define
class Memory:
    """What survives the source's crashes."""

    newest: int = 0
    forgotten: int = 0
    """Up to here items are gone."""
    source: "Source | None" = None
    """The incarnation that was started last."""


class Source(Actor[Telling]):
    """Sends as much as there is credit for; a reader that is slower overflows, and its stream ends."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.silent = False

    async def on_start(self) -> None:
        self.memory.source = self
        self.grown = self.world.signal("grown")
        self.streams: dict[ChannelWriter[int], int] = {}
        self.context.start_soon(self.send)

    @handles(Follow, concurrent=True)
    async def follow(self, follow: Follow) -> None:
        if self.silent:
            await self.world.sleep(1e6)
        if follow.after < self.memory.forgotten:
            raise PositionGone(f"item {follow.after}")
        self.context.adopt(follow.to)
        self.streams[follow.to] = follow.after
        self.grown.set()

    @handles(Snapshot, concurrent=True)
    async def snapshot(self, _: Snapshot) -> int:
        if self.silent:
            await self.world.sleep(1e6)
        return self.memory.newest

    @handles(Upset)
    def upset(self, upset: Upset) -> None:
        if upset.how == "crash":
            raise RuntimeError("crash")
        if upset.how == "close":
            for stream in self.streams:
                stream.close()
        elif upset.how == "fall silent":
            self.silent = True

    async def send(self) -> None:
        while True:
            await self.grown.wait()
            for stream in [stream for stream in self.streams if not self.silent]:
                while self.streams[stream] < self.memory.newest:
                    try:
                        stream.try_send(self.streams[stream] + 1)
                    except (ChannelFull, ChannelClosed) as error:
                        stream.close(error)
                        del self.streams[stream]
                        break
                    self.streams[stream] += 1


QUICK = Patience(
    open_seconds=2.0,
    snapshot_seconds=2.0,
    backoff_initial_seconds=0.1,
    backoff_max_seconds=1.0,
    silence_seconds=None,
)
NEVER_ENOUGH = Supervision(restarts_max=1000)


@define
class View:
    """What the consumer makes of it."""

    seen: list[int] = field(factory=list)
    notices: list[Restarted[int, int]] = field(factory=list)
    heard: int = 0
    wrong: list[str] = field(factory=list)
    """What was not the next item."""

    def take(self, news: int | Restarted[int, int]) -> None:
        self.heard += 1
        if isinstance(news, Restarted):
            self.seen = list(range(1, news.snapshot + 1))
            self.notices.append(news)
        else:
            if news != len(self.seen) + 1:
                self.wrong.append(f"{news} after {self.seen[-1:]}")
            self.seen.append(news)


@define
class Bench:
    world: SimWorld
    system: ActorSystem
    source: Ref[Telling]
    memory: Memory
    view: View
    shift: int = 0
    """Planted: how far from its position the follower resumes."""
    follower: Supervised[int, int, int] = field(init=False)
    feed: Feed[int, int, int] = field(init=False)

    def upset(self, how: str) -> None:
        if how in ("grow", "burst", "forget"):
            if self.world.host_is_up("far") and self.memory.source is not None:
                self.memory.newest += {"grow": 1, "burst": 20, "forget": 0}[how]
                if how == "forget":
                    self.memory.forgotten = self.memory.newest
                self.memory.source.grown.set()
        elif how == "cut":
            self.world.network.partition(["local"], ["far"])
        elif how == "heal":
            self.world.network.heal()
        elif how == "host":
            host = self.world.host("far")
            host.crash()
            self.world.call_later(0.5, host.restart)
        else:
            self.source.tell(Upset(how))

    async def caught_up(self, within_seconds: float = 120.0) -> None:
        """The view is what the source has."""
        with self.world.limit(within_seconds):
            while len(self.view.seen) < self.memory.newest:
                await self.world.sleep(0.1)
        assert self.view.wrong == [], "each item once and in order, or a notice"
        assert self.view.seen == list(range(1, self.memory.newest + 1))


class Following:
    """Protocol of the consumer."""


class Consumer(Actor[Following]):
    """Reads at its own pace."""

    def __init__(self, bench: Bench, pause_seconds: float, **options: Any) -> None:
        self.bench, self.pause_seconds, self.options = bench, pause_seconds, options

    async def on_start(self) -> None:
        bench = self.bench
        options = {"snapshot": self.snapshot, "patience": QUICK, **self.options}
        bench.follower = Supervised(
            self.world, "numbers", open=self.open, position_of=lambda number: number, **options
        )
        bench.feed = bench.follower.feed(self.context, capacity=2)
        self.context.start_soon(self.read)

    @asynccontextmanager
    async def open(self, position: int) -> AsyncIterator[ChannelReader[int]]:
        after = max(0, position + self.bench.shift)

        async def ask(writer: ChannelWriter[int]) -> None:
            await self.bench.source.ask(Follow(after, writer), 1.0)

        async with asked(self.context, "numbers", 4, ask) as reader:
            yield reader

    async def snapshot(self, cause: Exception | None) -> tuple[int, int]:
        assert cause is None or isinstance(cause, PositionGone)
        newest = await self.bench.source.ask(Snapshot(), 1.0)
        return newest, newest

    async def read(self) -> None:
        async for news in self.bench.feed:
            self.bench.view.take(news)
            if self.pause_seconds:
                await self.world.sleep(self.pause_seconds)


def simulate(
    scenario: Callable[[Bench], Awaitable[Any]],
    seed: int = 0,
    pause_seconds: float = 0.0,
    shift: int = 0,
    view: View | None = None,
    **options: Any,
) -> Any:
    async def main(world: SimWorld) -> Any:
        async with ActorSystem.open(world) as system:
            memory = Memory()
            source: Ref[Telling] = system.spawn(lambda: Source(memory), "source", NEVER_ENOUGH, host="far")
            bench = Bench(world, system, source, memory, view or View(), shift)
            system.spawn(lambda: Consumer(bench, pause_seconds, **options), "consumer", TEMPORARY)
            await world.sleep(0.05)
            return await scenario(bench)

    return SimWorld(seed, Shuffled(seed) if seed else None).run(main)


UPSETS = ["grow", "grow", "burst", "crash", "close", "forget", "cut", "heal", "host"]
STEPS = st.lists(st.tuples(st.sampled_from(UPSETS), st.sampled_from([0.0, 0.02, 0.3, 12.0])), max_size=16)


def through(steps: list[tuple[str, float]]) -> Callable[[Bench], Awaitable[None]]:
    async def scenario(bench: Bench) -> None:
        for how, seconds in steps:
            bench.upset(how)
            await bench.world.sleep(seconds)
            statistics = bench.feed.statistics()
            held = statistics.items + statistics.restarts - bench.view.heard
            assert 0 <= held <= 2 + 1, (
                "no more waits for the consumer than its feed holds, and the one in hand"
            )
        bench.upset("heal")
        bench.upset("grow")
        # Longer than a session needs to notice that it is broken.
        await bench.world.sleep(15.0)
        bench.upset("grow")
        await bench.caught_up()

    return scenario


@settings(max_examples=200, deadline=None)
@given(STEPS, st.integers(0, 1 << 20), st.sampled_from([0.0, 0.05]), st.booleans())
def test_the_view_is_right_whatever_happens_to_the_source(
    steps: list[tuple[str, float]], seed: int, pause_seconds: float, from_start: bool
) -> None:
    view = View()
    start = {"position": 0} if from_start else {}
    simulate(through(steps), seed, pause_seconds, view=view, **start)
    assert [notice.cause for notice in view.notices[:1] if not from_start] in ([None], [])
    assert all(isinstance(notice.cause, PositionGone) for notice in view.notices[0 if from_start else 1 :])


GROWING_AND_BREAKING = [
    (how, seconds)
    for how in ["grow", "burst", "crash", "grow", "close", "burst", "host"]
    for seconds in [0.01, 3.0]
]
FORGETTING = [("grow", 1.0), ("cut", 15.0), ("burst", 1.0), ("forget", 1.0), ("grow", 1.0), ("heal", 1.0)]


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_source_that_resumes_at_the_wrong_place_is_found_out(shift: int) -> None:
    with pytest.raises(AssertionError, match="each item once and in order"):
        simulate(through(GROWING_AND_BREAKING), shift=shift, is_after=None, position=0)


def test_what_a_source_sends_again_is_skipped() -> None:
    async def scenario(bench: Bench) -> None:
        await through(GROWING_AND_BREAKING)(bench)
        statistics = bench.feed.statistics()
        assert statistics.skipped == 2 * statistics.resumes > 0

    simulate(scenario, shift=-2, position=0)


def test_what_was_forgotten_meanwhile_is_told() -> None:
    async def scenario(bench: Bench) -> None:
        await through(FORGETTING)(bench)
        first, second = bench.view.notices
        assert (first.position, first.cause) == (0, None)
        assert second.position == 22 and isinstance(second.cause, PositionGone)
        assert bench.feed.statistics().restarts == 2

    simulate(scenario)


def test_a_follower_that_hides_a_restart_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supervised, "_deliver", hide_restarts(Supervised._deliver))
    with pytest.raises(AssertionError, match="each item once and in order"):
        simulate(through(FORGETTING))


def hide_restarts(deliver: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def unless_restarted(self: Any, call: Any, news: Any) -> None:
        if not isinstance(news, Restarted) or news.cause is None:
            await deliver(self, call, news)

    return unless_restarted


def test_without_snapshots_a_position_that_is_gone_ends_it() -> None:
    async def scenario(bench: Bench) -> None:
        for how, seconds in FORGETTING:
            bench.upset(how)
            await bench.world.sleep(seconds)
        await bench.world.sleep(15.0)
        assert bench.view.seen == [1], "what had come was read first"
        with pytest.raises(PositionGone):
            await bench.feed.receive()
        assert bench.feed.statistics().phase is Phase.ENDED

    simulate(scenario, snapshot=None, position=0)
    with pytest.raises(ValueError, match="numbers: give a position"):
        Supervised(SimWorld(), "numbers", open=asked, position_of=int)  # type: ignore[arg-type]


def test_a_source_that_breaks_its_promise_of_heartbeats_is_given_up() -> None:
    """It neither sends nor answers, and no link is broken: only its silence tells."""

    async def scenario(bench: Bench) -> None:
        for _ in range(10):
            bench.upset("grow")
            await bench.world.sleep(0.9)
        assert bench.feed.statistics().failures == 0, "as long as something comes in time"
        bench.upset("fall silent")
        await bench.world.sleep(3.5)
        statistics = bench.feed.statistics()
        assert isinstance(statistics.cause, SourceSilent), statistics.cause
        assert statistics.failures == 2, "the stream was silent, and then the opening"
        bench.upset("crash")
        bench.upset("grow")
        await bench.caught_up()
        assert bench.feed.statistics().resumes >= 1 and len(bench.view.notices) == 1

    patience = Patience(
        open_seconds=0.5, backoff_initial_seconds=1.0, silence_seconds=1.0, settled_seconds=0.1
    )
    simulate(scenario, patience=patience)


def test_the_time_a_consumer_takes_is_no_silence_of_the_source() -> None:
    async def scenario(bench: Bench) -> None:
        for _ in range(8):
            bench.upset("grow")
        await bench.world.sleep(9.5)
        assert bench.feed.statistics().failures == 0

    simulate(scenario, pause_seconds=4.0, patience=Patience(silence_seconds=3.0))


def test_an_item_that_comes_as_its_source_is_given_up_comes_again() -> None:
    """The wait has ended with the item when the deadline passes: the consumer must not be cut off with it."""
    got: list[int] = []
    tried: list[int] = []

    async def main(world: SimWorld) -> None:
        @asynccontextmanager
        async def open(position: int) -> AsyncIterator[AsyncIterator[int]]:
            async def items() -> AsyncGenerator[int, None]:
                for number in range(position + 1, 10):
                    # A second is what silence may last. The watchdog has looked since, so its timer is
                    # younger, and fires between the item's coming and the follower's next turn.
                    came = world.event("an item comes")
                    late = number % 3 == 2 and number not in tried
                    tried.append(number)
                    world.call_later(1.0 if late else 0.5, came.set)
                    await came.wait()
                    yield number

            async with aclosing(items()) as stream:
                yield stream

        async def take(number: int) -> None:
            await world.sleep(2.0**-10)  # times that add up exactly
            got.append(number)

        follower: Supervised[int, int, None] = Supervised(
            world, "x", open=open, position_of=int, position=0, patience=Patience(silence_seconds=1.0)
        )
        with world.limit(20.0):
            await follower.run(take)

    SimWorld().run(main)
    assert got == list(range(1, 10))
    assert [tried.count(number) for number in (1, 2, 5)] == [1, 2, 2]


@asynccontextmanager
async def one_item(world: SimWorld, position: int) -> AsyncIterator[AsyncIterator[int]]:
    """A source that closes behind each item."""

    async def items() -> AsyncIterator[int]:
        await world.sleep(0.5)
        yield position + 1

    yield items()


def test_a_snapshot_that_takes_too_long_is_asked_for_again() -> None:
    tries = 0
    got: list[Any] = []

    async def main(world: SimWorld) -> None:
        async def snapshot(cause: Exception | None) -> tuple[int, str]:
            nonlocal tries
            tries += 1
            if tries < 3:
                await world.sleep(100.0)
            return 7, "seven"

        follower: Supervised[int, int, str] = Supervised(
            world,
            "late",
            open=lambda position: one_item(world, position),
            position_of=int,
            snapshot=snapshot,
            patience=QUICK,
        )
        with world.limit(6.0):
            await follower.run(got.append, got.append)

    SimWorld().run(main)
    assert tries == 3 and isinstance(got[0], Restarted) and got[0].snapshot == "seven"
    assert got[1:4] == [8, 9, 10], "a stream that was closed as planned goes on at once"


def test_what_the_consumer_raises_is_not_the_sources() -> None:
    async def main(world: SimWorld) -> None:
        def refuse(item: Any) -> None:
            raise ChannelClosed("the consumer's own")

        follower: Supervised[int, int, None] = Supervised(
            world, "x", open=lambda position: one_item(world, position), position_of=int, position=0
        )
        with pytest.raises(ChannelClosed, match="the consumer's own"):
            await follower.run(refuse, refuse)
        assert follower.statistics().position == 1

    SimWorld().run(main)


def test_what_cannot_be_read_is_the_consumers_to_hear() -> None:
    @asynccontextmanager
    async def unreadable(position: int) -> AsyncIterator[AsyncIterator[int]]:
        async def items() -> AsyncIterator[int]:
            yield 1
            raise CodecError("item 2 is not readable")

        yield items()

    class Reader(Actor[Following]):
        async def on_start(self) -> None:
            follower: Supervised[int, int, None] = Supervised(
                self.world, "x", open=unreadable, position_of=int, position=0
            )
            feeds.append(follower.feed(self.context))

    feeds: list[Feed[int, int, None]] = []

    async def main(world: SimWorld) -> None:
        async with ActorSystem.open(world) as system:
            system.spawn(Reader, "reader")
            await world.sleep(1.0)
            assert await feeds[0].receive() == 1
            with pytest.raises(CodecError, match="item 2"):
                await feeds[0].receive()

    SimWorld().run(main)


def test_a_feed_ends_with_its_actor_and_when_cancelled() -> None:
    async def scenario(bench: Bench) -> None:
        bench.upset("grow")
        await bench.caught_up()
        bench.feed.cancel()
        await bench.world.sleep(1.0)
        assert bench.memory.source is not None
        bench.upset("burst")
        await bench.world.sleep(1.0)
        assert bench.memory.source.streams == {}, "the source was told"
        assert len(bench.view.seen) == 1

    simulate(scenario)
