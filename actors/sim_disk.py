"""A simulated disk: remembers what was synced, and loses or breaks the rest as its faults say.

Every file has its bytes as they are read, the bytes that are durable, and the changes between the two, in
order. A crash keeps some of these changes, chosen by the disk's own random stream: each write, sector by
sector, on its own. A folder has its names, its durable names and the changes between; a crash keeps them up
to some point. So does a file without a durable name end at a crash, however well its bytes were synced.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from attrs import define, field

from .disk import (
    SECTOR_BYTES,
    Disk,
    DiskFailed,
    File,
    FileExists,
    HostCrashed,
    InUse,
    Lock,
    NoSpace,
    NoSuchFile,
    parts_of,
    split,
)
from .world import World


@define
class DiskFaults:
    """What goes wrong with a disk, and how slow it is; may be changed at any time. Chances are in [0, 1]."""

    capacity_bytes: int | None = None
    """More than this in all files together is refused with `NoSpace`; None: no limit."""
    sync_seconds: float = 0.0
    """How long a sync takes."""
    sync_error_chance: float = 0.0
    """A sync fails, and what it was to make durable is lost at the next crash."""
    misdirected_write_chance: float = 0.0
    """A write lands up to eight sectors from where it belongs, or nowhere, and is reported as done."""
    bit_flip_chance: float = 0.0
    """Of what is read, one bit is wrong, for good: the medium is bad there."""
    torn_writes: bool = True
    """At a crash, a write that was not synced may survive in part. False: as a whole or not at all."""


@define(eq=False)
class _Change:
    """A change of a file's bytes that is not durable yet."""

    offset: int
    """Where; for a change of length, the new length."""
    data: bytes | None
    """None: the file was cut or lengthened."""
    doomed: bool = False
    """A sync failed on it: nothing will make it durable any more."""

    def apply(self, content: bytearray) -> None:
        if self.data is None:
            del content[self.offset :]
            content.extend(bytes(self.offset - len(content)))
        else:
            content.extend(bytes(max(0, self.offset - len(content))))
            content[self.offset : self.offset + len(self.data)] = self.data

    def pieces(self) -> Iterator[_Change]:
        """The same, sector by sector."""
        if self.data is None:
            yield self
            return
        start, end = self.offset, self.offset + len(self.data)
        while start < end:
            stop = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
            yield _Change(start, self.data[start - self.offset : stop - self.offset])
            start = stop


@define(eq=False)
class _Inode:
    """A file's bytes, whatever names it has."""

    content: bytearray = field(factory=bytearray)
    durable: bytearray = field(factory=bytearray)
    changes: list[_Change] = field(factory=list)
    lock: _SimLock | None = None
    """Who holds it."""

    def change(self, change: _Change) -> None:
        change.apply(self.content)
        self.changes.append(change)

    def synced(self, count: int) -> None:
        """The first `count` changes are on the medium, but for those that are doomed."""
        for change in self.changes[:count]:
            if not change.doomed:
                change.apply(self.durable)
        self.changes = [c for n, c in enumerate(self.changes) if n >= count or c.doomed]

    def crash(self, rng: Random, torn: bool) -> None:
        for change in self.changes:
            if change.doomed:
                continue
            for piece in change.pieces() if torn else [change]:
                if rng.random() < 0.5:
                    piece.apply(self.durable)
        self.changes.clear()
        self.content = bytearray(self.durable)
        self.lock = None


@define(eq=False)
class _Folder:
    """The names in a folder."""

    names: dict[str, _Inode | _Folder] = field(factory=dict)
    durable: dict[str, _Inode | _Folder] = field(factory=dict)
    history: list[dict[str, _Inode | _Folder]] = field(factory=list)
    """The names after each change that is not durable yet."""

    def changed(self) -> None:
        self.history.append(dict(self.names))

    def crash(self, rng: Random, torn: bool) -> None:
        self.durable = [self.durable, *self.history][rng.randint(0, len(self.history))]
        self.history.clear()
        self.names = dict(self.durable)
        for _, entry in sorted(self.names.items()):
            entry.crash(rng, torn)


class SimDisk(Disk):
    """One host's disk."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self._root = _Folder()
        self._rng = world.rng(f"disk {name}")
        self._crashes = 0
        self.faults = DiskFaults()
        self._sync_errors = 0
        self._misdirected = 0

    # -- faults on purpose

    def fail_next_sync(self, count: int = 1) -> None:
        """Let that many syncs fail from now on."""
        self._sync_errors += count

    def misdirect_next_write(self) -> None:
        """Let the next write land elsewhere in its file."""
        self._misdirected += 1

    def flip_bit(self, path: str, bit: int) -> None:
        """Turn one bit of a file over, on the medium and in memory alike. Bits are counted from 0.

        Raises:
            NoSuchFile: there is no such file.
        """
        inode = self._inode(path)
        for content in (inode.content, inode.durable):
            if bit // 8 < len(content):
                content[bit // 8] ^= 1 << bit % 8
        self._note(f"bit {bit} flipped", path)

    def crash(self) -> None:
        """The host has lost power: what was not synced survives in parts, and handles are dead."""
        self._crashes += 1
        self._root.crash(self._rng, self.faults.torn_writes)
        self._note("crashed", "")

    def used_bytes(self) -> int:
        """Length of all files that have a name."""
        return _used(self._root)

    # -- the contract

    async def open(self, path: str, *, create: bool = False) -> File:
        await self._turn()
        folder, name = self._parent(path)
        inode = folder.names.get(name)
        if inode is None and create:
            inode = folder.names[name] = _Inode()
            folder.changed()
        if not isinstance(inode, _Inode):
            raise NoSuchFile(path)
        return _SimFile(self, path, inode, self._crashes)

    async def make_folder(self, path: str) -> None:
        await self._turn()
        if not path:
            raise FileExists(path)
        folder, name = self._parent(path)
        if name in folder.names:
            raise FileExists(path)
        folder.names[name] = _Folder()
        folder.changed()

    async def rename(self, old: str, new: str) -> None:
        if split(old)[0] != split(new)[0]:
            raise ValueError(f"a rename stays within one folder: {old!r} to {new!r}")
        await self._turn()
        inode = self._inode(old)
        folder, name = self._parent(new)
        if isinstance(folder.names.get(name), _Folder):
            raise NoSuchFile(new)
        if folder.names.get(name) is not inode:
            folder.names[name] = inode
            del folder.names[split(old)[1]]
            folder.changed()

    async def remove(self, path: str) -> None:
        await self._turn()
        self._inode(path)
        folder, name = self._parent(path)
        del folder.names[name]
        folder.changed()

    async def sync_folder(self, path: str = "") -> None:
        await self._turn()
        folder = self._folder(path)
        count, names, crashes = len(folder.history), dict(folder.names), self._crashes
        await self._syncing(path, crashes)
        if self._sync_fails():
            # The change of names can be tried again: unlike bytes, they stay in the journal.
            raise DiskFailed(path, "sync folder: input/output error")
        folder.durable = names
        del folder.history[:count]
        self._note("folder synced", path)

    async def list(self, path: str = "") -> list[str]:
        await self._turn()
        names = self._folder(path).names
        return sorted(f"{n}/" if isinstance(entry, _Folder) else n for n, entry in names.items())

    async def lock(self, path: str) -> Lock:
        file = await self.open(path, create=True)
        assert isinstance(file, _SimFile)
        inode = file._inode
        if inode.lock is not None:
            raise InUse(path)
        inode.lock = _SimLock(inode)
        return inode.lock

    # -- within

    async def _turn(self) -> None:
        """Every call lets others go first, as a call in a thread does."""
        await self._world.dispatcher.turn(f"disk {self._name}")

    async def _syncing(self, path: str, crashes: int) -> None:
        if self.faults.sync_seconds > 0.0:
            await self._world.sleep(self.faults.sync_seconds, f"disk {self._name} sync")
        if crashes != self._crashes:
            raise HostCrashed(path)

    def _sync_fails(self) -> bool:
        if self._sync_errors > 0:
            self._sync_errors -= 1
            return True
        chance = self.faults.sync_error_chance
        return chance > 0.0 and self._rng.random() < chance

    def _write(self, path: str, inode: _Inode, offset: int, data: bytes) -> None:
        if not data:
            return
        capacity = self.faults.capacity_bytes
        growth = max(0, offset + len(data) - len(inode.content))
        if capacity is not None and growth and self.used_bytes() + growth > capacity:
            raise NoSpace(path)
        chance = self.faults.misdirected_write_chance
        if self._misdirected or (chance > 0.0 and self._rng.random() < chance):
            self._misdirected = max(0, self._misdirected - 1)
            # The length is in the inode, and right; the bytes are not where they belong.
            inode.change(_Change(max(len(inode.content), offset + len(data)), None))
            places = [
                place
                for away in range(-8, 9)
                if away and 0 <= (place := offset + away * SECTOR_BYTES) <= len(inode.content) - len(data)
            ]
            wrong = self._rng.choice(places) if places else None
            self._note(f"write at {offset} misdirected to {wrong}", path)
            if wrong is None:
                return
            offset = wrong
        inode.change(_Change(offset, data))

    def _read(self, path: str, inode: _Inode, offset: int, size: int | None) -> bytes:
        end = len(inode.content) if size is None else min(len(inode.content), offset + size)
        chance = self.faults.bit_flip_chance
        if offset < end and chance > 0.0 and self._rng.random() < chance:
            bit = self._rng.randrange(offset * 8, end * 8)
            for content in (inode.content, inode.durable):
                if bit // 8 < len(content):
                    content[bit // 8] ^= 1 << bit % 8
            self._note(f"bit {bit} flipped", path)
        return bytes(inode.content[offset:end])

    async def _sync(self, path: str, inode: _Inode) -> None:
        covered, crashes = list(inode.changes), self._crashes
        await self._syncing(path, crashes)
        if self._sync_fails():
            for change in covered:
                change.doomed = True
            self._note("sync failed", path)
            raise DiskFailed(path, "sync: input/output error")
        # Another sync may have been quicker: then these are durable already.
        known = {id(change) for change in covered}
        inode.synced(sum(1 for change in inode.changes if id(change) in known))
        self._note("synced", path)

    def _folder(self, path: str) -> _Folder:
        folder = self._root
        for name in parts_of(path):
            below = folder.names.get(name)
            if not isinstance(below, _Folder):
                raise NoSuchFile(path)
            folder = below
        return folder

    def _parent(self, path: str) -> tuple[_Folder, str]:
        parts = parts_of(path)
        if not parts:
            raise NoSuchFile(path)
        try:
            return self._folder(split(path)[0]), parts[-1]
        except NoSuchFile:
            raise NoSuchFile(path) from None

    def _inode(self, path: str) -> _Inode:
        folder, name = self._parent(path)
        inode = folder.names.get(name)
        if not isinstance(inode, _Inode):
            raise NoSuchFile(path)
        return inode

    def _note(self, what: str, path: str) -> None:
        self._world.dispatcher.note("disk", f"{self._name} {path} {what}")


def _used(folder: _Folder) -> int:
    return sum(
        _used(entry) if isinstance(entry, _Folder) else len(entry.content) for entry in folder.names.values()
    )


class _SimLock(Lock):
    def __init__(self, inode: _Inode) -> None:
        self._inode = inode

    async def release(self) -> None:
        if self._inode.lock is self:
            self._inode.lock = None


class _SimFile(File):
    def __init__(self, disk: SimDisk, path: str, inode: _Inode, crashes: int) -> None:
        self._disk = disk
        self._path = path
        self._inode = inode
        self._crashes = crashes

    async def _begin(self) -> None:
        await self._disk._turn()
        if self._crashes != self._disk._crashes:
            raise HostCrashed(self._path)

    async def read(self, offset: int = 0, size: int | None = None) -> bytes:
        await self._begin()
        return self._disk._read(self._path, self._inode, offset, size)

    async def write(self, offset: int, data: bytes) -> None:
        await self._begin()
        self._disk._write(self._path, self._inode, offset, bytes(data))

    async def append(self, data: bytes) -> None:
        await self._begin()
        self._disk._write(self._path, self._inode, len(self._inode.content), bytes(data))

    async def truncate(self, size: int) -> None:
        await self._begin()
        growth = size - len(self._inode.content)
        capacity = self._disk.faults.capacity_bytes
        if capacity is not None and growth > 0 and self._disk.used_bytes() + growth > capacity:
            raise NoSpace(self._path)
        self._inode.change(_Change(size, None))

    async def sync(self) -> None:
        await self._begin()
        await self._disk._sync(self._path, self._inode)

    async def size(self) -> int:
        await self._begin()
        return len(self._inode.content)

    async def close(self) -> None:
        """Nothing is held."""
