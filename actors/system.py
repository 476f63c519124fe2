"""The actor system: who is alive, how messages travel, and how everything ends.

Actor tasks live in a nursery of their own, beside the caller's tasks: when the caller is cancelled, the
system still stops every actor in order, each within its deadline, and only then returns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, TypeVar, TypeVarTuple

import trio
from attrs import frozen

from understudy.mailbox import (
    CAPACITY,
    CodecError,
    Envelope,
    Mailbox,
    MailboxFull,
    MailboxStatistics,
    Message,
    Overflow,
    OverflowPolicy,
    ReaderState,
    Request,
    WriterState,
    label,
)

from . import waiting
from .actor import Actor, Terminated
from .asking import Ask, FarReply, Sending
from .cell import Cell
from .channels import ChannelReader, ChannelWriter, Core
from .crashes import Crashes
from .delivery import DeadLetter as DeadLetter
from .delivery import DeadLetterBox
from .delivery import Delivery as Delivery
from .dispatch import SimulationOver
from .group import Group
from .hosts import LOCAL as LOCAL
from .hosts import Links
from .incarnation import Incarnation, current_cell
from .probe import Probe
from .ref import ActorFailed, ActorStopped, Ref
from .supervision import PERMANENT, Supervision
from .waiting import AskCycle, Work, current_work
from .world import Event, World, only_leaf

P = TypeVar("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


@frozen
class ActorStatus:
    """One actor at one moment."""

    path: str
    host: str
    state: str
    incarnation: int
    restarts: int
    mailbox: MailboxStatistics
    tasks: int


class ActorSystem:
    """All actors of one program. Use :meth:`open`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.observers: list[Callable[[Delivery], None]] = []
        """Called, synchronously, with every message that reaches an actor, every answer that reaches its
        asker, and every channel item."""
        self.probes: list[Probe] = []
        """Instruments: put in by `add_probe`, taken out by `remove_probe`."""
        self._lost = DeadLetterBox()
        self._cells: dict[str, Cell] = {}
        self._roots: dict[str, Cell] = {}
        self._channels: dict[int, Core] = {}
        self._channel_numbers = count(1)
        self._ask_numbers = count(1)
        self._links = Links(self)
        self._crashes = Crashes(self)
        self._nursery: trio.Nursery | None = None
        self._body = trio.CancelScope()
        self._error: Exception | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, world: World, *, shutdown_seconds: float = 10.0) -> AsyncIterator[ActorSystem]:
        """Run a system for as long as the block does, then stop every actor, last started first.

        Raises:
            RestartIntensityExceeded: an actor without a parent crashed too often; the block is cancelled.
        """
        system = cls(world)
        system._crashes.attach()
        started, ended = world.event("system started"), world.event("system ended")
        trio.lowlevel.spawn_system_task(system._hold, started, ended, name="actor system")
        with trio.CancelScope(shield=True):
            await started.wait()
        try:
            with system._body:
                yield system
        except Exception as error:
            if system._error is None:
                raise
            system._error.add_note(f"and the block that it ended raised {error!r}")
        finally:
            await system._shut_down(shutdown_seconds, ended)
            system._crashes.detach()
        if system._error is not None:
            raise system._error

    async def _hold(self, started: Event, ended: Event) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                started.set()
                self._nursery.start_soon(trio.sleep_forever, name="actor system is open")
        except* SimulationOver:
            pass
        except* Exception as group:
            # Actors raise nothing here: the runtime itself is wrong. That is for the block to raise, too.
            error = only_leaf(group)
            self._escalate(None, error if isinstance(error, Exception) else group)
        finally:
            ended.set()

    async def _shut_down(self, seconds: float, ended: Event) -> None:
        assert self._nursery is not None
        try:
            with self.world.limit(seconds, shield=True):
                while self._roots:
                    await next(reversed(self._roots.values())).stop(1.0)
        finally:
            self._nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                # No task is left behind. Each ends in bounded time unless its author shielded a wait.
                await ended.wait()

    def _start(self, function: Callable[[*Ts], Awaitable[Any]], name: str, *arguments: *Ts) -> None:
        assert self._nursery is not None, "the actor system is not open"
        self._nursery.start_soon(function, *arguments, name=name)

    # -- actors

    def spawn(
        self,
        factory: Callable[[], Actor[P]],
        name: str,
        supervision: Supervision = PERMANENT,
        *,
        host: str = LOCAL,
        capacity: int = CAPACITY,
        overflow: OverflowPolicy = Overflow.REJECT,
        urgent: Iterable[type] = (),
        group: Group | None = None,
    ) -> Ref[P]:
        """Start an actor that has no parent; its path is `/name`.

        `urgent` names message classes that go before all others in its mailbox. Members
        of a `group` restart together.

        Raises:
            ValueError: an actor of that path is alive, or the name contains a slash.
        """
        return self._spawn(None, factory, name, supervision, host, capacity, overflow, urgent, group)

    def _spawn(
        self,
        parent: Cell | None,
        factory: Callable[[], Actor[P]],
        name: str,
        supervision: Supervision,
        host: str,
        capacity: int,
        overflow: OverflowPolicy,
        urgent: Iterable[type],
        group: Group | None,
    ) -> Ref[P]:
        if "/" in name or not name:
            raise ValueError(f"an actor's name is not empty and has no slash: {name!r}")
        path = f"{parent.path if parent else ''}/{name}"
        if path in self._cells:
            raise ValueError(f"an actor {path} is alive already: stop it first, or choose another name")
        cell = Cell(
            self,
            path,
            host,
            factory,
            supervision,
            parent,
            Mailbox(capacity, overflow, frozenset(urgent)),
            self.world.event(f"{path} ended" if self.world.dispatcher.traced else path),
        )
        if self.probes:
            cell.mailbox.watch(True)
        cell.killed = not self.world.host_is_up(host)
        self._crashes.placed.pop(path, None)
        if group is not None:
            group.join(cell)
            cell.group = group
        self._cells[path] = cell
        (parent.children if parent else self._roots)[path] = cell
        self._start(cell.run, path)
        return Ref(path, self)

    def ref(self, path: str) -> Ref[Any]:
        """A ref to whatever actor is, or will be, at that path."""
        return Ref(path, self)

    async def stop(self, target: Ref[Any], deadline_seconds: float = 1.0) -> None:
        """Stop an actor for good and wait until it has ended; at once when there is none."""
        cell = self._find(target)
        if cell is not None:
            await cell.stop(deadline_seconds)

    def crash(self, target: Ref[Any], error: Exception) -> None:
        """Make the actor's present incarnation fail, as if its own code had raised: for faults on purpose."""
        cell = self._find(target)
        if cell is not None:
            cell.fail(error)

    def load_of(self, target: Ref[Any]) -> int:
        """Messages that the actor has yet to finish: waiting, and being handled; 0 when there is none."""
        cell = self._find(target)
        if cell is None:
            return 0
        # Its concurrent handlers are among its tasks, and it waits for messages beside them.
        tasks = len(cell.life.tasks) if cell.life is not None else 0
        return cell.mailbox.depth + tasks + (cell.waiter is None)

    def is_alive(self, target: Ref[Any]) -> bool:
        """Whether the ref reaches an actor that has not ended."""
        return self._find(target) is not None

    def statistics(self) -> list[ActorStatus]:
        """Every living actor, in order of path."""
        return [
            ActorStatus(
                c.path,
                c.host,
                c.state.value,
                c.incarnation,
                c.restarts,
                c.mailbox.statistics(),
                len(c.life.tasks) if c.life is not None else 0,
            )
            for _, c in sorted(self._cells.items())
        ]

    def _find(self, target: Ref[Any]) -> Cell | None:
        cell = self._cells.get(target.path)
        if cell is None or (target.incarnation is not None and target.incarnation != cell.incarnation):
            return None
        return cell

    def _whereabouts(self, target: Ref[Any]) -> str | None:
        """The host of the actor, or where it was; None when no such actor is known."""
        cell = self._cells.get(target.path)
        return self._crashes.placed.get(target.path) if cell is None else cell.host

    def _forget(self, cell: Cell) -> None:
        if self.world.network is not None:
            self._crashes.placed[cell.path] = cell.host
        del self._cells[cell.path]
        del (cell.parent.children if cell.parent else self._roots)[cell.path]

    def _escalate(self, parent: Cell | None, error: Exception) -> None:
        if parent is not None:
            parent.fail(error)
            return
        if self._error is None:
            self._error = error
        self._body.cancel()

    # -- messages

    def tell(self, target: Ref[P], message: Message[P]) -> None:
        """See `Ref.tell`."""
        sender = current_cell.get()
        path, source = ("", LOCAL) if sender is None else (sender.path, sender.host)
        cell = self._cells.get(target.path)
        if cell is not None and cell.host == source and target.incarnation is None and not self.probes:
            target.cache(cell)
            cell.post((message, path))
        else:
            envelope = Envelope(message, path, None, target.incarnation)
            for probe in self.probes:
                probe.sent(target.path, envelope)
            self._deliver(target, envelope, source)

    async def ask(self, target: Ref[P], message: Request[P, R], timeout_seconds: float) -> R:
        """See `Ref.ask`."""
        sender = current_cell.get()
        path, source = ("", LOCAL) if sender is None else (sender.path, sender.host)
        dispatcher = self.world.dispatcher
        ask = Ask(dispatcher, path, target.path, message, timeout_seconds, next(self._ask_numbers))
        cell, work = self._find(target), current_work.get()
        if work is not None and cell is not None:
            waiting.begin(work, cell.work, ask)
        try:
            if cell is not None and cell.host == source:
                envelope = Envelope(message, path, ask, target.incarnation)
                for probe in self.probes:
                    probe.sent(target.path, envelope)
                # An actor's frames hold off the keyboard's interrupts: only those may run another's handler.
                if sender is None or cell.waiter is None or not cell.handle_now(envelope):
                    if cell.mailbox.overflow is Overflow.WAIT:
                        cell.post_or_wait(envelope, ask, acknowledge=False)
                    else:
                        cell.post(envelope)
            else:
                host = self._whereabouts(target)
                reply = ask if host is None or host == source else FarReply(self, ask, host, source)
                envelope = Envelope(message, path, reply, target.incarnation)
                for probe in self.probes:
                    probe.sent(target.path, envelope)
                self._deliver(target, envelope, source)
            return await self._answer_of(ask)  # type: ignore[no-any-return]
        finally:
            if work is not None and ask.holder is not None:
                waiting.end(work, ask)

    async def _send(self, target: Ref[P], message: Message[P], timeout_seconds: float) -> None:
        """See `Ref.send`."""
        sender = current_cell.get()
        path, source = ("", LOCAL) if sender is None else (sender.path, sender.host)
        sending = Sending(
            self.world.dispatcher, path, target.path, message, timeout_seconds, next(self._ask_numbers)
        )
        cell = self._find(target)
        envelope = Envelope(message, path, None, target.incarnation)
        for probe in self.probes:
            probe.sent(target.path, envelope)
        if cell is None:
            self._deliver(target, envelope, source)
            sending.fail(ActorStopped(target.path))
        elif cell.host == source:
            cell.post_or_wait(envelope, sending, acknowledge=True)
            work = current_work.get()
            if work is not None and not sending.done:
                await self._room_for(sending, work, cell)
                return
        else:
            reply = FarReply(self, sending, cell.host, source)

            def arrive(message: Any) -> None:
                there = self._find(target)
                envelope.message = message
                if there is not None:
                    there.post_or_wait(envelope, reply, acknowledge=True)
                else:
                    self._dead_letter(envelope, target.path, "gone on arrival")
                    reply.fail(ActorStopped(target.path))

            self.transmit(source, cell.host, message, arrive, target.path, reply.fail)
        await self._answer_of(sending)

    async def _room_for(self, sending: Sending, work: Work, cell: Cell) -> None:
        """Wait for room as an actor, which might have to make that room itself."""
        try:
            waiting.begin(work, cell.work, sending)
        except AskCycle:
            sending.abandon()
            raise
        try:
            await self._answer_of(sending)
        finally:
            waiting.end(work, sending)

    async def _answer_of(self, ask: Ask) -> Any:
        """Wait until it is answered, fails, or its deadline has passed."""
        dispatcher = ask.dispatcher
        if ask.done:
            # Answered or refused at once. A caller that asks in a loop must let others run all the same.
            await dispatcher.turn(ask.label)
        else:
            timer = dispatcher.expire_later(ask, ask.seconds)
            ask.parked = True
            try:
                await dispatcher.park(ask, ask.abandon)
            finally:
                timer.cancel()
        error = ask.error
        if self.observers:
            answer = ask.value if error is None else error
            self._observe(
                Delivery(self.world.monotonic(), ask.path, ask.asker, answer, ask.number, answer=True)
            )
        if error is not None:
            raise error
        return ask.value

    def _deliver(self, target: Ref[Any], envelope: Envelope, source: str) -> None:
        cell, host = self._find(target), self._whereabouts(target)
        if cell is not None and cell.host == source:
            cell.post(envelope)
        elif host is None or host == source:
            self._dead_letter(envelope, target.path, "no such actor")
            if envelope.reply is not None:
                envelope.reply.fail(ActorStopped(target.path))
        else:

            def lose(error: Exception, reason: str) -> None:
                self._dead_letter(envelope, target.path, reason)
                if envelope.reply is not None:
                    envelope.reply.fail(error)

            def arrive(message: Any) -> None:
                there = self._find(target)
                envelope.message = message
                if there is None:
                    lose(ActorStopped(target.path), "gone on arrival")
                    return
                if there.killed:
                    self._dead_letter(envelope, target.path, "the host is starting")
                    return
                try:
                    if there.mailbox.overflow is Overflow.WAIT and envelope.reply is not None:
                        there.post_or_wait(envelope, envelope.reply, acknowledge=False)
                    else:
                        there.post(envelope)
                except MailboxFull as full:
                    lose(full, "the mailbox is full on arrival")

            def unreadable(error: CodecError) -> None:
                if envelope.reply is not None:
                    envelope.reply.fail(ActorFailed(target.path, str(error)))

            def lost(reason: str) -> None:
                self._dead_letter(envelope, target.path, "lost between hosts", reason)

            self.transmit(
                source, host, envelope.message, arrive, target.path, unreadable, on_lost=lost, reliable=False
            )

    def transmit(
        self,
        source: str,
        target: str,
        item: Any,
        deliver: Callable[[Any], None],
        what: str,
        on_unreadable: Callable[[CodecError], None] | None = None,
        *,
        on_lost: Callable[[str], None] | None = None,
        reliable: bool = True,
    ) -> None:
        """See `Links.transmit`."""
        self._links.transmit(source, target, item, deliver, what, on_unreadable, on_lost, reliable)

    def channel(
        self, name: str, capacity: int = 256, host: str = LOCAL
    ) -> tuple[ChannelWriter[Any], ChannelReader[Any]]:
        """A channel read on `host`; whoever gets the writer in a message writes from its own host."""
        number = next(self._channel_numbers)
        writer, reader = self._new_channel(number, name, capacity, host)
        self._channels[number] = writer._core
        return writer, reader

    def _new_channel(
        self, number: int, name: str, capacity: int, host: str
    ) -> tuple[ChannelWriter[Any], ChannelReader[Any]]:
        core = Core(
            self,
            number,
            name,
            host,
            host,
            ReaderState(capacity),
            WriterState(capacity),
            self.world.signal(f"{name} readable"),
            self.world.signal(f"{name} writable"),
        )
        return ChannelWriter(core), ChannelReader(core)

    def own_channel(self, name: str, capacity: int) -> tuple[ChannelWriter[Any], ChannelReader[Any]]:
        """A channel read by whoever calls: an actor's task (it ends with the actor), or code outside."""
        cell = current_cell.get()
        writer, reader = self.channel(name, capacity, _host(cell))
        if cell is not None and cell.life is not None:
            cell.life.adopt(reader)
        return writer, reader

    # -- what is seen

    def add_probe(self, probe: Probe) -> None:
        """Have an instrument see every message from now on; see `understudy.actors.observe`."""
        self.probes.append(probe)
        for cell in self._cells.values():
            cell.mailbox.watch(True)

    def remove_probe(self, probe: Probe) -> None:
        """Undo `add_probe`."""
        self.probes.remove(probe)
        for cell in self._cells.values():
            cell.mailbox.watch(bool(self.probes))

    def _delivered(self, path: str, envelope: Envelope) -> None:
        if self.world.simulated:
            self.world.dispatcher.note("handle", f"{path} {label(envelope.message)} from {envelope.sender}")
        if self.observers:
            reply = envelope.reply
            number = reply.number if isinstance(reply, Ask | FarReply) else 0
            self._observe(Delivery(self.world.monotonic(), envelope.sender, path, envelope.message, number))

    def _delivered_item(self, core: Core, item: Any) -> None:
        if self.observers:
            self._observe(Delivery(self.world.monotonic(), core.label, core.label, item, channel=core.number))

    def _observe(self, delivery: Delivery) -> None:
        for observer in self.observers:
            observer(delivery)

    # -- what is lost

    @property
    def dead_letters(self) -> deque[DeadLetter]:
        """The last 1000 messages that nobody handled."""
        return self._lost.letters

    @property
    def dead_letter_count(self) -> int:
        """How many messages nobody handled so far."""
        return self._lost.counts.total()

    @property
    def dead_letters_by_reason(self) -> dict[str, int]:
        """The same, for each reason that occurred (a copy)."""
        return dict(self._lost.counts)

    def lose(self, letter: DeadLetter) -> None:
        """Keep and count a dead letter."""
        self._lost.add(letter)

    def _dead_letter(self, envelope: Envelope, path: str, reason: str, detail: str = "") -> None:
        self._lost.add(DeadLetter(path, envelope.sender, envelope.message, reason, detail))

    # -- death watch

    def _watch(self, watcher: Incarnation, target: Ref[Any]) -> None:
        cell = self._find(target)
        if cell is None:
            notice = Terminated(target.path, target.incarnation or 0, None, True)
            watcher.cell.notify(watcher.number, notice)
        else:
            cell.watchers[watcher.cell.path] = watcher.number

    def _unwatch(self, watcher: Incarnation, path: str) -> None:
        cell = self._cells.get(path)
        if cell is not None and cell.watchers.get(watcher.cell.path) == watcher.number:
            del cell.watchers[watcher.cell.path]

    def _notify(self, source: str, watcher: str, incarnation: int, notice: Terminated) -> None:
        self._crashes.tell_watcher(source, watcher, incarnation, notice)


def _host(cell: Cell | None) -> str:
    return LOCAL if cell is None else cell.host
