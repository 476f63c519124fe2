"""Channels whose ends are on two nodes: the reader's side keeps the channel, the writer's has credits.

A channel does not outlive the connection: the reader gets `PeerLost` behind what had come, and the writer's
next send fails. Whoever needs more resumes from the last position over a new channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, field

from understudy.actors.channels import ChannelWriter, Core
from understudy.mailbox import CodecError, ReaderState, WriterState

from .framing import ProtocolError
from .protocol import Kind, pack
from .refusals import PeerLost

if TYPE_CHECKING:
    from .peer import Peer


@define(eq=False)
class _FarWriter(WriterState):
    """Stands at the reader's end for a writer on another node: credits travel on."""

    peer: Peer | None = None
    number: int = 0

    def grant(self, credits: int) -> None:
        assert self.peer is not None
        self.peer.say(pack(Kind.GRANT, self.number, credits))


@define(eq=False)
class RemoteWriter(ChannelWriter[Any]):
    """The sending end of a channel that is read on another node."""

    _peer: Peer = field(repr=False)
    _there: int = field(repr=False)
    """The channel's number there."""

    def _tell_end(self, error: Exception | None) -> None:
        core = self._core
        self._peer.channels.drop_import(self._there)
        self._peer.say(
            pack(
                Kind.FINISH,
                self._there,
                core.writer.sent,
                None if error is None else self._peer.encode_error(error, core.label),
            )
        )

    def _transmit(self, item: Any) -> None:
        data = self._peer.encode(item)
        sequence = self._core.writer.next_sequence()
        self._peer.say(pack(Kind.ITEM, self._there, sequence, data))


@define(eq=False)
class Channels:
    """The channels between this node and one peer."""

    peer: Peer
    _exports: dict[int, Core] = field(factory=dict, init=False)
    """Read here, written there; by their number here."""
    _imports: dict[int, RemoteWriter] = field(factory=dict, init=False)
    """Read there, written here; by their number there."""
    _latest: int = field(default=0, init=False)
    """The highest number of a channel that was exported."""

    # -- the reader is here

    def export(self, writer: ChannelWriter[Any]) -> str:
        """The name of a writer that goes to the peer; from now on its credits do, too."""
        if isinstance(writer, RemoteWriter):
            raise CodecError(
                f"the writer of {writer.label} came from another node, and only an actor here can use it"
            )
        writer.check_portable()
        core = writer._core
        state = core.writer
        name = f"writer\0{core.number}\0{state.credits}\0{state.sent}\0{core.label}"
        if isinstance(state, _FarWriter):
            if state.peer is not self.peer:
                raise CodecError(f"the writer of {writer.label} went to another node already")
            return name
        if state.ended or core.system is not self.peer.system:
            # Whoever gets it learns at the first send that nobody reads.
            return f"writer\0{0}\0{0}\0{0}\0{core.label}"
        far = _FarWriter(state.credits, self.peer, core.number)
        far.sent = state.sent
        core.writer = far
        core.writer_host = core.reader_host
        number = core.number
        self._exports[number] = core
        self._latest = max(self._latest, number)
        core.on_writer_end = lambda: self._reader_gone(number)
        return name

    def _reader_gone(self, number: int) -> None:
        if self._exports.pop(number, None) is not None:
            self.peer.say(pack(Kind.STOP, number))

    def _exported(self, frame: list[Any]) -> Core | None:
        number: int = frame[1]
        if not 1 <= number <= self._latest:
            raise ProtocolError(f"{Kind(frame[0]).name}: there is no channel {number}")
        # None: the reader has gone, and the news crosses this frame.
        return self._exports.get(number)

    def item(self, frame: list[Any]) -> None:
        """ITEM"""
        core = self._exported(frame)
        if core is None:
            self.peer.say(pack(Kind.STOP, frame[1]))
            return
        reader, sequence = core.reader, frame[2]
        if sequence != reader.received + 1 + len(reader.early) or sequence in reader.early:
            raise ProtocolError(f"ITEM {sequence} of channel {frame[1]} after {reader.received}")
        if len(reader.buffer) + len(reader.early) >= reader.capacity:
            raise ProtocolError(f"ITEM: channel {frame[1]} has no credit")
        try:
            item = self.peer.decode(frame[3])
        except CodecError as error:
            core.cancel(error)
            return
        core.accept(sequence, item)

    def finish(self, frame: list[Any]) -> None:
        """FINISH"""
        core = self._exported(frame)
        if core is None:
            return
        _, number, sent, data = frame[:4]
        if sent != core.reader.received:
            raise ProtocolError(f"FINISH: channel {number} ends at {sent} after {core.reader.received}")
        error = None if data is None else self.peer.decode_error(data, core.label)
        del self._exports[number]
        core.finish(sent, error)

    # -- the writer is here

    def take_in(self, number: int, credits: int, sent: int, label: str) -> ChannelWriter[Any]:
        """A writer that came in a message."""
        if credits < 0 or sent < 0:
            raise CodecError(f"a channel with {credits} credits behind {sent} items")
        known = self._imports.get(number)
        if known is not None:
            return known
        peer = self.peer
        world = peer.world
        core = Core(
            peer.system,
            next(peer.system._channel_numbers),
            f"{peer.name}:{label}",
            peer.host,
            peer.host,
            ReaderState(1),
            WriterState(credits),
            world.signal(f"{label} readable"),
            world.signal(f"{label} writable"),
        )
        core.writer.sent = sent
        writer = RemoteWriter(core, peer, number)
        if number == 0 or peer.connection is None:
            core.writer.ended = True
        else:
            self._imports[number] = writer
        return writer

    def drop_import(self, number: int) -> None:
        """The writer has ended."""
        self._imports.pop(number, None)

    def grant(self, frame: list[Any]) -> None:
        """GRANT"""
        writer = self._imports.get(frame[1])
        if frame[2] < 1:
            raise ProtocolError(f"GRANT: {frame[2]} credits")
        if writer is not None:
            writer._core.grant(frame[2])

    def stop(self, frame: list[Any]) -> None:
        """STOP: the reader has gone."""
        writer = self._imports.pop(frame[1], None)
        if writer is not None:
            writer._core.end_writer()

    def disconnected(self) -> None:
        """Both ends hear that the other is lost."""
        exports, self._exports = self._exports, {}
        for core in exports.values():
            core.finish(core.reader.received, PeerLost(self.peer.name, self.peer.absence))
        imports, self._imports = self._imports, {}
        for writer in imports.values():
            writer._core.end_writer()
