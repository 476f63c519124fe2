"""A member's log on a disk, as its driver uses it: recovery, group commit, snapshots.

What is durable when:

- `write` returns when everything in it is: one frame, one sync, for all that came while the last one took.
- The commit index travels with the next batch and has none for itself: it is learnt again from the leader.
- A snapshot of the own state is written beside the log, synced and named; then what both kept snapshots cover
  is removed from the log.
- A snapshot from the leader is durable under a name of its own first; then the batch that says that it took
  the log's place; then it gets a snapshot's name. A crash leaves the old log or the new one.

The state of the machine, its applied index and the configuration are one file, the snapshot: nothing of them
can be newer than the rest (the bug of etcd's consistent index, #13766).
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Final

from attrs import define, field

from understudy.actors.disk import Disk, DiskError, Lock
from understudy.raftstore.messages import Entry, HardState, Snapshot
from understudy.raftstore.ready import PersistentState, Ready
from understudy.raftstore.wal.batches import encode_batch
from understudy.raftstore.wal.errors import Damaged, FolderRefused, unusable
from understudy.raftstore.wal.folder import (
    IDENTITY,
    LOCK,
    RECEIVED,
    Identity,
    Listing,
    inside,
    list_folder,
    make_folders,
    read_identity,
    segment_name,
    snapshot_name,
)
from understudy.raftstore.wal.frames import HeaderError, scan
from understudy.raftstore.wal.replay import ADVICE, Replay
from understudy.raftstore.wal.segments import LogOptions, Pause, Segments, no_pause
from understudy.raftstore.wal.snapshot_files import SnapshotWriter, read_snapshot, write_snapshot
from understudy.raftstore.wal.snapshot_format import encode_snapshot

log = logging.getLogger("understudy.raftstore")

SNAPSHOTS_KEPT: Final = 2
DAMAGED: Final = ".damaged"


@define
class DiskLog:
    """A `MemberLog` in a folder of a disk. One at a time has it open, in whatever process."""

    disk: Disk
    folder: str
    owner: Identity
    bootstrap: PersistentState
    """What an empty folder begins with."""
    options: LogOptions = field(factory=LogOptions)
    pause: Pause = no_pause
    """Taken between the steps of what takes long."""
    _lock: Lock | None = None
    _segments: Segments = field(init=False)
    _snapshots: list[tuple[int, int]] = field(factory=list)
    """(index, term) of each that is kept, ascending."""
    _last: tuple[int, int] = (0, 0)
    """(index, term) of the log's end."""
    _spooled: dict[tuple[int, int], None] = field(factory=dict)
    """(index, term) of each leader's snapshot that is durable under its first name."""
    _hard_state: HardState = field(factory=HardState)
    """As it was written, but for the commit index, which may be ahead."""

    def __attrs_post_init__(self) -> None:
        assert not self.bootstrap.entries, self.bootstrap
        self._segments = Segments(self.disk, self.folder, self.owner, self.options, self.pause)

    # ---------------------------------------------------------------- opening

    async def open(self) -> PersistentState:
        """Lock the folder and recover what was durable; an empty folder becomes this member's.

        Raises:
            FolderRefused: somebody has it open, or it is another member's.
            Damaged: something in it is not as it was written; nothing was changed.
            DiskUnusable: the disk refuses.
        """
        await self.close()
        try:
            return await self._open()
        except DiskError as error:
            await self.close()
            raise unusable(self.folder, error) from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of the folder."""
        lock, self._lock = self._lock, None
        try:
            await self._segments.close()
        finally:
            if lock is not None:
                await lock.release()

    async def _open(self) -> PersistentState:
        await make_folders(self.disk, self.folder)
        self._lock = await self.disk.lock(self._path(LOCK))
        listing = await list_folder(self.disk, self.folder)
        if not listing.identity:
            await self._begin(listing)
            listing = await list_folder(self.disk, self.folder)
        found = await read_identity(self.disk, self.folder)
        if found != self.owner:
            raise FolderRefused(
                self._path(IDENTITY),
                f"the folder belongs to {found}, not to {self.owner}",
                "Use the folder of this member, or an empty one",
            )
        if not listing.segments:
            raise Damaged(self._path(segment_name(1)), "the log is missing", ADVICE)
        for name in listing.leftovers:
            await self.disk.remove(self._path(name))
        self._segments = Segments(self.disk, self.folder, self.owner, self.options, self.pause)
        self._spooled = {}
        if listing.received:
            listing = await self._settle_received(listing)
        snapshot, replay = await self._read(listing)
        await self._segments.resume(replay)
        self._last = (replay.last_index, replay.last_term)
        self._hard_state = replay.hard_state
        entries = tuple([entry for entry in replay.entries if entry.index > snapshot.index])
        return PersistentState(replay.hard_state, snapshot, entries)

    async def _begin(self, listing: Listing) -> None:
        """Make an empty folder, or one whose making was cut short, this member's; its name comes last."""
        for number in listing.segments:
            path = self._path(segment_name(number))
            try:
                frames = scan(await self.disk.read_file(path)).frames
            except HeaderError as error:
                raise Damaged(path, str(error), ADVICE) from error
            if frames or number > 1:
                raise Damaged(
                    self._path(IDENTITY), "the log is there, but not whose it is", "Restore it from a copy"
                )
        names = [segment_name(number) for number in listing.segments]
        names += [snapshot_name(*pair) for pair in listing.snapshots]
        for name in (*names, *listing.leftovers):
            await self.disk.remove(self._path(name))
        snapshot = self.bootstrap.snapshot
        base = (snapshot.index, snapshot.term)
        await write_snapshot(self.disk, self._path(snapshot_name(*base)), self._chunks(snapshot))
        segments = Segments(self.disk, self.folder, self.owner, self.options, self.pause)
        await segments.create(base, self.bootstrap.hard_state)
        await segments.close()
        await self.disk.replace_file(self._path(IDENTITY), self.owner.encode())

    async def _settle_received(self, listing: Listing) -> Listing:
        """A crash interrupted the taking over of a leader's snapshot: finish it, or undo it."""
        replay = await self._segments.read(listing.segments, 1 << 62)
        for pair in listing.received:
            path = self._path(snapshot_name(*pair))
            if replay.base == pair:
                await self.disk.rename(path + RECEIVED, path)
            else:
                await self.disk.remove(path + RECEIVED)
        await self.disk.sync_folder(self.folder)
        return await list_folder(self.disk, self.folder)

    async def _read(self, listing: Listing) -> tuple[Snapshot, Replay]:
        """The newest whole snapshot, and the log, which must go on from it."""
        damage: Damaged | None = None
        damaged: list[str] = []
        for pair in reversed(listing.snapshots):
            path = self._path(snapshot_name(*pair))
            try:
                snapshot, _ = await read_snapshot(self.disk, path)
            except Damaged as error:
                damage = damage or error
                damaged.append(path)
                continue
            if (snapshot.index, snapshot.term) != pair:
                raise Damaged(path, f"it is the snapshot of entry {snapshot.index}", ADVICE)
            replay = await self._segments.read(listing.segments, snapshot.index)
            if replay.term_at(snapshot.index) == snapshot.term:
                break
            raise damage or Damaged(
                path,
                f"the log has {replay.base[0] + 1} to {replay.last_index}, and does not go on from it",
                ADVICE,
            )
        else:
            raise damage or Damaged(self._path(snapshot_name(0, 0)), "there is no snapshot", ADVICE)
        for path in damaged:
            log.warning("%s; the log goes back to the snapshot before it, which is used instead", damage)
            await self.disk.rename(path, path + DAMAGED)
        self._snapshots = [
            pair for pair in listing.snapshots if self._path(snapshot_name(*pair)) not in damaged
        ]
        return snapshot, replay

    def _path(self, name: str) -> str:
        return inside(self.folder, name)

    # ---------------------------------------------------------------- writing

    def store(self, ready: Ready) -> bool:
        """Take a `Ready` in if nothing in it need be durable at once; False: it has to be written."""
        state, known = ready.hard_state, self._hard_state
        if ready.entries or ready.snapshot is not None:
            return False
        if state is not None:
            if (state.term, state.vote) != (known.term, known.vote):
                return False
            self._note_commit(state)
        return True

    def _note_commit(self, state: HardState) -> None:
        assert state.commit_index >= self._hard_state.commit_index, (state, self._hard_state)
        self._hard_state = state

    async def write(self, readies: Sequence[Ready]) -> None:
        """Make all of them durable, in order, with one sync.

        Raises:
            DiskUnusable: they are not, and nothing more can be written before the folder is opened again.
        """
        try:
            await self._write(readies)
        except DiskError as error:
            raise unusable(self.folder, error) from error

    async def _write(self, readies: Sequence[Ready]) -> None:
        entries: list[Entry] = []
        received: Snapshot | None = None
        for ready in readies:
            if ready.snapshot is not None:
                received, entries = ready.snapshot, []
            if ready.entries:
                first = ready.entries[0].index
                while entries and entries[-1].index >= first:
                    entries.pop()
                entries.extend(ready.entries)
            if ready.hard_state is not None:
                assert ready.hard_state.term >= self._hard_state.term, (ready.hard_state, self._hard_state)
                self._note_commit(ready.hard_state)
        last, replaced = self._last, (0, 0)
        if received is not None:
            replaced = last = (received.index, received.term)
            if replaced not in self._spooled:
                await write_snapshot(self.disk, self._received(replaced), self._chunks(received))
            self._spooled.pop(replaced, None)
        if entries:
            last = (entries[-1].index, entries[-1].term)
        body = encode_batch(self._hard_state, entries, replaced)
        await self._segments.append(body, self._hard_state, last, last[0])
        self._last = last
        if received is not None:
            await self.disk.rename(self._received(replaced), self._path(snapshot_name(*replaced)))
            await self.disk.sync_folder(self.folder)
            await self._keep(replaced)

    def _received(self, pair: tuple[int, int]) -> str:
        return self._path(snapshot_name(*pair)) + RECEIVED

    def _chunks(self, snapshot: Snapshot) -> Iterator[bytes]:
        return encode_snapshot(snapshot, self.owner.cluster, self.options.snapshot_chunk_bytes)

    def taken(self, snapshot: Snapshot) -> None:
        """No entries are held in memory here."""

    async def compact(self, snapshot: Snapshot) -> None:
        """Make a snapshot of the own state durable; forget what it makes needless. Beside `write`, not twice
        at a time. Its entry must be durable.

        Raises:
            DiskUnusable: it is not durable, and nothing was forgotten.
        """
        assert snapshot.index <= self._last[0], (snapshot.index, self._last)
        pair = (snapshot.index, snapshot.term)
        try:
            await write_snapshot(self.disk, self._path(snapshot_name(*pair)), self._chunks(snapshot))
            await self._keep(pair)
        except DiskError as error:
            raise unusable(self.folder, error) from error

    def spool(self, index: int, term: int) -> "DiskSpool":
        """Raises `DiskUnusable` in its methods."""
        return DiskSpool(self, (index, term))

    async def _keep(self, pair: tuple[int, int]) -> None:
        """There is a snapshot more: the two newest stay, and the log after the older of them. What a
        leader sent and is not newer will not be taken any more."""
        self._snapshots = sorted({*self._snapshots, pair})
        while len(self._snapshots) > SNAPSHOTS_KEPT:
            index, term = self._snapshots.pop(0)
            await self.disk.remove(self._path(snapshot_name(index, term)))
            await self.disk.sync_folder(self.folder)
        for refused in [each for each in self._spooled if each[0] <= pair[0]]:
            del self._spooled[refused]
            await self.disk.remove(self._received(refused))
        await self._segments.forget(self._snapshots[0][0])


@define
class DiskSpool:
    """A leader's snapshot on its way to the disk, in the stream's own bytes."""

    log: DiskLog
    pair: tuple[int, int]
    _writer: SnapshotWriter = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._writer = SnapshotWriter(self.log.disk, self.log._received(self.pair))

    async def add(self, data: bytes) -> None:
        try:
            await self._writer.add(data)
        except DiskError as error:
            raise unusable(self.log.folder, error) from error

    async def finish(self) -> None:
        try:
            await self._writer.finish()
        except DiskError as error:
            raise unusable(self.log.folder, error) from error
        self.log._spooled[self.pair] = None

    async def abandon(self) -> None:
        try:
            await self._writer.abandon()
        except DiskError as error:
            raise unusable(self.log.folder, error) from error
