"""A cell: one actor's life, from its first incarnation to its end.

States: starting -> running -> stopping -> (backing off -> starting ...) -> stopped. The outermost frame
of the actor's task catches every Exception, tells the watchers, and never raises: what happens next is the
supervision's decision. A new incarnation begins only after the old one's stop hook has returned.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from enum import Enum
from typing import TYPE_CHECKING, Any

import trio
from attrs import define, field

from understudy.mailbox import Envelope, Mailbox, Message, Refusal, label

from .actor import Actor, Context, Handler, Terminated
from .channels import ChannelReader, ChannelWriter
from .dispatch import Timer, Waiter
from .ref import ActorFailed, ActorStopped, Unhandled
from .supervision import Restart, RestartIntensityExceeded, Supervision
from .world import Event

if TYPE_CHECKING:
    from .system import ActorSystem

log = logging.getLogger("understudy.actors")

current_cell: ContextVar[Cell | None] = ContextVar("current_cell", default=None)

STOP_HOOK_SECONDS = 2.0
"""How long an incarnation's `on_stop` and its tasks' clean-up may take before they are abandoned."""


class State(Enum):
    """Where an actor is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    BACKING_OFF = "backing off"
    STOPPED = "stopped"


class _Stop:
    """System message: end for good."""


class _Leave:
    """System message: end this incarnation; the supervision decides what follows."""


@define(eq=False)
class Cell:
    """One actor's bookkeeping; touched only from its system's Trio thread."""

    system: ActorSystem
    path: str
    host: str
    factory: Callable[[], Actor[Any]]
    supervision: Supervision
    parent: Cell | None
    mailbox: Mailbox
    ended: Event
    state: State = State.STARTING
    incarnation: int = 0
    restarts: int = 0
    actor: Actor[Any] | None = None
    children: dict[str, Cell] = field(factory=dict)
    watchers: dict[str, None] = field(factory=dict)
    stop_requested: bool = False
    _failure: Exception | None = None
    _scope: trio.CancelScope = field(factory=trio.CancelScope)
    _waiter: Waiter | None = None
    _tasks: dict[int, trio.CancelScope] = field(factory=dict)
    _task_number: int = 0
    _tasks_ended: Event | None = None
    _timers: dict[str, Timer] = field(factory=dict)
    _channel_ends: dict[int, ChannelReader[Any] | ChannelWriter[Any]] = field(factory=dict)
    _sweep_at: int = 16
    _crashes: deque[float] = field(factory=deque)

    # -- what others do to this actor

    def post(self, envelope: Envelope) -> None:
        """Put a message in the mailbox and wake the actor if it waits."""
        displaced = self.mailbox.put(envelope)
        if displaced is not None:
            self.system._dead_letter(displaced, self.path, "displaced by the overflow policy")
        self._wake()

    def post_system(self, message: Any) -> None:
        """Put a system message in its lane."""
        self.mailbox.put_system(message)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            self.system.world.dispatcher.wake(waiter)

    async def stop(self, deadline_seconds: float) -> None:
        """End for good: message, deadline, cancellation, stop hook; returns when the actor has ended."""
        if self.state is not State.STOPPED:
            timer = self.request_stop(deadline_seconds)
            try:
                await self.ended.wait()
            finally:
                timer.cancel()

    def request_stop(self, deadline_seconds: float) -> Timer:
        """Begin to stop, without waiting."""
        self.stop_requested = True
        if self.state is State.BACKING_OFF:
            self._scope.cancel()
        self.post_system(_Stop())
        return self.system.world.call_later(deadline_seconds, self._cancel, f"{self.path} stop deadline")

    def request_leave(self) -> None:
        """End this incarnation after the current message."""
        self.post_system(_Leave())

    def _cancel(self) -> None:
        if self.state in (State.STARTING, State.RUNNING, State.BACKING_OFF):
            self._scope.cancel()

    def fail(self, error: Exception) -> None:
        """Crash this incarnation: one of its tasks or children did."""
        if self._failure is None:
            self._failure = error
        self._cancel()

    # -- its life

    async def run(self) -> None:
        """The actor's task."""
        current_cell.set(self)
        reason: Exception | None = None
        try:
            await self.system.world.dispatcher.turn(f"{self.path} start")
            while True:
                reason = await self._live()
                again = not self.stop_requested and self._allows_restart(reason)
                self._tell_watchers(reason, final=not again)
                if not again:
                    break
                await self._back_off()
                if self.stop_requested:
                    break
        finally:
            self._finish()

    async def _live(self) -> Exception | None:
        """One incarnation; returns why it crashed, or None."""
        self.incarnation += 1
        self._failure = None
        self.state = State.STARTING
        self._scope = trio.CancelScope()
        if self.stop_requested:
            return None
        try:
            with self._scope:
                try:
                    self.actor = self.factory()
                    self.actor.context = Context(self)
                    await self.actor.on_start()
                    self.state = State.RUNNING
                    await self._receive()
                except Exception as error:
                    self._failure = self._failure or error
        finally:
            await self._clean_up()
        if self._failure is not None:
            log.warning(
                "actor %s crashed: %r",
                self.path,
                self._failure,
                exc_info=self._failure if log.isEnabledFor(logging.DEBUG) else None,
            )
        return self._failure

    async def _receive(self) -> None:
        mailbox = self.mailbox
        dispatcher = self.system.world.dispatcher
        while True:
            if len(mailbox) == 0:
                self._waiter = Waiter(self.path)
                await dispatcher.park(self._waiter, self._unlink)
            else:
                await dispatcher.turn(self.path)
            system_message = mailbox.get_system()
            if system_message is None:
                envelope = mailbox.get()
                if envelope is not None:
                    await self._handle(envelope)
            elif isinstance(system_message, Terminated):
                if self.actor is not None and Terminated in self.actor.handlers:
                    await self._handle(Envelope(system_message, system_message.path))
            else:
                return

    def _unlink(self) -> None:
        self._waiter = None

    async def _handle(self, envelope: Envelope) -> None:
        assert self.actor is not None
        handler = self.actor.handlers.get(type(envelope.message))
        if handler is None:
            self.system._dead_letter(envelope, self.path, "no handler")
            if envelope.reply is not None:
                envelope.reply.fail(Unhandled(self.path, label(envelope.message)))
            return
        self.system._delivered(self.path, envelope)
        if handler.concurrent:
            cancel = self.start_task(self._answer_aside, (handler, envelope), f"{self.path} concurrent")
            if envelope.reply is not None:
                self.system._on_abandoned(envelope.reply, cancel)
            return
        await self._answer(handler, envelope)

    async def _answer_aside(self, handler: Handler, envelope: Envelope) -> None:
        await self._answer(handler, envelope)

    async def _answer(self, handler: Handler, envelope: Envelope) -> None:
        reply = envelope.reply
        try:
            result = handler.function(self.actor, envelope.message)
            if handler.is_async:
                result = await result
        except Refusal as refusal:
            if reply is None:
                self.system._dead_letter(envelope, self.path, f"refused: {refusal!r}")
            else:
                reply.fail(refusal)
        except Exception as error:
            if reply is not None:
                reply.fail(ActorFailed(self.path, repr(error)))
            raise
        except BaseException:
            if reply is not None:
                reply.fail(ActorStopped(self.path))
            raise
        else:
            if reply is not None:
                reply.answer(result)

    async def _clean_up(self) -> None:
        """End everything that this incarnation started, then call its stop hook; each step time-limited."""
        self.state = State.STOPPING
        world = self.system.world
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        with trio.CancelScope(shield=True):
            for child in reversed(list(self.children.values())):
                await child.stop(1.0)
        with world.limit(STOP_HOOK_SECONDS, shield=True) as scope:
            if self._tasks:
                self._tasks_ended = world.event(f"{self.path} tasks ended")
                for task_scope in list(self._tasks.values()):
                    task_scope.cancel()
                await self._tasks_ended.wait()
            for end in list(self._channel_ends.values()):
                if isinstance(end, ChannelWriter):
                    end.close(ActorStopped(self.path))
                else:
                    end.cancel()
            self._channel_ends.clear()
            if self.actor is not None:
                try:
                    await self.actor.on_stop()
                except Exception as error:
                    self._failure = self._failure or error
        if scope.cancelled_caught:
            log.error("actor %s did not stop within %g s; it is abandoned", self.path, STOP_HOOK_SECONDS)
        self.actor = None

    def _allows_restart(self, reason: Exception | None) -> bool:
        policy = self.supervision
        if policy.restart is Restart.TEMPORARY or (policy.restart is Restart.TRANSIENT and reason is None):
            return False
        now = self.system.world.monotonic()
        if reason is not None:
            self._crashes.append(now)
        while self._crashes and self._crashes[0] < now - policy.within_seconds:
            self._crashes.popleft()
        if len(self._crashes) > policy.restarts_max:
            error = RestartIntensityExceeded(
                f"{self.path} crashed {len(self._crashes)} times in {policy.within_seconds:g} s,"
                f" last: {reason!r}"
            )
            error.__cause__ = reason
            self.system._escalate(self.parent, error)
            return False
        return True

    async def _back_off(self) -> None:
        self.restarts += 1
        if not self._crashes:
            return
        world = self.system.world
        wait = self.supervision.backoff_seconds(
            len(self._crashes), world.rng(f"backoff {self.path}").random()
        )
        self.state = State.BACKING_OFF
        with trio.CancelScope() as self._scope:
            await world.sleep(wait, f"{self.path} restart back-off")

    def _tell_watchers(self, reason: Exception | None, final: bool) -> None:
        notice = Terminated(self.path, self.incarnation, None if reason is None else repr(reason), final)
        for watcher in list(self.watchers):
            self.system._notify(watcher, notice)

    def _finish(self) -> None:
        self.state = State.STOPPED
        for envelope in self.mailbox.drain():
            self.system._dead_letter(envelope, self.path, "the actor has ended")
            if envelope.reply is not None:
                envelope.reply.fail(ActorStopped(self.path))
        self.system._forget(self)
        self.ended.set()

    # -- what it owns

    def start_task(
        self, function: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...], name: str | None
    ) -> Callable[[], None]:
        """Start a task that ends with this incarnation."""
        self._task_number += 1
        number = self._task_number
        title = name or f"{self.path} {getattr(function, '__name__', 'task')}"
        scope = self._tasks[number] = trio.CancelScope()

        async def task() -> None:
            try:
                with scope:
                    try:
                        await self.system.world.dispatcher.turn(title)
                        await function(*arguments)
                    except Exception as error:
                        self.fail(error)
            finally:
                del self._tasks[number]
                if not self._tasks and self._tasks_ended is not None:
                    self._tasks_ended.set()
                    self._tasks_ended = None

        self.system._start(task, title)
        return scope.cancel

    def set_timer(self, key: str, delay: float, message: Message[Any], every: float | None) -> None:
        """Arm a keyed timer."""
        self.cancel_timer(key)

        def fire() -> None:
            if every is None:
                self._timers.pop(key, None)
            else:
                self._timers[key] = self.system.world.call_later(every, fire, f"{self.path} timer {key}")
            self.post(Envelope(message, self.path))

        self._timers[key] = self.system.world.call_later(delay, fire, f"{self.path} timer {key}")

    def cancel_timer(self, key: str) -> None:
        """Disarm a keyed timer."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def adopt(self, end: ChannelReader[Any] | ChannelWriter[Any]) -> None:
        """Own one end of a channel."""
        ends = self._channel_ends
        if len(ends) >= self._sweep_at:
            for key in [k for k, e in ends.items() if e.finished]:
                del ends[key]
            self._sweep_at = 2 * len(ends) + 16
        ends[id(end)] = end
