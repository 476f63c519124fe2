"""`understudy store` on folders that a real group left behind."""

import json
import shutil
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from understudy.actors import ActorSystem, RealWorld
from understudy.actors.real_disk import RealDisk
from understudy.cli import understudy
from understudy.raftstore.group import raft_group
from understudy.raftstore.options import GroupOptions, MemberOptions
from understudy.raftstore.storage import Put, Range
from understudy.raftstore.wal.folder import segment_name
from understudy.raftstore.wal.logs import DEFAULT_TOKEN, DiskLogs
from understudy.raftstore.wal.segments import LogOptions

WRITES = 60
OPTIONS = GroupOptions(member=MemberOptions(snapshot_entries=25, keep_entries=5))


async def use(root: Path, writes: int) -> tuple[int, int]:
    """Write to a group with its folders below `root`; the count of keys and the revision after it."""
    logs = DiskLogs("", RealDisk(root), options=LogOptions(segment_bytes=4096))
    async with RealWorld.open() as world, ActorSystem.open(world) as system:
        store = system.spawn(raft_group(OPTIONS, None, logs), "etcd")
        for number in range(writes):
            await store.ask(Put(b"/k/%03d" % number, b"v" * 40))
        reply = await store.ask(Range(b"/", b"0"))
        return reply.count, reply.revision


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    assert trio.run(use, root, WRITES) == (WRITES, WRITES + 1)
    return root


@pytest.fixture
def root(left_behind: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(left_behind, tmp_path / "data"))


def store(*arguments: object, answer: str = "") -> Result:
    return CliRunner().invoke(
        understudy, ["store", *map(str, arguments)], input=answer, standalone_mode=False
    )


def flip(file: Path, offset: int) -> None:
    data = bytearray(file.read_bytes())
    data[offset] ^= 4
    file.write_bytes(data)


def test_a_whole_store_is_verified_and_goes_on(root: Path) -> None:
    result = store("verify", root)
    assert result.return_value == 0, result.output
    assert result.output.count("member-") == 3 and ".wal" in result.output and ".snap" in result.output
    reports = json.loads(store("verify", root, "--json").output)
    assert {report["last_index"] for report in reports} >= {WRITES + 2}
    assert trio.run(use, root, 0) == (WRITES, WRITES + 1)


def test_damage_is_named_with_file_and_byte_and_exit_code_1(root: Path) -> None:
    segment = sorted((root / "member-2").glob("*.wal"))[0]
    flip(segment, 540)
    result = store("verify", root / "member-2")
    assert result.return_value == 1
    assert f"{segment.name}, byte 512" in result.output.replace("\n", "")
    dumped = store("dump", root / "member-2")
    assert dumped.return_value == 1 and f"{segment}, byte 512: " in dumped.output
    assert store("verify", root / "member-1").return_value == 0
    assert store("verify", root).return_value == 1


def test_entries_are_dumped_with_key_and_revision(root: Path) -> None:
    lines = store("dump", root / "member-1", "--json").output.splitlines()
    snapshot, *entries = map(json.loads, lines)
    assert snapshot["snapshot"] + 1 == entries[0]["index"]
    puts = [entry for entry in entries if entry["request"] == "Put" and entry["committed"]]
    last = puts[-1]
    number = last["revision"] - 2
    assert last["key"] == f"/k/{number:03}" and last["value_bytes"] == 40
    text = store("dump", root / "member-1").output
    assert f"revision {last['revision']}: Put {last['key']} = vvv" in text


def test_a_repair_says_what_is_lost_asks_and_keeps_what_it_cut(root: Path) -> None:
    member = root / "member-3"
    segment = sorted(member.glob("*.wal"))[-1]
    flip(segment, 520)
    before = {file.name: file.read_bytes() for file in member.iterdir()}
    refused = store("repair", member, answer="n\n")
    assert refused.return_value == 1 and "lost: " in refused.output
    assert {file.name: file.read_bytes() for file in member.iterdir()} == before
    done = store("repair", member, "--yes")
    assert done.return_value == 0, done.output
    kept = [line.removeprefix("kept: ") for line in done.output.splitlines() if line.startswith("kept: ")]
    assert kept and (member / kept[0]).read_bytes() == before[segment.name]
    assert store("verify", member).return_value == 0
    # It catches up with the others.
    assert trio.run(use, root, 0) == (WRITES, WRITES + 1)


def test_a_log_damaged_before_its_snapshot_begins_again_after_it(root: Path) -> None:
    member = root / "member-3"
    for segment in sorted(member.glob("*.wal"))[:-1]:
        segment.unlink()
    assert store("verify", member).return_value == 1
    done = store("repair", member, "--yes")
    assert "begin again after the snapshot" in done.output and "lost: " in done.output
    assert store("verify", member).return_value == 0
    assert trio.run(use, root, 0) == (WRITES, WRITES + 1)


def test_a_missing_segment_is_damage(root: Path) -> None:
    member = root / "member-1"
    numbers = [int(file.stem, 16) for file in sorted(member.glob("*.wal"))]
    if len(numbers) < 3:
        pytest.fail(f"the fixture has too few segments: {numbers}")
    (member / segment_name(numbers[1])).unlink()
    result = store("verify", member)
    assert result.return_value == 1 and "missing" in result.output


def test_a_folder_in_use_or_of_nobody_is_refused(root: Path, tmp_path: Path) -> None:
    async def held() -> Result:
        lock = await RealDisk(root).lock("member-1/lock")
        result = await trio.to_thread.run_sync(store, "verify", root / "member-1")
        await lock.release()
        return result

    result = trio.run(held)
    assert result.return_value == 2 and "another process" in result.output
    assert f"{root / 'member-1' / 'lock'}: " in result.output
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "nothing"):
        result = store("verify", tmp_path / folder)
        assert result.return_value == 2 and result.output.count("\n") == 1
    assert "Name one of" in store("dump", root).output


def test_what_is_not_there_is_named_as_it_was_given(tmp_path: Path) -> None:
    nothing = tmp_path / "there" / "nothing"
    for command in (["verify"], ["dump"], ["repair"], ["snapshot", "status"], ["snapshot", "restore"]):
        result = store(*command, nothing)
        assert result.return_value == 2 and f"understudy: {nothing}: there is no such" in result.output


def test_a_report_keeps_each_file_on_a_line(root: Path) -> None:
    names = [file.name for file in (root / "member-1").iterdir() if file.suffix in (".wal", ".snap")]
    lines = store("verify", root / "member-1").output.splitlines()
    for name in names:
        assert len([line for line in lines if line.startswith(name)]) == 1
    assert len(lines) == len(names) + 2, lines


def test_a_snapshot_is_described_and_restored(root: Path, tmp_path: Path) -> None:
    file = sorted((root / "member-1").glob("*.snap"))[-1]
    status = json.loads(store("snapshot", "status", file, "--json").output)
    assert status["index"] == int(file.name[:16], 16) and status["keys"] == status["revision"] - 1
    made = store("snapshot", "restore", file, "--data-dir", tmp_path / "new", "--token", DEFAULT_TOKEN)
    assert made.return_value == 0, made.output
    assert trio.run(use, tmp_path / "new", 0) == (status["keys"], status["revision"])
    again = store("snapshot", "restore", file, "--data-dir", tmp_path / "new")
    assert again.return_value == 2 and "exists already" in again.output
    flip(file, 100)
    damaged = store("snapshot", "status", file)
    assert damaged.return_value == 1 and "byte" in damaged.output
    missing = store("snapshot", "status", root / "none.snap")
    assert missing.return_value == 2 and "no such file" in missing.output and "lost" not in missing.output
