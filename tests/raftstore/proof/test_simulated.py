"""Histories of concurrent clients while hosts crash, stall, part and lose what was not synced, in simulation.

Each run is a plan drawn from its seed: who suffers what, when, for how long. Afterwards the history is
linearizable, no acknowledged write is lost and none is half done, the members have the same hash at the same
revision, and every watch kept etcd's guarantees. Bugs that are planted are found.
"""

from random import Random
from typing import Any, Literal, get_args

import pytest
from attrs import evolve, field, frozen

from tests.raftstore.proof.budget import seeds
from tests.raftstore.proof.workload import ALL, KEYS, Verified, Workload, leading
from understudy.actors import ActorSystem, Ref, SimWorld
from understudy.actors.plan import Plan
from understudy.actors.testkit import simulate
from understudy.mailbox import Refusal
from understudy.raftstore.founding import LocalPeers, founding_state
from understudy.raftstore.group import raft_node
from understudy.raftstore.options import GroupOptions, MemberOptions, RaftOptions
from understudy.raftstore.storage import Storage, Watch
from understudy.raftstore.storage.cluster import ClusterMember, MoveLeader
from understudy.raftstore.wal.logs import DiskLogs
from understudy.raftstore.wal.segments import LogOptions, Segments

HOSTS = ("etcd-1", "etcd-2", "etcd-3")
TURNS_MAX = 4_000_000
SECONDS = 6.0
OPTIONS = GroupOptions(member=MemberOptions(snapshot_entries=40, keep_entries=8), request_timeout_seconds=1.5)
LOGS = DiskLogs(options=LogOptions(segment_bytes=8192))

Kind = Literal[
    "crash",
    "crash leader",
    "crash all",
    "pause",
    "pause leader",
    "isolate",
    "isolate leader",
    "deaf",
    "loss",
    "skew",
    "skew leader",
    "slow disk",
    "move leader",
]


@frozen
class Fault:
    kind: Kind
    at_seconds: float
    lasts_seconds: float
    victim: str
    """Where it is not the leader or all."""


@frozen
class Trial:
    """What a run is made of."""

    seed: int
    faults: tuple[Fault, ...]
    clients: int = 3
    serializable: bool = False
    options: GroupOptions = field(default=OPTIONS, repr=False)


def drawn(seed: int, kinds: tuple[Kind, ...] = get_args(Kind), **others: Any) -> Trial:
    random = Random(f"faults {seed}")
    faults = [
        Fault(
            random.choice(kinds),
            round(random.uniform(0.3, SECONDS - 2.0), 2),
            round(random.choice([0.05, 0.3, 1.0, 2.0]) * random.uniform(0.5, 1.0), 2),
            random.choice(HOSTS),
        )
        for _ in range(random.randint(2, 9))
    ]
    return Trial(seed, tuple(sorted(faults, key=lambda fault: fault.at_seconds)), **others)


class Faults:
    """Inflicts the faults of a trial on a world, and mends each when its time is over."""

    def __init__(self, world: SimWorld, stores: list[Ref[Storage]]) -> None:
        self.world = world
        self.stores = stores

    async def inflict(self, fault: Fault) -> None:
        await self.world.sleep(fault.at_seconds)
        victim = fault.victim
        if "leader" in fault.kind:
            place = await leading(self.stores)
            victim = HOSTS[place] if place is not None else victim
        host, network = self.world.host(victim), self.world.network
        others = [each for each in HOSTS if each != victim]
        match fault.kind:
            case "crash" | "crash leader":
                host.crash()
                await self.world.sleep(fault.lasts_seconds)
                host.restart()
            case "crash all":
                for each in HOSTS:
                    self.world.host(each).crash()
                await self.world.sleep(fault.lasts_seconds)
                for each in HOSTS:
                    self.world.host(each).restart()
            case "pause" | "pause leader":
                host.pause()
                await self.world.sleep(fault.lasts_seconds)
                host.resume()
            case "isolate" | "isolate leader":
                # Clients still reach it.
                network.partition([victim], others)
                await self.world.sleep(fault.lasts_seconds)
                network.heal()
            case "deaf":
                for other in others:
                    network.block(other, victim)
                await self.world.sleep(fault.lasts_seconds)
                network.heal()
            case "loss":
                for other in others:
                    network.link(other, victim).loss = network.link(victim, other).loss = 0.4
                await self.world.sleep(fault.lasts_seconds)
                for other in others:
                    network.link(other, victim).loss = network.link(victim, other).loss = 0.0
            case "skew" | "skew leader":
                host.set_offset(self.world.rng("skew").uniform(-3600.0, 3600.0))
                host.set_drift(-0.7)
                await self.world.sleep(fault.lasts_seconds)
                host.set_drift(0.0)
            case "slow disk":
                self.world.disk(victim).faults.sync_seconds = 0.3
                await self.world.sleep(fault.lasts_seconds)
                self.world.disk(victim).faults.sync_seconds = SYNC_SECONDS
            case "move leader":
                try:
                    target = HOSTS.index(victim) + 1
                    await self.stores[HOSTS.index(others[0])].ask(MoveLeader(target), 1.0)
                except Refusal:
                    pass  # No leader now, or it is the leader already.

    def mend(self) -> None:
        for host in HOSTS:
            self.world.host(host).restart()
            self.world.host(host).resume()
            self.world.host(host).set_drift(0.0)
        self.world.network.heal()


SYNC_SECONDS = 0.003


def run(trial: Trial) -> Verified:
    """Run a trial and check all that came of it. Raises AssertionError with the trial and its history."""

    async def scenario(system: ActorSystem) -> Verified:
        world = system.world
        assert isinstance(world, SimWorld)
        for host in HOSTS:
            world.disk(host).faults.sync_seconds = SYNC_SECONDS
        stores = start_nodes(system, trial.options)
        workload = Workload(
            system, stores, world.rng("workload"), ask_seconds=2.0, serializable=trial.serializable
        )
        faults = Faults(world, stores)
        async with world.nursery() as nursery:
            for number in range(trial.clients):
                nursery.start_soon(workload.client, number)
            for number in range(len(HOSTS)):
                nursery.start_soon(workload.reader, number)
            nursery.start_soon(workload.watcher, 0, ALL)
            nursery.start_soon(workload.watcher, 1, evolve(ALL, no_put=True, prev_kv=False))
            nursery.start_soon(workload.watcher, 2, Watch(KEYS[0], start_revision=1, prev_kv=True))
            async with world.nursery() as inflicting:
                for fault in trial.faults:
                    inflicting.start_soon(faults.inflict, fault)
                await world.sleep(SECONDS - 1.0)
            faults.mend()
            await world.sleep(1.0)
            workload.over = True
        try:
            return await workload.check()
        except AssertionError as error:
            error.add_note(f"{trial}\nhistory = [\n{workload.shown()}\n]")
            raise

    return simulate(scenario, Plan(trial.seed), turns_max=TURNS_MAX)


def start_nodes(system: ActorSystem, options: GroupOptions) -> list[Ref[Storage]]:
    """A member on each host, with its log on the host's disk."""
    peers = LocalPeers()
    founders = [ClusterMember(number, host, (f"tcp://{host}:2380",)) for number, host in enumerate(HOSTS, 1)]
    state = founding_state(founders)
    return [
        system.spawn(
            raft_node(each.id, peers, LOGS.log, state, name=each.name, options=options),
            each.name,
            host=each.name,
        )
        for each in founders
    ]


@pytest.mark.parametrize("seed", seeds(12))
def test_histories_are_linearizable_whatever_happens_to_hosts(seed: int) -> None:
    verified = run(drawn(seed))
    print(f"seed {seed}: {verified}")
    assert verified.operations > 100 and verified.events > 50, verified


# ------------------------------------------------------------------ bugs that are planted


TRIALS_MAX = 12
"""A planted bug is found within so many runs."""


def found(trials: list[Trial]) -> str:
    """What the first run says that fails. Raises AssertionError: none did."""
    for trial in trials:
        try:
            run(trial)
        except AssertionError as error:
            assert any("history = [" in note for note in error.__notes__), "a failure shows its history"
            return str(error)
    raise AssertionError(f"none of {len(trials)} runs noticed")


def test_serializable_reads_passed_off_as_linearizable_are_found() -> None:
    what = found([drawn(seed, ("isolate", "pause"), serializable=True) for seed in range(TRIALS_MAX)])
    assert "not linearizable" in what


class Unsynced:
    """A file that says that it is synced, and is not."""

    def __init__(self, file: Any) -> None:
        self.file = file

    async def write_synced(self, offset: int, data: bytes) -> None:
        await self.file.write(offset, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_acknowledging_before_the_sync_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    append = Segments.append

    async def append_unsynced(self: Segments, *arguments: Any) -> None:
        planted = Unsynced(self._file)
        self._file = planted  # type: ignore[assignment]
        try:
            await append(self, *arguments)
        finally:
            if self._file is planted:
                self._file = planted.file

    monkeypatch.setattr(Segments, "append", append_unsynced)
    what = found([drawn(seed, ("crash all",)) for seed in range(TRIALS_MAX)])
    # Or a member's log has a hole, which it refuses, and the rest is no majority.
    assert "acknowledged and lost" in what or "no answer within" in what


def test_lease_reads_that_trust_clocks_too_much_are_found() -> None:
    """A bound of 1.0 says that no clock goes faster than another, and one does."""

    def trials(clock_drift: float) -> list[Trial]:
        raft = RaftOptions(lease_read_clock_drift=clock_drift)
        options = evolve(OPTIONS, member=evolve(OPTIONS.member, raft=raft))
        return [
            Trial(
                seed,
                tuple(
                    fault
                    for at in (0.8, 3.0)
                    for fault in (
                        Fault("skew leader", at, 2.0, "etcd-1"),
                        Fault("isolate leader", at + 0.1, 1.8, "etcd-1"),
                    )
                ),
                options=options,
            )
            for seed in range(TRIALS_MAX)
        ]

    assert "not linearizable" in found(trials(1.0))
    # With a bound that is true they are as good as any.
    for trial in trials(4.0)[:2]:
        run(trial)
