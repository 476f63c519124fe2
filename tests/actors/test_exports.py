"""What the two packages promise at their door is there, and is used under these names only."""

import ast
import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

import understudy.actors
import understudy.mailbox

PACKAGES = {
    understudy.mailbox: """
        CAPACITY CONFLATED_KEYS_MAX ChannelClosed ChannelFull CodecError Conflate Envelope Following
        FollowingStatistics Mailbox MailboxFull MailboxStatistics Message Overflow OverflowPolicy
        Patience Phase PositionGone ReaderState Refusal Reply Request Resolver SourceSilent Told
        Verdict WriterState decode encode envelope_of label message registered verdict_on wire_name
    """,
    understudy.actors: """
        Actor ActorFailed ActorStatus ActorStopped ActorSystem AskCycle AskTimeout ChannelReader
        ChannelWriter Context DeadLetter DeadlineExceeded Deferred Delivery Deviations EndOfChannel Event
        Feed Fifo Group HashRing HostUnreachable Key LOCAL LimitReached LinkedActorFailed Listing
        NotRegistered Nursery PERMANENT Pool RealWorld Ref Registry Restart RestartIntensityExceeded
        Restarted Routing Schedule SendTimeout Shuffled Signal SimWorld SimulationDeadlock
        SimulationTooLong StashFull Strategy Supervised Supervision TEMPORARY TRANSIENT Terminated
        Timer Unhandled UnscheduledStep World asked handles registered_pool spawn_pool
    """,
}
SPECIAL = ("embed", "observe", "remote", "search", "strategies", "testkit")
"""Parts of `understudy.actors` that a program imports by name where it needs them."""

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_the_door_is_what_stands_here_each_name_once(package: ModuleType) -> None:
    tree = ast.parse(Path(package.__file__ or "").read_text())
    names = [
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted(names) == sorted(PACKAGES[package].split())
    for name in names:
        assert hasattr(package, name), name


def test_what_pages_and_examples_use_is_imported_from_a_door() -> None:
    doors = {f"understudy.actors.{name}" for name in SPECIAL} | {p.__name__ for p in PACKAGES}
    pages = [ROOT / "docs" / name for name in ("actors.md", "actor-semantics.md", "remoting.md")]
    texts = [path.read_text() for path in [*pages, *sorted((ROOT / "examples").glob("*.py"))]]
    used = re.findall(
        r"^ *(?:from|import) (understudy\.(?:actors|mailbox)[\w.]*)", "\n".join(texts), re.MULTILINE
    )
    assert len(used) > 20
    assert set(used) <= doors


def test_what_the_pages_name_can_be_imported_from_a_door() -> None:
    named: set[str] = set()
    for page in ("actors.md", "actor-semantics.md", "remoting.md"):
        named |= set(re.findall(r"`(?:\w+\.)*([A-Z]\w+)", (ROOT / "docs" / page).read_text()))
    defined: set[str] = set()
    for package in PACKAGES:
        for path in Path(package.__file__ or "").parent.rglob("*.py"):
            defined |= {
                node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)
            }
    doors = [*PACKAGES, *(importlib.import_module(f"understudy.actors.{name}") for name in SPECIAL)]
    assert len(named & defined) > 30
    for name in sorted(named & defined):
        assert any(hasattr(door, name) for door in doors), name


def test_modules_that_the_architecture_page_names_exist() -> None:
    root = Path(__file__).resolve().parent.parent.parent
    page = (root / "docs" / "architecture.md").read_text()
    named = re.findall(r"`((?:mailbox|actors)/\w+\.py)`", page)
    assert len(named) >= 5
    for path in named:
        assert (root / path).is_file(), path


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_the_map_in_each_package_names_every_module(package: object) -> None:
    folder = Path(package.__file__ or "").parent  # type: ignore[attr-defined]
    described = set(re.findall(r"`(\w+)`", package.__doc__ or ""))
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert modules <= described, f"not described: {sorted(modules - described)}"
