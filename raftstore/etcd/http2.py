"""gRPC on one HTTP/2 connection, without I/O: what both ends have in common.

Streams, windows and errors of RFC 9113 as far as gRPC needs them, messages in DATA frames, and the queueing
that windows demand. Nothing is pushed, and priorities are ignored.
"""

from collections.abc import Mapping
from typing import Any, Final

from attrs import define, field, frozen

from .frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    Frame,
    FrameReader,
    HeaderReader,
    ProtocolBroken,
    Setting,
    frame,
    number_in,
    read_settings,
    settings_frame,
)
from .grpc import Deframer, RpcError
from .grpc import frame as message_frame

WINDOW_BYTES: Final = 1 << 20
"""Of a stream: an ordinary message comes in without waiting."""
HELD_BYTES_MAX: Final = WINDOW_BYTES // 2
CONNECTION_WINDOW_BYTES: Final = 16 << 20
HEADERS_BYTES_MAX: Final = 64 * 1024
_FIRST_WINDOW_BYTES: Final = 65_535
_WINDOW_BYTES_MAX: Final = 0x7FFFFFFF
_OF_STREAMS: Final = frozenset({DATA, HEADERS, PRIORITY, RST_STREAM, PUSH_PROMISE})
_OF_CONNECTIONS: Final = frozenset({SETTINGS, PING, GOAWAY})


@frozen
class MessageCame:
    stream: int
    payload: bytes
    taken_bytes: int
    """To be given back by `taken` when there is room for more."""


@frozen
class ConnectionEnded:
    """The peer closes the connection or broke its protocol: send what there is, then close."""


@define(eq=False)
class Stream:
    deframer: Deframer
    window: int
    """What the peer takes yet."""
    pending: bytearray = field(factory=bytearray)
    """To be sent when the peer's windows allow."""
    last: bytes | None = None
    """The block of trailers that follow what is pending and end this side; empty to end it without any."""
    allowed: int = WINDOW_BYTES
    """What the peer may send yet."""
    returned: int = 0
    """Taken in, and not told to the peer yet."""
    held_bytes: int = 0
    """Of a message that is not whole: not given back to the peer's window yet."""
    begun: bool = False
    """The first headers have gone out or come in."""
    done: bool = False
    """This side sends no more."""
    peer_done: bool = False
    """The peer sends no more."""


@define
class Http2:
    """One end of a connection; subclasses say what headers and ends mean."""

    message_bytes_max: int
    ended: bool = field(default=False, init=False)
    _streams: dict[int, Stream] = field(factory=dict, init=False)
    """Those that are not over; what comes for one that is over is too late."""
    _highest: int = field(default=0, init=False)
    """Of the client's streams, all of which are odd."""
    _blocked: dict[int, None] = field(factory=dict, init=False)
    """Streams with something pending, in the order in which they get the connection's window."""
    _output: bytearray = field(factory=bytearray, init=False)
    _preface: bytes = field(default=b"", init=False)
    """What has yet to come of it."""
    _greeted: bool = field(default=False, init=False)
    """The peer's first settings have come."""
    _window: int = field(default=_FIRST_WINDOW_BYTES, init=False)
    """What the peer takes yet, on all streams together."""
    _allowed: int = field(default=CONNECTION_WINDOW_BYTES, init=False)
    _returned: int = field(default=0, init=False)
    _peer: dict[int, int] = field(factory=dict, init=False)
    """The peer's settings."""
    _frame_bytes: int = field(default=16_384, init=False)
    _first_window: int = field(default=_FIRST_WINDOW_BYTES, init=False)
    _frames: FrameReader = field(init=False)
    _headers: HeaderReader = field(init=False)

    def begin(self, *, client_side: bool, settings: Mapping[Setting, int]) -> None:
        self._frames = FrameReader(HEADERS_BYTES_MAX)
        self._headers = HeaderReader(HEADERS_BYTES_MAX)
        self._preface = b"" if client_side else PREFACE
        if client_side:
            self._output += PREFACE
        self._output += settings_frame(
            {
                Setting.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
                Setting.MAX_HEADER_LIST_SIZE: HEADERS_BYTES_MAX,
                **settings,
            }
        )
        self._grant(0, CONNECTION_WINDOW_BYTES - _FIRST_WINDOW_BYTES)

    @property
    def output_bytes(self) -> int:
        """How many bytes wait to be taken: the peer's windows allow them, whether or not it reads."""
        return len(self._output)

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        if not self.ended:
            self._output += frame(PING, 0, 0, bytes(8))

    def take_output(self) -> bytes:
        """What is to be sent now."""
        output = bytes(self._output)
        self._output.clear()
        return output

    # ---------------------------------------------------------------- what comes in

    def receive(self, data: bytes) -> list[Any]:
        """Take in bytes; returns what they mean, in order."""
        found: list[Any] = []
        if self.ended:
            return found
        try:
            if self._preface:
                data = self._expect_preface(data)
            for came in self._frames.feed(data):
                self._take(came, found)
                if self.ended:
                    return found
            for number in list(self._blocked):
                self._flush(number, self._streams[number])
        except ProtocolBroken as broken:
            self._say_goodbye(broken.code)
            found.append(ConnectionEnded())
        return found

    def _expect_preface(self, data: bytes) -> bytes:
        size = min(len(data), len(self._preface))
        if data[:size] != self._preface[:size]:
            raise ProtocolBroken(ErrorCode.PROTOCOL_ERROR, "this is no HTTP/2")
        self._preface = self._preface[size:]
        return data[size:]

    def _take(self, came: Frame, found: list[Any]) -> None:
        kind, number = came.kind, came.stream
        if not self._greeted and kind != SETTINGS:
            raise ProtocolBroken(ErrorCode.PROTOCOL_ERROR, "settings must come first")
        if kind in _OF_CONNECTIONS:
            if number:
                raise ProtocolBroken(ErrorCode.PROTOCOL_ERROR, f"a frame of kind {kind} on a stream")
        elif not number and kind in _OF_STREAMS:
            raise ProtocolBroken(ErrorCode.PROTOCOL_ERROR, f"a frame of kind {kind} on no stream")
        if kind == DATA:
            self._take_data(came, found)
        elif kind == HEADERS:
            headers = self._headers.decode(came.payload)
            self._take_headers(number, headers, bool(came.flags & END_STREAM), found)
        elif kind == WINDOW_UPDATE:
            self._widen(number, number_in(came.payload))
        elif kind == SETTINGS:
            self._take_settings(came)
        elif kind == RST_STREAM:
            code = number_in(came.payload)
            self._check_began(number)
            if self._forget(number):
                self._take_reset(number, code, found)
        elif kind == PING:
            if len(came.payload) != 8:
                raise ProtocolBroken(ErrorCode.FRAME_SIZE_ERROR, "a ping carries 8 bytes")
            if not came.flags & ACK:
                self._output += frame(PING, ACK, 0, came.payload)
        elif kind == GOAWAY:
            self.ended = True
            found.append(ConnectionEnded())
        elif kind == PUSH_PROMISE:
            raise ProtocolBroken(ErrorCode.PROTOCOL_ERROR, "nobody may push")

    def _check_began(self, number: int) -> None:
        """A stream that never began has nothing to be said of it (RFC 9113, 5.1)."""
        if number > self._highest or not number & 1:
            raise ProtocolBroken(ErrorCode.PROTOCOL_ERROR, f"stream {number} has not begun")

    def _take_settings(self, came: Frame) -> None:
        if came.flags & ACK:
            if came.payload:
                raise ProtocolBroken(ErrorCode.FRAME_SIZE_ERROR, "settings in an acknowledgement")
            return
        self._greeted = True
        for setting, value in read_settings(came.payload):
            self._peer[setting] = value
            if setting == Setting.INITIAL_WINDOW_SIZE:
                more, self._first_window = value - self._first_window, value
                for stream in self._streams.values():
                    stream.window += more
                    if max(value, stream.window) > _WINDOW_BYTES_MAX:
                        raise ProtocolBroken(ErrorCode.FLOW_CONTROL_ERROR, f"a window of {stream.window} B")
                if value > _WINDOW_BYTES_MAX:
                    raise ProtocolBroken(ErrorCode.FLOW_CONTROL_ERROR, f"windows of {value} B")
            elif setting == Setting.MAX_FRAME_SIZE:
                if not 16_384 <= value < 1 << 24:
                    raise ProtocolBroken(ErrorCode.PROTOCOL_ERROR, f"frames of {value} B")
                self._frame_bytes = value
            elif setting == Setting.ENABLE_PUSH and value > 1:
                raise ProtocolBroken(ErrorCode.PROTOCOL_ERROR, f"ENABLE_PUSH is {value}")
        self._output += frame(SETTINGS, ACK, 0)

    def _widen(self, number: int, more: int) -> None:
        if number:
            self._check_began(number)
            stream = self._streams.get(number)
            if stream is None:
                return
            stream.window += more
            window = stream.window
        else:
            self._window += more
            window = self._window
        if not more:
            raise ProtocolBroken(ErrorCode.PROTOCOL_ERROR, "a window grows by nothing")
        if window > _WINDOW_BYTES_MAX:
            raise ProtocolBroken(ErrorCode.FLOW_CONTROL_ERROR, f"a window of {window} B")

    def _take_data(self, came: Frame, found: list[Any]) -> None:
        number, size = came.stream, came.size
        self._allowed -= size
        if self._allowed < 0:
            raise ProtocolBroken(ErrorCode.FLOW_CONTROL_ERROR, "more than the connection's window")
        stream = self._streams.get(number)
        if stream is None:
            self._check_began(number)
            # Of a call that is over; the connection's window is everybody's.
            self._give_back(size)
            return
        stream.allowed -= size
        if stream.allowed < 0:
            raise ProtocolBroken(ErrorCode.FLOW_CONTROL_ERROR, "more than the stream's window")
        if stream.peer_done:
            raise ProtocolBroken(ErrorCode.STREAM_CLOSED, f"more on stream {number}, which was ended")
        try:
            payloads = stream.deframer.feed(came.payload)
        except RpcError as error:
            self._refuse(number, error, found)
            payloads = []
        if number not in self._streams:
            self._give_back(size)
            return
        size += stream.held_bytes
        stream.held_bytes = 0
        if not payloads:
            if size > HELD_BYTES_MAX:
                # The rest of a large message must be able to come.
                self.taken(number, size)
            else:
                stream.held_bytes = size
        for payload in payloads:
            found.append(MessageCame(number, payload, size))
            size = 0
        if came.flags & END_STREAM:
            stream.peer_done = True
            self._take_end(number, found)

    def _take_headers(self, number: int, headers: Mapping[str, str], last: bool, found: list[Any]) -> None:
        raise NotImplementedError

    def _take_end(self, number: int, found: list[Any]) -> None:
        """The peer sends no more on a stream."""
        raise NotImplementedError

    def _take_reset(self, number: int, code: int, found: list[Any]) -> None:
        """The peer has ended a stream at once."""
        raise NotImplementedError

    def _refuse(self, number: int, error: RpcError, found: list[Any]) -> None:
        """The peer broke gRPC's framing on a stream."""
        raise NotImplementedError

    def taken(self, number: int, size: int) -> None:
        """A message was taken in: the peer may send as much again."""
        if not size or self.ended:
            return
        self._give_back(size)
        stream = self._streams.get(number)
        if stream is not None and not stream.peer_done:
            stream.returned += size
            if stream.returned * 2 >= WINDOW_BYTES:
                stream.allowed += stream.returned
                self._grant(number, stream.returned)
                stream.returned = 0

    def _give_back(self, size: int) -> None:
        self._returned += size
        if self._returned * 2 >= CONNECTION_WINDOW_BYTES:
            self._allowed += self._returned
            self._grant(0, self._returned)
            self._returned = 0

    def _grant(self, number: int, size: int) -> None:
        self._output += frame(WINDOW_UPDATE, 0, number, size.to_bytes(4, "big"))

    # ---------------------------------------------------------------- what goes out

    def waiting_bytes(self, number: int) -> int:
        """How many bytes of a call wait for the peer's window."""
        stream = self._streams.get(number)
        return len(stream.pending) if stream is not None else 0

    def close(self) -> None:
        """Tell the peer that the connection ends."""
        if not self.ended:
            self._say_goodbye(ErrorCode.NO_ERROR)

    def _say_goodbye(self, code: ErrorCode) -> None:
        self.ended = True
        payload = self._highest.to_bytes(4, "big") + int(code).to_bytes(4, "big")
        self._output += frame(GOAWAY, 0, 0, payload)

    def _send_headers(self, number: int, block: bytes, *, last: bool = False) -> None:
        flags = END_STREAM if last else 0
        size = self._frame_bytes
        if len(block) <= size:
            self._output += frame(HEADERS, flags | END_HEADERS, number, block)
            return
        self._output += frame(HEADERS, flags, number, block[:size])
        for start in range(size, len(block), size):
            flags = END_HEADERS if start + size >= len(block) else 0
            self._output += frame(CONTINUATION, flags, number, block[start : start + size])

    def _queue(self, number: int, stream: Stream, payload: bytes) -> None:
        data = message_frame(payload)
        if not stream.pending and len(data) <= min(stream.window, self._window, self._frame_bytes):
            # What most messages are: all of it at once.
            stream.window -= len(data)
            self._window -= len(data)
            self._output += frame(DATA, 0, number, data)
            return
        stream.pending += data
        self._flush(number, stream)

    def _flush(self, number: int, stream: Stream) -> None:
        if stream.pending:
            self._send_pending(number, stream)
        if stream.pending:
            self._blocked[number] = None
            return
        self._blocked.pop(number, None)
        if stream.last is not None:
            self._send_last(number, stream)

    def _send_last(self, number: int, stream: Stream) -> None:
        raise NotImplementedError

    def _send_pending(self, number: int, stream: Stream) -> None:
        pending = stream.pending
        sent, end = 0, min(len(pending), stream.window, self._window)
        while sent < end:
            size = min(end - sent, self._frame_bytes)
            self._output += frame(DATA, 0, number, bytes(pending[sent : sent + size]))
            sent += size
        stream.window -= sent
        self._window -= sent
        del pending[:sent]

    def _reset(self, number: int, code: ErrorCode) -> None:
        """End a stream at once."""
        if not self.ended:
            self._output += frame(RST_STREAM, 0, number, int(code).to_bytes(4, "big"))

    def _forget(self, number: int) -> Stream | None:
        """A stream is over: what comes on it yet is ignored."""
        self._blocked.pop(number, None)
        stream = self._streams.pop(number, None)
        if stream is not None and stream.held_bytes and not self.ended:
            self._give_back(stream.held_bytes)
        return stream
