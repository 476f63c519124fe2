"""gRPC at the server's end of an HTTP/2 connection, without I/O."""

from collections.abc import Mapping
from typing import Any, Final

from attrs import define, frozen

from .frames import ErrorCode, ProtocolBroken, Setting, encode_headers
from .grpc import Code, Deframer, RpcError, quote_message
from .http2 import ConnectionEnded, Http2, MessageCame, Stream

STREAMS_MAX: Final = 100_000
"""Calls of one client at a time: every watch may be one."""

_ANSWER: Final = encode_headers([(b":status", b"200"), (b"content-type", b"application/grpc")])
_OK_TRAILERS: Final = encode_headers([(b"grpc-status", b"0"), (b"grpc-message", b"")])


@frozen
class CallBegan:
    stream: int
    headers: Mapping[str, str]


@frozen
class ClientFinished:
    """The client sends no more on this stream, and still reads."""

    stream: int


@frozen
class CallAborted:
    """The client has given the call up, or broke the protocol of it."""

    stream: int


Happening = CallBegan | MessageCame | ClientFinished | CallAborted | ConnectionEnded


@define
class ServerConnection(Http2):
    def __attrs_post_init__(self) -> None:
        self.begin(client_side=False, settings={Setting.MAX_CONCURRENT_STREAMS: STREAMS_MAX})

    # ---------------------------------------------------------------- what comes in

    def _take_headers(self, number: int, headers: Mapping[str, str], last: bool, found: list[Any]) -> None:
        if number > self._highest:
            if not number & 1:
                raise ProtocolBroken(ErrorCode.PROTOCOL_ERROR, f"stream {number} is not a client's")
            self._highest = number
            if len(self._streams) >= STREAMS_MAX:
                self._reset(number, ErrorCode.REFUSED_STREAM)
                return
            self._streams[number] = Stream(Deframer(self.message_bytes_max), self._first_window)
            found.append(CallBegan(number, headers))
        stream = self._streams.get(number)
        if last and stream is not None:
            stream.peer_done = True
            self._take_end(number, found)

    def _take_end(self, number: int, found: list[Any]) -> None:
        if number in self._streams:
            found.append(ClientFinished(number))

    def _take_reset(self, number: int, code: int, found: list[Any]) -> None:
        found.append(CallAborted(number))

    def _refuse(self, number: int, error: RpcError, found: list[Any]) -> None:
        self.finish(number, error)
        found.append(CallAborted(number))

    # ---------------------------------------------------------------- what goes out

    def send(self, number: int, payload: bytes) -> int:
        """Send a message; returns how many bytes wait for the client's window now."""
        stream = self._streams.get(number)
        if stream is None or self.ended:
            return 0
        if not stream.begun:
            stream.begun = True
            self._send_headers(number, _ANSWER)
        self._queue(number, stream, payload)
        return len(stream.pending)

    def finish(self, number: int, error: RpcError | None = None) -> None:
        """End a call, behind what is pending, with a status."""
        stream = self._streams.get(number)
        if stream is None or stream.last is not None or self.ended:
            return
        trailers = _OK_TRAILERS
        if error is not None:
            headers = [
                (b"grpc-status", str(int(error.code)).encode()),
                (b"grpc-message", quote_message(error.message).encode()),
            ]
            if error.code is Code.UNIMPLEMENTED:
                headers.append((b"grpc-accept-encoding", b"identity"))
            trailers = encode_headers(headers)
        stream.last = trailers if stream.begun else _ANSWER + trailers
        self._flush(number, stream)

    def _send_last(self, number: int, stream: Stream) -> None:
        assert stream.last is not None, number
        self._end(number, stream.last)

    def reject(self, number: int, status: int) -> None:
        """End what is no gRPC call with an HTTP status."""
        if number in self._streams and not self.ended:
            self._end(number, encode_headers([(b":status", str(status).encode())]))

    def _end(self, number: int, block: bytes) -> None:
        self._send_headers(number, block, last=True)
        stream = self._forget(number)
        if stream is not None and not stream.peer_done:
            # The client may still be sending: it is told that nobody listens (RFC 9113, 8.1).
            self._reset(number, ErrorCode.NO_ERROR)
