"""A snapshot as `etcdctl snapshot save` wants it: the stream, and a tail that ends in a SHA-256.

etcdctl takes a file for whole when its size is a multiple of 512 and 32 more, and asks for nothing else. So
the stream of `snapshot_format` is followed by zeros, its own length (8 bytes, little-endian), up to the next
multiple of 512; then by the SHA-256 of all before it.
"""

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from understudy.actors import World
from understudy.actors.disk import Disk, File
from understudy.raftstore.messages import Snapshot
from understudy.raftstore.wal.errors import Damaged
from understudy.raftstore.wal.snapshot_files import READ_BYTES
from understudy.raftstore.wal.snapshot_format import SnapshotError, SnapshotReader, snapshot_stream

BLOCK_BYTES: Final = 512
DIGEST_BYTES: Final = 32
SAVE_AGAIN: Final = "Take a copy of it, or save another one: `etcdctl snapshot save FILE`"
_LENGTH_BYTES: Final = 8


def padding(stream_bytes: int) -> bytes:
    """What stands between a stream of that length and the digest."""
    zeros = -(stream_bytes + _LENGTH_BYTES) % BLOCK_BYTES
    return bytes(zeros) + stream_bytes.to_bytes(_LENGTH_BYTES, "little")


async def saved_stream(
    world: World, snapshot: Snapshot, cluster: int
) -> AsyncGenerator[tuple[bytes, int], None]:
    """The file, a piece at a time, each with how many bytes still follow; others go first between any two.

    The state is gone through twice: what follows can only be told once it was measured.
    """
    stream_bytes = 0
    async with aclosing(snapshot_stream(world, snapshot, cluster)) as chunks:
        async for chunk in chunks:
            stream_bytes += len(chunk)
    rest = padding(stream_bytes)
    remaining_bytes = stream_bytes + len(rest) + DIGEST_BYTES
    digest = hashlib.sha256()
    async with aclosing(snapshot_stream(world, snapshot, cluster)) as chunks:
        async for chunk in chunks:
            digest.update(chunk)
            remaining_bytes -= len(chunk)
            yield chunk, remaining_bytes
    assert remaining_bytes == len(rest) + DIGEST_BYTES, (stream_bytes, remaining_bytes)
    digest.update(rest)
    yield rest, DIGEST_BYTES
    yield digest.digest(), 0


async def read_saved_snapshot(
    disk: Disk, path: str, check_digest: bool = True
) -> tuple[Snapshot, SnapshotReader]:
    """A snapshot that was saved, or one of a member's own folder; and what its reader learnt. Without
    `check_digest` the SHA-256 at the end is not looked at.

    Raises:
        Damaged: it is not as it was written.
    """
    reader = SnapshotReader()
    found = hashlib.sha256()
    try:
        async with await disk.open(path) as file:
            size = await file.size()
            stream_bytes, digest = await _parts(file, size)
            offset = 0
            while data := await file.read(offset, min(READ_BYTES, size - len(digest) - offset)):
                found.update(data)
                reader.feed(data[: max(0, stream_bytes - offset)])
                offset += len(data)
        if check_digest and digest and found.digest() != digest:
            raise SnapshotError(stream_bytes, "the SHA-256 at the end is that of another file")
        return reader.snapshot(), reader
    except SnapshotError as error:
        raise Damaged(path, error.what, SAVE_AGAIN, error.offset) from error


async def _parts(file: File, size: int) -> tuple[int, bytes]:
    """The length of a file's stream and the digest at its end; empty where there is no such tail."""
    tail = await file.read(max(0, size - DIGEST_BYTES - BLOCK_BYTES))
    if size % BLOCK_BYTES == DIGEST_BYTES < size:
        block, digest = tail[:-DIGEST_BYTES], tail[-DIGEST_BYTES:]
        stream_bytes = int.from_bytes(block[-_LENGTH_BYTES:], "little")
        expected = padding(stream_bytes)
        if stream_bytes + len(expected) == size - DIGEST_BYTES and block.endswith(expected):
            return stream_bytes, digest
    return size, b""
