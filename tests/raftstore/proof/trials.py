"""Trials: who works, who suffers what, when and for how long, in a simulated group. Data, drawn from a seed.

A run is a function of its trial and the code: what fails, fails again.
"""

import json
from random import Random
from typing import Any, Literal, get_args

import attrs
from attrs import define, evolve, field, frozen

from tests.raftstore.proof.group import HOSTS, MOVES, SPARE_HOSTS, SYNC_SECONDS, Group, Move
from tests.raftstore.proof.verification import Verification, Verified
from tests.raftstore.proof.watchers import ALL, Watchers
from tests.raftstore.proof.workload import KEYS, Workload, leading
from understudy.actors import ActorSystem, SimWorld
from understudy.actors.plan import Plan
from understudy.actors.testkit import simulate
from understudy.mailbox import Refusal
from understudy.raftstore.options import GroupOptions, MemberOptions, RaftOptions
from understudy.raftstore.storage import Watch
from understudy.raftstore.storage.cluster import MoveLeader

TURNS_MAX = 4_000_000
SECONDS = 6.0
FAST = 0.5
"""A clock that is too fast gains so much."""

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
    "fast leader",
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
    faults: tuple[Fault, ...] = ()
    moves: tuple[Move, ...] = ()
    clients: int = 3
    readers: int = 3
    lessees: int = 1
    compactors: int = 1
    historians: int = 1
    diggers: int = 1
    watchers: int = 3
    auditors: int = 1
    operations_max: int = 1_000_000
    """Of each client."""
    seconds: float = SECONDS
    serializable: bool = False
    """Planted: reads are made from what a member happens to have."""
    lease_read_clock_drift: float | None = None

    @property
    def size(self) -> tuple[float, ...]:
        """A smaller trial has fewer faults, then fewer who work, then less to do."""
        workers = self.clients + self.readers + self.lessees + self.compactors
        workers += self.historians + self.diggers + self.watchers + self.auditors
        return (len(self.faults) + len(self.moves), workers, self.operations_max, self.seconds)

    def written(self) -> str:
        """As JSON, without what is as always."""
        usual = attrs.asdict(Trial(self.seed))
        told = attrs.asdict(self)
        return json.dumps({key: told[key] for key in told if key == "seed" or told[key] != usual[key]})

    @classmethod
    def read(cls, text: str) -> "Trial":
        """What `written` wrote. Raises ValueError, TypeError."""
        fields: dict[str, Any] = json.loads(text)
        faults = tuple(Fault(**fault) for fault in fields.pop("faults", ()))
        moves = tuple(Move(**move) for move in fields.pop("moves", ()))
        return cls(**fields, faults=faults, moves=moves)

    @property
    def options(self) -> GroupOptions:
        raft = RaftOptions(lease_read_clock_drift=self.lease_read_clock_drift)
        member = MemberOptions(raft=raft, snapshot_entries=40, keep_entries=8)
        return GroupOptions(member=member, request_timeout_seconds=1.5)


def drawn(seed: int, kinds: tuple[Kind, ...] = get_args(Kind), **others: Any) -> Trial:
    random = Random(f"faults {seed}")
    begins = random.choice([(), (), (0.5,), (0.5, 2.5)])
    moves = tuple(
        Move(random.choice(MOVES), round(at + random.uniform(0.0, 1.0), 2), random.randrange(3))
        for at in begins
    )
    hosts = (*HOSTS, *SPARE_HOSTS[: len(moves)])
    faults = [
        Fault(
            random.choice(kinds),
            round(random.uniform(0.3, SECONDS - 2.0), 2),
            round(random.choice([0.05, 0.3, 1.0, 2.0]) * random.uniform(0.5, 1.0), 2),
            random.choice(hosts),
        )
        for _ in range(random.randint(2, 9))
    ]
    in_order = tuple(sorted(faults, key=lambda fault: fault.at_seconds))
    return evolve(Trial(seed, in_order, moves), **others)


@define(eq=False)
class Faults:
    """Inflicts the faults of a trial on a world, and mends each when its time is over."""

    world: SimWorld
    group: Group
    clock_rate: float = field(default=1.0, init=False)
    """The fastest that any clock went."""

    async def inflict(self, fault: Fault) -> None:
        await self.world.sleep(fault.at_seconds)
        victim = fault.victim
        if "leader" in fault.kind and fault.kind != "move leader":
            stores = list(self.group.stores)
            place = await leading(stores)
            victim = self.group.host_of(stores[place]) if place is not None else victim
        host, network = self.world.host(victim), self.world.network
        others = [each for each in (*HOSTS, *SPARE_HOSTS) if each != victim]
        match fault.kind:
            case "crash" | "crash leader":
                host.crash()
                await self.world.sleep(fault.lasts_seconds)
                host.restart()
            case "crash all":
                for each in (victim, *others):
                    self.world.host(each).crash()
                await self.world.sleep(fault.lasts_seconds)
                for each in (victim, *others):
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
            case "skew" | "skew leader" | "fast leader":
                host.set_offset(self.world.rng("skew").uniform(-3600.0, 3600.0))
                drift = FAST if fault.kind == "fast leader" else -0.7
                host.set_drift(drift)
                self.clock_rate = max(self.clock_rate, 1.0 + drift)
                await self.world.sleep(fault.lasts_seconds)
                host.set_drift(0.0)
            case "slow disk":
                self.world.disk(victim).faults.sync_seconds = 0.3
                await self.world.sleep(fault.lasts_seconds)
                self.world.disk(victim).faults.sync_seconds = SYNC_SECONDS
            case "move leader":
                stores = list(self.group.stores)
                try:
                    target = int(victim.removeprefix("etcd-"))
                    await stores[target % len(stores)].ask(MoveLeader(target), 1.0)
                except Refusal:
                    pass  # No leader now, or it is the leader already, or no member.

    def mend(self) -> None:
        for host in (*HOSTS, *SPARE_HOSTS):
            self.world.host(host).restart()
            self.world.host(host).resume()
            self.world.host(host).set_drift(0.0)
        self.world.network.heal()


WATCHES = (ALL, evolve(ALL, no_put=True, prev_kv=False), Watch(KEYS[0], start_revision=1, prev_kv=True))


def run(trial: Trial) -> Verified:
    """Run a trial and check all that came of it. Raises AssertionError with the trial and its history."""

    async def scenario(system: ActorSystem) -> Verified:
        world = system.world
        assert isinstance(world, SimWorld)
        group = Group(system, world, trial.options)
        group.found()
        work = Workload(
            system,
            group.stores,
            ask_seconds=2.0,
            serializable=trial.serializable,
            operations_max=trial.operations_max,
        )
        watchers = Watchers(work)
        faults = Faults(world, group)
        try:
            async with world.nursery() as watching:
                watching.start_soon(watchers.chronicler)
                for number in range(trial.diggers):
                    watching.start_soon(watchers.digger, number)
                for number, watch in enumerate(WATCHES[: trial.watchers]):
                    watching.start_soon(watchers.watcher, number, watch)
                async with world.nursery() as working:
                    for count, role in (
                        (trial.clients, work.client),
                        (trial.readers, work.reader),
                        (trial.lessees, work.lessee),
                        (trial.compactors, work.compactor),
                        (trial.historians, work.historian),
                        (trial.auditors, work.auditor),
                    ):
                        for number in range(count):
                            working.start_soon(role, number)
                    working.start_soon(group.move, trial.moves)
                    async with world.nursery() as inflicting:
                        for fault in trial.faults:
                            inflicting.start_soon(faults.inflict, fault)
                        await world.sleep(trial.seconds - 1.0)
                    faults.mend()
                    await world.sleep(1.0)
                    work.over = group.changes.over = True
                verification = Verification(work, watchers, faults.clock_rate)
                await group.verify(verification.persistently)
                verified = await verification.verify()
            return evolve(verified, moves=group.changes.made)
        except AssertionError as error:
            error.add_note(f"{trial}\nhistory = [\n{work.shown()}\n]")
            raise

    return simulate(scenario, Plan(trial.seed), turns_max=TURNS_MAX)
