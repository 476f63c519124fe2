"""gRPC on one HTTP/2 connection, without I/O: what both ends have in common.

The protocol is `h2`'s; here is what gRPC adds (messages in DATA frames) and the queueing that HTTP/2's
windows demand.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from attrs import define, field, frozen

from .grpc import Deframer, RpcError, frame

WINDOW_BYTES: Final = 1 << 20
"""Of a stream: an ordinary message comes in without waiting."""
HELD_BYTES_MAX: Final = WINDOW_BYTES // 2
CONNECTION_WINDOW_BYTES: Final = 16 << 20
HEADERS_BYTES_MAX: Final = 64 * 1024
_INITIAL_WINDOW_BYTES: Final = 65_535

Headers = Sequence[tuple[bytes, bytes]]


@frozen
class MessageCame:
    stream: int
    payload: bytes
    taken_bytes: int
    """To be given back by `taken` when there is room for more."""


@frozen
class ConnectionEnded:
    """The peer closes the connection or broke its protocol: send what there is, then close."""


@define
class Stream:
    deframer: Deframer
    pending: bytearray = field(factory=bytearray)
    """To be sent when the peer's windows allow."""
    last: Headers | None = None
    """Trailers that follow what is pending and end this side; empty to end it without any."""
    held_bytes: int = 0
    """Of a message that is not whole: not given back to the peer's window yet."""
    begun: bool = False
    """The first headers have gone out or come in."""


def header_texts(headers: Headers) -> dict[str, str]:
    """Headers as text, by their lower-case names; of several of one name the first."""
    found: dict[str, str] = {}
    for name, value in headers:
        found.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    return found


@define
class Http2(ABC):
    """One end of a connection; subclasses say what events mean."""

    message_bytes_max: int
    ended: bool = field(default=False, init=False)
    _streams: dict[int, Stream] = field(factory=dict, init=False)
    _blocked: dict[int, None] = field(factory=dict, init=False)
    """Streams with something pending, in the order in which they get the connection's window."""
    _h2: Any = field(init=False)
    _output: bytearray = field(factory=bytearray, init=False)
    """What h2 has given out and nobody has taken yet."""

    def begin(self, *, client_side: bool, settings: Mapping[Any, int]) -> None:
        # What is not looked at need not be checked; what is, is checked where it is read.
        config = h2.config.H2Configuration(
            client_side=client_side,
            header_encoding=None,
            validate_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_inbound_headers=False,
            normalize_outbound_headers=False,
        )
        self._h2 = h2.connection.H2Connection(config)
        codes = h2.settings.SettingCodes
        self._h2.local_settings = h2.settings.Settings(
            client=client_side,
            initial_values={
                codes.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
                codes.MAX_HEADER_LIST_SIZE: HEADERS_BYTES_MAX,
                **settings,
            },
        )
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW_BYTES - _INITIAL_WINDOW_BYTES)

    @property
    def output_bytes(self) -> int:
        """How many bytes wait to be taken: the peer's windows allow them, whether or not it reads."""
        self._output += self._h2.data_to_send()
        return len(self._output)

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        if not self.ended:
            self._h2.ping(bytes(8))

    def take_output(self) -> bytes:
        """What is to be sent now."""
        self._output += self._h2.data_to_send()
        output = bytes(self._output)
        self._output.clear()
        return output

    # ---------------------------------------------------------------- what comes in

    def receive(self, data: bytes) -> list[Any]:
        """Take in bytes; returns what they mean, in order."""
        found: list[Any] = []
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            # h2 has put a GOAWAY into the output.
            self.ended = True
            return [ConnectionEnded()]
        if any(type(event) is h2.events.ConnectionTerminated for event in events):
            # Of what came before the goodbye, too, h2 lets nothing be answered any more.
            self.ended = True
        for event in events:
            if type(event) is h2.events.DataReceived:
                self._take_data(event, found)
            elif type(event) is h2.events.ConnectionTerminated:
                found.append(ConnectionEnded())
            else:
                self._take(event, found)
        if not self.ended:
            for number in list(self._blocked):
                self._flush(number, self._streams[number])
        return found

    @abstractmethod
    def _take(self, event: Any, found: list[Any]) -> None:
        """What any other of h2's events means."""

    @abstractmethod
    def _refuse(self, number: int, error: RpcError, found: list[Any]) -> None:
        """The peer broke gRPC's framing on a stream."""

    def _take_data(self, event: Any, found: list[Any]) -> None:
        number, size = event.stream_id, event.flow_controlled_length
        stream = self._streams.get(number)
        payloads: list[bytes] = []
        if stream is not None:
            try:
                payloads = stream.deframer.feed(event.data)
            except RpcError as error:
                self._refuse(number, error, found)
        if stream is None or number not in self._streams:
            # Of a call that is over; the connection's window is everybody's.
            self.taken(number, size)
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

    def taken(self, number: int, size: int) -> None:
        """A message was taken in: the peer may send as much again."""
        if size and not self.ended:
            self._h2.acknowledge_received_data(size, number)

    # ---------------------------------------------------------------- what goes out

    def waiting_bytes(self, number: int) -> int:
        """How many bytes of a call wait for the peer's window."""
        stream = self._streams.get(number)
        return len(stream.pending) if stream is not None else 0

    def close(self) -> None:
        """Tell the peer that the connection ends."""
        if not self.ended:
            self.ended = True
            self._h2.close_connection()

    def _queue(self, number: int, stream: Stream, *payloads: bytes) -> None:
        for payload in payloads:
            stream.pending += frame(payload)
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

    @abstractmethod
    def _send_last(self, number: int, stream: Stream) -> None:
        """Send what ends this side of a stream, whose messages have all gone out."""

    def _send_pending(self, number: int, stream: Stream) -> None:
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

    def _reset(self, number: int, code: h2.errors.ErrorCodes) -> None:
        """End a stream at once, if the peer has not."""
        stream = self._h2.streams.get(number)
        if stream is not None and not stream.closed and not self.ended:
            self._h2.reset_stream(number, code)

    def _forget(self, number: int) -> bool:
        self._blocked.pop(number, None)
        stream = self._streams.pop(number, None)
        if stream is None:
            return False
        self.taken(number, stream.held_bytes)
        return True
