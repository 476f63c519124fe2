"""What `etcdctl snapshot save` writes of a store, and reading it back."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.actors import SimWorld, World
from understudy.raftstore.configuration import Configuration
from understudy.raftstore.machine import StateMachine
from understudy.raftstore.messages import Snapshot
from understudy.raftstore.storage import Put
from understudy.raftstore.wal.errors import Damaged
from understudy.raftstore.wal.saved_snapshots import padding, read_saved_snapshot, saved_stream
from understudy.raftstore.wal.snapshot_files import write_snapshot
from understudy.raftstore.wal.snapshot_format import encode_snapshot

PATH = "saved"


def store_of(writes: int) -> Snapshot:
    machine = StateMachine()
    for number in range(writes):
        machine.run(Put(b"key %d" % number, b"x" * number), trusted=True)
    return Snapshot(7, 2, Configuration(voters=(1,)), machine.snapshot())


async def saved(world: World, snapshot: Snapshot) -> bytes:
    return b"".join([data async for data, _ in saved_stream(world, snapshot, 0)])


async def read(world: World, data: bytes) -> Snapshot:
    disk = world.disk("")
    async with await disk.open(PATH, create=True) as file:
        await file.truncate(0)
        await file.write(0, data)
    return (await read_saved_snapshot(disk, PATH))[0]


@given(st.integers(0, 1 << 40))
def test_the_padding_makes_whole_blocks_and_tells_the_length(length: int) -> None:
    block = padding(length)
    assert (length + len(block)) % 512 == 0 and 8 <= len(block) < 520
    assert int.from_bytes(block[-8:], "little") == length and not any(block[:-8])


@pytest.mark.parametrize("writes", [0, 1, 300])
def test_what_was_saved_is_read_back(writes: int) -> None:
    async def main(world: World) -> None:
        snapshot = store_of(writes)
        data = await saved(world, snapshot)
        found = await read(world, data)
        assert (found.index, found.term, found.configuration) == (7, 2, snapshot.configuration)
        assert await saved(world, found) == data
        # So is a file of a member's own.
        await write_snapshot(world.disk(""), PATH, encode_snapshot(snapshot, 0))
        own, _ = await read_saved_snapshot(world.disk(""), PATH)
        assert await saved(world, own) == data

    SimWorld(1, turns_max=200_000).run(main)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[:-1],
    "cut to a block": lambda data: data[: -512 - 32] + data[-32:],
    "without its checksum": lambda data: data[:-32],
    "longer": lambda data: data + b"\0",
    "longer by a block": lambda data: data[:-32] + bytes(512) + data[-32:],
    "another's checksum": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "no zeros": lambda data: data[:-41] + b"\1" + data[-40:],
    "a flipped value": lambda data: data[:300] + bytes([data[300] ^ 1]) + data[301:],
    "nothing": lambda data: b"",
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_damage_is_refused(damage: str) -> None:
    async def main(world: World) -> None:
        data = await saved(world, store_of(40))
        with pytest.raises(Damaged):
            await read(world, DAMAGES[damage](data))

    SimWorld(1, turns_max=200_000).run(main)
