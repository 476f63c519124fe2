"""An incarnation: one run of an actor between two restarts, and everything that it owns.

Tasks, timers, channel ends and watches belong to the incarnation that started them. Whatever is left of one
that has ended (a task that would not be cancelled in time) can no longer touch the actor's next one.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio
from attrs import define, field

from understudy.mailbox import Envelope, MailboxFull, Message

from .channels import ChannelReader, ChannelWriter
from .deferred import Deferred
from .dispatch import Timer
from .ref import ActorStopped, LimitReached, Ref, StashFull
from .ref import current_cell as current_cell
from .registry import ToldSubscription
from .stopping import in_stop_order
from .waiting import Work, current_work
from .when_needed import WhenNeeded
from .world import Event

if TYPE_CHECKING:
    from .actor import Actor, Handler
    from .cell import Cell
    from .registry import Key

log = logging.getLogger("understudy.actors")

STOP_HOOK_SECONDS = 2.0
"""How long an incarnation's stop hook, and the clean-up of its tasks, may each take until abandoned."""

TASKS_MAX = 10_000
"""An incarnation that has so many tasks, concurrent handlers included, cannot start another one by itself."""
TIMERS_MAX = 10_000
"""Timers of one incarnation that are armed at a time."""


@define(eq=False)
class Incarnation:
    """What one incarnation owns, and how it ends."""

    cell: Cell
    number: int
    """1 for the first."""
    actor: Actor[Any] | None = field(default=None, init=False)
    made: dict[str, Any] | None = field(default=None, init=False)
    ending: bool = field(default=False, init=False)
    """Set when it begins to stop, and never taken back: from then on it starts nothing new."""
    failure: Exception | None = field(default=None, init=False)
    """Why it crashed: the first reason, if there are several."""
    scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    tasks: dict[int, trio.CancelScope] = field(factory=dict, init=False)
    _last_task: int = field(default=0, init=False)
    _tasks_ended: Event | None = field(default=None, init=False)
    _timers = WhenNeeded[dict[str, Timer]](dict)
    _channel_ends = WhenNeeded[dict[int, ChannelReader[Any] | ChannelWriter[Any]]](dict)
    _subscriptions = WhenNeeded["dict[str, ToldSubscription]"](dict)
    _links = WhenNeeded[dict[str, None]](dict)
    handlers: dict[type, Handler] = field(factory=dict, init=False)
    """Those of the behaviour in force."""
    behaviours = WhenNeeded["list[dict[type, Handler]]"](list)
    """What `become` has put aside."""
    handled: Any = field(default=None, init=False)
    """The entry of the mailbox that is being handled; None between two, and once it was stashed."""
    stashed = WhenNeeded[list[Any]](list)
    running = WhenNeeded["dict[Handler, int]"](dict)
    """How many calls of each bounded concurrent handler go on."""
    slot_free: Event | None = field(default=None, init=False)
    """Set when one of them ends, or an answer was given later, where the actor waits for that."""
    owed = WhenNeeded[dict[Deferred[Any], Envelope]](dict)
    """Answers that were deferred, and to what."""
    _sweep_at: int = field(default=16, init=False)
    _watched = WhenNeeded[dict[str, Ref[Any]]](dict)

    def fail(self, error: Exception) -> None:
        """Crash: a handler, a task or a child did."""
        if self.failure is None:
            self.failure = error
        else:
            log.warning("actor %s crashes already, and then: %r", self.cell.path, error)
        self.cancel()

    def cancel(self) -> None:
        """End now instead of after the current message."""
        if not self.ending:
            self.scope.cancel()

    def kill(self) -> None:
        """The host has crashed: end now, without a word to anybody."""
        self.scope.cancel()
        for scope in list(self.tasks.values()):
            scope.cancel()

    # -- what it starts

    def check_tasks(self) -> None:
        """Raise LimitReached when `TASKS_MAX` go on already; concurrent handlers have limits of their own."""
        if len(self.tasks) >= TASKS_MAX:
            raise LimitReached(self.cell.path, "tasks", TASKS_MAX)

    def start_task(
        self,
        function: Callable[..., Awaitable[Any]],
        arguments: tuple[Any, ...],
        name: str | None,
        on_unstarted: Callable[[], None] | None = None,
        work: Work | None = None,
    ) -> Callable[[], None]:
        """Start a task that ends with this incarnation; returns what cancels it.

        `on_unstarted` is called when it is cancelled before its first step. `work` is what it does, in the
        graph of who waits for whom.
        """
        number = self._last_task = self._last_task + 1
        title = name or f"{self.cell.path} {getattr(function, '__name__', 'task')}"
        scope = self.tasks[number] = trio.CancelScope()
        if self.ending:
            scope.cancel()
        self.cell.system._start(
            self._run_task, title, number, scope, title, function, arguments, on_unstarted, work
        )
        return scope.cancel

    @trio.lowlevel.enable_ki_protection
    async def _run_task(
        self,
        number: int,
        scope: trio.CancelScope,
        title: str,
        function: Callable[..., Awaitable[Any]],
        arguments: tuple[Any, ...],
        on_unstarted: Callable[[], None] | None,
        work: Work | None,
    ) -> None:
        # Whoever called start_task may have done so on behalf of another actor (a channel's callback).
        current_cell.set(self.cell)
        current_work.set(work or Work(title))
        started = False
        try:
            with scope:
                await self.cell.system.world.dispatcher.turn(title)
                started = not scope.cancel_called
                if started:
                    await function(*arguments)
        except Exception as error:
            # Caught outside the scope, which takes its own cancellations out of an exception group.
            self.fail(error)
        finally:
            if not started and on_unstarted is not None:
                on_unstarted()
            del self.tasks[number]
            if not self.tasks and self._tasks_ended is not None:
                self._tasks_ended.set()

    def set_timer(self, key: str, delay: float, message: Message[Any], every: float | None) -> None:
        """Arm a keyed timer. Raises LimitReached when `TIMERS_MAX` are armed already."""
        if delay < 0.0 or (every is not None and every <= 0.0):
            again = "" if every is None else f", then every {every:g} s"
            raise ValueError(
                f"{self.cell.path} timer {key!r}: a delay is 0 or more, a period above 0, "
                f"not in {delay:g} s{again}"
            )
        self.cancel_timer(key)
        if self.ending:
            return
        if len(self._timers) >= TIMERS_MAX:
            raise LimitReached(self.cell.path, "timers", TIMERS_MAX)
        world = self.cell.system.world
        label = f"{self.cell.path} timer {key}"
        # By the clock of this actor's host, which need not go like the world's.
        due = world.monotonic() + delay

        def fire() -> None:
            nonlocal due
            if every is None:
                self._timers.pop(key, None)
            else:
                # From due time to due time, so that a period does not drift; a late one is not made up for.
                acting = current_cell.set(self.cell)
                try:
                    now = world.monotonic()
                    due = due + every if due + every > now else now + every
                    self._timers[key] = world.call_later(due - now, fire, label)
                finally:
                    current_cell.reset(acting)
            envelope = Envelope(message, self.cell.path, incarnation=self.number)
            try:
                self.cell.post(envelope)
            except MailboxFull as full:
                self.cell.system._dead_letter(
                    envelope, self.cell.path, "a timer found the mailbox full", str(full)
                )

        self._timers[key] = world.call_later(delay, fire, label)

    def cancel_timer(self, key: str) -> None:
        """Disarm a keyed timer."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def adopt(self, end: ChannelReader[Any] | ChannelWriter[Any]) -> None:
        """Own one end of a channel."""
        if self.ending:
            self._close(end)
            return
        ends = self._channel_ends
        if len(ends) >= self._sweep_at:
            for key in [k for k, e in ends.items() if e.finished]:
                del ends[key]
            self._sweep_at = 2 * len(ends) + 16
        ends[id(end)] = end

    def watch(self, target: Ref[Any]) -> None:
        """Hear of every end of the target's incarnations for as long as this one lives."""
        if not self.ending:
            self._watched[target.path] = target
            target._system._watch(self, target)

    def unwatch(self, target: Ref[Any]) -> None:
        """Undo `watch`."""
        watched = self._watched.pop(target.path, None)
        if watched is not None:
            watched._system._unwatch(self, watched.path)

    def link(self, target: Ref[Any]) -> None:
        """Crash when the target's present incarnation does, and the other way round."""
        if self.ending:
            return
        self._links[target.path] = None
        target._system._watch(self, target)
        other = self.cell.system._find(target) if target._system is self.cell.system else None
        if other is not None and other.life is not None and not other.life.ending:
            other.life.hear_of(self)

    def hear_of(self, other: Incarnation) -> None:
        """Be linked to another incarnation of this system."""
        self._links[other.cell.path] = None
        other.cell.watchers[self.cell.path] = self.number

    def is_linked(self, path: str) -> bool:
        """Whether the crash of that actor is a crash of this one."""
        return path in self._links

    def is_watched(self, path: str) -> bool:
        """Whether the actor asked to be told of that one's ends."""
        return path in self._watched

    # -- the registry

    def register(self, key: Key[Any]) -> None:
        """Let its actor be found under the key."""
        if not self.ending:
            self.cell.system._registries.register(self.cell, key)

    def unregister(self, key: Key[Any]) -> None:
        """Undo `register`."""
        if not self.ending:
            self.cell.system._registries.unregister(self.cell, key)

    def subscribe(self, key: Key[Any]) -> None:
        """Hear who is registered under the key, for as long as this incarnation lives."""
        if not self.ending and str(key) not in self._subscriptions:
            registry = self.cell.system._registries.at(self.cell.host)
            subscription = self._subscriptions[str(key)] = ToldSubscription(self, registry, key)
            subscription.begin()

    def unsubscribe(self, key: Key[Any]) -> None:
        """Undo `subscribe`."""
        subscription = self._subscriptions.pop(str(key), None)
        if subscription is not None:
            subscription.end()

    # -- its behaviour

    def become(self, behaviour: str) -> None:
        """Handle messages as the handlers for that behaviour say."""
        assert self.actor is not None, self.cell.path
        handlers = type(self.actor).behaviours.get(behaviour)
        if handlers is None:
            raise ValueError(
                f"no handler of {type(self.actor).__qualname__} is for the behaviour {behaviour!r}"
            )
        self.behaviours.append(self.handlers)
        self.handlers = handlers

    def unbecome(self) -> None:
        """Undo the last `become`."""
        if not self.behaviours:
            raise ValueError(f"{self.cell.path} has not become anything")
        self.handlers = self.behaviours.pop()

    def stash(self, capacity: int) -> None:
        """Put the message that is being handled aside."""
        if self.handled is None or current_work.get() is not self.cell.work:
            hint = "a concurrent handler's message, or none, cannot be put aside"
            raise ValueError(f"{self.cell.path} handles no message that it could stash: {hint}")
        if len(self.stashed) >= capacity:
            raise StashFull(self.cell.path, capacity)
        self.stashed.append(self.handled)
        self.handled = None

    def unstash(self) -> None:
        """Put everything stashed before all other messages."""
        stashed, self.stashed = self.stashed, []
        self.cell.put_back(stashed)

    def free_slot(self) -> None:
        """A concurrent handler has ended, or an answer is no longer owed."""
        free, self.slot_free = self.slot_free, None
        if free is not None:
            free.set()

    # -- its end

    async def end(self) -> None:
        """End everything that it started, then call its stop hook; each step is time-limited."""
        self.ending = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for subscription in self._subscriptions.values():
            subscription.end()
        await self._end_tasks()
        with trio.CancelScope(shield=True):
            # Bounded by the children's own deadlines.
            for child in in_stop_order(self.cell.children):
                await child.stop()
        for end in [] if self.cell.killed else list(self._channel_ends.values()):
            try:
                self._close(end)
            except Exception as error:
                self.fail(error)
        self._channel_ends.clear()
        await self._call_stop_hook()
        for target in self._watched.values():
            target._system._unwatch(self, target.path)
        for path in self._links:
            self.cell.system._unwatch(self, path)
        # Accepted, and not handled: the next incarnation's.
        self.unstash()

    async def _end_tasks(self) -> None:
        for scope in list(self.tasks.values()):
            scope.cancel()
        if not self.tasks:
            return
        world = self.cell.system.world
        with world.limit(STOP_HOOK_SECONDS, shield=True):
            # Again, when a task that ends has started another one.
            while self.tasks:
                self._tasks_ended = world.event(f"{self.cell.path} tasks ended")
                await self._tasks_ended.wait()
        if self.tasks:
            log.error(
                "%d tasks of actor %s did not end within %g s; they are abandoned",
                len(self.tasks),
                self.cell.path,
                STOP_HOOK_SECONDS,
            )

    def _close(self, end: ChannelReader[Any] | ChannelWriter[Any]) -> None:
        if isinstance(end, ChannelWriter):
            end.close(ActorStopped(self.cell.path))
        else:
            end.cancel()

    async def _call_stop_hook(self) -> None:
        if self.actor is None or self.cell.killed:
            return
        try:
            with self.cell.system.world.limit(STOP_HOOK_SECONDS, shield=True) as scope:
                await self.actor.on_stop()
        except Exception as error:
            self.fail(error)
        if scope.cancelled_caught:
            log.error("on_stop of actor %s took over %g s: abandoned", self.cell.path, STOP_HOOK_SECONDS)
