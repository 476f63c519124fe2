"""gRPC at the client's end of an HTTP/2 connection, without I/O."""

from collections.abc import Mapping
from typing import Any, Final

from attrs import define, frozen

from .frames import DATA, END_STREAM, ErrorCode, Setting, encode_headers, frame
from .grpc import Code, Deframer, NotSent, RpcError, format_timeout, unquote_message
from .http2 import ConnectionEnded, Http2, MessageCame, Stream


@frozen
class CallEnded:
    stream: int
    error: RpcError | None
    """None: it ended well."""


Happening = MessageCame | CallEnded | ConnectionEnded

_HTTP_CODES = {
    400: Code.INTERNAL,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}
"""What an answer that is no gRPC means: "HTTP to gRPC status code mapping"."""


CALLS_MAX: Final = 100
"""At a time, until the server has said how many."""
STREAM_MAX: Final = 0x7FFFFFFF

_CODES = {str(int(code)): code for code in Code}


@define
class ClientConnection(Http2):
    authority: str
    scheme: str = "http"

    def __attrs_post_init__(self) -> None:
        self.begin(client_side=True, settings={Setting.ENABLE_PUSH: 0})

    # ---------------------------------------------------------------- what goes out

    def call(self, path: str, metadata: Mapping[str, str], timeout_seconds: float | None = None) -> int:
        """Begin a call; returns its stream.

        Raises:
            NotSent: the server takes no more calls at once, or the connection has ended.
        """
        if self.ended:
            raise NotSent(Code.UNAVAILABLE, "the connection has ended")
        headers = [
            (b":method", b"POST"),
            (b":scheme", self.scheme.encode()),
            (b":path", path.encode()),
            (b":authority", self.authority.encode()),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"user-agent", b"understudy"),
        ]
        if timeout_seconds is not None:
            headers.append((b"grpc-timeout", format_timeout(timeout_seconds).encode()))
        headers += [(name.encode(), value.encode()) for name, value in metadata.items()]
        number = self._highest + 2 if self._highest else 1
        if number > STREAM_MAX or len(self._streams) >= self._peer.get(
            Setting.MAX_CONCURRENT_STREAMS, CALLS_MAX
        ):
            raise NotSent(Code.UNAVAILABLE, f"no further call fits beside {len(self._streams)}")
        self._highest = number
        self._send_headers(number, encode_headers(headers))
        self._streams[number] = Stream(Deframer(self.message_bytes_max), self._first_window)
        return number

    def send(self, number: int, payload: bytes) -> None:
        """Send a message of a call, if it goes on."""
        stream = self._streams.get(number)
        if stream is not None and not self.ended:
            self._queue(number, stream, payload)

    def half_close(self, number: int) -> None:
        """Send nothing more on a call."""
        stream = self._streams.get(number)
        if stream is not None and stream.last is None and not stream.done and not self.ended:
            stream.last = b""
            self._flush(number, stream)

    def _send_last(self, number: int, stream: Stream) -> None:
        stream.last, stream.done = None, True
        self._output += frame(DATA, END_STREAM, number)

    def cancel(self, number: int) -> None:
        """Give a call up."""
        if self._forget(number):
            self._reset(number, ErrorCode.CANCEL)

    # ---------------------------------------------------------------- what comes in

    def _take_headers(self, number: int, headers: Mapping[str, str], last: bool, found: list[Any]) -> None:
        stream = self._streams.get(number)
        if stream is None:
            self._check_began(number)
            return
        status = headers.get(":status", "0")
        if stream.begun:
            self._end(number, _status(headers), found)
        elif status.startswith("1"):
            return  # Of what is yet to come (RFC 9113, 8.1).
        elif status != "200":
            code = _HTTP_CODES.get(int(status) if status.isdecimal() else 0, Code.UNKNOWN)
            self._end(number, RpcError(code, f"the server answered with HTTP status {status}"), found)
        elif "grpc-status" in headers:
            self._end(number, _status(headers), found)
        elif last:
            self._take_end(number, found)
        else:
            stream.begun = True

    def _take_end(self, number: int, found: list[Any]) -> None:
        if number in self._streams:
            self._end(number, RpcError(Code.INTERNAL, "the call ended without a status"), found)

    def _take_reset(self, number: int, code: int, found: list[Any]) -> None:
        meant = Code.UNAVAILABLE if code == ErrorCode.REFUSED_STREAM else Code.INTERNAL
        found.append(CallEnded(number, RpcError(meant, f"the server reset the call ({code})")))

    def _refuse(self, number: int, error: RpcError, found: list[Any]) -> None:
        self._end(number, error, found)

    def _end(self, number: int, error: RpcError | None, found: list[Any]) -> None:
        stream = self._forget(number)
        if stream is not None and not stream.done:
            # The server does not want the rest (RFC 9113, 8.1).
            self._reset(number, ErrorCode.NO_ERROR)
        found.append(CallEnded(number, error))


def _status(headers: Mapping[str, str]) -> RpcError | None:
    text = headers.get("grpc-status", "")
    if text == "0":
        return None
    code = _CODES.get(text, Code.UNKNOWN)
    return RpcError(code, unquote_message(headers.get("grpc-message", "")))
