"""The MVCC store against a deliberately dumb twin: a full copy of the key space for every revision."""

import gc
import sys
from itertools import islice
from typing import Any

import pytest
from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.mailbox import decode, encode
from understudy.properties.store_requests import AUTH_REQUESTS, ENDS, KEYS, REQUESTS, placed
from understudy.raftstore.changelog import CHUNK, pairs_of
from understudy.raftstore.leases import LeaseClock
from understudy.raftstore.machine import StateMachine, is_write
from understudy.raftstore.mvcc import HASHED_AT_ONCE, PRUNED_AT_ONCE, PRUNED_EACH_TIME, MvccStore, finished
from understudy.raftstore.restorer import Restorer
from understudy.raftstore.snapshot import (
    MachineSnapshot,
    SnapshotFirst,
    SnapshotOrder,
    packed_pairs,
)
from understudy.raftstore.storage import (
    ALL_KEYS_END,
    Alarm,
    Compact,
    Compacted,
    Compare,
    DeleteRange,
    DuplicateKey,
    EmptyKey,
    Event,
    Hash,
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
from understudy.raftstore.watch import SCANNED_MAX, WatchHub


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
                    old.value if old and operation.ignore_value else operation.value,
                    old.create_revision if old else revision,
                    revision,
                    old.version + 1 if old else 1,
                    old.lease if old and operation.ignore_lease else operation.lease,
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

    def chosen(self, txn: Txn) -> tuple[Any, ...]:
        """What a transaction does, in order, with the nested ones in their places."""
        branch = txn.success if all(map(self.holds, txn.compares)) else txn.failure
        parts = [self.chosen(each) if isinstance(each, Txn) else (each,) for each in branch]
        return tuple(operation for part in parts for operation in part)

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
        answers: dict[str, bool] = {
            "=": left == right,
            "!=": left != right,
            "<": left < right,
            ">": left > right,
        }
        return answers[compare.operator]


def mirror(twin: Twin, request: Any) -> None:
    """Do what the store just did without refusing it."""
    match request:
        case Put() | DeleteRange():
            twin.write((request,))
        case Txn():
            twin.write(twin.chosen(request))
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
@given(st.lists(REQUESTS, min_size=10, max_size=40))
def test_the_store_is_its_twin(requests: list[Any]) -> None:
    store, twin = MvccStore(), Twin()
    for drawn in requests:
        request = placed(drawn, store.revision)
        before = store.revision, store.hash(HashKV())
        try:
            if isinstance(request, Range):
                store.range(request)
            else:
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
@given(st.lists(REQUESTS, min_size=8, max_size=25), st.lists(REQUESTS, max_size=10))
def test_a_snapshot_is_the_store(before: list[Any], after: list[Any]) -> None:
    store = MvccStore()

    def run(target: MvccStore, drawn: Any) -> object:
        request = placed(drawn, target.revision)
        try:
            return target.range(request) if isinstance(request, Range) else target.apply(request)
        except StorageError as refused:
            return repr(refused)

    for request in before:
        run(store, request)
    restorer = Restorer()
    for part in MachineSnapshot(store.fork(), Users().state(), (), ()).slices():
        restorer.add(decode(encode(part)))
    twin = MvccStore.restore(restorer.finish().store)
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

    for drawn, pulls in script:
        request = placed(drawn, store.revision)
        if isinstance(request, Range):
            continue
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


@settings(max_examples=100, deadline=None)
@given(
    st.lists(REQUESTS | AUTH_REQUESTS, min_size=10, max_size=40),
    st.lists(REQUESTS, max_size=20),
    st.integers(0, 40),
    st.integers(1, 400),
)
def test_slices_of_a_view_make_the_same_state_whatever_is_written_meanwhile(
    before: list[Any], after: list[Any], taken_at: int, slice_bytes: int
) -> None:
    def write(target: StateMachine, requests: list[Any]) -> None:
        for drawn in requests:
            request = placed(drawn, target.store.revision)
            if is_write(request):
                target.run(request)

    machine = StateMachine()
    machine.run(Alarm("activate", 3, "corrupt"))
    machine.run(Alarm("deactivate", 3, "corrupt"))
    machine.run(Alarm("activate", 2, "none"))
    write(machine, before[:taken_at])
    view, hashed = machine.snapshot(), machine.read(Hash(), 0.0).reply
    told, restorer = view.slices(slice_bytes), Restorer()
    for drawn in (*before[taken_at:], *after):
        part = next(told, None)
        if part is not None:
            restorer.add(decode(encode(part)))
        write(machine, [drawn])
    for part in told:
        restorer.add(decode(encode(part)))
    restored = StateMachine()
    restored.restore(restorer.finish())
    assert restored.read(Hash(), 0.0).reply == hashed
    # The view itself can be begun from, too, and more than once.
    for _ in range(2):
        other = StateMachine()
        other.restore(view)
        assert other.read(Hash(), 0.0).reply == hashed
        write(other, after)
        again = StateMachine()
        again.restore(restorer.finish())
        write(again, after)
        assert again.read(Hash(), 0.0).reply == other.read(Hash(), 0.0).reply


def test_a_lease_knows_its_keys_after_a_snapshot_and_forgets_none_in_a_view() -> None:
    machine = StateMachine()
    machine.run(LeaseGrant(60, 7))
    machine.run(Put(b"a", b"", 7))
    machine.run(Txn((), (Put(b"y", b"", 7), Put(b"b", b""))))
    view, restorer = machine.snapshot(), Restorer()
    machine.run(Put(b"a", b"", 0))
    machine.run(Put(b"c", b"", 7))
    for part in view.slices():
        restorer.add(decode(encode(part)))
    for snapshot in (view, restorer.finish()):
        twin = StateMachine()
        twin.restore(snapshot)
        assert twin.store.leases.keys(7) == (b"a", b"y")
        twin.run(LeaseRevoke(7))
        assert [pair.key for pair in twin.store.range(Range(b"\0", ALL_KEYS_END)).kvs] == [b"b"]
    assert machine.store.leases.keys(7) == (b"c", b"y")


def test_a_deletion_at_the_first_revision_is_told_by_a_snapshot() -> None:
    machine, restorer = StateMachine(), Restorer()
    machine.run(Put(b"k", b""))
    machine.run(DeleteRange(b"k"))
    machine.run(Compact(3))
    for part in machine.snapshot().slices():
        restorer.add(decode(encode(part)))
    store = MvccStore.restore(restorer.finish().store)
    assert list(store.changes_since(3)) == list(machine.store.changes_since(3))
    assert not list(store.keys.histories())


NOTHING = (SnapshotFirst(packed_pairs([])), SnapshotOrder(()))
"""Made so that nobody waits for long; there is nothing in it."""


def test_a_snapshot_that_lacks_a_slice_is_refused() -> None:
    machine = StateMachine()
    machine.run(LeaseGrant(60, 7))
    for number in range(5):
        machine.run(Put(b"%d" % number, b""))
    machine.run(Put(b"1", b"", 7))
    machine.run(Txn((), (Put(b"z", b""), Put(b"y", b""))))
    machine.run(DeleteRange(b"4"))
    machine.run(Compact(machine.store.revision))
    machine.run(Put(b"1", b"again"))
    parts = list(machine.snapshot().slices(1))
    for missing, lost in enumerate(parts):
        if isinstance(lost, SnapshotFirst | SnapshotOrder) and lost in NOTHING:
            continue
        restorer = Restorer()
        with pytest.raises(ValueError):
            for number, part in enumerate(parts):
                if number != missing:
                    restorer.add(part)
            restorer.finish()


def test_slices_stay_small_and_hold_up_nobody() -> None:
    store = MvccStore()
    for number in range(5_000):
        store.apply(Put(b"%05d" % number, b"x" * 100))
    store.apply(Compact(2_000))
    parts = list(MachineSnapshot(store.fork(), Users().state(), (), ()).slices(64 << 10))
    assert max(len(encode(part)) for part in parts) < 80 << 10
    assert len(parts) > 10


def test_a_large_compaction_is_done_bit_by_bit_and_reads_as_if_it_were_done() -> None:
    store, twin = MvccStore(), MvccStore()
    for number in range(2 * PRUNED_AT_ONCE):
        for target in (store, twin):
            target.apply(Put(b"%d" % (number // 2), b"x" * 50))
    floor = store.revision - 10
    full = store.keys.size_bytes
    store.apply(Compact(floor))
    twin.apply(Compact(floor, physical=True))
    finished(twin.pruning())
    assert full > store.keys.size_bytes > 1.2 * twin.keys.size_bytes
    assert store.hash(HashKV()) == twin.hash(HashKV())
    for revision in range(floor, store.revision + 1):
        read = Range(b"\0", ALL_KEYS_END, revision=revision)
        assert store.range(read) == twin.range(read)
    with pytest.raises(Compacted):
        store.range(Range(b"1", revision=floor - 1))
    for mine, theirs in zip(store.changes_since(floor), twin.changes_since(floor), strict=True):
        for pair, other in zip(pairs_of(mine), pairs_of(theirs), strict=True):
            assert store.event(pair, prev_kv=True) == twin.event(other, prev_kv=True)
    writes = 0
    while store.keys.size_bytes != twin.keys.size_bytes:
        writes += 1
        for target in (store, twin):
            target.apply(DeleteRange(b"none"))
    assert writes <= PRUNED_AT_ONCE // PRUNED_EACH_TIME + 2
    assert store.changes.base > 1 and store.hash(HashKV()) == twin.hash(HashKV())


def test_a_hash_in_slices_is_that_of_the_moment_at_which_it_was_asked_for() -> None:
    machine = StateMachine()
    for number in range(3 * HASHED_AT_ONCE):
        machine.run(Put(b"%d" % number, b"v"))
    for request in (HashKV(HASHED_AT_ONCE), HashKV(), Hash()):
        expected = machine.read(request, 0.0)
        work = machine.reading(request, 0.0)
        next(work)
        machine.run(Put(b"999", b"%d" % machine.store.revision))  # The last key.
        machine.run(Compact(machine.store.revision))
        next(work)
        assert finished(work) == expected
        assert machine.read(request, 0.0) != expected
    refused = machine.reading(HashKV(1), 0.0)
    assert isinstance(finished(refused).refusal, Compacted)


def test_a_watch_that_begins_far_back_looks_at_a_bounded_stretch_at_a_time() -> None:
    store = MvccStore()
    store.apply(Put(b"wanted", b"first"))
    for number in range(2 * SCANNED_MAX):
        store.apply(Put(b"other", b"%d" % number))
    store.apply(Put(b"wanted", b"last"))
    hub = WatchHub(store)
    watch = hub.add(Watch(b"wanted", start_revision=3))
    assert hub.pull(watch) is None and hub.is_behind(watch)
    assert hub.pull(watch) is None and hub.is_behind(watch)
    batch = hub.pull(watch)
    assert batch is not None and [event.kv.value for event in batch.events] == [b"last"]
    assert not hub.is_behind(watch) and hub.pull(watch) is None


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
    assert clock.next_deadline_s() is None and clock.left_s(1, 11.0) is None


def sized(store: MvccStore) -> int:
    """Bytes of everything that a store has beside its keys and values."""
    seen: dict[int, Any] = {}
    todo: list[Any] = [store]
    while todo:
        each = todo.pop()
        if id(each) in seen or isinstance(each, type) or callable(each):
            continue
        seen[id(each)] = each
        todo.extend(gc.get_referents(each))
    return sum(sys.getsizeof(each) for each in seen.values() if type(each) is not bytes)


@pytest.mark.parametrize("restored", [False, True])
@pytest.mark.parametrize("together", [1, 128])
def test_a_key_costs_little_more_than_its_bytes_and_nothing_that_is_looked_at_for_garbage(
    restored: bool, together: int
) -> None:
    store, keys = MvccStore(), 40 * 512
    objects = len(gc.get_objects())
    for first in range(0, keys, together):
        puts = [Put(b"%010d" % number, b"value") for number in range(first, first + together)]
        store.apply(Txn((), tuple(puts)) if together > 1 else puts[0])
    if restored:
        restorer = Restorer()
        for part in MachineSnapshot(store.fork(), Users().state(), (), ()).slices():
            restorer.add(decode(encode(part)))
        store = MvccStore.restore(restorer.finish().store)
    assert sized(store) / keys < 70 + (CHUNK * 110 * together if not restored else 0) / keys
    assert len(gc.get_objects()) - objects < keys / 20 + CHUNK * together


def test_a_revision_that_changed_a_key_twice_is_told_as_it_was_when_it_is_old() -> None:
    store = MvccStore()
    store.apply(Put(b"k", b"1"))
    # A deletion in a nested transaction that stands behind the put: etcd lets it pass.
    puts, deletion = (Put(b"k", b"2"), Put(b"j", b"")), DeleteRange(b"k")
    store.apply(Txn((), (Txn((), puts), Txn((), (deletion,)))))
    store.apply(Put(b"k", b"3"))
    expected = list(store.changes_since(2))
    for number in range(2 * CHUNK):
        store.apply(Put(b"%d" % number, b""))
    assert list(islice(store.changes_since(2), 3)) == expected
    assert [(pair.key, pair.version) for pair in pairs_of(expected[1])] == [(b"k", 2), (b"j", 1), (b"k", 0)]
    restorer = Restorer()
    for part in MachineSnapshot(store.fork(), Users().state(), (), ()).slices():
        restorer.add(decode(encode(part)))
    assert list(islice(restorer.finish().store.changes_since(2), 3)) == expected


def test_what_was_compacted_while_its_pairs_were_new_can_still_be_watched_when_it_is_old() -> None:
    store = MvccStore()
    store.apply(Put(b"k", b"1"))
    store.apply(Txn((), (Put(b"j", b""), DeleteRange(b"k"))))
    store.apply(Compact(3))
    expected = list(store.changes_since(3))
    for number in range(2 * CHUNK):
        store.apply(Put(b"j", b"%d" % number))
    assert list(islice(store.changes_since(3), 1)) == expected
    assert [(pair.key, pair.version) for pair in pairs_of(expected[0])] == [(b"j", 1), (b"k", 0)]


def test_a_snapshot_of_format_2_told_the_version_of_every_change_and_is_read() -> None:
    machine, restorer = StateMachine(), Restorer()
    machine.run(Txn((), (Put(b"a", b"1"), Put(b"b", b"1"), Put(b"c", b"1"))))
    machine.run(Txn((), (Put(b"b", b"2"), DeleteRange(b"a"))))
    machine.run(Txn((), (Put(b"c", b"2"), Put(b"a", b"2"))))
    store = machine.store
    for part in machine.snapshot().slices():
        if isinstance(part, SnapshotOrder):
            assert len(part.changes) == 3
            told = []
            for revision, keys, versions in part.changes:
                assert not versions
                pairs = pairs_of(next(store.changes_since(revision)))
                told.append((revision, keys, tuple([pair.version for pair in pairs])))
            part = SnapshotOrder(tuple(told))
        restorer.add(part)
    twin = restorer.finish().store
    assert list(twin.changes_since(2)) == list(store.changes_since(2))
    assert twin.hash(HashKV()) == store.hash(HashKV())
