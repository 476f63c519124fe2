"""Keys behind the Storage contract: writes, ranges, transactions, compaction."""

import pytest

from tests.raftstore.contract.stores import Bench, Play, bench
from understudy.actors import SimWorld, World
from understudy.raftstore.storage import (
    ALL_KEYS_END,
    Compact,
    Compacted,
    Compare,
    DeleteRange,
    DuplicateKey,
    FutureRevision,
    KeyValue,
    LeaseNotFound,
    Put,
    Range,
    RequestTooLarge,
    TooManyOperations,
    Txn,
    prefix_end,
)


def test_a_fresh_store_is_empty_and_at_revision_one(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        reply = await b.store.ask(Range(b"\0", ALL_KEYS_END))
        assert (reply.revision, reply.kvs, reply.count, reply.more) == (1, (), 0, False)

    play(scenario)


def test_each_write_is_one_revision_and_counts_the_versions_of_its_key(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        assert (await b.store.ask(Put(b"a", b"1"))).revision == 2
        assert (await b.store.ask(Put(b"a", b"2", prev_kv=True))).prev_kv == KeyValue(b"a", b"1", 2, 2, 1)
        assert (await b.store.ask(Put(b"b", b"3"))).revision == 4
        deleted = await b.store.ask(DeleteRange(b"a", prev_kv=True))
        assert (deleted.revision, deleted.deleted) == (5, 1)
        assert deleted.prev_kvs == (KeyValue(b"a", b"2", 2, 3, 2),)
        assert (await b.store.ask(DeleteRange(b"a"))).revision == 5
        await b.store.ask(Put(b"a", b"4"))
        reply = await b.store.ask(Range(b"a"))
        assert reply.kvs == (KeyValue(b"a", b"4", 6, 6, 1),)

    play(scenario)


def test_ranges_are_paged_counted_sorted_and_read_at_past_revisions(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        for number in range(5):
            await b.store.ask(Put(b"/k/%d" % number, b"%d" % (9 - number)))
        await b.store.ask(Put(b"/z", b""))
        end = prefix_end(b"/k/")
        page = await b.store.ask(Range(b"/k/", end, limit=2))
        assert [kv.key for kv in page.kvs] == [b"/k/0", b"/k/1"]
        assert (page.more, page.count, page.revision) == (True, 5, 7)
        await b.store.ask(DeleteRange(b"/k/3"))
        rest = await b.store.ask(Range(b"/k/1\0", end, revision=page.revision))
        assert [kv.key for kv in rest.kvs] == [b"/k/2", b"/k/3", b"/k/4"]
        assert (rest.more, rest.count, rest.revision) == (False, 3, 8)
        assert (await b.store.ask(Range(b"/k/", end, count_only=True))).count == 4
        keys = await b.store.ask(Range(b"/k/", end, keys_only=True, limit=1))
        assert keys.kvs[0].value == b"" and keys.kvs[0].mod_revision == 2
        by_value = await b.store.ask(Range(b"/k/", end, sort_order="ascend", sort_target="value", limit=1))
        assert by_value.kvs[0].key == b"/k/4" and by_value.more
        # Without an order, what is sorted is the page and one pair more.
        for revision, expected in ((0, [b"/k/2", b"/k/1"]), (7, [b"/k/2", b"/k/1"])):
            page = await b.store.ask(Range(b"/k/", end, sort_target="value", limit=2, revision=revision))
            assert [kv.key for kv in page.kvs] == expected and page.more
            every = await b.store.ask(Range(b"/k/", end, sort_target="value", limit=9, revision=revision))
            assert [kv.key for kv in every.kvs[:2]] == [b"/k/4", b"/k/3" if revision else b"/k/2"]
            assert not every.more
        new = await b.store.ask(Range(b"/k/", end, min_mod_revision=4))
        assert [kv.key for kv in new.kvs] == [b"/k/2", b"/k/4"]
        one = await b.store.ask(Range(b"/k/", end, min_mod_revision=4, limit=1))
        assert ([kv.key for kv in one.kvs], one.more, one.count) == ([b"/k/2"], True, 4)
        last = await b.store.ask(Range(b"/k/", end, min_mod_revision=5, limit=1))
        assert ([kv.key for kv in last.kvs], last.more, last.count) == ([b"/k/4"], False, 4)
        none = await b.store.ask(Range(b"/k/", end, max_create_revision=-1))
        assert (none.kvs, none.count) == ((), 4)
        assert (await b.store.ask(Range(b"/k/", end, limit=-1, revision=-1))).kvs[-1].key == b"/k/4"
        with pytest.raises(FutureRevision):
            await b.store.ask(Range(b"/k/", end, revision=99))
        assert (await b.store.ask(Range(b"/z", serializable=True))).revision <= 8

    play(scenario)


def test_a_transaction_is_all_or_nothing_at_one_revision(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        create = Txn((Compare(b"a", "mod", "=", 0),), (Put(b"a", b"1"), Put(b"b", b"1")), (Range(b"a"),))
        made = await b.store.ask(create)
        assert (made.succeeded, made.revision) == (True, 2)
        again = await b.store.ask(create)
        assert (again.succeeded, again.revision) == (False, 2)
        found = again.responses[0]
        assert getattr(found, "kvs", None) == (KeyValue(b"a", b"1", 2, 2, 1),)
        with pytest.raises(DuplicateKey):
            await b.store.ask(Txn((), (Put(b"c", b""), Put(b"c", b""))))
        with pytest.raises(LeaseNotFound):
            await b.store.ask(Txn((), (Put(b"c", b""), Put(b"d", b"", lease=77))))
        with pytest.raises(TooManyOperations):
            await b.store.ask(Txn((), tuple(Put(b"k%d" % n, b"") for n in range(129))))
        await b.store.ask(Compact(2))
        with pytest.raises(Compacted):
            await b.store.ask(Txn((), (Put(b"c", b""), Range(b"a", revision=-1))))
        both = Txn((), (Put(b"x", b"1"), Range(b"x"), DeleteRange(b"a", b"c"), Range(b"a", b"z")))
        reply = await b.store.ask(both)
        assert reply.revision == 3
        assert [getattr(r, "count", None) for r in reply.responses] == [None, 1, None, 1]

    play(scenario)


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        (Compare(b"k", "value", "=", b"v"), True),
        (Compare(b"k", "value", "<", b"w"), True),
        (Compare(b"k", "version", ">", 1), True),
        (Compare(b"k", "create", "!=", 2), False),
        (Compare(b"k", "lease", "=", 0), True),
        (Compare(b"none", "version", "=", 0), True),
        (Compare(b"none", "value", "!=", b"v"), False),
        (Compare(b"k", "mod", ">", 2, range_end=b"m"), False),
    ],
)
def test_guards_of_a_transaction(compare: Compare, holds: bool) -> None:
    async def main(world: World) -> bool:
        async with bench(world, "memory") as b:
            await b.store.ask(Put(b"k", b"v"))
            await b.store.ask(Put(b"l", b"v"))
            await b.store.ask(Txn((), (Put(b"l", b"v"),)))
            await b.store.ask(DeleteRange(b"l"))
            await b.store.ask(Put(b"l", b"w"))
            await b.store.ask(Put(b"k", b"v"))
            if compare.range_end:
                await b.store.ask(DeleteRange(b"l"))
                await b.store.ask(Put(b"kk", b""))
                await b.store.ask(DeleteRange(b"k"))
                await b.store.ask(Txn((), (Put(b"k", b""),)))
                return (await b.store.ask(Txn((compare, Compare(b"kk", "mod", "<", 9))))).succeeded
            return (await b.store.ask(Txn((compare,)))).succeeded

    assert SimWorld(1).run(main) is holds


def test_compaction_forgets_the_past_and_nothing_else(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        await b.store.ask(Put(b"a", b"1"))
        await b.store.ask(Put(b"a", b"2"))
        await b.store.ask(Put(b"b", b"1"))
        await b.store.ask(DeleteRange(b"b"))
        await b.store.ask(Compact(4))
        with pytest.raises(Compacted) as refused:
            await b.store.ask(Range(b"a", revision=3))
        assert refused.value.compact_revision == 4
        assert (await b.store.ask(Range(b"b", revision=4))).count == 1
        assert (await b.store.ask(Range(b"a"))).kvs[0].version == 2
        with pytest.raises(Compacted):
            await b.store.ask(Compact(4))
        with pytest.raises(FutureRevision):
            await b.store.ask(Compact(6))

    play(scenario)


def test_what_is_too_large_is_refused(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        with pytest.raises(RequestTooLarge):
            await b.store.ask(Put(b"k", b"x" * 2_000_000))
        assert (await b.store.ask(Range(b"k"))).count == 0

    play(scenario)
