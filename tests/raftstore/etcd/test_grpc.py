"""gRPC's framing and headers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.raftstore.etcd.grpc import (
    Code,
    Deframer,
    RpcError,
    format_timeout,
    frame,
    parse_timeout,
    quote_message,
    unquote_message,
)


@given(st.lists(st.binary(max_size=50), max_size=8), st.lists(st.integers(1, 30)))
def test_messages_come_whole_however_their_bytes_are_cut(payloads: list[bytes], cuts: list[int]) -> None:
    data = b"".join(frame(payload) for payload in payloads)
    deframer = Deframer()
    found: list[bytes] = []
    for cut in cuts:
        found += deframer.feed(data[:cut])
        data = data[cut:]
    found += deframer.feed(data)
    assert found == payloads and not deframer.in_message


def test_what_is_compressed_or_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(RpcError) as refused:
        Deframer().feed(b"\1\0\0\0\1")
    assert refused.value.code is Code.UNIMPLEMENTED
    with pytest.raises(RpcError) as refused:
        Deframer(10).feed(b"\0\0\0\0\x0b")
    assert (refused.value.code, refused.value.message) == (
        Code.RESOURCE_EXHAUSTED,
        "grpc: received message larger than max (11 vs. 10)",
    )


@given(st.text())
def test_status_messages_survive_their_header(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    quoted = quote_message(text)
    assert quoted.isascii() and quoted.isprintable()
    assert unquote_message(quoted) == text


@pytest.mark.parametrize(
    ("text", "seconds"), [("5S", 5.0), ("100m", 0.1), ("1H", 3600.0), ("2M", 120.0), ("7u", 7e-6)]
)
def test_timeouts_are_read(text: str, seconds: float) -> None:
    assert parse_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "S", "-1S", "123456789S", "1.5S", "5s"])
def test_malformed_timeouts_are_refused(text: str) -> None:
    with pytest.raises(RpcError):
        parse_timeout(text)


@given(st.floats(0.0005, 1e6))
def test_timeouts_are_written_as_they_are_read(seconds: float) -> None:
    assert parse_timeout(format_timeout(seconds)) == pytest.approx(seconds, rel=1e-3, abs=0.6e-3)
