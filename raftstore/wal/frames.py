"""How batches stand in a segment of the log, and what can be told when they no longer stand so. Sans I/O.

A segment is a file of a fixed size, made of zeros beforehand. Its first sector says whose it is and where it
goes on from; after it stand frames, one for each batch. A frame's checksum covers the segment's header, the
frame's place in the file, its number and the checksum of the frame before it: what is stale, misdirected or
another member's never counts as valid. A frame's header lies within one sector, and a sector (512 bytes) is
what a disk writes as a whole or not at all.

Each batch is synced before the next is written. So a power loss can have hit the last batch alone, and where
it did, sectors of it are still zeros. From that follows what `scan` decides where no valid frame stands:

- a valid frame stands further on: *damage*; it would be there only if this one had been synced;
- a frame of the right number stands elsewhere: *damage*, a misdirected write;
- its header is zeros, and there is nothing but zeros: the *end* of the log;
- its header is zeros, and there is something behind it: *torn*, its first sector was never written;
- its header is valid, its body is not, and more of its sectors are zeros than when it was written: *torn*;
- anything else: *damage* of what had been synced and perhaps acknowledged.

A torn batch was never acknowledged, and is cut off. Damage is never cut off by itself.

What cannot be told apart: a last batch that was synced and of which the disk later lost a whole sector, to
zeros, looks torn; one that it lost altogether, or never wrote although it said so, looks as if it had never
been. Only other members know then. A bit that flips in zeros where the next header would stand looks like
damage; elsewhere in the unused rest it looks torn, and costs nothing. The unused rest of a segment that has
a successor is not looked at.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from attrs import frozen

from understudy.actors.disk import SECTOR_BYTES
from understudy.raftstore.messages import HardState

SEGMENT_FORMAT: Final = 2
"""Of segments, frames, batches (`batches`) and entries (`entries`)."""
FRAME_MAGIC: Final = b"\xabFRM"
_SEGMENT_MAGIC: Final = b"understudy raft log\n"
_SEGMENT = struct.Struct("<20sIQQQQIQQQQQ")
_CHECKSUM = struct.Struct("<I")
_FRAME = struct.Struct("<4sIQQIIII")
"""Magic, checksum of the rest, number, offset, length of the body, its zero sectors, the frame before it, the
body's checksum."""
HEADER_BYTES: Final = _FRAME.size
ALIGNMENT: Final = 8
_ZEROS: Final = bytes(SECTOR_BYTES)


class HeaderError(Exception):
    """A segment's first sector is not what was written."""


class UnknownFormat(HeaderError):
    """It was written by another version."""


@frozen
class SegmentHeader:
    """Whose a segment is, and where the log stood when it was begun."""

    cluster: int
    member: int
    number: int
    """Of the segment, from 1."""
    first_sequence: int
    """Number of its first frame, counted over all segments from 1."""
    previous: int
    """Checksum of the frame before that."""
    base_index: int
    """Where the log ended."""
    base_term: int
    hard_state: HardState

    def encode(self) -> bytes:
        """The first sector."""
        state = self.hard_state
        body = _SEGMENT.pack(
            _SEGMENT_MAGIC,
            SEGMENT_FORMAT,
            self.cluster,
            self.member,
            self.number,
            self.first_sequence,
            self.previous,
            self.base_index,
            self.base_term,
            state.term,
            state.vote,
            state.commit_index,
        ).ljust(SECTOR_BYTES - _CHECKSUM.size, b"\0")
        return body + _CHECKSUM.pack(zlib.crc32(body))

    @classmethod
    def decode(cls, data: bytes) -> "SegmentHeader":
        """Raises `HeaderError`."""
        sector = bytes(data[:SECTOR_BYTES])
        if len(sector) < SECTOR_BYTES:
            raise HeaderError(f"{len(sector)} bytes are no segment: the header alone has {SECTOR_BYTES}")
        body, (checksum,) = sector[: -_CHECKSUM.size], _CHECKSUM.unpack(sector[-_CHECKSUM.size :])
        if not body.startswith(_SEGMENT_MAGIC):
            raise HeaderError(f"expected a segment of a log, found {body[:20]!r}")
        if zlib.crc32(body) != checksum:
            raise HeaderError(
                f"the header's checksum is {checksum:#010x}, its content makes {zlib.crc32(body):#010x}"
            )
        _, version, cluster, member, number, first, previous, index, term, *state = _SEGMENT.unpack_from(body)
        if version != SEGMENT_FORMAT:
            raise UnknownFormat(f"segment format {version}, known is {SEGMENT_FORMAT}")
        return cls(cluster, member, number, first, previous, index, term, HardState(*state))


@frozen
class Frame:
    """A valid frame."""

    sequence: int
    offset: int
    body: bytes
    checksum: int
    """What the next frame names as the one before it."""

    @property
    def end(self) -> int:
        return self.offset + HEADER_BYTES + len(self.body)


@frozen
class Flaw:
    """Where a segment stops being valid, and why."""

    offset: int
    what: str
    torn: bool
    """It is the last batch, and was never synced: to be cut off. Otherwise it is damage."""


@frozen
class Scan:
    header: SegmentHeader
    frames: tuple[Frame, ...]
    flaw: Flaw | None

    @property
    def end(self) -> int:
        """Where the valid part ends."""
        return self.frames[-1].end if self.frames else SECTOR_BYTES

    @property
    def next_sequence(self) -> int:
        return self.header.first_sequence + len(self.frames)

    @property
    def checksum(self) -> int:
        """Of the last frame so far."""
        return self.frames[-1].checksum if self.frames else self.header.previous


def place(offset: int) -> int:
    """Where the next frame begins when the valid part ends at `offset`: its header within one sector."""
    offset = -(-offset // ALIGNMENT) * ALIGNMENT
    left = SECTOR_BYTES - offset % SECTOR_BYTES
    return offset if left >= HEADER_BYTES else offset + left


def zero_sectors(offset: int, data: bytes) -> int:
    """How many sectors' parts of `data`, were it at `offset` of a file, hold nothing but zeros."""
    count = 0
    start, end = 0, len(data)
    stop = SECTOR_BYTES - offset % SECTOR_BYTES
    while start < end:
        piece = data[start:stop]
        if piece == _ZEROS[: len(piece)]:
            count += 1
        start, stop = stop, stop + SECTOR_BYTES
    return count


def identity(header: SegmentHeader) -> int:
    """What ties frames to their segment."""
    # Without its own checksum: what ends with its CRC-32 has the same one whatever it says.
    return zlib.crc32(header.encode()[: -_CHECKSUM.size])


def encode_frame(segment: int, sequence: int, offset: int, previous: int, body: bytes) -> tuple[bytes, int]:
    """The bytes of a frame, and its checksum. `segment` is the `identity` of where it will stand."""
    assert body, "a frame of nothing"
    # The header is never all zeros, so that its sector is not counted.
    blank = zero_sectors(offset, b"\xff" * HEADER_BYTES + body)
    rest = _FRAME.pack(
        FRAME_MAGIC, 0, sequence, offset, len(body), blank, previous, zlib.crc32(body, segment)
    )[8:]
    checksum = zlib.crc32(rest, segment)
    return FRAME_MAGIC + _CHECKSUM.pack(checksum) + rest + body, checksum


def _header_at(data: bytes, offset: int, segment: int) -> tuple[int, ...] | None:
    """A frame's header, valid but perhaps out of place: checksum, number, offset, length, ..."""
    if len(data) - offset < HEADER_BYTES or data[offset : offset + 4] != FRAME_MAGIC:
        return None
    _, checksum, *fields = _FRAME.unpack_from(data, offset)
    if zlib.crc32(data[offset + 8 : offset + HEADER_BYTES], segment) != checksum:
        return None
    return (checksum, *fields)


def _stray(data: bytes, after: int, segment: int, sequence: int) -> tuple[int, int, int] | None:
    """A frame of number `sequence` or later from `after` on: (found at, its number, belongs at)."""
    at = data.find(FRAME_MAGIC, after)
    while at >= 0:
        header = _header_at(data, at, segment) if at % ALIGNMENT == 0 else None
        if header is not None and header[1] >= sequence:
            return at, header[1], header[2]
        at = data.find(FRAME_MAGIC, at + 1)
    return None


def scan(data: bytes) -> Scan:
    """Read a segment up to its end or its first flaw; the rules are at the head of this module.

    Raises:
        HeaderError: the first sector is damaged.
    """
    header = SegmentHeader.decode(data)
    found = list(frames_of(data, header))
    flaw = found.pop() if found and isinstance(found[-1], Flaw) else None
    assert flaw is None or isinstance(flaw, Flaw)
    return Scan(header, tuple([frame for frame in found if isinstance(frame, Frame)]), flaw)


def frames_of(data: bytes, header: SegmentHeader) -> Iterator[Frame | Flaw]:
    """Each valid frame of a segment; then its first flaw, if it has one."""
    segment = identity(header)
    offset, sequence, previous = place(SECTOR_BYTES), header.first_sequence, header.previous
    while (found := _frame(data, segment, offset, sequence, previous)) is not None:
        yield found
        if isinstance(found, Flaw):
            return
        offset, sequence, previous = place(found.end), sequence + 1, found.checksum


def _frame(data: bytes, segment: int, offset: int, sequence: int, previous: int) -> Frame | Flaw | None:
    """The frame that should stand at `offset`; None: the log ends before it."""
    if offset + HEADER_BYTES > len(data):
        return None
    found = _header_at(data, offset, segment)
    if found is not None and found[2] == offset:
        checksum, number, _, length, blank, before, body_checksum = found
        if (number, before) != (sequence, previous):
            return Flaw(
                offset,
                f"expected batch {sequence} after {previous:#010x}, found {number} after {before:#010x}",
                False,
            )
        body = data[offset + HEADER_BYTES : offset + HEADER_BYTES + length]
        if len(body) == length and zlib.crc32(body, segment) == body_checksum:
            return Frame(sequence, offset, body, checksum)
        what = (
            f"batch {sequence} of {length} bytes: expected the checksum {body_checksum:#010x}, "
            f"found {zlib.crc32(body, segment):#010x}"
        )
        lost = zero_sectors(offset, data[offset : offset + HEADER_BYTES + length]) - blank
        stray = _stray(data, offset + 1, segment, sequence)
        if stray is not None:
            return Flaw(offset, f"{what}; {_describe(stray, sequence)}", False)
        if lost > 0 and len(body) == length:
            return Flaw(offset, f"{what}; {lost} of its sectors were never written", True)
        return Flaw(offset, what, False)
    stray = _stray(data, offset, segment, sequence)
    if stray is not None:
        return Flaw(offset, f"batch {sequence} is not here; {_describe(stray, sequence)}", False)
    head = data[offset : offset + HEADER_BYTES]
    if head != _ZEROS[:HEADER_BYTES]:
        return Flaw(
            offset, f"expected the header of batch {sequence} or zeros, found {head[:16].hex()}...", False
        )
    if data.count(0, offset) != len(data) - offset:
        return Flaw(offset, f"the first sector of batch {sequence} was never written", True)
    return None


def _describe(stray: tuple[int, int, int], sequence: int) -> str:
    at, number, belongs = stray
    if number == sequence:
        return f"it stands at byte {at} instead of {belongs}: a misdirected write"
    return f"batch {number}, written after it was synced, stands at byte {at}"
