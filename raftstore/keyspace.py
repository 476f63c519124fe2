"""The key space of an MVCC store: what every key is now, and what it was.

Keys and values are shared: the present, the past, an event, a reply and a snapshot refer to the same bytes.
"""

from bisect import bisect_right
from collections.abc import Iterator
from operator import attrgetter

from attrs import define, field

from understudy.raftstore.pairblock import PairBlock
from understudy.raftstore.sortedmap import SortedMap
from understudy.raftstore.storage import ALL_KEYS_END, KeyValue

_mod_revision = attrgetter("mod_revision")


def in_range(key: bytes, start: bytes, range_end: bytes) -> bool:
    """Whether a key lies in the range that (start, range_end) names."""
    if not range_end:
        return key == start
    return key >= start and (range_end == ALL_KEYS_END or key < range_end)


def _stop(range_end: bytes) -> bytes | None:
    return None if range_end == ALL_KEYS_END else range_end


def newest(history: list[KeyValue], revision: int) -> KeyValue | None:
    """The last entry of a history at or before `revision`."""
    at = bisect_right(history, revision, key=_mod_revision)
    return history[at - 1] if at else None


def _live() -> SortedMap[bytes, KeyValue]:
    return SortedMap(new_block=PairBlock)


def _past() -> SortedMap[bytes, list[KeyValue]]:
    return SortedMap(list.copy)


@define
class KeySpace:
    live: SortedMap[bytes, KeyValue] = field(factory=_live)
    """The keys that are there now."""
    past: SortedMap[bytes, list[KeyValue]] = field(factory=_past)
    """What is readable at past revisions only: by key, ascending by `mod_revision`, what was overwritten and
    what was deleted. A deletion is an entry of version 0. Never empty; older than the key's live pair."""
    size_bytes: int = 0
    """Keys and values of every entry."""

    def fork(self) -> "KeySpace":
        """The same key space; see `SortedMap.fork`."""
        return KeySpace(self.live.fork(), self.past.fork(), self.size_bytes)

    def __len__(self) -> int:
        return len(self.live)

    def latest(self, key: bytes) -> KeyValue | None:
        """The pair as it is now."""
        return self.live.get(key)

    def at(self, key: bytes, revision: int) -> KeyValue | None:
        """The pair as it was after `revision`."""
        pair = self.live.get(key)
        if pair is not None and pair.mod_revision <= revision:
            return pair
        history = self.past.get(key)
        if history is None:
            return None
        entry = newest(history, revision)
        return entry if entry is not None and entry.version else None

    def changed_at(self, key: bytes, revision: int) -> KeyValue:
        """What a revision made of a key that it changed, and did not forget since; of several changes in that
        one revision the last."""
        pair = self.live.get(key)
        if pair is None or pair.mod_revision != revision:
            pair = newest(self.past.get(key) or [], revision)
        assert pair is not None and pair.mod_revision == revision, (key, revision, pair)
        return pair

    def live_count(self, start: bytes, range_end: bytes) -> int:
        if not range_end:
            return 1 if start in self.live else 0
        return self.live.count(start, _stop(range_end))

    def live_head(self, start: bytes, range_end: bytes, limit: int) -> list[KeyValue]:
        """The first `limit` pairs of a range as they are now; 0 for all."""
        if not range_end:
            pair = self.live.get(start)
            return [pair] if pair is not None else []
        return self.live.values(start, _stop(range_end), limit)

    def range_at(self, start: bytes, range_end: bytes, revision: int) -> list[KeyValue]:
        """All pairs of a range as they were after `revision`, ascending by key."""
        if not range_end:
            pair = self.at(start, revision)
            return [pair] if pair is not None else []
        stop = _stop(range_end)
        found = [pair for pair in self.live.values(start, stop) if pair.mod_revision <= revision]
        older = [newest(history, revision) for history in self.past.values(start, stop)]
        if older:
            taken = {pair.key for pair in found}
            found.extend(
                entry for entry in older if entry is not None and entry.version and entry.key not in taken
            )
            found.sort(key=attrgetter("key"))
        return found

    def histories(self) -> Iterator[tuple[bytes, list[KeyValue]]]:
        """Every key's entries, ascending by key and `mod_revision`; the live pair, if there is one, last."""
        past = self.past.items()
        key, history = next(past, (None, []))
        for live_key, pair in self.live.items():
            while key is not None and key < live_key:
                yield key, history
                key, history = next(past, (None, []))
            if key == live_key:
                yield live_key, [*history, pair]
                key, history = next(past, (None, []))
            else:
                yield live_key, [pair]
        while key is not None:
            yield key, history
            key, history = next(past, (None, []))

    def put(self, pair: KeyValue, before: KeyValue | None) -> None:
        """The key's new state, and `latest` of it until now."""
        self.size_bytes += len(pair.key) + len(pair.value)
        self.live.put(pair.key, pair)
        if before is not None:
            self._end(before, [before], pair)

    def delete(self, tombstone: KeyValue) -> None:
        """The end of a key that is there."""
        self.size_bytes += len(tombstone.key)
        before = self.live.pop(tombstone.key)
        assert before is not None, tombstone
        self._end(before, [before, tombstone], tombstone)

    def _end(self, before: KeyValue, ended: list[KeyValue], by: KeyValue) -> None:
        assert before.mod_revision <= by.mod_revision, (before, by)
        history = self.past.writable(before.key)
        if history is None:
            self.past.put(before.key, ended)
        else:
            history.extend(ended)

    def prune(self, key: bytes, revision: int) -> None:
        """Forget what of a key's history cannot be read at `revision` or later."""
        history = self.past.get(key)
        if history is None:
            return
        keep = self.forgotten(history, revision)
        for entry in history[:keep]:
            self.size_bytes -= len(entry.key) + len(entry.value)
        if keep == len(history):
            self.past.pop(key)
        elif keep:
            self.past.put(key, history[keep:])

    def forgotten(self, history: list[KeyValue], revision: int) -> int:
        """How many entries of a history cannot be read at `revision` or later."""
        live = self.live.get(history[0].key)
        if live is not None and live.mod_revision <= revision:
            return len(history)
        keep = bisect_right(history, revision, key=_mod_revision)
        return keep - 1 if keep and history[keep - 1].version else keep
