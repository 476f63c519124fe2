"""The stores that keep the Storage contract here, and what its tests need around one."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from attrs import define

from understudy.actors import Actor, ActorSystem, ChannelReader, Ref, World
from understudy.raftstore.founding import LocalPeers, Seat, VolatileLogs, founding_state
from understudy.raftstore.group import Group, raft_group, raft_node
from understudy.raftstore.memory import memory_store
from understudy.raftstore.options import GroupOptions, MemberOptions, StoreOptions
from understudy.raftstore.storage import (
    AsUser,
    Event,
    OpenSnapshot,
    OpenWatch,
    Storage,
    Watch,
    WatchBatch,
)
from understudy.raftstore.storage.cluster import (
    ClusterMember,
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


Play = Callable[[Scenario], None]


@asynccontextmanager
async def bench(world: World, store: str) -> AsyncIterator[Bench]:
    async with ActorSystem.open(world) as system:
        yield Bench(world, system, system.spawn(STORES[store](), "etcd"))


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
