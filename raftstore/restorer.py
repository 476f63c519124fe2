"""From the slices of a snapshot to the state that they tell: in bulk, and bit by bit."""

from attrs import define, field

from understudy.raftstore.changelog import ChangesByRevision
from understudy.raftstore.mvcc import MvccStore
from understudy.raftstore.snapshot import (
    Columns,
    MachineSnapshot,
    SnapshotEnd,
    SnapshotFirst,
    SnapshotHead,
    SnapshotLeases,
    SnapshotLive,
    SnapshotOrder,
    SnapshotPast,
    SnapshotSlice,
    unpacked_pairs,
)
from understudy.raftstore.storage import KeyValue


@define
class Restorer:
    """Puts the slices of a snapshot together again, in the order in which they were made."""

    _head: SnapshotHead | None = None
    _store: MvccStore = field(factory=MvccStore)
    _changes: ChangesByRevision = field(factory=lambda: ChangesByRevision(1, 1))
    _live: int = 0
    """Pairs of the present that came, ..."""
    _past: int = 0
    """... and of the past."""
    _history: list[KeyValue] = field(factory=list)
    """Of the last key of the past: more of it may come."""
    _complete: bool = False

    def add(self, part: SnapshotSlice) -> None:
        """Take the next slice. Raises ValueError when it does not belong here."""
        if self._complete or isinstance(part, SnapshotHead) is not (self._head is None):
            raise ValueError(f"{type(part).__name__} is out of order in a snapshot")
        store = self._store
        match part:
            case SnapshotHead():
                self._head = part
                store.begin_at(part.revision, part.compact_revision, part.next_lease)
                self._changes = ChangesByRevision(store.changes_from, part.revision)
            case SnapshotLeases():
                for state in part.leases:
                    store.leases.add(state)
            case SnapshotLive():
                self._add_live(unpacked_pairs(part.pairs))
            case SnapshotPast():
                self._add_past(unpacked_pairs(part.pairs))
            case SnapshotFirst():
                columns = unpacked_pairs(part.pairs)
                self._changes.put_all([KeyValue(*row) for row in zip(*columns, strict=True)])
            case SnapshotOrder():
                for revision, keys, versions in part.changes:
                    self._changes.order(revision, list(zip(keys, versions, strict=True)))
            case SnapshotEnd():
                expected = (part.leases, part.live, part.past)
                found = (len(store.leases), self._live, self._past)
                if found != expected:
                    raise ValueError(f"expected {expected} leases, pairs and past pairs, found {found}")
                store.changes = self._changes.finish()
                self._complete = True

    def _add_live(self, columns: Columns) -> None:
        store, pairs = self._store, []
        size = 0
        for key, value, created, modified, version, lease in zip(*columns, strict=True):
            if version == 1:
                created = modified  # One number for both, as it comes out of `MvccStore.apply`.
            pairs.append(KeyValue(key, value, created, modified, version, lease))
            size += len(key) + len(value)
            if lease:
                store.leases.attach(lease, key)
        store.keys.live.extend(columns[0], pairs)
        store.keys.size_bytes += size
        self._changes.put_all(pairs)
        self._live += len(pairs)

    def _add_past(self, columns: Columns) -> None:
        store, history = self._store, self._history
        pairs: list[KeyValue] = []
        for key, value, created, modified, version, lease in zip(*columns, strict=True):
            if not history or history[0].key != key:
                live = store.keys.latest(key)
                if live is not None:
                    key = live.key  # One object for each key, however often it was written.
                history = []
                store.keys.past.extend([key], [history])
            elif history[-1].mod_revision > modified:
                raise ValueError(f"revision {modified} of {key!r} after {history[-1].mod_revision}")
            else:
                key = history[0].key
            if version == 1:
                created = modified
            elif history and history[-1].create_revision == created:
                created = history[-1].create_revision
            pair = KeyValue(key, value, created, modified, version, lease)
            history.append(pair)
            pairs.append(pair)
            store.keys.size_bytes += len(key) + len(value)
        self._history = history
        self._changes.put_all(pairs)
        self._past += len(pairs)

    def finish(self) -> MachineSnapshot:
        """The snapshot, once all of it came. Raises ValueError before."""
        if self._head is None or not self._complete:
            raise ValueError("the snapshot has no end")
        head = self._head
        return MachineSnapshot(self._store, head.users, head.alarms, head.sessions, head.cluster)
