"""Real processes, killed with SIGKILL and started again on their folders while clients write, read and watch.

Afterwards the history is linearizable; every acknowledged write is there and none is half done; the members
have the same hash at the same revision; every watch kept its guarantees; leases last as long as they were
said to, and end; who was removed has stopped; `understudy store verify` finds nothing wrong.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import trio
from attrs import define, evolve
from click.testing import CliRunner

from tests.raftstore.etcd.etcds import at
from tests.raftstore.proof.budget import seeds
from tests.raftstore.proof.membership import Changes
from tests.raftstore.proof.processes import ServerProcess, member_processes, one_process
from tests.raftstore.proof.verification import Verification, Verified
from tests.raftstore.proof.watchers import ALL, Watchers
from tests.raftstore.proof.wires import Wires
from tests.raftstore.proof.workload import KEYS, Workload, leading
from understudy.actors import ActorSystem, RealWorld, Ref
from understudy.actors.real_disk import RealDisk
from understudy.cli import understudy
from understudy.mailbox import Refusal
from understudy.raftstore.group import raft_group
from understudy.raftstore.machine import StateMachine
from understudy.raftstore.storage import HashKV, Put, Range, Storage, Watch
from understudy.raftstore.wal.logs import DiskLogs

CLIENTS = 5
KILLS = 5
"""In one run; a campaign has many runs."""
AGAIN_SECONDS = 20.0
"""Within this time after a restart something is acknowledged."""


@define(eq=False)
class Working:
    """Clients and watchers of a store, until the block ends; then everything is checked."""

    work: Workload
    watchers: Watchers
    all_stores: list[Ref[Storage]]
    """Also of those who do not belong to it yet."""
    verified: Verified | None = None


@asynccontextmanager
async def working(urls: list[str], seed: int, founders: int) -> AsyncIterator[Working]:
    """Clients and watchers at the first of these, until the block ends; then everything is checked."""
    async with RealWorld.open(seed=seed) as world, ActorSystem.open(world) as system:
        stores = [system.spawn(at(url), f"client-{place}") for place, url in enumerate(urls)]
        # What a refusal says is compacted, a client of the wire asks for afterwards.
        work = Workload(system, stores[:founders], ask_seconds=5.0, pause_seconds=0.03, exact=False)
        working = Working(work, Watchers(work), stores)
        watchers = working.watchers
        try:
            async with world.nursery() as watching:
                watching.start_soon(watchers.chronicler)
                watching.start_soon(watchers.digger, 0)
                watching.start_soon(watchers.watcher, 0, ALL, 1000)
                watching.start_soon(watchers.watcher, 1, evolve(ALL, no_delete=True, prev_kv=False), 30)
                watching.start_soon(watchers.watcher, 2, Watch(KEYS[0], start_revision=1, prev_kv=True), 1000)
                async with world.nursery() as asking:
                    for number in range(CLIENTS):
                        asking.start_soon(work.client, number)
                    for number in range(founders):
                        asking.start_soon(work.reader, number)
                    for role in (work.lessee, work.historian, work.compactor, work.auditor):
                        asking.start_soon(role, 0)
                    yield working
                    work.over = True
                working.verified = await Verification(work, watchers).verify()
        except AssertionError as error:
            error.add_note(f"seed {seed}\nhistory = [\n{work.shown()}\n]")
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
                async with working([url], seed, 1) as working_:
                    for _ in range(KILLS):
                        await working_.work.until_answered(random.randrange(1, 60), AGAIN_SECONDS)
                        await process.kill()
                        await process.start()
                    await process.until_ready()
                    await working_.work.until_answered(20, AGAIN_SECONDS)
            finally:
                await process.stop()
        return working_.verified

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
    "replace",
)
LED_SECONDS = 10.0
STOPPED_SECONDS = 10.0


@define(eq=False)
class Machines:
    """The processes of a group, one member each, and what happens to them."""

    processes: list[ServerProcess]
    wires: Wires
    working: Working
    random: Random
    places: list[int]
    """Which of the processes belong to the group: in the order of the workload's stores."""
    kills: int = 0

    async def led(self, but: int | None = None) -> int:
        """Which place leads, as soon as one does, other than `but`."""
        work = self.working.work
        with trio.fail_after(LED_SECONDS):
            while True:
                others = [place for place in self.places if place != but]
                found = await leading([self.working.all_stores[place] for place in others])
                if found is not None:
                    return others[found]
                await work.world.sleep(0.05)

    async def inflict(self, fault: str) -> None:
        """One fault, from its beginning until it is mended."""
        work, random = self.working.work, self.random
        one = await self.led() if "leader" in fault else random.choice(self.places)
        if "pause" in fault:
            self.processes[one].pause()
            # The others go on, under another leader if need be.
            await work.until_answered(20, AGAIN_SECONDS)
            await work.world.sleep(random.choice([0.0, 1.0]))
            self.processes[one].resume()
        elif "isolate" in fault:
            self.wires.isolate(one)
            # Nobody told it, or the others: they find out.
            await self.led(but=one)
            await work.until_answered(40, AGAIN_SECONDS)
            await work.world.sleep(random.choice([0.0, 1.0]))
            self.wires.mend()
        elif fault == "replace":
            await self.replace(one)
        else:
            count = {"kill two": 2, "kill all": 3}.get(fault, 1)
            others = [place for place in self.places if place != one]
            await self.kill([one, *others[: count - 1]])

    async def kill(self, chosen: list[int]) -> None:
        for place in chosen:
            await self.processes[place].kill()
        self.kills += len(chosen)
        if len(chosen) == 1:
            await self.working.work.until_answered(20, AGAIN_SECONDS)
        for place in chosen:
            await self.processes[place].start()

    async def replace(self, leaving: int) -> None:
        """Let the spare process in as a learner, promote it after a kill, remove another, which stops."""
        work, spare = self.working.work, len(self.processes) - 1
        changes = Changes(work.world, work.stores)
        with trio.fail_after(4 * AGAIN_SECONDS):
            # The members have said their names, so that it can be told which of them is to leave.
            while "" in (names := {member.name: member.id for member in await changes.listed()}):
                await work.world.sleep(0.05)
            url = f"http://127.0.0.1:{self.wires.outside[spare]}"
            member = await changes.let_in(url, is_learner=True)
            assert member is not None
            await self.processes[spare].start()
            await self.kill([self.random.choice([place for place in self.places if place != leaving])])
            assert await changes.promote(member)
            await self.processes[spare].until_ready()
            self.places.append(spare)
            work.stores.append(self.working.all_stores[spare])
            self.processes[leaving].ends_by_itself = True
            assert await changes.remove(names[NAMES[leaving]])
        self.places.remove(leaving)
        gone = self.working.all_stores[leaving]
        work.stores.remove(gone)
        await self.until_stopped(gone)
        await self.processes[leaving].until_ended(STOPPED_SECONDS)

    async def until_stopped(self, gone: Ref[Storage]) -> None:
        """Who was removed answers nothing any more, not even what it knows."""
        with trio.fail_after(STOPPED_SECONDS):
            while True:
                try:
                    await gone.ask(Range(KEYS[0], serializable=True), 1.0)
                except Refusal:
                    break
                await self.working.work.world.sleep(0.05)
        with pytest.raises(Refusal):
            await gone.ask(Put(b"lost", b""), 1.0)


NAMES = "abcd"


@pytest.mark.parametrize("seed", seeds(1))
def test_members_in_processes_of_their_own_are_killed_paused_cut_off_and_replaced(
    seed: int, tmp_path: Path
) -> None:
    random = Random(f"members {seed}")
    faults = [*random.sample(FAULTS, len(FAULTS)), "kill"]
    kills = 0

    async def main() -> Verified | None:
        nonlocal kills
        async with trio.open_nursery() as nursery:
            processes, urls, wires = await member_processes(tmp_path, nursery)
            founders = len(processes) - 1
            try:
                for process in processes[:founders]:
                    await process.start()
                for process in processes[:founders]:
                    await process.until_ready()
                async with working(urls, seed, founders) as working_:
                    work = working_.work
                    machines = Machines(processes, wires, working_, random, list(range(founders)))
                    for fault in faults:
                        await work.until_answered(random.randrange(1, 60), AGAIN_SECONDS)
                        await machines.inflict(fault)
                    for place in machines.places:
                        await processes[place].until_ready()
                    await work.until_answered(20, AGAIN_SECONDS)
                    kills = machines.kills
            finally:
                for process in processes:
                    await process.stop()
                nursery.cancel_scope.cancel()
        return working_.verified

    verified = trio.run(main)
    for name in NAMES:
        verify(tmp_path / name)
    print(f"seed {seed}: {kills} kills of members, {verified}")
    assert kills == 9
    assert verified is not None and verified.operations > 20 * len(faults), verified
