"""From the segments of a folder, in order, to the log that they hold. Sans I/O."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from attrs import define, field, frozen

from understudy.raftstore.messages import Entry, HardState
from understudy.raftstore.wal.batches import Batch, read_batch
from understudy.raftstore.wal.entries import EntryError, decode_rows
from understudy.raftstore.wal.errors import Damaged, FolderRefused
from understudy.raftstore.wal.folder import Identity
from understudy.raftstore.wal.frames import (
    Flaw,
    Frame,
    HeaderError,
    Scan,
    SegmentHeader,
    UnknownFormat,
    frames_of,
)

ADVICE: Final = (
    "Nothing was changed. Remove this member from its group and add it again with an empty folder; or, if "
    "the other members are lost too, `understudy store repair DIR` cuts the log before the damage and says "
    "what is lost by it"
)

SLICE_BYTES: Final = 256 << 10
"""About what is read ..."""
SLICE_ROWS: Final = 500
"""... and how many entries are decoded before others go first."""


@frozen
class SegmentFacts:
    """What is known of a segment that was read."""

    number: int
    last_index: int
    """The highest index of any entry that is in it or was before it in the log."""


@define
class Replay:
    """The log as the segments read so far tell it."""

    identity: Identity | None
    """Whose log it must be; None: anybody's."""
    keep_after: int = 0
    """Entries up to this index are not decoded: a snapshot covers them."""
    hard_state: HardState = field(factory=HardState)
    base: tuple[int, int] = (0, 0)
    """(index, term) where the log begins; the term is -1 where it is not known."""
    forgotten: bool = False
    """Segments before the first were removed: what is before the base is in a snapshot, and may be other than
    it was when the first segment was begun."""
    terms: list[int] = field(factory=list)
    """Of every entry after the base."""
    entries: list[Entry] = field(factory=list)
    """Those after `keep_after`, or after the base if that is later."""
    segments: list[SegmentFacts] = field(factory=list)
    last: Scan | None = None
    """The segment read last."""

    @property
    def last_index(self) -> int:
        return self.base[0] + len(self.terms)

    @property
    def last_term(self) -> int:
        return self.terms[-1] if self.terms else self.base[1]

    def term_at(self, index: int) -> int | None:
        """The term of an entry, or of the base; None where the log does not reach."""
        if index == self.base[0]:
            return self.base[1]
        offset = index - self.base[0] - 1
        return self.terms[offset] if 0 <= offset < len(self.terms) else None

    def segment(self, path: str, number: int, data: bytes, newest: bool) -> Scan:
        """Take in the next segment. In the newest one a torn end is right, and is in the answer.

        Raises:
            Damaged: something is not as it was written, or a segment before this one is missing.
            FolderRefused: it is another member's, or of another format.
        """
        for _ in self.slices(path, number, data, newest):
            pass
        assert self.last is not None
        return self.last

    def slices(self, path: str, number: int, data: bytes, newest: bool) -> Iterator[None]:
        """`segment` bit by bit, a millisecond or two each."""
        try:
            header = SegmentHeader.decode(data)
        except UnknownFormat as error:
            raise FolderRefused(path, str(error), "Use the version of Understudy that wrote it") from error
        except HeaderError as error:
            raise Damaged(path, str(error), ADVICE) from error
        self._check_place(path, number, header)
        highest = max(self.last_index, self.segments[-1].last_index if self.segments else 0)
        frames: list[Frame] = []
        flaw: Flaw | None = None
        taken = 0
        for found in frames_of(data, header):
            if isinstance(found, Flaw):
                flaw = found
                break
            frames.append(found)
            if found.end - taken >= SLICE_BYTES:
                taken = found.end
                yield
        self.last = Scan(header, tuple(frames), flaw)
        self.segments.append(SegmentFacts(number, highest))
        rows = 0
        for frame in frames:
            batch = self._batch(path, frame)
            if batch.rows:
                highest = max(highest, batch.rows[-1][0])
                for _ in self._append(path, frame, batch.rows):
                    yield
                rows += len(batch.rows)
            highest = max(highest, batch.replaced[0])
            self.segments[-1] = SegmentFacts(number, highest)
            if rows >= SLICE_ROWS:
                rows = 0
                yield
            if self.hard_state.commit_index > self.last_index:
                what = f"commit index {self.hard_state.commit_index}, where the log ends at {self.last_index}"
                raise Damaged(path, f"batch {frame.sequence}: {what}", ADVICE, frame.offset)
        if flaw is not None and not (newest and flaw.torn):
            raise Damaged(path, flaw.what, ADVICE, flaw.offset)

    def _check_place(self, path: str, number: int, header: SegmentHeader) -> None:
        owner = Identity(header.cluster, header.member)
        if self.identity is not None and owner != self.identity:
            raise FolderRefused(
                path, f"the segment belongs to {owner}, the folder to {self.identity}", ADVICE
            )
        if header.number != number:
            raise Damaged(path, f"the segment is number {header.number}, its name says {number}", ADVICE)
        if self.last is None:
            self.hard_state = header.hard_state
            self.base = (header.base_index, header.base_term)
            self.forgotten = number > 1
            return
        before = self.last.header.number
        if number != before + 1:
            raise Damaged(path, f"segments {before + 1} to {number - 1} are missing before it", ADVICE)
        joint = (self.last.next_sequence, self.last.checksum, self.last_index, self.last_term)
        if joint != (header.first_sequence, header.previous, header.base_index, header.base_term):
            raise Damaged(
                path,
                f"it goes on after batch {header.first_sequence - 1} and entry {header.base_index}, "
                f"the one before ends at batch {self.last.next_sequence - 1} and entry {self.last_index}",
                ADVICE,
            )

    def _batch(self, path: str, frame: Frame) -> Batch:
        """Take in a batch but for its entries."""
        try:
            batch = read_batch(frame.body)
        except EntryError as error:
            raise Damaged(path, f"batch {frame.sequence}: {error}", ADVICE, frame.offset) from error
        refusal = self._why_not(batch)
        if refusal:
            raise Damaged(path, f"batch {frame.sequence}: {refusal}", ADVICE, frame.offset)
        self.hard_state = batch.hard_state
        if batch.replaced[0]:
            self.base, self.terms, self.entries, self.forgotten = batch.replaced, [], [], False
        return batch

    def _append(self, path: str, frame: Frame, rows: Sequence[tuple[Any, ...]]) -> Iterator[None]:
        first = rows[0][0]
        if first <= self.base[0]:
            self.base = (first - 1, -1)
        del self.terms[first - self.base[0] - 1 :]
        self.terms.extend([row[1] for row in rows])
        while self.entries and self.entries[-1].index >= first:
            self.entries.pop()
        wanted = rows[max(0, self.keep_after + 1 - first) :]
        for at in range(0, len(wanted), SLICE_ROWS):
            if at:
                yield
            try:
                self.entries.extend(decode_rows(wanted[at : at + SLICE_ROWS]))
            except EntryError as error:
                raise Damaged(path, f"batch {frame.sequence}: {error}", ADVICE, frame.offset) from error

    def _why_not(self, batch: Batch) -> str:
        """Why a batch cannot follow what was read; empty when it can. All are broken invariants of Raft."""
        state, old = batch.hard_state, self.hard_state
        if state.term < old.term:
            return f"term {state.term} after term {old.term}"
        if state.commit_index < old.commit_index:
            return f"commit index {state.commit_index} after {old.commit_index}"
        base, end = (batch.replaced[0],) * 2 if batch.replaced[0] else (self.base[0], self.last_index)
        if batch.rows:
            first, count = batch.rows[0][0], len(batch.rows)
            if self.forgotten and not batch.replaced[0]:
                base = min(base, first - 1)
            if not base < first <= end + 1:
                return f"entry {first} where the log has {base + 1} to {end}"
            if [row[0] for row in batch.rows] != list(range(first, first + count)):
                return f"entries {first} to {batch.rows[-1][0]} with gaps"
        return ""
