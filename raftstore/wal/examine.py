"""Looking at a member's folder that nobody has open: what is in it, whether it is whole, what can be saved.

Reads go through everything and change nothing. A repair cuts the log before the first damage, and starts it
again after the newest whole snapshot where it no longer reaches that; what it cuts stays beside it under
another name.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from attrs import define, field, frozen

from understudy.actors.disk import Disk, DiskError, NoSuchFile
from understudy.raftstore.machine import StateMachine
from understudy.raftstore.messages import Entry, HardState, Snapshot
from understudy.raftstore.wal.entries import unsealed
from understudy.raftstore.wal.errors import Damaged, FolderRefused, StoreFolderError, unusable
from understudy.raftstore.wal.folder import (
    IDENTITY,
    LOCK,
    RECEIVED,
    Identity,
    Listing,
    inside,
    list_folder,
    read_identity,
    segment_name,
    snapshot_name,
)
from understudy.raftstore.wal.frames import Scan
from understudy.raftstore.wal.replay import Replay
from understudy.raftstore.wal.segments import LogOptions, Segments, no_pause
from understudy.raftstore.wal.snapshot_files import read_snapshot

CUT: Final = ".cut"
"""After the name of what a repair took away."""
EVERYTHING: Final = 1 << 62


@frozen
class FileReport:
    """What a file holds."""

    name: str
    kind: str
    """"segment" or "snapshot"."""
    size_bytes: int
    records: int
    """Batches of a segment, chunks of a snapshot."""
    first_index: int = 0
    """The first entry's index, 0 without entries; a snapshot's own."""
    last_index: int = 0
    first_term: int = 0
    last_term: int = 0
    note: str = ""


@define
class Report:
    """What a folder holds, up to the first damage."""

    folder: str
    owner: Identity
    files: list[FileReport] = field(factory=list)
    hard_state: HardState = field(factory=HardState)
    last_index: int = 0
    damage: Damaged | FolderRefused | None = None
    unread: list[str] = field(factory=list)
    """Files behind the damage."""


@asynccontextmanager
async def opened(disk: Disk, folder: str) -> AsyncIterator[Identity]:
    """Hold a folder for the time of the block; whose it is.

    Raises:
        FolderRefused: it is in use, or no member's folder.
        Damaged: it does not say whose it is.
        DiskUnusable: the disk refuses; so do calls within the block.
    """
    try:
        try:
            names = await disk.list(folder)
        except NoSuchFile as error:
            raise FolderRefused(folder or ".", "there is no such folder", "Look at the spelling") from error
        if IDENTITY not in names:
            raise FolderRefused(
                folder or ".", "this is no member's folder", "Name one: it has a file `member` in it"
            )
        lock = await disk.lock(inside(folder, LOCK))
        try:
            yield await read_identity(disk, folder)
        finally:
            await lock.release()
    except DiskError as error:
        raise unusable(folder, error) from error


# ---------------------------------------------------------------- verify


async def verify(disk: Disk, folder: str, owner: Identity) -> Report:
    """Read everything in an `opened` folder."""
    report = Report(folder, owner)
    listing = await list_folder(disk, folder)
    whole: list[SnapshotFile] = []
    for each in _named(listing):
        await _check_snapshot(disk, folder, each, report, whole)
    replay = await _segments(disk, folder, owner, listing, report)
    for each in _taken_over(listing, replay):
        await _check_snapshot(disk, folder, each, report, whole)
    report.hard_state, report.last_index = replay.hard_state, replay.last_index
    if report.damage is None:
        report.damage = _loose_snapshot(folder, whole, replay)
    return report


@frozen
class SnapshotFile:
    """A snapshot that a member can begin from."""

    name: str
    index: int
    term: int


def _named(listing: Listing) -> list[SnapshotFile]:
    return [SnapshotFile(snapshot_name(*pair), *pair) for pair in listing.snapshots]


def _taken_over(listing: Listing, replay: Replay) -> list[SnapshotFile]:
    """A leader's snapshot that is the log's beginning, and was stopped before it got a snapshot's name: the
    next start gives it that. Any other that was received is of no account, and removed then."""
    return [
        SnapshotFile(snapshot_name(*pair) + RECEIVED, *pair)
        for pair in listing.received
        if pair == replay.base
    ]


async def _check_snapshot(
    disk: Disk, folder: str, file: SnapshotFile, report: Report, whole: list[SnapshotFile]
) -> None:
    try:
        snapshot, reader = await read_snapshot(disk, inside(folder, file.name))
    except Damaged as error:
        report.damage = report.damage or error
        return
    whole.append(file)
    revision = snapshot.data.store.revision if snapshot.data is not None else 1
    report.files.append(
        FileReport(
            file.name,
            "snapshot",
            reader.offset,
            reader.chunks,
            *(file.index, file.index, file.term, file.term),
            note=f"revision {revision}, {snapshot.configuration}",
        )
    )


def _loose_snapshot(folder: str, whole: list[SnapshotFile], replay: Replay) -> Damaged | None:
    """The damage when the log does not go on from the newest snapshot. None of them is damaged."""
    if not whole:
        return Damaged(folder, "there is no snapshot", "Add the member again with an empty folder")
    newest = whole[-1]
    if replay.term_at(newest.index) == newest.term:
        return None
    what = f"the log has {replay.base[0] + 1} to {replay.last_index}, and does not go on from it"
    return Damaged(inside(folder, newest.name), what, "See what `repair` would do")


async def _segments(disk: Disk, folder: str, owner: Identity, listing: Listing, report: Report) -> Replay:
    replay = Replay(owner)
    for number in listing.segments:
        path = inside(folder, segment_name(number))
        if isinstance(report.damage, Damaged) and report.damage.path.endswith(".wal"):
            report.unread.append(segment_name(number))
            continue
        data = await disk.read_file(path)
        note = ""
        try:
            found = replay.segment(path, number, data, number == listing.segments[-1])
        except (Damaged, FolderRefused) as error:
            report.damage = report.damage or error
            note = "damaged"
            if replay.last is None or replay.last.header.number != number:
                report.unread.append(segment_name(number))
                continue
            found = replay.last
        if found.flaw is not None and not note:
            note = f"byte {found.flaw.offset}: {found.flaw.what}; it is cut off at the next start"
        report.files.append(_segment_report(number, len(data), found, replay, note))
        replay.entries.clear()
    return replay


def _segment_report(number: int, size_bytes: int, found: Scan, replay: Replay, note: str) -> FileReport:
    name, batches, entries = segment_name(number), len(found.frames), replay.entries
    if not entries:
        return FileReport(name, "segment", size_bytes, batches, note=note)
    first, last = entries[0], entries[-1]
    return FileReport(
        name, "segment", size_bytes, batches, first.index, last.index, first.term, last.term, note
    )


# ---------------------------------------------------------------- dump


@frozen
class DumpedEntry:
    """An entry of the log, and what it came to."""

    index: int
    term: int
    committed: bool
    """As far as this folder knows."""
    kind: str
    what: Any
    """The request, or the change of the configuration; None: a leader's first entry."""
    revision: int | None
    """The store's after it; None where it is not committed."""
    refused: str = ""


async def dump(disk: Disk, folder: str, owner: Identity) -> AsyncIterator[Snapshot | DumpedEntry]:
    """The oldest snapshot of an `opened` folder that the log goes on from, then each entry after it.

    Raises:
        Damaged: after what could be read.
    """
    listing = await list_folder(disk, folder)
    damage: StoreFolderError | None = None
    replay = Replay(owner)
    for number in listing.segments:
        path = inside(folder, segment_name(number))
        try:
            replay.segment(path, number, await disk.read_file(path), number == listing.segments[-1])
        except (Damaged, FolderRefused) as error:
            damage = error
            break
    machine = StateMachine()
    applied = -1
    for file in (*_named(listing), *_taken_over(listing, replay)):
        if replay.term_at(file.index) == file.term:
            snapshot, _ = await read_snapshot(disk, inside(folder, file.name))
            yield snapshot
            machine.restore(snapshot.data)
            applied = file.index
            break
    for entry in replay.entries:
        if entry.index <= applied:
            continue
        committed = applied >= 0 and entry.index <= replay.hard_state.commit_index
        yield _dumped(entry, committed, machine)
    if damage is not None:
        raise damage


def _dumped(entry: Entry, committed: bool, machine: StateMachine) -> DumpedEntry:
    what = unsealed(entry.data)
    refused = ""
    if entry.kind == "normal" and what is not None:
        if committed:
            answer, _, _ = machine.apply(what)
            refused = repr(answer.refusal) if answer.refusal is not None else ""
        what = what.request
    revision = machine.store.revision if committed else None
    return DumpedEntry(entry.index, entry.term, committed, entry.kind, what, revision, refused)


# ---------------------------------------------------------------- repair


@frozen
class Repair:
    """What a repair would do to a folder."""

    damage: StoreFolderError
    base: tuple[int, int]
    """(index, term) of the snapshot that the member would begin from."""
    last_index: int
    """Where its log would end."""
    hard_state: HardState
    restart: bool
    """The log no longer reaches that snapshot: a new one is begun after it."""
    cut: str = ""
    """The segment that is cut, empty for none ..."""
    cut_at: int = 0
    """... where."""
    removed: tuple[str, ...] = ()
    """Files that are taken away whole."""
    lost: str = ""
    """What was perhaps acknowledged and would be gone."""


async def plan_repair(disk: Disk, folder: str, owner: Identity) -> Repair | None:
    """What it takes to start again from an `opened` folder; None: nothing.

    Raises:
        Damaged: no snapshot is whole, and there is nothing to begin from.
    """
    report = await verify(disk, folder, owner)
    if report.damage is None:
        return None
    listing = await list_folder(disk, folder)
    replay, cut, cut_at = Replay(owner, EVERYTHING), "", 0
    kept: list[int] = []
    for number in listing.segments:
        path = inside(folder, segment_name(number))
        try:
            replay.segment(path, number, await disk.read_file(path), number == listing.segments[-1])
        except (Damaged, FolderRefused):
            if replay.last is not None and replay.last.header.number == number:
                cut, cut_at = segment_name(number), replay.last.end
                kept.append(number)
            break
        kept.append(number)
    whole: list[tuple[int, int]] = []
    broken: list[str] = []
    for file in (*_named(listing), *_taken_over(listing, replay)):
        try:
            await read_snapshot(disk, inside(folder, file.name))
            whole.append((file.index, file.term))
        except Damaged:
            broken.append(file.name)
    if not whole:
        raise Damaged(
            folder, "no snapshot is whole, there is nothing to begin from", "Add the member again, empty"
        )
    base = whole[-1]
    restart = replay.term_at(base[0]) != base[1]
    state = replay.hard_state
    removed = [segment_name(number) for number in listing.segments if restart or number not in kept]
    if restart:
        cut, cut_at = "", 0
        state = HardState(max(state.term, base[1]), state.vote if state.term >= base[1] else 0, base[0])
    last_index = base[0] if restart else replay.last_index
    lost = await _lost(disk, folder, listing, last_index)
    return Repair(report.damage, base, last_index, state, restart, cut, cut_at, (*removed, *broken), lost)


async def _lost(disk: Disk, folder: str, listing: Listing, last_index: int) -> str:
    """What can still be told of entries behind the damage."""
    highest, committed, unreadable = 0, 0, 0
    for number in listing.segments:
        path = inside(folder, segment_name(number))
        alone = Replay(None)
        try:
            alone.segment(path, number, await disk.read_file(path), True)
        except StoreFolderError:
            unreadable += 1
        highest = max(highest, alone.last_index)
        committed = max(committed, alone.hard_state.commit_index)
    highest = max([highest, *[index for index, _ in listing.snapshots]])
    told = []
    if highest > last_index:
        told.append(f"entries {last_index + 1} to {highest}")
    if committed > last_index:
        told.append(f"of which those up to {committed} were committed")
    if unreadable:
        told.append("what stands behind the damage, and the newest term and vote with it")
    return ", ".join(told) or "nothing that can be told"


async def repair(disk: Disk, folder: str, owner: Identity, plan: Repair) -> list[str]:
    """Do what `plan_repair` said; returns the names under which everything stays that was taken away."""
    kept: list[str] = []
    if plan.cut:
        path = inside(folder, plan.cut)
        data = await disk.read_file(path)
        copy = await _free_name(disk, folder, plan.cut + CUT)
        await disk.replace_file(inside(folder, copy), data)
        kept.append(copy)
        await disk.replace_file(path, data[: plan.cut_at].ljust(len(data), b"\0"))
    # From the end on: whatever interrupts this, what is left is the beginning of the log.
    for name in reversed(plan.removed):
        copy = await _free_name(disk, folder, name + CUT)
        await disk.rename(inside(folder, name), inside(folder, copy))
        await disk.sync_folder(folder)
        kept.append(copy)
    if plan.restart:
        segments = Segments(disk, folder, owner, LogOptions(), no_pause)
        await segments.create(plan.base, plan.hard_state)
        await segments.close()
    return kept


async def _free_name(disk: Disk, folder: str, name: str) -> str:
    taken = await disk.list(folder)
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}{number}"
    return free
