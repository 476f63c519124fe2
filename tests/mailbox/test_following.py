"""A follower of a source that breaks, forgets and repeats itself, against the source's own history."""

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.mailbox import CodecError, Following, MailboxFull, Patience, Phase, PositionGone, Verdict
from understudy.mailbox.following import verdict_on

PATIENCE = Patience(backoff_initial_seconds=0.1, backoff_max_seconds=1.0, backoff_jitter=0.5)
LOST = MailboxFull(1)


@define
class Bench:
    """A source of the numbers 1, 2, ..., and a follower with its consumer."""

    following: Following[int]
    newest: int = 0
    forgotten: int = 0
    """Up to here nothing is kept."""
    cursor: int = 0
    """What the present connection sends next."""
    early: int = 0
    """How many items before the position every connection sends again."""
    now: float = 0.0
    seen: list[int] = field(factory=list)
    told: list[int] = field(factory=list)
    """The positions of the snapshots."""

    def step(self, what: str) -> None:
        following = self.following
        if what == "grow":
            self.newest += 1
        elif what == "forget":
            self.forgotten = self.newest
        elif what == "pass":
            self.now += 0.4
        elif following.phase is Phase.BACKING_OFF:
            self.now += following.wait_seconds
            following.waited()
        elif what == "break":
            following.broke(LOST, Verdict.RESUME, self.now, 0.5)
        elif what == "close" and following.phase is Phase.LIVE:
            following.broke(None, Verdict.RESUME, self.now, 0.5)
        elif what == "go":
            self.go()

    def go(self) -> None:
        following = self.following
        if following.phase is Phase.RESTARTING:
            following.restarted(self.newest)
            self.told.append(self.newest)
            self.seen = list(range(1, self.newest + 1))
        elif following.position is not None and following.position < self.forgotten:
            if following.phase is Phase.CONNECTING or self.cursor <= self.forgotten:
                gone = PositionGone(f"item {following.position}")
                following.broke(gone, verdict_on(gone), self.now, 0.5)
                return
            self.send()
        elif following.phase is Phase.CONNECTING:
            following.opened(self.now)
            assert following.position is not None
            self.cursor = max(self.forgotten, following.position - self.early) + 1
        else:
            self.send()

    def send(self) -> None:
        if self.cursor <= self.newest:
            if self.following.arrived(self.cursor):
                self.seen.append(self.cursor)
            self.cursor += 1

    @property
    def right(self) -> bool:
        """Nothing is missing up to the position, and nothing came twice."""
        return self.seen == list(range(1, (self.following.position or 0) + 1))


STEPS = st.lists(st.sampled_from(["grow", "go", "go", "go", "break", "close", "forget", "pass"]), max_size=80)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.integers(0, 3), st.booleans())
def test_each_item_once_and_in_order_or_a_notice(steps: list[str], early: int, from_start: bool) -> None:
    bench = Bench(Following(PATIENCE, 0 if from_start else None), early=early)
    for what in steps:
        position, told = bench.following.position or 0, len(bench.told)
        bench.step(what)
        assert bench.right, "in the consumer's view"
        moved = (bench.following.position or 0) - position
        assert moved in (0, 1) or len(bench.told) == told + 1, "more than an item is told by a notice only"
        assert len(bench.told) == bench.following.restarts
    # Left alone, it comes to what the source has.
    for _ in range(4 * len(steps) + 20):
        bench.step("go")
    assert bench.following.phase is Phase.LIVE and bench.seen == list(range(1, bench.newest + 1))


@pytest.mark.parametrize("early", [1, -1])
def test_the_bench_finds_a_source_that_resumes_at_the_wrong_place(early: int) -> None:
    bench = Bench(Following(PATIENCE, 0, is_after=None), early=early)
    for what in ["grow", "grow", "grow", "go", "go", "go", "break", "go", "go", "go"]:
        bench.step(what)
    assert not bench.right


def broken_again_and_again(following: Following[int], times: int, error: Exception | None) -> list[float]:
    """The waits of a follower whose connections end as soon as they are opened."""
    waits = []
    for _ in range(times):
        if following.phase is Phase.RESTARTING:
            following.restarted(7)
        if following.phase is Phase.CONNECTING:
            following.opened(0.0)
        verdict = Verdict.RESUME if error is None else verdict_on(error)
        following.broke(error, verdict, 0.0, 0.5)
        waits.append(following.wait_seconds if following.phase is Phase.BACKING_OFF else 0.0)
        if following.phase is Phase.BACKING_OFF:
            following.waited()
    return waits


@pytest.mark.parametrize("error", [None, LOST], ids=["closed", "lost"])
def test_a_source_that_brings_nothing_is_asked_less_and_less(error: Exception | None) -> None:
    waits = broken_again_and_again(Following(PATIENCE, 0), 6, error)
    assert waits == pytest.approx([0.125, 0.25, 0.5, 1.0, 1.25, 1.25])


def test_a_source_that_forgets_at_once_is_not_asked_for_snapshots_in_a_spin() -> None:
    following: Following[int] = Following(PATIENCE, 0)
    waits = broken_again_and_again(following, 6, PositionGone("item 0"))
    assert waits == pytest.approx([0.0, 0.125, 0.25, 0.5, 1.0, 1.25])
    assert (following.restarts, following.resumes) == (5, 0), "what follows a snapshot is no resumption"


def test_what_only_repeats_itself_is_no_progress() -> None:
    following: Following[int] = Following(PATIENCE, 5)
    for _ in range(3):
        following.opened(0.0)
        assert not following.arrived(5) and not following.arrived(4)
        following.broke(None, Verdict.RESUME, 0.0, 0.0)
        following.waited()
    assert following.failures == 3 and following.skipped == 6


@pytest.mark.parametrize("lived", ["brought an item", "lived long"])
def test_a_good_connection_that_is_closed_is_resumed_at_once(lived: str) -> None:
    following: Following[int] = Following(PATIENCE, 5)
    broken_again_and_again(following, 3, LOST)
    following.opened(0.0)
    if lived == "brought an item":
        assert following.arrived(6)
    following.broke(None, Verdict.RESUME, 1.0 if lived == "lived long" else 0.0, 0.5)
    assert following.phase is Phase.CONNECTING and following.failures == 0
    following.opened(2.0)
    following.broke(LOST, Verdict.RESUME, 3.0, 0.5)
    assert following.failures == 1, "an error is waited for in any case"


def test_what_cannot_be_resumed_ends() -> None:
    following: Following[int] = Following(PATIENCE, 5)
    following.opened(0.0)
    error = CodecError("not readable")
    following.broke(error, verdict_on(error), 0.0, 0.0)
    statistics = following.statistics()
    assert (statistics.phase, statistics.cause, statistics.position) == (Phase.ENDED, error, 5)
    with pytest.raises(AssertionError, match="ENDED"):
        following.opened(1.0)
