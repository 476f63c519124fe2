"""Snapshots on a disk: written aside a chunk at a time, synced, named; read back and checked."""

from collections.abc import Iterable
from typing import Final

from attrs import define

from understudy.actors.disk import Disk, File, split
from understudy.raftstore.messages import Snapshot
from understudy.raftstore.wal.errors import Damaged
from understudy.raftstore.wal.folder import NEW
from understudy.raftstore.wal.snapshot_format import SnapshotError, SnapshotReader

READ_BYTES: Final = 64 << 10
ADVICE: Final = (
    "Nothing was changed. Remove this member from its group and add it again with an empty folder, or "
    "restore the file from a copy"
)


@define
class SnapshotWriter:
    """A snapshot on its way to the disk, under another name until it is whole and synced."""

    disk: Disk
    path: str
    size_bytes: int = 0
    _file: File | None = None

    async def add(self, data: bytes) -> None:
        if self._file is None:
            self._file = await self.disk.open(self.path + NEW, create=True)
            await self._file.truncate(0)
        await self._file.write(self.size_bytes, data)
        self.size_bytes += len(data)

    async def finish(self) -> None:
        """Give it its name, durably."""
        assert self._file is not None, f"{self.path}: an empty snapshot"
        await self._file.sync()
        await self.close()
        await self.disk.rename(self.path + NEW, self.path)
        await self.disk.sync_folder(split(self.path)[0])

    async def abandon(self) -> None:
        """It will not be finished: what there is of it is taken away. Nothing if it is finished."""
        if self._file is not None:
            await self.close()
            await self.disk.remove(self.path + NEW)

    async def close(self) -> None:
        """Let go of the file; what is under the other name is removed at the next start."""
        file, self._file = self._file, None
        if file is not None:
            await file.close()


async def write_snapshot(disk: Disk, path: str, chunks: Iterable[bytes]) -> int:
    """Write a snapshot from its chunks, others going first between any two; returns its size in bytes."""
    writer = SnapshotWriter(disk, path)
    try:
        for chunk in chunks:
            await writer.add(chunk)
        await writer.finish()
    finally:
        await writer.close()
    return writer.size_bytes


async def read_snapshot(disk: Disk, path: str) -> tuple[Snapshot, SnapshotReader]:
    """A snapshot, and what its reader learnt.

    Raises:
        Damaged: it is not as it was written.
    """
    reader = SnapshotReader()
    try:
        async with await disk.open(path) as file:
            offset = 0
            while data := await file.read(offset, READ_BYTES):
                reader.feed(data)
                offset += len(data)
        return reader.snapshot(), reader
    except SnapshotError as error:
        raise Damaged(path, error.what, ADVICE, error.offset) from error
