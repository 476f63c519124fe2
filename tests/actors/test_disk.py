"""One contract for disks, kept by the simulated and the real one; and what only the former can show."""

import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from understudy.actors import RealWorld, SimWorld
from understudy.actors.disk import (
    SECTOR_BYTES,
    Disk,
    DiskError,
    DiskFailed,
    FileExists,
    HostCrashed,
    InUse,
    NoSpace,
    NoSuchFile,
)
from understudy.actors.real_disk import RealDisk
from understudy.actors.sim_disk import SimDisk
from understudy.actors.world import NoDisk

Main = Callable[[Disk], Awaitable[Any]]


def on_real_disk(main: Main) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return trio.run(main, RealDisk(Path(folder)))


def on_simulated_disk(main: Main, seed: int = 0) -> Any:
    async def run(world: SimWorld) -> Any:
        return await main(SimDisk(world, "local"))

    return SimWorld(seed).run(run)


def on_a_real_worlds_disk(main: Main) -> Any:
    async def run(root: Path) -> Any:
        async with RealWorld.open(disk_root=root) as world:
            return await main(world.disk("local"))

    with tempfile.TemporaryDirectory() as folder:
        return trio.run(run, Path(folder))


both = pytest.mark.parametrize("run", [on_real_disk, on_a_real_worlds_disk, on_simulated_disk])
Run = Callable[[Main], Any]


@both
def test_files_are_written_read_and_cut(run: Run) -> None:
    async def main(disk: Disk) -> None:
        with pytest.raises(NoSuchFile):
            await disk.open("a")
        async with await disk.open("a", create=True) as file:
            await file.append(b"hello")
            await file.append(b" world")
            await file.write(0, b"J")
            assert await file.read() == b"Jello world"
            assert await file.read(6, 3) == b"wor" and await file.read(100) == b""
            await file.write(13, b"!")
            assert await file.read(11) == b"\0\0!" and await file.size() == 14
            await file.truncate(2)
            await file.truncate(4)
            await file.sync()
        assert await disk.read_file("a") == b"Je\0\0"

    run(main)


@both
def test_folders_hold_names(run: Run) -> None:
    async def main(disk: Disk) -> None:
        await disk.make_folder("f")
        for path in ("f", ""):
            with pytest.raises(FileExists):
                await disk.make_folder(path)
        for path in ("x/y", "f/x/y"):
            with pytest.raises(NoSuchFile):
                await disk.make_folder(path)
            with pytest.raises(NoSuchFile):
                await disk.open(path, create=True)
        await disk.replace_file("f/b", b"1")
        await disk.replace_file("f/a", b"2")
        await disk.replace_file("f/b", b"3")
        assert await disk.list("f") == ["a", "b"] and await disk.list() == ["f/"]
        assert await disk.exists("f/b") and not await disk.exists("f/c") and not await disk.exists("g/c")
        await disk.rename("f/a", "f/b")
        assert await disk.list("f") == ["b"] and await disk.read_file("f/b") == b"2"
        await disk.remove("f/b")
        for wrong in (disk.remove("f/b"), disk.remove("f"), disk.open("f"), disk.list("f/b")):
            with pytest.raises(NoSuchFile):
                await wrong
        await disk.sync_folder("f")
        with pytest.raises(NoSuchFile):
            await disk.sync_folder("g")

    run(main)


@both
def test_an_open_file_outlives_its_name(run: Run) -> None:
    async def main(disk: Disk) -> None:
        async with await disk.open("a", create=True) as file:
            await disk.rename("a", "b")
            await disk.remove("b")
            await file.append(b"still here")
            assert await file.read() == b"still here"
        assert await disk.list() == []

    run(main)


@both
@pytest.mark.parametrize("path", ["/a", "a/../b", "./a", "a//b", "a/", "a\0b"])
def test_paths_stay_on_the_disk(run: Run, path: str) -> None:
    async def main(disk: Disk) -> None:
        with pytest.raises(ValueError):
            await disk.open(path, create=True)

    run(main)


@both
def test_a_rename_stays_in_its_folder(run: Run) -> None:
    async def main(disk: Disk) -> None:
        await disk.make_folder("f")
        await disk.replace_file("a", b"")
        with pytest.raises(ValueError, match="one folder"):
            await disk.rename("a", "f/a")
        with pytest.raises(NoSuchFile):
            await disk.rename("a", "f")
        with pytest.raises(NoSuchFile):
            await disk.rename("f", "g")

    run(main)


paths = st.sampled_from(["a", "b", "f/a", "f/b", "g/a", "f", ""])
small = st.binary(max_size=5)
operations = st.one_of(
    st.tuples(st.just("append"), paths, small),
    st.tuples(st.just("write"), paths, st.integers(0, 8), small),
    st.tuples(st.just("truncate"), paths, st.integers(0, 8)),
    st.tuples(st.just("read"), paths),
    st.tuples(st.just("rename"), paths, paths),
    st.tuples(st.just("remove"), paths),
    st.tuples(st.just("make_folder"), paths),
    st.tuples(st.just("list"), paths),
    st.tuples(st.just("sync_folder"), paths),
)


async def perform(disk: Disk, operation: tuple[Any, ...]) -> Any:
    what, path, *rest = operation
    try:
        if what == "read":
            return await disk.read_file(path)
        if what in ("append", "write", "truncate"):
            async with await disk.open(path, create=True) as file:
                await getattr(file, what)(*rest)
                await file.sync()
                return await file.size()
        return await getattr(disk, what)(path, *rest)
    except (DiskError, ValueError) as error:
        return type(error).__name__, getattr(error, "path", "")


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(operations, max_size=15))
def test_both_disks_answer_alike(steps: list[tuple[Any, ...]]) -> None:
    async def main(disk: Disk) -> list[Any]:
        return [await perform(disk, step) for step in steps]

    assert on_simulated_disk(main) == on_real_disk(main)


def test_a_world_without_a_disk_says_so_and_hosts_have_disks_of_their_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with RealWorld.open() as world:
            with pytest.raises(NoDisk, match="disk_root"):
                world.disk("local")
        async with RealWorld.open(disk_root=tmp_path) as world:
            await world.disk("one").replace_file("a", b"1")
            assert await world.disk("two").list() == [] and await world.disk("one").list() == ["a"]

    trio.run(main)


# -- crashes


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 1500)), max_size=6))
def test_what_was_synced_survives_and_the_rest_survives_by_sectors(
    seed: int, writes: list[tuple[int, int]]
) -> None:
    async def main(disk: Disk) -> None:
        assert isinstance(disk, SimDisk)
        await disk.replace_file("log", b"\1" * 2000)
        file = await disk.open("log")
        possible = [{1} if n < 2000 else {0} for n in range(6000)]
        for mark, (offset, length) in enumerate(writes, 2):
            await file.write(offset, bytes([mark]) * length)
            for n in range(offset, offset + length):
                possible[n].add(mark)
            for n in range(2000, offset):
                possible[n].add(0)
        whole = await file.read()
        disk.crash()
        with pytest.raises(HostCrashed):
            await file.read()
        after = await disk.read_file("log")
        assert 2000 <= len(after) <= len(whole)
        assert all(byte in possible[n] for n, byte in enumerate(after))
        # Within one sector, one write is there as a whole or not at all.
        if len(writes) == 1:
            offset, length = writes[0]
            for start in range(0, len(after), SECTOR_BYTES):
                inside = range(max(start, offset), min(start + SECTOR_BYTES, offset + length, 2000))
                assert len({after[n] for n in inside}) <= 1

    on_simulated_disk(main, seed)


@given(st.integers(0, 1 << 30), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_replacing_a_file_leaves_the_old_or_the_new_one_whenever_it_crashes(seed: int, at: int) -> None:
    old, new = b"old" * 700, b"new!" * 900

    async def run(world: SimWorld) -> None:
        disk = SimDisk(world, "local")
        await disk.replace_file("state", old)
        disk.faults.sync_seconds = 0.01
        finished = []

        async def replace() -> None:
            try:
                await disk.replace_file("state", new)
                finished.append(True)
            except HostCrashed:
                pass

        async with world.nursery() as nursery:
            nursery.start_soon(replace)
            await world.sleep(at / 1000)
            disk.crash()
        content = await disk.read_file("state")
        assert content == new if at >= 20 and finished else content in (old, new)

    SimWorld(seed).run(run)


def test_unsynced_names_and_writes_are_lost_in_some_runs_and_kept_in_others() -> None:
    async def main(disk: Disk) -> tuple[list[str], bytes]:
        assert isinstance(disk, SimDisk)
        await disk.replace_file("log", b"")
        async with await disk.open("log") as log:
            await log.append(b"entry")
        async with await disk.open("unsynced name", create=True) as file:
            await file.append(b"x")
            await file.sync()
        disk.crash()
        return await disk.list(), await disk.read_file("log")

    results = [on_simulated_disk(main, seed) for seed in range(20)]
    assert {tuple(names) for names, _ in results} == {("log",), ("log", "unsynced name")}
    assert {content for _, content in results} == {b"", b"entry"}
    assert results == [on_simulated_disk(main, seed) for seed in range(20)]


def test_after_a_failed_sync_the_data_is_read_but_never_durable_though_syncs_succeed() -> None:
    async def main(disk: Disk) -> None:
        assert isinstance(disk, SimDisk)
        await disk.replace_file("log", b"before ")
        file = await disk.open("log")
        await file.append(b"lost")
        disk.fail_next_sync()
        with pytest.raises(DiskFailed):
            await file.sync()
        assert await file.read() == b"before lost"
        await file.sync()
        await file.append(b" kept")
        await file.sync()
        disk.crash()
        assert await disk.read_file("log") == b"before \0\0\0\0 kept"

    on_simulated_disk(main)


def test_a_sync_covers_what_was_written_before_it_began() -> None:
    async def run(world: SimWorld) -> None:
        disk = SimDisk(world, "local")
        await disk.replace_file("log", b"")
        disk.faults.sync_seconds = 1.0
        disk.faults.torn_writes = False
        file = await disk.open("log")
        await file.append(b"early")

        async def late() -> None:
            await world.sleep(0.5)
            await file.append(b" late")

        async with world.nursery() as nursery:
            nursery.start_soon(late)
            await file.sync()
            assert world.monotonic() == 1.0
        disk.crash()
        assert await disk.read_file("log") in (b"early", b"early late")

    for seed in range(8):
        SimWorld(seed).run(run)


def test_a_full_disk_refuses_and_takes_again_what_fits() -> None:
    async def main(disk: Disk) -> None:
        assert isinstance(disk, SimDisk)
        disk.faults.capacity_bytes = 10
        file = await disk.open("a", create=True)
        await file.append(b"12345678")
        for wrong in (file.append(b"90a"), file.truncate(11), file.write(9, b"xx")):
            with pytest.raises(NoSpace):
                await wrong
        assert await file.read() == b"12345678"
        await file.write(0, b"overwrite")
        await disk.remove("a")
        async with await disk.open("b", create=True) as other:
            await other.append(b"1234567890")

    on_simulated_disk(main)


def test_misdirected_writes_and_flipped_bits() -> None:
    async def main(disk: Disk) -> None:
        assert isinstance(disk, SimDisk)
        await disk.replace_file("a", bytes(8 * SECTOR_BYTES))
        file = await disk.open("a")
        disk.misdirect_next_write()
        await file.write(0, b"x")
        content = await file.read()
        assert content[0] == 0 and content.count(b"x") == 1 and len(content) == 8 * SECTOR_BYTES
        assert content.index(b"x") % SECTOR_BYTES == 0
        disk.flip_bit("a", 9)
        assert (await file.read(1, 1)) == b"\2"
        disk.crash()
        assert (await disk.read_file("a"))[1] == 2
        disk.faults.bit_flip_chance = 1.0
        before = bytes(disk._inode("a").content)
        after = await disk.read_file("a")
        assert sum((x ^ y).bit_count() for x, y in zip(before, after, strict=True)) == 1

    for seed in range(5):
        on_simulated_disk(main, seed)


@both
def test_a_lock_is_held_by_one_at_a_time(run: Run) -> None:
    async def main(disk: Disk) -> None:
        held = await disk.lock("lock")
        with pytest.raises(InUse):
            await disk.lock("lock")
        await held.release()
        again = await disk.lock("lock")
        await held.release()
        with pytest.raises(InUse):
            await disk.lock("lock")
        await again.release()
        with pytest.raises(NoSuchFile):
            await disk.lock("missing/lock")

    run(main)


@both
def test_written_and_synced_at_once_is_written(run: Run) -> None:
    async def main(disk: Disk) -> None:
        async with await disk.open("a", create=True) as file:
            await file.write_synced(0, b"hello")
            await file.write_synced(3, b"p!")
        assert await disk.read_file("a") == b"help!"

    run(main)


def test_a_crash_frees_locks_and_keeps_what_was_written_and_synced_at_once() -> None:
    async def run(world: SimWorld) -> None:
        disk = SimDisk(world, "local")
        await disk.lock("lock")
        async with await disk.open("a", create=True) as file:
            await disk.sync_folder()
            await file.write_synced(0, b"kept")
        disk.crash()
        assert await disk.read_file("a") == b"kept"
        await disk.lock("lock")

    SimWorld(1).run(run)
