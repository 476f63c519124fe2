"""A disk, as a store of logs and snapshots needs one: what it promises, and what only a sync makes sure of.

- What was written can be read at once, by every handle. What survives a crash of the host is what was synced:
  `File.sync` for the bytes and the length of a file, `Disk.sync_folder` for which names a folder holds.
- Of writes that were not synced any part may survive, in any order, sector by sector; of changes to a folder
  that were not synced, those up to some moment. A rename is either there or not, never half.
- When a sync fails, what it was to make durable is lost, though it can still be read, and a later sync that
  succeeds does not bring it back: whoever goes on must write it again, or stop ("fsyncgate").
- A rename stays within one folder. Paths are relative, with slashes, and never leave the disk's root.

`SimDisk` and `RealDisk` keep this contract; one test holds both to it.
"""

from abc import ABC, abstractmethod
from types import TracebackType

from attrs import frozen

from understudy.mailbox import Refusal, message

SECTOR_BYTES = 512
"""What a disk writes as a whole or not at all."""


class DiskError(Refusal):
    """A disk did not do what it was asked."""


@message("disk.no-such-file")
@frozen
class NoSuchFile(DiskError):
    """Nothing has that name, or it is a folder where a file is meant, or the other way round."""

    path: str


@message("disk.file-exists")
@frozen
class FileExists(DiskError):
    """Something has that name already."""

    path: str


@message("disk.no-space")
@frozen
class NoSpace(DiskError):
    """The disk is full; the write that found out has not made the file longer."""

    path: str


@message("disk.failed")
@frozen
class DiskFailed(DiskError):
    """The device reported an error. After a failed sync, what was not durable never will be."""

    path: str
    what: str


@message("disk.not-permitted")
@frozen
class NotPermitted(DiskError):
    """The system does not allow it: the rights of a file or folder, or a disk that can only be read."""

    path: str
    what: str


@message("disk.in-use")
@frozen
class InUse(DiskError):
    """Somebody else holds the lock."""

    path: str


@message("disk.crashed")
@frozen
class HostCrashed(DiskError):
    """The handle is from before the host crashed: open the file again."""

    path: str


def parts_of(path: str) -> tuple[str, ...]:
    """The names in a path; none for the root, which is "".

    Raises:
        ValueError: the path is absolute, or has empty, "." or ".." parts.
    """
    if not path:
        return ()
    parts = tuple(path.split("/"))
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ValueError(f"not a path on a disk: {path!r} (relative, no '.', no '..', no double slash)")
    return parts


def split(path: str) -> tuple[str, str]:
    """The folder that a path is in, and its name there."""
    folder, _, name = path.rpartition("/")
    return folder, name


class File(ABC):
    """An open file. It keeps to the file, whatever name that has by now. Close it, or use `async with`."""

    @abstractmethod
    async def read(self, offset: int = 0, size: int | None = None) -> bytes:
        """Bytes from `offset` on, all or at most `size`; fewer at the end of the file."""

    @abstractmethod
    async def write(self, offset: int, data: bytes) -> None:
        """Put bytes at an offset; a gap behind the old end becomes zeros. No bytes change nothing.

        Raises:
            NoSpace: the disk is full.
        """

    @abstractmethod
    async def append(self, data: bytes) -> None:
        """Put bytes at the end.

        Raises:
            NoSpace: the disk is full.
        """

    @abstractmethod
    async def truncate(self, size: int) -> None:
        """Cut the file, or lengthen it with zeros, to that many bytes."""

    @abstractmethod
    async def sync(self) -> None:
        """Return when everything written before the call would survive a crash.

        Raises:
            DiskFailed: it will not; see the module.
        """

    async def write_synced(self, offset: int, data: bytes) -> None:
        """`write`, then `sync`: where each of them is a trip to a thread, one for both.

        Raises:
            NoSpace: the disk is full.
            DiskFailed: it will not survive a crash; see the module.
        """
        await self.write(offset, data)
        await self.sync()

    @abstractmethod
    async def size(self) -> int:
        """Length in bytes."""

    @abstractmethod
    async def close(self) -> None:
        """Give the handle back; this makes nothing durable."""

    async def __aenter__(self) -> "File":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Lock(ABC):
    """A lock that is held. The end of its holder's process, or a crash of its host, frees it too."""

    @abstractmethod
    async def release(self) -> None:
        """Let others have it; a second time does nothing."""


class Disk(ABC):
    """Files in folders. Every method may raise `DiskFailed` and `NotPermitted`."""

    @abstractmethod
    async def open(self, path: str, *, create: bool = False) -> File:
        """Open a file for reading and writing; with `create`, make it when there is none.

        Raises:
            NoSuchFile: there is none, or its folder is missing.
        """

    @abstractmethod
    async def make_folder(self, path: str) -> None:
        """Make a folder in one that exists.

        Raises:
            FileExists: something has that name.
            NoSuchFile: the folder that it would be in is missing.
        """

    @abstractmethod
    async def rename(self, old: str, new: str) -> None:
        """Give a file another name in its folder, in place of whatever file had that, at once.

        Raises:
            NoSuchFile: there is no file `old`, or `new` is a folder.
            ValueError: the names are in two folders.
        """

    @abstractmethod
    async def remove(self, path: str) -> None:
        """Take a file's name away. Open handles go on.

        Raises:
            NoSuchFile: there is no such file.
        """

    @abstractmethod
    async def sync_folder(self, path: str = "") -> None:
        """Return when the names that the folder holds now would survive a crash.

        Raises:
            NoSuchFile: there is no such folder.
        """

    @abstractmethod
    async def list(self, path: str = "") -> list[str]:
        """The names in a folder, sorted; those of folders end with a slash.

        Raises:
            NoSuchFile: there is no such folder.
        """

    @abstractmethod
    async def lock(self, path: str) -> Lock:
        """Hold a file, made if there is none, against everybody who locks it, here or in other processes.

        Raises:
            InUse: somebody holds it.
            NoSuchFile: its folder is missing.
        """

    async def exists(self, path: str) -> bool:
        """Whether a file has that name."""
        folder, name = split(path)
        try:
            return name in await self.list(folder)
        except NoSuchFile:
            return False

    async def read_file(self, path: str) -> bytes:
        """All of a file.

        Raises:
            NoSuchFile: there is none.
        """
        async with await self.open(path) as file:
            return await file.read()

    async def replace_file(self, path: str, data: bytes) -> None:
        """Put a whole file in place of another so that a crash leaves the old one or the new one.

        When this returns, it is the new one. Writes beside it, syncs, renames, syncs the folder.
        """
        beside = f"{path}.new"
        async with await self.open(beside, create=True) as file:
            await file.truncate(0)
            await file.write(0, data)
            await file.sync()
        await self.rename(beside, path)
        await self.sync_folder(split(path)[0])
