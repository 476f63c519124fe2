"""Trio's private names, all of them, so that one test notices when Trio moves one.

Why they are needed: Trio shuffles the tasks that became runnable together, on purpose and unseeded, and it
walks a cancelled scope's tasks in set order. A simulation has to pin both, and to know when nobody can run.
"""

import random
import types
from collections.abc import Callable, Coroutine, Generator, Iterator, Sized
from contextlib import contextmanager
from typing import Any

import trio
from outcome import Error, Value
from trio._core import _run, _traps


class BatchOrder(random.Random):
    """Orders a batch, which Trio has sorted by creation of the tasks and runs from its end."""

    def shuffle(self, x: Any) -> None:
        x.reverse()


@contextmanager
def pinned_batch_order() -> Iterator[None]:
    """Within this block, tasks that become runnable together run in the same order in every run."""
    saved = (_run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r)
    # A fixed seed: nothing may depend on what `_r` draws, and a repeat must not differ if it does.
    order = BatchOrder(0)
    _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r = True, order  # type: ignore[misc]
    try:
        yield
    finally:
        _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r = saved  # type: ignore[misc]


def creation_order(task: trio.lowlevel.Task) -> int:
    """A number that grows with the order in which this process created its tasks."""
    return task._counter


def runnable_tasks() -> Sized:
    """The tasks that are to run in the next pass of Trio's loop, as a live view."""
    return _run.GLOBAL_RUN_CONTEXT.runner.runq


def next_deadline() -> float:
    """When the next cancel scope's deadline falls due on Trio's clock; infinity when there is none."""
    return _run.GLOBAL_RUN_CONTEXT.runner.deadlines.next_deadline()


def living_tasks() -> int:
    """How many tasks have been started and have not ended, Trio's own among them."""
    return len(_run.GLOBAL_RUN_CONTEXT.runner.tasks)


class Passes:
    """Trio's I/O manager, with somebody who is called before each pass of Trio's loop.

    It is asked for I/O only now and then as long as some task can run anyway and `rare` is set.
    """

    RARE = 64
    """So many passes of the loop share one system call."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._count = 0
        self.before: Callable[[], bool] | None = None
        """May make tasks runnable, must not raise; returns whether the loop is to go on at once."""
        self.rare = True
        self.events_seen = False
        """Something came from outside: a file, a socket, a process, a thread or a signal."""

    def get_events(self, timeout: float) -> Any:
        while (before := self.before) is not None:
            if before():
                timeout = 0
            if self.before is before:
                break
        if timeout == 0 and self.rare:
            self._count += 1
            if self._count % self.RARE:
                return ()
        return self._manager.get_events(timeout)

    def process_events(self, events: Any) -> None:
        if events:
            self.events_seen = True
            self._manager.process_events(events)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)


def watch_passes() -> Passes:
    """Put a `Passes` in place for the rest of this Trio run, which should see little I/O."""
    runner = _run.GLOBAL_RUN_CONTEXT.runner
    passes = Passes(runner.io_manager)
    runner.io_manager = passes  # type: ignore[assignment]
    return passes


@contextmanager
def without_instruments() -> Iterator[None]:
    """Within this block the run has no instruments, and looks them up in a plain dict: that is quicker."""
    runner = _run.GLOBAL_RUN_CONTEXT.runner
    saved, runner.instruments = runner.instruments, {}  # type: ignore[assignment]
    try:
        yield
    finally:
        runner.instruments = saved


async def yield_to_others() -> None:
    """Come back in the next pass of Trio's loop; cancellation stays out."""
    await trio.lowlevel.cancel_shielded_checkpoint()


ENTRY_QUEUE = "<TrioToken.run_sync_soon task>"
"""Name of the task in which Trio makes the calls that come from other threads and from finalizers."""


def woken_from_outside(task: trio.lowlevel.Task) -> bool:
    """Whether a task that is being scheduled now is so because of I/O or of another thread.

    Trio's loop itself, outside any task's step, schedules tasks for two reasons: I/O, and a deadline, which
    leaves the task cancelled. What other threads send runs in the steps of one task of Trio's; that one also
    starts finalizers of generators, as new tasks.
    """
    current = getattr(_run.GLOBAL_RUN_CONTEXT, "task", None)
    if current is None:
        return not task._cancel_status.effectively_cancelled and task.name != ENTRY_QUEUE
    return current.name == ENTRY_QUEUE and task is not current and task._schedule_points > 0


# -- running tasks outside Trio's loop


def step(task: trio.lowlevel.Task, outcome: Any) -> None:
    """Between two passes of Trio's loop: resume a waiting task with an outcome, and run it to its next wait.

    What the loop does for a task that is the only one to run, at a third of the cost.
    """
    context = _run.GLOBAL_RUN_CONTEXT
    runner = context.runner
    task._abort_func = task.custom_sleep_data = None
    context.task = task
    ended: Any = None
    trap: Any = None
    try:
        trap = task.context.run(task.coro.send, outcome)
    except StopIteration as end:
        ended = Value(end.value)
    except BaseException as error:
        ended = Error(error)
    if ended is not None:
        runner.task_exited(task, ended)
    else:
        task._schedule_points += 1
        if trap is _traps.CancelShieldedCheckpoint:
            runner.reschedule(task)
        else:
            assert type(trap) is _traps.WaitTaskRescheduled, f"{task.name} waits for {trap!r}"
            task._cancel_points += 1
            task._abort_func = trap.abort_func
            if runner.ki_pending and task is runner.main_task:
                task._attempt_delivery_of_pending_ki()
            task._attempt_delivery_of_any_pending_cancel()
    del context.task


Abort = Callable[[trio.lowlevel.RaiseCancelT], trio.lowlevel.Abort]


@types.coroutine
def wait_to_lend(abort: Abort) -> Generator[Any, Any, Any]:
    """Wait as `wait_task_rescheduled` does; returns the outcome as it is.

    While it waits, `begin_as` may begin a coroutine in the waiting task's name. The outcome is then that of
    the wait at which the coroutine stopped: pass it to `carry_on`.
    """
    return (yield _traps.WaitTaskRescheduled(abort))


def begin_as(task: trio.lowlevel.Task, coroutine: Coroutine[Any, Any, Any]) -> bool:
    """Run a coroutine to its first wait as if `task`, which is in `wait_to_lend`, did; True: it has ended.

    Otherwise the task now waits for what the coroutine waits for. Costs no pass of Trio's loop. Raises what
    the coroutine raises.
    """
    context = _run.GLOBAL_RUN_CONTEXT
    caller, abort = context.task, task._abort_func
    # As in any task that runs: a cancellation that comes meanwhile is delivered at the next wait.
    task._abort_func = None
    context.task = task
    trap: Any = None
    try:
        trap = task.context.run(coroutine.send, None)
    except StopIteration:
        pass
    finally:
        context.task = caller
        if trap is None:
            task._abort_func = abort
            task._attempt_delivery_of_any_pending_cancel()
    if trap is None:
        return True
    task._schedule_points += 1
    if trap is _traps.CancelShieldedCheckpoint:
        trio.lowlevel.reschedule(task)
    else:
        assert type(trap) is _traps.WaitTaskRescheduled, (
            f"an actor's handler waits for {trap!r}, unknown to Trio"
        )
        task._cancel_points += 1
        task._abort_func = trap.abort_func
        task._attempt_delivery_of_any_pending_cancel()
    return False


@types.coroutine
def carry_on(coroutine: Coroutine[Any, Any, Any], outcome: Any) -> Generator[Any, Any, Any]:
    """Run to its end what `begin_as` has begun, from the outcome of its first wait on."""
    while True:
        try:
            trap = coroutine.send(outcome)
        except StopIteration as end:
            return end.value
        outcome = yield trap
