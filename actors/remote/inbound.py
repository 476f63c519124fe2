"""Messages from a peer: whose they are, their credit, and how each is read.

The receiving twin of `outbound`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from attrs import define, field

from understudy.actors.delivery import DeadLetter
from understudy.actors.ref import ActorFailed
from understudy.mailbox import CodecError, Envelope
from understudy.mailbox import Told as Entry

from .arriving import Asked, Reliable, Target, Told
from .credit import ReceiveWindow
from .framing import ProtocolError
from .protocol import Kind, cause_of, pack
from .reliable import Inbox

if TYPE_CHECKING:
    from .peer import Peer

TARGETS_MAX = 65536
"""Actors, and names that are no actor's, to which one peer may have messages waiting."""

ACKNOWLEDGE_EVERY = 64
"""Reliable messages that are acknowledged together while others are in work."""

UNREADABLE_BYTES_KEPT = 256
"""Of a message that cannot be read: enough to see what it is."""

MARK_EVERY = 64
"""Of told messages, one of so many is followed to its end. Mailboxes keep their order, so that those before
it are finished by then, too; and those cost what local ones do."""


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
    open: dict[int, Asked] = field(factory=dict, init=False)
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
        pin, cause = target.ref.incarnation, cause_of(frame)
        every = 1 if pin is not None or cause is not None else max(1, min(MARK_EVERY, window.window // 8))
        entries: list[Envelope | Entry] = [(message, sender) for message in messages]
        last = len(messages) - 1
        for position in [*range(every - 1, last, every), last] if messages else ():
            message = messages[position]
            count = every if position < last else last % every + 1
            entries[position] = Envelope(message, sender, Told(target, message, window, count), pin, cause)
        target.deliver_all(entries)

    def ask(self, frame: list[Any]) -> None:
        """ASK"""
        _, number, name, sender, data = frame[:5]
        if number in self.open:
            raise ProtocolError(f"ASK: number {number} is in use")
        target = self._target(name)
        target.window.accept(1)
        peer = self.peer
        reply = self.open[number] = Asked(target, number, peer.connections)
        try:
            message = peer.decode(data)
        except CodecError as error:
            self._unreadable(name, data, error, f"{peer.name}:{sender}")
            reply.fail(ActorFailed(target.ref.path, f"the message cannot be read: {error}"))
            return
        target.ask(Envelope(message, f"{peer.name}:{sender}", reply, target.ref.incarnation, cause_of(frame)))

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
        reply = Reliable(target, message, stream, number, inbox)
        target.deliver(
            Envelope(message, f"{peer.name}:{sender}", reply, target.ref.incarnation, cause_of(frame))
        )

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
        self.peer.say(pack(Kind.ENDED, frame[1]))

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
