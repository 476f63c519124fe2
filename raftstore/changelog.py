"""What each revision changed, in order: what watches are fed from, and what a compaction has to look at.

Kept in chunks, so that a fork shares all but the last one and forgetting the oldest costs nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from attrs import define, field

from understudy.raftstore.storage import KeyValue

CHUNK: Final = 1024
"""Revisions."""

Change = KeyValue | tuple[KeyValue, ...]
"""What a revision changed; a single pair stands for itself. One of version 0 is a deletion."""


def pairs_of(change: Change) -> tuple[KeyValue, ...]:
    return change if isinstance(change, tuple) else (change,)


def change_of(pairs: Sequence[KeyValue]) -> Change:
    return pairs[0] if len(pairs) == 1 else tuple(pairs)


@define
class ChangeLog:
    base: int
    """The revision of the first change that is still held."""
    _chunks: list[list[Change]] = field(factory=lambda: [[]])
    """Each but the last is full, and never written to again."""

    @property
    def last(self) -> int:
        """The revision of the last change."""
        return self.base + (len(self._chunks) - 1) * CHUNK + len(self._chunks[-1]) - 1

    def fork(self) -> "ChangeLog":
        """The same changes; what is appended to either is not seen in the other."""
        return ChangeLog(self.base, [*self._chunks[:-1], self._chunks[-1].copy()])

    def append(self, change: Change) -> None:
        chunk = self._chunks[-1]
        if len(chunk) == CHUNK:
            self._chunks.append(chunk := [])
        chunk.append(change)

    def since(self, revision: int) -> Iterator[Change]:
        """The change of `revision`, which must be held, and each one after it."""
        assert self.base <= revision, (self.base, revision)
        first, offset = divmod(revision - self.base, CHUNK)
        for at in range(first, len(self._chunks)):
            chunk = self._chunks[at]
            yield from chunk[offset:] if offset else chunk
            offset = 0

    def forget_before(self, revision: int) -> None:
        """Let go of what lies before `revision`, by whole chunks."""
        whole = min((revision - self.base) // CHUNK, len(self._chunks) - 1)
        if whole > 0:
            del self._chunks[:whole]
            self.base += whole * CHUNK


@define
class ChangesByRevision:
    """Changes from the pairs that they are made of, whatever the order in which these come."""

    base: int
    last: int
    """Revisions, the first and the last."""
    _chunks: list[list[Any]] = field(init=False)
    """By revision: None; the pair; or, of several, the list of them until their order is told."""
    _missing: int = field(init=False)
    """Revisions of which nothing came yet."""
    _unordered: int = 0
    """Revisions of several pairs whose order is not told yet."""
    _told: dict[int, list[tuple[bytes, int]]] = field(factory=dict)
    """Of those: the order, as far as it came."""

    def __attrs_post_init__(self) -> None:
        self._missing = count = self.last - self.base + 1
        if count < 1:
            raise ValueError(f"changes of the revisions {self.base} to {self.last}")
        self._chunks = [[None] * min(CHUNK, count - at) for at in range(0, count, CHUNK)]
        if self.base == 1:
            # The first revision of all, at which a store begins, changed nothing.
            self._chunks[0][0] = ()
            self._missing -= 1

    def put_all(self, pairs: Sequence[KeyValue]) -> None:
        """Take pairs in; those from before the base are in no change. Raises ValueError."""
        base, chunks = self.base, self._chunks
        for pair in pairs:
            offset = pair.mod_revision - base
            if offset < 0:
                continue
            chunk = chunks[offset // CHUNK]
            offset %= CHUNK
            if chunk[offset] is None:
                chunk[offset] = pair
                self._missing -= 1
            elif type(chunk[offset]) is list:
                chunk[offset].append(pair)
            else:
                chunk[offset] = [chunk[offset], pair]
                self._unordered += 1

    def order(self, revision: int, changed: Sequence[tuple[bytes, int]]) -> None:
        """The next (key, version), in order, of what a revision changed; all its pairs must have come."""
        if not self.base <= revision <= self.last:
            raise ValueError(f"the order of revision {revision}, of {self.base} to {self.last}")
        at, offset = divmod(revision - self.base, CHUNK)
        pairs = self._chunks[at][offset]
        if type(pairs) is not list:
            raise ValueError(f"the order of revision {revision}, which made one change or none")
        told = self._told.setdefault(revision, [])
        told.extend(changed)
        if len(told) < len(pairs):
            return
        # A key may have been put, and deleted twice, before and after; one deletion is like the other.
        came: dict[tuple[bytes, int], list[KeyValue]] = {}
        for pair in pairs:
            came.setdefault((pair.key, pair.version), []).append(pair)
        try:
            ordered = tuple([came[each].pop() for each in told])
        except (KeyError, IndexError):
            raise ValueError(f"revision {revision} changed {sorted(came)}, its order says {told}") from None
        self._chunks[at][offset] = ordered
        self._unordered -= 1
        del self._told[revision]

    def finish(self) -> ChangeLog:
        """Raises ValueError when something is missing."""
        if self._missing or self._unordered:
            raise ValueError(
                f"of revisions {self.base} to {self.last}, {self._missing} are missing, "
                f"and {self._unordered} have no order"
            )
        return ChangeLog(self.base, self._chunks)
