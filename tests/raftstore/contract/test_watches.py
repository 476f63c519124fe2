"""Watches behind the Storage contract."""

import pytest

from tests.raftstore.contract.stores import STORES, Bench, Play, bench
from understudy.actors import SimWorld, World
from understudy.raftstore import watch as watch_hub
from understudy.raftstore.storage import (
    Compact,
    Compacted,
    DeleteRange,
    EmptyKey,
    Put,
    RequestProgress,
    Txn,
    Watch,
    WatchBatch,
    prefix_end,
)


def test_a_watch_sees_every_change_of_its_range_once_and_in_order(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        await b.store.ask(Put(b"/a/1", b"old"))
        await b.store.ask(Put(b"/b/1", b"other"))
        live = await b.watch(Watch(b"/a/", prefix_end(b"/a/"), prev_kv=True))
        past = await b.watch(Watch(b"/a/", prefix_end(b"/a/"), start_revision=2))
        await b.store.ask(Put(b"/a/1", b"new"))
        await b.store.ask(Txn((), (Put(b"/a/2", b"x"), DeleteRange(b"/a/1"), Put(b"/b/1", b"y"))))
        seen = await b.events(live, 3)
        assert [(e.type, e.kv.key, e.kv.mod_revision) for e in seen] == [
            ("PUT", b"/a/1", 4),
            ("PUT", b"/a/2", 5),
            ("DELETE", b"/a/1", 5),
        ]
        assert seen[0].prev_kv is not None and seen[0].prev_kv.value == b"old"
        assert seen[1].prev_kv is None
        assert seen[2].prev_kv is not None and seen[2].prev_kv.value == b"new"
        all_of_it = await b.events(past, 4)
        assert [e.kv.mod_revision for e in all_of_it] == [2, 4, 5, 5]
        assert all(e.prev_kv is None for e in all_of_it)

    play(scenario)


def test_a_watch_filters_waits_for_the_future_and_sends_bookmarks(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        deletes = await b.watch(Watch(b"k", no_put=True))
        future = await b.watch(Watch(b"k", start_revision=3))
        other = await b.watch(Watch(b"other", progress_notify=True))
        await b.store.ask(Put(b"k", b"1"))
        await b.store.ask(Put(b"k", b"2"))
        await b.store.ask(DeleteRange(b"k"))
        assert [e.type for e in await b.events(deletes, 1)] == ["DELETE"]
        assert [e.kv.mod_revision for e in await b.events(future, 2)] == [3, 4]
        assert (await b.store.ask(RequestProgress())).revision == 4
        with b.world.deadline(5.0):
            assert await other.receive() == WatchBatch(4)

    play(scenario)


def test_a_watch_of_a_compacted_past_says_from_where_it_can_start(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        for _ in range(3):
            await b.store.ask(Put(b"k", b""))
        await b.store.ask(Compact(3))
        with pytest.raises(Compacted) as refused:
            await b.watch(Watch(b"k", start_revision=2))
        assert refused.value.compact_revision == 3
        again = await b.watch(Watch(b"k", start_revision=3))
        assert [e.kv.mod_revision for e in await b.events(again, 2)] == [3, 4]
        with pytest.raises(EmptyKey):
            await b.watch(Watch(b""))

    play(scenario)


def test_a_reader_that_stays_behind_loses_nothing_and_holds_up_nobody(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        reader = await b.watch(Watch(b"k"), capacity=2)
        for number in range(50):
            await b.store.ask(Put(b"k", b"%d" % number))
        assert [e.kv.value for e in await b.events(reader, 50)] == [b"%d" % n for n in range(50)]

    play(scenario)


def test_a_watch_ends_when_its_reader_is_gone(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        reader = await b.watch(Watch(b"k"))
        reader.cancel()
        for _ in range(3):
            await b.store.ask(Put(b"k", b""))
        again = await b.watch(Watch(b"k", start_revision=2))
        assert len(await b.events(again, 3)) == 3

    play(scenario)


def test_a_watch_of_a_long_past_comes_to_its_end(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_hub, "SCANNED_MAX", 3)

    async def scenario(b: Bench) -> None:
        for number in range(20):
            await b.store.ask(Put(b"other", b"%d" % number))
        await b.store.ask(Put(b"k", b""))
        reader = await b.watch(Watch(b"k", start_revision=2))
        assert [e.kv.mod_revision for e in await b.events(reader, 1)] == [22]

    play(scenario)


@pytest.mark.parametrize("store", sorted(STORES))
def test_watches_whose_readers_are_gone_do_not_pile_up(store: str) -> None:
    async def main(world: World) -> None:
        async with bench(world, store) as b:
            for number in range(200):
                (await b.watch(Watch(b"quiet %d" % number))).cancel()
            assert sum(status.tasks for status in b.system.statistics()) < 100

    SimWorld(1, turns_max=200_000).run(main)
