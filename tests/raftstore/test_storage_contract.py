"""What every store promises behind the Storage contract, in the real and in the simulated world."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import pytest
import trio
from attrs import define

from understudy.actors import Actor, ActorSystem, ChannelReader, RealWorld, Ref, Shuffled, SimWorld, World
from understudy.raftstore import mvcc
from understudy.raftstore import watch as watch_hub
from understudy.raftstore.founding import LocalPeers, Seat, VolatileLogs, founding_state
from understudy.raftstore.group import Group, raft_group, raft_node
from understudy.raftstore.memory import memory_store
from understudy.raftstore.options import GroupOptions, MemberOptions, StoreOptions
from understudy.raftstore.storage import (
    ALL_KEYS_END,
    Alarm,
    AlarmMember,
    AsUser,
    AuthDisable,
    AuthEnable,
    Authenticate,
    AuthError,
    AuthStatus,
    Compact,
    Compacted,
    Compare,
    Corrupt,
    DeleteRange,
    DuplicateKey,
    EmptyKey,
    Event,
    FutureRevision,
    Hash,
    HashKV,
    KeyNotFound,
    KeyValue,
    LeaseExists,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseList,
    LeaseNotFound,
    LeaseRevoke,
    LeaseTimeToLive,
    NoSpace,
    OpenSnapshot,
    OpenWatch,
    Permission,
    Put,
    Range,
    RequestProgress,
    RequestTooLarge,
    RoleAdd,
    RoleGrantPermission,
    Status,
    Storage,
    TooManyOperations,
    Txn,
    UserAdd,
    UserChangePassword,
    UserGet,
    UserGrantRole,
    UserList,
    Watch,
    WatchBatch,
    prefix_end,
)
from understudy.raftstore.storage.cluster import (
    ClusterMember,
    MemberList,
    MemberRemove,
    MembershipError,
    MoveLeader,
)


@define
class Bench:
    """One store, and what a test needs around it."""

    world: World
    system: ActorSystem
    store: Ref[Storage]

    async def watch(self, watch: Watch, capacity: int = 64) -> ChannelReader[WatchBatch]:
        writer, reader = self.system.own_channel("test watch", capacity)
        await self.store.ask(OpenWatch(watch, writer))
        return reader

    async def events(self, reader: ChannelReader[WatchBatch], count: int) -> list[Event]:
        found: list[Event] = []
        with self.world.deadline(5.0):
            while len(found) < count:
                found.extend((await reader.receive()).events)
        return found


QUICK = StoreOptions(bcrypt_cost=4)
GROUP = GroupOptions(member=MemberOptions(store=QUICK))
STORES: dict[str, Callable[[], Callable[[], Actor[Storage]]]] = {
    "memory": lambda: memory_store(options=QUICK),
    "raft": lambda: raft_group(GROUP),
    "raft on three hosts": lambda: raft_group(GROUP, hosts=("etcd-1", "etcd-2", "etcd-3")),
    "raft, at a follower": lambda: FollowerOfThree,
}


class FollowerOfThree(Group):
    """The third of three nodes, which does not lead, and has started the other two."""

    def __init__(self) -> None:
        founders = [ClusterMember(each, f"node-{each}", (f"actor:{each}",)) for each in (1, 2, 3)]
        state, peers, logs = founding_state(founders, QUICK), LocalPeers(), VolatileLogs()
        super().__init__([Seat(3, logs.log, "", state)], peers, GROUP)
        self.others = {each: raft_node(each, peers, logs.log, state, options=GROUP) for each in (1, 2)}

    async def on_start(self) -> None:
        for each, factory in self.others.items():
            self.context.spawn(factory, f"node-{each}")
        await super().on_start()


Scenario = Callable[[Bench], Awaitable[None]]


@asynccontextmanager
async def bench(world: World, store: str) -> AsyncIterator[Bench]:
    async with ActorSystem.open(world) as system:
        yield Bench(world, system, system.spawn(STORES[store](), "etcd"))


@pytest.fixture(params=["real", "simulated", "shuffled"])
def world_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=sorted(STORES))
def play(request: pytest.FixtureRequest, world_kind: str) -> Callable[[Scenario], None]:
    """Runs a scenario against one store in one world."""
    store = str(request.param)

    def run(scenario: Scenario) -> None:
        async def main(world: World) -> None:
            async with bench(world, store) as b:
                await scenario(b)

        async def real() -> None:
            async with RealWorld.open(seed=1) as world:
                await main(world)

        if world_kind == "real":
            trio.run(real)
        else:
            SimWorld(1, Shuffled(7) if world_kind == "shuffled" else None, turns_max=200_000).run(main)

    return run


Play = Callable[[Scenario], None]


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


def test_leases_take_their_keys_with_them(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        lease = (await b.store.ask(LeaseGrant(ttl_s=60))).id
        assert (await b.store.ask(LeaseGrant(ttl_s=60, id=500))).id == 500
        with pytest.raises(LeaseExists):
            await b.store.ask(LeaseGrant(ttl_s=60, id=500))
        await b.store.ask(Put(b"a", b"", lease=lease))
        await b.store.ask(Put(b"b", b"", lease=lease))
        await b.store.ask(Put(b"c", b"", lease=lease))
        await b.store.ask(Put(b"c", b""))
        await b.store.ask(Put(b"b", b"x", ignore_lease=True))
        left = await b.store.ask(LeaseTimeToLive(lease, keys=True))
        assert sorted(left.keys) == [b"a", b"b"] and 55 < left.ttl_s <= 60
        assert (await b.store.ask(LeaseList())).ids == tuple(sorted((lease, 500)))
        before = (await b.store.ask(Range(b"a"))).revision
        assert (await b.store.ask(LeaseRevoke(lease))).revision == before + 1
        assert [kv.key for kv in (await b.store.ask(Range(b"\0", ALL_KEYS_END))).kvs] == [b"c"]
        late: tuple[Any, ...] = (LeaseRevoke(lease), LeaseKeepAlive(lease), LeaseTimeToLive(lease))
        for request in late:
            with pytest.raises(LeaseNotFound):
                await b.store.ask(request)
        with pytest.raises(KeyNotFound):
            await b.store.ask(Put(b"none", b"", ignore_lease=True))

    play(scenario)


def test_what_is_too_large_is_refused(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        with pytest.raises(RequestTooLarge):
            await b.store.ask(Put(b"k", b"x" * 2_000_000))
        assert (await b.store.ask(Range(b"k"))).count == 0

    play(scenario)


def test_status_and_hash(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        await b.store.ask(Put(b"k", b"v"))
        status = await b.store.ask(Status())
        assert status.leader
        one = await b.store.ask(HashKV())
        await b.store.ask(Put(b"k", b"w"))
        assert (await b.store.ask(HashKV(revision=2))).hash == one.hash
        assert (await b.store.ask(HashKV())).hash != one.hash

    play(scenario)


def test_a_password_that_bcrypt_would_cut_is_refused(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        await b.store.ask(UserAdd("eve", "x" * 72))
        with pytest.raises(AuthError, match="password too long"):
            await b.store.ask(UserAdd("adam", "x" * 73))

    play(scenario)


def test_what_is_no_hash_never_becomes_one(play: Play) -> None:
    """Whoever may add users must not get anything to where only hashes are looked for."""

    async def scenario(b: Bench) -> None:
        await b.store.ask(UserAdd("root", "secret"))
        await b.store.ask(UserAdd("eve", "pw", hashed_password="garbage"))
        await b.store.ask(UserAdd("nobody", no_password=True))
        await b.store.ask(UserGrantRole("root", "root"))
        await b.store.ask(AuthEnable())
        with pytest.raises(AuthError, match="authentication failed"):
            await b.store.ask(Authenticate("eve", "garbage"))
        with pytest.raises(AuthError, match="user has no password"):
            await b.store.ask(Authenticate("nobody", ""))
        root = (await b.store.ask(Authenticate("root", "secret"))).token
        await b.store.ask(AsUser(UserChangePassword("eve", "new", hashed_password="garbage"), root))
        assert (await b.store.ask(Authenticate("eve", "new"))).token

    play(scenario)


def test_its_version_is_one_that_an_api_server_trusts(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        version = (await b.store.ask(Status())).version
        assert tuple(map(int, version.split("."))) >= (3, 5, 13)

    play(scenario)


def test_whoever_a_front_has_seen_the_certificate_of_needs_no_token(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        await b.store.ask(UserAdd("root", "secret"))
        await b.store.ask(UserGrantRole("root", "root"))
        await b.store.ask(AuthEnable())
        assert (await b.store.ask(AsUser(Put(b"k", b"v"), user="root"))).revision == 2
        assert (await b.store.ask(AsUser(AuthStatus(), user="root"))).enabled is True
        with pytest.raises(AuthError, match="permission denied"):
            await b.store.ask(AsUser(Put(b"k", b"v"), user="nobody"))

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


def test_users_may_do_what_their_roles_say(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        ask = b.store.ask
        with pytest.raises(AuthError, match="root user does not exist"):
            await ask(AuthEnable())
        with pytest.raises(AuthError, match="auth not enabled"):
            await ask(Authenticate("root", "secret"))
        await ask(UserAdd("root", "secret"))
        await ask(UserGrantRole("root", "root"))
        await ask(UserAdd("ada", "pass"))
        await ask(RoleAdd("reader"))
        await ask(RoleGrantPermission("reader", Permission("read", b"/a/", prefix_end(b"/a/"))))
        await ask(UserGrantRole("ada", "reader"))
        await ask(Put(b"/a/1", b"x"))
        await ask(AuthEnable())
        with pytest.raises(AuthError, match="user name is empty"):
            await ask(Range(b"/a/1"))
        with pytest.raises(AuthError, match="authentication failed"):
            await ask(Authenticate("ada", "wrong"))
        ada = (await ask(Authenticate("ada", "pass"))).token
        root = (await ask(Authenticate("root", "secret"))).token
        assert (await ask(AsUser(Range(b"/a/1"), ada))).count == 1
        assert (await ask(AsUser(Range(b"/a/1", serializable=True), ada))).count == 1
        for refused in (Put(b"/a/1", b""), Range(b"/b"), UserList(), HashKV(), Txn((), (Put(b"/a/1", b""),))):
            with pytest.raises(AuthError, match="permission denied"):
                await ask(AsUser(refused, ada))
        with pytest.raises(AuthError, match="invalid auth token"):
            await ask(AsUser(Range(b"/a/1"), "nonsense"))
        assert (await ask(AsUser(UserGet("ada"), ada))).roles == ("reader",)
        assert (await ask(AsUser(UserList(), root))).users == ("ada", "root")
        assert (await ask(AsUser(Put(b"/b", b"y"), root))).revision == 3
        await ask(AsUser(RoleGrantPermission("reader", Permission("readwrite", b"/b")), root))
        assert (await ask(AsUser(Put(b"/b", b"z"), ada))).revision == 4
        await ask(AsUser(UserChangePassword("ada", "new"), root))
        with pytest.raises(AuthError, match="invalid auth token"):
            await ask(AsUser(Range(b"/b"), ada))
        with pytest.raises(AuthError, match="authentication failed"):
            await ask(Authenticate("ada", "pass"))
        assert (await ask(Authenticate("ada", "new"))).token not in (ada, root)
        await ask(AsUser(AuthDisable(), root))
        assert (await ask(Range(b"/b"))).kvs[0].value == b"z"

    play(scenario)


def test_a_watch_needs_a_permission_when_it_is_opened(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        setup: tuple[Any, ...] = (UserAdd("root", "r"), UserGrantRole("root", "root"), AuthEnable())
        for request in setup:
            await b.store.ask(request)
        with pytest.raises(AuthError, match="user name is empty"):
            await b.watch(Watch(b"k"))
        token = (await b.store.ask(Authenticate("root", "r"))).token
        writer, reader = b.system.own_channel("test watch", 8)
        await b.store.ask(AsUser(OpenWatch(Watch(b"k"), writer), token))
        await b.store.ask(AsUser(Put(b"k", b""), token))
        assert [e.kv.key for e in await b.events(reader, 1)] == [b"k"]

    play(scenario)


def test_alarms_are_raised_and_taken_back(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        await b.store.ask(Put(b"k", b""))
        no_space = AlarmMember(7, "nospace")
        assert (await b.store.ask(Alarm())).alarms == ()
        assert (await b.store.ask(Alarm("activate", 7, "nospace"))).alarms == (no_space,)
        assert (await b.store.ask(Alarm("activate", 7, "nospace"))).alarms == (no_space,)
        assert (await b.store.ask(Alarm("get", alarm="corrupt"))).alarms == ()
        assert (await b.store.ask(Alarm())).alarms == (no_space,)
        full: tuple[Any, ...] = (Put(b"k", b""), Txn((), (), (Put(b"k", b""),)), LeaseGrant(60))
        for refused in full:
            with pytest.raises(NoSpace):
                await b.store.ask(refused)
        assert (await b.store.ask(Txn((), (Range(b"k"),)))).succeeded
        assert (await b.store.ask(DeleteRange(b"k"))).deleted == 1
        assert any("NOSPACE" in error for error in (await b.store.ask(Status())).errors)
        assert (await b.store.ask(Alarm("deactivate", 7, "nospace"))).alarms == (no_space,)
        assert (await b.store.ask(Alarm("deactivate", 7, "nospace"))).alarms == ()
        await b.store.ask(Put(b"k", b""))
        await b.store.ask(LeaseGrant(60, id=5))
        await b.store.ask(Alarm("activate", 1, "corrupt"))
        changes: tuple[Any, ...] = (
            *(Put(b"k", b""), DeleteRange(b"k"), Compact(2), LeaseGrant(60), LeaseRevoke(5)),
            *(Txn((), (DeleteRange(b"k"),)), Txn((), (), (Put(b"k", b""),)), Txn((), (Txn(),))),
        )
        for refused in changes:
            with pytest.raises(Corrupt):
                await b.store.ask(refused)
        assert (await b.store.ask(Range(b"k"))).count == 1
        assert (await b.store.ask(Txn((), (Range(b"k"),)))).succeeded
        assert (await b.store.ask(LeaseKeepAlive(5))).ttl_s == 60
        await b.store.ask(UserAdd("ada", "pw"))

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


SMALL = StoreOptions(quota_bytes=5_000, bcrypt_cost=4)


@pytest.mark.parametrize(
    "factory",
    [
        lambda: memory_store(options=SMALL),
        lambda: raft_group(GroupOptions(member=MemberOptions(store=SMALL))),
    ],
    ids=["memory", "raft"],
)
def test_a_store_that_is_full_takes_writes_again_when_room_was_made(
    factory: Callable[[], Callable[[], Actor[Storage]]],
) -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            ask = system.spawn(factory(), "etcd").ask
            written = 0
            with pytest.raises(NoSpace):
                for _ in range(100):
                    written = (await ask(Put(b"k", b"x" * 500))).revision
            assert 5 < written < 15
            assert [alarm.alarm for alarm in (await ask(Alarm())).alarms] == ["nospace"]
            await ask(Compact(written))
            status = await ask(Status())
            assert status.size_bytes < 1_000 and status.quota_bytes == 5_000
            with pytest.raises(NoSpace):
                await ask(Put(b"k", b""))
            await ask(Alarm("deactivate", status.member, "nospace"))
            assert (await ask(Put(b"k", b""))).revision == written + 1

    SimWorld(1, turns_max=200_000).run(main)


def test_a_short_lease_lasts_two_seconds_and_a_physical_compaction_is_one(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that both take several steps.
    monkeypatch.setattr(mvcc, "PRUNED_AT_ONCE", 1)
    monkeypatch.setattr(mvcc, "HASHED_AT_ONCE", 1)

    async def scenario(b: Bench) -> None:
        assert (await b.store.ask(LeaseGrant(1))).ttl_s == 2
        for _ in range(3):
            await b.store.ask(Put(b"k", b"1234567"))
        before = (await b.store.ask(Status())).size_bytes
        hashed = await b.store.ask(Hash())
        await b.store.ask(Compact(4, physical=True))
        assert (await b.store.ask(Status())).size_bytes == before // 3
        assert (await b.store.ask(Hash())).hash != hashed.hash
        assert (await b.store.ask(HashKV())).compact_revision == 4

    play(scenario)


@pytest.mark.parametrize("store", sorted(STORES))
def test_watches_whose_readers_are_gone_do_not_pile_up(store: str) -> None:
    async def main(world: World) -> None:
        async with bench(world, store) as b:
            for number in range(200):
                (await b.watch(Watch(b"quiet %d" % number))).cancel()
            assert sum(status.tasks for status in b.system.statistics()) < 100

    SimWorld(1, turns_max=200_000).run(main)


@pytest.mark.parametrize("store", sorted(STORES))
def test_leases_end_when_nobody_keeps_them_alive(store: str) -> None:
    async def main(world: World) -> None:
        async with bench(world, store) as b:
            lease = (await b.store.ask(LeaseGrant(ttl_s=5))).id
            await b.store.ask(Put(b"k", b"", lease=lease))
            for _ in range(4):
                await world.sleep(4.0)
                await b.store.ask(LeaseKeepAlive(lease))
            assert (await b.store.ask(Range(b"k"))).count == 1
            await world.sleep(4.5)
            assert (await b.store.ask(Range(b"k"))).count == 1
            await world.sleep(1.0)
            gone = await b.store.ask(Range(b"k"))
            assert (gone.count, gone.revision) == (0, 3)

    SimWorld(1, turns_max=200_000).run(main)


def test_a_store_says_who_keeps_it_and_who_leads(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        await b.store.ask(Put(b"k", b""))
        status = await b.store.ask(Status())
        for linearizable in (True, False):
            members = (await b.store.ask(MemberList(linearizable))).members
            assert status.member in {member.id for member in members}
            assert status.leader in {member.id for member in members}
        assert (await b.store.ask(MoveLeader(status.leader))).leader == status.leader
        with pytest.raises(MembershipError, match="bad leader transferee"):
            await b.store.ask(MoveLeader(9))
        with pytest.raises(MembershipError, match="member not found"):
            await b.store.ask(MemberRemove(9))

    play(scenario)


async def saved(b: Bench, token: str = "") -> bytes:
    """The file that a store's snapshot makes."""
    writer, reader = b.system.own_channel("test snapshot", 4)
    request = OpenSnapshot(writer)
    await b.store.ask(AsUser(request, token) if token else request)
    parts = [part async for part in reader]
    data = b"".join(part.data for part in parts)
    sent = 0
    for part in parts:
        sent += len(part.data)
        assert part.remaining_bytes >= 0
    assert parts[-1].remaining_bytes == 0 and sent == len(data)
    return data


def test_a_snapshot_is_a_whole_file_with_a_checksum(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        for number in range(40):
            await b.store.ask(Put(b"key %d" % number, b"x" * 10_000))
        # One reader that goes early costs the other nothing.
        writer, gone = b.system.own_channel("test snapshot", 1)
        await b.store.ask(OpenSnapshot(writer))
        await gone.receive()
        gone.cancel()
        data = await saved(b)
        assert len(data) % 512 == 32 and len(data) > 400_000
        assert sha256(data[:-32]).digest() == data[-32:]

    play(scenario)


def test_a_snapshot_is_roots_alone(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        setup: tuple[Any, ...] = (UserAdd("root", "r"), UserGrantRole("root", "root"), UserAdd("ada", "a"))
        for request in (*setup, AuthEnable()):
            await b.store.ask(request)
        with pytest.raises(AuthError, match="user name is empty"):
            await saved(b)
        with pytest.raises(AuthError, match="permission denied"):
            await saved(b, (await b.store.ask(Authenticate("ada", "a"))).token)
        assert await saved(b, (await b.store.ask(Authenticate("root", "r"))).token)

    play(scenario)
