"""Groups of nodes, each on a host of its own, for tests."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

from attrs import define, field

from understudy.actors import (
    Actor,
    ActorSystem,
    AskTimeout,
    ChannelReader,
    Ref,
    Shuffled,
    SimWorld,
    handles,
)
from understudy.raftstore.founding import LocalPeers, VolatileLogs, founding_state
from understudy.raftstore.group import raft_node
from understudy.raftstore.member import Member
from understudy.raftstore.membership import (
    Outcomes,
)
from understudy.raftstore.options import GroupOptions
from understudy.raftstore.ready import PersistentState
from understudy.raftstore.sessions import Answer
from understudy.raftstore.storage import (
    Compare,
    Hash,
    OpenWatch,
    Put,
    Range,
    Status,
    Storage,
    Txn,
    Unavailable,
    Watch,
    WatchBatch,
)
from understudy.raftstore.storage.cluster import (
    ClusterMember,
)


def url(member: int) -> str:
    return f"tcp://etcd-{member}:2380"


@define
class Bench:
    world: SimWorld
    system: ActorSystem
    options: GroupOptions
    logs: VolatileLogs = field(factory=VolatileLogs)
    peers: LocalPeers = field(factory=LocalPeers)
    stores: dict[int, Ref[Storage]] = field(factory=dict)
    acknowledged: list[bytes] = field(factory=list)

    def found(self, size: int) -> None:
        founders = [ClusterMember(each, f"node-{each}", (url(each),)) for each in range(1, size + 1)]
        state = founding_state(founders)
        for each in range(1, size + 1):
            self.start(each, state)

    def start(self, member: int, state: PersistentState) -> None:
        factory = raft_node(
            member, self.peers, self.logs.log, state, name=f"node-{member}", options=self.options
        )
        self.stores[member] = self.system.spawn(factory, f"etcd-{member}", host=f"etcd-{member}")

    def member(self, member: int) -> Member:
        actor = self.system._cells[f"/etcd-{member}/member-{member}"].actor
        assert isinstance(actor, Member)
        return actor

    def ended(self, member: int) -> bool:
        """The member has stopped for good."""
        return f"/etcd-{member}/member-{member}" not in self.system._cells

    async def leader(self) -> int:
        with self.world.deadline(10.0):
            while True:
                for member, store in self.stores.items():
                    with suppress(AskTimeout, Unavailable):
                        status = await store.ask(Status(), 1.0)
                        if status.leader == member:
                            return member
                await self.world.sleep(0.05)

    async def follower(self) -> int:
        leader = await self.leader()
        return next(member for member in sorted(self.stores) if member != leader)

    async def write(self, via: int, number: int) -> None:
        """Write a key that was not there, once, however often it has to be sent."""
        key = b"/n/%06d" % number
        reply = await self.stores[via].ask(Txn((Compare(key, "mod", "=", 0),), (Put(key, b"x"),)))
        assert reply.succeeded, f"write {number} was done twice"
        self.acknowledged.append(key)

    async def watch(self, via: int, watch: Watch) -> ChannelReader[WatchBatch]:
        writer, reader = self.system.own_channel("test watch", 16)
        await self.stores[via].ask(OpenWatch(watch, writer))
        return reader

    async def check(self) -> None:
        """Every acknowledged write is there once, at whichever node one asks."""
        for member, store in self.stores.items():
            if self.ended(member):
                continue
            reply = await store.ask(Range(b"/n/", b"/n0"))
            assert set(self.acknowledged) <= {kv.key for kv in reply.kvs}, member
            assert all(kv.version == 1 for kv in reply.kvs)
        hashes = {
            (await store.ask(Hash())).hash for member, store in self.stores.items() if not self.ended(member)
        }
        assert len(hashes) == 1, "the members differ"


Scenario = Callable[[Bench], Awaitable[None]]


def simulate(
    scenario: Scenario, *, size: int = 3, seed: int = 1, options: GroupOptions | None = None
) -> None:
    async def main(world: SimWorld) -> None:
        async with ActorSystem.open(world) as system:
            b = Bench(world, system, options or GroupOptions())
            b.found(size)
            await scenario(b)
            world.network.heal()
            await b.check()

    SimWorld(seed, Shuffled(seed) if seed else None, turns_max=2_000_000).run(main)


async def seen(b: Bench, reader: ChannelReader[WatchBatch], count: int) -> list[int]:
    revisions: list[int] = []
    with b.world.deadline(20.0):
        while len(revisions) < count:
            revisions.extend(event.kv.mod_revision for event in (await reader.receive()).events)
    return revisions


class Asking(Actor[Storage]):
    """Keeps what it is answered."""

    def __init__(self, answers: list[Answer]) -> None:
        self.answers = answers

    @handles(Outcomes)
    def on_outcomes(self, outcomes: Outcomes) -> None:
        self.answers.extend(outcome.answer for outcome in outcomes.outcomes)
