"""A watch on a group goes on at the next leader, whatever became of the last; its reader notices nothing."""

import pytest

from understudy.actors import ActorSystem, ChannelReader, Ref, Shuffled, SimWorld
from understudy.raftstore import relays
from understudy.raftstore.group import raft_group
from understudy.raftstore.membership import LocateLeader, StartMember, StopMember
from understudy.raftstore.storage import OpenWatch, Put, Storage, Watch, WatchBatch

HOSTS = ("etcd-1", "etcd-2", "etcd-3")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fault", ["cut off", "stopped"])
def test_each_revision_once_though_leaders_go(fault: str, seed: int) -> None:
    async def main(world: SimWorld) -> None:
        async with ActorSystem.open(world) as system:
            store: Ref[Storage] = system.spawn(raft_group(hosts=HOSTS), "etcd")
            writer, reader = system.channel("watch", 1000)
            await store.ask(OpenWatch(Watch(b"k", start_revision=2), writer))
            batches: list[WatchBatch] = []

            async def read() -> None:
                async for batch in reader:
                    batches.extend([batch] if batch.events else [])

            async with world.nursery() as nursery:
                nursery.start_soon(read)
                for number in range(3):
                    await store.ask(Put(b"k", b"%d" % number))
                    leader = await store.ask(LocateLeader())
                    if fault == "cut off":
                        # Longer than a session lives in silence: who reads from there hears that it broke.
                        others = [host for host in HOSTS if host != f"etcd-{leader}"]
                        world.network.partition([f"etcd-{leader}"], ["local", *others])
                        await world.sleep(15.0)
                        world.network.heal()
                    else:
                        await system.stop(system.ref(f"/etcd/member-{leader}"))
                    await store.ask(Put(b"k", b"%d" % (number + 10)))
                    await world.sleep(5.0)
                    if fault == "stopped":
                        break  # A second one would leave no majority.
                reader.cancel()
                nursery.cancel()
            values = [event.kv.value for batch in batches for event in batch.events]
            assert values == [b"0", b"10", b"1", b"11", b"2", b"12"][: len(values)]
            assert len(values) == (6 if fault == "cut off" else 2)
            restarts = [status.restarts for status in system.statistics() if status.path == "/etcd"]
            assert restarts == [0], "what becomes of a member is no fault of the router's"

    SimWorld(seed, Shuffled(seed) if seed else None).run(main)


@pytest.mark.parametrize("seed", range(4))
def test_who_reads_slowly_misses_nothing_when_leaders_go(seed: int) -> None:
    async def main(world: SimWorld) -> None:
        async with ActorSystem.open(world) as system:
            store: Ref[Storage] = system.spawn(raft_group(hosts=HOSTS), "etcd")
            writer, reader = system.channel("watch", 2)
            await store.ask(OpenWatch(Watch(b"k"), writer))
            revisions = [(await store.ask(Put(b"k", b"%d" % number))).revision for number in range(30)]
            # What waits for room at the group and at the leader is there still when the leader has gone.
            await system.stop(system.ref(f"/etcd/member-{await store.ask(LocateLeader())}"))
            revisions += [(await store.ask(Put(b"k", b"%d" % number))).revision for number in range(30)]
            seen: list[int] = []
            with world.deadline(30.0):
                while len(seen) < len(revisions):
                    seen += [event.kv.mod_revision for event in (await reader.receive()).events]
                    await world.sleep(0.01)
            assert seen == revisions
            reader.cancel()

    SimWorld(seed, Shuffled(seed) if seed else None).run(main)


def tasks(system: ActorSystem) -> int:
    """How many the store's actor has."""
    return next(status.tasks for status in system.statistics() if status.path == "/etcd")


async def watches(system: ActorSystem, store: Ref[Storage], count: int) -> list[ChannelReader[WatchBatch]]:
    readers = []
    for number in range(count):
        writer, reader = system.channel(f"watch {number}", 2)
        await store.ask(OpenWatch(Watch(b"k"), writer))
        readers.append(reader)
    return readers


def test_who_leaves_while_nobody_leads_is_looked_after_no_longer() -> None:
    async def main(world: SimWorld) -> None:
        async with ActorSystem.open(world) as system:
            store: Ref[Storage] = system.spawn(raft_group(hosts=HOSTS), "etcd")
            await store.ask(Put(b"k", b""))
            before = tasks(system)
            readers = await watches(system, store, 5)
            for member in (1, 2, 3):
                await system.stop(system.ref(f"/etcd/member-{member}"))
            await world.sleep(1.0)
            assert tasks(system) == before + len(readers), "each looks for a member"
            for reader in readers:
                reader.cancel()
            await world.sleep(0.1)
            assert tasks(system) == before

    SimWorld(1).run(main)


def test_a_member_is_looked_for_for_so_many_watches_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store may have more watches than an actor may have tasks."""
    monkeypatch.setattr(relays, "SEARCHES_MAX", 2)

    async def main(world: SimWorld) -> None:
        async with ActorSystem.open(world) as system:
            store: Ref[Storage] = system.spawn(raft_group(hosts=HOSTS), "etcd")
            await store.ask(Put(b"k", b""))
            before = tasks(system)
            readers = await watches(system, store, 6)
            assert tasks(system) == before
            for member in (1, 2, 3):
                await store.ask(StopMember(member))
            await world.sleep(1.0)
            assert tasks(system) == before + 2
            readers.pop(0).cancel()
            readers.pop().cancel()
            await world.sleep(0.1)
            assert tasks(system) == before + 2
            for member in (1, 2, 3):
                await store.ask(StartMember(member))
            revision = (await store.ask(Put(b"k", b"new"))).revision
            with world.deadline(5.0):
                for reader in readers:
                    assert [event.kv.mod_revision for event in (await reader.receive()).events] == [revision]
            assert tasks(system) == before
            for reader in readers:
                reader.cancel()

    SimWorld(1).run(main)
