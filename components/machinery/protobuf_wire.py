"""The protobuf wire format: varints, tags, length-delimited records, and the scalars in them.

Format: https://protobuf.dev/programming-guides/encoding/. The `protobuf` library is not used: the JSON form
of Kubernetes is not that of protobuf (members flattened into their parents, times, quantities, raw JSON), so
every field passes through Python either way, and the core would depend on it for the sake of varints.
"""

import base64
import struct
from collections.abc import Callable
from typing import Any

VARINT, FIXED64, BYTES = 0, 1, 2
"""Wire types. Fixed 32-bit numbers (5) are only skipped; groups (3, 4) are refused."""


class MalformedMessage(ValueError):
    """The bytes are not a message of that type."""


Reader = Callable[[bytes, int, int], Any]
"""(buffer, start, end) of a length-delimited record to its JSON form; None = unset."""


# Reading


def read_varint(buffer: bytes, at: int) -> tuple[int, int]:
    """The number (unsigned, 64 bits) at a place, and the place after it."""
    number = shift = 0
    while True:
        byte = buffer[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 63:
            raise MalformedMessage("integer overflow")


def skip(buffer: bytes, at: int, end: int, tag: int) -> int:
    """Past a field that the table does not have, as Go's generated code does."""
    match tag & 7:
        case 0:
            _, at = read_varint(buffer, at)
        case 1:
            at += 8
        case 2:
            length, at = read_varint(buffer, at)
            at += length
        case 5:
            at += 4
        case _:
            raise MalformedMessage(f"illegal wire type {tag & 7}")
    if at > end or tag < 8:
        raise MalformedMessage("unexpected EOF" if tag >= 8 else f"illegal tag {tag}")
    return at


def packed_reader(type_: str) -> Reader:
    """Of a repeated scalar in one record."""

    def read(buffer: bytes, at: int, end: int) -> list[Any]:
        made = []
        while at < end:
            stop = at + 8
            if type_ != "double":
                _, stop = read_varint(buffer, at)
            made.append(READERS[type_](buffer, at, stop))
            at = stop
        return made

    return read


def read_string(buffer: bytes, at: int, end: int) -> str:
    """A string; bytes that are not UTF-8 become U+FFFD."""
    return buffer[at:end].decode(errors="replace")


def _read_bytes(buffer: bytes, at: int, end: int) -> str:
    return base64.b64encode(buffer[at:end]).decode()


def _read_bool(buffer: bytes, at: int, end: int) -> bool:
    return read_varint(buffer, at)[0] != 0


def _read_int(buffer: bytes, at: int, end: int) -> int:
    number, _ = read_varint(buffer, at)
    return number - (1 << 64) if number >> 63 else number


def _read_int32(buffer: bytes, at: int, end: int) -> int:
    number = read_varint(buffer, at)[0] & 0xFFFF_FFFF
    return number - (1 << 32) if number >> 31 else number


def _read_double(buffer: bytes, at: int, end: int) -> float:
    number: float = struct.unpack_from("<d", buffer, at)[0]
    return number


READERS: dict[str, Reader] = {
    "string": read_string,
    "bytes": _read_bytes,
    "bool": _read_bool,
    "int32": _read_int32,
    "int64": _read_int,
    "double": _read_double,
}


# Writing


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


_SMALL = tuple(map(_varint, range(1024)))
"""Nearly all tags and lengths."""


def varint(number: int) -> bytes:
    """The wire form of an integer; negative ones as 64-bit two's complement."""
    if 0 <= number < 1024:
        return _SMALL[number]
    return _varint(number & 0xFFFF_FFFF_FFFF_FFFF)


def record(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | BYTES) + varint(len(content)) + content
