"""Watches on an MVCC store, sans I/O: who has seen what, and what comes next for whom.

A watch holds no queue. It is either *in step* (it has seen everything up to the store's revision) or has a
cursor into the store's change history, from where its next batch is read when its reader has room. So a slow
reader costs nothing, and falls out only when what it needs is compacted.
"""

from typing import Final

from attrs import define, field

from understudy.raftstore.changelog import Change, pairs_of
from understudy.raftstore.keyspace import in_range
from understudy.raftstore.mvcc import MvccStore
from understudy.raftstore.storage import Compacted, EmptyKey, Event, KeyValue, Watch, WatchBatch

EVENTS_KEPT: Final = 256
SCANNED_MAX: Final = 10_000
"""Revisions that one `pull` looks at."""


@define
class Watcher:
    id: int
    watch: Watch
    minimum: int
    """The first revision that it wants to see."""
    cursor: int
    """The next revision to look at, if it is behind."""
    behind: bool
    wants_bookmark: bool = False
    what: tuple[object, ...] = field(init=False)
    """Watches that agree in it see the same events."""

    def __attrs_post_init__(self) -> None:
        watch = self.watch
        self.what = (watch.key, watch.range_end, watch.prev_kv, watch.no_put, watch.no_delete)

    def wants(self, pair: KeyValue) -> bool:
        watch = self.watch
        if watch.no_put if pair.version else watch.no_delete:
            return False
        return in_range(pair.key, watch.key, watch.range_end)


@define
class WatchHub:
    """All watches of one store. `changed` is called after each revision; then `pull` for the watches it
    names."""

    store: MvccStore
    watchers: dict[int, Watcher] = field(factory=dict)
    next_id: int = 1
    _by_key: dict[bytes, dict[int, Watcher]] = field(factory=dict)
    """The watches of a single key ..."""
    _ranges: dict[int, Watcher] = field(factory=dict)
    """... and of a range."""
    _events: dict[tuple[int, bool, bytes, bool], Event] = field(factory=dict)
    """The events that were made last, by (revision, whether a deletion, key, with prev_kv)."""
    _latest: dict[tuple[object, ...], WatchBatch] = field(factory=dict)
    """What watches that were in step are told of the store's revision, by `Watcher.what`."""

    def add(self, watch: Watch) -> int:
        """A new watch; returns its id, for `pull`. Raises `EmptyKey`, `Compacted`."""
        if not watch.key:
            raise EmptyKey()
        store = self.store
        if 0 < watch.start_revision < store.changes_from:
            raise Compacted(store.compact_revision)
        start = watch.start_revision or store.revision + 1
        watcher = Watcher(self.next_id, watch, minimum=start, cursor=start, behind=start <= store.revision)
        self.next_id += 1
        self.watchers[watcher.id] = watcher
        if watch.range_end:
            self._ranges[watcher.id] = watcher
        else:
            self._by_key.setdefault(watch.key, {})[watcher.id] = watcher
        return watcher.id

    def remove(self, watcher_id: int) -> None:
        watcher = self.watchers.pop(watcher_id)
        if watcher.watch.range_end:
            del self._ranges[watcher_id]
        else:
            siblings = self._by_key[watcher.watch.key]
            del siblings[watcher_id]
            if not siblings:
                del self._by_key[watcher.watch.key]

    def changed(self, change: Change) -> list[int]:
        """The store has a new revision, with this change: which watches that were in step now are behind."""
        self._latest.clear()
        revision = self.store.revision
        woken: dict[int, None] = {}
        for pair in pairs_of(change):
            for candidates in (self._by_key.get(pair.key), self._ranges):
                if not candidates:
                    continue
                for watcher in candidates.values():
                    if not watcher.behind and revision >= watcher.minimum and watcher.wants(pair):
                        watcher.behind = True
                        watcher.cursor = revision
                        woken[watcher.id] = None
        return list(woken)

    def pull(self, watcher_id: int, max_events: int = 1000) -> WatchBatch | None:
        """The next batch of a watch: whole revisions, about `max_events`; None when there is nothing for it.

        Then it is in step, unless it `is_behind`: it looks at so many revisions at a time, so that one that
        begins far back does not hold up the others, and is to be pulled again after them. A bookmark that was
        asked for comes once the watch is in step. Raises `Compacted` when the watch needs what is gone; it is
        to be removed then.
        """
        watcher, store = self.watchers[watcher_id], self.store
        latest = watcher.behind and watcher.cursor == store.revision
        told = self._latest.get(watcher.what) if latest else None
        if told is not None and told.revision == store.revision:  # Else nobody watched when it changed.
            watcher.behind = watcher.wants_bookmark = False
            return told
        chosen: list[KeyValue] = []
        if watcher.behind:
            watcher.behind = False
            for offset, change in enumerate(store.changes_since(watcher.cursor)):
                wanted = [pair for pair in pairs_of(change) if watcher.wants(pair)]
                if offset == SCANNED_MAX or (chosen and len(chosen) + len(wanted) > max_events):
                    watcher.behind, watcher.cursor = True, watcher.cursor + offset
                    break
                chosen.extend(wanted)
        if not chosen and not watcher.wants_bookmark:
            return None
        if not watcher.behind:
            watcher.wants_bookmark = False
        revision = watcher.cursor - 1 if watcher.behind else store.revision
        batch = WatchBatch(revision, tuple([self._event(pair, watcher.watch.prev_kv) for pair in chosen]))
        if latest and chosen:
            self._latest[watcher.what] = batch
        return batch

    def _event(self, pair: KeyValue, prev_kv: bool) -> Event:
        """One object for all who are told of a change at about the same time."""
        key = (pair.mod_revision, pair.version == 0, pair.key, prev_kv)
        event = self._events.get(key)
        if event is None:
            if len(self._events) >= EVENTS_KEPT:
                self._events.clear()
            event = self._events[key] = self.store.event(pair, prev_kv)
        return event

    def is_behind(self, watcher_id: int) -> bool:
        """Whether a watch has revisions to look at still."""
        return self.watchers[watcher_id].behind

    def request_bookmarks(self) -> list[int]:
        """Every watch with `progress_notify` is to send a bookmark; returns them."""
        marked = [watcher for watcher in self.watchers.values() if watcher.watch.progress_notify]
        for watcher in marked:
            watcher.wants_bookmark = True
        return [watcher.id for watcher in marked]
