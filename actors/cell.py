"""A cell: one actor's life, from its first incarnation to its end.

States: starting -> running (-> draining) -> stopping -> (backing off -> starting ...) -> stopped. The
outermost frame of the actor's task catches every Exception, tells the watchers, and never raises: what
follows is the supervision's decision. A new incarnation begins only after the old one's stop hook has
returned.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import TYPE_CHECKING, Any

import trio
from attrs import define, field

from understudy.mailbox import Envelope, Mailbox, MailboxFull, Reply, Told

from .actor import Actor, Context, Terminated
from .dispatch import Timer, Waiter
from .group import Group, Round
from .handling import handle, lose_owed
from .incarnation import Incarnation, current_cell
from .receiving import receive
from .ref import ActorStopped
from .signals import Inspection, Leave, Notice, Stop
from .supervision import Restart, RestartIntensityExceeded, Supervision
from .waiting import Work, current_work
from .when_needed import WhenNeeded
from .world import Event

if TYPE_CHECKING:
    from .system import ActorSystem

log = logging.getLogger("understudy.actors")


class State(Enum):
    """Where an actor is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPING = "stopping"
    BACKING_OFF = "backing off"
    STOPPED = "stopped"


@define(eq=False, repr=False)
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
    made: dict[str, Any] | None = field(default=None, init=False)
    waiting: deque[Any] = field(init=False)
    """The mailbox's own; see `Mailbox.room`."""
    waiter: Waiter | None = None
    """Where the actor waits for messages, while it does."""
    group: Group | None = None
    round: Round | None = None
    """The common restart of the group that this actor is in, from its end until it runs again."""
    state: State = State.STARTING
    incarnation: int = 0
    restarts: int = 0
    life: Incarnation | None = None
    """The incarnation of this moment, if there is one."""
    children = WhenNeeded[dict[str, "Cell"]](dict)
    watchers = WhenNeeded[dict[str, int]](dict)
    """Path and incarnation of who watches this actor."""
    stop_requested: bool = False
    draining: bool = False
    """Ends as soon as it has handled what it has accepted; its mailbox is closed."""
    stops_after: tuple[str, ...] = ()
    """Paths of siblings that are to end before this one is stopped, where all are."""
    suspended: bool = False
    """Takes no messages but the system's; outlives restarts."""
    work: Work = field(init=False)
    """Its mailbox loop, in the graph of who waits for whom."""
    senders: dict[Reply, tuple[Envelope, bool]] | None = None
    """Who waits for room, in order: the message, and whether to say when it was taken in."""
    begun: Coroutine[Any, Any, None] | None = None
    """A message's handling that an asker began and that this actor's task has to go on with."""
    killed: bool = False
    """Its host has crashed, and it has not begun again since."""
    _back_off_scope: trio.CancelScope | None = None
    _stop_timers = WhenNeeded[list[Timer]](list)
    _ends = WhenNeeded[list[float]](list)
    """When incarnations ended that were to be followed by another, within the supervision's window."""

    def __attrs_post_init__(self) -> None:
        self.waiting = self.mailbox.user
        self.work = Work(self.path)

    def __repr__(self) -> str:
        return f"<Cell {self.path}#{self.incarnation} {self.state.value}>"

    @property
    def actor(self) -> Actor[Any] | None:
        """The author's object, while an incarnation has one."""
        return self.life.actor if self.life is not None else None

    # -- what others do to this actor

    def post(self, entry: Envelope | Told) -> None:
        """Put a message in the mailbox and wake the actor if it waits.

        Raises:
            MailboxFull: the mailbox is full and its policy is to reject.
        """
        displaced = self.mailbox.put(entry)
        self.waiting = self.mailbox.user
        if displaced is not None:
            self._displaced(displaced)
        if self.waiter is not None:
            self.wake()

    def _displaced(self, envelope: Envelope) -> None:
        closed = self.mailbox.closed
        reason = "the actor is stopping" if closed else "displaced by the overflow policy"
        self.system._dead_letter(envelope, self.path, reason)
        if envelope.reply is not None:
            envelope.reply.fail(ActorStopped(self.path) if closed else MailboxFull(self.mailbox.capacity))

    def put_back(self, entries: list[Envelope | Told]) -> None:
        """Messages that this actor has taken and not handled come before all that wait."""
        self.mailbox.put_back(entries)
        self.waiting = self.mailbox.user

    def post_or_wait(self, envelope: Envelope, reply: Reply, acknowledge: bool) -> None:
        """Like `post`, but with the mailbox full, and a policy that would reject, the message waits for room.

        With `acknowledge`, `reply` is answered once the message was taken in, and fails when the actor ends
        before that.
        """
        if self.mailbox.closed:
            self.post(envelope)
            reply.fail(ActorStopped(self.path))
            return
        if not self.senders:
            try:
                self.post(envelope)
            except MailboxFull:
                pass
            else:
                if acknowledge:
                    reply.answer(None)
                return
        if self.senders is None:
            self.senders = {}
        self.senders[reply] = (envelope, acknowledge)
        reply.on_abandoned(lambda: self._forget_sender(reply))

    def _forget_sender(self, reply: Reply) -> None:
        if self.senders is not None:
            self.senders.pop(reply, None)

    def _refuse_senders(self) -> None:
        waiting, self.senders = self.senders, None
        for reply in waiting or ():
            reply.fail(ActorStopped(self.path))

    def admit(self) -> None:
        """Take in those who wait for room, the first first, as far as there is room."""
        while self.senders:
            reply = next(iter(self.senders))
            envelope, acknowledge = self.senders[reply]
            if reply.wanted():
                try:
                    self.post(envelope)
                except MailboxFull:
                    return
            del self.senders[reply]
            if acknowledge:
                reply.answer(None)

    def handle_now(self, envelope: Envelope) -> bool:
        """Begin to handle a message inside the caller's step, if the actor is idle; False: it is not.

        For the actor it is as if its own task ran: the handler's waits, and what it raises, are that task's.
        """
        waiter, life = self.waiter, self.life
        if waiter is None or life is None or self.mailbox or self.suspended:
            return False
        self.waiter = None
        handling = handle(life, envelope)
        try:
            ended = self.system.world.dispatcher.begin_as(waiter, handling)
        except Exception as error:
            life.fail(error)
            ended = True
        if ended is None:
            handling.close()
            self.waiter = waiter
            return False
        self.mailbox.count_handled()
        if not ended:
            self.begun = handling
        elif not waiter.woken:
            self.waiter = waiter
            if self.mailbox or self.draining:
                self.wake()
        return True

    def post_system(self, message: Any) -> None:
        """Put a system message in its lane."""
        self.mailbox.put_system(message)
        if self.waiter is not None:
            self.wake()

    def wake(self) -> None:
        """End the actor's wait for a message."""
        waiter, self.waiter = self.waiter, None
        assert waiter is not None, f"{self.path} does not wait"
        self.system.world.dispatcher.wake(waiter)

    def notify(self, incarnation: int, terminated: Terminated) -> None:
        """Tell one incarnation that somebody whom it watches has ended."""
        self.post_system(Notice(incarnation, terminated))

    async def stop(self, deadline_seconds: float | None = None, drain: bool | None = None) -> None:
        """End for good: message, deadline, cancellation, stop hook; returns when the actor has ended.

        What is not said is as its supervision says.
        """
        if self.state is not State.STOPPED:
            self.request_stop(deadline_seconds, drain)
            await self.ended.wait()

    def request_stop(self, deadline_seconds: float | None = None, drain: bool | None = None) -> None:
        """Begin to stop, without waiting. The deadline stands even if whoever asked for it gives up."""
        policy = self.supervision
        if policy.drains if drain is None else drain:
            self._begin_drain()
        else:
            self._stop_now()
        seconds = policy.stop_seconds if deadline_seconds is None else deadline_seconds
        overdue = f"{self.path} stop deadline"
        self._stop_timers.append(self.system.world.call_later(seconds, self.cancel_stop, overdue))

    def _stop_now(self) -> None:
        self.stop_requested = True
        if self._back_off_scope is not None:
            self._back_off_scope.cancel()
        self.post_system(Stop())

    def _begin_drain(self) -> None:
        """Take nothing new, and end once what was accepted is handled, in whichever incarnation."""
        self.draining = True
        self.mailbox.close()
        self._refuse_senders()
        if self.state is State.RUNNING:
            self._enter(State.DRAINING)
        if self.waiter is not None:
            self.wake()

    def cancel_stop(self) -> None:
        """The time to stop is over: end now."""
        idle = self.waiter is not None
        self._stop_now()
        if self.life is not None and not self.life.ending and not idle:
            self.system._overdue(self.path)
            self.life.cancel()

    def leave_with_group(self) -> None:
        """End this incarnation, because another member of the group has crashed."""
        life = self.life
        if life is not None:
            self.request_leave(life.number)
            self._stop_timers = [timer for timer in self._stop_timers if timer.action is not None]
            seconds = self.supervision.stop_seconds
            overdue = f"{self.path} leave deadline"
            self._stop_timers.append(self.system.world.call_later(seconds, life.cancel, overdue))

    def request_leave(self, incarnation: int) -> None:
        """End that incarnation after the current message."""
        self.post_system(Leave(incarnation))

    def kill(self) -> None:
        """Its host crashes: what it knew and what waited for it is gone."""
        self.killed = True
        for envelope in self.mailbox.drain():
            self.system._dead_letter(envelope, self.path, "the host crashed")
        if self._back_off_scope is not None:
            self._back_off_scope.cancel()
        if self.life is not None:
            self.life.kill()

    def fail(self, error: Exception) -> None:
        """Crash the current incarnation: one of its children did."""
        if self.life is not None:
            self.life.fail(error)

    # -- its life

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """The actor's task."""
        current_cell.set(self)
        current_work.set(self.work)
        try:
            await self.system.world.dispatcher.turn(f"{self.path} start")
            while not self.stop_requested:
                if self.killed and not await self._rise_again():
                    break
                if self.round is not None and not self.round.has_ended(self):
                    # Another member has crashed before this one ever began.
                    with trio.CancelScope() as self._back_off_scope:
                        await self._wait_for_group()
                    self._back_off_scope = None
                    continue
                reason = await self._live()
                if self.killed:
                    if self.round is not None:
                        self.round.gone(self)
                        self.round = None
                    continue
                again = not self.stop_requested and self._allows_restart(reason)
                self._tell_watchers(reason, final=not again)
                if not again:
                    break
                await self._between(reason)
            else:
                # Stopped before its first incarnation or between two.
                self._tell_watchers(None, final=True)
        finally:
            self._finish()

    async def _rise_again(self) -> bool:
        """Wait until the host has power again; False when this actor does not begin again then."""
        elsewhere = self.parent is None or self.parent.host != self.host
        if not elsewhere or self.supervision.restart is Restart.TEMPORARY:
            return False
        self._enter(State.BACKING_OFF)
        with trio.CancelScope() as self._back_off_scope:
            await self.system.world.until_host_up(self.host)
        self._back_off_scope = None
        if self.stop_requested:
            return False
        for envelope in self.mailbox.drain():
            self.system._dead_letter(envelope, self.path, "the host crashed")
        self.killed = False
        self.restarts += 1
        self._ends.clear()
        return True

    async def _live(self) -> Exception | None:
        """One incarnation; returns why it crashed, or None."""
        self.incarnation += 1
        self._enter(State.STARTING)
        life = self.life = Incarnation(self, self.incarnation)
        # Another round may begin while it starts: that one it has yet to end for.
        round = self.round
        try:
            try:
                with life.scope:
                    life.actor = self.factory()
                    life.handlers = type(life.actor).handlers
                    life.actor.context = Context(life)
                    await life.actor.on_start()
                    self._enter(State.DRAINING if self.draining else State.RUNNING)
                    if round is not None and self.round is round:
                        round.started(self)
                        self.round = None
                    await receive(life)
            except Exception as error:
                # Caught outside the scope, which takes its own cancellations out of an exception group.
                life.fail(error)
        finally:
            self._enter(State.STOPPING)
            await life.end()
            lose_owed(life)
            self.life = None
        if life.failure is not None:
            # A search crashes on purpose, thousands of times; what fails there is explained otherwise.
            traced = not self.system.world.simulated or log.isEnabledFor(logging.DEBUG)
            log.warning(
                "actor %s crashed: %r", self.path, life.failure, exc_info=life.failure if traced else None
            )
        return life.failure

    def forget_wait(self) -> None:
        """Its wait for a message was cancelled."""
        self.waiter = None

    def _enter(self, state: State) -> None:
        self.state = state
        for probe in self.system.probes:
            probe.changed(self.path, self.incarnation, state.value)

    # -- between two incarnations, and at the end

    def _allows_restart(self, reason: Exception | None) -> bool:
        policy = self.supervision
        if policy.restart is Restart.TEMPORARY or (policy.restart is Restart.TRANSIENT and reason is None):
            return False
        if reason is None and self.round is not None:
            # Ended for another member's crash, which was counted there.
            return True
        now = self.system.world.monotonic()
        group = self.group
        self._ends = [end for end in self._ends if end >= now - policy.within_seconds] + [now]
        if group is None:
            ends, restarts_max, within = len(self._ends), policy.restarts_max, policy.within_seconds
        else:
            ends, restarts_max, within = group.count_end(now), group.restarts_max, group.within_seconds
        if ends > restarts_max:
            what = "ended by itself" if reason is None else "crashed"
            if group is not None:
                what = f"and its {group.strategy.value} group {what}"
            error = RestartIntensityExceeded(
                f"{self.path} {what} {ends} times in {within:g} s, last: {reason!r}"
            )
            error.__cause__ = reason
            self.system._escalate(self.parent, error)
            return False
        return True

    async def _between(self, reason: Exception | None) -> None:
        """Wait until the next incarnation may start: the back-off, and the other members of the group."""
        self.restarts += 1
        self._enter(State.BACKING_OFF)
        round, group = self.round, self.group
        if group is not None and reason is not None and (round is None or round.has_ended(self)):
            group.begin_round(self)
        backs_off = reason is not None or round is None
        with trio.CancelScope() as self._back_off_scope:
            if backs_off:
                world = self.system.world
                jitter = world.rng(f"backoff {self.path}").random()
                wait = self.supervision.backoff_seconds(len(self._ends), jitter)
                await world.sleep(wait, f"{self.path} restart back-off")
            await self._wait_for_group()
        self._back_off_scope = None

    async def _wait_for_group(self) -> None:
        # Again, when another member's crash has begun another round meanwhile.
        while (round := self.round) is not None:
            round.ended(self)
            await round.wait(self)
            if self.round is round:
                break

    def _tell_watchers(self, reason: Exception | None, final: bool) -> None:
        notice = Terminated(self.path, self.incarnation, None if reason is None else repr(reason), final)
        for watcher, incarnation in list(self.watchers.items()):
            self.system._notify(self.host, watcher, incarnation, notice)

    def _finish(self) -> None:
        self._enter(State.STOPPED)
        for timer in self._stop_timers:
            timer.cancel()
        self.mailbox.close()
        self._refuse_senders()
        while (message := self.mailbox.get_system()) is not None:
            if isinstance(message, Inspection):
                message.lose(ActorStopped(self.path))
        for envelope in self.mailbox.drain():
            self.system._dead_letter(envelope, self.path, "the actor has ended")
            if envelope.reply is not None:
                envelope.reply.fail(ActorStopped(self.path))
        if self.group is not None:
            self.group.leave(self)
        self.system._forget(self)
        self.ended.set()
