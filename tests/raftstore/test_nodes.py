"""A group whose members are nodes of their own, each on its host: any of them serves everything."""

from contextlib import suppress

import pytest

from tests.raftstore.nodes import Bench, seen, simulate
from understudy.actors import AskTimeout
from understudy.raftstore import mvcc
from understudy.raftstore.membership import (
    LocateLeader,
    StartMember,
    StopMember,
)
from understudy.raftstore.options import GroupOptions, MemberOptions, RaftOptions, StoreOptions
from understudy.raftstore.ready import PersistentState
from understudy.raftstore.storage import (
    ALL_KEYS_END,
    AsUser,
    AuthDisable,
    AuthEnable,
    Authenticate,
    AuthError,
    Compact,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseTimeToLive,
    Put,
    Range,
    Status,
    Unavailable,
    UserAdd,
    UserGrantRole,
    Watch,
)
from understudy.raftstore.storage.cluster import (
    MembershipError,
    MoveLeader,
)


def test_a_write_through_one_node_is_read_at_every_other_at_once() -> None:
    """Linearizable: the reader's node asks the leader from when on it may read (thesis §6.4)."""

    async def scenario(b: Bench) -> None:
        for number in range(12):
            await b.write(1 + number % 3, number)
            for store in b.stores.values():
                reply = await store.ask(Range(b"/n/%06d" % number))
                assert [kv.value for kv in reply.kvs] == [b"x"]

    simulate(scenario)


def test_status_is_the_node_s_own() -> None:
    async def scenario(b: Bench) -> None:
        await b.write(1, 1)
        leader = await b.leader()
        for member, store in b.stores.items():
            status = await store.ask(Status())
            assert (status.member, status.leader, status.is_learner) == (member, leader, False)

    simulate(scenario)


def test_a_follower_watches_for_its_clients_whatever_becomes_of_the_leader() -> None:
    async def scenario(b: Bench) -> None:
        follower = await b.follower()
        reader = await b.watch(follower, Watch(b"\0", ALL_KEYS_END))
        for number in range(30):
            if number == 10:
                await b.stores[await b.leader()].ask(StopMember(await b.leader()))
            await b.write(follower, number)
        assert await seen(b, reader, 30) == list(range(2, 32))
        for member, store in b.stores.items():
            await store.ask(StartMember(member))

    simulate(scenario)


def test_leases_are_kept_alive_through_followers() -> None:
    async def scenario(b: Bench) -> None:
        store = b.stores[await b.follower()]
        lease = (await store.ask(LeaseGrant(ttl_s=5))).id
        await store.ask(Put(b"k", b"", lease=lease))
        for _ in range(6):
            await b.world.sleep(2.0)
            assert (await store.ask(LeaseKeepAlive(lease))).ttl_s == 5
        assert (await store.ask(LeaseTimeToLive(lease))).ttl_s >= 4
        await b.world.sleep(7.0)
        assert (await store.ask(Range(b"k"))).count == 0

    simulate(scenario)


def test_a_token_that_is_used_at_a_follower_stays_good() -> None:
    """The leader, which ends tokens, counts their uses."""
    store_options = StoreOptions(token_ttl_s=3.0, bcrypt_cost=4)
    options = GroupOptions(member=MemberOptions(store=store_options))

    async def scenario(b: Bench) -> None:
        store = b.stores[await b.follower()]
        await store.ask(UserAdd("root", "secret"))
        await store.ask(UserGrantRole("root", "root"))
        await store.ask(AuthEnable())
        token = (await store.ask(Authenticate("root", "secret"))).token
        for _ in range(8):
            await b.world.sleep(1.0)
            await store.ask(AsUser(Range(b"k"), token))
        await b.world.sleep(6.0)
        with pytest.raises(AuthError, match="invalid auth token"):
            await store.ask(AsUser(Range(b"k"), token))
        token = (await store.ask(Authenticate("root", "secret"))).token
        await store.ask(AsUser(AuthDisable(), token))

    simulate(scenario, options=options)


def test_a_node_that_is_cut_off_promises_nothing() -> None:
    async def scenario(b: Bench) -> None:
        await b.write(1, 1)
        leader = await b.leader()
        rest = [f"etcd-{member}" for member in b.stores if member != leader]
        b.world.network.partition([f"etcd-{leader}"], rest)
        await b.world.sleep(2.0)
        await b.write(await b.leader(), 2)
        cut_off = b.stores[leader]
        with pytest.raises(Unavailable):
            await cut_off.ask(Range(b"/n/", b"/n0"), 6.0)
        with pytest.raises(Unavailable):
            await cut_off.ask(Put(b"x", b""), 6.0)
        assert (await cut_off.ask(Range(b"/n/", b"/n0", serializable=True))).count == 1
        b.world.network.heal()
        await b.world.sleep(1.0)
        assert (await cut_off.ask(Range(b"/n/", b"/n0"))).count == 2

    simulate(scenario)


def test_a_leader_is_elected_though_clocks_have_become_slower_than_timers_were_set_by() -> None:
    async def scenario(b: Bench) -> None:
        await b.write(1, 1)
        leader = await b.leader()
        rest = [member for member in b.stores if member != leader]
        for member in rest:
            b.world.host(f"etcd-{member}").set_drift(-0.8)
        b.world.network.partition([f"etcd-{leader}"], [f"etcd-{member}" for member in rest])
        # Nobody asks them anything meanwhile: that would wake them.
        await b.world.sleep(20.0)
        assert {b.member(member).raft.leader for member in rest} <= {*rest}

    simulate(scenario)


def test_a_request_has_its_time_by_the_clock_of_its_node() -> None:
    async def scenario(b: Bench) -> None:
        for member in b.stores:
            b.world.host(f"etcd-{member}").set_drift(-0.5)
        await b.world.sleep(20.0)
        hosts = [f"etcd-{member}" for member in b.stores]
        b.world.network.partition(*([host] for host in hosts))
        b.world.call_later(6.0, b.world.network.heal, "the network is mended")
        asked_s = b.world.monotonic()
        await b.stores[1].ask(Put(b"x", b""), 30.0)
        assert b.world.monotonic() > asked_s + 6.0

    simulate(scenario)


def test_a_large_compaction_comes_to_its_end_without_writes_and_after_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mvcc, "PRUNED_AT_ONCE", 10)
    monkeypatch.setattr(mvcc, "PRUNED_EACH_TIME", 1)

    async def scenario(b: Bench) -> None:
        for number in range(100):
            await b.stores[1].ask(Put(b"k%02d" % (number % 50), b"v"))
        await b.stores[1].ask(Compact(101))
        await b.world.sleep(1.0)
        for store in b.stores.values():
            assert (await store.ask(Status())).size_bytes == 50 * len(b"k00" + b"v")
        # What is applied again when it starts is compacted again.
        await b.system.stop(b.stores[2])
        b.start(2, PersistentState.joining())
        await b.world.sleep(1.0)
        assert (await b.stores[2].ask(Status())).size_bytes == 50 * len(b"k00" + b"v")

    simulate(scenario)


def test_leadership_is_moved_on_request() -> None:
    async def scenario(b: Bench) -> None:
        for via in (1, 2, 3):
            for target in (1, 2, 3):
                assert (await b.stores[via].ask(MoveLeader(target))).leader == target
                await b.write(via, 10 * via + target)
                assert await b.leader() == target
        with pytest.raises(MembershipError, match="bad leader transferee"):
            await b.stores[1].ask(MoveLeader(9))
        assert await b.stores[1].ask(LocateLeader()) == 3

    simulate(scenario)


def test_a_hand_over_under_way_is_taken_back_by_moving_to_the_leader() -> None:
    """Until then, or until an election timeout has passed, nothing is proposed (thesis §3.10)."""

    async def scenario(b: Bench) -> None:
        leader = await b.leader()
        target = await b.follower()
        third = ({1, 2, 3} - {leader, target}).pop()
        b.world.network.partition([f"etcd-{target}"], [f"etcd-{leader}", f"etcd-{third}"])
        await b.write(leader, 1)
        with pytest.raises(AskTimeout):
            await b.stores[leader].ask(MoveLeader(target), 0.01)
        with pytest.raises(AskTimeout):
            await b.stores[leader].ask(Put(b"x", b""), 0.05)
        await b.stores[leader].ask(MoveLeader(leader))
        asked_s = b.world.monotonic()
        await b.write(leader, 2)
        assert b.world.monotonic() < asked_s + 0.1
        assert await b.leader() == leader

    simulate(scenario)


@pytest.mark.parametrize(("drift", "stale"), [(1.0, True), (4.0, False)])
def test_lease_reads_are_as_good_as_the_bound_on_the_clocks(drift: float, stale: bool) -> None:
    """A leader's clock goes at less than a third of the others' speed. With a bound that says so its reads
    are not stale; with one that denies it they can be (thesis §6.4.1)."""
    options = GroupOptions(
        member=MemberOptions(raft=RaftOptions(lease_read_clock_drift=drift)), request_timeout_seconds=1.0
    )

    async def scenario(b: Bench) -> None:
        await b.stores[1].ask(MoveLeader(1))
        b.world.host("etcd-1").set_drift(-0.7)
        await b.world.sleep(3.0)
        if await b.leader() != 1:
            await b.stores[1].ask(MoveLeader(1))
        await b.write(1, 1)
        b.world.network.partition(["etcd-1"], ["etcd-2", "etcd-3"])
        await b.world.sleep(0.85)
        await b.write(2, 2)
        count = 2
        with suppress(Unavailable):
            count = (await b.stores[1].ask(Range(b"/n/", b"/n0"), 10.0)).count
        assert (count == 1) is stale
        b.world.host("etcd-1").set_drift(0.0)
        b.world.network.heal()
        await b.world.sleep(2.0)

    simulate(scenario, options=options, seed=0)
