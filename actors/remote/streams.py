"""Reliable streams: messages to one actor of a peer that outlive lost connections, once and in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from attrs import define, field

from understudy.actors.incarnation import current_cell
from understudy.actors.ref import Ref
from understudy.actors.world import Event
from understudy.mailbox import MailboxFull, Message

from .framing import ProtocolError
from .protocol import Kind, pack, pack_caused
from .refusals import PeerQuarantined
from .reliable import Outbox

if TYPE_CHECKING:
    from .peer import Peer

P = TypeVar("P")


@define(eq=False)
class ReliableRef(Generic[P]):
    """The sending end. While both nodes live, each message reaches the actor's mailbox once and in order,
    however often the connection is lost; it is done when the actor has handled it.

    As in one process, a message that the actor crashes on is not sent again, and one that finds no actor is a
    dead letter there. When either node loses its state, every method raises `PeerQuarantined`: which of the
    messages that were not done have been handled is not known then.
    """

    ref: Ref[P]
    _peer: Peer = field(repr=False)
    _number: int = field(repr=False)
    _name: str = field(repr=False)
    _outbox: Outbox[bytes] = field(repr=False)
    _progress: Event | None = field(default=None, init=False, repr=False)
    _closed: bool = field(default=False, init=False)

    @property
    def unfinished(self) -> int:
        """Messages that are not known to be done."""
        return self._outbox.sent - self._outbox.acknowledged

    def tell(self, message: Message[P]) -> None:
        """Take charge of a message.

        Raises:
            MailboxFull: as many as the stream's capacity are not done.
            PeerQuarantined: the actor's node lost its state.
            CodecError: the message has no wire form, or is too large.
        """
        self._check()
        outbox, peer = self._outbox, self._peer
        if outbox.full:
            raise MailboxFull(outbox.capacity)
        cell = current_cell.get()
        sender = "" if cell is None else cell.path
        data = peer.encode(message)
        fields = (Kind.RELIABLE, self._number, outbox.sent + 1, self._name, sender, data)
        cause = peer.noted(self.ref, message, sender) if peer.system.probes else None
        frame = pack(*fields) if cause is None else pack_caused(cause, *fields)
        outbox.add(frame)
        peer.say(frame)

    async def send(self, message: Message[P]) -> None:
        """Take charge of a message, waiting while the stream is full."""
        self._check()
        while self._outbox.full:
            await self._wait()
        self.tell(message)

    async def drained(self) -> None:
        """Return once every message is done."""
        self._check()
        while self.unfinished:
            await self._wait()

    def close(self) -> None:
        """Take no further messages; those that are not done are still seen to."""
        self._closed = True
        self._end_when_done()

    async def _wait(self) -> None:
        if self._progress is None:
            self._progress = self._peer.world.event(f"progress of the stream to {self.ref.path}")
        await self._progress.wait()
        self._check()

    def _check(self) -> None:
        quarantine = self._peer.quarantine
        if quarantine is not None:
            raise PeerQuarantined(self._peer.name, quarantine)
        if self._closed:
            raise RuntimeError(f"the stream to {self.ref.path} was closed")

    def _look_again(self) -> None:
        progress, self._progress = self._progress, None
        if progress is not None:
            progress.set()

    def _end_when_done(self) -> None:
        if not self._closed or self.unfinished:
            return
        streams = self._peer.streams
        if streams.senders.pop(self._number, None) is not None:
            streams.end(self._number)


@define(eq=False)
class Streams:
    """The reliable streams to one peer."""

    peer: Peer
    senders: dict[int, ReliableRef[Any]] = field(factory=dict, init=False)
    _ending: dict[int, None] = field(factory=dict, init=False)
    """Streams that are done with, as the peer does not know for certain: a connection may lose the news."""
    _last: int = field(default=0, init=False)

    def open(self, ref: Ref[P], name: str, capacity: int) -> ReliableRef[P]:
        """A new stream to the actor that the peer calls `name`."""
        self._last += 1
        sender = ReliableRef(ref, self.peer, self._last, name, Outbox(capacity))
        self.senders[self._last] = sender
        return sender

    def acknowledged(self, frame: list[Any]) -> None:
        """ACK"""
        _, number, done = frame[:3]
        if not 1 <= number <= self._last:
            raise ProtocolError(f"ACK: there is no stream {number}")
        sender = self.senders.get(number)
        if sender is not None and sender._outbox.acknowledge(done):
            sender._look_again()
            sender._end_when_done()

    def end(self, number: int) -> None:
        """Have the peer forget a stream of which everything is done."""
        self._ending[number] = None
        self.peer.say(pack(Kind.END, number))

    def ended(self, frame: list[Any]) -> None:
        """ENDED"""
        self._ending.pop(frame[1], None)

    def connected(self) -> None:
        """Say again whatever is not known to have arrived."""
        for number in self._ending:
            self.peer.say(pack(Kind.END, number))
        for sender in self.senders.values():
            for _, frame in sender._outbox.unacknowledged():
                self.peer.say(frame)

    def fail(self) -> None:
        """The peer is in quarantine."""
        self._ending.clear()
        senders, self.senders = self.senders, {}
        for sender in senders.values():
            sender._look_again()
