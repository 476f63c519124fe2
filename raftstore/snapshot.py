"""Snapshots of the state machine: a view that costs nothing to take, and slices to carry it elsewhere.

A view shares its blocks with the store that it was taken of, and does not change whatever is written there.
`MachineSnapshot.slices` tells it in messages of bounded size, each made within about a millisecond, so that a
large store can be written or sent between other work; a `Restorer` puts them together again.

What is told: the *base*, every key's pair as of the first revision that can be watched; then the changes of
each revision after it. So each pair is told once, and histories and changes come out of the same messages.
"""

from collections.abc import Iterator
from typing import Final

from attrs import define, field, frozen

from understudy.mailbox import message
from understudy.raftstore.changelog import pairs_of
from understudy.raftstore.cluster import ClusterState
from understudy.raftstore.keyspace import newest
from understudy.raftstore.leases import LeaseState
from understudy.raftstore.mvcc import MvccStore, lean
from understudy.raftstore.sessions import SessionState
from understudy.raftstore.storage import AlarmMember, KeyValue
from understudy.raftstore.users import UsersState

SLICE_BYTES: Final = 256 << 10
SLICE_ITEMS: Final = 1000
"""At most so many pairs, revisions or leases are looked at for one slice."""
PAIR_BYTES: Final = 64
"""About what a pair weighs besides its key and value."""


@message("raft.snapshot-head")
@frozen
class SnapshotHead:
    """The first slice."""

    revision: int
    compact_revision: int
    next_lease: int
    users: UsersState
    alarms: tuple[AlarmMember, ...]
    sessions: tuple[SessionState, ...]
    """The one that was silent longest first."""
    cluster: ClusterState = field(factory=ClusterState)


@message("raft.snapshot-leases")
@frozen
class SnapshotLeases:
    leases: tuple[LeaseState, ...]


@message("raft.snapshot-pairs")
@frozen
class SnapshotPairs:
    """Pairs of the base; none where a stretch of the keys has none."""

    pairs: tuple[KeyValue, ...]


@message("raft.snapshot-changes")
@frozen
class SnapshotChanges:
    """What the next revisions changed, in order; the first of all is the one that the base stands at."""

    changes: tuple[tuple[KeyValue, ...], ...]


@message("raft.snapshot-end")
@frozen
class SnapshotEnd:
    """The last slice, with what the others must add up to."""

    leases: int
    pairs: int
    changes: int


SnapshotSlice = SnapshotHead | SnapshotLeases | SnapshotPairs | SnapshotChanges | SnapshotEnd


@frozen(eq=False)
class MachineSnapshot:
    """A view of a state machine. Not a message: its slices are."""

    store: MvccStore
    """Never written to."""
    users: UsersState
    alarms: tuple[AlarmMember, ...]
    sessions: tuple[SessionState, ...]
    cluster: ClusterState = field(factory=ClusterState)

    def slices(self, bytes_max: int = SLICE_BYTES) -> Iterator[SnapshotSlice]:
        """The whole state, in slices of about `bytes_max` (a larger pair has one to itself)."""
        store = self.store
        yield SnapshotHead(
            store.revision,
            store.compact_revision,
            store.next_lease,
            self.users,
            self.alarms,
            self.sessions,
            self.cluster,
        )
        leases = pairs = changes = 0
        states = list(store.leases)
        for at in range(0, len(states), SLICE_ITEMS):
            yield SnapshotLeases(tuple(states[at : at + SLICE_ITEMS]))
            leases += len(states[at : at + SLICE_ITEMS])
        for batch in _batches(self._base(), bytes_max):
            kept = tuple([pair for item in batch for pair in item])
            pairs += len(kept)
            yield SnapshotPairs(kept)
        for batch in _batches(map(pairs_of, store.changes.since(store.changes_from)), bytes_max):
            changes += len(batch)
            yield SnapshotChanges(tuple(batch))
        yield SnapshotEnd(leases, pairs, changes)

    def _base(self) -> Iterator[tuple[KeyValue, ...]]:
        """The pair of each key as of `changes_from`; nothing for a key that was not there then."""
        keys, floor = self.store.keys, self.store.changes_from
        for values in keys.live.blocks():
            for pair in values:
                yield (pair,) if pair.mod_revision <= floor else ()
        for histories in keys.past.blocks():
            for history in histories:
                entry = newest(history, floor)
                live = keys.latest(history[0].key)
                superseded = live is not None and live.mod_revision <= floor
                yield (entry,) if entry is not None and entry.version and not superseded else ()


def _batches(items: Iterator[tuple[KeyValue, ...]], bytes_max: int) -> Iterator[list[tuple[KeyValue, ...]]]:
    batch: list[tuple[KeyValue, ...]] = []
    size = 0
    for item in items:
        weight = sum([PAIR_BYTES + len(pair.key) + len(pair.value) for pair in item])
        if batch and (size + weight > bytes_max or len(batch) >= SLICE_ITEMS):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += weight
    if batch:
        yield batch


@define
class Restorer:
    """Puts the slices of a snapshot together again, in the order in which they were made."""

    _head: SnapshotHead | None = None
    _store: MvccStore = field(factory=MvccStore)
    _sums: list[int] = field(factory=lambda: [0, 0, 0])
    """Leases, pairs and changes that came."""
    _complete: bool = False

    def add(self, part: SnapshotSlice) -> None:
        """Take the next slice. Raises ValueError when it does not belong here."""
        if self._complete or isinstance(part, SnapshotHead) is not (self._head is None):
            raise ValueError(f"{type(part).__name__} is out of order in a snapshot")
        store, sums = self._store, self._sums
        match part:
            case SnapshotHead():
                self._head = part
                store.begin_at(part.revision, part.compact_revision, part.next_lease)
            case SnapshotLeases():
                for state in part.leases:
                    store.leases.add(state)
                sums[0] += len(part.leases)
            case SnapshotPairs():
                for pair in part.pairs:
                    store.keys.append(lean(pair, None))
                sums[1] += len(part.pairs)
            case SnapshotChanges():
                for change in part.changes:
                    store.replay(change, is_base=not sums[2])
                    sums[2] += 1
            case SnapshotEnd():
                expected = [part.leases, part.pairs, part.changes]
                if sums != expected or store.changes.last != store.revision:
                    raise ValueError(f"a snapshot of {expected} leases, pairs and changes has {sums}")
                self._complete = True

    def finish(self) -> MachineSnapshot:
        """The snapshot, once all of it came. Raises ValueError before."""
        if self._head is None or not self._complete:
            raise ValueError("the snapshot has no end")
        head = self._head
        return MachineSnapshot(self._store, head.users, head.alarms, head.sessions, head.cluster)


@message("raft.packed-snapshot")
@frozen
class PackedSnapshot:
    """A whole snapshot in one message, for stores that are small enough."""

    parts: tuple[SnapshotSlice, ...]

    @classmethod
    def pack(cls, snapshot: MachineSnapshot) -> "PackedSnapshot":
        return cls(tuple(snapshot.slices()))

    def unpack(self) -> MachineSnapshot:
        restorer = Restorer()
        for part in self.parts:
            restorer.add(part)
        return restorer.finish()
