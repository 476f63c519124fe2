"""Many watches of a store, each at its reader's pace: one task feeds them all, and none waits for another."""

import pytest

from understudy.actors import ActorSystem, ChannelReader, Ref, Shuffled, SimWorld
from understudy.raftstore.memory import MemoryStore, memory_store
from understudy.raftstore.storage import (
    OpenWatch,
    Put,
    RequestProgress,
    Storage,
    Watch,
    WatchBatch,
)

KEYS = 40
PUTS = 60
CAPACITY = 4


async def opened(system: ActorSystem, store: Ref[Storage], watch: Watch) -> ChannelReader[WatchBatch]:
    writer, reader = system.own_channel("watch", CAPACITY)
    await store.ask(OpenWatch(watch, writer))
    return reader


def seen(reader: ChannelReader[WatchBatch]) -> list[int]:
    """Revisions of the events that are here already, and that come as these are taken."""
    found: list[int] = []
    while (batch := reader.receive_nowait()) is not None:
        found += [event.kv.mod_revision for event in batch.events]
    return found


@pytest.mark.parametrize("seed", range(6))
def test_who_reads_slowly_holds_up_nobody_and_misses_nothing(seed: int) -> None:
    async def main(world: SimWorld) -> None:
        async with ActorSystem.open(world) as system:
            actor = memory_store()()
            assert isinstance(actor, MemoryStore)
            store = system.spawn(lambda: actor, "etcd")
            slow = await opened(system, store, Watch(b"k"))
            gone = await opened(system, store, Watch(b"k"))
            quick = [await opened(system, store, Watch(b"k")) for _ in range(KEYS)]
            for number in range(PUTS):
                revision = (await store.ask(Put(b"k", b"%d" % number))).revision
                await world.sleep(0.01)
                assert [seen(reader) for reader in quick] == [[revision]] * len(quick)
                if number == PUTS // 2:
                    # One that waits for room, and one that is in step.
                    gone.cancel()
                    quick.pop().cancel()
                assert len(actor.machine.hub.watchers) == 1 + len(quick) + (number < PUTS // 2)
            wanted = list(range(revision - PUTS + 1, revision + 1))
            found: list[int] = []
            while len(found) < PUTS:
                found += [event.kv.mod_revision for event in (await slow.receive()).events]
            assert found == wanted

    SimWorld(seed, Shuffled(seed)).run(main)


def test_a_bookmark_that_a_slow_reader_is_owed_comes_behind_its_events() -> None:
    async def main(world: SimWorld) -> None:
        async with ActorSystem.open(world) as system:
            store = system.spawn(memory_store(), "etcd")
            reader = await opened(system, store, Watch(b"k", progress_notify=True))
            for number in range(CAPACITY + 1):
                await store.ask(Put(b"k", b"%d" % number))
                await world.sleep(0.01)
            await store.ask(Put(b"other", b""))
            asked = (await store.ask(RequestProgress())).revision
            await world.sleep(0.01)
            batches: list[WatchBatch] = []
            while not batches or batches[-1].revision < asked:
                with world.deadline(1.0):
                    batches.append(await reader.receive())
            assert sum(len(batch.events) for batch in batches) == CAPACITY + 1

    SimWorld(1).run(main)


def test_a_watch_that_begins_far_back_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("understudy.raftstore.watch.SCANNED_MAX", 10)

    async def main(world: SimWorld) -> None:
        async with ActorSystem.open(world) as system:
            store = system.spawn(memory_store(), "etcd")
            for number in range(200):
                await store.ask(Put(b"other", b"%d" % number))
            await store.ask(Put(b"last", b""))
            near = await opened(system, store, Watch(b"k"))
            order: list[str] = []

            async def read(name: str, reader: ChannelReader[WatchBatch]) -> None:
                await reader.receive()
                order.append(name)

            async with world.nursery() as nursery:
                far = await opened(system, store, Watch(b"last", start_revision=2))
                nursery.start_soon(read, "far", far)
                nursery.start_soon(read, "near", near)
                await store.ask(Put(b"k", b""))
            assert order == ["near", "far"]

    SimWorld(1).run(main)
