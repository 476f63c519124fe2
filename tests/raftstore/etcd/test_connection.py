"""gRPC on HTTP/2, both ends against each other, without sockets."""

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.raftstore.etcd.client_connection import CallEnded, ClientConnection
from understudy.raftstore.etcd.connection import CallAborted, CallBegan, ClientFinished, ServerConnection
from understudy.raftstore.etcd.grpc import Code, NotSent, RpcError
from understudy.raftstore.etcd.http2 import ConnectionEnded, MessageCame

PATH = "/etcdserverpb.KV/Put"


@define
class Pair:
    """A client and a server, and what each has been told."""

    client: ClientConnection = field(factory=lambda: ClientConnection(64 << 20, "localhost:2379"))
    server: ServerConnection = field(factory=lambda: ServerConnection(64 << 20))
    take: bool = True
    """Messages are taken in at once."""
    at_client: list[object] = field(factory=list)
    at_server: list[object] = field(factory=list)

    def exchange(self) -> None:
        """Carry bytes until nobody has any."""
        while True:
            there, back = self.client.take_output(), self.server.take_output()
            if not there and not back:
                return
            for end, data, found in (
                (self.server, there, self.at_server),
                (self.client, back, self.at_client),
            ):
                came = end.receive(data) if data else []
                found += came
                for each in came:
                    if isinstance(each, MessageCame) and self.take:
                        end.taken(each.stream, each.taken_bytes)

    def payloads(self, found: list[object], stream: int) -> list[bytes]:
        return [each.payload for each in found if isinstance(each, MessageCame) and each.stream == stream]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.binary(max_size=20), st.integers(0, 300_000)), min_size=1, max_size=4))
def test_calls_side_by_side_get_their_own_answers(calls: list[tuple[bytes, int]]) -> None:
    pair = Pair()
    streams = []
    for request, _ in calls:
        stream = pair.client.call(PATH, {"token": "t"}, 5.0)
        pair.client.send(stream, request)
        pair.client.half_close(stream)
        streams.append(stream)
    pair.exchange()
    for stream, (request, size) in zip(streams, calls, strict=True):
        assert pair.payloads(pair.at_server, stream) == [request]
        assert ClientFinished(stream) in pair.at_server
        pair.server.send(stream, b"x" * size)
        pair.server.finish(stream)
    pair.exchange()
    for stream, (_, size) in zip(streams, calls, strict=True):
        assert [len(payload) for payload in pair.payloads(pair.at_client, stream)] == [size]
        assert CallEnded(stream, None) in pair.at_client
    headers = next(each.headers for each in pair.at_server if isinstance(each, CallBegan))
    assert (headers[":path"], headers["token"], headers["grpc-timeout"]) == (PATH, "t", "5000m")


def test_who_takes_nothing_in_gets_no_more_than_his_window() -> None:
    pair = Pair(take=False)
    stream = pair.client.call(PATH, {})
    for _ in range(8):
        pair.client.send(stream, b"x" * (1 << 20))
    pair.exchange()
    came = [each for each in pair.at_server if isinstance(each, MessageCame)]
    waiting = pair.client.waiting_bytes(stream)
    assert 0 < len(came) < 8 and waiting > 0
    pair.take = True
    for each in came:
        pair.server.taken(stream, each.taken_bytes)
    pair.exchange()
    assert len(pair.payloads(pair.at_server, stream)) == 8
    assert pair.client.waiting_bytes(stream) == 0


@pytest.mark.parametrize("text", ["etcdserver: key not found", "a \n b % \u00e9", ""])
def test_an_error_arrives_with_its_code_and_text(text: str) -> None:
    pair = Pair()
    stream = pair.client.call(PATH, {})
    pair.exchange()
    pair.server.finish(stream, RpcError(Code.OUT_OF_RANGE, text))
    pair.exchange()
    ended = pair.at_client[-1]
    assert isinstance(ended, CallEnded) and ended.error is not None
    assert (ended.error.code, ended.error.message) == (Code.OUT_OF_RANGE, text)


def test_an_error_comes_behind_what_was_sent_before() -> None:
    pair = Pair()
    stream = pair.client.call(PATH, {})
    pair.exchange()
    pair.server.send(stream, b"y" * 3_000_000)
    pair.server.finish(stream, RpcError(Code.ABORTED, "no more"))
    pair.exchange()
    assert [len(payload) for payload in pair.payloads(pair.at_client, stream)] == [3_000_000]
    assert isinstance(pair.at_client[-1], CallEnded)


def test_a_client_that_gives_up_ends_its_call_alone() -> None:
    pair = Pair()
    first, second = pair.client.call(PATH, {}), pair.client.call(PATH, {})
    pair.client.send(first, b"1")
    pair.client.send(second, b"2")
    pair.exchange()
    pair.client.cancel(first)
    pair.exchange()
    assert CallAborted(first) in pair.at_server and CallAborted(second) not in pair.at_server
    # What a handler that knows nothing of it still says goes nowhere.
    pair.server.send(first, b"late")
    pair.server.finish(first)
    pair.server.send(second, b"answer")
    pair.server.finish(second)
    pair.exchange()
    assert pair.payloads(pair.at_client, first) == []
    assert pair.payloads(pair.at_client, second) == [b"answer"]


def test_half_a_message_of_a_call_that_was_given_up_costs_no_window() -> None:
    pair = Pair()
    pair.exchange()
    for _ in range(40):
        stream = pair.client.call(PATH, {})
        # The first MiB fills the window of the stream; the rest is never sent.
        pair.client.send(stream, b"x" * 3_000_000)
        pair.server.receive(pair.client.take_output())
        pair.client.cancel(stream)
        pair.exchange()
    last = pair.client.call(PATH, {})
    pair.client.send(last, b"y" * 1_000_000)
    pair.exchange()
    assert [len(payload) for payload in pair.payloads(pair.at_server, last)] == [1_000_000]


def test_a_message_beyond_the_limit_ends_its_call_alone() -> None:
    pair = Pair(server=ServerConnection(100))
    large, small = pair.client.call(PATH, {}), pair.client.call(PATH, {})
    pair.client.send(large, b"x" * 101)
    pair.client.send(small, b"x" * 100)
    pair.exchange()
    ended = next(each for each in pair.at_client if isinstance(each, CallEnded))
    assert ended.stream == large and ended.error is not None
    assert ended.error.code is Code.RESOURCE_EXHAUSTED
    assert pair.payloads(pair.at_server, small) == [b"x" * 100]


def test_a_connection_has_so_many_calls_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("understudy.raftstore.etcd.connection.STREAMS_MAX", 3)
    pair = Pair()
    pair.exchange()
    first, *_ = [pair.client.call(PATH, {}) for _ in range(3)]
    with pytest.raises(NotSent):
        pair.client.call(PATH, {})
    pair.exchange()
    pair.server.finish(first)
    pair.exchange()
    pair.client.call(PATH, {})
    pair.exchange()
    assert not pair.server.ended
    assert len([each for each in pair.at_server if isinstance(each, CallBegan)]) == 4


def test_who_does_not_keep_to_the_number_of_calls_is_no_longer_listened_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("understudy.raftstore.etcd.connection.STREAMS_MAX", 3)
    pair = Pair()
    for _ in range(4):  # Before it has heard of the limit.
        pair.client.call(PATH, {})
    pair.exchange()
    assert pair.server.ended and pair.at_server[-1] == ConnectionEnded()
    assert ConnectionEnded() in pair.at_client


def test_after_a_goodbye_no_call_begins() -> None:
    pair = Pair()
    pair.exchange()
    pair.server.close()
    pair.exchange()
    assert ConnectionEnded() in pair.at_client
    with pytest.raises(NotSent):
        pair.client.call(PATH, {})


def test_a_goodbye_beside_what_breaks_the_framing_is_a_goodbye() -> None:
    """Nothing can be answered any more when both are in one piece: h2 raises at whoever tries."""
    pair = Pair()
    pair.exchange()
    call = pair.client.call(PATH, {})
    pair.client._h2.send_data(call, b"\1\0\0\0\0")  # It says that it is compressed.
    pair.client.close()
    found = pair.server.receive(pair.client.take_output())
    assert [type(each) for each in found] == [CallBegan, CallAborted, ConnectionEnded]
    assert pair.server.ended


def test_a_goodbye_beside_the_end_of_a_call_that_could_go_on_is_both() -> None:
    pair = Pair()
    pair.exchange()
    call = pair.client.call(PATH, {})
    pair.exchange()
    # Trailers, and no reset behind them: what a server says that ends its calls and then itself.
    pair.server._h2.send_headers(call, [(b":status", b"200"), (b"grpc-status", b"14")], end_stream=True)
    pair.server.close()
    found = pair.client.receive(pair.server.take_output())
    assert [type(each) for each in found] == [CallEnded, ConnectionEnded]


@pytest.mark.parametrize("status", [b"teapot", b"", b"-1", "²".encode("latin-1")])
def test_an_answer_with_a_status_that_is_none_ends_its_call_alone(status: bytes) -> None:
    pair = Pair()
    pair.exchange()
    call = pair.client.call(PATH, {})
    pair.exchange()
    pair.server._h2.send_headers(call, [(b":status", status)], end_stream=True)
    pair.exchange()
    (ended,) = [each for each in pair.at_client if isinstance(each, CallEnded)]
    assert ended.error is not None and ended.error.code is Code.UNKNOWN
    assert not pair.client.ended


def test_bytes_that_are_no_http2_end_the_connection() -> None:
    server = ServerConnection(1000)
    server.receive(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    # A DATA frame on stream 0 (RFC 9113, 6.1).
    assert server.receive(bytes(9)) == [ConnectionEnded()]
    assert server.ended and server.take_output()


def test_an_answer_that_is_no_grpc_says_so() -> None:
    pair = Pair()
    stream = pair.client.call(PATH, {})
    pair.exchange()
    pair.server.reject(stream, 503)
    pair.exchange()
    ended = next(each for each in pair.at_client if isinstance(each, CallEnded))
    assert ended.error is not None and ended.error.code is Code.UNAVAILABLE
