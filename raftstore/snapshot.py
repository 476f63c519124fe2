"""Snapshots of the state machine: a view that costs nothing to take, and slices to carry it elsewhere.

A view shares its blocks with the store that it was taken of, and does not change whatever is written there.
`MachineSnapshot.slices` tells it in messages of bounded size, each made within about a millisecond, so that a
large store can be written or sent between other work; a `Restorer` puts them together again.

What is told: the present, by key; the past that can still be read, by key. From both follows what each
revision changed, but for two things: what the first revision that can be watched deleted, which cannot be
read any more; and the order of what one revision changed. So each pair is told once, and in an order from
which sorted blocks are made without looking for each key's place.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import msgpack
from attrs import field, frozen

from understudy.mailbox import message
from understudy.raftstore.changelog import pairs_of
from understudy.raftstore.cluster import ClusterState
from understudy.raftstore.leases import LeaseState
from understudy.raftstore.mvcc import MvccStore
from understudy.raftstore.pairblock import Columns, PairBlock
from understudy.raftstore.sessions import Answer, SessionState, weight_bytes
from understudy.raftstore.storage import AlarmMember, KeyValue
from understudy.raftstore.users import UsersState

SLICE_BYTES: Final = 256 << 10
SLICE_ITEMS: Final = 1000
"""At most so many pairs, histories or leases are looked at for one slice, ..."""
SLICE_CHANGES: Final = 50_000
"""... or revisions, most of which changed one key and need not be told."""
ANSWER_BYTES: Final = 64
"""About what a remembered answer weighs besides its keys and values."""
PAIR_BYTES: Final = 24
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
    sessions: tuple[SessionState, ...] = ()
    """Until format 3; see `SnapshotSessions`."""
    cluster: ClusterState = field(factory=ClusterState)


@message("raft.snapshot-sessions")
@frozen
class SnapshotSessions:
    sessions: tuple[SessionState, ...]
    """The one that was silent longest first. One of many answers comes in parts."""


@message("raft.snapshot-leases")
@frozen
class SnapshotLeases:
    leases: tuple[LeaseState, ...]


@message("raft.snapshot-live")
@frozen
class SnapshotLive:
    """Pairs as they are now, ascending by key; none where there is nothing but what goes first."""

    pairs: bytes
    """See `packed_pairs`."""


@message("raft.snapshot-past")
@frozen
class SnapshotPast:
    """What can be read at past revisions only, ascending by key and `mod_revision`."""

    pairs: bytes
    """See `packed_pairs`."""


@message("raft.snapshot-first")
@frozen
class SnapshotFirst:
    """What the first revision that can be watched changed, as far as it can be read at no revision: keys
    that it deleted, and perhaps had put before."""

    pairs: bytes
    """See `packed_pairs`."""


@message("raft.snapshot-order")
@frozen
class SnapshotOrder:
    """In which order revisions changed keys, of those that made more than one change."""

    changes: tuple[tuple[int, tuple[bytes, ...], tuple[int, ...]], ...]
    """(revision, keys, versions), ascending; one of very many changes comes in parts. No versions where no
    key is among them twice."""


@message("raft.snapshot-end")
@frozen
class SnapshotEnd:
    """The last slice, with what the others must add up to."""

    leases: int
    live: int
    past: int


SnapshotSlice = (
    SnapshotHead
    | SnapshotSessions
    | SnapshotLeases
    | SnapshotLive
    | SnapshotPast
    | SnapshotFirst
    | SnapshotOrder
    | SnapshotEnd
)


def packed_pairs(pairs: Sequence[KeyValue]) -> bytes:
    """Pairs as columns of msgpack: a tenth of the cost of so many messages."""
    return packed_columns(
        (
            [pair.key for pair in pairs],
            [pair.value for pair in pairs],
            [pair.create_revision for pair in pairs],
            [pair.mod_revision for pair in pairs],
            [pair.version for pair in pairs],
            [pair.lease for pair in pairs],
        )
    )


def packed_columns(columns: Columns) -> bytes:
    """`packed_pairs` of what is in columns already."""
    packed = msgpack.packb(columns)
    assert isinstance(packed, bytes)
    return packed


def unpacked_pairs(data: bytes) -> Columns:
    """The columns. Raises ValueError."""
    columns = msgpack.unpackb(data)
    if len(columns) != 6 or len({len(column) for column in columns}) != 1:
        raise ValueError(f"pairs in columns of {[len(column) for column in columns]}")
    keys, values, created, modified, versions, leases = columns
    return keys, values, created, modified, versions, leases


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
            cluster=self.cluster,
        )
        for sessions in self._sessions(bytes_max):
            yield SnapshotSessions(sessions)
        states = iter(store.leases)
        while leases := tuple(islice(states, SLICE_ITEMS)):
            yield SnapshotLeases(leases)
        live = past = 0
        for columns in self._live(bytes_max):
            live += len(columns[0])
            yield SnapshotLive(packed_columns(columns))
        for pairs in _batches(self._histories(), bytes_max):
            past += len(pairs)
            yield SnapshotPast(packed_pairs(pairs))
        yield from self._changes()
        yield SnapshotEnd(len(store.leases), live, past)

    def _sessions(self, bytes_max: int) -> Iterator[tuple[SessionState, ...]]:
        part: list[SessionState] = []
        size = items = 0
        for state in self.sessions:
            answers: list[tuple[int, Answer]] = []
            for number, answer in state.answers:
                weight = ANSWER_BYTES + weight_bytes(answer.reply)
                if items and (size + weight > bytes_max or items >= SLICE_ITEMS):
                    yield (*part, SessionState(state.session, state.settled, tuple(answers)))
                    part, answers, size, items = [], [], 0, 0
                answers.append((number, answer))
                size += weight
                items += 1
            part.append(SessionState(state.session, state.settled, tuple(answers)))
        if part:
            yield tuple(part)

    def _live(self, bytes_max: int) -> Iterator[Columns]:
        for block in self.store.keys.live.blocks():
            assert isinstance(block, PairBlock), block
            first = size = 0
            for at, (key, value) in enumerate(zip(block.keys, block.values, strict=True)):
                weight = PAIR_BYTES + len(key) + len(value)
                if at > first and (size + weight > bytes_max or at - first >= SLICE_ITEMS):
                    yield block.columns(first, at)
                    first, size = at, 0
                size += weight
            yield block.columns(first, len(block.keys))

    def _histories(self) -> Iterator[list[KeyValue]]:
        """The past, without what a compaction has only still to come to."""
        keys, floor = self.store.keys, self.store.compact_revision
        for block in keys.past.blocks():
            for history in block.slice(0, len(block.keys)):
                gone = keys.forgotten(history, floor) if history[0].mod_revision <= floor else 0
                yield history[gone:] if gone else history

    def _changes(self) -> Iterator[SnapshotFirst | SnapshotOrder]:
        """What of the changes does not follow from the pairs."""
        store = self.store
        first = pairs_of(next(store.changes_since(store.changes_from)))
        for at in range(0, len(first), SLICE_ITEMS):
            pairs = [pair for pair in first[at : at + SLICE_ITEMS] if not self._is_told(pair)]
            yield SnapshotFirst(packed_pairs(pairs))
        told: list[tuple[int, tuple[bytes, ...], tuple[int, ...]]] = []
        weight = looked_at = 0
        orders = store.changes.orders_since(store.changes_from, store.keys.changed_at)
        for revision, order in enumerate(orders, store.changes_from):
            looked_at += 1
            columns = order or ((), ())
            for at in range(0, len(columns[0]), SLICE_ITEMS):
                keys, versions = columns[0][at : at + SLICE_ITEMS], columns[1][at : at + SLICE_ITEMS]
                told.append((revision, tuple(keys), tuple(versions)))
                weight += len(keys)
                if weight >= SLICE_ITEMS:
                    yield SnapshotOrder(tuple(told))
                    told, weight, looked_at = [], 0, 0
            if looked_at >= SLICE_CHANGES:
                yield SnapshotOrder(tuple(told))
                told, weight, looked_at = [], 0, 0
        yield SnapshotOrder(tuple(told))

    def _is_told(self, pair: KeyValue) -> bool:
        """Whether a pair is of the present, or of the past that can still be read."""
        keys = self.store.keys
        if keys.latest(pair.key) == pair:
            return True
        history = keys.past.get(pair.key)
        if history is None:
            return False
        return pair in history[keys.forgotten(history, self.store.compact_revision) :]


def _batches(lists: Iterable[list[KeyValue]], bytes_max: int) -> Iterator[list[KeyValue]]:
    """The same pairs, so many at a time; none when many lists had none."""
    batch: list[KeyValue] = []
    size = looked_at = 0
    for pairs in lists:
        looked_at += 1
        for pair in pairs:
            weight = PAIR_BYTES + len(pair.key) + len(pair.value)
            if (size and size + weight > bytes_max) or len(batch) >= SLICE_ITEMS:
                yield batch
                batch, size, looked_at = [], 0, 0
            batch.append(pair)
            size += weight
        if looked_at >= SLICE_ITEMS:
            yield batch
            batch, size, looked_at = [], 0, 0
    if batch:
        yield batch
