"""Real processes, killed with SIGKILL and started again on their folders while clients write, read and watch.

Afterwards the history is linearizable; every acknowledged write is there and none is half done; the members
have the same hash at the same revision; every watch kept etcd's guarantees; `understudy store verify` finds
nothing wrong.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import trio
from attrs import evolve
from click.testing import CliRunner

from tests.raftstore.etcd.etcds import at
from tests.raftstore.proof.budget import seeds
from tests.raftstore.proof.processes import ServerProcess, member_processes, one_process
from tests.raftstore.proof.wires import Wires
from tests.raftstore.proof.workload import ALL, KEYS, Verified, Workload, leading
from understudy.actors import ActorSystem, RealWorld
from understudy.actors.real_disk import RealDisk
from understudy.cli import understudy
from understudy.raftstore.group import raft_group
from understudy.raftstore.machine import StateMachine
from understudy.raftstore.storage import HashKV, Range, Watch
from understudy.raftstore.wal.logs import DiskLogs

CLIENTS = 5
KILLS = 5
"""In one run; a campaign has many runs."""
AGAIN_SECONDS = 20.0
"""Within this time after a restart something is acknowledged."""


@asynccontextmanager
async def working(urls: list[str], seed: int) -> AsyncIterator[Workload]:
    """Clients and watchers at all of these, until the block ends; then everything is checked."""
    async with RealWorld.open(seed=seed) as world, ActorSystem.open(world) as system:
        stores = [system.spawn(at(url), f"client-{place}") for place, url in enumerate(urls)]
        workload = Workload(system, stores, Random(seed), ask_seconds=5.0, pause_seconds=0.03)
        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS):
                nursery.start_soon(workload.client, number)
            for number in range(len(urls)):
                nursery.start_soon(workload.reader, number)
            nursery.start_soon(workload.watcher, 0, ALL, 1000)
            nursery.start_soon(workload.watcher, 1, evolve(ALL, no_delete=True, prev_kv=False), 30)
            nursery.start_soon(workload.watcher, 2, Watch(KEYS[0], start_revision=1, prev_kv=True), 1000)
            yield workload
            workload.over = True
        try:
            workload.verified = await workload.check()
        except AssertionError as error:
            error.add_note(f"seed {seed}\nhistory = [\n{workload.shown()}\n]")
            raise


def verify(folder: Path) -> None:
    done = CliRunner().invoke(understudy, ["store", "verify", str(folder)], standalone_mode=False)
    assert done.return_value == 0, done.output


async def same_state_in(folder: Path) -> None:
    """Every member of a stopped process has the same state."""
    logs = DiskLogs("", RealDisk(folder), token="etcd-cluster")
    machines: list[StateMachine] = []
    async with RealWorld.open() as world, ActorSystem.open(world) as system:
        store = system.spawn(raft_group(disk_logs=logs), "etcd")
        revision = (await store.ask(Range(b"\0"))).revision
        for number in (1, 2, 3):
            actor = system._cells[f"/etcd/member-{number}"].actor
            machines.append(actor.machine)  # type: ignore[union-attr]
        with world.deadline(10.0):
            while any(machine.store.revision < revision for machine in machines):
                await world.sleep(0.01)
        hashes = [machine.store.hash(HashKV(revision)).hash for machine in machines]
        assert len(set(hashes)) == 1, f"members differ at revision {revision}: {hashes}"


@pytest.mark.parametrize("seed", seeds(1))
def test_a_process_with_all_members_is_killed_again_and_again(seed: int, tmp_path: Path) -> None:
    random = Random(seed)

    async def main() -> Verified | None:
        async with trio.open_nursery() as nursery:
            process, url = one_process(tmp_path, nursery)
            try:
                await process.start()
                await process.until_ready()
                async with working([url], seed) as workload:
                    for _ in range(KILLS):
                        await workload.until_answered(random.randrange(1, 60), AGAIN_SECONDS)
                        await process.kill()
                        await process.start()
                    await process.until_ready()
                    await workload.until_answered(20, AGAIN_SECONDS)
            finally:
                await process.stop()
        return workload.verified

    verified = trio.run(main)
    verify(tmp_path / "data")
    trio.run(same_state_in, tmp_path / "data")
    verify(tmp_path / "data")
    print(f"seed {seed}: {KILLS} kills of the whole process, {verified}")
    assert verified is not None and verified.operations > 20 * KILLS and verified.events > 20, verified


FAULTS = (
    "kill",
    "kill the leader",
    "kill two",
    "kill all",
    "pause",
    "pause the leader",
    "isolate",
    "isolate the leader",
)
LED_SECONDS = 10.0


async def led(workload: Workload, but: int | None = None) -> int:
    """Which of the members leads, as soon as one does, other than `but`."""
    with trio.fail_after(LED_SECONDS):
        while True:
            stores = [store for place, store in enumerate(workload.stores) if place != but]
            place = await leading(stores)
            if place is not None:
                return workload.stores.index(stores[place])
            await workload.world.sleep(0.05)


async def inflict(
    fault: str, processes: list[ServerProcess], wires: Wires, workload: Workload, random: Random
) -> int:
    """One fault, from its beginning until it is mended; returns how many processes were killed."""
    one = await led(workload) if "leader" in fault else random.randrange(len(processes))
    if "pause" in fault:
        processes[one].pause()
        # The others go on, under another leader if need be.
        await workload.until_answered(20, AGAIN_SECONDS)
        await workload.world.sleep(random.choice([0.0, 1.0]))
        processes[one].resume()
        return 0
    if "isolate" in fault:
        wires.isolate(one)
        # Nobody told it, or the others: they find out.
        await led(workload, but=one)
        await workload.until_answered(40, AGAIN_SECONDS)
        await workload.world.sleep(random.choice([0.0, 1.0]))
        wires.mend()
        return 0
    count = {"kill two": 2, "kill all": 3}.get(fault, 1)
    chosen = [processes[(one + place) % len(processes)] for place in range(count)]
    for process in chosen:
        await process.kill()
    if count == 1:
        await workload.until_answered(20, AGAIN_SECONDS)
    for process in chosen:
        await process.start()
    return count


@pytest.mark.parametrize("seed", seeds(1))
def test_members_in_processes_of_their_own_are_killed_paused_and_cut_off(seed: int, tmp_path: Path) -> None:
    random = Random(f"members {seed}")
    faults = [*random.sample(FAULTS, len(FAULTS)), "kill"]
    kills = 0

    async def main() -> Verified | None:
        nonlocal kills
        async with trio.open_nursery() as nursery:
            processes, urls, wires = await member_processes(tmp_path, nursery)
            try:
                for process in processes:
                    await process.start()
                for process in processes:
                    await process.until_ready()
                async with working(urls, seed) as workload:
                    for fault in faults:
                        await workload.until_answered(random.randrange(1, 60), AGAIN_SECONDS)
                        kills += await inflict(fault, processes, wires, workload, random)
                    for process in processes:
                        await process.until_ready()
                    await workload.until_answered(20, AGAIN_SECONDS)
            finally:
                for process in processes:
                    await process.stop()
                nursery.cancel_scope.cancel()
        return workload.verified

    verified = trio.run(main)
    for name in "abc":
        verify(tmp_path / name)
    print(f"seed {seed}: {kills} kills of members, {verified}")
    assert kills == 8
    assert verified is not None and verified.operations > 20 * len(faults), verified
