"""gRPC at the client's end of an HTTP/2 connection, without I/O."""

from collections.abc import Mapping
from typing import Any, Final

import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from attrs import define, frozen

from .grpc import Code, Deframer, NotSent, RpcError, format_timeout, unquote_message
from .http2 import ConnectionEnded, Http2, MessageCame, Stream, header_texts


@frozen
class CallEnded:
    stream: int
    error: RpcError | None
    """None: it ended well."""


Happening = MessageCame | CallEnded | ConnectionEnded

_HTTP_CODES = {
    "400": Code.INTERNAL,
    "401": Code.UNAUTHENTICATED,
    "403": Code.PERMISSION_DENIED,
    "404": Code.UNIMPLEMENTED,
    "429": Code.UNAVAILABLE,
    "502": Code.UNAVAILABLE,
    "503": Code.UNAVAILABLE,
    "504": Code.UNAVAILABLE,
}
"""What an answer that is no gRPC means: "HTTP to gRPC status code mapping"."""
STATUS_SHOWN: Final = 20
"""Characters of a status that need not be one."""
_CODES = {str(int(code)): code for code in Code}


@define
class ClientConnection(Http2):
    authority: str
    scheme: str = "http"

    def __attrs_post_init__(self) -> None:
        self.begin(client_side=True, settings={h2.settings.SettingCodes.ENABLE_PUSH: 0})

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
        try:
            number: int = self._h2.get_next_available_stream_id()
            self._h2.send_headers(number, headers)
        except (h2.exceptions.TooManyStreamsError, h2.exceptions.NoAvailableStreamIDError) as error:
            raise NotSent(Code.UNAVAILABLE, f"no further call fits: {error}") from error
        self._streams[number] = Stream(Deframer(self.message_bytes_max))
        return number

    def send(self, number: int, payload: bytes) -> None:
        """Send a message of a call, if it goes on."""
        stream = self._streams.get(number)
        if stream is not None and not self.ended:
            self._queue(number, stream, payload)

    def half_close(self, number: int) -> None:
        """Send nothing more on a call."""
        stream = self._streams.get(number)
        if stream is not None and stream.last is None and not self.ended:
            stream.last = ()
            self._flush(number, stream)

    def _send_last(self, number: int, stream: Stream) -> None:
        stream.last = None
        self._h2.end_stream(number)

    def cancel(self, number: int) -> None:
        """Give a call up."""
        if self._forget(number):
            self._reset(number, h2.errors.ErrorCodes.CANCEL)

    # ---------------------------------------------------------------- what comes in

    def _take(self, event: Any, found: list[Any]) -> None:
        number = getattr(event, "stream_id", None)
        if number is None or number not in self._streams:
            return
        match event:
            case h2.events.ResponseReceived():
                headers = header_texts(event.headers)
                status = headers.get(":status", "")
                if status != "200":
                    code = _HTTP_CODES.get(status, Code.UNKNOWN)
                    shown = status[:STATUS_SHOWN] or "missing"
                    self._end(number, RpcError(code, f"the server answered with HTTP status {shown}"), found)
                elif "grpc-status" in headers:
                    self._end(number, _status(headers), found)
            case h2.events.TrailersReceived():
                self._end(number, _status(header_texts(event.headers)), found)
            case h2.events.StreamEnded():
                self._end(number, RpcError(Code.INTERNAL, "the call ended without a status"), found)
            case h2.events.StreamReset():
                code = Code.UNAVAILABLE if event.error_code == 7 else Code.INTERNAL
                self._end(number, RpcError(code, f"the server reset the call ({event.error_code})"), found)

    def _refuse(self, number: int, error: RpcError, found: list[Any]) -> None:
        self._end(number, error, found)

    def _end(self, number: int, error: RpcError | None, found: list[Any]) -> None:
        self._forget(number)
        self._reset(number, h2.errors.ErrorCodes.NO_ERROR)
        found.append(CallEnded(number, error))


def _status(headers: Mapping[str, str]) -> RpcError | None:
    text = headers.get("grpc-status", "")
    if text == "0":
        return None
    code = _CODES.get(text, Code.UNKNOWN)
    return RpcError(code, unquote_message(headers.get("grpc-message", "")))
