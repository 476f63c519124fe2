"""gRPC over one HTTP/2 connection at the server, without I/O: bytes in, what they mean out, and back.

The protocol is `h2`'s; here is what gRPC adds (messages in DATA frames, trailers, deadlines) and the
queueing that HTTP/2's windows demand.
"""

from collections.abc import Sequence
from typing import Any, Final

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from attrs import define, field, frozen

from .grpc import Code, Deframer, RpcError, frame, quote_message

WINDOW_BYTES: Final = 1 << 20
"""Of a stream: an ordinary request comes in without waiting."""
CONNECTION_WINDOW_BYTES: Final = 16 << 20
STREAMS_MAX: Final = 100_000
"""Calls of one client at a time: every watch may be one."""
HEADERS_BYTES_MAX: Final = 64 * 1024
_INITIAL_WINDOW_BYTES: Final = 65_535

_ANSWER: Final = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_OK_TRAILERS: Final = [(b"grpc-status", b"0"), (b"grpc-message", b"")]

Headers = Sequence[tuple[bytes, bytes]]


@frozen
class CallBegan:
    stream: int
    headers: dict[str, str]
    """Lower-case names; of several of one name the first."""


@frozen
class MessageCame:
    stream: int
    payload: bytes
    taken_bytes: int
    """To be given back by `taken` when there is room for more."""


@frozen
class ClientFinished:
    """The client sends no more on this stream, and still reads."""

    stream: int


@frozen
class CallAborted:
    """The client has given the call up, or broke the protocol of it."""

    stream: int


@frozen
class ConnectionEnded:
    """The client closes the connection or broke its protocol: send what there is, then close."""


Happening = CallBegan | MessageCame | ClientFinished | CallAborted | ConnectionEnded


@define
class _Stream:
    deframer: Deframer
    pending: bytearray = field(factory=bytearray)
    """To be sent when the client's windows allow."""
    answered: bool = False
    """The headers have gone out."""
    trailers: Headers | None = None
    """To follow what is pending, and end the call."""
    unread_bytes: int = 0
    """Taken from the window by parts of a message that is not complete."""


@define
class ServerConnection:
    message_bytes_max: int
    _streams: dict[int, _Stream] = field(factory=dict)
    _blocked: dict[int, None] = field(factory=dict)
    """Streams with something pending, in the order in which they get the connection's window."""
    _h2: Any = field(init=False)
    ended: bool = False

    def __attrs_post_init__(self) -> None:
        # What is not looked at need not be checked; what is, is checked where it is read.
        config = h2.config.H2Configuration(
            client_side=False,
            header_encoding=None,
            validate_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_inbound_headers=False,
            normalize_outbound_headers=False,
        )
        self._h2 = h2.connection.H2Connection(config)
        codes = h2.settings.SettingCodes
        self._h2.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                codes.MAX_CONCURRENT_STREAMS: STREAMS_MAX,
                codes.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
                codes.MAX_HEADER_LIST_SIZE: HEADERS_BYTES_MAX,
                codes.ENABLE_CONNECT_PROTOCOL: 0,
            },
        )
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW_BYTES - _INITIAL_WINDOW_BYTES)

    def take_output(self) -> bytes:
        """What is to be sent now."""
        output: bytes = self._h2.data_to_send()
        return output

    # ---------------------------------------------------------------- what comes in

    def receive(self, data: bytes) -> list[Happening]:
        """Take in bytes; returns what they mean, in order."""
        found: list[Happening] = []
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            # h2 has put a GOAWAY into the output.
            self.ended = True
            return [ConnectionEnded()]
        for event in events:
            self._take(event, found)
        self._send_blocked()
        return found

    def _take(self, event: Any, found: list[Happening]) -> None:
        kind = type(event)
        if kind is h2.events.RequestReceived:
            headers: dict[str, str] = {}
            for name, value in event.headers:
                headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
            self._streams[event.stream_id] = _Stream(Deframer(self.message_bytes_max))
            found.append(CallBegan(event.stream_id, headers))
        elif kind is h2.events.DataReceived:
            self._take_data(event, found)
        elif kind is h2.events.StreamEnded:
            if event.stream_id in self._streams:
                found.append(ClientFinished(event.stream_id))
        elif kind is h2.events.StreamReset:
            if self._forget(event.stream_id):
                found.append(CallAborted(event.stream_id))
        elif kind is h2.events.ConnectionTerminated:
            self.ended = True
            found.append(ConnectionEnded())

    def _take_data(self, event: Any, found: list[Happening]) -> None:
        number, size = event.stream_id, event.flow_controlled_length
        stream = self._streams.get(number)
        if stream is None:
            # Its call is over; the connection's window is everybody's.
            self._h2.acknowledge_received_data(size, number)
            return
        try:
            payloads = stream.deframer.feed(event.data)
        except RpcError as error:
            self._h2.acknowledge_received_data(size, number)
            self.finish(number, error)
            found.append(CallAborted(number))
            return
        if not payloads:
            # The rest of a large message must be able to come.
            self._h2.acknowledge_received_data(size, number)
            return
        found.extend(
            MessageCame(number, payload, size if position == 0 else 0)
            for position, payload in enumerate(payloads)
        )

    def taken(self, stream: int, size: int) -> None:
        """A message was taken in: the client may send as much again."""
        if size and not self.ended:
            self._h2.acknowledge_received_data(size, stream)

    # ---------------------------------------------------------------- what goes out

    def send(self, number: int, payload: bytes) -> int:
        """Send a message; returns how many bytes wait for the client's window now."""
        stream = self._streams.get(number)
        if stream is None:
            return 0
        if not stream.answered:
            stream.answered = True
            self._h2.send_headers(number, _ANSWER)
        stream.pending += frame(payload)
        self._flush(number, stream)
        return len(stream.pending)

    def waiting_bytes(self, number: int) -> int:
        """How many bytes of a call wait for the client's window."""
        stream = self._streams.get(number)
        return len(stream.pending) if stream is not None else 0

    def finish(self, number: int, error: RpcError | None = None) -> None:
        """End a call, behind what is pending, with a status."""
        stream = self._streams.get(number)
        if stream is None or stream.trailers is not None:
            return
        trailers: Headers = _OK_TRAILERS
        if error is not None:
            trailers = [
                (b"grpc-status", str(int(error.code)).encode()),
                (b"grpc-message", quote_message(error.message).encode()),
            ]
            if error.code is Code.UNIMPLEMENTED:
                trailers = [*trailers, (b"grpc-accept-encoding", b"identity")]
        if not stream.answered:
            trailers = [*_ANSWER, *trailers]
        stream.trailers = trailers
        self._flush(number, stream)

    def reject(self, number: int, status: int) -> None:
        """End what is no gRPC call with an HTTP status."""
        if self._forget(number):
            self._h2.send_headers(number, [(b":status", str(status).encode())], end_stream=True)

    def abort(self, number: int) -> None:
        """End a call at once and without a status."""
        if self._forget(number):
            self._h2.reset_stream(number, h2.errors.ErrorCodes.CANCEL)

    def close(self) -> None:
        """Tell the client that the connection ends."""
        if not self.ended:
            self.ended = True
            self._h2.close_connection()

    def _flush(self, number: int, stream: _Stream) -> None:
        if stream.pending:
            self._send_pending(number, stream)
        if stream.pending:
            self._blocked[number] = None
            return
        self._blocked.pop(number, None)
        if stream.trailers is not None:
            self._h2.send_headers(number, stream.trailers, end_stream=True)
            self._drop(number)

    def _send_pending(self, number: int, stream: _Stream) -> None:
        window = self._h2.local_flow_control_window(number)
        frame_bytes = self._h2.max_outbound_frame_size
        pending = stream.pending
        sent = 0
        while sent < len(pending) and window > 0:
            size = min(len(pending) - sent, window, frame_bytes)
            self._h2.send_data(number, bytes(pending[sent : sent + size]))
            sent += size
            window -= size
        del pending[:sent]

    def _send_blocked(self) -> None:
        if self.ended:
            return
        for number in list(self._blocked):
            self._flush(number, self._streams[number])

    def _drop(self, number: int) -> None:
        """Forget a call that was answered to its end."""
        del self._streams[number]
        stream = self._h2.streams.get(number)
        if stream is not None and not stream.closed:
            # The client may still be sending: it is told that nobody listens (RFC 9113, 8.1).
            self._h2.reset_stream(number, h2.errors.ErrorCodes.NO_ERROR)

    def _forget(self, number: int) -> bool:
        self._blocked.pop(number, None)
        return self._streams.pop(number, None) is not None
