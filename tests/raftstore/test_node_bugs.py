"""Known bugs of others that take whole nodes to show."""

import pytest

from tests.raftstore.nodes import Bench, seen, simulate
from understudy.raftstore.options import GroupOptions, MemberOptions
from understudy.raftstore.ready import Role
from understudy.raftstore.storage import (
    Compact,
    Compacted,
    LeaseGrant,
    LeaseKeepAlive,
    Put,
    Range,
    Watch,
)


def test_etcd_8411_a_watch_at_a_follower_goes_on_after_its_state_was_replaced() -> None:
    """It went silent when the state that it looked at was exchanged for a snapshot."""
    options = GroupOptions(member=MemberOptions(snapshot_entries=20, keep_entries=5))

    async def scenario(b: Bench) -> None:
        leader = await b.leader()
        follower = await b.follower()
        reader = await b.watch(follower, Watch(b"/n/", b"/n0"))
        await b.write(leader, 0)
        rest = [f"etcd-{member}" for member in b.stores if member != follower]
        b.world.network.partition([f"etcd-{follower}"], rest)
        await b.world.sleep(2.0)  # The leader keeps its log for who was heard of late.
        for number in range(1, 100):
            await b.write(leader, number)
        b.world.network.heal()
        await b.world.sleep(3.0)
        assert b.member(follower).raft.log.floor_index > 20
        await b.write(leader, 100)
        assert await seen(b, reader, 101) == list(range(2, 103))

    simulate(scenario, options=options)


def test_etcd_8411_a_watch_at_a_follower_is_told_what_its_new_state_has_no_more() -> None:
    """What it had still to see was compacted meanwhile: it says so, and from where it can go on."""
    options = GroupOptions(member=MemberOptions(snapshot_entries=20, keep_entries=5))

    async def scenario(b: Bench) -> None:
        leader = await b.leader()
        follower = await b.follower()
        reader = await b.watch(follower, Watch(b"/n/", b"/n0"))
        await b.write(leader, 0)
        assert await seen(b, reader, 1) == [2]
        rest = [f"etcd-{member}" for member in b.stores if member != follower]
        b.world.network.partition([f"etcd-{follower}"], rest)
        await b.world.sleep(2.0)  # The leader keeps its log for who was heard of late.
        for number in range(1, 100):
            await b.write(leader, number)
        await b.stores[leader].ask(Compact(90))
        for number in range(100, 150):
            await b.write(leader, number)  # So that the compaction is in the snapshot.
        b.world.network.heal()
        came: list[int] = []
        with b.world.deadline(20.0), pytest.raises(Compacted) as told:
            while True:  # Some may have been on their way to the follower all the time.
                came.extend(event.kv.mod_revision for event in (await reader.receive()).events)
        assert told.value.compact_revision == 90
        assert came == list(range(3, len(came) + 3)) and len(came) < 80
        again = await b.watch(follower, Watch(b"/n/", b"/n0", start_revision=90))
        assert await seen(b, again, 62) == list(range(90, 152))

    simulate(scenario, options=options)


def test_etcd_15247_a_leader_that_was_stuck_ends_no_lease() -> None:
    """Deposed without knowing it, it found all leases over. Leases end through the log alone."""

    async def scenario(b: Bench) -> None:
        leader = await b.leader()
        store = b.stores[await b.follower()]
        lease = (await store.ask(LeaseGrant(ttl_s=5))).id
        await store.ask(Put(b"k", b"", lease=lease))
        rest = [f"etcd-{member}" for member in b.stores if member != leader]
        b.world.network.partition([f"etcd-{leader}"], rest)
        b.world.host(f"etcd-{leader}").pause()
        await b.world.sleep(2.0)
        for _ in range(8):
            assert (await store.ask(LeaseKeepAlive(lease))).id == lease
            await b.world.sleep(1.0)
        # It wakes up, hears of nobody yet, and its clock says that the lease is long over.
        b.world.host(f"etcd-{leader}").resume()
        await b.world.sleep(0.3)
        assert b.member(leader).raft.role is Role.LEADER
        assert (await b.stores[leader].ask(Range(b"k", serializable=True))).count == 1
        b.world.network.heal()
        for _ in range(5):
            await b.world.sleep(0.5)
            assert (await store.ask(Range(b"k"))).count == 1
            await store.ask(LeaseKeepAlive(lease))

    simulate(scenario)
