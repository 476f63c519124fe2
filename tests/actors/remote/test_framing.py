"""Frames on a stream: whatever the network cuts, the same bodies come out; whatever else comes, an error."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.actors.remote.framing import HELLO_BYTES_MAX, PREAMBLE, FrameDecoder, ProtocolError, framed
from understudy.actors.remote.protocol import FIELDS, Kind, Outgoing, pack, parse


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in chunks of those sizes, over and over."""
    chunks, turn = [], 0
    while data:
        size = sizes[turn % len(sizes)]
        chunks.append(data[:size])
        data, turn = data[size:], turn + 1
    return chunks


def decoded(chunks: list[bytes], decoder: FrameDecoder | None = None) -> list[bytes]:
    decoder = decoder or FrameDecoder()
    bodies = []
    for chunk in chunks:
        decoder.feed(chunk)
        while (body := decoder.next_body()) is not None:
            bodies.append(body)
    return bodies


@given(st.lists(st.binary(max_size=50)), st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_bodies_come_out_as_they_went_in_however_they_were_cut(bodies: list[bytes], sizes: list[int]) -> None:
    stream = PREAMBLE + b"".join(framed(body) for body in bodies)
    assert decoded(cut(stream, sizes)) == bodies


@given(st.binary(min_size=1).filter(lambda data: not PREAMBLE.startswith(data[: len(PREAMBLE)])))
def test_another_protocol_is_told_apart_at_its_first_bytes(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="does not speak this protocol"):
        decoded([data])


def test_a_length_over_the_limit_is_refused_before_its_body_came() -> None:
    decoder = FrameDecoder()
    decoder.feed(PREAMBLE + (HELLO_BYTES_MAX + 1).to_bytes(4))
    with pytest.raises(ProtocolError, match="over the limit"):
        decoder.next_body()


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.binary() | st.lists(values, max_size=10).map(msgpack.packb))
def test_any_bytes_are_a_frame_or_a_protocol_error(body: bytes) -> None:
    try:
        frame = parse(body)
    except ProtocolError:
        return
    assert frame[0] in FIELDS and len(frame) > len(FIELDS[frame[0]])


def test_a_newer_versions_additional_fields_are_ignored() -> None:
    assert parse(pack(Kind.ACK, 1, 2, "new")[4:])[:3] == [Kind.ACK, 1, 2]


@pytest.mark.parametrize(
    "fields",
    [(), ("x",), (99,), (Kind.ACK, 1), (Kind.ACK, True, 1), (Kind.ACK, "1", 1), (Kind.TELLS, "", "", b"")],
)
def test_what_lacks_fields_or_has_others_is_refused(fields: tuple[Any, ...]) -> None:
    with pytest.raises(ProtocolError):
        parse(pack(*fields)[4:])


said = st.lists(
    st.tuples(
        st.sampled_from(["/a", "/b"]),
        st.sampled_from(["", "/s"]),
        st.sampled_from(["one", "other"]),
        st.binary(max_size=30000).map(msgpack.packb),
    )
    | st.integers(1, 9)
)


@given(said, st.sets(st.integers(0, 20)))
def test_what_is_queued_comes_out_in_order_and_in_batches(said: list[Any], taken_at: set[int]) -> None:
    outgoing, stream = Outgoing(), PREAMBLE
    for position, item in enumerate(said):
        if isinstance(item, int):
            outgoing.add(pack(Kind.CANCEL, item))
        else:
            outgoing.tell(*item)
        if position in taken_at:
            stream += outgoing.take()
    stream += outgoing.take()
    assert not outgoing and outgoing.waiting_bytes == 0
    heard: list[Any] = []
    for body in decoded([stream], _unlimited()):
        assert len(body) < 70_000, "a batch is bounded"
        frame = parse(body)
        if frame[0] == Kind.CANCEL:
            heard.append(frame[1])
            continue
        runs = iter(frame[3])
        for name, count, fields in zip(runs, runs, runs, strict=True):
            messages = msgpack.unpackb(b"\xdc" + count.to_bytes(2) + fields)
            heard += [(*frame[1:3], name, msgpack.packb(message)) for message in messages]
    assert heard == said


def test_messages_of_one_pair_share_a_frame_and_alike_ones_their_name() -> None:
    outgoing = Outgoing()
    for name in ("one", "one", "other", "one"):
        outgoing.tell("/a", "/s", name, b"\x80")
    outgoing.tell("/b", "/s", "one", b"\x80")
    frames = [parse(body) for body in decoded([PREAMBLE, outgoing.take()], _unlimited())]
    assert frames == [
        [Kind.TELLS, "/a", "/s", ["one", 2, b"\x80\x80", "other", 1, b"\x80", "one", 1, b"\x80"]],
        [Kind.TELLS, "/b", "/s", ["one", 1, b"\x80"]],
    ]


def _unlimited() -> FrameDecoder:
    return FrameDecoder(1 << 30)
