"""An actor system in a thread of its own, for synchronous code: scripts, threads, WSGI applications."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, TypeVarTuple

import trio
from attrs import define, field
from outcome import Error, Outcome, Value, capture

from understudy.actors.actor import Actor
from understudy.actors.ref import ASK_TIMEOUT_SECONDS, Ref
from understudy.actors.system import ActorSystem
from understudy.mailbox import Message, Request

from .hosted import SHUTDOWN_SECONDS, Hosted, SystemEnded, host

P = TypeVar("P")
R = TypeVar("R")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@define(eq=False)
class ThreadPortal:
    """The way from other threads to the actors. Every method may be called from any thread but theirs."""

    _hosted: Hosted
    _token: trio.lowlevel.TrioToken
    _thread: threading.Thread = field(factory=threading.current_thread)
    """The system's."""

    def ask(self, target: Ref[P], message: Request[P, R], timeout_seconds: float = ASK_TIMEOUT_SECONDS) -> R:
        """Ask, and block this thread until the answer comes.

        Raises:
            SystemEnded: the system ended first.
            Exception: what `Ref.ask` raises.
        """
        return self.run(target.ask, message, timeout_seconds)

    def tell(self, target: Ref[P], message: Message[P]) -> None:
        """Tell; returns once the message is in the mailbox, or raises what `Ref.tell` raises."""
        self.call(target.tell, message)

    def spawn(self, factory: Callable[[], Actor[P]], name: str, *arguments: Any, **options: Any) -> Ref[P]:
        """Start an actor that has no parent; see `ActorSystem.spawn`."""
        return self.call(lambda: self._hosted.system.spawn(factory, name, *arguments, **options))

    def stop(
        self, target: Ref[Any], deadline_seconds: float | None = None, *, drain: bool | None = None
    ) -> None:
        """Stop an actor and wait until it has ended; see `ActorSystem.stop`."""
        self.run(lambda: self._hosted.system.stop(target, deadline_seconds, drain=drain))

    def with_system(self, function: Callable[[ActorSystem], T]) -> T:
        """Call a synchronous function with the system, in its thread."""
        return self.call(function, self._hosted.system)

    def run(self, function: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
        """Call an async function in the system's thread and wait for what it returns.

        When this thread is interrupted (Ctrl-C) while it waits, the call is cancelled.

        Raises:
            SystemEnded: the system ended first.
        """
        future: Future[T] = Future()
        cancels: list[Callable[[], None]] = []

        def begin() -> None:
            if not future.cancelled():
                cancels.append(self._hosted.call(function, arguments, lambda out: _settle(future, out)))

        def give_up() -> None:
            for cancel in cancels:
                cancel()

        self._soon(begin)
        try:
            return future.result()
        except BaseException:
            if future.cancel():
                with suppress(SystemEnded):
                    self._soon(give_up)
            raise

    def call(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Call a synchronous function in the system's thread and wait for what it returns.

        Raises:
            SystemEnded: the system has ended.
        """
        future: Future[T] = Future()
        self._soon(lambda: _settle(future, capture(function, *arguments)))
        return future.result()

    def _soon(self, function: Callable[[], None]) -> None:
        if threading.current_thread() is self._thread:
            raise RuntimeError("an actor must not block its own thread: use its refs, not the portal")
        try:
            self._token.run_sync_soon(function)
        except trio.RunFinishedError:
            raise SystemEnded from None


def _settle(future: Future[Any], outcome: Outcome[Any]) -> None:
    # From here on its owner's `cancel` comes too late, in whichever thread that is.
    if future.set_running_or_notify_cancel():
        if isinstance(outcome, Error):
            future.set_exception(outcome.error)
        else:
            future.set_result(outcome.unwrap())


@contextmanager
def background_system(
    *, seed: int | None = None, shutdown_seconds: float = SHUTDOWN_SECONDS
) -> Iterator[ThreadPortal]:
    """Run an actor system in a thread of its own for as long as the block does.

    However the block ends, every actor is stopped in order before it is left.

    Raises:
        RestartIntensityExceeded: an actor without a parent crashed too often. The block hears of it at its
            next call (`SystemEnded`), or when it ends: nobody can interrupt a thread.
    """
    ready: Future[ThreadPortal] = Future()
    outcome: Outcome[None] = Value(None)

    def begin(hosted: Hosted) -> None:
        ready.set_result(ThreadPortal(hosted, trio.lowlevel.current_trio_token()))

    def run() -> None:
        nonlocal outcome
        outcome = capture(trio.run, host, begin, seed, shutdown_seconds)
        if not ready.done():
            ready.set_exception(outcome.error if isinstance(outcome, Error) else SystemEnded())

    # A daemon only so that an interpreter that is going down never waits for it: the block itself joins it.
    thread = threading.Thread(target=run, name="actor system", daemon=True)
    thread.start()
    portal = ready.result()
    try:
        try:
            yield portal
        finally:
            with suppress(trio.RunFinishedError):
                portal._token.run_sync_soon(portal._hosted.stop)
            thread.join()
    except SystemEnded:
        # What ended it says more.
        outcome.unwrap()
        raise
    outcome.unwrap()
