"""HTTP/2 frames and header blocks, without I/O (RFC 9113 and 7541): as much of them as gRPC needs.

Answers of gRPC are a dozen constant bytes around a message, and a client's requests begin with the same few
bytes again and again. So what is sent is literal and has no state, and what comes is remembered.
"""

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final

import hpack
from attrs import define, field

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_BYTES_MAX: Final = 16_384
"""Of a frame that comes in: the smallest limit there may be, and the default (RFC 9113, 4.2)."""
HEAD_BYTES: Final = 9
BLOCKS_KEPT: Final = 256

_HEAD: Final = struct.Struct(">HBBBI")
_SETTING: Final = struct.Struct(">HI")

Headers = Sequence[tuple[bytes, bytes]]


# Kinds of frames (RFC 9113, 6): plain numbers, since looking up members of an enumeration costs more than
# all else about a small frame.
DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

# Flags.
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITIZED: Final = 0x20


class ErrorCode(IntEnum):
    """RFC 9113, 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Setting(IntEnum):
    """RFC 9113, 6.5.2."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ProtocolBroken(Exception):
    """The peer broke the protocol: the connection ends (RFC 9113, 5.4.1)."""

    def __init__(self, code: ErrorCode, what: str) -> None:
        super().__init__(f"{code.name}: {what}")
        self.code = code


@define
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes
    """Without padding and priority; of HEADERS the whole block, whatever frames it came in."""
    size: int
    """What it counts in windows."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    return _HEAD.pack(size >> 8, size & 255, kind, flags, stream) + payload


def settings_frame(settings: dict[Setting, int]) -> bytes:
    payload = b"".join(_SETTING.pack(number, value) for number, value in settings.items())
    return frame(SETTINGS, 0, 0, payload)


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Raises ProtocolBroken."""
    if len(payload) % _SETTING.size:
        raise ProtocolBroken(ErrorCode.FRAME_SIZE_ERROR, f"{len(payload)} bytes of settings")
    return list(_SETTING.iter_unpack(payload))


def number_in(payload: bytes) -> int:
    """The 31 bits that RST_STREAM's and WINDOW_UPDATE's four bytes carry. Raises ProtocolBroken."""
    if len(payload) != 4:
        raise ProtocolBroken(ErrorCode.FRAME_SIZE_ERROR, f"{len(payload)} bytes instead of 4")
    return int.from_bytes(payload, "big") & 0x7FFFFFFF


@define
class FrameReader:
    """Takes frames out of a stream of bytes."""

    block_bytes_max: int
    """Of a header block as it is on the wire."""
    _buffer: bytearray = field(factory=bytearray)
    _begun: Frame | None = None
    """HEADERS whose block goes on in CONTINUATION frames."""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now. Raises ProtocolBroken, in its turn."""
        buffer = self._buffer
        buffer += data
        start, end = 0, len(buffer)
        try:
            while end - start >= HEAD_BYTES:
                high, low, kind, flags, stream = _HEAD.unpack_from(buffer, start)
                size = high << 8 | low
                if size > FRAME_BYTES_MAX:
                    raise ProtocolBroken(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {size} bytes")
                stop = start + HEAD_BYTES + size
                if stop > end:
                    break
                payload = bytes(buffer[start + HEAD_BYTES : stop])
                start = stop
                found = self._take(kind, flags, stream & 0x7FFFFFFF, payload)
                if found is not None:
                    yield found
        finally:
            del buffer[:start]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> Frame | None:
        begun = self._begun
        if begun is not None:
            if kind != CONTINUATION or stream != begun.stream:
                raise ProtocolBroken(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")
            begun.payload += payload
            found = begun
        elif kind == CONTINUATION:
            raise ProtocolBroken(ErrorCode.PROTOCOL_ERROR, "a header block goes on that did not begin")
        else:
            found = Frame(kind, flags, stream, payload, len(payload))
            if kind > HEADERS:
                return found
            if flags & (PADDED | PRIORITIZED):
                found.payload = _unpadded(kind, flags, payload)
            if kind == DATA:
                return found
        if len(found.payload) > self.block_bytes_max:
            raise ProtocolBroken(
                ErrorCode.ENHANCE_YOUR_CALM, f"more than {self.block_bytes_max} B of headers"
            )
        done = flags & END_HEADERS
        self._begun = None if done else found
        return found if done else None


def _unpadded(kind: int, flags: int, payload: bytes) -> bytes:
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise ProtocolBroken(ErrorCode.FRAME_SIZE_ERROR, "a padded frame of nothing")
        start, end = 1, end - payload[0]
    if kind == HEADERS and flags & PRIORITIZED:
        start += 5
    if start > end:
        raise ProtocolBroken(ErrorCode.PROTOCOL_ERROR, "more padding than frame")
    return payload[start:end]


# ------------------------------------------------------------------------------------------------------------
# Header blocks
# ------------------------------------------------------------------------------------------------------------


def encode_headers(headers: Headers) -> bytes:
    """A header block of literals, none of which is to be indexed (RFC 7541, 6.2.2): it needs no state."""
    parts = []
    for name, value in headers:
        parts += [b"\0", _length(len(name)), name, _length(len(value)), value]
    return b"".join(parts)


def _length(number: int) -> bytes:
    """An integer with a prefix of seven bits, and no Huffman code (RFC 7541, 5.1 and 5.2)."""
    if number < 127:
        return bytes([number])
    encoded = bytearray([127])
    number -= 127
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


@define
class HeaderReader:
    """Decodes header blocks, which depend on those before them."""

    list_bytes_max: int
    _decoder: hpack.Decoder = field(factory=hpack.Decoder)
    _known: dict[bytes, dict[str, str]] = field(factory=dict)
    """Blocks that had no effect on the table, by their bytes, since it last changed."""

    def __attrs_post_init__(self) -> None:
        self._decoder.max_header_list_size = self.list_bytes_max

    def decode(self, block: bytes) -> dict[str, str]:
        """Headers as text, by their lower-case names; of several of one name the first. Not to be changed.

        Raises:
            ProtocolBroken: it is no header block, or too long a list.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        entries = self._decoder.header_table.dynamic_entries
        count, newest = len(entries), entries[0] if entries else None
        try:
            headers = self._decoder.decode(block, raw=True)
        except hpack.OversizedHeaderListError as error:
            raise ProtocolBroken(ErrorCode.ENHANCE_YOUR_CALM, str(error)) from error
        except hpack.HPACKError as error:
            raise ProtocolBroken(ErrorCode.COMPRESSION_ERROR, str(error)) from error
        found: dict[str, str] = {}
        for name, value in headers:
            found.setdefault(bytes(name).decode("latin-1"), bytes(value).decode("latin-1"))
        same = count == len(entries) and (not entries or entries[0] is newest)
        if not same or len(self._known) >= BLOCKS_KEPT:
            self._known.clear()
        if same and block and block[0] & 0xE0 != 0x20:
            # One that begins with a size of the table (RFC 7541, 6.3) is for the decoder again.
            self._known[block] = found
        return found
