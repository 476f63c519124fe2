"""The post office: how what is told, sent and asked reaches the actors of one system, and what was lost.

Within a host a message passes by reference into a mailbox; between hosts `hosts` carries it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from understudy.mailbox import (
    CodecError,
    Envelope,
    MailboxFull,
    Message,
    Overflow,
    Request,
    label,
)

from . import waiting
from .actor import Terminated
from .asking import Ask, FarReply, Sending
from .delivery import DeadLetter, DeadLetterBox, Delivery
from .hosts import LOCAL, Links
from .incarnation import Incarnation, current_cell
from .probe import Probe
from .ref import ActorFailed, ActorStopped, Ref
from .waiting import AskCycle, Work, current_work
from .world import World

if TYPE_CHECKING:
    from .cell import Cell
    from .channels import Core
    from .crashes import Crashes
    from .registries import Registries

P = TypeVar("P")
R = TypeVar("R")


class PostOffice:
    """Who is alive, and how messages reach them: the part of an actor system that refs speak to."""

    _links: Links
    _crashes: Crashes
    _registries: Registries

    def __init__(self, world: World) -> None:
        self.world = world
        self.observers: list[Callable[[Delivery], None]] = []
        """Called, synchronously, with every message that reaches an actor, every answer that reaches its
        asker, and every channel item."""
        self.probes: list[Probe] = []
        """Instruments: put in by `add_probe`, taken out by `remove_probe`."""
        self._lost = DeadLetterBox()
        self._cells: dict[str, Cell] = {}
        self._ask_numbers = count(1)

    def _find(self, target: Ref[Any]) -> Cell | None:
        cell = self._cells.get(target.path)
        if cell is None or (target.incarnation is not None and target.incarnation != cell.incarnation):
            return None
        return cell

    def _whereabouts(self, target: Ref[Any]) -> str | None:
        """The host of the actor, or where it was; None when no such actor is known."""
        cell = self._cells.get(target.path)
        return self._crashes.placed.get(target.path) if cell is None else cell.host

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

    # -- what is seen

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
