"""Our HTTP/2 against an independent one (`h2`), and against peers that break the protocol."""

from collections.abc import Sequence

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from understudy.raftstore.etcd.client_connection import CallEnded, ClientConnection
from understudy.raftstore.etcd.connection import CallAborted, CallBegan, ServerConnection
from understudy.raftstore.etcd.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    HeaderReader,
    Setting,
    encode_headers,
    frame,
    settings_frame,
)
from understudy.raftstore.etcd.grpc import frame as message_frame
from understudy.raftstore.etcd.http2 import ConnectionEnded, Http2, MessageCame

PATH = "/etcdserverpb.KV/Put"
BLOCK = encode_headers([(b":method", b"POST"), (b":path", PATH.encode()), (b"te", b"trailers")])
REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", PATH), (":authority", "localhost")]


def peer(*, client_side: bool, window: int) -> h2.connection.H2Connection:
    """An h2 connection that lets each stream have so much unread."""
    made = h2.connection.H2Connection(h2.config.H2Configuration(client_side=client_side))
    made.local_settings = h2.settings.Settings(
        client=client_side,
        initial_values={
            h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window,
            h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 100,
        },
    )
    made.initiate_connection()
    return made


class Wire:
    """An end of ours and an h2 that exchange bytes in pieces of a size."""

    def __init__(self, ours: Http2, theirs: h2.connection.H2Connection, piece: int) -> None:
        self.ours, self.theirs, self.piece = ours, theirs, piece
        self.here: list[object] = []
        self.there: list[h2.events.Event] = []

    def exchange(self) -> None:
        while True:
            back, out = self.theirs.data_to_send(), self.ours.take_output()
            if not back and not out:
                return
            for start in range(0, len(back), self.piece):
                came = self.ours.receive(back[start : start + self.piece])
                self.here += came
                for each in came:
                    if isinstance(each, MessageCame):
                        self.ours.taken(each.stream, each.taken_bytes)
            for start in range(0, len(out), self.piece):
                events = self.theirs.receive_data(out[start : start + self.piece])
                self.there += events
                for event in events:
                    if isinstance(event, h2.events.DataReceived):
                        self.theirs.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def send(self, stream: int, data: bytes) -> None:
        """Have h2 send, within our windows."""
        while data:
            size = min(len(data), self.theirs.local_flow_control_window(stream), 16_384)
            if not size:
                self.exchange()
                continue
            self.theirs.send_data(stream, data[:size])
            data = data[size:]

    def data(self, stream: int) -> bytes:
        return b"".join(
            each.data
            for each in self.there
            if isinstance(each, h2.events.DataReceived) and each.stream_id == stream
        )

    def payloads(self, stream: int) -> list[bytes]:
        return [each.payload for each in self.here if isinstance(each, MessageCame) and each.stream == stream]


SIZES = st.integers(0, 3_000) | st.sampled_from([65_530, 65_531, 200_000])
CALLS = st.lists(st.tuples(st.lists(SIZES, max_size=3), SIZES, st.booleans()), min_size=1, max_size=5)
PIECES = st.sampled_from([500, 16_390, 1 << 20])


@settings(deadline=None, max_examples=25)
@given(CALLS, st.sampled_from([1_000, 20_000, 70_000]), PIECES)
def test_a_client_of_another_make_is_served(
    calls: list[tuple[list[int], int, bool]], window: int, piece: int
) -> None:
    wire = Wire(ServerConnection(1 << 20), peer(client_side=True, window=window), piece)
    for number, (requests, answer, half_closes) in enumerate(calls):
        stream = 2 * number + 1
        wire.theirs.send_headers(stream, [*REQUEST, ("grpc-timeout", f"{number}S"), ("token", "t" * number)])
        for size in requests:
            wire.send(stream, message_frame(b"q" * size))
        if half_closes:
            wire.theirs.end_stream(stream)
        wire.exchange()
        wire.ours.send(stream, b"a" * answer)
        wire.ours.finish(stream)
    wire.exchange()
    began = {each.stream: each.headers for each in wire.here if isinstance(each, CallBegan)}
    for number, (requests, answer, half_closes) in enumerate(calls):
        stream = 2 * number + 1
        assert [len(payload) for payload in wire.payloads(stream)] == requests
        assert wire.data(stream) == message_frame(b"a" * answer)
        assert began[stream][":path"] == PATH and began[stream]["grpc-timeout"] == f"{number}S"
        of_stream = [each for each in wire.there if getattr(each, "stream_id", 0) == stream]
        trailers = next(each for each in of_stream if isinstance(each, h2.events.TrailersReceived))
        assert (b"grpc-status", b"0") in trailers.headers
        # Who may still be sending is told that nobody listens; who is done is not.
        assert any(isinstance(each, h2.events.StreamReset) for each in of_stream) is not half_closes
    assert not wire.ours.ended


@settings(deadline=None, max_examples=25)
@given(CALLS, st.sampled_from([1_000, 20_000, 70_000]), PIECES)
def test_a_server_of_another_make_is_understood(
    calls: list[tuple[list[int], int, bool]], window: int, piece: int
) -> None:
    client = ClientConnection(1 << 20, "localhost:2379")
    wire = Wire(client, peer(client_side=False, window=window), piece)
    wire.exchange()
    for number, (requests, answer, half_closes) in enumerate(calls):
        stream = client.call(PATH, {"token": "t" * 15_000 * number})
        for size in requests:
            client.send(stream, b"q" * size)
        if half_closes:
            client.half_close(stream)
        wire.exchange()
        wire.theirs.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        wire.send(stream, message_frame(b"a" * answer))
        wire.theirs.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        wire.exchange()
        assert [len(payload) for payload in wire.payloads(stream)] == [answer]
        assert wire.data(stream) == b"".join(message_frame(b"q" * size) for size in requests)
        assert CallEnded(stream, None) in wire.here
    requests_seen = [each for each in wire.there if isinstance(each, h2.events.RequestReceived)]
    assert [len(dict(each.headers)[b"token"]) for each in requests_seen] == [
        15_000 * number for number in range(len(calls))
    ]


NAMES = st.sampled_from([b"token", b"grpc-timeout", b":path", b"te"])
HEADER_LISTS = st.lists(st.tuples(NAMES, st.sampled_from([b"", b"a", b"b" * 40])), max_size=4)


@example([([(b"token", value)], None) for value in (b"a", b"a", b"b", b"b", b"a")])
@given(st.lists(st.tuples(HEADER_LISTS, st.sampled_from([None, 0, 60, 4096])), max_size=20))
def test_blocks_that_come_again_mean_what_the_table_makes_of_them(
    lists: list[tuple[Sequence[tuple[bytes, bytes]], int | None]],
) -> None:
    encoder, reader = hpack.Encoder(), HeaderReader(1 << 16)
    for headers, table in lists:
        if table is not None:
            encoder.header_table_size = table
        wanted: dict[str, str] = {}
        for name, value in headers:
            wanted.setdefault(name.decode(), value.decode())
        assert reader.decode(encoder.encode(headers)) == wanted


def opened(*data: bytes) -> tuple[ServerConnection, list[object]]:
    """A server that got these bytes of a client."""
    server = ServerConnection(1 << 20)
    server.receive(PREFACE + settings_frame({}))
    server.take_output()
    return server, server.receive(b"".join(data))


BEGIN = frame(HEADERS, END_HEADERS, 1, BLOCK)
BROKEN = {
    "data on no stream": (frame(DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data of a stream that never began": (frame(DATA, 0, 7, b"x"), ErrorCode.PROTOCOL_ERROR),
    "a reset of a stream that never began": (frame(RST_STREAM, 0, 7, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "a stream of the server's": (frame(HEADERS, END_HEADERS, 2, BLOCK), ErrorCode.PROTOCOL_ERROR),
    "settings on a stream": (frame(SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "half a setting": (frame(SETTINGS, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    "settings in an acknowledgement": (frame(SETTINGS, ACK, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
    "tiny frames": (settings_frame({Setting.MAX_FRAME_SIZE: 100}), ErrorCode.PROTOCOL_ERROR),
    "a window beyond 31 bits": (
        settings_frame({Setting.INITIAL_WINDOW_SIZE: 1 << 31}),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "a window that outgrows 31 bits": (
        frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "a window that grows by nothing": (frame(WINDOW_UPDATE, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "a short window update": (frame(WINDOW_UPDATE, 0, 0, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
    "a long ping": (frame(PING, 0, 0, bytes(9)), ErrorCode.FRAME_SIZE_ERROR),
    "a push": (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "a continuation of nothing": (frame(CONTINUATION, END_HEADERS, 1, BLOCK), ErrorCode.PROTOCOL_ERROR),
    "a header block that is interrupted": (
        frame(HEADERS, 0, 1, BLOCK) + frame(PING, 0, 0, bytes(8)),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "a header block that is none": (frame(HEADERS, END_HEADERS, 1, b"\xff\xff"), ErrorCode.COMPRESSION_ERROR),
    "headers without end": (
        frame(HEADERS, 0, 1, BLOCK) + 5 * frame(CONTINUATION, 0, 1, bytes(16_384)),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "a list of headers that grows when it is read": (
        frame(HEADERS, END_HEADERS, 1, b"\x40\x01a\x7f\xf5\x1d" + b"b" * 3956 + b"\xbe" * 40),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "a large frame": (frame(DATA, 0, 1, bytes(16_385)), ErrorCode.FRAME_SIZE_ERROR),
    "more padding than frame": (BEGIN + frame(DATA, PADDED, 1, b"\x05abc"), ErrorCode.PROTOCOL_ERROR),
    "data after the end": (
        BEGIN + frame(DATA, END_STREAM, 1) + frame(DATA, 0, 1, b"x"),
        ErrorCode.STREAM_CLOSED,
    ),
    "more than the stream's window": (
        BEGIN + 65 * frame(DATA, 0, 1, message_frame(bytes(16_379))),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_who_breaks_the_protocol_is_told_how_and_left(what: str) -> None:
    data, code = BROKEN[what]
    server, found = opened(data)
    assert found[-1] == ConnectionEnded() and server.ended
    output = server.take_output()
    assert output[-17:-8] == frame(GOAWAY, 0, 0, bytes(8))[:9]
    assert int.from_bytes(output[-4:], "big") == code
    assert server.receive(BEGIN) == []


def test_what_must_be_ignored_is() -> None:
    server, found = opened(
        frame(99, 255, 1, b"unknown"),
        frame(HEADERS, END_HEADERS | PADDED | PRIORITIZED, 1, b"\x03" + bytes(5) + BLOCK + bytes(3)),
        frame(2, 0, 1, bytes(5)),
        frame(DATA, PADDED, 1, b"\x04" + message_frame(b"m") + bytes(4)),
        frame(RST_STREAM, 0, 1, bytes(4)),
        # Of a stream that is over.
        frame(DATA, 0, 1, b"late"),
        frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK),
    )
    assert [type(each) for each in found] == [CallBegan, MessageCame, CallAborted]
    assert not server.ended


def test_a_server_that_takes_no_more_calls_is_asked_for_none() -> None:
    wire = Wire(ClientConnection(1 << 20, "h"), peer(client_side=False, window=1000), 1 << 20)
    wire.theirs.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    wire.exchange()
    client = wire.ours
    assert isinstance(client, ClientConnection)
    first = client.call(PATH, {})
    with pytest.raises(Exception, match="no further call fits"):
        client.call(PATH, {})
    client.cancel(first)
    assert client.call(PATH, {}) > first


def test_a_greeting_begins_with_settings() -> None:
    server = ServerConnection(100)
    assert server.receive(PREFACE + frame(PING, 0, 0, bytes(8))) == [ConnectionEnded()]
    server = ServerConnection(100)
    assert server.receive(b"GET / HTTP/1.1\r\n") == [ConnectionEnded()]
