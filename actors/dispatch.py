"""The dispatcher: the one place through which every wake-up goes.

A task that waits parks on a :class:`Waiter`; whoever has what it waits for wakes the waiter. In the real
world a wake-up is at once a Trio reschedule. In simulation it becomes a *turn* in the ready set, and the
schedule says which ready turn goes next. Timers are one heap, so that they cost no cancel scope each and
their order is ours.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, ClassVar, Protocol

import trio
from attrs import define, field
from outcome import Outcome, Value

from . import _trio

log = logging.getLogger("understudy.actors")


class SimulationOver(BaseException):
    """A task waits although its simulation has ended: it outlived the main function.

    No `Exception`, so that a loop that catches those and tries again ends too.
    """


@define(eq=False)
class Waiter:
    """A place for one task to park; woken at most once."""

    label: str
    """Who waits for what, in traces and deadlock reports."""
    task: trio.lowlevel.Task | None = None
    woken: bool = False
    on_cancel: Callable[[], None] | None = None
    """Unlinks it when the wait is cancelled."""

    def aborted(self, _: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        """Trio's abort function in the real world; a method, since it costs less than a closure a wait."""
        self.woken = True
        assert self.on_cancel is not None, f"{self.label} is cancelled before it waits"
        self.on_cancel()
        return trio.lowlevel.Abort.SUCCEEDED


@define(eq=False)
class Timer:
    """A call that is due later, unless it is cancelled."""

    due: float
    """Seconds on the world's monotonic clock."""
    action: Callable[[], None] | None
    label: str
    heap: "TimerHeap | None" = None
    """Where it waits; None before, and once it was taken out."""
    host: str | None = None
    """In simulation: the host whose timer it is; None for those of the world itself."""

    def cancel(self) -> None:
        """Forget the call; harmless when it was made already."""
        if self.action is not None:
            self.action = None
            if self.heap is not None:
                self.heap.count_cancelled()

    def fire(self) -> None:
        """Make the call, unless it was cancelled or made already."""
        action, self.action = self.action, None
        if action is not None:
            action()


class Due(Protocol):
    """What a timer heap holds: a :class:`Timer`, or something that saves itself the object."""

    @property
    def due(self) -> float:
        """Seconds on the world's monotonic clock."""

    @property
    def label(self) -> str:
        """What it is, in traces."""

    @property
    def action(self) -> object | None:
        """None once it was cancelled or fired."""

    heap: "TimerHeap | None"

    def fire(self) -> None:
        """What is to happen then."""


@define(eq=False)
class Expiring(Waiter):
    """A waiter with a deadline, which is its own timer in the real world: an ask costs one object."""

    due: float = 0.0
    action: bool | None = True
    """None once nobody waits for the deadline."""
    heap: "TimerHeap | None" = None

    def cancel(self) -> None:
        """Forget the deadline; harmless when it has passed already."""
        if self.action is not None:
            self.action = None
            if self.heap is not None:
                self.heap.count_cancelled()

    def fire(self) -> None:
        """The deadline has come."""
        if self.action is not None:
            self.action = None
            self.expire()

    def expire(self) -> None:
        """What the deadline does."""
        raise NotImplementedError


@define(eq=False)
class TimerHeap:
    """Timers by due time, and by age among equals.

    Cancelled timers (nearly every ask leaves one) stay until they are due or make up half of the heap.
    """

    KEPT_CANCELLED = 64
    """So many cancelled timers are never worth a sweep."""

    _heap: list[tuple[float, int, Due]] = field(factory=list, init=False)
    _age: "count[int]" = field(factory=count, init=False)
    _cancelled: int = field(default=0, init=False)

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, timer: Due) -> None:
        """Put a timer in."""
        timer.heap = self
        heappush(self._heap, (timer.due, next(self._age), timer))

    def count_cancelled(self) -> None:
        """A timer in this heap was cancelled."""
        self._cancelled += 1
        if self._cancelled > self.KEPT_CANCELLED and self._cancelled * 2 > len(self._heap):
            self._heap = [e for e in self._heap if e[2].action is not None]
            heapify(self._heap)
            self._cancelled = 0

    def live(self) -> list[tuple[float, int, Due]]:
        """Due time, age and timer of all that are not cancelled, in no order."""
        return [entry for entry in self._heap if entry[2].action is not None]

    def next_due(self) -> float | None:
        """When the next live timer is due; cancelled ones on the way are dropped."""
        heap = self._heap
        while heap and heap[0][2].action is None:
            heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def pop_due(self, now: float) -> Due | None:
        """The next live timer that is due at `now`, taken out."""
        due = self.next_due()
        if due is None or due > now:
            return None
        timer = heappop(self._heap)[2]
        timer.heap = None
        return timer


class Dispatcher(ABC):
    """What worlds implement to order wake-ups."""

    traced: ClassVar[bool]
    """Whether every turn is written down, so that each message needs one of its own."""

    @abstractmethod
    def monotonic(self) -> float:
        """Seconds on a clock that only goes forward."""

    @abstractmethod
    def wake(self, waiter: Waiter, outcome: Outcome[Any] | None = None) -> None:
        """Resume the waiter's task with `outcome` (default: the value None). At most once a waiter."""

    @abstractmethod
    async def park(self, waiter: Waiter, on_cancel: Callable[[], None]) -> Any:
        """Wait until somebody wakes the waiter.

        `on_cancel` unlinks the waiter when the wait is cancelled, so that nobody wakes it afterwards.
        """

    async def park_to_lend(self, waiter: Waiter, on_cancel: Callable[[], None]) -> Outcome[Any]:
        """Like `park`, but where `begin_as` may be used meanwhile; returns the outcome as it is."""
        return Value(await self.park(waiter, on_cancel))

    def begin_as(self, waiter: Waiter, coroutine: Coroutine[Any, Any, Any]) -> bool | None:
        """Run a coroutine to its first wait in the name of the task that waits in `park_to_lend`.

        Returns True when it has ended, False when that task has to go on with it, and None, without having
        run anything, where that cannot be done now.
        """
        return None

    @abstractmethod
    def call_later(self, delay_seconds: float, action: Callable[[], None], label: str) -> Timer:
        """Make a synchronous call after a delay."""

    def expire_later(self, expiring: "Expiring", seconds: float) -> "Timer | Expiring":
        """Call `expiring.action` after that long, unless what is returned is cancelled before."""
        return self.call_later(seconds, expiring.expire, "ask deadline")

    def wake_later(self, delay_seconds: float, waiter: Waiter) -> Timer:
        """Wake a waiter after a delay, unless the timer is cancelled before."""
        return self.call_later(delay_seconds, lambda: self.wake(waiter), waiter.label)

    @abstractmethod
    async def turn(self, label: str) -> None:
        """Let others go first: in simulation the caller goes to the back of the ready set."""

    @abstractmethod
    def note(self, kind: str, what: str) -> None:
        """Put something into the trace of this run."""


class RealDispatcher(Dispatcher):
    """Wake-ups are Trio reschedules, timers one heap with one task that waits for its top."""

    traced = False
    TURNS_MAX = 64
    """Turns that a task may take in a row before Trio runs another task."""
    BORROWED_MAX = 8
    """Actors that may run inside one another's asks: each is a few frames of the interpreter's stack."""

    def __init__(self) -> None:
        self._heap = TimerHeap()
        self._scope: trio.CancelScope | None = None
        self._alarm = float("-inf")
        """When the timers' task looks at its heap next."""
        self._turns = 0
        self._borrowed = 0

    def monotonic(self) -> float:
        return trio.current_time()

    def wake(self, waiter: Waiter, outcome: Outcome[Any] | None = None) -> None:
        assert not waiter.woken, f"{waiter.label} is woken twice"
        waiter.woken = True
        assert waiter.task is not None, f"{waiter.label} is woken before it waits"
        if outcome is None:
            trio.lowlevel.reschedule(waiter.task)
        else:
            trio.lowlevel.reschedule(waiter.task, outcome)

    async def park(self, waiter: Waiter, on_cancel: Callable[[], None]) -> Any:
        waiter.task = trio.lowlevel.current_task()
        waiter.on_cancel = on_cancel
        try:
            return await trio.lowlevel.wait_task_rescheduled(waiter.aborted)
        finally:
            # It mostly has the waiter, which has the task, which has all that this worked on: a cycle, which
            # only the garbage collector would undo.
            waiter.on_cancel = None

    async def park_to_lend(self, waiter: Waiter, on_cancel: Callable[[], None]) -> Outcome[Any]:
        waiter.task = trio.lowlevel.current_task()
        waiter.on_cancel = on_cancel
        outcome: Outcome[Any] = await _trio.wait_to_lend(waiter.aborted)
        return outcome

    def begin_as(self, waiter: Waiter, coroutine: Coroutine[Any, Any, Any]) -> bool | None:
        if self._borrowed >= self.BORROWED_MAX:
            return None
        assert waiter.task is not None, f"{waiter.label} does not wait"
        self._borrowed += 1
        try:
            return _trio.begin_as(waiter.task, coroutine)
        finally:
            self._borrowed -= 1

    def call_later(self, delay_seconds: float, action: Callable[[], None], label: str) -> Timer:
        timer = Timer(trio.current_time() + delay_seconds, action, label)
        self._heap.add(timer)
        if timer.due < self._alarm:
            self._set_alarm(timer.due)
        return timer

    def expire_later(self, expiring: Expiring, seconds: float) -> Expiring:
        due = expiring.due = trio.current_time() + seconds
        self._heap.add(expiring)
        if due < self._alarm:
            self._set_alarm(due)
        return expiring

    def _set_alarm(self, due: float) -> None:
        assert self._scope is not None
        self._alarm = self._scope.deadline = due

    async def turn(self, label: str) -> None:
        # One count for all tasks: whoever takes the last turn yields, so that nobody takes more in a row.
        self._turns += 1
        if self._turns >= self.TURNS_MAX:
            self._turns = 0
            await trio.lowlevel.checkpoint()

    def note(self, kind: str, what: str) -> None:
        pass

    async def run_timers(self) -> None:
        """Make the calls that fall due; runs until cancelled."""
        while True:
            due = self._heap.next_due()
            self._alarm = float("inf") if due is None else due
            with trio.CancelScope(deadline=self._alarm) as self._scope:
                await trio.sleep_forever()
            self._alarm = float("-inf")
            now = trio.current_time()
            while (timer := self._heap.pop_due(now)) is not None:
                try:
                    timer.fire()
                except Exception:
                    # It is nobody's task that could crash, and other timers are not to blame.
                    log.exception("the action of timer %r raised", timer.label)
