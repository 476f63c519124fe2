"""A snapshot as a stream of bytes: what a member keeps beside its log, sends to another, and `etcdctl` saves.

The stream is a row of chunks, each a message behind its length and checksum. A chunk's checksum begins with
the one before it, so that chunks cannot be lost, doubled or come from another stream. The first chunk says
what it is a snapshot of; then come the slices of the state (see `understudy.raftstore.snapshot`); the last
one counts the chunks and bytes before it.

Neither side holds the loop for longer than a slice takes: the writer makes a chunk when it is asked for one,
the reader takes what has come.
"""

import struct
import zlib
from collections.abc import AsyncGenerator, Iterator
from typing import Final

from attrs import define, field, frozen

from understudy.actors import World
from understudy.mailbox import message
from understudy.mailbox.codec import Codec, CodecError
from understudy.raftstore.configuration import Configuration
from understudy.raftstore.messages import Snapshot
from understudy.raftstore.restorer import Restorer
from understudy.raftstore.snapshot import MachineSnapshot

FORMAT: Final = 4
READABLE: Final = (2, 3, 4)
"""Format 2 told the versions of every change in an order; until format 3 all sessions were in the head."""
MAGIC: Final = b"understudy snap\n"
CHUNK_BYTES_MAX: Final = 64 << 20
_CHUNK = struct.Struct("<II")
"""Length and checksum of what follows."""

_codec = Codec()


class SnapshotError(Exception):
    """Bytes that are no whole snapshot: where, and what is wrong."""

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(f"byte {offset}: {what}")
        self.offset = offset
        self.what = what


@message("raft.snapshot-stream-head")
@frozen
class StreamHead:
    """What a snapshot is of."""

    format: int
    cluster: int
    index: int
    term: int
    configuration: Configuration
    empty: bool
    """It is the state before the first entry, and no slices follow."""


@message("raft.snapshot-stream-foot")
@frozen
class StreamFoot:
    chunks: int
    """Before this one."""
    size_bytes: int
    """Before this one."""


def encode_snapshot(snapshot: Snapshot, cluster: int, slice_bytes: int = 64 << 10) -> Iterator[bytes]:
    """The stream, a chunk at a time. Its data is None for the state before the first entry."""
    data = snapshot.data
    assert data is None or isinstance(data, MachineSnapshot), type(data)
    yield MAGIC
    checksum, chunks, size_bytes = 0, 0, len(MAGIC)

    def chunk(body: bytes) -> bytes:
        nonlocal checksum, chunks, size_bytes
        checksum = zlib.crc32(body, checksum)
        chunks += 1
        size_bytes += _CHUNK.size + len(body)
        return _CHUNK.pack(len(body), checksum) + body

    head = StreamHead(FORMAT, cluster, snapshot.index, snapshot.term, snapshot.configuration, data is None)
    yield chunk(_codec.encode(head))
    for part in data.slices(slice_bytes) if data is not None else ():
        yield chunk(_codec.encode(part))
    yield chunk(_codec.encode(StreamFoot(chunks, size_bytes)))


async def snapshot_stream(
    world: World, snapshot: Snapshot, cluster: int, slice_bytes: int = 64 << 10
) -> AsyncGenerator[bytes, None]:
    """The stream for whoever saves it elsewhere; others go first between any two pieces."""
    for chunk in encode_snapshot(snapshot, cluster, slice_bytes):
        yield chunk
        await world.dispatcher.turn("snapshot stream")


@define
class SnapshotReader:
    """Takes a stream in pieces of any size."""

    head: StreamHead | None = None
    offset: int = 0
    """Of the first byte that is not taken yet."""
    chunks: int = 0
    finished: bool = False
    _buffer: bytearray = field(factory=bytearray)
    _checksum: int = 0
    _restorer: Restorer = field(factory=Restorer)

    def feed(self, data: bytes) -> None:
        """Raises `SnapshotError`."""
        self._buffer += data
        position = 0
        if not self.offset and len(self._buffer) >= len(MAGIC):
            if self._buffer[: len(MAGIC)] != MAGIC:
                raise SnapshotError(0, f"expected a snapshot, found {bytes(self._buffer[: len(MAGIC)])!r}")
            position = self.offset = len(MAGIC)
        while self.offset and not self.finished and len(self._buffer) - position >= _CHUNK.size:
            length, checksum = _CHUNK.unpack_from(self._buffer, position)
            if length > CHUNK_BYTES_MAX:
                raise SnapshotError(self.offset, f"a chunk of {length} bytes, at most {CHUNK_BYTES_MAX}")
            end = position + _CHUNK.size + length
            if len(self._buffer) < end:
                break
            body = bytes(self._buffer[position + _CHUNK.size : end])
            found = zlib.crc32(body, self._checksum)
            if found != checksum:
                raise SnapshotError(
                    self.offset,
                    f"chunk {self.chunks}: expected the checksum {checksum:#010x}, found {found:#010x}",
                )
            self._take(body)
            self._checksum = checksum
            self.chunks += 1
            self.offset += end - position
            position = end
        del self._buffer[:position]
        if self.finished and self._buffer:
            raise SnapshotError(self.offset, f"{len(self._buffer)} bytes behind the end")

    def _take(self, body: bytes) -> None:
        try:
            value = _codec.decode(body)
            if self.head is None:
                if not isinstance(value, StreamHead):
                    raise SnapshotError(self.offset, f"expected a head, found {type(value).__name__}")
                if value.format not in READABLE:
                    known = ", ".join(map(str, READABLE))
                    raise SnapshotError(self.offset, f"format {value.format}, known are {known}")
                self.head = value
            elif isinstance(value, StreamFoot):
                if (value.chunks, value.size_bytes) != (self.chunks, self.offset):
                    raise SnapshotError(
                        self.offset,
                        f"expected {value.chunks} chunks in {value.size_bytes} bytes, "
                        f"found {self.chunks} in {self.offset}",
                    )
                self.finished = True
            else:
                self._restorer.add(value)
        except (CodecError, ValueError) as error:
            raise SnapshotError(self.offset, f"chunk {self.chunks} cannot be read: {error}") from error

    def snapshot(self) -> Snapshot:
        """What was read. Raises `SnapshotError` when it is not whole."""
        head = self.head
        if head is None or not self.finished:
            raise SnapshotError(self.offset + len(self._buffer), "the end is missing")
        if head.empty:
            return Snapshot(head.index, head.term, head.configuration, None)
        try:
            data = self._restorer.finish()
        except ValueError as error:
            raise SnapshotError(self.offset, str(error)) from error
        return Snapshot(head.index, head.term, head.configuration, data)
