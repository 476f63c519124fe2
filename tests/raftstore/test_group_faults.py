"""The Raft group when members stop, stall and come back."""

from collections.abc import Awaitable, Callable

import pytest
from attrs import define, field

from understudy.actors import ActorSystem, Deviations, Ref, Shuffled, SimWorld
from understudy.raftstore.group import raft_group
from understudy.raftstore.membership import LocateLeader, StartMember, StopMember
from understudy.raftstore.options import GroupOptions, MemberOptions, StoreOptions
from understudy.raftstore.storage import (
    ALL_KEYS_END,
    AsUser,
    AuthEnable,
    Authenticate,
    AuthError,
    Compact,
    Compare,
    HashKV,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseList,
    LeaseTimeToLive,
    OpenWatch,
    Put,
    Range,
    Status,
    Storage,
    Txn,
    Unavailable,
    UserAdd,
    UserGrantRole,
    Watch,
)
from understudy.raftstore.storage.cluster import (
    MemberAdd,
    MemberList,
    MemberPromote,
    MemberRemove,
    MembershipError,
)

HOSTS = ("etcd-1", "etcd-2", "etcd-3")


@define
class Bench:
    world: SimWorld
    system: ActorSystem
    store: Ref[Storage]
    acknowledged: list[bytes] = field(factory=list)

    async def leader(self) -> int:
        with self.world.deadline(5.0):
            while not (leader := await self.store.ask(LocateLeader())):
                await self.world.sleep(0.01)
        return leader

    async def write(self, number: int) -> None:
        key = b"/n/%06d" % number
        reply = await self.store.ask(Txn((Compare(key, "mod", "=", 0),), (Put(key, b"x"),)))
        assert reply.succeeded, f"write {number} was done twice"
        self.acknowledged.append(key)

    async def check(self) -> None:
        """Every acknowledged write is there once, and the members agree."""
        reply = await self.store.ask(Range(b"/n/", b"/n0"))
        keys = [kv.key for kv in reply.kvs]
        assert set(self.acknowledged) <= set(keys)
        assert all(kv.version == 1 for kv in reply.kvs)


def simulate(
    scenario: Callable[[Bench], Awaitable[None]],
    *,
    seed: int = 1,
    schedule: Shuffled | Deviations | None = None,
    options: GroupOptions | None = None,
    hosts: tuple[str, ...] | None = HOSTS,
) -> str:
    async def main(world: SimWorld) -> None:
        async with ActorSystem.open(world) as system:
            b = Bench(world, system, system.spawn(raft_group(options, hosts), "etcd"))
            await scenario(b)
            await b.check()

    world = SimWorld(seed, schedule, turns_max=2_000_000)
    world.run(main)
    return world.trace_hash()


def test_a_fresh_group_takes_writes_at_once() -> None:
    async def scenario(b: Bench) -> None:
        await b.write(1)
        assert b.world.monotonic() < 0.05

    simulate(scenario)


@pytest.mark.parametrize("seed", range(8))
def test_writes_go_on_within_a_second_of_the_leader_s_stop(seed: int) -> None:
    async def scenario(b: Bench) -> None:
        await b.write(1)
        number = 1
        for _ in range(3):
            leader = await b.leader()
            began = b.world.monotonic()
            await b.store.ask(StopMember(leader))
            number += 1
            await b.write(number)
            assert b.world.monotonic() - began < 1.0
            await b.store.ask(StartMember(leader))
            await b.world.sleep(1.0)

    simulate(scenario, seed=seed, schedule=Shuffled(seed))


def test_thousands_of_requests_wait_together_for_a_leader() -> None:
    """None holds up the news that somebody leads."""

    async def scenario(b: Bench) -> None:
        async def write(number: int) -> None:
            await b.world.sleep(number * 1e-5)
            await b.write(number)

        await b.store.ask(StopMember(await b.leader()))
        stopped_s = b.world.monotonic()
        async with b.world.nursery() as nursery:
            for number in range(3000):
                nursery.start_soon(write, number)
        assert b.world.monotonic() < stopped_s + 2.0
        assert len(b.acknowledged) == 3000

    simulate(scenario)


@pytest.mark.parametrize("seed", range(5))
def test_writes_under_way_when_the_leader_stops_are_done_once(seed: int) -> None:
    async def scenario(b: Bench) -> None:
        leader = await b.leader()
        async with b.world.nursery() as nursery:
            for number in range(40):
                nursery.start_soon(b.write, number)
                if number == 20:
                    nursery.start_soon(b.store.ask, StopMember(leader))
                await b.world.sleep(0.0001)
        assert len(b.acknowledged) == 40
        assert (await b.store.ask(Range(b"/n/", b"/n0"))).revision == 41

    simulate(scenario, seed=seed, schedule=Shuffled(seed))


def test_without_a_majority_writes_are_refused_and_go_on_when_one_returns() -> None:
    async def scenario(b: Bench) -> None:
        await b.write(1)
        await b.store.ask(StopMember(1))
        await b.store.ask(StopMember(2))
        for _ in range(2):
            with pytest.raises(Unavailable, match="1 of 3 members run, which is no majority"):
                await b.write(2)
            await b.world.sleep(1.0)
        assert (await b.store.ask(Range(b"/n/", b"/n0", serializable=True))).count == 1
        assert (await b.store.ask(Status())).revision == 2
        await b.store.ask(StartMember(1))
        await b.write(3)

    simulate(scenario)


def test_a_pause_of_everybody_elects_nobody() -> None:
    async def scenario(b: Bench) -> None:
        await b.write(1)
        leader, term = await b.leader(), (await b.store.ask(Status())).term
        for _ in range(20):
            # The loop stands still: time goes by and nothing runs.
            b.world._sim.clock.seconds += 0.25
            await b.world.sleep(0.37)
        assert (await b.leader(), (await b.store.ask(Status())).term) == (leader, term)

    simulate(scenario)


@pytest.mark.parametrize("seed", range(5))
def test_a_watch_survives_its_leader(seed: int) -> None:
    async def scenario(b: Bench) -> None:
        writer, reader = b.system.own_channel("test watch", 4)
        await b.store.ask(OpenWatch(Watch(b"\0", ALL_KEYS_END), writer))
        for number in range(30):
            if number % 10 == 5:
                leader = await b.leader()
                await b.store.ask(StopMember(leader))
                await b.write(number)
                await b.store.ask(StartMember(leader))
            else:
                await b.write(number)
        revisions: list[int] = []
        with b.world.deadline(5.0):
            while len(revisions) < 30:
                revisions.extend(event.kv.mod_revision for event in (await reader.receive()).events)
        assert revisions == list(range(2, 32))

    simulate(scenario, seed=seed, schedule=Shuffled(seed))


def test_a_member_that_was_away_long_catches_up_by_snapshot_and_the_log_stays_short() -> None:
    options = GroupOptions(member=MemberOptions(snapshot_entries=20, keep_entries=5))

    async def scenario(b: Bench) -> None:
        await b.write(0)
        away = 1 + (await b.leader()) % 3
        await b.store.ask(StopMember(away))
        for number in range(200):
            await b.store.ask(Put(b"k", b"%d" % number))
        await b.store.ask(Compact(50))
        await b.store.ask(StartMember(away))
        await b.world.sleep(3.0)
        hashes = []
        for member in (1, 2, 3):
            cell = b.system._cells[f"/etcd/member-{member}"]
            actor = cell.actor
            log = actor.raft.log  # type: ignore[union-attr]
            assert len(log.entries) <= 25 and log.floor_index > 150
            hashes.append(actor.machine.store.hash(HashKV()))  # type: ignore[union-attr]
        assert hashes[0] == hashes[1] == hashes[2]
        # The one that came back can lead.
        for member in {1, 2, 3} - {away}:
            if member != await b.leader():
                await b.store.ask(StopMember(member))
        await b.write(1000)

    simulate(scenario, options=options)


def test_a_lease_outlives_its_leader_and_ends_all_the_same() -> None:
    async def scenario(b: Bench) -> None:
        lease = (await b.store.ask(LeaseGrant(ttl_s=5))).id
        await b.store.ask(Put(b"k", b"", lease=lease))
        await b.world.sleep(4.0)
        await b.store.ask(StopMember(await b.leader()))
        await b.world.sleep(4.0)
        assert (await b.store.ask(Range(b"k"))).count == 1
        await b.world.sleep(3.0)
        assert (await b.store.ask(Range(b"k"))).count == 0

    simulate(scenario)


def test_a_lease_has_no_more_than_its_checkpoint_left_at_the_next_leader() -> None:
    options = GroupOptions(member=MemberOptions(store=StoreOptions(checkpoint_interval_s=10.0)))

    async def scenario(b: Bench) -> None:
        lease = (await b.store.ask(LeaseGrant(ttl_s=60))).id
        kept = (await b.store.ask(LeaseGrant(ttl_s=60))).id
        await b.world.sleep(45.0)
        assert (await b.store.ask(LeaseKeepAlive(kept))).ttl_s == 60
        await b.store.ask(StopMember(await b.leader()))
        assert (await b.store.ask(LeaseTimeToLive(lease))).ttl_s <= 20
        assert (await b.store.ask(LeaseTimeToLive(kept))).ttl_s >= 50
        await b.world.sleep(21.0)
        assert (await b.store.ask(LeaseList())).ids == (kept,)
        await b.world.sleep(60.0)
        assert (await b.store.ask(LeaseList())).ids == ()

    simulate(scenario, options=options)


def test_users_and_tokens_are_known_to_the_next_leader_and_tokens_end() -> None:
    options = GroupOptions(member=MemberOptions(store=StoreOptions(bcrypt_cost=4, token_ttl_s=30.0)))

    async def main(world: SimWorld) -> None:
        async with ActorSystem.open(world) as system:
            store: Ref[Storage] = system.spawn(raft_group(options, HOSTS), "etcd")
            for request in (UserAdd("root", "r"), UserGrantRole("root", "root"), AuthEnable()):
                await store.ask(request)
            token = (await store.ask(Authenticate("root", "r"))).token
            await store.ask(StopMember(await Bench(world, system, store).leader()))
            assert (await store.ask(AsUser(Put(b"k", b""), token))).revision == 2
            for _ in range(4):
                await world.sleep(20.0)
                await store.ask(AsUser(Range(b"k"), token))
            await world.sleep(35.0)
            with pytest.raises(AuthError, match="invalid auth token"):
                await store.ask(AsUser(Range(b"k"), token))

    SimWorld(1, turns_max=2_000_000).run(main)


def test_the_same_plan_gives_the_same_trace() -> None:
    async def scenario(b: Bench) -> None:
        await b.write(1)
        await b.store.ask(StopMember(await b.leader()))
        await b.write(2)

    assert simulate(scenario, schedule=Shuffled(3)) == simulate(scenario, schedule=Shuffled(3))
    assert simulate(scenario, schedule=Shuffled(3)) != simulate(scenario, schedule=Shuffled(4))


def test_an_idle_group_elects_nobody_and_takes_few_turns() -> None:
    async def scenario(b: Bench) -> None:
        await b.write(1)
        before = b.world.steps
        await b.world.sleep(60.0)
        assert b.world.steps - before < 60 * 80
        assert (await b.store.ask(Status())).term == 1

    simulate(scenario, hosts=None)


@pytest.mark.parametrize("seed", range(3))
def test_members_of_a_group_in_one_process_are_exchanged_while_it_is_written_to(seed: int) -> None:
    options = GroupOptions(member=MemberOptions(snapshot_entries=20, keep_entries=5))

    async def scenario(b: Bench) -> None:
        for number in range(30):
            await b.write(number)
        for old, new in ((1, 4), (2, 5), (3, 6)):
            await b.store.ask(MemberAdd((f"actor:member-{new}",), is_learner=True))
            await b.store.ask(StartMember(new, host=f"etcd-{new}"))
            with b.world.deadline(10.0):
                while True:
                    try:
                        await b.store.ask(MemberPromote(new))
                        break
                    except MembershipError:
                        await b.world.sleep(0.1)
            await b.world.sleep(0.5)
            await b.store.ask(MemberRemove(old))
            for number in range(100 * new, 100 * new + 10):
                await b.write(number)
        members = (await b.store.ask(MemberList())).members
        assert [(member.id, member.name) for member in members] == [
            (4, "member-4"),
            (5, "member-5"),
            (6, "member-6"),
        ]
        # What is certain goes by those who belong to it now.
        await b.world.sleep(1.0)
        await b.store.ask(StopMember(4))
        await b.write(1_001)
        await b.store.ask(StopMember(5))
        with pytest.raises(Unavailable, match="no majority"):
            await b.write(1_002)
        await b.store.ask(StartMember(5))

    simulate(scenario, seed=seed, schedule=Shuffled(seed), options=options)
