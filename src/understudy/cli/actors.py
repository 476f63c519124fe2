"""`understudy actors`: a running system as a tree that refreshes.

A real adapter: it reads the socket of `understudy up --inspect` or of an `InspectionPoint`, and draws.
"""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import complain

if TYPE_CHECKING:
    from rich.tree import Tree

DEFAULT_SOCKET = Path(".understudy/actors.sock")
ANSWER_SECONDS_MAX = 10.0
"""A system that gives no sign for so long, beyond the time between two pictures, counts as hung."""

PICTURE_BYTES_MAX = 64 << 20
ACTOR_FIELDS = frozenset(
    ("path", "state", "restarts", "tasks", "owed", "depth", "high_water", "accepted", "displaced", "times")
)


@click.command()
@click.argument("path", type=click.Path(path_type=Path), default=DEFAULT_SOCKET)
@click.option("--once", is_flag=True, help="Print one picture and end; also without a terminal.")
@click.option(
    "--every",
    type=click.FloatRange(0.05, 3600.0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two pictures.",
)
@click.option("--depth", type=click.IntRange(1), default=None, help="Show only so many levels.")
def actors(path: Path, once: bool, every: float, depth: int | None) -> int:
    """Show the actors of a running system: states, mailboxes, restarts, times.

    It is one of `understudy up --inspect PATH`, or of a program that spawned an InspectionPoint(PATH) of
    understudy.actors.observe.
    """
    from rich.console import Console

    console = Console()
    once = once or not console.is_terminal
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(every + ANSWER_SECONDS_MAX)
            connection.connect(str(path))
            pictures = _pictures(connection, every)
            if once:
                console.print(tree_of(next(pictures), depth), soft_wrap=True)
            else:
                _show(console, pictures, depth)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        return complain(
            f"no system can be inspected at {path}",
            "start one with `understudy up --inspect`, or spawn an InspectionPoint there",
        )
    except TimeoutError:
        return complain(f"the system at {path} does not answer")
    except OSError as error:
        return complain(f"{path}: {error.strerror or error}")
    except (StopIteration, ConnectionResetError):
        return complain(f"the system at {path} has ended")
    except Unreadable as error:
        return complain(f"{path}: {error}")
    except KeyboardInterrupt:
        return 130
    return 0


class Unreadable(Exception):
    """What came is no picture that this command can show."""


def _pictures(connection: socket.socket, every: float) -> Iterator[dict[str, Any]]:
    connection.sendall(json.dumps({"every_seconds": every}).encode() + b"\n")
    with connection.makefile("rb") as lines:
        while line := lines.readline(PICTURE_BYTES_MAX):
            try:
                picture = json.loads(line)
            except ValueError:
                picture = None
            if not isinstance(picture, dict) or "version" not in picture:
                raise Unreadable("there answers something that is no actor system")
            if picture["version"] != 1:
                raise Unreadable(f"version {picture['version']!r} of the format is newer than this command")
            if not _is_whole(picture):
                raise Unreadable("a picture lacks something that this command shows")
            yield picture


def _is_whole(picture: dict[str, Any]) -> bool:
    found = picture.get("actors")
    return (
        {"pid", "dead_letters"} <= picture.keys()
        and isinstance(found, list)
        and all(isinstance(actor, dict) and actor.keys() >= ACTOR_FIELDS for actor in found)
    )


def _show(console: Any, pictures: Iterator[dict[str, Any]], depth: int | None) -> None:
    from rich.live import Live

    with Live(console=console, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        for picture in pictures:
            live.update(tree_of(picture, depth), refresh=True)
    console.print("the system has ended")


def tree_of(picture: dict[str, Any], depth: int | None = None) -> "Tree":
    """A picture as a tree of lines, one an actor."""
    from rich.tree import Tree

    found = picture["actors"]
    waiting = sum(actor["depth"] for actor in found)
    title = (
        f"process {picture['pid']}: {len(found)} actors, {waiting} messages wait,"
        f" {picture['dead_letters']} dead letters"
    )
    root = Tree(title, guide_style="dim")
    branches: dict[str, Tree] = {"": root}
    for actor in sorted(found, key=lambda actor: actor["path"].split("/")):
        parent, _, name = actor["path"].rpartition("/")
        above = branches.get(parent)
        if above is not None and (depth is None or actor["path"].count("/") <= depth):
            branches[actor["path"]] = above.add(_line(name, actor))
    return root


STYLES = {"running": "green", "stopping": "yellow", "backing off": "red", "starting": "cyan"}


def _line(name: str, actor: dict[str, Any]) -> Any:
    from rich.text import Text

    line = Text()
    line.append(name, "bold")
    line.append("  ")
    line.append(actor["state"], STYLES.get(actor["state"], ""))
    line.append(f"  mailbox {actor['depth']}", "yellow" if actor["depth"] else "dim")
    line.append(f" (most {actor['high_water']}, {actor['accepted']} in all)", "dim")
    if actor["displaced"]:
        line.append(f"  {actor['displaced']} displaced", "red")
    if actor["restarts"]:
        line.append(f"  {actor['restarts']} restarts", "red")
    if actor["tasks"]:
        line.append(f"  {actor['tasks']} tasks", "dim")
    if actor["owed"]:
        line.append(f"  {actor['owed']} answers owed", "dim")
    if actor["times"]:
        message, count, total, longest = max(actor["times"], key=lambda entry: entry[2])
        line.append(f"  {message} {count}x", "cyan")
        line.append(f" mean {total / count * 1000:.2f} ms, max {longest * 1000:.2f} ms", "dim")
    return line
