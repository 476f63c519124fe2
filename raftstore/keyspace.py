"""The key space of an MVCC store: every key's history, and which keys are there in order.

Values are shared: a history, an event, a reply and a snapshot refer to the same `KeyValue`.
"""

from collections.abc import Collection, Iterator

from attrs import define, field
from sortedcontainers import SortedList

from understudy.raftstore.storage import ALL_KEYS_END, KeyValue


def in_range(key: bytes, start: bytes, range_end: bytes) -> bool:
    """Whether a key lies in the range that (start, range_end) names."""
    if not range_end:
        return key == start
    return key >= start and (range_end == ALL_KEYS_END or key < range_end)


@define
class KeySpace:
    histories: dict[bytes, list[KeyValue]] = field(factory=dict)
    """By key, ascending by `mod_revision`. A deletion is an entry of version 0. Never empty."""
    live: SortedList = field(factory=SortedList)
    """The keys whose last entry is not a deletion ..."""
    dead: SortedList = field(factory=SortedList)
    """... and the others, still readable at a past revision."""
    size_bytes: int = 0
    """Keys and values of every entry."""

    def latest(self, key: bytes) -> KeyValue | None:
        """The pair as it is now."""
        history = self.histories.get(key)
        if history is None:
            return None
        last = history[-1]
        return last if last.version else None

    def at(self, key: bytes, revision: int) -> KeyValue | None:
        """The pair as it was after `revision`."""
        history = self.histories.get(key)
        if history is None:
            return None
        # Most reads of the past are of the near past: look from the end.
        for entry in reversed(history):
            if entry.mod_revision <= revision:
                return entry if entry.version else None
        return None

    def live_keys(self, start: bytes, range_end: bytes) -> Iterator[bytes]:
        """The keys of a range that are there now, ascending."""
        if not range_end:
            return iter((start,) if self.latest(start) else ())
        return iter(_interval(self.live, start, range_end))

    def live_count(self, start: bytes, range_end: bytes) -> int:
        if not range_end:
            return 1 if self.latest(start) else 0
        first = self.live.bisect_left(start)
        last = len(self.live) if range_end == ALL_KEYS_END else self.live.bisect_left(range_end)
        return max(0, int(last - first))

    def live_head(self, start: bytes, range_end: bytes, limit: int) -> list[KeyValue]:
        """The first `limit` pairs of a range as they are now; 0 for all."""
        if not range_end:
            pair = self.latest(start)
            return [pair] if pair is not None else []
        histories = self.histories
        if not limit:
            return [histories[key][-1] for key in _interval(self.live, start, range_end)]
        first = self.live.bisect_left(start)
        last = len(self.live) if range_end == ALL_KEYS_END else self.live.bisect_left(range_end)
        return [histories[key][-1] for key in self.live.islice(first, max(first, min(last, first + limit)))]

    def range_at(self, start: bytes, range_end: bytes, revision: int) -> list[KeyValue]:
        """All pairs of a range as they were after `revision`, ascending by key."""
        if not range_end:
            pair = self.at(start, revision)
            return [pair] if pair is not None else []
        keys = [*_interval(self.live, start, range_end), *_interval(self.dead, start, range_end)]
        if len(self.dead):
            keys.sort()
        return [pair for key in keys if (pair := self.at(key, revision)) is not None]

    def fill(self, pairs: Collection[KeyValue]) -> None:
        """Put many keys into an empty key space at once."""
        assert not self.histories, len(self.histories)
        self.histories = {pair.key: [pair] for pair in pairs}
        self.live = SortedList(self.histories)
        self.size_bytes = sum(len(pair.key) + len(pair.value) for pair in pairs)

    def append(self, entry: KeyValue) -> None:
        """The key's new state: a put, or a deletion of a key that is there."""
        key = entry.key
        history = self.histories.get(key)
        self.size_bytes += len(key) + len(entry.value)
        if history is None:
            assert entry.version, entry
            self.histories[key] = [entry]
            self.live.add(key)
            return
        was_live = history[-1].version
        assert history[-1].mod_revision < entry.mod_revision, (history[-1], entry)
        history.append(entry)
        if entry.version and not was_live:
            self.dead.remove(key)
            self.live.add(key)
        elif not entry.version:
            assert was_live, entry
            self.live.remove(key)
            self.dead.add(key)

    def prune(self, key: bytes, revision: int) -> None:
        """Forget what of a key's history cannot be read at `revision` or later."""
        history = self.histories.get(key)
        if history is None:
            return
        keep = 0
        while keep + 1 < len(history) and history[keep + 1].mod_revision <= revision:
            keep += 1
        if history[keep].mod_revision <= revision and not history[keep].version:
            keep += 1
        for entry in history[:keep]:
            self.size_bytes -= len(entry.key) + len(entry.value)
        if keep == len(history):
            del self.histories[key]
            self.dead.remove(key)
        else:
            del history[:keep]


def _interval(keys: SortedList, start: bytes, range_end: bytes) -> Iterator[bytes]:
    if range_end == ALL_KEYS_END:
        return iter(keys.irange(minimum=start))
    if range_end <= start:
        return iter(())
    return iter(keys.irange(minimum=start, maximum=range_end, inclusive=(True, False)))
