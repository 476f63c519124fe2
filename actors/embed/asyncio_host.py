"""An actor system beside asyncio's tasks, in the same thread, by Trio's guest mode.

Trio runs as a guest of the asyncio loop: each of its steps is a callback there, and only its wait for I/O
is in another thread. So actors and asyncio tasks never run at the same moment, and `tell` is a plain call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, TypeVarTuple

import trio
from attrs import define, field
from outcome import Error, Outcome

from understudy.actors.actor import Actor
from understudy.actors.ref import ASK_TIMEOUT_SECONDS, Ref
from understudy.actors.system import ActorSystem
from understudy.actors.world import World
from understudy.mailbox import Message, Request

from .hosted import SHUTDOWN_SECONDS, Hosted, SystemEnded, host

P = TypeVar("P")
R = TypeVar("R")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


LINGER_PASSES = 6
"""Two or three are enough for an asyncio task to get its answer and to ask again; the others are for tasks
that run in between."""


@define(eq=False)
class AsyncioPortal:
    """The way from asyncio tasks to the actors, and back."""

    _hosted: Hosted
    _loop: asyncio.AbstractEventLoop
    _working: dict[asyncio.Task[Any], None] = field(factory=dict, init=False)
    """Asyncio tasks that actors wait for: the loop itself holds tasks weakly."""

    @property
    def system(self) -> ActorSystem:
        """The system; its synchronous methods may be called from asyncio code as they are."""
        return self._hosted.system

    @property
    def world(self) -> World:
        """Its world."""
        return self._hosted.world

    def spawn(self, factory: Callable[[], Actor[P]], name: str, *arguments: Any, **options: Any) -> Ref[P]:
        """Start an actor that has no parent; see `ActorSystem.spawn`.

        Raises:
            SystemEnded: the system has ended, or is ending.
        """
        if self._hosted.stopping:
            raise SystemEnded
        return self.system.spawn(factory, name, *arguments, **options)

    def tell(self, target: Ref[P], message: Message[P]) -> None:
        """See `Ref.tell`; `target.tell(message)` does the same."""
        target.tell(message)

    async def ask(
        self, target: Ref[P], message: Request[P, R], timeout_seconds: float = ASK_TIMEOUT_SECONDS
    ) -> R:
        """Ask from an asyncio task. When that is cancelled, so is the work on the request.

        Raises:
            SystemEnded: the system ended first.
            Exception: what `Ref.ask` raises.
        """
        return await self.run(target.ask, message, timeout_seconds)

    async def stop(
        self, target: Ref[Any], deadline_seconds: float | None = None, *, drain: bool | None = None
    ) -> None:
        """Stop an actor and wait until it has ended; see `ActorSystem.stop`."""
        await self.run(lambda: self.system.stop(target, deadline_seconds, drain=drain))

    async def run(self, function: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
        """Call a function written for Trio (one that asks, or reads a channel) from an asyncio task.

        Raises:
            SystemEnded: the system ended first.
            RuntimeError: the running loop is another one than the portal's.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                "this portal belongs to another event loop: call it there"
                " (asyncio.run_coroutine_threadsafe), or give this thread a background_system of its own"
            )
        future: asyncio.Future[T] = self._loop.create_future()

        def answer(outcome: Outcome[T]) -> None:
            if not future.done():
                if isinstance(outcome, Error):
                    future.set_exception(outcome.error)
                else:
                    future.set_result(outcome.unwrap())

        cancel = self._hosted.call(function, arguments, answer)
        try:
            return await future
        finally:
            if future.cancelled():
                cancel()

    async def in_asyncio(self, function: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
        """Call a function written for asyncio (a database driver, say) from an actor.

        When the actor is cancelled, the asyncio task is too, and the actor waits until it has ended.
        """
        waiting = trio.lowlevel.current_task()

        async def work() -> T:
            return await function(*arguments)

        task: asyncio.Task[T] = self._loop.create_task(work())
        self._working[task] = None
        raise_cancel: trio.lowlevel.RaiseCancelT | None = None

        def ended(task: asyncio.Task[T]) -> None:
            del self._working[task]
            trio.lowlevel.reschedule(waiting)

        def abort(raise_cancelled: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            nonlocal raise_cancel
            raise_cancel = raise_cancelled
            task.cancel()
            return trio.lowlevel.Abort.FAILED

        task.add_done_callback(ended)
        await trio.lowlevel.wait_task_rescheduled(abort)
        if task.cancelled():
            if raise_cancel is not None:
                raise_cancel()
            raise RuntimeError(f"{function!r} was cancelled by asyncio code")
        return task.result()


@define(eq=False)
class _Block:
    """The asyncio block that owns the system."""

    task: asyncio.Task[Any]
    inside: bool = False
    told: bool = False
    """The task was cancelled because the system failed."""

    def tell(self) -> None:
        if self.inside:
            self.told = True
            self.task.cancel()


@asynccontextmanager
async def asyncio_system(
    *, seed: int | None = None, shutdown_seconds: float = SHUTDOWN_SECONDS
) -> AsyncIterator[AsyncioPortal]:
    """Run an actor system for as long as this block of an asyncio task does; one at a time in a thread.

    However the block ends (also by cancellation), every actor is stopped in order before it is left.

    Raises:
        RestartIntensityExceeded: an actor without a parent crashed too often; the block is cancelled.
    """
    if trio.lowlevel.in_trio_run():
        raise RuntimeError("Trio runs in this thread already: use ActorSystem.open, or that block's portal")
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "asyncio_system is a block of an asyncio task: in synchronous code use background_system"
        ) from None
    task = asyncio.current_task()
    assert task is not None, "asyncio_system is a block of an asyncio task, not of a callback"
    block = _Block(task)
    ready: asyncio.Future[Hosted] = loop.create_future()
    ended: asyncio.Future[Outcome[None]] = loop.create_future()

    def end(outcome: Outcome[None]) -> None:
        ended.set_result(outcome)
        if not ready.done():
            ready.set_exception(outcome.error if isinstance(outcome, Error) else SystemEnded())
        block.tell()

    trio.lowlevel.start_guest_run(
        host,
        ready.set_result,
        seed,
        shutdown_seconds,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        run_sync_soon_not_threadsafe=loop.call_soon,
        done_callback=end,
        host_uses_signal_set_wakeup_fd=True,
    )
    hosted, cancelled = await _in_any_case(ready)
    hosted.linger_passes = LINGER_PASSES
    try:
        if cancelled is not None:
            raise cancelled
        block.inside = True
        yield AsyncioPortal(hosted, loop)
    except asyncio.CancelledError as error:
        # The system's own, if it has failed; unless somebody else wants this task to end, too.
        if not block.told or task.cancelling() > 1:
            cancelled = error
    finally:
        block.inside = False
        if block.told:
            task.uncancel()
        hosted.stop()
        outcome, interrupted = await _in_any_case(ended)
        if interrupted is not None:
            cancelled = interrupted
        if cancelled is None:
            outcome.unwrap()
    if cancelled is not None:
        raise cancelled


async def _in_any_case(future: asyncio.Future[T]) -> tuple[T, asyncio.CancelledError | None]:
    """Wait although the task is cancelled meanwhile; what is waited for ends in bounded time."""
    cancelled = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    return future.result(), cancelled
