"""gRPC's own terms, without I/O: status codes, errors, deadlines and the framing of messages.

Source: "gRPC over HTTP2" (doc/PROTOCOL-HTTP2.md) and "Status codes and their use in gRPC".
"""

import re
from enum import IntEnum
from typing import Final
from urllib.parse import quote, unquote

from attrs import define, field

MESSAGE_BYTES_MAX: Final = 64 << 20
"""The largest message that is read, whatever a store would take: a length beyond it is an attack or a
mistake."""
_PREFIX_BYTES: Final = 5
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNIT_SECONDS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_UNESCAPED = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"


class Code(IntEnum):
    """How a call ended."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @property
    def go_name(self) -> str:
        """As Go's errors write it: `PermissionDenied`."""
        return self.name if self is Code.OK else self.name.title().replace("_", "")


class RpcError(Exception):
    """A call that ended with another status than OK."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message


class NotSent(RpcError):
    """A call that certainly did not reach a server."""


def first_rpc_error(group: BaseExceptionGroup[BaseException]) -> RpcError | None:
    """Several tasks of a call failed at once: the first of them with a status."""
    inner: BaseException | None = group.subgroup(RpcError)
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return inner if isinstance(inner, RpcError) else None


def quote_message(text: str) -> str:
    """A status message as the header `grpc-message` carries it: percent-encoded, printable ASCII as it is."""
    return quote(text, safe=_UNESCAPED)


def unquote_message(text: str) -> str:
    """The inverse of `quote_message`; a `%` that encodes nothing stays as it is, and bytes that
    are not UTF-8 become U+FFFD."""
    return unquote(text, errors="replace")


def parse_timeout(text: str) -> float:
    """Seconds of a `grpc-timeout` header. Raises RpcError for anything else."""
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        raise RpcError(Code.INTERNAL, f"malformed grpc-timeout: {text!r}")
    return int(found[1]) * _UNIT_SECONDS[found[2]]


def format_timeout(seconds: float) -> str:
    """A `grpc-timeout` header of so many seconds, rounded to milliseconds while those have eight digits."""
    milliseconds = max(1, round(seconds * 1000))
    return f"{milliseconds}m" if milliseconds < 10**8 else f"{min(round(seconds), 10**8 - 1)}S"


def frame(payload: bytes) -> bytes:
    """A message with its prefix: not compressed, and its length."""
    return b"\0" + len(payload).to_bytes(4, "big") + payload


@define
class Deframer:
    """Takes the messages out of a stream of bytes."""

    bytes_max: int = MESSAGE_BYTES_MAX
    _buffer: bytearray = field(factory=bytearray)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete now.

        Raises:
            RpcError: one is compressed (none was offered), or too large.
        """
        buffer = self._buffer
        buffer += data
        found: list[bytes] = []
        start = 0
        while len(buffer) - start >= _PREFIX_BYTES:
            if buffer[start]:
                raise RpcError(Code.UNIMPLEMENTED, "compressed messages are not supported")
            size = int.from_bytes(buffer[start + 1 : start + _PREFIX_BYTES], "big")
            if size > self.bytes_max:
                raise RpcError(
                    Code.RESOURCE_EXHAUSTED,
                    f"grpc: received message larger than max ({size} vs. {self.bytes_max})",
                )
            end = start + _PREFIX_BYTES + size
            if len(buffer) < end:
                break
            found.append(bytes(buffer[start + _PREFIX_BYTES : end]))
            start = end
        if start:
            del buffer[:start]
        return found

    @property
    def in_message(self) -> bool:
        """Part of a message is here."""
        return bool(self._buffer)
