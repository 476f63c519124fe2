"""A member's folder: what its files are called, whose it is, and that nobody else has it open.

member            whose folder this is: format, cluster and member
lock              held by the process that has it open
NNN.wal           segments of the log, by number
INDEX-TERM.snap   snapshots, the two newest
*.received        a snapshot that came from the leader and is not yet the log's beginning
*.new             being written: of no account until it has its name
"""

import re
from typing import Final

from attrs import frozen

from understudy.actors.disk import Disk, FileExists, split
from understudy.raftstore.wal.errors import Damaged, FolderRefused

FORMAT: Final = 1
IDENTITY: Final = "member"
LOCK: Final = "lock"
NEW: Final = ".new"
RECEIVED: Final = ".received"

_SEGMENT = re.compile(r"([0-9a-f]{16})\.wal")
_SNAPSHOT = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.snap")
_IDENTITY = re.compile(r"understudy raft member\nformat (\d+)\ncluster ([0-9a-f]{16})\nmember (\d+)\n")


@frozen
class Identity:
    """Who keeps its log in a folder."""

    cluster: int
    """Drawn when a group is made, the same for all its members; below 2**63."""
    member: int

    def encode(self) -> bytes:
        text = f"understudy raft member\nformat {FORMAT}\ncluster {self.cluster:016x}\nmember {self.member}\n"
        return text.encode()

    def __str__(self) -> str:
        return f"member {self.member} of cluster {self.cluster:016x}"


def segment_name(number: int) -> str:
    return f"{number:016x}.wal"


def snapshot_name(index: int, term: int) -> str:
    return f"{index:016x}-{term:016x}.snap"


@frozen
class Listing:
    """The names in a folder, sorted into what they are."""

    identity: bool
    segments: tuple[int, ...]
    """Numbers, ascending."""
    snapshots: tuple[tuple[int, int], ...]
    """(index, term), ascending."""
    received: tuple[tuple[int, int], ...]
    leftovers: tuple[str, ...]
    """Names of what somebody began to write."""


def inside(folder: str, name: str) -> str:
    """The path of a name in a folder."""
    return f"{folder}/{name}" if folder else name


async def list_folder(disk: Disk, folder: str) -> Listing:
    """What is in a folder."""
    names = await disk.list(folder)
    found = [match for name in names if (match := _SNAPSHOT.fullmatch(name.removesuffix(RECEIVED)))]
    pairs = [(int(match[1], 16), int(match[2], 16), match.string) for match in found]
    received = tuple((index, term) for index, term, name in pairs if f"{name}{RECEIVED}" in names)
    return Listing(
        IDENTITY in names,
        tuple(sorted(int(match[1], 16) for name in names if (match := _SEGMENT.fullmatch(name)))),
        tuple(sorted((index, term) for index, term, name in pairs if name in names)),
        tuple(sorted(received)),
        tuple(name for name in names if name.endswith(NEW)),
    )


async def read_identity(disk: Disk, folder: str) -> Identity:
    """Whose folder it is.

    Raises:
        Damaged: the file says nothing that can be understood.
        FolderRefused: it is of another format.
    """
    path = inside(folder, IDENTITY)
    text = (await disk.read_file(path)).decode(errors="replace")
    match = _IDENTITY.fullmatch(text)
    if match is None:
        raise Damaged(
            path, f"expected who this folder belongs to, found {text[:40]!r}", "Restore it from a copy"
        )
    if int(match[1]) != FORMAT:
        raise FolderRefused(path, f"format {match[1]}, known is {FORMAT}", "Use the version that wrote it")
    return Identity(int(match[2], 16), int(match[3]))


async def make_folders(disk: Disk, folder: str) -> None:
    """Make a folder and those that it is in, durably; nothing if they are there."""
    done = ""
    for name in folder.split("/") if folder else ():
        path = inside(done, name)
        try:
            await disk.make_folder(path)
        except FileExists:
            pass
        else:
            await disk.sync_folder(split(path)[0])
        done = path
