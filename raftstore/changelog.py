"""What each revision changed, in order: what watches are fed from, and what a compaction has to look at.

Kept in chunks, so that a fork shares all but the last one and forgetting the oldest costs nothing.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

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
            yield from islice(self._chunks[at], offset, None)
            offset = 0

    def forget_before(self, revision: int) -> None:
        """Let go of what lies before `revision`, by whole chunks."""
        whole = min((revision - self.base) // CHUNK, len(self._chunks) - 1)
        if whole > 0:
            del self._chunks[:whole]
            self.base += whole * CHUNK
