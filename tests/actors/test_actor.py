"""What an actor author relies on, in the real and in the simulated world alike."""

from collections.abc import Awaitable

import pytest
from attrs import frozen

from understudy.actors import (
    TEMPORARY,
    Actor,
    ActorFailed,
    ActorStopped,
    ActorSystem,
    AskTimeout,
    ChannelWriter,
    DeadlineExceeded,
    EndOfChannel,
    Ref,
    Shuffled,
    SimulationDeadlock,
    SimWorld,
    Supervision,
    Terminated,
    World,
    handles,
)
from understudy.actors.supervision import RestartIntensityExceeded
from understudy.mailbox import ChannelClosed, MailboxFull, Refusal, Request, message

from .runs import Run, both


class Counting:
    """Protocol of the test's counter."""


@message("test.add")
@frozen
class Add(Request[Counting, int]):
    amount: int


@message("test.boom")
@frozen
class Boom(Request[Counting, int]):
    pass


@message("test.no")
@frozen
class No(Refusal):
    why: str


@message("test.refuse")
@frozen
class Refuse(Request[Counting, int]):
    pass


@message("test.slow")
@frozen
class Slow(Request[Counting, str]):
    seconds: float


@message("test.numbers")
@frozen
class Numbers(Request[Counting, None]):
    count: int
    to: ChannelWriter[int]


class Counter(Actor[Counting]):
    def __init__(self, log: list[str] | None = None) -> None:
        self.total = 0
        self.events = log if log is not None else []

    async def on_start(self) -> None:
        self.events.append("start")

    async def on_stop(self) -> None:
        self.events.append("stop")

    @handles(Add)
    def add(self, message: Add) -> int:
        self.total += message.amount
        return self.total

    @handles(Boom)
    def boom(self, message: Boom) -> int:
        raise RuntimeError("boom")

    @handles(Refuse)
    def refuse(self, message: Refuse) -> int:
        raise No("not today")

    @handles(Slow, concurrent=True)
    async def slow(self, message: Slow) -> str:
        try:
            await self.world.sleep(message.seconds)
        except BaseException:
            self.events.append("slow cancelled")
            raise
        return "done"

    @handles(Numbers)
    def numbers(self, message: Numbers) -> None:
        self.context.start_soon(self.write, message)

    async def write(self, message: Numbers) -> None:
        for number in range(message.count):
            await message.to.send(number)
        message.to.close()


@both
def test_an_ask_is_answered_and_messages_keep_their_order(run: Run) -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            ref: Ref[Counting] = system.spawn(Counter, "counter")
            for amount in range(200):
                ref.tell(Add(amount))
            assert await ref.ask(Add(0)) == sum(range(200))

    run(main)


@both
def test_a_refusal_reaches_the_asker_and_the_actor_lives_on(run: Run) -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            ref: Ref[Counting] = system.spawn(Counter, "counter")
            assert await ref.ask(Add(3)) == 3
            with pytest.raises(No, match="not today"):
                await ref.ask(Refuse())
            assert await ref.ask(Add(1)) == 4

    run(main)


@both
def test_a_crash_restarts_the_actor_and_keeps_the_messages_behind_it(run: Run) -> None:
    async def main(world: World) -> None:
        events: list[str] = []
        async with ActorSystem.open(world) as system:
            ref: Ref[Counting] = system.spawn(lambda: Counter(events), "counter")
            assert await ref.ask(Add(3)) == 3
            ref.tell(Boom())
            assert await ref.ask(Add(5)) == 5, "a new incarnation starts afresh and handles what waited"
            assert events == ["start", "stop", "start"]
            with pytest.raises(ActorFailed, match="boom"):
                await ref.ask(Boom())
            assert await ref.ask(Add(6)) == 6
        assert events == ["start", "stop"] * 3

    run(main)


@both
def test_too_many_crashes_escalate(run: Run) -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            ref: Ref[Counting] = system.spawn(
                Counter, "counter", Supervision(restarts_max=2, backoff_initial_seconds=0.001)
            )
            for _ in range(10):
                with pytest.raises((ActorFailed, ActorStopped)):
                    await ref.ask(Boom())
            await world.sleep(60)

    with pytest.raises(RestartIntensityExceeded, match="/counter crashed 3 times"):
        run(main)


@both
def test_an_ask_has_a_deadline_and_its_handler_is_cancelled_with_it(run: Run) -> None:
    async def main(world: World) -> None:
        events: list[str] = []
        async with ActorSystem.open(world) as system:
            ref: Ref[Counting] = system.spawn(lambda: Counter(events), "counter")
            with pytest.raises(AskTimeout):
                await ref.ask(Slow(100), timeout_seconds=0.01)
            assert await ref.ask(Slow(0.001)) == "done"
            assert events == ["start", "slow cancelled"]

    run(main)


@both
def test_a_dead_actor_answers_at_once_that_it_is_dead(run: Run) -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            ref: Ref[Counting] = system.spawn(Counter, "counter")
            await ref.ask(Add(1))
            await system.stop(ref)
            with pytest.raises(ActorStopped):
                await ref.ask(Add(1))
            assert system.dead_letter_count == 1

    run(main)


@both
def test_a_full_mailbox_rejects(run: Run) -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            ref: Ref[Counting] = system.spawn(Counter, "counter", capacity=3)
            for _ in range(3):
                ref.tell(Add(1))
            with pytest.raises(MailboxFull):
                ref.tell(Add(1))
            await world.sleep(0.01)
            assert await ref.ask(Add(0)) == 3

    run(main)


@both
def test_a_channel_is_bounded_ordered_and_ends(run: Run) -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            ref: Ref[Counting] = system.spawn(Counter, "counter", host="elsewhere")
            writer, reader = system.channel("numbers", capacity=4)
            await ref.ask(Numbers(50, writer))
            assert [n async for n in reader] == list(range(50))
            with pytest.raises(EndOfChannel):
                await reader.receive()

    run(main)


@both
def test_a_cancelled_reader_stops_the_writer(run: Run) -> None:
    class Writer(Actor[Counting]):
        outcome = ""

        @handles(Numbers)
        async def numbers(self, message: Numbers) -> None:
            self.context.start_soon(self.write, message.to)

        async def write(self, to: ChannelWriter[int]) -> None:
            try:
                while True:
                    await to.send(1)
            except ChannelClosed:
                Writer.outcome = "closed"

    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            ref: Ref[Counting] = system.spawn(Writer, "writer", host="elsewhere")
            writer, reader = system.channel("numbers", capacity=4)
            await ref.ask(Numbers(0, writer))
            assert await reader.receive() == 1
            reader.cancel()
            await world.sleep(0.01)
            assert Writer.outcome == "closed"

    run(main)


@both
def test_a_watcher_hears_of_every_end(run: Run) -> None:
    heard: list[tuple[int, bool]] = []

    class Watcher(Actor[Counting]):
        async def on_start(self) -> None:
            self.context.watch(self.context.spawn(Counter, "child", TEMPORARY))

        @handles(Terminated)
        def terminated(self, message: Terminated) -> None:
            heard.append((message.incarnation, message.final))

    async def main(world: World) -> None:
        heard.clear()
        async with ActorSystem.open(world) as system:
            system.spawn(Watcher, "watcher")
            await world.sleep(0.001)
            with pytest.raises(ActorFailed):
                await system.ref("/watcher/child").ask(Boom())
            await world.sleep(0.01)
            assert heard == [(1, True)]

    run(main)


@both
def test_cancelling_the_host_stops_every_actor_in_order(run: Run) -> None:
    async def main(world: World) -> None:
        events: list[str] = []
        with pytest.raises(DeadlineExceeded), world.deadline(0.05):
            async with ActorSystem.open(world) as system:
                system.spawn(lambda: Counter(events), "counter")
                await world.sleep(100)
        assert events == ["start", "stop"]

    run(main)


def _race(world: World) -> Awaitable[list[int]]:
    class Racer(Actor[Counting]):
        @handles(Add)
        async def add(self, message: Add) -> int:
            return message.amount

    async def main() -> list[int]:
        order: list[int] = []

        async def contend(ref: Ref[Counting], number: int) -> None:
            order.append(await ref.ask(Add(number)))

        async with ActorSystem.open(world) as system, world.nursery() as nursery:
            for number in range(5):
                ref: Ref[Counting] = system.spawn(Racer, f"racer-{number}", host=f"h{number % 2}")
                nursery.start_soon(contend, ref, number)
        return order

    return main()


def test_the_same_schedule_gives_the_same_trace_and_others_give_others() -> None:
    def once(schedule_seed: int) -> tuple[str, tuple[int, ...]]:
        world = SimWorld(seed=7, schedule=Shuffled(schedule_seed))
        order = world.run(_race)
        return world.trace_hash(), tuple(order)

    runs = [once(seed) for seed in range(10)]
    assert runs == [once(seed) for seed in range(10)]
    assert len({trace for trace, _ in runs}) == 10
    assert len({order for _, order in runs}) > 3, "schedules reach different orders"


def test_virtual_time_costs_nothing() -> None:
    async def main(world: World) -> float:
        for _ in range(1000):
            await world.sleep(3600)
        return world.monotonic()

    assert SimWorld().run(main) == 3_600_000.0


def test_a_deadlock_is_named() -> None:
    async def main(world: World) -> None:
        await world.event("something that never comes").wait()

    with pytest.raises(SimulationDeadlock, match="something that never comes"):
        SimWorld().run(main)
