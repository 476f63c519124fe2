"""Frames on a byte stream: a preamble, then length-prefixed bodies. A pure state machine.

The preamble lets the first bytes of anything else (an HTTP request, a TLS hello, noise) be told apart at
once; the limit on a frame's length is checked before any of its body is kept.
"""

from struct import Struct

from attrs import define, field

PREAMBLE = b"understudy actors\n"
"""The first bytes of a connection, in both directions."""

HELLO_BYTES_MAX = 4096
"""The largest frame before the other side is known."""

_LENGTH = Struct(">I")
LENGTH_BYTES = _LENGTH.size


class ProtocolError(Exception):
    """The other side sent what this protocol does not allow; its connection is closed."""


def framed(body: bytes) -> bytes:
    """A body with its length in front."""
    return _LENGTH.pack(len(body)) + body


@define(eq=False)
class FrameDecoder:
    """Bytes in, whole bodies out; holds at most one unfinished frame and the chunk that was fed last."""

    frame_bytes_max: int = HELLO_BYTES_MAX
    """The largest body that is accepted; the owner raises it once the other side is known."""
    _buffer: bytearray = field(factory=bytearray, init=False)
    _start: int = field(default=0, init=False)
    """Where in the buffer the next frame begins."""
    _greeted: bool = field(default=False, init=False)

    def feed(self, data: bytes) -> None:
        """Take in what came from the stream."""
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += data

    def next_body(self) -> bytes | None:
        """The next whole body, or None until more is fed.

        Raises:
            ProtocolError: the stream does not begin with the preamble, or a frame is too long.
        """
        buffer = self._buffer
        if not self._greeted:
            head = bytes(buffer[: len(PREAMBLE)])
            if not PREAMBLE.startswith(head):
                raise ProtocolError(f"it does not speak this protocol: it began with {head!r}")
            if len(head) < len(PREAMBLE):
                return None
            self._greeted = True
            self._start = len(PREAMBLE)
        start = self._start
        if len(buffer) - start < LENGTH_BYTES:
            return None
        length: int = _LENGTH.unpack_from(buffer, start)[0]
        if length > self.frame_bytes_max:
            raise ProtocolError(f"a frame of {length} bytes is over the limit of {self.frame_bytes_max}")
        end = start + LENGTH_BYTES + length
        if len(buffer) < end:
            return None
        self._start = end
        return bytes(memoryview(buffer)[start + LENGTH_BYTES : end])
