"""The segments of a log on a disk: recovery, appending, the next segment, forgetting old ones.

A segment comes to be under another name, full of zeros and synced; it gets its name by a rename, which is
synced before anything stands in it. After an error of the disk nothing more is written: what a failed sync
was to make durable may be lost although it can still be read, so that recovery writes the last batch again.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from attrs import define, field, frozen
from attrs.validators import ge

from understudy.actors.disk import SECTOR_BYTES, Disk, File
from understudy.raftstore.messages import HardState
from understudy.raftstore.wal.folder import NEW, Identity, inside, segment_name
from understudy.raftstore.wal.frames import HEADER_BYTES, SegmentHeader, encode_frame, identity, place
from understudy.raftstore.wal.replay import Replay, SegmentFacts

log = logging.getLogger("understudy.raftstore")

_FIRST_PLACE: Final = place(SECTOR_BYTES)

Pause = Callable[[], Awaitable[None]]
"""Lets others go first."""


async def no_pause() -> None:
    """Where there are no others."""


@frozen
class LogOptions:
    """Sizes in bytes."""

    segment_bytes: int = field(default=4 << 20, validator=ge(1 << 12))
    """A segment is made in this size; larger for a batch that would not fit."""
    snapshot_chunk_bytes: int = field(default=64 << 10, validator=ge(1 << 10))
    """About what a snapshot is written and sent in at a time."""


@define
class Segments:
    """The log's segments, the newest one open. `create` them first, or `read` and `resume`."""

    disk: Disk
    folder: str
    owner: Identity
    options: LogOptions
    pause: Pause
    facts: list[SegmentFacts] = field(factory=list)
    """Of every segment, ascending by number."""
    _file: File | None = None
    _header: SegmentHeader | None = None
    _seed: int = 0
    _size: int = 0
    _end: int = 0
    """Where the valid part of the newest segment ends."""
    _sequence: int = 1
    """Of the next batch."""
    _checksum: int = 0
    """Of the last batch."""
    _last: tuple[int, int] = (0, 0)
    """(index, term) of the log's end."""
    _hard_state: HardState = field(factory=HardState)
    _failed: bool = False
    _covered: int = 0
    """Entries up to here are not needed."""
    _forgetting: bool = False

    @property
    def hard_state(self) -> HardState:
        """As of the last batch."""
        return self._hard_state

    def path(self, number: int) -> str:
        return inside(self.folder, segment_name(number))

    async def create(self, base: tuple[int, int], hard_state: HardState) -> None:
        """Begin a log that goes on after the entry `base`, (index, term)."""
        self._last, self._hard_state = base, hard_state
        await self._begin(1, self.options.segment_bytes)

    async def read(self, numbers: tuple[int, ...], keep_after: int) -> Replay:
        """Read all segments, and change nothing. Of entries up to `keep_after` only the terms are kept.

        Raises:
            Damaged, FolderRefused: see `Replay.segment`.
        """
        replay = Replay(self.owner, keep_after)
        for number in numbers:
            data = await self.disk.read_file(self.path(number))
            for _ in replay.slices(self.path(number), number, data, number == numbers[-1]):
                await self.pause()
        return replay

    async def resume(self, replay: Replay) -> None:
        """Cut off a torn end, make what was read durable, and open the newest segment to go on in it."""
        found = replay.last
        assert found is not None, f"no segment in {self.folder}"
        path = self.path(found.header.number)
        data = await self.disk.read_file(path)
        self.facts = list(replay.segments)
        self._header, self._seed, self._size = found.header, identity(found.header), len(data)
        self._end, self._sequence, self._checksum = found.end, found.next_sequence, found.checksum
        self._last, self._hard_state = (replay.last_index, replay.last_term), replay.hard_state
        if found.flaw is not None:
            log.warning(
                "%s, byte %d: %s; it was not acknowledged and is cut off",
                path,
                found.flaw.offset,
                found.flaw.what,
            )
            await self.disk.replace_file(path, data[: found.end].ljust(len(data), b"\0"))
        self._file = await self.disk.open(path)
        # It was read, and may be nowhere but in the system's memory: after a sync that failed, for instance.
        start = found.frames[-1].offset if found.frames else 0
        await self._file.write_synced(start, data[start : found.end])
        await self.disk.sync_folder(self.folder)

    async def append(self, body: bytes, hard_state: HardState, last: tuple[int, int], highest: int) -> None:
        """Make a batch durable: its body, the log's end (index, term) after it, its highest index.

        Raises:
            DiskError: it is not, and nothing more can be.
        """
        assert not self._failed, f"{self.folder}: written after its disk failed"
        self._failed = True
        offset = place(self._end)
        if offset + HEADER_BYTES + len(body) > self._size:
            needed = _FIRST_PLACE + HEADER_BYTES + len(body)
            number = self.facts[-1].number
            await self._begin(number + 1, max(self.options.segment_bytes, needed))
            offset = _FIRST_PLACE
        frame, checksum = encode_frame(self._seed, self._sequence, offset, self._checksum, body)
        assert self._file is not None
        await self._file.write_synced(offset, frame)
        self._failed = False
        self._end, self._checksum, self._sequence = offset + len(frame), checksum, self._sequence + 1
        self._last, self._hard_state = last, hard_state
        newest = self.facts[-1]
        if highest > newest.last_index:
            self.facts[-1] = SegmentFacts(newest.number, highest)

    async def _begin(self, number: int, size: int) -> None:
        """Make the next segment and go on in it."""
        header = SegmentHeader(
            self.owner.cluster,
            self.owner.member,
            number,
            self._sequence,
            self._checksum,
            *self._last,
            self._hard_state,
        )
        path = self.path(number)
        async with await self.disk.open(path + NEW, create=True) as file:
            await file.write_synced(0, header.encode().ljust(size, b"\0"))
        await self.disk.rename(path + NEW, path)
        await self.disk.sync_folder(self.folder)
        await self.close()
        self._file = await self.disk.open(path)
        self._header, self._seed, self._size, self._end = header, identity(header), size, SECTOR_BYTES
        highest = max(self._last[0], self.facts[-1].last_index if self.facts else 0)
        self.facts.append(SegmentFacts(number, highest))

    async def forget(self, index: int) -> None:
        """Remove segments that hold nothing but entries up to `index`; the newest one stays. Who is
        at it already goes on with it."""
        self._covered = max(self._covered, index)
        if self._forgetting:
            return
        self._forgetting = True
        try:
            while len(self.facts) > 1 and self.facts[0].last_index <= self._covered:
                covered = self.facts.pop(0)
                await self.disk.remove(self.path(covered.number))
                # One by one: a crash must not bring back an older one without those between.
                await self.disk.sync_folder(self.folder)
        finally:
            self._forgetting = False

    async def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            await file.close()
