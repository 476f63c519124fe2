"""Members' folders, before a server uses them or a tool looks at them.

A real adapter: it lists folders of this machine.
"""

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import complain

if TYPE_CHECKING:
    from understudy.raftstore.wal.folder import Identity

DEPTH_MAX = 3
"""Members' folders are looked for so far below the one that was named."""


def member_folders(folder: Path, depth: int = DEPTH_MAX) -> list[Path]:
    """The folders of members in a folder, itself included, sorted. What cannot be looked into has none."""
    if os.path.isfile(folder / "member"):
        return [folder]
    if depth == 0:
        return []
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [found for name in names for found in member_folders(folder / name, depth - 1)]


async def owners(folder: Path) -> "list[Identity]":
    """Who keeps a log in a folder, in the order of the folders' names. What is damaged is passed over: its
    member says so when it opens it.

    Raises:
        StartError: another process has one of them open, or the disk refuses: one line, where each member
            would say it.
    """
    from understudy.actors.real_disk import RealDisk
    from understudy.actors.startup import StartError
    from understudy.raftstore.wal.errors import Damaged, StoreFolderError
    from understudy.raftstore.wal.examine import opened

    found: list[Identity] = []
    for member in member_folders(folder):
        try:
            with named_below(member.parent):
                async with opened(RealDisk(member.parent), member.name) as owner:
                    found.append(owner)
        except Damaged:
            continue
        except StoreFolderError as error:
            raise StartError(f"--data-dir: {error.path}: {error.what}", error.advice) from error
    return found


def make_folder(folder: Path) -> None:
    """Make a folder and those that it is in, if they are not there. Raises StartError."""
    from understudy.actors.startup import StartError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise StartError(f"--data-dir: {folder} is a file, not a folder", "name another one") from error
    except OSError as error:
        raise StartError(f"--data-dir: cannot make {folder}: {error.strerror}", "name another one") from error


@contextmanager
def named_below(root: Path) -> Iterator[None]:
    """Errors of a disk whose root that folder is name files as its user does."""
    from understudy.actors.disk import DiskError
    from understudy.raftstore.wal.errors import StoreFolderError, unusable

    try:
        yield
    except StoreFolderError as error:
        error.path = str(root / error.path)
        raise
    except DiskError as error:
        refused = unusable("", error)
        refused.path = str(root / refused.path)
        raise refused from error


def run_on_folder(main: Callable[[], Awaitable[int]]) -> int:
    """Run it to its end; see `guarded`."""
    import trio

    return guarded(lambda: trio.run(main))


def guarded(main: Callable[[], int]) -> int:
    """Run it; returns its exit code, 1 for damage or 2 for a mistake, each told in a line."""
    from understudy.actors.startup import StartError
    from understudy.raftstore.wal.errors import Damaged, StoreFolderError

    try:
        return main()
    except StartError as error:
        return complain(error.message, error.hint)
    except Damaged as error:
        click.echo(f"understudy: {error}", err=True)
        return 1
    except StoreFolderError as error:
        return complain(f"{error.path}: {error.what}", error.advice)
