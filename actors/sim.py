"""The simulated world: one turn at a time, in an order that a schedule says, in virtual time.

A turn lasts from one wake-up until no Trio task can run. Between turns the driver chooses the next from the
ready set, and when that is empty it advances the clock to the next timer. The trace of turns has a hash: the
same code and the same plan give the same hash in any process.

Owned here: the ready set, the timer heap, the clock. Trio's own deadlines (of foreign libraries) read the
same clock and fall due between turns.
"""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from importlib.resources import files
from typing import Any, TypeVar

import trio
from attrs import define, field
from outcome import Outcome, Value, capture

from . import _trio
from .dispatch import Dispatcher, Timer, TimerHeap, Waiter
from .schedule import Fifo, Schedule
from .world import EPOCH, KeyProvider, World, wall_clock

T = TypeVar("T")


class SimulationDeadlock(Exception):
    """Nothing is ready and no timer is set, but the run has not ended; names who waits for what."""


class SimulationOver(Exception):
    """A task waits although its simulation has ended: it outlived the main function."""


class SimulationTooLong(Exception):
    """The run took more turns than it was allowed."""


class UnscheduledStep(Exception):
    """A task ran outside any turn: it waited on something that is not the World's."""


@define(eq=False)
class VirtualClock(trio.abc.Clock):
    """Trio's clock in a simulation: moves only when the driver moves it."""

    seconds: float = 0.0

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self.seconds

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return 0.0 if deadline <= self.seconds else 1e9


@define(eq=False)
class _Turn:
    label: str
    run: Callable[[], None]


@define(eq=False)
class SimDispatcher(Dispatcher):
    """The ready set and the driver that takes one turn at a time."""

    schedule: Schedule
    turns_max: int
    observe: Callable[[int, float, str], None] | None = None
    clock: VirtualClock = field(factory=VirtualClock)
    steps: int = 0
    """Turns taken so far."""
    in_turn: bool = False
    closed: bool = False
    """Set when the run has ended, well or not: from then on waits end at once."""
    _ready: list[_Turn] = field(factory=list)
    _cancelled: list[tuple[int, _Turn]] = field(factory=list)
    _parked: dict[Waiter, None] = field(factory=dict)
    _heap: TimerHeap = field(factory=TimerHeap)
    _hash: Any = field(factory=lambda: hashlib.blake2b(digest_size=16))

    def monotonic(self) -> float:
        return self.clock.seconds

    def wake(self, waiter: Waiter, outcome: Outcome[Any] | None = None) -> None:
        assert not waiter.woken, f"{waiter.label} is woken twice"
        waiter.woken = True
        self._ready.append(self._resume(waiter, outcome if outcome is not None else Value(None)))

    def _resume(self, waiter: Waiter, outcome: Outcome[Any]) -> _Turn:
        def run() -> None:
            assert waiter.task is not None, f"{waiter.label} is woken before it waits"
            self._parked.pop(waiter, None)
            trio.lowlevel.reschedule(waiter.task, outcome)

        return _Turn(waiter.label, run)

    async def park(self, waiter: Waiter, on_cancel: Callable[[], None]) -> Any:
        if self.closed:
            raise SimulationOver(f"{waiter.label} waits after the end of its simulation")
        task = waiter.task = trio.lowlevel.current_task()
        self._parked[waiter] = None

        def abort(raise_cancel: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            # FAILED: the task stays parked and the cancellation takes its turn like any wake-up. When one
            # is on its way already, that one comes first and the next wait is cancelled instead.
            if self.closed:
                on_cancel()
                return trio.lowlevel.Abort.SUCCEEDED
            if not waiter.woken:
                waiter.woken = True
                on_cancel()
                turn = self._resume(waiter, capture(raise_cancel))
                turn.label += " cancelled"
                # Trio cancels the tasks of a scope in set order: `_settle` sorts them by creation.
                self._cancelled.append((_trio.creation_order(task), turn))
            return trio.lowlevel.Abort.FAILED

        return await trio.lowlevel.wait_task_rescheduled(abort)

    def call_later(self, delay_seconds: float, action: Callable[[], None], label: str) -> Timer:
        timer = Timer(self.clock.seconds + max(0.0, delay_seconds), action, label)
        self._heap.add(timer)
        return timer

    async def turn(self, label: str) -> None:
        waiter = Waiter(label, woken=True)
        self._ready.append(self._resume(waiter, Value(None)))
        await self.park(waiter, _nothing)

    def close(self) -> None:
        """The run is over: nobody takes turns any more, so cancellation must reach every task by itself."""
        self.closed = True
        self._settle()
        for turn in self._ready:
            turn.run()
        self._ready.clear()

    def note(self, kind: str, what: str) -> None:
        self._hash.update(f"{kind}\0{what}\n".encode())
        if self.observe is not None:
            self.observe(self.steps, self.clock.seconds, f"{kind} {what}")

    def trace_hash(self) -> str:
        """A digest of everything that happened so far, in order."""
        digest = self._hash.hexdigest()
        assert isinstance(digest, str)
        return digest

    def _settle(self) -> None:
        self._cancelled.sort(key=lambda pair: pair[0])
        self._ready.extend(turn for _, turn in self._cancelled)
        self._cancelled.clear()

    async def drive(self, finished: Callable[[], bool]) -> None:
        """Take turns until `finished` says so."""
        # Imported here: it brings pytest along where that is installed, and only simulations need it.
        from trio.testing import wait_all_tasks_blocked

        while True:
            self.in_turn = True
            await wait_all_tasks_blocked()
            self.in_turn = False
            self._settle()
            if finished():
                return
            if not self._ready:
                self._advance()
                continue
            if self.steps >= self.turns_max:
                raise SimulationTooLong(
                    f"over {self.turns_max} turns, at {self.clock.seconds:.3f} s virtual time"
                )
            index = self.schedule.choose(self.steps, len(self._ready))
            turn = self._ready.pop(index)
            self.steps += 1
            self.note(f"{self.clock.seconds:.6f}", turn.label)
            turn.run()

    def _advance(self) -> None:
        """Nothing can run: move the clock to whatever is due next."""
        statistics = trio.lowlevel.current_statistics()
        trio_due = self.clock.seconds + statistics.seconds_to_next_deadline
        ours = self._heap.next_due()
        due = trio_due if ours is None else min(ours, trio_due)
        if due == float("inf"):
            waiting = ", ".join(sorted(w.label for w in self._parked)) or "nobody"
            raise SimulationDeadlock(f"nothing will ever happen again; waiting: {waiting}")
        self.clock.seconds = max(self.clock.seconds, due)
        while (timer := self._heap.pop_due(self.clock.seconds)) is not None:
            self._ready.append(_Turn(timer.label, _firing(timer)))


def _firing(timer: Timer) -> Callable[[], None]:
    def fire() -> None:
        # Cancelled between falling due and its turn: nothing happens, as with any cancelled timer.
        action, timer.action = timer.action, None
        if action is not None:
            action()

    return fire


def _nothing() -> None:
    pass


class FixedKeys(KeyProvider):
    """One committed test key for every name: signatures repeat, and no time is spent on making keys."""

    async def rsa_private_key(self, name: str) -> bytes:
        return files("understudy.actors").joinpath("simulation_key.pem").read_bytes()


class _TurnGuard(trio.abc.Instrument):
    """Fails a simulation in which a task runs outside a turn."""

    def __init__(self, dispatcher: SimDispatcher) -> None:
        self.dispatcher = dispatcher
        self.driver: trio.lowlevel.Task | None = None
        self.violation: str | None = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        sim = self.dispatcher
        if not (sim.in_turn or sim.closed or self.driver in (None, task)):
            self.violation = self.violation or task.name


class SimWorld(World):
    """A world in virtual time. One world is one run: `SimWorld(seed).run(main)`."""

    def __init__(
        self,
        seed: int = 0,
        schedule: Schedule | None = None,
        *,
        turns_max: int = 10_000_000,
        latency_seconds: float = 0.0005,
        observe: Callable[[int, float, str], None] | None = None,
    ) -> None:
        """`latency_seconds` is how long a message takes between two hosts."""
        self._sim = SimDispatcher(schedule or Fifo(), turns_max, observe)
        super().__init__(self._sim, seed)
        self.keys = FixedKeys()
        self.latency_seconds = latency_seconds

    @property
    def simulated(self) -> bool:
        return True

    def hop_seconds(self, source: str, target: str) -> float | None:
        return None if source == target else self.latency_seconds

    @property
    def steps(self) -> int:
        """Turns taken so far."""
        return self._sim.steps

    def now(self) -> datetime:
        return wall_clock(EPOCH, self.monotonic())

    def trace_hash(self) -> str:
        """A digest of every turn of the run so far."""
        return self._sim.trace_hash()

    def run(self, main: Callable[["SimWorld"], Awaitable[T]]) -> T:
        """Run `main` to its end in virtual time; returns its result.

        Raises:
            SimulationDeadlock: nothing was left that could ever run.
            SimulationTooLong: `turns_max` was reached.
            UnscheduledStep: a task waited on something that is not the World's.
        """
        guard = _TurnGuard(self._sim)
        result: list[T] = []

        async def root() -> None:
            async with trio.open_nursery() as nursery:
                done = False

                async def body() -> None:
                    nonlocal done
                    try:
                        await self._sim.turn("main")
                        result.append(await main(self))
                    finally:
                        done = True

                guard.driver = trio.lowlevel.current_task()
                nursery.start_soon(body, name="main")
                try:
                    await self._sim.drive(lambda: done)
                finally:
                    self._sim.close()
                    nursery.cancel_scope.cancel()

        with _trio.pinned_batch_order():
            try:
                trio.run(root, clock=self._sim.clock, instruments=[guard])
            except BaseExceptionGroup as group:
                raise _only(group) from None
        if guard.violation is not None:
            raise UnscheduledStep(
                f"task {guard.violation} ran outside any turn: it may only wait on the World"
            )
        return result[0]


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception inside nested groups of one, or the group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
