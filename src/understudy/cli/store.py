"""`understudy store`: look at a store's folder, repair it, make one from a snapshot.

A real adapter: it reads and writes the folder of a member that does not run. The folder may be a member's
own, or one that has members' folders in it.
"""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .folders import guarded, member_folders, named_below, run_on_folder
from .restoring import read_saved, restore

if TYPE_CHECKING:
    from understudy.actors.disk import Disk
    from understudy.raftstore.wal.examine import DumpedEntry, Repair, Report
    from understudy.raftstore.wal.folder import Identity

T = TypeVar("T")
SHOWN_BYTES = 60
"""Of a key or value."""
WIDTH_MIN = 120
"""Columns: names of files are long, and a table of folded cells cannot be read."""

folder_argument = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))


@click.group()
def store() -> None:
    """Look at the folder of a store that does not run; repair it; restore a snapshot."""


@store.command()
@folder_argument
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(folder: Path, as_json: bool) -> int:
    """Read everything and say what it is; exit code 1 at the first damage."""
    from understudy.raftstore.wal.examine import verify as verify_folder

    def run(members: list[Path]) -> int:
        reports = [_in_folder(member, verify_folder) for member in members]
        if as_json:
            click.echo(json.dumps([_report_object(report) for report in reports], indent=2))
        else:
            for report in reports:
                _print_report(report)
        return 1 if any(report.damage is not None for report in reports) else 0

    return _on_members(folder, run)


@store.command()
@folder_argument
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
def dump(folder: Path, as_json: bool) -> int:
    """Print the snapshot that the log begins from and every entry after it."""
    from understudy.raftstore.wal import examine

    async def print_all(disk: "Disk", root: str, owner: "Identity") -> int:
        async for found in examine.dump(disk, root, owner):
            if isinstance(found, examine.DumpedEntry):
                values = _entry_object(found)
                click.echo(json.dumps(values) if as_json else _entry_line(found))
            else:
                revision = found.data.store.revision if found.data is not None else 1
                values = {"snapshot": found.index, "term": found.term, "revision": revision}
                text = f"snapshot of entry {found.index}, term {found.term}, revision {revision}, "
                click.echo(json.dumps(values) if as_json else text + str(found.configuration))
        return 0

    return _on_members(folder, lambda members: _in_folder(_only(members), print_all))


@store.command()
@folder_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
def repair(folder: Path, yes: bool) -> int:
    """Cut a member's log before the first damage, after saying what would be lost."""
    from understudy.raftstore.wal import examine

    async def mend(disk: "Disk", root: str, owner: "Identity") -> int:
        plan = await examine.plan_repair(disk, root, owner)
        if plan is None:
            click.echo("nothing is damaged, nothing was changed")
            return 0
        _print_plan(plan)
        if not yes and not click.confirm("Cut it?", default=False):
            click.echo("nothing was changed")
            return 1
        for name in await examine.repair(disk, root, owner, plan):
            click.echo(f"kept: {name}")
        return 0

    return _on_members(folder, lambda members: _in_folder(_only(members), mend))


@store.group()
def snapshot() -> None:
    """Snapshots, as `etcdctl snapshot save` gets them from this store."""


@snapshot.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(file: Path, as_json: bool) -> int:
    """Check a snapshot and say what it is of."""
    from understudy.raftstore.storage import HashKV

    async def read() -> int:
        found, reader = await read_saved(file)
        store = found.data.store if found.data is not None else None
        values = {
            "revision": store.revision if store else 1,
            "keys": len(store.keys) if store else 0,
            "size_bytes": reader.offset,
            "hash": store.hash(HashKV()).hash if store else 0,
            "index": found.index,
            "term": found.term,
        }
        click.echo(json.dumps(values) if as_json else "\n".join(f"{k}: {v}" for k, v in values.items()))
        return 0

    return run_on_folder(read)


snapshot.add_command(restore)


# ---------------------------------------------------------------- folders


def _on_members(folder: Path, main: Callable[[list[Path]], int]) -> int:
    members = member_folders(folder)
    return guarded(lambda: main(members or [folder]))


def _only(members: list[Path]) -> Path:
    from understudy.raftstore.wal.errors import FolderRefused

    if len(members) > 1:
        names = ", ".join(str(member) for member in members)
        raise FolderRefused(
            str(members[0].parent), f"there are {len(members)} members", f"Name one of {names}"
        )
    return members[0]


def _in_folder(folder: Path, main: Callable[["Disk", str, "Identity"], Awaitable[T]]) -> T:
    """Hold a member's folder and do something with it."""
    import trio

    from understudy.actors.real_disk import RealDisk
    from understudy.raftstore.wal.examine import opened

    async def run() -> T:
        disk = RealDisk(folder.parent)
        with named_below(folder.parent):
            async with opened(disk, folder.name) as owner:
                return await main(disk, folder.name, owner)

    return trio.run(run)


# ---------------------------------------------------------------- what is printed


def _report_object(report: "Report") -> dict[str, Any]:
    import attrs

    return {
        "folder": report.folder,
        "cluster": f"{report.owner.cluster:016x}",
        "member": report.owner.member,
        "hard_state": attrs.asdict(report.hard_state),
        "last_index": report.last_index,
        "files": [attrs.asdict(file) for file in report.files],
        "unread": report.unread,
        "damage": str(report.damage) if report.damage is not None else None,
    }


def _print_report(report: "Report") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.width = max(console.width, WIDTH_MIN)
    state = report.hard_state
    console.print(
        f"{report.folder}: {report.owner}, term {state.term}, vote {state.vote}, "
        f"entries to {report.last_index}, committed to {state.commit_index}",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False)
    for column in ("file", "bytes", "records", "entries", "terms", "note"):
        table.add_column(column, overflow="fold", no_wrap=column == "file")
    for file in report.files:
        entries = f"{file.first_index} to {file.last_index}" if file.last_index else "none"
        terms = f"{file.first_term} to {file.last_term}" if file.last_index else ""
        table.add_row(file.name, str(file.size_bytes), str(file.records), entries, terms, file.note)
    console.print(table)
    if report.damage is not None:
        console.print(f"DAMAGED {report.damage}", soft_wrap=True)
    if report.unread:
        console.print(f"not read: {', '.join(report.unread)}", soft_wrap=True)


def _print_plan(plan: "Repair") -> None:
    click.echo(f"damage: {plan.damage.path}: {plan.damage.what}")
    if plan.cut:
        click.echo(f"would cut {plan.cut} at byte {plan.cut_at}")
    if plan.removed:
        click.echo(f"would take away {', '.join(plan.removed)}")
    began = "begin again after" if plan.restart else "go on from"
    click.echo(
        f"the log would {began} the snapshot of entry {plan.base[0]} and end at entry {plan.last_index}"
    )
    click.echo(f"lost: {plan.lost}")
    click.echo(
        "A member that lost what it had acknowledged can make its group lose it: add it anew if you can."
    )


def _entry_object(entry: "DumpedEntry") -> dict[str, Any]:
    values: dict[str, Any] = {
        "index": entry.index,
        "term": entry.term,
        "committed": entry.committed,
        "kind": entry.kind,
        "request": type(entry.what).__name__ if entry.what is not None else None,
        "revision": entry.revision,
    }
    key = getattr(entry.what, "key", None)
    if isinstance(key, bytes):
        values["key"] = key.decode(errors="backslashreplace")
    value = getattr(entry.what, "value", None)
    if isinstance(value, bytes):
        values["value_bytes"] = len(value)
    if entry.refused:
        values["refused"] = entry.refused
    if key is None and entry.what is not None:
        values["what"] = repr(entry.what)
    return values


def _entry_line(entry: "DumpedEntry") -> str:
    revision = f"revision {entry.revision}" if entry.revision is not None else "not committed"
    key = getattr(entry.what, "key", None)
    if entry.what is None:
        what = "a new leader's first entry"
    elif isinstance(key, bytes):
        text = key.decode(errors="backslashreplace")
        value = getattr(entry.what, "value", None)
        what = f"{type(entry.what).__name__} {text}"
        if isinstance(value, bytes):
            what += f" = {value[:SHOWN_BYTES].decode(errors='backslashreplace')}"
            what += f"... ({len(value)} bytes)" if len(value) > SHOWN_BYTES else ""
    else:
        what = repr(entry.what)
    refused = f", refused: {entry.refused}" if entry.refused else ""
    return f"{entry.index} term {entry.term} {revision}: {what}{refused}"
