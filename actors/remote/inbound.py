"""Messages from a peer on their way into mailboxes: credit, order, and what comes of each.

A message that finds its mailbox full waits here, in order, and at most a window of them an actor. It is
handed on when one of its predecessors is finished, or a moment later. So the connection's reader never waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from attrs import define, field

from understudy.actors.ref import ActorFailed, ActorStopped, Ref, Unhandled
from understudy.actors.system import DeadLetter
from understudy.mailbox import CodecError, Envelope, MailboxFull, Reply, Told, envelope_of

from .credit import ReceiveWindow
from .framing import ProtocolError
from .protocol import Kind, pack
from .reliable import Inbox

if TYPE_CHECKING:
    from .peer import Peer

TARGETS_MAX = 65536
"""Actors, and names that are no actor's, to which one peer may have messages waiting."""

RETRY_SECONDS = 0.01
"""After so long, a message that waits for room in a mailbox is tried again."""

ACKNOWLEDGE_EVERY = 64
"""Reliable messages that are acknowledged together while others are in work."""

MARK_EVERY = 64
"""Of told messages, one of so many is followed to its end. Mailboxes keep their order, so that those before
it are finished by then, too; and those cost what local ones do."""

UNREADABLE_BYTES_KEPT = 256
"""Of a message that cannot be read: enough to see what it is."""

_TOLD_ALREADY = (ActorFailed, ActorStopped, MailboxFull, Unhandled)
"""Ends of a message that its actor's own bookkeeping has noted."""


@define(eq=False)
class Target:
    """One actor's messages from one peer."""

    inbound: Inbound
    name: str
    """As the wire calls it."""
    ref: Ref[Any]
    window: ReceiveWindow
    _waiting: deque[Envelope | Told] = field(factory=deque, init=False)
    _retrying: bool = field(default=False, init=False)
    _pumping: bool = field(default=False, init=False)

    @property
    def idle(self) -> bool:
        return self.window.idle and not self._waiting

    def deliver_all(self, entries: list[Envelope | Told]) -> None:
        """`deliver` them: with one look at where they go, as long as there is room."""
        peer = self.inbound.peer
        cell = None if self._waiting else peer.system._cells.get(self.ref.path)
        position = 0
        if cell is not None and cell.host == peer.host:
            waiting = cell.waiting
            if len(waiting) + len(entries) <= cell.mailbox.room:
                waiting.extend(entries)
                if cell.waiter is not None:
                    cell.wake()
                return
            try:
                for entry in entries:
                    cell.post(entry)
                    position += 1
            except MailboxFull:
                self._waiting.append(entries[position])
                self._retry_later()
                position += 1
        for entry in entries[position:]:
            self.deliver(entry)

    def ask(self, envelope: Envelope) -> None:
        """`deliver` it; handled here and now if its actor is idle and nobody else is kept waiting by that."""
        peer = self.inbound.peer
        cell = None if self._waiting else peer.system._cells.get(self.ref.path)
        at_once = peer.connection is not None and peer.connection.at_once
        if cell is None or cell.host != peer.host or not at_once or not cell.handle_now(envelope):
            self.deliver(envelope)

    def deliver(self, entry: Envelope | Told) -> None:
        """Into the mailbox, or behind those that wait for room in it."""
        if len(self._waiting) >= 2 * self.window.window:
            # Of several connections, each with its window: only of a peer that keeps losing them.
            envelope = envelope_of(entry)
            self.inbound.peer.dead_letter(self.ref.path, envelope.message, envelope.sender, "too many wait")
            if envelope.reply is not None:
                envelope.reply.fail(MailboxFull(self.window.window))
        elif self._waiting:
            self._waiting.append(entry)
        elif not self._post(entry):
            self._waiting.append(entry)
            self._retry_later()

    def _post(self, entry: Envelope | Told) -> bool:
        peer = self.inbound.peer
        cell = peer.system._cells.get(self.ref.path)
        try:
            if cell is not None and cell.host == peer.host:
                cell.post(entry)
            else:
                peer.system._deliver(self.ref, envelope_of(entry), peer.host)
        except MailboxFull:
            return False
        return True

    def pump(self) -> None:
        """Hand on what waits, as far as there is room."""
        if self._pumping:
            # A message that was refused as it was handed on has made room at once.
            return
        self._pumping = True
        try:
            while self._waiting:
                entry = self._waiting.popleft()
                if type(entry) is tuple:
                    # Followed to its end, which makes room for the next.
                    message, sender = entry
                    entry = Envelope(message, sender, _Told(self, message, self.window, 0))
                if not self._post(entry):
                    self._waiting.appendleft(entry)
                    self._retry_later()
                    return
        finally:
            self._pumping = False

    def _retry_later(self) -> None:
        if not self._retrying:
            self._retrying = True
            self.inbound.peer.world.call_later(RETRY_SECONDS, self._retry, "remote mailbox retry")

    def _retry(self) -> None:
        self._retrying = False
        self.pump()

    def forget(self, reply: Reply) -> None:
        """A message whose asker gave up need not wait any longer."""
        for entry in self._waiting:
            if type(entry) is Envelope and entry.reply is reply:
                self._waiting.remove(entry)
                return

    def tells_finished(self, window: ReceiveWindow, count: int) -> None:
        """So many messages that were told within that window are finished."""
        if window is self.window:
            credits = window.finish(count)
            if credits:
                self.inbound.peer.say(pack(Kind.CREDIT, self.name, credits))
        if self._waiting:
            self.pump()


@define(eq=False)
class _Told(Reply):
    """What becomes of told messages: their credits go back when the last is finished, whichever way."""

    target: Target
    message: Any
    window: ReceiveWindow
    """The target's, of the connection over which they came."""
    count: int
    open: bool = True

    def answer(self, value: Any) -> None:
        if self.open:
            self.open = False
            self.target.tells_finished(self.window, self.count)

    def fail(self, error: Exception) -> None:
        if self.open and not isinstance(error, _TOLD_ALREADY):
            self.target.inbound.peer.dead_letter(
                self.target.ref.path, self.message, "", "refused", repr(error)
            )
        self.answer(None)

    def wanted(self) -> bool:
        return True

    def on_abandoned(self, cancel: Callable[[], None]) -> None:
        pass


@define(eq=False)
class _Asked(Reply):
    """An answer's way back to the peer, and the way here of the news that nobody waits for it."""

    target: Target
    number: int
    connection: int
    open: bool = True
    """Neither answered nor abandoned."""
    _cancel: Callable[[], None] | None = None

    def answer(self, value: Any) -> None:
        if self.open:
            peer = self.target.inbound.peer
            try:
                data = peer.encode(value)
            except CodecError as error:
                self.fail(ActorFailed(self.target.ref.path, f"its answer cannot be sent: {error}"))
                raise
            self._close(pack(Kind.ANSWER, self.number, data))

    def fail(self, error: Exception) -> None:
        if self.open:
            peer = self.target.inbound.peer
            try:
                data = peer.encode(error)
            except CodecError as unsendable:
                data = peer.encode(ActorFailed(self.target.ref.path, f"{error!r} ({unsendable})"))
            self._close(pack(Kind.FAILURE, self.number, data))

    def _close(self, frame: bytes) -> None:
        self.open = False
        target = self.target
        inbound = target.inbound
        if self.connection == inbound.peer.connections:
            inbound.open.pop(self.number, None)
            target.window.answered()
            inbound.peer.say_urgently(frame)
        target.pump()

    def abandon(self) -> None:
        """The asker gave up or is gone: whoever still works on it may stop."""
        if self.open:
            self._close(pack(Kind.FAILURE, self.number, None))
            self.target.forget(self)
            if self._cancel is not None:
                self._cancel()

    def wanted(self) -> bool:
        return self.open

    def on_abandoned(self, cancel: Callable[[], None]) -> None:
        if self.open:
            self._cancel = cancel
        else:
            cancel()


@define(eq=False)
class _Reliable(Reply):
    """What becomes of a message of a reliable stream: it is acknowledged when it is finished."""

    target: Target
    message: Any
    stream: int
    number: int
    inbox: Inbox
    open: bool = True

    def answer(self, value: Any) -> None:
        if self.open:
            self.open = False
            self.target.inbound.reliable_finished(self.stream, self.inbox, self.number)
            self.target.pump()

    def fail(self, error: Exception) -> None:
        if self.open and not isinstance(error, _TOLD_ALREADY):
            self.target.inbound.peer.dead_letter(
                self.target.ref.path, self.message, "", "refused", repr(error)
            )
        self.answer(None)

    def wanted(self) -> bool:
        return True

    def on_abandoned(self, cancel: Callable[[], None]) -> None:
        pass


def _runs(runs: list[Any]) -> Iterator[tuple[str, int, bytes]]:
    """The runs of a TELLS frame."""
    if len(runs) % 3:
        raise ProtocolError(f"TELLS: runs of {len(runs)} fields")
    fields = iter(runs)
    for name, count, data in zip(fields, fields, fields, strict=True):
        if type(name) is not str or type(count) is not int or type(data) is not bytes or count < 1:
            raise ProtocolError(f"TELLS: a run of {count!r} {type(name).__name__} {type(data).__name__}")
        yield name, count, data


@define(eq=False)
class Inbound:
    """Everything that one peer has on its way to actors here."""

    peer: Peer
    open: dict[int, _Asked] = field(factory=dict, init=False)
    """Asks that are not answered yet."""
    inboxes: dict[int, Inbox] = field(factory=dict, init=False)
    """Reliable streams; they outlive connections."""
    _targets: dict[str, Target] = field(factory=dict, init=False)
    _sweep_at: int = field(default=1024, init=False)

    def _target(self, name: str) -> Target:
        target = self._targets.get(name)
        if target is None:
            if len(self._targets) >= self._sweep_at:
                self.sweep()
            try:
                ref = self.peer.local_ref(name)
            except ValueError as error:
                raise ProtocolError(f"a message for {error}") from error
            target = Target(self, name, ref, ReceiveWindow(self.peer.limits.window))
            self._targets[name] = target
        return target

    def sweep(self) -> None:
        """Forget the targets that have nothing on their way."""
        for name in [name for name, target in self._targets.items() if target.idle]:
            del self._targets[name]
        if len(self._targets) >= TARGETS_MAX:
            raise ProtocolError(f"messages for {len(self._targets)} actors wait")
        self._sweep_at = 2 * len(self._targets) + 1024

    def _unreadable(self, path: str, data: bytes, error: CodecError, sender: str) -> None:
        letter = DeadLetter(path, sender, data[:UNREADABLE_BYTES_KEPT], "it cannot be read", str(error))
        self.peer.system.lose(letter)

    def tells(self, frame: list[Any]) -> None:
        """TELLS"""
        _, path, sender, runs = frame[:4]
        target = self._target(path)
        peer, window = self.peer, target.window
        sender = f"{peer.name}:{sender}"
        messages: list[Any] = []
        for name, count, data in _runs(runs):
            window.accept(count)
            try:
                read = peer.decode_run(name, count, data)
            except CodecError as error:
                raise ProtocolError(f"TELLS: {error}") from error
            if CodecError in map(type, read):
                errors = [message for message in read if type(message) is CodecError]
                read = [message for message in read if type(message) is not CodecError]
                for unreadable in errors:
                    self._unreadable(path, data, unreadable, sender)
                target.tells_finished(window, len(errors))
            messages += read
        pin = target.ref.incarnation
        every = 1 if pin is not None else max(1, min(MARK_EVERY, window.window // 8))
        entries: list[Envelope | Told] = [(message, sender) for message in messages]
        last = len(messages) - 1
        for position in [*range(every - 1, last, every), last] if messages else ():
            message = messages[position]
            count = every if position < last else last % every + 1
            entries[position] = Envelope(message, sender, _Told(target, message, window, count), pin)
        target.deliver_all(entries)

    def ask(self, frame: list[Any]) -> None:
        """ASK"""
        _, number, name, sender, data = frame[:5]
        if number in self.open:
            raise ProtocolError(f"ASK: number {number} is in use")
        target = self._target(name)
        target.window.accept(1)
        peer = self.peer
        reply = self.open[number] = _Asked(target, number, peer.connections)
        try:
            message = peer.decode(data)
        except CodecError as error:
            self._unreadable(name, data, error, f"{peer.name}:{sender}")
            reply.fail(ActorFailed(target.ref.path, f"the message cannot be read: {error}"))
            return
        target.ask(Envelope(message, f"{peer.name}:{sender}", reply, target.ref.incarnation))

    def cancel(self, frame: list[Any]) -> None:
        """CANCEL: the answer may have crossed it."""
        reply = self.open.get(frame[1])
        if reply is not None:
            reply.abandon()

    def reliable(self, frame: list[Any]) -> None:
        """RELIABLE"""
        _, stream, number, name, sender, data = frame[:6]
        inbox = self.inboxes.get(stream)
        if inbox is None:
            if len(self.inboxes) >= TARGETS_MAX:
                raise ProtocolError(f"{len(self.inboxes)} reliable streams")
            inbox = self.inboxes[stream] = Inbox()
        if not inbox.accept(number):
            # It came before: the acknowledgement was lost with a connection.
            self._acknowledge(stream, inbox)
            return
        peer = self.peer
        if inbox.received - inbox.done > peer.limits.window:
            raise ProtocolError(f"RELIABLE: over {peer.limits.window} messages wait")
        target = self._target(name)
        try:
            message = peer.decode(data)
        except CodecError as error:
            self._unreadable(name, data, error, f"{peer.name}:{sender}")
            self.reliable_finished(stream, inbox, number)
            return
        reply = _Reliable(target, message, stream, number, inbox)
        target.deliver(Envelope(message, f"{peer.name}:{sender}", reply, target.ref.incarnation))

    def reliable_finished(self, stream: int, inbox: Inbox, number: int) -> None:
        """A message of a reliable stream is finished."""
        inbox.finish(number)
        due = inbox.done - inbox.acknowledged
        if due and (inbox.done == inbox.received or due >= ACKNOWLEDGE_EVERY):
            self._acknowledge(stream, inbox)

    def _acknowledge(self, stream: int, inbox: Inbox) -> None:
        inbox.acknowledged = inbox.done
        self.peer.say(pack(Kind.ACK, stream, inbox.done))

    def end(self, frame: list[Any]) -> None:
        """END: the stream's sender is done with it."""
        self.inboxes.pop(frame[1], None)

    def tick(self) -> None:
        """Give back the credits that were not worth a frame so far, and acknowledge what is done."""
        for target in list(self._targets.values()):
            credits = target.window.flush()
            if credits:
                self.peer.say(pack(Kind.CREDIT, target.name, credits))
        for stream, inbox in list(self.inboxes.items()):
            if inbox.done > inbox.acknowledged:
                self._acknowledge(stream, inbox)

    def disconnected(self) -> None:
        """The connection is lost: nobody waits for these answers, and credits count anew."""
        for reply in list(self.open.values()):
            reply.abandon()
        self.open.clear()
        for target in self._targets.values():
            target.window = ReceiveWindow(self.peer.limits.window)
