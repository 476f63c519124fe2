"""The state machine of the store: etcd's multi-version data model, applied one request at a time.

Deterministic: the same requests in the same order make the same state and the same replies, at every member.
Nothing here waits or knows what time it is; leases end when a `LeaseRevoke` is applied and not before.

    compact_revision <= revision; the first is 1; each transaction that changes anything adds exactly one
"""

import zlib
from typing import Final

from attrs import define, evolve, field, frozen

from understudy.mailbox import message
from understudy.raftstore.keyspace import KeySpace
from understudy.raftstore.storage import (
    Compact,
    Compacted,
    CompactReply,
    DeleteRange,
    DeleteRangeReply,
    Event,
    FutureRevision,
    HashKV,
    HashKVReply,
    InvalidRequest,
    KeyValue,
    LeaseExists,
    LeaseGrant,
    LeaseGrantReply,
    LeaseList,
    LeaseListReply,
    LeaseNotFound,
    LeaseRevoke,
    LeaseRevokeReply,
    LeaseTtlTooLarge,
    OperationReply,
    Put,
    PutReply,
    Range,
    RangeReply,
    Txn,
    TxnReply,
)
from understudy.raftstore.transaction import Decided, check_shape, check_state, decide

FIRST_REVISION: Final = 1
MAX_LEASE_TTL_S: Final = 9_000_000_000
"""etcd's own bound."""

MutatingRequest = Put | DeleteRange | Txn | Compact | LeaseGrant | LeaseRevoke
MutatingReply = PutReply | DeleteRangeReply | TxnReply | CompactReply | LeaseGrantReply | LeaseRevokeReply


@define
class Lease:
    id: int
    ttl_s: int
    keys: dict[bytes, None] = field(factory=dict)
    """The keys that live by it, in the order they were attached."""


@message("etcd.lease-state")
@frozen
class LeaseState:
    id: int
    ttl_s: int


@message("etcd.store-snapshot")
@frozen
class StoreSnapshot:
    """A whole store, immutable; values are shared with the store that it was taken of."""

    revision: int
    compact_revision: int
    base: tuple[KeyValue, ...]
    """Every key's pair as of the first revision of `changes`."""
    changes: tuple[tuple[Event, ...], ...]
    """The events of the revisions that can still be watched, up to `revision`."""
    leases: tuple[LeaseState, ...]
    next_lease: int


@define
class MvccStore:
    revision: int = FIRST_REVISION
    compact_revision: int = 0
    """Reads below it are refused; 0 while nothing was compacted."""
    keys: KeySpace = field(factory=KeySpace)
    leases: dict[int, Lease] = field(factory=dict)
    changes: list[tuple[Event, ...]] = field(factory=lambda: [()])
    """The events of revision `changes_from` and each one after it; the first revision has none."""
    changes_from: int = FIRST_REVISION
    next_lease: int = 1

    # ---------------------------------------------------------------- writing

    def apply(self, request: MutatingRequest) -> MutatingReply:
        """Do what a log entry says. Raises a `StorageError`, and then nothing has changed."""
        match request:
            case Put() | DeleteRange() | Txn():
                check_shape(request)
                if not isinstance(request, Txn):
                    check_state((request,), self.keys, self.leases, self.revision, self.compact_revision)
                    return self._run_alone(request)
                decided = decide(request, self.keys)
                check_state(decided.operations, self.keys, self.leases, self.revision, self.compact_revision)
                events: list[Event] = []
                reply = self._run(decided, events)
                self._seal(events)
                return evolve(reply, revision=self.revision)
            case Compact():
                return self._compact(request.revision)
            case LeaseGrant():
                return self._grant(request)
            case LeaseRevoke():
                return self._revoke(request.id)

    def _run_alone(self, request: Put | DeleteRange) -> PutReply | DeleteRangeReply:
        events: list[Event] = []
        reply = self._put(request, events) if isinstance(request, Put) else self._delete(request, events)
        self._seal(events)
        return reply

    def _run(self, decided: Decided, events: list[Event]) -> TxnReply:
        responses: list[OperationReply] = []
        for operation in decided.operations:
            match operation:
                case Put():
                    responses.append(self._put(operation, events))
                case DeleteRange():
                    responses.append(self._delete(operation, events))
                case Range():
                    responses.append(self._read(operation, self.revision + bool(events)))
                case Decided():
                    responses.append(self._run(operation, events))
        return TxnReply(self.revision + bool(events), decided.succeeded, tuple(responses))

    def _seal(self, events: list[Event]) -> None:
        """The transaction is over: if it changed anything, that was one revision."""
        if events:
            self.revision += 1
            self.changes.append(tuple(events))

    def _put(self, put: Put, events: list[Event]) -> PutReply:
        revision = self.revision + 1
        previous = self.keys.latest(put.key)
        value, lease = put.value, put.lease
        if previous is None:
            created, version = revision, 1
        else:
            created, version = previous.create_revision, previous.version + 1
            value = previous.value if put.ignore_value else value
            lease = previous.lease if put.ignore_lease else lease
            if previous.lease and previous.lease != lease:
                self._detach(previous)
        pair = KeyValue(put.key, value, created, revision, version, lease)
        self.keys.append(pair)
        if lease:
            self.leases[lease].keys[put.key] = None
        events.append(Event("PUT", pair, previous))
        return PutReply(revision, previous if put.prev_kv else None)

    def _delete(self, delete: DeleteRange, events: list[Event]) -> DeleteRangeReply:
        pairs = self.keys.live_head(delete.key, delete.range_end, 0)
        for pair in pairs:
            self._delete_pair(pair, events)
        return DeleteRangeReply(
            self.revision + bool(events), len(pairs), tuple(pairs) if delete.prev_kv else ()
        )

    def _delete_pair(self, pair: KeyValue, events: list[Event]) -> None:
        tombstone = KeyValue(pair.key, b"", 0, self.revision + 1, 0, 0)
        self.keys.append(tombstone)
        if pair.lease:
            self._detach(pair)
        events.append(Event("DELETE", tombstone, pair))

    def _detach(self, pair: KeyValue) -> None:
        lease = self.leases.get(pair.lease)
        if lease is not None:
            lease.keys.pop(pair.key, None)

    # ---------------------------------------------------------------- reading

    def range(self, request: Range) -> RangeReply:
        """Raises `Compacted`, `FutureRevision`, `EmptyKey`."""
        check_shape(request)
        check_state((request,), self.keys, self.leases, self.revision, self.compact_revision)
        return self._read(request, self.revision)

    def _read(self, request: Range, revision: int) -> RangeReply:
        """`revision` is what to answer with: within a transaction that has changed something, the coming
        one."""
        keys, limit = self.keys, request.limit
        past = request.revision if 0 < request.revision < revision else 0
        plain = (
            request.sort_order == "none"
            and request.sort_target == "key"
            and not (
                request.min_mod_revision
                or request.max_mod_revision
                or request.min_create_revision
                or request.max_create_revision
            )
        )
        if past:
            pairs = keys.range_at(request.key, request.range_end, past)
            count = len(pairs)
        else:
            count = keys.live_count(request.key, request.range_end)
            if request.count_only:
                return RangeReply(revision, (), False, count)
            pairs = keys.live_head(request.key, request.range_end, limit if plain else 0)
        if request.count_only:
            return RangeReply(revision, (), False, count)
        if not plain:
            pairs = _sorted(request, [pair for pair in pairs if _passes(request, pair)])
        more = 0 < limit < (count if plain else len(pairs))
        if limit:
            pairs = pairs[:limit]
        if request.keys_only:
            pairs = [evolve(pair, value=b"") for pair in pairs]
        return RangeReply(revision, tuple(pairs), more, count)

    def hash(self, request: HashKV) -> HashKVReply:
        """A checksum over every readable version up to a revision. Raises `Compacted`, `FutureRevision`."""
        revision = request.revision or self.revision
        if revision > self.revision:
            raise FutureRevision(revision, self.revision)
        if revision < self.compact_revision:
            raise Compacted(self.compact_revision)
        checksum = 0
        for key in sorted(self.keys.histories):
            for pair in self.keys.histories[key]:
                if pair.mod_revision <= revision:
                    numbers = (len(key), pair.create_revision, pair.mod_revision, pair.version, pair.lease)
                    checksum = zlib.crc32(repr(numbers).encode() + key + pair.value, checksum)
        return HashKVReply(self.revision, checksum, self.compact_revision)

    def list_leases(self, request: LeaseList) -> LeaseListReply:
        return LeaseListReply(self.revision, tuple(sorted(self.leases)))

    # ---------------------------------------------------------------- compaction

    def _compact(self, revision: int) -> CompactReply:
        if revision <= self.compact_revision:
            raise Compacted(self.compact_revision)
        if revision > self.revision:
            raise FutureRevision(revision, self.revision)
        self.compact_revision = revision
        # Only a key that changed since can have a version that is out of reach now.
        forgotten = self.changes[: revision - self.changes_from]
        kept = self.changes[revision - self.changes_from :]
        # Revision `revision` itself can still be watched, a deletion in it too; but not what was before it.
        kept[0] = tuple(evolve(event, prev_kv=None) for event in kept[0])
        touched = {event.kv.key: None for events in (*forgotten, kept[0]) for event in events}
        for key in touched:
            self.keys.prune(key, revision)
        self.changes, self.changes_from = kept, revision
        return CompactReply(self.revision)

    def events_since(self, revision: int) -> list[tuple[Event, ...]]:
        """The events of `revision` and each one after it. Raises `Compacted`."""
        if revision < self.changes_from:
            raise Compacted(self.compact_revision)
        return self.changes[revision - self.changes_from :]

    # ---------------------------------------------------------------- leases

    def _grant(self, request: LeaseGrant) -> LeaseGrantReply:
        lease_id = request.id
        if request.ttl_s > MAX_LEASE_TTL_S:
            raise LeaseTtlTooLarge(request.ttl_s)
        if request.ttl_s <= 0:
            raise InvalidRequest(f"a lease of {request.ttl_s} s")
        if lease_id in self.leases:
            raise LeaseExists(lease_id)
        if not lease_id:
            while self.next_lease in self.leases:
                self.next_lease += 1
            lease_id = self.next_lease
            self.next_lease += 1
        self.leases[lease_id] = Lease(lease_id, request.ttl_s)
        return LeaseGrantReply(self.revision, lease_id, request.ttl_s)

    def _revoke(self, lease_id: int) -> LeaseRevokeReply:
        lease = self.leases.pop(lease_id, None)
        if lease is None:
            raise LeaseNotFound(lease_id)
        events: list[Event] = []
        for key in sorted(lease.keys):
            pair = self.keys.latest(key)
            assert pair is not None and pair.lease == lease_id, (key, pair, lease_id)
            self._delete_pair(pair, events)
        self._seal(events)
        return LeaseRevokeReply(self.revision)

    # ---------------------------------------------------------------- snapshots

    def snapshot(self) -> StoreSnapshot:
        floor = self.changes_from
        base = [pair for key in self.keys.histories if (pair := self.keys.at(key, floor)) is not None]
        return StoreSnapshot(
            revision=self.revision,
            compact_revision=self.compact_revision,
            base=tuple(base),
            changes=tuple(self.changes),
            leases=tuple(LeaseState(lease.id, lease.ttl_s) for lease in self.leases.values()),
            next_lease=self.next_lease,
        )

    @classmethod
    def restore(cls, snapshot: StoreSnapshot) -> "MvccStore":
        store = cls(
            revision=snapshot.revision,
            compact_revision=snapshot.compact_revision,
            changes=list(snapshot.changes),
            changes_from=snapshot.revision + 1 - len(snapshot.changes),
            next_lease=snapshot.next_lease,
        )
        store.keys.fill(snapshot.base)
        for events in snapshot.changes[1:]:
            for event in events:
                store.keys.append(event.kv)
        for lease in snapshot.leases:
            store.leases[lease.id] = Lease(lease.id, lease.ttl_s)
        for key in store.keys.live:
            pair = store.keys.histories[key][-1]
            if pair.lease:
                store.leases[pair.lease].keys[key] = None
        return store


def _passes(request: Range, pair: KeyValue) -> bool:
    return not (
        pair.mod_revision < request.min_mod_revision
        or 0 < request.max_mod_revision < pair.mod_revision
        or pair.create_revision < request.min_create_revision
        or 0 < request.max_create_revision < pair.create_revision
    )


def _sorted(request: Range, pairs: list[KeyValue]) -> list[KeyValue]:
    """Sort as asked. By any field but the key, "none" means ascending (as etcd has it)."""
    attribute = {
        "key": "key",
        "version": "version",
        "create": "create_revision",
        "mod": "mod_revision",
        "value": "value",
    }[request.sort_target]
    return sorted(pairs, key=lambda pair: getattr(pair, attribute), reverse=request.sort_order == "descend")
