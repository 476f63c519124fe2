"""How batches stand in a segment, and what is told of one that was hit by a power loss or by rot."""

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from understudy.actors.disk import SECTOR_BYTES
from understudy.raftstore.messages import HardState
from understudy.raftstore.wal.frames import (
    HEADER_BYTES,
    HeaderError,
    Scan,
    SegmentHeader,
    encode_frame,
    identity,
    place,
    scan,
)

SIZE = 20 << 10
HEADER = SegmentHeader(7, 2, 3, 40, 0x1234, 90, 4, HardState(5, 1, 80))

bodies = st.binary(min_size=1, max_size=1500) | st.builds(
    # Sectors that are all zeros by right.
    lambda head, zeros, tail: head + bytes(zeros) + tail,
    st.binary(min_size=1, max_size=40),
    st.integers(0, 2000),
    st.binary(max_size=40),
)
batches = st.lists(bodies, min_size=1, max_size=8)


@define
class Segment:
    header: SegmentHeader
    data: bytearray = field(init=False)
    frames: list[tuple[int, int]] = field(factory=list)
    """(offset, end) of each."""
    checksum: int = field(init=False)
    end: int = SECTOR_BYTES

    def __attrs_post_init__(self) -> None:
        self.data = bytearray(self.header.encode().ljust(SIZE, b"\0"))
        self.checksum = self.header.previous

    def append(self, body: bytes) -> bytes:
        offset = place(self.end)
        sequence = self.header.first_sequence + len(self.frames)
        frame, self.checksum = encode_frame(identity(self.header), sequence, offset, self.checksum, body)
        self.data[offset : offset + len(frame)] = frame
        self.end = offset + len(frame)
        self.frames.append((offset, self.end))
        return frame

    def scan(self) -> Scan:
        return scan(bytes(self.data))


def filled(content: list[bytes]) -> Segment:
    segment = Segment(HEADER)
    for body in content:
        segment.append(body)
    return segment


def pieces(offset: int, end: int) -> list[tuple[int, int]]:
    """The parts of a range that lie in one sector each."""
    found = []
    while offset < end:
        stop = min(end, (offset // SECTOR_BYTES + 1) * SECTOR_BYTES)
        found.append((offset, stop))
        offset = stop
    return found


@given(batches)
def test_what_is_written_is_read(content: list[bytes]) -> None:
    found = filled(content).scan()
    assert found.header == HEADER and found.flaw is None
    assert [frame.body for frame in found.frames] == content
    assert [frame.sequence for frame in found.frames] == list(range(40, 40 + len(content)))
    for frame in found.frames:
        assert frame.offset % SECTOR_BYTES <= SECTOR_BYTES - HEADER_BYTES


@given(batches, st.data())
def test_a_power_loss_costs_the_last_batch_and_no_other(content: list[bytes], data: st.DataObject) -> None:
    segment = filled(content)
    parts = pieces(*segment.frames[-1])
    written = data.draw(st.lists(st.booleans(), min_size=len(parts), max_size=len(parts)))
    whole = bytes(segment.data)
    for (start, stop), kept in zip(parts, written, strict=True):
        if not kept:
            segment.data[start:stop] = bytes(stop - start)
    found = segment.scan()
    bodies_found = [frame.body for frame in found.frames]
    if bytes(segment.data) == whole:
        assert bodies_found == content and found.flaw is None
        return
    assert bodies_found == content[:-1]
    if found.flaw is not None:
        assert found.flaw.torn, found.flaw
    else:
        assert not any(segment.data[found.end :])


@given(batches, st.data())
def test_a_bit_that_flips_in_what_was_written_is_damage(content: list[bytes], data: st.DataObject) -> None:
    segment = filled(content)
    number = data.draw(st.integers(0, len(content) - 1))
    offset, end = segment.frames[number]
    bit = data.draw(st.integers(offset * 8, end * 8 - 1))
    segment.data[bit // 8] ^= 1 << bit % 8
    found = segment.scan()
    assert [frame.body for frame in found.frames] == content[:number]
    flaw = found.flaw
    assert flaw is not None and flaw.offset == offset
    if flaw.torn:
        # The limit: the flip left a sector of the last batch with nothing but zeros.
        assert number == len(content) - 1
        ((start, stop),) = [part for part in pieces(offset, end) if part[0] <= bit // 8 < part[1]]
        assert not any(segment.data[start:stop])


@given(batches, st.integers(0, SECTOR_BYTES * 8 - 1))
def test_a_bit_that_flips_in_the_segment_s_header_is_damage(content: list[bytes], bit: int) -> None:
    segment = filled(content)
    segment.data[bit // 8] ^= 1 << bit % 8
    try:
        segment.scan()
    except HeaderError:
        return
    raise AssertionError("the header was taken for valid")


@given(batches, st.data())
def test_a_lost_sector_before_the_last_batch_is_damage(content: list[bytes], data: st.DataObject) -> None:
    segment = filled([*content, b"the last"])
    number = data.draw(st.integers(0, len(content) - 1))
    start, stop = data.draw(st.sampled_from(pieces(*segment.frames[number])))
    if not any(segment.data[start:stop]):
        return
    segment.data[start:stop] = bytes(stop - start)
    flaw = segment.scan().flaw
    assert flaw is not None and not flaw.torn and flaw.offset == segment.frames[number][0]
    assert "stands at byte" in flaw.what


@given(batches, bodies, st.integers(-8, 8).filter(bool))
def test_a_misdirected_write_is_damage(content: list[bytes], body: bytes, away: int) -> None:
    segment = filled(content)
    before = bytes(segment.data)
    frame = segment.append(body)
    wrong = segment.frames[-1][0] + away * SECTOR_BYTES
    if wrong < SECTOR_BYTES:
        return
    segment.data[:] = before
    segment.data[wrong : wrong + len(frame)] = frame
    flaw = segment.scan().flaw
    assert flaw is not None and not flaw.torn, flaw
    if away > 0:
        assert "misdirected" in flaw.what


@given(batches, batches)
def test_stale_and_foreign_batches_never_count(content: list[bytes], others: list[bytes]) -> None:
    """Of another segment, of another member, of an earlier life of this one: at the same place and number."""
    foreign = Segment(SegmentHeader(7, 1, 3, 40, 0x1234, 90, 4, HardState(5, 1, 80)))
    earlier = Segment(SegmentHeader(7, 2, 3, 40, 0x1235, 90, 4, HardState(5, 1, 80)))
    for other in (foreign, earlier):
        for body in others:
            other.append(body)
        data = HEADER.encode() + bytes(other.data[SECTOR_BYTES:])
        found = scan(data)
        assert not found.frames and found.flaw is not None and not found.flaw.torn


@given(batches)
def test_a_batch_of_another_history_is_damage(content: list[bytes]) -> None:
    """The right number at the right place, but it follows a batch that is not the one before it."""
    segment = filled(content)
    twin = filled([*content[:-1], content[-1] + b"x"])
    segment.end = twin.end = max(segment.end, twin.end)
    twin.append(b"next")
    offset, end = twin.frames[-1]
    segment.data[offset:end] = twin.data[offset:end]
    flaw = segment.scan().flaw
    assert flaw is not None and not flaw.torn


def test_the_unused_rest_of_the_newest_segment_is_torn_or_damage_never_silent() -> None:
    for bit in range(0, 200 * 8, 3):
        segment = filled([b"one"])
        offset = place(segment.end)
        segment.data[offset + bit // 8] ^= 1 << bit % 8
        found = segment.scan()
        assert len(found.frames) == 1 and found.flaw is not None
        assert found.flaw.torn is (bit >= HEADER_BYTES * 8)
