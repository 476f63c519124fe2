"""The same plan is the same run in any process: hosts, channels, and nodes of their own."""

import os
import subprocess
import sys
from pathlib import Path

from understudy.actors import ActorSystem, Ref, Shuffled, SimWorld, World
from understudy.actors.remote import SimNetwork

from .remote.nodes import Add, Count, Note, Pair, Work, Worker, Working, pair, until


async def two_nodes(world: World) -> None:
    """Asks, cancelled asks, a reliable stream, a channel and a broken link between two nodes."""
    async with pair(world, ("sim:a", "sim:b")) as nodes:
        for name in ("one", "two", "three"):
            nodes.b.system.spawn(Worker, name)
        far = [nodes.a.peer.ref(f"/{name}", Working) for name in ("one", "two", "three")]
        async with world.nursery() as nursery:
            for ref in far:
                nursery.start_soon(ref.ask, Add(1))
                nursery.start_soon(ref.ask, Add(2))
        with world.limit(0.05):
            async with world.nursery() as nursery:
                for ref in far:
                    nursery.start_soon(ref.ask, Work(100.0), 200.0)
        await stream(nodes)


async def stream(nodes: Pair) -> None:
    notes = nodes.a.peer.reliable(nodes.a.peer.ref("/one", Working), capacity=4)
    assert isinstance(nodes.network, SimNetwork)
    for number in range(20):
        await notes.send(Note(str(number)))
        if number == 10:
            nodes.network.cut("a", "b")
    await notes.drained()
    notes.close()
    await until(nodes.world, lambda: not nodes.b.peer.inbound.inboxes)


async def hosts_and_channels(world: World) -> None:
    """Channels between hosts, one of which loses power while it writes."""
    assert isinstance(world, SimWorld)
    async with ActorSystem.open(world) as system:
        workers: list[Ref[Working]] = [system.spawn(Worker, f"w{n}", host=f"h{n % 2}") for n in range(4)]
        readers = []
        for worker in workers:
            writer, reader = system.own_channel("numbers", 4)
            await worker.ask(Count(50, writer))
            readers.append(reader)
        world.call_later(0.01, world.host("h1").crash)
        for reader in readers:
            try:
                async for _ in reader:
                    await world.sleep(world.rng("reader").random() * 0.001)
            except Exception as error:
                world.dispatcher.note("ended", repr(error))


PROGRAM = """
import logging
from tests.actors.test_same_run import hosts_and_channels, two_nodes
from understudy.actors import Shuffled, SimWorld
logging.disable(logging.CRITICAL)
for main in (two_nodes, hosts_and_channels):
    for seed in range(3):
        world = SimWorld(seed=seed, schedule=Shuffled(seed), turns_max=200_000)
        world.run(main)
        print(main.__name__, world.trace_hash(), world.steps)
"""


def test_nodes_hosts_and_channels_run_alike_in_any_process() -> None:
    root = Path(__file__).resolve().parents[2]
    seen = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2", "4242")
    }
    assert len(seen) == 1, seen
    hashes = next(iter(seen)).split()[1::3]
    assert len(set(hashes)) == 6, "each seed is another run"


def test_a_seed_is_another_run_of_channels_here_too() -> None:
    worlds = [SimWorld(seed=seed, schedule=Shuffled(seed)) for seed in (1, 1, 2)]
    for world in worlds:
        world.run(hosts_and_channels)
    one, again, other = (world.trace_hash() for world in worlds)
    assert one == again != other
