"""A whole group whose members keep their logs on simulated disks: power losses, failed syncs, slow disks."""

import gc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, evolve, field

from understudy.actors import ActorSystem, RealWorld, Ref, Shuffled, SimWorld
from understudy.actors.sim_disk import SimDisk
from understudy.raftstore.group import raft_group
from understudy.raftstore.log import RaftLog
from understudy.raftstore.memberlog import VolatileLog
from understudy.raftstore.membership import LocateLeader, StartMember
from understudy.raftstore.options import GroupOptions, MemberOptions
from understudy.raftstore.storage import Put, Range, Status, Storage, StorageError, Unavailable
from understudy.raftstore.wal.folder import segment_name
from understudy.raftstore.wal.logs import DiskLogs
from understudy.raftstore.wal.segments import LogOptions

HOSTS = ("etcd-1", "etcd-2", "etcd-3")
OPTIONS = GroupOptions(member=MemberOptions(snapshot_entries=30, keep_entries=5))
LOGS = DiskLogs(options=LogOptions(segment_bytes=8192))


@define
class Bench:
    world: SimWorld
    system: ActorSystem
    store: Ref[Storage]
    acknowledged: dict[bytes, bytes] = field(factory=dict)
    tried: dict[bytes, bytes] = field(factory=dict)

    def disk(self, member: int) -> SimDisk:
        return self.world.disk(HOSTS[member - 1])

    async def leader(self) -> int:
        with self.world.deadline(10.0):
            while not (leader := await self.store.ask(LocateLeader())):
                await self.world.sleep(0.05)
        return leader

    async def write(self, number: int) -> None:
        key, value = b"/n/%06d" % number, b"%d" % number
        self.tried[key] = value
        try:
            await self.store.ask(Put(key, value), 60.0)
        except Unavailable as error:
            assert error.maybe_applied or "majority" in str(error), error
        else:
            self.acknowledged[key] = value

    async def writer(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            await self.write(number)
            await self.world.sleep(0.002)

    async def check(self) -> None:
        """Every acknowledged write is there, and nothing that nobody wrote."""
        for _ in range(20):
            try:
                reply = await self.store.ask(Range(b"/n/", b"/n0"))
                break
            except StorageError:
                await self.world.sleep(0.5)
        else:
            raise AssertionError("the store does not come back")
        found = {pair.key: pair.value for pair in reply.kvs}
        assert found.items() >= self.acknowledged.items()
        assert self.tried.items() >= found.items()


def simulate(
    scenario: Callable[[Bench], Awaitable[None]], *, seed: int = 1, options: GroupOptions = OPTIONS
) -> None:
    async def main(world: SimWorld) -> None:
        async with ActorSystem.open(world) as system:
            b = Bench(world, system, system.spawn(raft_group(options, HOSTS, LOGS), "etcd"))
            await scenario(b)
            await b.check()

    SimWorld(seed, Shuffled(seed), turns_max=5_000_000).run(main)


@pytest.mark.parametrize("seed", range(4))
def test_what_was_acknowledged_survives_a_power_loss_of_all_at_once(seed: int) -> None:
    async def scenario(b: Bench) -> None:
        await b.writer(0, 5)
        chance = b.world.rng("test")
        for round_ in range(4):
            async with b.world.nursery() as nursery:
                for lane in range(3):
                    nursery.start_soon(b.writer, 1000 * round_ + 100 * lane + 10, 15)
                await b.world.sleep(chance.uniform(0.0, 0.08))
                for host in HOSTS:
                    b.world.host(host).crash()
                await b.world.sleep(0.5)
                for host in HOSTS:
                    b.world.host(host).restart()
            await b.check()
        assert len(b.acknowledged) > 40

    simulate(scenario, seed=seed)


@pytest.mark.parametrize("seed", range(4))
def test_what_was_acknowledged_survives_power_losses_one_by_one(seed: int) -> None:
    async def scenario(b: Bench) -> None:
        chance = b.world.rng("test")
        async with b.world.nursery() as nursery:
            for lane in range(2):
                nursery.start_soon(b.writer, 1000 * lane, 150)
            for _ in range(8):
                host = b.world.host(HOSTS[chance.randrange(3)])
                await b.world.sleep(chance.uniform(0.0, 0.5))
                host.crash()
                await b.world.sleep(chance.uniform(0.0, 1.0))
                host.restart()
        assert len(b.acknowledged) > 100

    simulate(scenario, seed=seed)


def test_a_member_whose_sync_fails_stops_and_the_others_go_on() -> None:
    async def scenario(b: Bench) -> None:
        await b.writer(0, 3)
        leader = await b.leader()
        b.disk(leader).fail_next_sync()
        await b.writer(10, 20)
        assert len(b.acknowledged) == 23
        assert f"/etcd/member-{leader}" not in {
            path for path, cell in b.system._cells.items() if cell.actor is not None
        }
        # Its disk may have lost what could not be synced; started again, it makes that durable first.
        await b.store.ask(StartMember(leader))
        await b.writer(50, 3)
        await b.world.sleep(2.0)
        b.disk(leader).crash()
        await b.writer(60, 3)

    simulate(scenario)


def test_a_group_of_one_acknowledges_after_its_sync_etcd_14370() -> None:
    async def main(world: SimWorld) -> None:
        options = GroupOptions(members=1)
        async with ActorSystem.open(world) as system:
            store = system.spawn(raft_group(options, HOSTS[:1], LOGS), "etcd")
            await store.ask(Put(b"a", b"1"))
            disk = world.disk(HOSTS[0])
            disk.faults.sync_seconds = 0.7
            began = world.monotonic()
            await store.ask(Put(b"b", b"2"))
            assert world.monotonic() - began >= 0.7
            disk.faults.sync_seconds = 0.0
            disk.fail_next_sync()
            with pytest.raises(Unavailable, match="input/output error"):
                await store.ask(Put(b"c", b"3"))

    SimWorld(1).run(main)


def test_a_full_disk_stops_a_member_with_advice_and_room_lets_it_go_on() -> None:
    async def main(world: SimWorld) -> None:
        options = GroupOptions(members=1, member=MemberOptions(snapshot_entries=10_000))
        async with ActorSystem.open(world) as system:
            store = system.spawn(raft_group(options, HOSTS[:1], LOGS), "etcd")
            disk = world.disk(HOSTS[0])
            await store.ask(Put(b"a", b"1"))
            disk.faults.capacity_bytes = disk.used_bytes() + 1000
            written = 0
            with pytest.raises(Unavailable, match=r"the disk is full\. Make room"):
                for number in range(1000):
                    await store.ask(Put(b"n", b"%d" % number + bytes(500)))
                    written = number
            disk.faults.capacity_bytes = None
            await store.ask(StartMember(1))
            reply = await store.ask(Range(b"n"))
            assert int(reply.kvs[0].value.rstrip(b"\0")) in (written, written + 1)

    SimWorld(1).run(main)


def test_a_log_of_few_large_entries_is_cut_too() -> None:
    async def main(world: SimWorld) -> None:
        member = MemberOptions(snapshot_bytes=20_000, keep_entries=5)
        async with ActorSystem.open(world) as system:
            store = system.spawn(raft_group(GroupOptions(1, member), HOSTS[:1], LOGS), "etcd")
            for number in range(200):
                await store.ask(Put(b"n", b"%d" % number + bytes(1000)))
                await world.sleep(0.01)
            names = await world.disk(HOSTS[0]).list("etcd/member-1")
            # Of 200 kB of log at least what the older of two snapshots covers is gone.
            assert len([name for name in names if name.endswith(".wal")]) * 8192 < 120_000

    SimWorld(1).run(main)


@pytest.mark.parametrize("slow", [(1,), (2,), (3,), (1, 2, 3)])
def test_disks_that_take_two_seconds_depose_nobody_and_elect_nobody(slow: tuple[int, ...]) -> None:
    async def scenario(b: Bench) -> None:
        await b.writer(0, 3)
        before = (await b.leader(), (await b.store.ask(Status())).term)
        for member in slow:
            b.disk(member).faults.sync_seconds = 2.0
        began = b.world.monotonic()
        async with b.world.nursery() as nursery:
            for lane in range(8):
                nursery.start_soon(b.writer, 1000 * lane, 4)
        took = b.world.monotonic() - began
        assert len(b.acknowledged) == 32
        # With two disks that are quick, nobody waits for the third; a new segment costs three syncs.
        assert took < (1.0 if len(slow) == 1 else 60.0)
        assert (await b.leader(), (await b.store.ask(Status())).term) == before

    simulate(scenario, options=evolve(OPTIONS, request_timeout_seconds=30.0))


@pytest.mark.parametrize("seed", range(3))
def test_slow_disks_elect_a_leader_all_the_same(seed: int) -> None:
    """A candidate's vote for itself, and then the others' votes, take longer than its patience would be."""

    async def scenario(b: Bench) -> None:
        await b.writer(0, 3)
        for member in (1, 2, 3):
            b.disk(member).faults.sync_seconds = 0.8
        b.world.host(HOSTS[(await b.leader()) - 1]).crash()
        await b.world.sleep(8.0)
        assert await b.leader()
        await b.writer(10, 3)
        assert len(b.acknowledged) == 6

    simulate(scenario, seed=seed, options=evolve(OPTIONS, request_timeout_seconds=30.0))


def test_a_damaged_member_stops_with_file_byte_and_advice() -> None:
    async def scenario(b: Bench) -> None:
        await b.writer(0, 10)
        b.world.host(HOSTS[1]).crash()
        b.disk(2).flip_bit(f"etcd/member-2/{segment_name(1)}", 8 * 530)
        b.world.host(HOSTS[1]).restart()
        await b.writer(20, 5)
        await b.world.sleep(1.0)
        b.world.host(HOSTS[2]).crash()
        await b.world.sleep(2.0)
        with pytest.raises(Unavailable) as caught, b.world.deadline(30.0):
            while True:
                await b.store.ask(Put(b"x", b"y"))
        if "majority" in str(caught.value):
            assert ".wal, byte 512" in str(caught.value) and "understudy store repair" in str(caught.value)
        b.world.host(HOSTS[2]).restart()

    simulate(scenario)


def test_a_store_that_starts_again_from_the_same_seed_is_answered_as_nobody_before_it(tmp_path: Path) -> None:
    """Its numbers begin anew. Were its session the one that the log remembers, its writes would get the
    answers of others."""

    async def run(first: int) -> None:
        async with (
            RealWorld.open(seed=1, disk_root=tmp_path) as world,
            ActorSystem.open(world) as system,
        ):
            store = system.spawn(raft_group(disk_logs=LOGS), "etcd")
            for number in range(first, first + 5):
                key = b"/n/%06d" % number
                assert (await store.ask(Put(key, b"%d" % number))).revision == number + 2
                assert [pair.value for pair in (await store.ask(Range(key))).kvs] == [b"%d" % number]

    for first in (0, 5, 10):
        trio.run(run, first)


def in_memory(kind: type[RaftLog | VolatileLog]) -> list[Any]:
    return [each for each in gc.get_objects() if isinstance(each, kind)]


@pytest.mark.parametrize("logs", [LOGS, None], ids=["disk", "memory"])
def test_what_is_applied_stays_in_memory_only_for_who_lags_a_little(logs: DiskLogs | None) -> None:
    others = in_memory(RaftLog) + in_memory(VolatileLog)

    def kept_bytes(kind: type[RaftLog | VolatileLog]) -> list[int]:
        own = [each for each in in_memory(kind) if not any(each is other for other in others)]
        return [sum(entry.size_bytes for entry in each.entries) for each in own]

    async def main(world: SimWorld) -> None:
        member = MemberOptions(keep_bytes=20_000)
        async with ActorSystem.open(world) as system:
            store = system.spawn(raft_group(GroupOptions(3, member), HOSTS, logs), "etcd")
            for number in range(200):
                await store.ask(Put(b"n", b"%d" % number + bytes(1000)))
            await world.sleep(1.0)
            cores, volatile = kept_bytes(RaftLog), kept_bytes(VolatileLog)
            assert len(cores) == 3 and 20_000 <= min(cores) <= max(cores) < 45_000
            assert (len(volatile), max(volatile, default=0) < 25_000) == (0 if logs else 3, True)

    SimWorld(1).run(main)


def test_who_follows_and_lags_is_sent_entries_rather_than_the_state() -> None:
    others = in_memory(RaftLog)

    def kept_bytes() -> int:
        """At the leader: the other one is in step, and the slow one lets nothing go that is not durable."""
        own = [each for each in in_memory(RaftLog) if not any(each is other for other in others)]
        durable = [log.entries for log in own if log.stable_index == log.last_index]
        return max(sum(entry.size_bytes for entry in entries) for entries in durable)

    async def main(world: SimWorld) -> None:
        options = GroupOptions(3, MemberOptions(keep_bytes=5_000, snapshot_bytes=200_000))
        async with ActorSystem.open(world) as system:
            store = system.spawn(raft_group(options, HOSTS, LOGS), "etcd")
            leader = (await store.ask(Put(b"n", b""))) and (await store.ask(Status())).leader
            slow = world.disk(HOSTS[leader % 3])

            async def write(count: int) -> None:
                for _ in range(count):
                    await store.ask(Put(b"n", bytes(1000)))

            slow.faults.sync_seconds = 30.0
            await write(100)
            assert kept_bytes() > 90_000
            await write(200)
            assert kept_bytes() < 250_000  # There is an end to it.
            slow.faults.sync_seconds = 0.0
            await world.sleep(60.0)
            await write(50)
            assert kept_bytes() < 30_000

    SimWorld(1).run(main)
