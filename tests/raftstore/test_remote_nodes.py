"""Nodes in actor systems of their own, which reach each other over connections, simulated and real."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
from attrs import define, field

from understudy.actors import ActorSystem, RealWorld, Ref, SimWorld, World
from understudy.actors.remote import Limits, Remote, SimNetwork
from understudy.raftstore.founding import VolatileLogs, founding_state
from understudy.raftstore.group import raft_node
from understudy.raftstore.membership import StopMember
from understudy.raftstore.ready import PersistentState
from understudy.raftstore.remote_peers import RemotePeers, remote_address
from understudy.raftstore.storage import (
    ALL_KEYS_END,
    Hash,
    OpenWatch,
    Put,
    Range,
    Status,
    Storage,
    Watch,
)
from understudy.raftstore.storage.cluster import (
    AwaitLeader,
    ClusterMember,
    Leadership,
    MemberAdd,
    MemberList,
    MemberPromote,
    MemberRemove,
    MembershipError,
    MemberUpdate,
    MoveLeader,
)

LIMITS = Limits(silence_seconds_max=1.0, handshake_seconds_max=1.0, backoff_max_seconds=0.2)


@define
class Bench:
    world: World
    network: SimNetwork | None
    stack: AsyncExitStack
    logs: VolatileLogs = field(factory=VolatileLogs)
    nodes: dict[int, Remote] = field(factory=dict)
    systems: dict[int, ActorSystem] = field(factory=dict)
    stores: dict[int, Ref[Storage]] = field(factory=dict)

    async def listen(self, member: int) -> ClusterMember:
        """A process for a member: an actor system and a node; its address is known from here on."""
        system = await self.stack.enter_async_context(ActorSystem.open(self.world))
        address = f"sim:etcd-{member}" if self.network else "tcp://127.0.0.1:0"
        transport = self.network.at(f"etcd-{member}") if self.network else None
        node = await self.stack.enter_async_context(
            Remote.listen(system, address, name=f"etcd-{member}", limits=LIMITS, transport=transport)
        )
        self.systems[member], self.nodes[member] = system, node
        return ClusterMember(member, f"node-{member}", (node.address,))

    async def serve(self, member: int, state: PersistentState, known: tuple[ClusterMember, ...] = ()) -> None:
        peers = RemotePeers(self.nodes[member], member)
        peers.learn(known)
        nursery = await self.stack.enter_async_context(self.world.nursery())
        self.stack.callback(nursery.cancel)
        nursery.start_soon(peers.run)
        factory = raft_node(member, peers, self.logs.log, state, name=f"node-{member}")
        self.stores[member] = self.systems[member].spawn(factory, "etcd")

    async def settled(self, condition: Callable[[], Awaitable[bool]]) -> None:
        with self.world.deadline(10.0):
            while not await condition():
                await self.world.sleep(0.05)

    async def leader(self) -> int:
        found = 0

        async def led() -> bool:
            nonlocal found
            for member, store in self.stores.items():
                found = member if (await store.ask(Status())).leader == member else found
            return bool(found)

        await self.settled(led)
        return found


@asynccontextmanager
async def bench(world: World) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        b = Bench(world, SimNetwork(world) if world.simulated else None, stack)
        founders = [await b.listen(member) for member in (1, 2, 3)]
        state = founding_state(founders)
        for founder in founders:
            await b.serve(founder.id, state)
        yield b


Scenario = Callable[[Bench], Awaitable[None]]


def simulated(scenario: Scenario) -> None:
    async def main(world: SimWorld) -> None:
        async with bench(world) as b:
            await scenario(b)

    SimWorld(1, turns_max=2_000_000).run(main)


def over_tcp(scenario: Scenario) -> None:
    async def main() -> None:
        async with RealWorld.open() as world:
            with trio.fail_after(30):
                async with bench(world) as b:
                    await scenario(b)

    trio.run(main)


everywhere = pytest.mark.parametrize("run", [simulated, over_tcp])


@everywhere
def test_a_group_of_processes_is_one_store(run: Callable[[Scenario], Any]) -> None:
    async def scenario(b: Bench) -> None:
        writer, reader = b.systems[2].own_channel("test watch", 16)
        await b.stores[2].ask(OpenWatch(Watch(b"\0", ALL_KEYS_END), writer))
        for number in range(9):
            await b.stores[1 + number % 3].ask(Put(b"k", b"%d" % number))
            for store in b.stores.values():
                assert (await store.ask(Range(b"k"))).kvs[0].value == b"%d" % number
        seen: list[bytes] = []
        while len(seen) < 9:
            seen.extend(event.kv.value for event in (await reader.receive()).events)
        assert seen == [b"%d" % number for number in range(9)]
        target = 1 + (await b.leader()) % 3
        assert (await b.stores[target].ask(MoveLeader(target))).leader == target
        # Somebody else leads when the leader has stopped, and the others go on.
        await b.stores[target].ask(StopMember(target))
        del b.stores[target]
        for store in b.stores.values():
            await store.ask(Put(b"k", b"on"))
        for store in b.stores.values():
            await store.ask(Range(b"k"))  # A hash is of what a member has applied: now that is everything.
        assert len({(await store.ask(Hash())).hash for store in b.stores.values()}) == 1

    run(scenario)


@everywhere
def test_a_process_joins_and_another_goes(run: Callable[[Scenario], Any]) -> None:
    async def scenario(b: Bench) -> None:
        for number in range(20):
            await b.stores[1].ask(Put(b"k%d" % number, b"v"))
        newcomer = await b.listen(4)
        added = await b.stores[2].ask(MemberAdd(newcomer.peer_urls, is_learner=True))
        await b.serve(4, PersistentState.joining(), added.members)

        async def promoted() -> bool:
            try:
                await b.stores[3].ask(MemberPromote(4))
            except MembershipError:
                return False
            return True

        await b.settled(promoted)
        await b.stores[4].ask(MemberRemove(1))
        del b.stores[1]
        await b.stores[4].ask(Put(b"k", b"v"))
        assert (await b.stores[4].ask(Range(b"\0", ALL_KEYS_END))).count == 21

        async def named() -> bool:
            listed = await b.stores[3].ask(MemberList())
            return [member.name for member in listed.members] == ["node-2", "node-3", "node-4"]

        await b.settled(named)

    run(scenario)


def test_a_learner_serves_what_every_member_serves() -> None:
    async def scenario(b: Bench) -> None:
        await b.stores[1].ask(Put(b"k", b"1"))
        newcomer = await b.listen(4)
        added = await b.stores[1].ask(MemberAdd(newcomer.peer_urls, is_learner=True))
        await b.serve(4, PersistentState.joining(), added.members)
        learner = b.stores[4]
        assert (await learner.ask(Put(b"k", b"2"))).revision == 3
        assert [pair.value for pair in (await b.stores[2].ask(Range(b"k"))).kvs] == [b"2"]
        await b.stores[2].ask(Put(b"k", b"3"))
        assert [pair.value for pair in (await learner.ask(Range(b"k"))).kvs] == [b"3"]
        assert (await learner.ask(Status())).is_learner

    simulated(scenario)


def test_every_process_tells_who_leads_as_soon_as_it_answers_under_another_leader() -> None:
    async def scenario(b: Bench) -> None:
        heard: dict[int, list[Leadership]] = {member: [] for member in b.stores}

        async def follow(member: int, store: Ref[Storage]) -> None:
            known = None
            while True:
                known = await store.ask(AwaitLeader(known), 3600.0)
                heard[member].append(known)

        nursery = await b.stack.enter_async_context(b.world.nursery())
        b.stack.callback(nursery.cancel)
        for member, store in b.stores.items():
            nursery.start_soon(follow, member, store)
        for _ in range(4):
            target = 1 + (await b.leader()) % 3
            await b.stores[target].ask(MoveLeader(target))
            for member, store in b.stores.items():
                await store.ask(Put(b"k", b"v"))
                term = (await store.ask(Status())).term
                assert heard[member][-1] == Leadership(member, target, term)
        for news in heard.values():
            assert all(one != next_one for one, next_one in pairwise(news))
            assert [each.term for each in news] == sorted(each.term for each in news)

    simulated(scenario)


def test_a_member_that_moved_is_reached_at_its_new_address() -> None:
    async def scenario(b: Bench) -> None:
        peers = RemotePeers(b.nodes[1], 1)
        assert b.network is not None
        old = ClusterMember(2, "node-2", ("sim:nowhere",))
        peers.learn((old,))
        nursery = await b.stack.enter_async_context(b.world.nursery())
        b.stack.callback(nursery.cancel)
        nursery.start_soon(peers.run)
        await b.world.sleep(5.0)
        assert peers.get(2) is None
        moved = await b.stores[3].ask(MemberUpdate(2, (b.nodes[2].address,)))
        peers.learn(moved.members)
        await b.world.sleep(1.0)
        assert peers.get(2) is not None

    simulated(scenario)


def test_a_member_is_reached_at_whichever_of_its_addresses_answers() -> None:
    async def scenario(b: Bench) -> None:
        peers = RemotePeers(b.nodes[1], 1)
        peers.learn((ClusterMember(2, "node-2", ("sim:nowhere", b.nodes[2].address, "sim:nowhere-else")),))
        nursery = await b.stack.enter_async_context(b.world.nursery())
        b.stack.callback(nursery.cancel)
        nursery.start_soon(peers.run)
        await b.world.sleep(5.0)
        assert peers.get(2) is not None
        assert b.network is not None
        b.network.refusing.add("etcd-2")
        b.network.cut("etcd-1", "etcd-2")
        await b.world.sleep(5.0)
        assert peers.get(2) is None
        b.network.refusing.clear()
        await b.world.sleep(10.0)
        assert peers.get(2) is not None

    simulated(scenario)


def test_nobody_of_another_cluster_is_told_anything() -> None:
    async def scenario(b: Bench) -> None:
        peers = RemotePeers(b.nodes[1], 1, cluster=7)
        peers.learn((ClusterMember(2, "node-2", (b.nodes[2].address,)),))
        nursery = await b.stack.enter_async_context(b.world.nursery())
        b.stack.callback(nursery.cancel)
        nursery.start_soon(peers.run)
        for _ in range(50):
            await b.world.sleep(0.1)
            assert peers.get(2) is None
        peers.cluster = 0
        await b.world.sleep(1.0)
        assert peers.get(2) is not None

    simulated(scenario)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://10.0.0.1:2380", "tcp://10.0.0.1:2380"),
        ("https://etcd.example:2380/", "tcp://etcd.example:2380"),
        ("unix:/run/etcd", "unix:/run/etcd"),
    ],
)
def test_peer_urls_are_etcd_s(url: str, address: str) -> None:
    assert remote_address(url) == address
