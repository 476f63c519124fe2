"""Messages of one peer on their way into one actor's mailbox, and what becomes of each.

A message that finds the mailbox full waits here, in order, and at most a window of them. It is handed on when
one of its predecessors is finished, or a moment later. So the connection's reader never waits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import define, field

from understudy.actors.ref import ActorFailed, ActorStopped, Ref, Unhandled
from understudy.mailbox import CodecError, Envelope, MailboxFull, Reply, envelope_of
from understudy.mailbox import Told as Entry

from .credit import ReceiveWindow
from .protocol import Kind, pack
from .reliable import Inbox

if TYPE_CHECKING:
    from .inbound import Inbound

RETRY_SECONDS = 0.01
"""After so long, a message that waits for room in a mailbox is tried again."""

_NOTED_ALREADY = (ActorFailed, ActorStopped, MailboxFull, Unhandled)
"""Ends of a message that its actor's own bookkeeping has noted."""


@define(eq=False)
class Target:
    """One actor's messages from one peer."""

    inbound: Inbound
    name: str
    """As the wire calls it."""
    ref: Ref[Any]
    window: ReceiveWindow
    _waiting: deque[Envelope | Entry] = field(factory=deque, init=False)
    _retrying: bool = field(default=False, init=False)
    _pumping: bool = field(default=False, init=False)

    @property
    def idle(self) -> bool:
        return self.window.idle and not self._waiting

    def deliver_all(self, entries: list[Envelope | Entry]) -> None:
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

    def deliver(self, entry: Envelope | Entry) -> None:
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

    def _post(self, entry: Envelope | Entry) -> bool:
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
                    entry = Envelope(message, sender, Told(self, message, self.window, 0))
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
class _Followed(Reply):
    """What becomes of a message that nobody waits for: all that counts is that it is finished."""

    target: Target
    message: Any
    open: bool = field(default=True, init=False)

    @abstractmethod
    def finished(self) -> None:
        """Called once."""

    def answer(self, value: Any) -> None:
        if self.open:
            self.open = False
            self.finished()

    def fail(self, error: Exception) -> None:
        if self.open and not isinstance(error, _NOTED_ALREADY):
            peer = self.target.inbound.peer
            peer.dead_letter(self.target.ref.path, self.message, "", "refused", repr(error))
        self.answer(None)

    def wanted(self) -> bool:
        return True

    def on_abandoned(self, cancel: Callable[[], None]) -> None:
        pass


@define(eq=False)
class Told(_Followed):
    """The last of some told messages: their credits go back when it is finished."""

    window: ReceiveWindow
    """The target's, of the connection over which they came."""
    count: int

    def finished(self) -> None:
        self.target.tells_finished(self.window, self.count)


@define(eq=False)
class Reliable(_Followed):
    """A message of a reliable stream: it is acknowledged when it is finished."""

    stream: int
    number: int
    inbox: Inbox

    def finished(self) -> None:
        self.target.inbound.reliable_finished(self.stream, self.inbox, self.number)
        self.target.pump()


@define(eq=False)
class Asked(Reply):
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
