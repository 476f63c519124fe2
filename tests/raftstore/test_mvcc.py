"""The MVCC store against a deliberately dumb twin: a full copy of the key space for every revision."""

from typing import Any

import pytest
from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.mailbox import decode, encode
from understudy.raftstore.changelog import pairs_of
from understudy.raftstore.leases import LeaseClock
from understudy.raftstore.mvcc import MvccStore
from understudy.raftstore.snapshot import MachineSnapshot, PackedSnapshot
from understudy.raftstore.storage import (
    ALL_KEYS_END,
    Compact,
    Compacted,
    Compare,
    DeleteRange,
    DuplicateKey,
    EmptyKey,
    Event,
    HashKV,
    InvalidRequest,
    KeyValue,
    LeaseGrant,
    LeaseNotFound,
    LeaseRevoke,
    Put,
    Range,
    StorageError,
    Txn,
    Watch,
    prefix_end,
)
from understudy.raftstore.users import Users
from understudy.raftstore.watch import WatchHub


@define
class Twin:
    """What the store should be, as slow and plain as can be."""

    worlds: list[dict[bytes, KeyValue]] = field(factory=lambda: [{}, {}])
    """By revision: every key that was there after it."""
    events: dict[int, list[Event]] = field(factory=dict)
    leases: set[int] = field(factory=set)

    @property
    def revision(self) -> int:
        return len(self.worlds) - 1

    def select(self, key: bytes, end: bytes, world: dict[bytes, KeyValue]) -> list[KeyValue]:
        if not end:
            return [world[key]] if key in world else []
        return [world[k] for k in sorted(world) if k >= key and (end == ALL_KEYS_END or k < end)]

    def write(self, operations: tuple[Any, ...]) -> None:
        world, revision = dict(self.worlds[-1]), self.revision + 1
        events: list[Event] = []
        for operation in operations:
            if isinstance(operation, Put):
                old = world.get(operation.key)
                pair = KeyValue(
                    operation.key,
                    operation.value,
                    old.create_revision if old else revision,
                    revision,
                    old.version + 1 if old else 1,
                    operation.lease,
                )
                world[operation.key] = pair
                events.append(Event("PUT", pair, self.worlds[-1].get(operation.key)))
            elif isinstance(operation, DeleteRange):
                for old in self.select(operation.key, operation.range_end, world):
                    del world[old.key]
                    before = self.worlds[-1].get(old.key)
                    events.append(Event("DELETE", KeyValue(old.key, b"", 0, revision, 0), before))
        if events:
            self.worlds.append(world)
            self.events[revision] = events

    def holds(self, compare: Compare) -> bool:
        pairs = self.select(compare.key, compare.range_end, self.worlds[-1])
        if not pairs and compare.target == "value":
            return False
        return all(self.stands(pair, compare) for pair in pairs or [KeyValue(compare.key, b"", 0, 0, 0)])

    def stands(self, pair: KeyValue, compare: Compare) -> bool:
        left: Any = {
            "mod": pair.mod_revision,
            "create": pair.create_revision,
            "version": pair.version,
            "lease": pair.lease,
            "value": pair.value,
        }[compare.target]
        right: Any = compare.value
        answers = {"=": left == right, "!=": left != right, "<": left < right, ">": left > right}
        return answers[compare.operator]


KEYS = st.sampled_from([b"a", b"aa", b"ab", b"b", b"c"])
ENDS = st.sampled_from([b"", b"", b"b", b"ab", b"d", ALL_KEYS_END])
VALUES = st.binary(max_size=2)
PUTS = st.builds(Put, KEYS, VALUES, lease=st.sampled_from([0, 0, 0, 1, 2]))
DELETES = st.builds(DeleteRange, KEYS, ENDS)
NUMBERS = st.builds(
    Compare,
    KEYS,
    st.sampled_from(["mod", "create", "version", "lease"]),
    st.sampled_from(["=", "!=", "<", ">"]),
    st.integers(0, 12),
    ENDS,
)
GUARDS = NUMBERS | st.builds(
    Compare, KEYS, st.just("value"), st.sampled_from(["=", "!=", "<", ">"]), VALUES, ENDS
)
BRANCHES = st.lists(PUTS | DELETES, max_size=3).map(tuple)
TXNS = st.builds(Txn, st.lists(GUARDS, max_size=2).map(tuple), BRANCHES, BRANCHES)
REQUESTS = st.one_of(
    PUTS,
    PUTS,
    DELETES,
    TXNS,
    TXNS,
    st.builds(Compact, st.integers(0, 20)),
    st.builds(LeaseGrant, st.just(60), st.sampled_from([1, 2])),
    st.builds(LeaseRevoke, st.sampled_from([1, 2])),
)


def mirror(twin: Twin, request: Any) -> None:
    """Do what the store just did without refusing it."""
    match request:
        case Put() | DeleteRange():
            twin.write((request,))
        case Txn():
            twin.write(request.success if all(map(twin.holds, request.compares)) else request.failure)
        case LeaseGrant():
            twin.leases.add(request.id)
        case LeaseRevoke():
            twin.leases.discard(request.id)
            keys = [k for k, pair in sorted(twin.worlds[-1].items()) if pair.lease == request.id]
            twin.write(tuple(DeleteRange(key) for key in keys))


def check_same(store: MvccStore, twin: Twin) -> None:
    assert store.revision == twin.revision
    for revision in range(max(1, store.compact_revision), twin.revision + 1):
        for key, end in ((b"a", ALL_KEYS_END), (b"aa", b"b"), (b"b", b"")):
            expected = twin.select(key, end, twin.worlds[revision])
            reply = store.range(Range(key, end, revision=revision))
            assert list(reply.kvs) == expected and reply.count == len(expected)
            page = store.range(Range(key, end, revision=revision, limit=1))
            assert list(page.kvs) == expected[:1] and page.more is (len(expected) > 1)
            count = store.range(Range(key, end, revision=revision, count_only=True))
            assert (count.kvs, count.count) == ((), len(expected))
    if store.compact_revision > 1:
        with pytest.raises(Compacted):
            store.range(Range(b"a", revision=store.compact_revision - 1))
    first = max(store.compact_revision, 2)
    for revision, change in enumerate(store.changes_since(first), first):
        events = [store.event(pair, prev_kv=True) for pair in pairs_of(change)]
        expected_events = twin.events[revision]
        if revision == store.compact_revision:
            expected_events = [evolve(event, prev_kv=None) for event in expected_events]
        assert events == expected_events


@settings(max_examples=150, deadline=None)
@given(st.lists(REQUESTS, max_size=30))
def test_the_store_is_its_twin(requests: list[Any]) -> None:
    store, twin = MvccStore(), Twin()
    for request in requests:
        before = store.revision, store.hash(HashKV())
        try:
            store.apply(request)
        except StorageError:
            assert before == (store.revision, store.hash(HashKV())), "a refused request changed something"
        else:
            mirror(twin, request)
        assert set(store.leases.ids()) == twin.leases
    check_same(store, twin)
    attached = {lease: list(store.leases.keys(lease)) for lease in store.leases.ids()}
    for lease, keys in attached.items():
        assert keys == [k for k, pair in sorted(twin.worlds[-1].items()) if pair.lease == lease]


@settings(max_examples=60, deadline=None)
@given(st.lists(REQUESTS, max_size=20), st.lists(REQUESTS, max_size=10))
def test_a_snapshot_is_the_store(before: list[Any], after: list[Any]) -> None:
    store = MvccStore()

    def run(target: MvccStore, request: Any) -> object:
        try:
            return target.apply(request)
        except StorageError as refused:
            return repr(refused)

    for request in before:
        run(store, request)
    packed = decode(encode(PackedSnapshot.pack(MachineSnapshot(store.fork(), Users().state(), (), ()))))
    twin = MvccStore.restore(packed.unpack().store)
    for request in after:
        assert run(store, request) == run(twin, request)
    assert store.hash(HashKV()) == twin.hash(HashKV())
    assert store.keys.size_bytes == twin.keys.size_bytes
    changes = [list(target.changes_since(target.changes_from)) for target in (store, twin)]
    assert changes[0] == changes[1] and store.compact_revision == twin.compact_revision
    size = sum(len(kv.key) + len(kv.value) for _, history in store.keys.histories() for kv in history)
    assert store.keys.size_bytes == size


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(REQUESTS, st.lists(st.integers(0, 3), max_size=2)), min_size=8, max_size=25),
    st.lists(st.tuples(st.integers(0, 8), KEYS, ENDS, st.booleans(), st.booleans()), min_size=1, max_size=4),
)
def test_watches_see_everything_once_in_order_and_whole(
    script: list[tuple[Any, list[int]]],
    specs: list[tuple[int, bytes, bytes, bool, bool]],
) -> None:
    """Watches that start at any revision and are read at any time, a little at a time."""
    store, twin = MvccStore(), Twin()
    hub = WatchHub(store)
    watches = [
        Watch(key, end, start_revision=start, prev_kv=True, no_put=no_put, no_delete=no_delete)
        for start, key, end, no_put, no_delete in specs
    ]
    seen: dict[int, list[Event]] = {hub.add(watch): [] for watch in watches}
    marks = dict.fromkeys(seen, 1)
    lost: set[int] = set()

    def pull(watcher: int) -> bool:
        if watcher in lost:
            return False
        try:
            batch = hub.pull(watcher, max_events=1)
        except Compacted as error:
            assert error.compact_revision == store.compact_revision
            lost.add(watcher)
            return False
        if batch is None:
            return False
        revisions = [event.kv.mod_revision for event in batch.events]
        assert all(marks[watcher] < revision <= batch.revision for revision in revisions)
        marks[watcher] = batch.revision
        seen[watcher].extend(batch.events)
        return True

    for request, pulls in script:
        before = store.revision
        try:
            store.apply(request)
        except StorageError:
            continue
        mirror(twin, request)
        if store.revision > before:
            hub.changed(next(store.changes_since(store.revision)))
        for choice in pulls:
            pull(list(seen)[choice % len(seen)])
    for watcher, watch in zip(seen, watches, strict=True):
        while pull(watcher):
            pass
        expected = [
            event
            for revision, events in twin.events.items()
            if revision >= watch.start_revision
            for event in events
            if not ((watch.no_put and event.type == "PUT") or (watch.no_delete and event.type == "DELETE"))
            and twin.select(watch.key, watch.range_end, {event.kv.key: event.kv})
        ]
        got = [evolve(event, prev_kv=None) for event in seen[watcher]]
        wanted = [evolve(event, prev_kv=None) for event in expected]
        assert got == wanted[: len(got)] if watcher in lost else got == wanted


def test_the_previous_pair_is_told_unless_it_is_compacted() -> None:
    store = MvccStore()
    for value in (b"1", b"2", b"3"):
        store.apply(Put(b"k", value))
    store.apply(Compact(3))
    first, second = [
        store.event(pair, prev_kv=True) for change in store.changes_since(3) for pair in pairs_of(change)
    ]
    assert first.prev_kv is None
    assert second.prev_kv is not None and second.prev_kv.value == b"2"


def test_a_deletion_at_the_compacted_revision_can_still_be_watched() -> None:
    store = MvccStore()
    store.apply(Put(b"k", b""))
    store.apply(DeleteRange(b"k"))
    store.apply(Compact(3))
    assert [store.event(pair, True).type for pair in pairs_of(next(store.changes_since(3)))] == ["DELETE"]
    assert not list(store.keys.histories())


def test_nested_transactions_are_decided_before_the_first_change() -> None:
    store = MvccStore()
    inner = Txn((Compare(b"a", "version", "=", 0),), (Put(b"b", b"then"),), (Put(b"b", b"else"),))
    reply = store.apply(Txn((), (Put(b"a", b""), inner)))
    assert reply.revision == 2
    assert store.range(Range(b"b")).kvs[0].value == b"then"


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (Put(b"", b""), EmptyKey),
        (Put(b"k", b"v", ignore_value=True), InvalidRequest),
        (Txn((Compare(b"k", "value", "=", 3),)), InvalidRequest),
        (Txn((), (Put(b"k", b""), DeleteRange(b"a", b"z"))), DuplicateKey),
        (Txn((), (Txn((), (Put(b"k", b""),)), Put(b"k", b""))), DuplicateKey),
        (Txn((), (Txn((), (Put(b"k", b""),)), DeleteRange(b"k"))), DuplicateKey),
        (Txn((), (Put(b"j", b""), Txn((), (), (Put(b"k", b"", lease=9),)))), None),
        (Txn((), (Put(b"j", b""), Txn((), (Put(b"k", b"", lease=9),)))), LeaseNotFound),
        (Txn((), (Txn((), (Put(b"k", b""),), (Put(b"k", b""),)),)), None),
    ],
)
def test_what_is_refused_leaves_no_trace(request_: Any, error: type[StorageError] | None) -> None:
    store = MvccStore()
    if error is None:
        store.apply(request_)
        return
    with pytest.raises(error):
        store.apply(request_)
    assert store.revision == 1 and not list(store.keys.histories())


@given(st.binary(max_size=4), st.binary(max_size=5))
def test_prefix_end_covers_exactly_the_prefix(prefix: bytes, key: bytes) -> None:
    end = prefix_end(prefix)
    assert (key >= prefix and (end == ALL_KEYS_END or key < end)) == key.startswith(prefix)


def test_the_lease_clock_tells_each_lease_until_it_is_forgotten() -> None:
    clock = LeaseClock()
    clock.start(1, 10, now_s=0.0)
    clock.start(2, 5, now_s=0.0)
    clock.start(2, 5, now_s=4.0)
    assert clock.next_deadline_s() == 9.0
    assert clock.take_over(8.9, retry_s=1.0) == []
    assert clock.take_over(10.0, retry_s=1.0) == [1, 2]
    assert clock.take_over(10.5, retry_s=1.0) == []
    clock.forget(1)
    assert clock.take_over(11.0, retry_s=1.0) == [2]
    clock.forget(2)
    assert clock.next_deadline_s() is None
