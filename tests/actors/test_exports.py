"""What the two packages promise at their door is there, and is used under these names only."""

import re
from pathlib import Path

import pytest

import understudy.actors
import understudy.mailbox

PACKAGES = {
    understudy.mailbox: (
        "Message Request Refusal message wire_name label registered Envelope Reply Mailbox MailboxFull"
        " MailboxStatistics Overflow CAPACITY ReaderState WriterState ChannelClosed ChannelFull encode decode"
        " CodecError Resolver Patience PositionGone SourceSilent Verdict verdict_on"
    ),
    understudy.actors: (
        "World RealWorld SimWorld Event Signal Nursery Timer DeadlineExceeded Actor Context handles"
        " Terminated Ref ActorStopped ActorFailed AskTimeout Unhandled"
        " ChannelReader ChannelWriter EndOfChannel Supervised Restarted Feed asked ActorSystem Delivery LOCAL"
        " Supervision Restart PERMANENT TRANSIENT TEMPORARY"
        " RestartIntensityExceeded Fifo Shuffled Deviations Schedule"
        " SimulationDeadlock SimulationTooLong UnscheduledStep"
        " Group Strategy Pool Routing spawn_pool registered_pool Key Listing NotRegistered Registry"
        " LimitReached"
    ),
}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_what_is_promised_is_exported(package: object) -> None:
    for name in PACKAGES[package].split():  # type: ignore[index]
        assert hasattr(package, name), name


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
