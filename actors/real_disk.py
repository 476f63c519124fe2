"""The machine's disk, below one folder. Each call runs in a thread, so that a slow one holds nobody up."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import trio

from .disk import (
    Disk,
    DiskFailed,
    File,
    FileExists,
    InUse,
    Lock,
    NoSpace,
    NoSuchFile,
    NotPermitted,
    parts_of,
    split,
)

T = TypeVar("T")


async def _call(path: str, what: str, function: Callable[[], T]) -> T:
    """Run it in a thread; what the system refuses comes out as an error of the contract."""
    try:
        return await trio.to_thread.run_sync(function)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise NoSuchFile(path) from error
    except FileExistsError as error:
        raise FileExists(path) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(path) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise NotPermitted(path, f"{what}: {error.strerror}") from error
        raise DiskFailed(path, f"{what}: {error.strerror}") from error


class RealFile(File):
    """A file descriptor."""

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    async def read(self, offset: int = 0, size: int | None = None) -> bytes:
        def read() -> bytes:
            end = os.fstat(self._descriptor).st_size
            left = max(0, end - offset) if size is None else size
            parts = []
            position = offset
            while left > 0 and (part := os.pread(self._descriptor, left, position)):
                parts.append(part)
                position += len(part)
                left -= len(part)
            return b"".join(parts)

        return await _call(self._path, "read", read)

    async def write(self, offset: int, data: bytes) -> None:
        await _call(self._path, "write", lambda: self._put(offset, data))

    async def append(self, data: bytes) -> None:
        await _call(self._path, "append", lambda: self._put(os.fstat(self._descriptor).st_size, data))

    def _put(self, offset: int, data: bytes) -> None:
        before = os.fstat(self._descriptor).st_size
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], offset + written)
        except OSError:
            if offset + written > before:
                os.ftruncate(self._descriptor, before)
            raise

    async def truncate(self, size: int) -> None:
        await _call(self._path, "truncate", lambda: os.ftruncate(self._descriptor, size))

    async def sync(self) -> None:
        await _call(self._path, "sync", lambda: os.fdatasync(self._descriptor))

    async def write_synced(self, offset: int, data: bytes) -> None:
        def write() -> None:
            self._put(offset, data)
            os.fdatasync(self._descriptor)

        await _call(self._path, "write and sync", write)

    async def size(self) -> int:
        return await _call(self._path, "size", lambda: os.fstat(self._descriptor).st_size)

    async def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with trio.CancelScope(shield=True):
                await _call(self._path, "close", lambda: os.close(descriptor))


class RealLock(Lock):
    """An open file description that holds flock(2): it ends with the process, however that ends."""

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    async def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with trio.CancelScope(shield=True):
                await _call(self._path, "unlock", lambda: os.close(descriptor))


class RealDisk(Disk):
    """Files below `root`, a folder that exists."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _place(self, path: str) -> Path:
        return self._root.joinpath(*parts_of(path))

    async def open(self, path: str, *, create: bool = False) -> File:
        place = self._place(path)
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        descriptor = await _call(path, "open", lambda: os.open(place, flags, 0o600))
        return RealFile(path, descriptor)

    async def make_folder(self, path: str) -> None:
        place = self._place(path)
        await _call(path, "make folder", lambda: os.mkdir(place, 0o700))

    async def rename(self, old: str, new: str) -> None:
        source, target = self._place(old), self._place(new)
        if split(old)[0] != split(new)[0]:
            raise ValueError(f"a rename stays within one folder: {old!r} to {new!r}")

        def rename() -> None:
            if stat.S_ISDIR(os.stat(source).st_mode):
                raise IsADirectoryError(source)
            if target.is_dir():
                raise NoSuchFile(new)
            os.rename(source, target)

        await _call(old, "rename", rename)

    async def remove(self, path: str) -> None:
        place = self._place(path)
        await _call(path, "remove", lambda: os.unlink(place))

    async def sync_folder(self, path: str = "") -> None:
        place = self._place(path)

        def sync() -> None:
            descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

        await _call(path, "sync folder", sync)

    async def list(self, path: str = "") -> list[str]:
        place = self._place(path)

        def names() -> list[str]:
            with os.scandir(place) as entries:
                return sorted(f"{e.name}/" if e.is_dir(follow_symlinks=False) else e.name for e in entries)

        return await _call(path, "list", names)

    async def lock(self, path: str) -> Lock:
        place = self._place(path)

        def lock() -> int:
            descriptor = os.open(place, os.O_RDWR | os.O_CLOEXEC | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise InUse(path) from None
            except BaseException:
                os.close(descriptor)
                raise
            return descriptor

        return RealLock(path, await _call(path, "lock", lock))
