"""Members' folders, before a server uses them or a tool looks at them.

A real adapter: it lists folders of this machine.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from understudy.raftstore.wal.folder import Identity

DEPTH_MAX = 3
"""Members' folders are looked for so far below the one that was named."""


def member_folders(folder: Path, depth: int = DEPTH_MAX) -> list[Path]:
    """The folders of members in a folder, itself included, sorted."""
    if (folder / "member").is_file():
        return [folder]
    if depth == 0:
        return []
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [found for name in names for found in member_folders(folder / name, depth - 1)]


async def owners(folder: Path) -> "list[Identity]":
    """Who keeps a log in a folder, in the order of the folders' names. What is damaged is passed over: its
    member says so when it opens it.

    Raises:
        FolderRefused: another process has one of them open.
        DiskUnusable: the disk refuses.
    """
    from understudy.actors.real_disk import RealDisk
    from understudy.raftstore.wal.errors import Damaged, StoreFolderError
    from understudy.raftstore.wal.examine import opened

    found: list[Identity] = []
    for member in member_folders(folder):
        try:
            async with opened(RealDisk(member.parent), member.name) as owner:
                found.append(owner)
        except Damaged:
            continue
        except StoreFolderError as error:
            error.path = str(member.parent / error.path)
            raise
    return found
