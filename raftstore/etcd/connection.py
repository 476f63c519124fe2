"""gRPC at the server's end of an HTTP/2 connection, without I/O."""

from typing import Any, Final

import h2.errors
import h2.events
import h2.settings
from attrs import define, frozen

from .grpc import Code, Deframer, RpcError, quote_message
from .http2 import ConnectionEnded, Headers, Http2, MessageCame, Stream, header_texts

STREAMS_MAX: Final = 10_000
"""Calls of one client at a time. With each that begins, h2 looks at all that are open: 1.5 ms at so many."""

_ANSWER: Final = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_OK_TRAILERS: Final = [(b"grpc-status", b"0"), (b"grpc-message", b"")]


@frozen
class CallBegan:
    stream: int
    headers: dict[str, str]


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
        codes = h2.settings.SettingCodes
        self.begin(
            client_side=False,
            settings={codes.MAX_CONCURRENT_STREAMS: STREAMS_MAX, codes.ENABLE_CONNECT_PROTOCOL: 0},
        )

    # ---------------------------------------------------------------- what comes in

    def _take(self, event: Any, found: list[Any]) -> None:
        kind = type(event)
        if kind is h2.events.RequestReceived:
            self._streams[event.stream_id] = Stream(Deframer(self.message_bytes_max))
            found.append(CallBegan(event.stream_id, header_texts(event.headers)))
        elif kind is h2.events.StreamEnded:
            if event.stream_id in self._streams:
                found.append(ClientFinished(event.stream_id))
        elif kind is h2.events.StreamReset and self._forget(event.stream_id):
            found.append(CallAborted(event.stream_id))

    def _refuse(self, number: int, error: RpcError, found: list[Any]) -> None:
        self.finish(number, error)
        found.append(CallAborted(number))

    # ---------------------------------------------------------------- what goes out

    def send(self, number: int, *payloads: bytes) -> int:
        """Send messages; returns how many bytes wait for the client's window now."""
        stream = self._streams.get(number)
        if stream is None or self.ended:
            return 0
        if not stream.begun:
            stream.begun = True
            self._h2.send_headers(number, _ANSWER)
        self._queue(number, stream, *payloads)
        return len(stream.pending)

    def finish(self, number: int, error: RpcError | None = None) -> None:
        """End a call, behind what is pending, with a status."""
        stream = self._streams.get(number)
        if stream is None or stream.last is not None or self.ended:
            return
        trailers: Headers = _OK_TRAILERS
        if error is not None:
            trailers = [
                (b"grpc-status", str(int(error.code)).encode()),
                (b"grpc-message", quote_message(error.message).encode()),
            ]
            if error.code is Code.UNIMPLEMENTED:
                trailers = [*trailers, (b"grpc-accept-encoding", b"identity")]
        if not stream.begun:
            trailers = [*_ANSWER, *trailers]
        stream.last = trailers
        self._flush(number, stream)

    def respond(
        self, number: int, status: int, content_type: str, body: bytes, *, head: bool = False
    ) -> None:
        """Answer what is no gRPC call; to a HEAD without the body."""
        stream = self._streams.get(number)
        if stream is None or stream.last is not None or self.ended:
            return
        headers = [
            (b":status", str(status).encode()),
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        self._h2.send_headers(number, headers)
        stream.begun, stream.last = True, []
        if not head:
            stream.pending += body
        self._flush(number, stream)

    def _send_last(self, number: int, stream: Stream) -> None:
        if stream.last:
            self._h2.send_headers(number, stream.last, end_stream=True)
        else:
            self._h2.end_stream(number)
        self._forget(number)
        # The client may still be sending: it is told that nobody listens (RFC 9113, 8.1).
        self._reset(number, h2.errors.ErrorCodes.NO_ERROR)

    def reject(self, number: int, status: int) -> None:
        """End what is no gRPC call with an HTTP status."""
        if self._forget(number):
            self._h2.send_headers(number, [(b":status", str(status).encode())], end_stream=True)
            self._reset(number, h2.errors.ErrorCodes.NO_ERROR)
