"""From the slices of a snapshot to the state that they tell: in bulk, and bit by bit."""

from attrs import define, evolve, field

from understudy.raftstore.changelog import ChangesByRevision
from understudy.raftstore.mvcc import MvccStore
from understudy.raftstore.pairblock import Columns, PairBlock
from understudy.raftstore.sessions import SessionState
from understudy.raftstore.snapshot import (
    MachineSnapshot,
    SnapshotEnd,
    SnapshotFirst,
    SnapshotHead,
    SnapshotLeases,
    SnapshotLive,
    SnapshotOrder,
    SnapshotPast,
    SnapshotSessions,
    SnapshotSlice,
    unpacked_pairs,
)
from understudy.raftstore.sortedmap import ListBlock
from understudy.raftstore.storage import KeyValue


@define
class Restorer:
    """Puts the slices of a snapshot together again, in the order in which they were made."""

    _head: SnapshotHead | None = None
    _store: MvccStore = field(factory=MvccStore)
    _sessions: dict[int, SessionState] = field(factory=dict)
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
                self._add_sessions(part.sessions)
            case SnapshotSessions():
                self._add_sessions(part.sessions)
            case SnapshotLeases():
                for state in part.leases:
                    store.leases.add(state)
            case SnapshotLive():
                self._add_live(unpacked_pairs(part.pairs))
            case SnapshotPast():
                self._add_past(unpacked_pairs(part.pairs))
            case SnapshotFirst():
                columns = unpacked_pairs(part.pairs)
                self._changes.put_pairs([KeyValue(*row) for row in zip(*columns, strict=True)])
            case SnapshotOrder():
                for revision, keys, versions in part.changes:
                    self._changes.order(revision, keys, versions)
            case SnapshotEnd():
                expected = (part.leases, part.live, part.past)
                found = (len(store.leases), self._live, self._past)
                if found != expected:
                    raise ValueError(f"expected {expected} leases, pairs and past pairs, found {found}")
                store.changes = self._changes.finish(store.keys.changed_at)
                self._complete = True

    def _add_sessions(self, states: tuple[SessionState, ...]) -> None:
        for state in states:
            known = self._sessions.get(state.session)
            answers = state.answers if known is None else (*known.answers, *state.answers)
            self._sessions[state.session] = evolve(state, answers=answers)

    def _add_live(self, columns: Columns) -> None:
        store = self._store
        keys, values, _, modified, _, leases = columns
        store.keys.live.extend(PairBlock.of(columns))
        store.keys.size_bytes += sum(map(len, keys)) + sum(map(len, values))
        if any(leases):
            for key, lease in zip(keys, leases, strict=True):
                if lease:
                    store.leases.attach(lease, key)
        self._changes.put_live(keys, modified)
        self._live += len(keys)

    def _add_past(self, columns: Columns) -> None:
        store, history = self._store, self._history
        pairs: list[KeyValue] = []
        begun: ListBlock[bytes, list[KeyValue]] = ListBlock()
        for key, value, created, modified, version, lease in zip(*columns, strict=True):
            if not history or history[0].key != key:
                live = store.keys.latest(key)
                if live is not None:
                    key = live.key  # One object for each key, however often it was written.
                history = []
                begun.insert(len(begun.keys), key, history)
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
        store.keys.past.extend(begun)
        self._history = history
        self._changes.put_pairs(pairs)
        self._past += len(pairs)

    def finish(self) -> MachineSnapshot:
        """The snapshot, once all of it came. Raises ValueError before."""
        if self._head is None or not self._complete:
            raise ValueError("the snapshot has no end")
        head = self._head
        return MachineSnapshot(
            self._store, head.users, head.alarms, tuple(self._sessions.values()), head.cluster
        )
