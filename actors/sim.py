"""The simulated world: one turn at a time, in an order that a schedule says, in virtual time.

A turn lasts from one wake-up until no Trio task can run. Between turns the driver chooses the next from the
ready set, and when that is empty it advances the clock to the next timer. The trace of turns has a hash: the
same code and the same plan give the same hash in any process.

Owned here: the ready set, the timer heap, the clock. Trio's own deadlines (of foreign libraries) read the
same clock and fall due between turns.
"""

import hashlib
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from importlib.resources import files
from typing import Any, ClassVar, TypeVar

import trio
from attrs import define, field
from outcome import Error, Outcome, Value, acapture, capture

from . import _trio
from .dispatch import Dispatcher, SimulationOver, Timer, TimerHeap, Waiter
from .host_network import HostNetwork, LinkConditions
from .ref import current_cell
from .schedule import Fifo, Schedule
from .sim_disk import SimDisk
from .sim_hosts import HostClock, SimHost
from .world import EPOCH, KeyProvider, World, wall_clock

T = TypeVar("T")

PASSES_MAX = 100_000
"""Passes of Trio's loop in one turn: a task that needs more never comes to rest."""

WIND_DOWN_TURNS = 100_000
"""Turns that a failed run may still take to end what it started in order."""

_NOTES_HELD = 512
"""Notes that are hashed together."""


class SimulationDeadlock(Exception):
    """Nothing is ready and no timer is set, but the run has not ended; names who waits for what."""


class SimulationTooLong(Exception):
    """The run took more turns than it was allowed."""


class UnscheduledStep(Exception):
    """A task was woken from outside the simulation (by a thread, a socket, a process), so no turn did it."""


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
class _Resume:
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
class _Abort:
    """A cancellation that was asked for in the current turn."""

    order: int
    """Trio cancels the tasks of a scope in set order; this is the order of their creation."""
    waiter: Waiter
    on_cancel: Callable[[], None]
    raise_cancel: Callable[[], Any]


@define(eq=False)
class SimDispatcher(Dispatcher):
    """The ready set and the driver that takes one turn at a time.

    The driver is a Trio task of its own. A turn makes tasks runnable; the driver then yields to Trio, which
    runs it last of everything that is runnable, until nobody else is.
    """

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
    _ready: deque["_Resume | Timer"] = field(factory=deque)
    _cancelled: list[_Abort] = field(factory=list)
    _parked: dict[Waiter, None] = field(factory=dict)
    _heap: TimerHeap = field(factory=TimerHeap)
    _hash: Any = field(factory=lambda: hashlib.blake2b(digest_size=16))
    _notes: list[str] = field(factory=list)
    _foreign_due: bool = False
    """One of Trio's own deadlines has come."""
    _time_text: tuple[float, str] = (-1.0, "")
    clocks: dict[str, HostClock] = field(factory=dict)
    """Of hosts whose clocks are not, or were not always, the world's."""
    paused: dict[str, list["_Resume | Timer"]] = field(factory=dict)
    """By host on which nothing goes on: what has become ready there."""

    def monotonic(self) -> float:
        if self.clocks:
            clock = self.clocks.get(_host_here() or "")
            if clock is not None:
                return clock.monotonic(self.clock.seconds)
        return self.clock.seconds

    def wake(self, waiter: Waiter, outcome: Outcome[Any] | None = None) -> None:
        if self.closed:
            return
        assert not waiter.woken, f"{waiter.label} is woken twice"
        waiter.woken = True
        self._ready.append(_Resume(self, waiter, outcome, waiter.label))

    async def park(self, waiter: Waiter, on_cancel: Callable[[], None]) -> Any:
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

        return await trio.lowlevel.wait_task_rescheduled(abort)

    def call_later(self, delay_seconds: float, action: Callable[[], None], label: str) -> Timer:
        host = _host_here()
        if self.clocks and host in self.clocks:
            delay_seconds = self.clocks[host].true_delay(delay_seconds)
        return self._add(delay_seconds, action, label, host)

    def after(self, delay_seconds: float, action: Callable[[], None], label: str) -> Timer:
        """`call_later` of the world itself: by true time, whoever asks for it, and on no host."""
        return self._add(delay_seconds, action, label, None)

    def _add(self, delay_seconds: float, action: Callable[[], None], label: str, host: str | None) -> Timer:
        timer = Timer(self.clock.seconds + max(0.0, delay_seconds), action, label, None, host)
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
        self._ready.append(_Resume(self, waiter, None, label))
        await self.park(waiter, _nothing)

    def close(self) -> None:
        """The run is over: nobody takes turns any more, so cancellation must reach every task by itself."""
        self._settle()
        self.closed = True
        for turn in self._ready:
            if isinstance(turn, _Resume):
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
        if len(self._notes) >= _NOTES_HELD:
            self._hash_notes()
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
                    self._ready.append(_Resume(self, waiter, cancelled, f"{waiter.label} cancelled"))

    async def drive(self, finished: Callable[[], bool]) -> None:
        """Take turns until `finished` says so."""
        ready = self._ready
        runnable = _trio.runnable_tasks()
        fifo = isinstance(self.schedule, Fifo)
        while True:
            passes = 0
            while runnable or self._foreign_due or self._cancelled:
                if passes >= PASSES_MAX:
                    raise SimulationTooLong(f"a turn that does not end: {passes} passes of Trio's loop")
                passes += 1
                await _trio.yield_to_others()
                self._foreign_due = False
                if not runnable:
                    self._settle()
            if self.violation is not None:
                raise UnscheduledStep(
                    f"task {self.violation} was woken from outside the simulation:"
                    " threads, sockets and processes belong in real adapters only"
                )
            if finished():
                return
            if self.paused:
                self._set_aside()
            if not ready:
                self._advance()
                continue
            if self.steps >= self.turns_max:
                raise SimulationTooLong(
                    f"over {self.turns_max} turns, at {self.clock.seconds:.3f} s virtual time"
                )
            if fifo:
                turn = ready.popleft()
            else:
                index = self.schedule.choose(self.steps, len(ready))
                assert 0 <= index < len(ready), f"the schedule chose turn {index} of {len(ready)}"
                turn = ready[index]
                del ready[index]
            self._count(turn.label)
            turn.fire()
            if not self.steps % 256:
                # The driver is Trio's main task, which gets the keyboard's interrupts.
                await trio.lowlevel.checkpoint_if_cancelled()

    def _set_aside(self) -> None:
        """Take what is ready on paused hosts out of the ready set."""
        going_on: list[_Resume | Timer] = []
        for turn in self._ready:
            if isinstance(turn, Timer):
                host = turn.host
            else:
                task = turn.waiter.task
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
        now = self.clock.seconds
        if self._time_text[0] != now:
            self._time_text = (now, f"{now:.6f}")
        self.note(self._time_text[1], label)

    def _advance(self) -> None:
        """Nothing can run: move the clock to whatever is due next."""
        foreign, ours = _trio.next_deadline(), self._heap.next_due()
        due = foreign if ours is None else min(ours, foreign)
        if due == float("inf"):
            waiting = ", ".join(sorted(w.label for w in self._parked)) or "nobody"
            raise SimulationDeadlock(f"nothing will ever happen again; waiting: {waiting}")
        self.clock.seconds = max(self.clock.seconds, due)
        if foreign <= self.clock.seconds:
            self._foreign_due = True
            self._count("deadline of foreign code")
        while (timer := self._heap.pop_due(self.clock.seconds)) is not None:
            assert isinstance(timer, Timer), timer
            self._ready.append(timer)


def _nothing() -> None:
    pass


def _host_here() -> str | None:
    """The host of the actor on whose behalf the running task acts."""
    cell = current_cell.get()
    return None if cell is None else cell.host


class FixedKeys(KeyProvider):
    """One committed test key for every name: signatures repeat, and no time is spent on making keys."""

    async def rsa_private_key(self, name: str) -> bytes:
        return files("understudy.actors").joinpath("simulation_key.pem").read_bytes()


class _TurnGuard(trio.abc.Instrument):
    """Notices a task that is woken by anything but a turn: the outcome would depend on the machine."""

    def __init__(self, dispatcher: SimDispatcher, driver: trio.lowlevel.Task) -> None:
        self.dispatcher = dispatcher
        self.driver = driver
        self.silent = False

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        sim = self.dispatcher
        if self.silent:
            return
        if task is not self.driver and not sim.closed and _trio.woken_from_outside(task):
            sim.violation = sim.violation or task.name


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
        sim = self._sim
        self.network: HostNetwork = HostNetwork(
            self.true_seconds,
            sim.after,
            lambda: self.rng("network"),
            lambda what: sim.note("network", what),
            LinkConditions(latency_seconds),
        )
        self._hosts: dict[str, SimHost] = {}

    @property
    def simulated(self) -> bool:
        return True

    def host(self, name: str) -> SimHost:
        """A machine, to be crashed, paused and given another time; there is one of every name."""
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = SimHost(name, self)
        return host

    def disk(self, host: str) -> SimDisk:
        return self.host(host).disk

    def host_is_up(self, host: str) -> bool:
        return host not in self._hosts or self._hosts[host].up

    async def until_host_up(self, host: str) -> None:
        if host in self._hosts:
            await self._hosts[host].until_up()

    def pause_host(self, name: str) -> None:
        """See `SimHost.pause`."""
        if name not in self._sim.paused:
            self._sim.paused[name] = []
            self._sim.note("host", f"{name} paused")

    def resume_host(self, name: str) -> None:
        """See `SimHost.resume`."""
        if name in self._sim.paused:
            self._sim.resume(name)
            self._sim.note("host", f"{name} resumed")

    def host_paused(self, name: str) -> bool:
        """See `SimHost.paused`."""
        return name in self._sim.paused

    def true_seconds(self) -> float:
        """The virtual time, whatever the clock of a host says."""
        return self._sim.clock.seconds

    def use_clock(self, host: str, clock: HostClock) -> None:
        """Let a host's actors go by this clock."""
        self._sim.clocks[host] = clock

    @property
    def steps(self) -> int:
        """Turns taken so far."""
        return self._sim.steps

    def now(self) -> datetime:
        clock = self._sim.clocks.get(_host_here() or "")
        return wall_clock(EPOCH, self.monotonic() + (0.0 if clock is None else clock.offset_seconds))

    def trace_hash(self) -> str:
        """A digest of every turn of the run so far."""
        return self._sim.trace_hash()

    async def settle(self) -> None:
        """Let everything happen that can happen without time passing."""
        await self._sim.settle()

    def ready_turns(self) -> "list[_Resume | Timer]":
        """Who is ready to take a turn, oldest first: for schedules and searches that look at them."""
        return list(self._sim._ready)

    def waiting_labels(self) -> list[str]:
        """Who waits for what, and what is due when; sorted."""
        timers = [f"{due:.9f} {timer.label}" for due, _, timer in self._sim._heap.live()]
        return sorted([*(waiter.label for waiter in self._sim._parked), *timers])

    def run(self, main: Callable[["SimWorld"], Awaitable[T]]) -> T:
        """Run `main` to its end in virtual time; returns its result.

        Raises:
            SimulationDeadlock: nothing was left that could ever run.
            SimulationTooLong: `turns_max` was reached.
            UnscheduledStep: a task was woken by a thread, a socket or a process.
            Exception: what `main` raised, or the action of a timer.
        """
        outcome: list[Outcome[T]] = []

        async def root(clock: VirtualClock) -> None:
            outcome.append(await acapture(self.run_inside, main, clock))

        run_trio(root)
        return outcome[0].unwrap()

    async def run_inside(
        self, main: Callable[["SimWorld"], Awaitable[T]], clock: VirtualClock, guarded: bool = True
    ) -> T:
        """`run`, within the main task of a Trio run that `run_trio` made; `clock` is that run's, set to 0.

        An unguarded run does not notice by itself when a task is woken from outside.
        """
        assert clock.seconds == 0.0 and not self._sim.steps, "a world is one run"
        sim = self._sim
        sim.clock = clock
        outcome: list[Outcome[T]] = []
        guard = _TurnGuard(sim, trio.lowlevel.current_task())
        body_scope = trio.CancelScope()

        async def body() -> None:
            cancelled: Outcome[T] = Error(SimulationOver("the simulation was cut short"))
            try:
                with body_scope:
                    await sim.turn("main")
                    cancelled = Value(await main(self))
            except BaseException as error:
                outcome.append(Error(error))
            else:
                outcome.append(cancelled)

        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(body, name="main")
            if guarded:
                trio.lowlevel.add_instrument(guard)
            try:
                await sim.drive(lambda: bool(outcome))
            except Exception as error:
                failure = error
                guard.silent = True
                sim.violation = None
                # What the run has started still ends in order, if it can.
                body_scope.cancel()
                sim.turns_max = sim.steps + WIND_DOWN_TURNS
                with suppress(Exception):
                    await sim.drive(lambda: bool(outcome))
            finally:
                if guarded:
                    trio.lowlevel.remove_instrument(guard)
                sim.close()
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return outcome[0].unwrap()


def run_trio(root: Callable[[VirtualClock], Awaitable[None]]) -> None:
    """A Trio run in virtual time whose main task drives simulations, one after the other."""
    clock = VirtualClock()

    async def main() -> None:
        batch_order.last = trio.lowlevel.current_task()
        await root(clock)

    with _trio.pinned_batch_order() as batch_order:
        trio.run(main, clock=clock, strict_exception_groups=True)
