"""A watch on a group goes on at the next leader, whatever became of the last; its reader notices nothing."""

import pytest

from understudy.actors import ActorSystem, Ref, Shuffled, SimWorld
from understudy.raftstore.group import raft_group
from understudy.raftstore.membership import LocateLeader
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
