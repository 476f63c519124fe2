"""What watches of the same range share; what they see is in `test_mvcc.py`."""

from itertools import product

from understudy.raftstore.mvcc import MvccStore
from understudy.raftstore.storage import DeleteRange, KeyValue, Put, Watch
from understudy.raftstore.watch import WatchHub


def test_watches_that_agree_share_a_batch_and_others_are_told_their_own() -> None:
    store = MvccStore()
    hub = WatchHub(store)
    kinds = list(product([b"", b"l"], [False, True], [False, True], [False, True]))
    watches = {
        hub.add(Watch(b"k", end, prev_kv=prev_kv, no_put=no_put, no_delete=no_delete)): (no_put, no_delete)
        for end, prev_kv, no_put, no_delete in [*kinds, *kinds]
    }
    previous: KeyValue | None = None
    for request in (Put(b"k", b"1"), Put(b"k", b"2"), DeleteRange(b"k"), Put(b"k", b"3")):
        store.apply(request)
        deleted = isinstance(request, DeleteRange)
        woken = sorted(hub.changed(store.changes.newest))
        assert woken == [
            number for number, (no_put, no_delete) in watches.items() if not (no_put, no_delete)[deleted]
        ]
        batches = [hub.pull(number) for number in woken]
        half = len(batches) // 2
        for first, second, number in zip(batches[:half], batches[half:], woken[:half], strict=True):
            assert first is second and first is not None
            (event,) = first.events
            assert event.type == ("DELETE" if deleted else "PUT") and event.kv.mod_revision == store.revision
            assert event.prev_kv == (previous if hub.watchers[number].watch.prev_kv else None)
        previous = None if deleted else batches[0].events[0].kv if batches[0] else None
        assert [hub.pull(number) for number in watches] == [None] * len(watches)
