"""Turns: the dispatcher of a simulated world, one wake-up at a time in an order that a schedule says.

A turn lasts from one wake-up until no Trio task can run. Then, before Trio would look for I/O, the next one
is chosen from the ready set, and when that is empty the clock is moved to the next timer. The trace of turns
has a hash: the same code and the same plan give the same hash in any process.

Owned here: the ready set, the timer heap, the clock. Trio's own deadlines (of foreign libraries) read the
same clock and fall due between turns.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Sized
from typing import Any, ClassVar

import trio
from attrs import define, field
from outcome import Error, Outcome, Value, capture

from . import _trio
from .dispatch import Dispatcher, SimulationOver, Timer, TimerHeap, Waiter
from .ref import current_cell
from .schedule import Schedule
from .sim_hosts import HostClock
from .stuck import turns_in_words, waits_in_words
from .virtual_time import VirtualClock

PASSES_MAX = 100_000
"""Passes of Trio's loop in one turn: a task that needs more never comes to rest."""

LOOKED_AT = 1_000
"""Turns before the last one allowed that are looked at, to say what the run was about."""

WIND_DOWN_TURNS = 100_000
"""Turns that a failed run may still take to end what it started in order."""

_NOTES_HELD = 512
"""Notes that are hashed together."""


class SimulationDeadlock(Exception):
    """Nothing is ready and no timer is set, but the run has not ended; names who waits for what."""


class SimulationTooLong(Exception):
    """The run took more turns than it was allowed; says whether it went round in a circle, and who waits."""


class UnscheduledStep(Exception):
    """A task was woken from outside the simulation (by a thread, a socket, a process), so no turn did it."""


@define(eq=False)
class Resume:
    """A turn that resumes a parked task."""

    sim: "SimDispatcher"
    waiter: Waiter
    outcome: Outcome[Any] | None
    """None stands for the value None."""
    label: str

    def fire(self) -> None:
        waiter = self.waiter
        assert waiter.task is not None, f"{waiter.label} is woken before it waits"
        del self.sim._parked[waiter]
        if self.outcome is None:
            trio.lowlevel.reschedule(waiter.task)
        else:
            trio.lowlevel.reschedule(waiter.task, self.outcome)


@define(eq=False)
class Alarm(Timer):
    """A timer whose turn is that of the task which sleeps: not one turn for the timer and one to wake it."""

    sim: "SimDispatcher | None" = None
    waiter: Waiter | None = None

    def fire(self) -> None:
        if self.action is not None:
            self.action = None
            assert self.sim is not None and self.waiter is not None, self.label
            self.waiter.woken = True
            Resume(self.sim, self.waiter, None, self.label).fire()


def task_of(turn: Resume | Timer) -> trio.lowlevel.Task | None:
    """The task that a turn resumes; None: it is a call of a timer's."""
    waiter = turn.waiter if isinstance(turn, Resume | Alarm) else None
    return None if waiter is None else waiter.task


@define(eq=False)
class _Abort:
    """A cancellation that was asked for in the current turn."""

    order: int
    """Trio cancels the tasks of a scope in set order; this is the order of their creation."""
    waiter: Waiter
    on_cancel: Callable[[], None]
    raise_cancel: Callable[[], Any]


def _nothing() -> None:
    pass


@define(eq=False)
class SimDispatcher(Dispatcher):
    """The ready set, and `take_turn`, which Trio's loop calls before each of its passes."""

    traced: ClassVar[bool] = True
    schedule: Schedule
    turns_max: int
    observe: Callable[[int, float, str], None] | None = None
    clock: VirtualClock = field(factory=VirtualClock)
    steps: int = 0
    """Turns taken so far."""
    closed: bool = False
    """Set when the run has ended and some task has not: from then on waits end at once."""
    violation: str | None = None
    """The first task that was woken from outside the simulation."""
    _ready: deque["Resume | Timer"] = field(factory=deque)
    _cancelled: list[_Abort] = field(factory=list)
    _parked: dict[Waiter, None] = field(factory=dict)
    _heap: TimerHeap = field(factory=TimerHeap)
    _hash: Any = field(factory=lambda: hashlib.blake2b(digest_size=16))
    _notes: list[str] = field(factory=list)
    _last: list[tuple[float, str]] = field(factory=list)
    """When the last turns before too many were taken, and what they were."""
    _passes: int = 0
    """Passes of Trio's loop in this turn so far."""
    _taking: bool = False
    """A turn is being chosen and begun: whoever is woken now is not woken from outside."""
    cut_short: Callable[[], None] = _nothing
    """Cancels the run's main function."""
    failure: BaseException | None = None
    """Why the run is being cut short."""
    _time_text: tuple[float, str] = (-1.0, "")
    clocks: dict[str, HostClock] = field(factory=dict)
    """Of hosts whose clocks are not, or were not always, the world's."""
    paused: dict[str, list["Resume | Timer"]] = field(factory=dict)
    """By host on which nothing goes on: what has become ready there."""

    def monotonic(self) -> float:
        if self.clocks:
            clock = self.clocks.get(host_here() or "")
            if clock is not None:
                return clock.monotonic(self.clock.seconds)
        return self.clock.seconds

    def wake(self, waiter: Waiter, outcome: Outcome[Any] | None = None) -> None:
        if self.closed:
            return
        assert not waiter.woken, f"{waiter.label} is woken twice"
        waiter.woken = True
        self._ready.append(Resume(self, waiter, outcome, waiter.label))

    async def park(self, waiter: Waiter, on_cancel: Callable[[], None]) -> Any:
        return (await self.park_to_lend(waiter, on_cancel)).unwrap()

    async def park_to_lend(self, waiter: Waiter, on_cancel: Callable[[], None]) -> Outcome[Any]:
        if self.closed:
            on_cancel()
            raise SimulationOver(f"{waiter.label} waits after the end of its simulation")
        task = waiter.task = trio.lowlevel.current_task()
        self._parked[waiter] = None

        def abort(raise_cancel: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            if self.closed:
                if not waiter.woken:
                    waiter.woken = True
                    on_cancel()
                self._parked.pop(waiter, None)
                return trio.lowlevel.Abort.SUCCEEDED
            # FAILED: the task stays parked and the cancellation takes its turn like any wake-up. When one
            # is on its way already, that one comes first and the next wait is cancelled instead.
            if not waiter.woken:
                self._cancelled.append(_Abort(_trio.creation_order(task), waiter, on_cancel, raise_cancel))
            return trio.lowlevel.Abort.FAILED

        # Two frames fewer than Trio's own, in every turn.
        outcome: Outcome[Any] = await _trio.wait_to_lend(abort)
        return outcome

    def call_later(self, delay_seconds: float, action: Callable[[], None], label: str) -> Timer:
        host = host_here()
        if self.clocks and host in self.clocks:
            delay_seconds = self.clocks[host].true_delay(delay_seconds)
        return self._add(delay_seconds, action, label, host)

    def wake_later(self, delay_seconds: float, waiter: Waiter) -> Timer:
        host = host_here()
        if self.clocks and host in self.clocks:
            delay_seconds = self.clocks[host].true_delay(delay_seconds)
        due = self.clock.seconds + max(0.0, delay_seconds)
        return self._put(Alarm(due, _nothing, waiter.label, None, host, self, waiter), delay_seconds)

    def after(self, delay_seconds: float, action: Callable[[], None], label: str) -> Timer:
        """`call_later` of the world itself: by true time, whoever asks for it, and on no host."""
        return self._add(delay_seconds, action, label, None)

    def _add(self, delay_seconds: float, action: Callable[[], None], label: str, host: str | None) -> Timer:
        timer = Timer(self.clock.seconds + max(0.0, delay_seconds), action, label, None, host)
        return self._put(timer, delay_seconds)

    def _put(self, timer: Timer, delay_seconds: float) -> Timer:
        if delay_seconds <= 0.0:
            # Due now: it need not wait until nobody can run, which a busy loop would put off forever.
            self._ready.append(timer)
        else:
            self._heap.add(timer)
        return timer

    async def settle(self) -> None:
        """Wait until nobody is ready, without time passing."""
        waiter = Waiter("settle")
        # Past `call_later`, which would make it ready now.
        timer = Timer(self.clock.seconds, lambda: self.wake(waiter), waiter.label)
        self._heap.add(timer)
        await self.park(waiter, timer.cancel)

    async def turn(self, label: str) -> None:
        waiter = Waiter(label, None, True)
        self._ready.append(Resume(self, waiter, None, label))
        await self.park(waiter, _nothing)

    def close(self) -> None:
        """The run is over: nobody takes turns any more, so cancellation must reach every task by itself."""
        self._settle()
        self.closed = True
        for turn in self._ready:
            if isinstance(turn, Resume):
                turn.fire()
        self._ready.clear()
        # A shielded wait hears of no cancellation, and nobody is left to wake it.
        for waiter in list(self._parked):
            assert waiter.task is not None
            waiter.woken = True
            over = SimulationOver(f"{waiter.label} waits at the end of its simulation")
            trio.lowlevel.reschedule(waiter.task, Error(over))
        self._parked.clear()

    def note(self, kind: str, what: str) -> None:
        self._notes.append(f"{kind}\0{what}\n")
        if self.observe is not None:
            self.observe(self.steps, self.clock.seconds, f"{kind} {what}")

    def _hash_notes(self) -> None:
        self._hash.update("".join(self._notes).encode())
        self._notes.clear()

    def trace_hash(self) -> str:
        """A digest of everything that happened so far, in order."""
        self._hash_notes()
        digest = self._hash.hexdigest()
        assert isinstance(digest, str)
        return digest

    def _settle(self) -> None:
        """Turn the cancellations of this turn into turns; unlinking a waiter may cancel others in turn."""
        while self._cancelled:
            batch, self._cancelled = self._cancelled, []
            batch.sort(key=lambda abort: abort.order)
            for abort in batch:
                waiter = abort.waiter
                # Somebody may have woken it later in the same turn: then that wake-up comes first.
                if not waiter.woken:
                    waiter.woken = True
                    abort.on_cancel()
                    cancelled = capture(abort.raise_cancel)
                    self._ready.append(Resume(self, waiter, cancelled, f"{waiter.label} cancelled"))

    @trio.lowlevel.enable_ki_protection
    def take_turn(self) -> bool:
        """Called before each pass of Trio's loop: when nobody can run, somebody gets the next turn.

        Returns whether anything is to be done in that pass.
        """
        runnable = _trio.runnable_tasks()
        if runnable:
            self._passes += 1
            if self._passes >= PASSES_MAX:
                self._passes = 0
                self._fail(SimulationTooLong(f"a turn that does not end: {PASSES_MAX} passes of Trio's loop"))
            return True
        self._passes = 0
        self._taking = True
        while not self.closed:
            try:
                if self._next(runnable):
                    break
            except BaseException as error:
                self._fail(error)
        self._taking = False
        return not self.closed or bool(runnable)

    def _next(self, runnable: Sized) -> bool:
        """One step towards the next pass; returns whether there is something to do in it."""
        if self._cancelled:
            self._settle()
            return bool(runnable)
        if self.violation is not None:
            raise self.unscheduled()
        if self.paused:
            self._set_aside()
        ready = self._ready
        if not ready:
            return self._advance()
        looked_at = self.turns_max - self.steps <= LOOKED_AT
        if looked_at and self.steps >= self.turns_max:
            raise self._too_long()
        index = self.schedule.choose(self.steps, len(ready))
        if index:
            assert 0 < index < len(ready), f"the schedule chose turn {index} of {len(ready)}"
            turn = ready[index]
            del ready[index]
        else:
            turn = ready.popleft()
        if looked_at:
            self._last.append((self.clock.seconds, turn.label))
        self._count(turn.label)
        if type(turn) is Resume:
            waiter = turn.waiter
            assert waiter.task is not None, f"{waiter.label} is woken before it waits"
            del self._parked[waiter]
            _trio.step(waiter.task, Value(None) if turn.outcome is None else turn.outcome)
        else:
            turn.fire()
        return bool(runnable)

    def _fail(self, error: BaseException) -> None:
        """Cut the run short. What it has started still ends in order, if it can."""
        if self.failure is not None:
            self.close()
            return
        self.failure = error
        self.violation = None
        self.turns_max = self.steps + WIND_DOWN_TURNS
        self.cut_short()

    async def come_to_rest(self) -> None:
        """Let everybody else run who can, when the run has ended; and close."""
        runnable, passes = _trio.runnable_tasks(), 0
        while runnable and passes < PASSES_MAX:
            passes += 1
            await _trio.yield_to_others()
        if self.violation is not None and self.failure is None:
            self.failure = self.unscheduled()
        if not self.closed:
            self.close()

    def unscheduled(self) -> UnscheduledStep:
        return UnscheduledStep(
            f"task {self.violation} was woken from outside the simulation:"
            " threads, sockets and processes belong in real adapters only"
        )

    def _too_long(self) -> SimulationTooLong:
        # Of a short run not what it began with.
        last = self._last[-max(1, self.turns_max // 2) :]
        now, labels = self.clock.seconds, [label for _, label in last]
        since = last[0][0] if last else now
        return SimulationTooLong(
            f"over {self.turns_max} turns, at {now:.3f} s virtual time;"
            f" {turns_in_words(labels, now - since)}; {waits_in_words(self._parked)}"
        )

    def _set_aside(self) -> None:
        """Take what is ready on paused hosts out of the ready set."""
        going_on: list[Resume | Timer] = []
        for turn in self._ready:
            if isinstance(turn, Timer):
                host = turn.host
            else:
                task = task_of(turn)
                cell = None if task is None else task.context.get(current_cell)
                host = None if cell is None else cell.host
            self.paused.get(host or "", going_on).append(turn)
        self._ready.clear()
        self._ready.extend(going_on)

    def resume(self, host: str) -> None:
        """What became ready on a paused host is ready now."""
        self._ready.extend(self.paused.pop(host, ()))

    def _count(self, label: str) -> None:
        self.steps += 1
        if len(self._notes) >= _NOTES_HELD:
            self._hash_notes()
        now = self.clock.seconds
        if self._time_text[0] != now:
            self._time_text = (now, f"{now:.6f}")
        if self.observe is not None:
            self.note(self._time_text[1], label)
        else:
            self._notes.append(f"{self._time_text[1]}\0{label}\n")

    def _advance(self) -> bool:
        """Nothing can run: move the clock to what is due next; True: it is one of Trio's own deadlines."""
        foreign, ours = _trio.next_deadline(), self._heap.next_due()
        due = foreign if ours is None else min(ours, foreign)
        if due == float("inf"):
            raise SimulationDeadlock(f"nothing will ever happen again; {waits_in_words(self._parked)}")
        self.clock.seconds = max(self.clock.seconds, due)
        if foreign <= self.clock.seconds:
            self._count("deadline of foreign code")
        while (timer := self._heap.pop_due(self.clock.seconds)) is not None:
            assert isinstance(timer, Timer), timer
            self._ready.append(timer)
        return foreign <= self.clock.seconds


def host_here() -> str | None:
    """The host of the actor on whose behalf the running task acts."""
    cell = current_cell.get()
    return None if cell is None else cell.host


class TurnGuard(trio.abc.Instrument):
    """Notices a task that is woken by anything but a turn: the outcome would depend on the machine."""

    def __init__(self, dispatcher: SimDispatcher) -> None:
        self.dispatcher = dispatcher

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        sim = self.dispatcher
        if not (sim._taking or sim.closed or sim.failure) and _trio.woken_from_outside(task):
            sim.violation = sim.violation or task.name
