"""The state machine of the store: etcd's multi-version data model, applied one request at a time.

Deterministic: the same requests in the same order make the same state and the same replies, at every member.
Nothing here waits or knows what time it is; leases end when a `LeaseRevoke` is applied and not before.

    compact_revision <= revision; the first is 1; each transaction that changes anything adds exactly one
"""

import zlib
from collections.abc import Generator, Iterator
from itertools import islice
from struct import Struct
from typing import Final, TypeVar

from attrs import define, evolve, field

from understudy.raftstore.changelog import Change, ChangeLog, change_of
from understudy.raftstore.keyspace import KeySpace
from understudy.raftstore.leases import LeaseState, LeaseTable
from understudy.raftstore.options import StoreOptions
from understudy.raftstore.storage import (
    Compact,
    Compacted,
    CompactReply,
    DeleteRange,
    DeleteRangeReply,
    EmptyKey,
    Event,
    FutureRevision,
    HashKV,
    HashKVReply,
    KeyValue,
    LeaseCheckpoint,
    LeaseCheckpointReply,
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
from understudy.raftstore.transaction import Decided, check_put, check_range, check_shape, check_state, decide

T = TypeVar("T")

FIRST_REVISION: Final = 1
MAX_LEASE_TTL_S: Final = 9_000_000_000
"""etcd's own bound."""

MutatingRequest = Put | DeleteRange | Txn | Compact | LeaseGrant | LeaseRevoke | LeaseCheckpoint
MutatingReply = (
    PutReply
    | DeleteRangeReply
    | TxnReply
    | CompactReply
    | LeaseGrantReply
    | LeaseRevokeReply
    | LeaseCheckpointReply
)


_HASHED: Final = Struct(">Iqqqq")
"""What the hash of an entry is over, before its key and value."""

PRUNED_AT_ONCE: Final = 1_000
"""Changes that a compaction looks at when it is applied; if there are more ..."""
PRUNED_EACH_TIME: Final = 128
"""... so many with each write that follows: a compaction of a million changes must not hold up the group."""
HASHED_AT_ONCE: Final = 1_000
"""Keys."""


@define
class MvccStore:
    options: StoreOptions = field(factory=StoreOptions)
    revision: int = FIRST_REVISION
    compact_revision: int = 0
    """Reads below it are refused; 0 while nothing was compacted."""
    keys: KeySpace = field(factory=KeySpace)
    leases: LeaseTable = field(factory=LeaseTable)
    changes: ChangeLog = field(factory=lambda: ChangeLog(FIRST_REVISION, [[()]]))
    """What each revision changed; the first one nothing."""
    next_lease: int = 1
    _pruned_to: int = FIRST_REVISION
    """Compaction has still to look at the changes from here to `compact_revision`."""

    @property
    def changes_from(self) -> int:
        """The first revision that can be watched."""
        return max(self.compact_revision, FIRST_REVISION)

    def fork(self) -> "MvccStore":
        """A view of the store as it is, in next to no time: see `SortedMap.fork`. To write to it, `restore`
        one of it."""
        return evolve(self, keys=self.keys.fork(), leases=self.leases.fork(), changes=self.changes.fork())

    @classmethod
    def restore(cls, view: "MvccStore", options: StoreOptions | None = None) -> "MvccStore":
        """A store that goes on from a view, which stays as it is."""
        store = view.fork()
        store.options = options or view.options
        return store

    def begin_at(self, revision: int, compact_revision: int, next_lease: int) -> None:
        """Become, in a fresh store, what keys, leases and `changes` from `changes_from` on complete."""
        assert self.revision == FIRST_REVISION and not self.keys.size_bytes, self.revision
        self.revision, self.compact_revision, self.next_lease = revision, compact_revision, next_lease
        self._pruned_to = compact_revision + 1

    # ---------------------------------------------------------------- writing

    def apply(self, request: MutatingRequest) -> MutatingReply:
        """Do what a log entry says. Raises a `StorageError`, and then nothing has changed."""
        if not self.is_pruned:
            self._prune(PRUNED_EACH_TIME)
        match request:
            case Put() | DeleteRange() | Txn():
                check_shape(request, self.options.max_txn_operations)
                if not isinstance(request, Txn):
                    if isinstance(request, Put):
                        if request.lease and request.lease not in self.leases:
                            raise LeaseNotFound(request.lease)  # Alone, this comes first; see `check_put`.
                        check_put(request, self.keys, self.leases)
                    return self._run_alone(request)
                decided = decide(request, self.keys)
                check_state(decided.operations, self.keys, self.leases, self.revision, self.compact_revision)
                changed: list[KeyValue] = []
                reply = self._run(decided, changed)
                self._seal(changed)
                return evolve(reply, revision=self.revision)
            case Compact():
                return self._compact(request)
            case LeaseGrant():
                return self._grant(request)
            case LeaseRevoke():
                return self._revoke(request.id)
            case LeaseCheckpoint():
                for lease, remaining_s in request.remaining:
                    self.leases.checkpoint(lease, remaining_s)
                return LeaseCheckpointReply(self.revision)

    def _run_alone(self, request: Put | DeleteRange) -> PutReply | DeleteRangeReply:
        changed: list[KeyValue] = []
        reply = self._put(request, changed) if isinstance(request, Put) else self._delete(request, changed)
        self._seal(changed)
        return reply

    def _run(self, decided: Decided, changed: list[KeyValue]) -> TxnReply:
        responses: list[OperationReply] = []
        for operation in decided.operations:
            match operation:
                case Put():
                    responses.append(self._put(operation, changed))
                case DeleteRange():
                    responses.append(self._delete(operation, changed))
                case Range():
                    responses.append(self._read(operation, self.revision + bool(changed)))
                case Decided():
                    responses.append(self._run(operation, changed))
        return TxnReply(self.revision + bool(changed), decided.succeeded, tuple(responses))

    def _seal(self, changed: list[KeyValue]) -> None:
        """The transaction is over: if it changed anything, that was one revision."""
        if changed:
            self.revision += 1
            self.changes.append(change_of(changed))

    def _put(self, put: Put, changed: list[KeyValue]) -> PutReply:
        key, value, lease = put.key, put.value, put.lease
        revision = created = self.revision + 1
        version = 1
        previous = self.keys.latest(key)
        if previous is not None:
            # One object for each key, however often it is written.
            key, created, version = previous.key, previous.create_revision, previous.version + 1
            value = previous.value if put.ignore_value else value
            lease = previous.lease if put.ignore_lease else lease
            if previous.lease and previous.lease != lease:
                self.leases.detach(previous.lease, key)
        pair = KeyValue(key, value, created, revision, version, lease)
        self.keys.put(pair, previous)
        if lease:
            self.leases.attach(lease, key)
        changed.append(pair)
        return PutReply(revision, previous if put.prev_kv else None)

    def _delete(self, delete: DeleteRange, changed: list[KeyValue]) -> DeleteRangeReply:
        pairs = self.keys.live_head(delete.key, delete.range_end, 0)
        for pair in pairs:
            self._delete_pair(pair, changed)
        return DeleteRangeReply(
            self.revision + bool(changed), len(pairs), tuple(pairs) if delete.prev_kv else ()
        )

    def _delete_pair(self, pair: KeyValue, changed: list[KeyValue]) -> None:
        tombstone = KeyValue(pair.key, b"", 0, self.revision + 1, 0, 0)
        self.keys.delete(tombstone)
        if pair.lease:
            self.leases.detach(pair.lease, pair.key)
        changed.append(tombstone)

    # ---------------------------------------------------------------- reading

    def range(self, request: Range) -> RangeReply:
        """Raises `Compacted`, `FutureRevision`, `EmptyKey`."""
        if not request.key:
            raise EmptyKey()
        check_range(request, self.revision, self.compact_revision)
        return self._read(request, self.revision)

    def _read(self, request: Range, revision: int) -> RangeReply:
        """`revision` is what to answer with: within a transaction that has changed something, the coming
        one."""
        keys, limit = self.keys, max(0, request.limit)
        past = request.revision if 0 < request.revision < revision else 0
        # Sorted by another field without an order, as etcd has it, is only the page and the pair behind it.
        whole = request.sort_order != "none" or bool(
            request.min_mod_revision
            or request.max_mod_revision
            or request.min_create_revision
            or request.max_create_revision
        )
        plain = not whole and request.sort_target == "key"
        head = 0 if whole or not limit else limit + (not plain)
        if past:
            pairs = keys.range_at(request.key, request.range_end, past)
            count = len(pairs)
            pairs = pairs[:head] if head else pairs
        elif not request.range_end:
            pair = keys.latest(request.key)
            pairs = [pair] if pair is not None else []
            count = len(pairs)
        else:
            count = keys.live_count(request.key, request.range_end)
            if request.count_only:
                return RangeReply(revision, (), False, count)
            pairs = keys.live_head(request.key, request.range_end, head)
        if request.count_only:
            return RangeReply(revision, (), False, count)
        if not plain:
            pairs = _sorted(request, [pair for pair in pairs if _passes(request, pair)])
        more = 0 < limit < (len(pairs) if whole else count)
        if limit:
            pairs = pairs[:limit]
        if request.keys_only:
            pairs = [evolve(pair, value=b"") for pair in pairs]
        return RangeReply(revision, tuple(pairs), more, count)

    def hash(self, request: HashKV) -> HashKVReply:
        """A checksum over every readable version up to a revision. Raises `Compacted`, `FutureRevision`."""
        return finished(self.hashing(request))

    def hashing(self, request: HashKV) -> Generator[None, None, HashKVReply]:
        """`hash` bit by bit, of the store as it is now, whatever is written meanwhile."""
        revision = request.revision or self.revision
        if revision > self.revision:
            raise FutureRevision(revision, self.revision)
        if revision < self.compact_revision:
            raise Compacted(self.compact_revision)
        return _hashing(self.keys.fork(), revision, HashKVReply(self.revision, 0, self.compact_revision))

    def list_leases(self, request: LeaseList) -> LeaseListReply:
        return LeaseListReply(self.revision, self.leases.ids())

    # ---------------------------------------------------------------- compaction

    def _compact(self, request: Compact) -> CompactReply:
        revision = request.revision
        if revision <= self.compact_revision:
            raise Compacted(self.compact_revision)
        if revision > self.revision:
            raise FutureRevision(revision, self.revision)
        self.changes.compact(revision, self.keys.changed_at)
        self.compact_revision = revision
        self._prune(PRUNED_AT_ONCE)
        return CompactReply(self.revision)

    @property
    def is_pruned(self) -> bool:
        """Whether all is gone that the last compaction has forgotten."""
        return self._pruned_to > self.compact_revision

    def prune(self) -> None:
        """Go on a bit with the last compaction: a millisecond or so."""
        if not self.is_pruned:
            self._prune(PRUNED_AT_ONCE)

    def pruning(self) -> Generator[None, None, None]:
        """Go on with the last compaction, bit by bit, to its end: what is forgotten is gone then."""
        while not self.is_pruned:
            yield
            self.prune()

    def _prune(self, changes_max: int) -> None:
        """Go on with the last compaction. Only a key that changed since the one before can have versions
        that are out of reach now. Revision `compact_revision` itself stays, a deletion in it too: it can
        still be watched."""
        floor = self.compact_revision
        last = min(self._pruned_to + changes_max - 1, floor)
        for keys in islice(self.changes.keys_since(self._pruned_to), last + 1 - self._pruned_to):
            for key in keys:
                self.keys.prune(key, floor)
        self._pruned_to = last + 1
        self.changes.forget_before(min(self._pruned_to, floor))

    def changes_since(self, revision: int) -> Iterator[Change]:
        """The change of `revision` and each one after it. Raises `Compacted`."""
        if revision < self.changes_from:
            raise Compacted(self.compact_revision)
        return self.changes.since(revision, self.keys.changed_at)

    def event(self, pair: KeyValue, prev_kv: bool) -> Event:
        """The event of a pair that is in `changes`; with the pair before it unless that is compacted."""
        previous = None
        if prev_kv and pair.mod_revision > self.compact_revision:
            previous = self.keys.at(pair.key, pair.mod_revision - 1)
        return Event("PUT" if pair.version else "DELETE", pair, previous)

    # ---------------------------------------------------------------- leases

    def _grant(self, request: LeaseGrant) -> LeaseGrantReply:
        lease_id = request.id
        if request.ttl_s > MAX_LEASE_TTL_S:
            raise LeaseTtlTooLarge(request.ttl_s)
        if lease_id in self.leases:
            raise LeaseExists(lease_id)
        if not lease_id:
            while self.next_lease in self.leases:
                self.next_lease += 1
            lease_id = self.next_lease
            self.next_lease += 1
        ttl_s = max(request.ttl_s, self.options.min_lease_ttl_s)
        self.leases.add(LeaseState(lease_id, ttl_s))
        return LeaseGrantReply(self.revision, lease_id, ttl_s)

    def keep_alive(self, lease_id: int) -> None:
        """The lease has its whole time again: what a checkpoint said is void. Raises `LeaseNotFound`."""
        if lease_id not in self.leases:
            raise LeaseNotFound(lease_id)
        self.leases.checkpoint(lease_id, 0)

    def _revoke(self, lease_id: int) -> LeaseRevokeReply:
        if lease_id not in self.leases:
            raise LeaseNotFound(lease_id)
        changed: list[KeyValue] = []
        for key in self.leases.remove(lease_id):
            pair = self.keys.latest(key)
            assert pair is not None and pair.lease == lease_id, (key, pair, lease_id)
            self._delete_pair(pair, changed)
        self._seal(changed)
        return LeaseRevokeReply(self.revision)


def finished(work: Generator[None, None, T]) -> T:
    """What comes of something that could be done bit by bit, at once."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            value: T = end.value
            return value


def _hashing(keys: KeySpace, revision: int, reply: HashKVReply) -> Generator[None, None, HashKVReply]:
    floor, checksum = reply.compact_revision, 0
    for number, (key, history) in enumerate(keys.histories(), 1):
        entries = history
        if len(history) > 1 or not history[0].version or history[0].mod_revision > revision:
            entries = [pair for pair in history if pair.mod_revision <= revision]
            # What compaction has not come to yet does not count.
            gone = sum(1 for pair in entries if pair.mod_revision <= floor)
            if gone and entries[gone - 1].version:
                gone -= 1
            del entries[:gone]
        for pair in entries:
            numbers = _HASHED.pack(
                len(key), pair.create_revision, pair.mod_revision, pair.version, pair.lease
            )
            checksum = zlib.crc32(pair.value, zlib.crc32(key, zlib.crc32(numbers, checksum)))
        if number % HASHED_AT_ONCE == 0:
            yield
    return evolve(reply, hash=checksum)


def _passes(request: Range, pair: KeyValue) -> bool:
    return not (
        pair.mod_revision < request.min_mod_revision
        or (request.max_mod_revision and request.max_mod_revision < pair.mod_revision)
        or pair.create_revision < request.min_create_revision
        or (request.max_create_revision and request.max_create_revision < pair.create_revision)
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
