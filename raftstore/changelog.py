"""What each revision changed, in order: what watches are fed from, and what a compaction has to look at.

Kept in chunks, so that a fork shares all but the last one and forgetting the oldest costs nothing. The last
one has the pairs, for watches that are in step; of those before it only the keys are kept, 8 bytes for each
change: what a revision made of a key is in the key space.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from attrs import define, field

from understudy.raftstore.storage import KeyValue

CHUNK: Final = 256
"""Revisions."""

Change = KeyValue | tuple[KeyValue, ...]
"""What a revision changed; a single pair stands for itself. One of version 0 is a deletion."""

Lookup = Callable[[bytes, int], KeyValue]
"""What a revision made of a key: `KeySpace.changed_at`."""

_Kept = bytes | KeyValue
"""The key of a pair that can be looked up; or the pair, where the revision changed its key more than once."""


def pairs_of(change: Change) -> tuple[KeyValue, ...]:
    return change if isinstance(change, tuple) else (change,)


def change_of(pairs: Sequence[KeyValue]) -> Change:
    return pairs[0] if len(pairs) == 1 else tuple(pairs)


def _packed(change: _Kept | tuple[_Kept, ...]) -> _Kept | tuple[_Kept, ...]:
    """A change without the pairs that can be looked up."""
    if type(change) is KeyValue:
        return change.key
    if type(change) is tuple:
        keys = [_key(kept) for kept in change]
        return tuple(keys) if len(set(keys)) == len(keys) else change
    return change


def _key(kept: _Kept) -> bytes:
    return kept if isinstance(kept, bytes) else kept.key


@define
class ChangeLog:
    base: int
    """The revision of the first change that is still held."""
    _chunks: list[list[Any]] = field(factory=lambda: [[]])
    """A `_Kept` or a tuple of such for each revision. Each chunk but the last is full, and never written to
    again."""
    _compacted: tuple[int, Change] = (0, ())
    """(revision, change) of the last compaction: it can be watched, and in part be looked up no more."""

    @property
    def last(self) -> int:
        """The revision of the last change."""
        return self.base + (len(self._chunks) - 1) * CHUNK + len(self._chunks[-1]) - 1

    @property
    def newest(self) -> Change:
        """What was appended last."""
        change: Change = self._chunks[-1][-1]
        return change

    def fork(self) -> "ChangeLog":
        """The same changes; what is appended to either is not seen in the other."""
        return ChangeLog(self.base, [*self._chunks[:-1], self._chunks[-1].copy()], self._compacted)

    def append(self, change: Change) -> None:
        chunk = self._chunks[-1]
        if len(chunk) == CHUNK:
            self._chunks[-1] = [_packed(each) for each in chunk]
            self._chunks.append(chunk := [])
        chunk.append(change)

    def since(self, revision: int, lookup: Lookup) -> Iterator[Change]:
        """The change of `revision`, which must be held, and each one after it."""
        for number, change in enumerate(self._since(revision), revision):
            if number == self._compacted[0]:
                yield self._compacted[1]
            elif type(change) is tuple:
                yield tuple([lookup(each, number) if type(each) is bytes else each for each in change])
            else:
                yield lookup(change, number) if type(change) is bytes else change

    def keys_since(self, revision: int) -> Iterator[list[bytes]]:
        """The keys that `revision` changed, and each one after it; also where nothing can be looked up."""
        for change in self._since(revision):
            yield [_key(each) for each in change] if type(change) is tuple else [_key(change)]

    def orders_since(
        self, revision: int, lookup: Lookup
    ) -> Iterator[tuple[Sequence[bytes], Sequence[int]] | None]:
        """Of `revision`, and each one after it, which keys it changed in which order, if it made more than
        one change: (keys, versions), without versions where no key is among them twice."""
        for number, change in enumerate(self._since(revision), revision):
            packed = _packed(change)
            if type(packed) is not tuple:
                yield None
            elif len({_key(each) for each in packed}) == len(packed):
                yield [_key(each) for each in packed], ()
            else:
                pairs = [lookup(each, number) if isinstance(each, bytes) else each for each in packed]
                yield [pair.key for pair in pairs], [pair.version for pair in pairs]

    def _since(self, revision: int) -> Iterator[Any]:
        assert self.base <= revision, (self.base, revision)
        first, offset = divmod(revision - self.base, CHUNK)
        for at in range(first, len(self._chunks)):
            chunk = self._chunks[at]
            yield from chunk[offset:] if offset else chunk
            offset = 0

    def compact(self, revision: int, lookup: Lookup) -> None:
        """Hold the change of `revision` itself: what it overwrote and deleted is about to be forgotten."""
        self._compacted = (revision, next(self.since(revision, lookup)))

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
    """By revision: None; what is kept of its pair; or, of several, the list of that until their order is
    told."""
    _missing: int = field(init=False)
    """Revisions of which nothing came yet."""
    _unordered: int = 0
    """Revisions of several pairs whose order is not told yet."""
    _told: dict[int, tuple[list[bytes], list[int]]] = field(factory=dict)
    """Of those: the order, keys and versions, as far as it came."""

    def __attrs_post_init__(self) -> None:
        self._missing = count = self.last - self.base + 1
        if count < 1:
            raise ValueError(f"changes of the revisions {self.base} to {self.last}")
        self._chunks = [[None] * min(CHUNK, count - at) for at in range(0, count, CHUNK)]
        if self.base == 1:
            # The first revision of all, at which a store begins, changed nothing.
            self._chunks[0][0] = ()
            self._missing -= 1

    def put_live(self, keys: Sequence[bytes], revisions: Sequence[int]) -> None:
        """Take in live pairs, by key and mod revision. Raises ValueError."""
        self._put_all(keys, revisions)

    def put_pairs(self, pairs: Sequence[KeyValue]) -> None:
        """Take in pairs of which a revision may have made more than one of a key. Raises ValueError."""
        self._put_all(pairs, [pair.mod_revision for pair in pairs])

    def _put_all(self, kept: Sequence[_Kept], revisions: Sequence[int]) -> None:
        """Those from before the base are in no change."""
        base, chunks = self.base, self._chunks
        if revisions and max(revisions) > self.last:
            raise ValueError(f"revision {max(revisions)} in a snapshot as of {self.last}")
        for each, revision in zip(kept, revisions, strict=True):
            offset = revision - base
            if offset < 0:
                continue
            chunk = chunks[offset // CHUNK]
            offset %= CHUNK
            known = chunk[offset]
            if known is None:
                chunk[offset] = each
                self._missing -= 1
            elif type(known) is list:
                known.append(each)
            else:
                chunk[offset] = [known, each]
                self._unordered += 1

    def order(self, revision: int, keys: Sequence[bytes], versions: Sequence[int]) -> None:
        """The next keys, in order, of what a revision changed, as of `ChangeLog.orders_since`; all its pairs
        must have come. Raises ValueError."""
        if not self.base <= revision <= self.last:
            raise ValueError(f"the order of revision {revision}, of {self.base} to {self.last}")
        at, offset = divmod(revision - self.base, CHUNK)
        came = self._chunks[at][offset]
        if type(came) is not list:
            raise ValueError(f"the order of revision {revision}, which made one change or none")
        told_keys, told_versions = self._told.setdefault(revision, ([], []))
        told_keys.extend(keys)
        told_versions.extend(versions)
        if len(told_keys) < len(came):
            return
        try:
            self._chunks[at][offset] = _ordered(came, told_keys, told_versions)
        except (LookupError, ValueError):
            raise ValueError(
                f"revision {revision} changed {sorted(map(_key, came))}, "
                f"its order says {told_keys}, versions {told_versions}"
            ) from None
        self._unordered -= 1
        del self._told[revision]

    def finish(self, lookup: Lookup) -> ChangeLog:
        """Raises ValueError when something is missing."""
        if self._missing or self._unordered:
            raise ValueError(
                f"of revisions {self.base} to {self.last}, {self._missing} are missing, "
                f"and {self._unordered} have no order"
            )
        changes = ChangeLog(self.base, self._chunks)
        changes.compact(self.base, lookup)
        return changes


def _ordered(came: list[_Kept], keys: list[bytes], versions: list[int]) -> tuple[_Kept, ...]:
    """What came of a revision, as it was told. A key may have been put, and deleted twice, before and after;
    one deletion is like the other. Raises LookupError, ValueError."""
    if len(keys) != len(came):
        raise ValueError((len(keys), len(came)))
    if not versions:
        known = {_key(each): each for each in came}
        return tuple([known.pop(key) for key in keys])
    live = {each for each in came if type(each) is bytes}
    pairs: dict[tuple[bytes, int], list[KeyValue]] = {}
    for each in came:
        if isinstance(each, KeyValue):
            pairs.setdefault((each.key, each.version), []).append(each)
    ordered: list[_Kept] = []
    for key, version in zip(keys, versions, strict=True):
        if (key, version) in pairs:
            ordered.append(pairs[key, version].pop())
        else:
            live.remove(key)
            ordered.append(key)
    return tuple(ordered)
