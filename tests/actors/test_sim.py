"""The simulated world: virtual time, one turn at a time, and the same run in every process."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import trio
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.actors import (
    Actor,
    ActorSystem,
    AskTimeout,
    Deviations,
    Fifo,
    Ref,
    Shuffled,
    SimulationDeadlock,
    SimWorld,
    World,
    handles,
)
from understudy.actors.dispatch import Timer, TimerHeap
from understudy.actors.schedule import Schedule
from understudy.actors.sim import SimulationTooLong, UnscheduledStep
from understudy.mailbox import Request, message


class Storing:
    """Protocol of a cell that several actors update."""


@message("test.sim.load")
@frozen
class Load(Request[Storing, int]):
    pass


@message("test.sim.store")
@frozen
class Store(Request[Storing, None]):
    value: int


class Memory(Actor[Storing]):
    value = 0

    @handles(Load)
    def load(self, _: Load) -> int:
        return self.value

    @handles(Store)
    def store(self, store: Store) -> None:
        self.value = store.value


async def lost_update(world: World) -> int:
    """Two tasks add one each, by reading first: 2 unless they interleave."""
    async with ActorSystem.open(world) as system:
        memory: Ref[Storing] = system.spawn(Memory, "memory")
        await memory.ask(Load())

        async def add_one(after_steps: int) -> None:
            for _ in range(after_steps):
                await world.sleep(0.0)
            await memory.ask(Store(await memory.ask(Load()) + 1))

        async with world.nursery() as nursery:
            nursery.start_soon(add_one, 0)
            nursery.start_soon(add_one, 3)
        return await memory.ask(Load())


def test_a_planted_race_is_found_by_shuffled_schedules_only() -> None:
    assert SimWorld().run(lost_update) == 2
    outcomes = Counter(SimWorld(schedule=Shuffled(seed)).run(lost_update) for seed in range(60))
    assert set(outcomes) == {1, 2}, outcomes


def test_a_planted_race_is_found_by_few_deviations_from_fifo() -> None:
    found: list[dict[int, int]] = []

    @settings(max_examples=1000, deadline=None, database=None, derandomize=True)
    @given(st.dictionaries(st.integers(6, 30), st.integers(1, 3), max_size=12))
    def no_update_is_lost(skips: dict[int, int]) -> None:
        try:
            assert SimWorld(schedule=Deviations(skips)).run(lost_update) == 2
        except AssertionError:
            found.append(skips)
            raise

    with pytest.raises(AssertionError):
        no_update_is_lost()
    assert len(found[-1]) <= 5, f"shrunk to {found[-1]}"


async def busy(world: World) -> None:
    """Timers, cancellations, far asks that end together, and native Trio waits in between."""
    async with ActorSystem.open(world) as system:
        refs: list[Ref[Storing]] = [system.spawn(Memory, f"m{n}", host=f"h{n % 3}") for n in range(6)]

        async def ask(n: int) -> None:
            for round in range(4):
                with world.limit(0.0012 + n % 2 * 0.01):
                    await refs[n].ask(Store(round))
                await world.sleep(world.rng("pause").random() * 0.001)

        async with world.nursery() as nursery:
            for n in range(6):
                nursery.start_soon(ask, n)
        # One scope, many far asks: Trio aborts its tasks in set order, which the machine decides.
        with world.limit(0.0003):
            async with world.nursery() as nursery:
                for n in range(6):
                    for _ in range(3):
                        nursery.start_soon(refs[n].ask, Load())
        lock = trio.Lock()

        async def foreign() -> None:
            async with lock:
                await trio.sleep(0.01)

        async with world.nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(foreign)


PROGRAM = """
import sys
from tests.actors.test_sim import busy
from understudy.actors import Shuffled, SimWorld
for seed in range(3):
    world = SimWorld(seed=seed, schedule=Shuffled(seed))
    world.run(busy)
    print(world.trace_hash(), world.steps)
"""


def test_the_same_plan_gives_the_same_trace_in_any_process() -> None:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    traces = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([root, *sys.path])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2", "3", "4242", "99")
    }
    assert len(traces) == 1, traces


def test_trio_deadlines_fall_due_in_virtual_time() -> None:
    async def main(world: World) -> list[float]:
        times = []
        await trio.sleep(5000.0)
        times.append(world.monotonic())
        with trio.move_on_after(7.0):
            await world.event().wait()
        times.append(world.monotonic())
        with pytest.raises(trio.TooSlowError), trio.fail_after(0):
            await world.sleep(1.0)
        async with world.nursery() as nursery:
            nursery.start_soon(trio.sleep, 3.0)
            nursery.start_soon(world.sleep, 2.0)
        times.append(trio.current_time())
        return times

    assert SimWorld().run(main) == [5000.0, 5007.0, 5010.0]


def test_a_thread_is_not_part_of_a_simulation() -> None:
    async def main(world: World) -> None:
        async with world.nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, lambda: None)
            while True:
                await world.sleep(0.001)

    with pytest.raises(UnscheduledStep, match="woken from outside the simulation"):
        SimWorld(turns_max=10_000_000).run(main)


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
def test_generators_that_are_dropped_are_no_threads() -> None:
    async def main(world: World) -> None:
        async def numbers() -> Any:
            try:
                while True:
                    yield 1
            finally:
                await world.sleep(0.001)

        for _ in range(3):
            async for _ in numbers():
                break
            await world.sleep(1.0)

    SimWorld().run(main)


@pytest.mark.parametrize("schedule", [Fifo(), Shuffled(1)], ids=["fifo", "shuffled"])
def test_a_deadlock_is_named_and_actors_still_stop_in_order(schedule: Schedule) -> None:
    stopped: list[float] = []

    class Stops(Memory):
        async def on_stop(self) -> None:
            await self.world.sleep(0.5)
            stopped.append(self.world.monotonic())

    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            system.spawn(Stops, "stops")
            await world.sleep(1.0)
            await world.event("nothing comes").wait()

    with pytest.raises(SimulationDeadlock, match=r"waiting: main for `nothing comes`; idle actors: /stops$"):
        SimWorld(schedule=schedule).run(main)
    assert stopped == [1.5]


def test_a_deadlock_in_the_clean_up_ends_too() -> None:
    class Hangs(Memory):
        async def on_stop(self) -> None:
            with trio.CancelScope(shield=True):
                await self.world.event("never").wait()

    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            system.spawn(Hangs, "hangs")
            await world.sleep(1.0)
            await world.event("nothing comes").wait()

    with pytest.raises(SimulationDeadlock, match="nothing comes"):
        SimWorld().run(main)


def test_a_run_that_does_not_end_is_cut_short() -> None:
    async def turns(world: World) -> None:
        async with ActorSystem.open(world) as system:
            ref = system.spawn(Memory, "memory")
            while True:
                await ref.ask(Load())

    async def passes(world: World) -> None:
        while True:
            await trio.lowlevel.checkpoint()

    async def retries(world: World) -> None:
        async with ActorSystem.open(world) as system:
            while True:
                try:
                    await system.ref("/nobody").ask(Load())
                except Exception:
                    await world.sleep(0.0)

    for main in (turns, passes, retries):
        with pytest.raises(SimulationTooLong):
            SimWorld(turns_max=500).run(main)


def test_a_run_in_a_circle_is_told_from_a_slow_one_and_says_who_waits() -> None:
    class Stuck(Memory):
        @handles(Load)
        async def load(self, _: Load) -> int:  # type: ignore[override]
            await self.world.event("its turn").wait()
            return 0

    async def asks_and(world: World, goes_on: Callable[[int], str]) -> None:
        async with ActorSystem.open(world) as system:
            system.spawn(Memory, "idle")
            stuck = system.spawn(Stuck, "stuck")
            async with world.nursery() as nursery:
                nursery.start_soon(stuck.ask, Load(), 1e6, name="asker")
                for number in count():
                    await world.sleep(0.01, goes_on(number))

    with pytest.raises(SimulationTooLong) as circle:
        SimWorld(turns_max=500).run(lambda world: asks_and(world, lambda _: "polls"))
    text = str(circle.value)
    assert "in its last 250 turns, in which 2.500 s went by, it did the same again and again" in text
    assert text.endswith(
        "so it will never end by itself: `polls`; waiting: /stuck for `its turn`,"
        " asker for `outside asks /stuck`, main for `polls`; idle actors: /idle"
    )
    with pytest.raises(SimulationTooLong, match=r"may only be slow \(`turns_max` allows more\)"):
        SimWorld(turns_max=500).run(lambda world: asks_and(world, lambda number: f"step {number}"))


def test_a_sleep_costs_one_turn_and_may_be_cancelled_while_its_end_is_ready() -> None:
    async def main(world: World) -> tuple[int, bool]:
        assert isinstance(world, SimWorld)
        before = world.steps
        for _ in range(10):
            await world.sleep(1.0)
            await world.sleep(0.0)
        turns = world.steps - before
        slept = False

        async def sleeper() -> None:
            nonlocal slept
            with scope:
                await world.sleep(1.0)
                slept = True

        scope = trio.CancelScope()
        async with world.nursery() as nursery:
            # Both are due at the same moment, and this one is first.
            world.call_later(1.0, scope.cancel)
            nursery.start_soon(sleeper)
        return turns, slept

    assert SimWorld().run(main) == (20, False)


def test_an_error_in_main_or_in_a_timer_is_raised_bare() -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            system.spawn(Memory, "memory")
            await world.sleep(1.0)
            raise KeyError("in main") from ValueError("why")

    with pytest.raises(KeyError, match="in main") as raised:
        SimWorld().run(main)
    assert isinstance(raised.value.__cause__, ValueError)

    def fail() -> None:
        raise KeyError("in a timer")

    async def timer(world: World) -> None:
        async with ActorSystem.open(world) as system:
            system.spawn(Memory, "memory")
            world.call_later(1.0, fail)
            await world.sleep(5.0)

    with pytest.raises(KeyError, match="in a timer"):
        SimWorld().run(timer)


def test_a_cancelled_wait_is_undone_whichever_came_first() -> None:
    """In one turn an event is set and its waiter cancelled: it is woken once, in either order."""

    async def main(world: World) -> list[str]:
        outcomes = []
        for set_first in (True, False):
            event = world.event()
            scope = trio.CancelScope()

            async def wait(event: Any = event, scope: trio.CancelScope = scope) -> None:
                with scope:
                    await event.wait()
                    outcomes.append("woken")
                    await world.sleep(0.0)
                    outcomes.append("not cancelled")
                if scope.cancelled_caught:
                    outcomes.append("cancelled")

            async with world.nursery() as nursery:
                nursery.start_soon(wait)
                await world.sleep(0.1)
                for act in (event.set, scope.cancel) if set_first else (scope.cancel, event.set):
                    act()
        return outcomes

    assert SimWorld().run(main) == ["woken", "cancelled"] * 2


def test_a_signal_raised_for_a_cancelled_waiter_is_not_lost() -> None:
    async def main(world: World) -> None:
        signal = world.signal()
        with world.limit(1.0):
            await signal.wait()
        signal.set()
        await signal.wait()

    SimWorld().run(main)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "cancel", "pop"]), st.integers(0, 20)), max_size=400))
def test_the_timer_heap_is_a_sorted_list(operations: list[tuple[str, int]]) -> None:
    heap, model, added = TimerHeap(), [], []
    for operation, number in operations:
        if operation == "add":
            timer = Timer(float(number), lambda: None, str(len(added)))
            added.append(timer)
            model.append(timer)
            heap.add(timer)
        elif operation == "cancel" and added:
            timer = added[number % len(added)]
            timer.cancel()
            model = [t for t in model if t is not timer]
        else:
            model.sort(key=lambda t: t.due)
            due = model.pop(0) if model and model[0].due <= number else None
            assert heap.pop_due(float(number)) is due
        assert heap.next_due() == (min(t.due for t in model) if model else None)
        assert len(heap) <= 2 * len(model) + TimerHeap.KEPT_CANCELLED + 1


def test_a_thousand_asks_leave_no_heap_of_deadlines() -> None:
    async def main(world: World) -> int:
        async with ActorSystem.open(world) as system:
            ref = system.spawn(Memory, "memory")
            for _ in range(1000):
                await ref.ask(Load())
            return len(world.dispatcher._heap)  # type: ignore[attr-defined]

    assert SimWorld().run(main) <= 130


def test_an_ask_across_hosts_takes_time_both_ways() -> None:
    async def main(world: World) -> float:
        async with ActorSystem.open(world) as system:
            ref = system.spawn(Memory, "memory", host="there")
            await ref.ask(Load())
            with pytest.raises(AskTimeout):
                await ref.ask(Load(), 0.015)
            return world.monotonic()

    assert SimWorld(latency_seconds=0.01).run(main) == pytest.approx(0.035)
