"""Private keys of the real world: made once, kept where the world keeps its disks."""

import stat
from pathlib import Path

import pytest
import trio

from understudy.actors import RealWorld
from understudy.actors.real import KEYS_FOLDER, STARTS_FILE
from understudy.actors.startup import StartError


async def keys(root: Path | None) -> tuple[bytes, bytes]:
    async with RealWorld.open(disk_root=root) as world:
        rsa, ec = await world.keys.rsa_private_key("a"), await world.keys.ec_private_key("a")
        assert (rsa, ec) == (await world.keys.rsa_private_key("a"), await world.keys.ec_private_key("a"))
        return rsa, ec


def test_keys_in_memory_are_new_in_each_world() -> None:
    first, second = trio.run(keys, None), trio.run(keys, None)
    assert len({*first, *second}) == 4


def test_kept_keys_are_the_same_in_each_world_and_their_owners_alone(tmp_path: Path) -> None:
    root = tmp_path / "made" / "too"
    first = trio.run(keys, root)
    assert trio.run(keys, root) == first
    folder = root / KEYS_FOLDER
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_a_key_that_was_half_written_when_the_process_died_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / KEYS_FOLDER
    folder.mkdir()
    (folder / "a.ec.pem.new").write_bytes(b"-----BEGIN")
    first = trio.run(keys, tmp_path)
    assert trio.run(keys, tmp_path) == first
    assert first[1].startswith(b"-----BEGIN PRIVATE KEY-----")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        trio.run(keys, tmp_path / "file")


async def test_a_world_with_a_seed_and_disks_draws_nothing_twice(tmp_path: Path) -> None:
    """What was drawn before is on the disks: the UIDs of objects, for instance."""
    drawn = []
    for seed in (7, 7, 7):
        async with RealWorld.open(seed, tmp_path) as world:
            drawn.append(world.uuid())
    async with RealWorld.open(7) as world:
        assert world.uuid() == drawn[0]
    assert len(set(drawn)) == 3


async def test_a_count_of_starts_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / STARTS_FILE).write_text("many")
    with pytest.raises(StartError, match=r"says 'many' \(write a number"):
        async with RealWorld.open(7, tmp_path):
            pass
