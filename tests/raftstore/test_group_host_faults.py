"""The Raft group on hosts that lose power, stall, part and go by wrong clocks: what must hold all the same.

Each run is a plan: its seed draws the faults, their times and the links' delays. What was acknowledged is
there afterwards, once; no term has two leaders; and one second after the last fault is mended, the group
takes writes again.
"""

from typing import Any

import pytest
from attrs import define, field

from understudy.actors import ActorSystem, AskTimeout, Ref, SimWorld
from understudy.actors.plan import Plan
from understudy.actors.testkit import simulate
from understudy.mailbox import Refusal
from understudy.raftstore.group import raft_group
from understudy.raftstore.raft import Role
from understudy.raftstore.storage import Compare, Put, Range, Storage, Txn
from understudy.raftstore.wal.logs import DiskLogs

HOSTS = ("etcd-1", "etcd-2", "etcd-3")
FAULTS = ("crash", "crash all", "pause", "part", "isolate a leader", "skew", "drop")
ROUNDS = 4
SERVES_WITHIN_SECONDS = 1.0
TURNS_MAX = 1_000_000


@define
class Checker:
    """Stands outside: what the writers were told, and who led in which term."""

    system: ActorSystem
    leaders: dict[int, str] = field(factory=dict, init=False)
    """By term."""
    acknowledged: dict[int, int] = field(factory=dict, init=False)
    """Revision by number of the write."""

    def look(self, delivery: Any) -> None:
        """At every message: whoever leads a term is the only one who ever does."""
        for host_number in range(1, len(HOSTS) + 1):
            path = f"/etcd/member-{host_number}"
            cell = self.system._cells.get(path)
            raft = None if cell is None else getattr(cell.actor, "raft", None)
            if raft is not None and raft.role is Role.LEADER:
                leader = self.leaders.setdefault(raft.term, path)
                assert leader == path, f"term {raft.term} has two leaders: {leader} and {path}"

    async def write(self, store: Ref[Storage], number: int, seconds: float) -> bool:
        """Put a key that is not there yet; True when that is acknowledged."""
        key = b"/n/%06d" % number
        try:
            reply = await store.ask(Txn((Compare(key, "mod", "=", 0),), (Put(key, b"x"),)), seconds)
        except (Refusal, AskTimeout):
            return False
        assert reply.succeeded, f"write {number} was done before anybody had asked for it"
        self.acknowledged[number] = reply.revision
        return True


def inflict(world: SimWorld, fault: str, leader: str) -> None:
    rng = world.rng("faults")
    victim = rng.choice(HOSTS)
    match fault:
        case "crash":
            world.host(victim).crash()
        case "crash all":
            for host in HOSTS:
                world.host(host).crash()
        case "pause":
            world.host(victim).pause()
        case "part":
            world.network.partition([victim], [host for host in ("local", *HOSTS) if host != victim])
        case "isolate a leader":
            others = [host for host in HOSTS if host != leader]
            world.network.partition(["local", leader], others)
        case "skew":
            world.host(victim).set_offset(rng.uniform(-3600.0, 3600.0))
            world.host(victim).set_drift(rng.uniform(-0.05, 0.05))
        case "drop":
            for source in HOSTS:
                for target in HOSTS:
                    world.network.link(source, target).loss = 0.3


def mend(world: SimWorld) -> None:
    for host in HOSTS:
        world.host(host).restart()
        world.host(host).resume()
        world.host(host).set_drift(0.0)
    world.network.heal()
    for source in HOSTS:
        for target in HOSTS:
            world.network.link(source, target).loss = 0.0


async def story(system: ActorSystem) -> str:
    world = system.world
    assert isinstance(world, SimWorld)
    checker = Checker(system)
    system.observers.append(checker.look)
    store: Ref[Storage] = system.spawn(raft_group(hosts=HOSTS, disk_logs=DiskLogs()), "etcd")
    number, over = 0, False

    async def write_on() -> None:
        nonlocal number
        while not over:
            number += 1
            await checker.write(store, number, 1.0)
            await world.sleep(0.02)

    async with world.nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(write_on)
        for _ in range(ROUNDS):
            await world.sleep(world.rng("faults").uniform(0.2, 1.0))
            last = checker.leaders.get(max(checker.leaders, default=0), "/1")
            inflict(world, world.rng("faults").choice(FAULTS), f"etcd-{last[-1]}")
            await world.sleep(world.rng("faults").uniform(0.1, 1.5))
            mend(world)
            mended = world.monotonic()
            before = len(checker.acknowledged)
            while len(checker.acknowledged) == before:
                waited = world.monotonic() - mended
                assert waited <= SERVES_WITHIN_SECONDS, (
                    f"{waited:.3f} s after mending no write is acknowledged"
                )
                await world.sleep(0.01)
        over = True
    reply = await store.ask(Range(b"/n/", b"/n0"))
    found = {int(kv.key[3:]): kv for kv in reply.kvs}
    missing = sorted(set(checker.acknowledged) - set(found))
    assert not missing, f"acknowledged and lost: {missing}"
    for each, revision in checker.acknowledged.items():
        assert (found[each].mod_revision, found[each].version) == (revision, 1)
    assert len(checker.acknowledged) > 20 and checker.leaders
    return world.trace_hash()


@pytest.mark.parametrize("seed", range(6))
def test_acknowledged_writes_survive_the_faults_of_hosts(seed: int) -> None:
    simulate(story, Plan(seed), turns_max=TURNS_MAX)


def test_crashes_of_a_plan_in_the_middle_of_anything() -> None:
    """A host loses power before a given turn, whatever happens in it."""
    crashes = {turn: HOSTS[turn % 3] for turn in range(100, 2_000, 317)}
    simulate(story, Plan(seed=99, crashes=crashes), turns_max=TURNS_MAX)


def test_the_same_faults_make_the_same_run() -> None:
    assert simulate(story, Plan(3), turns_max=TURNS_MAX) == simulate(story, Plan(3), turns_max=TURNS_MAX)
