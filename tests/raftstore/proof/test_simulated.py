"""Histories of concurrent clients while hosts crash, stall, part and lose what was not synced, in simulation.

Each run is a trial drawn from its seed: who suffers what, when, for how long, and which members come and go.
Afterwards the history is linearizable, with leases that last as long as they were said to, and end; no
acknowledged write is lost and none is half done; the past is what it was, or compacted; the members have the
same hash at the same revision; every watch kept its guarantees; who was removed has stopped. Bugs that are
planted are found, and what fails is made small.
"""

import os
from collections.abc import Iterable
from typing import Any

import pytest
from attrs import evolve

from tests.raftstore.proof.budget import seeds
from tests.raftstore.proof.group import Move
from tests.raftstore.proof.smallest import ROLES, prove, shrunk
from tests.raftstore.proof.trials import SECONDS, Fault, Trial, drawn, run
from understudy.raftstore.keyspace import KeySpace
from understudy.raftstore.leases import LeaseClock
from understudy.raftstore.machine import StateMachine
from understudy.raftstore.member import Member
from understudy.raftstore.mvcc import MvccStore
from understudy.raftstore.storage import Compacted, LeaseRevokeReply
from understudy.raftstore.wal.segments import Segments
from understudy.raftstore.watch import WatchHub

GIVEN = os.environ.get("UNDERSTUDY_TRIAL")
"""A trial to run instead, as a failure writes it."""


@pytest.mark.parametrize(
    "trial",
    [Trial.read(GIVEN)] if GIVEN else list(map(drawn, seeds(6))),
    ids=lambda trial: f"seed {trial.seed}",
)
def test_histories_are_linearizable_whatever_happens_to_hosts(trial: Trial) -> None:
    verified = prove(trial)
    print(f"seed {trial.seed}: {verified}")
    if not GIVEN:
        assert verified.operations > 100 and verified.events > 50, verified


def test_without_faults_everything_that_is_tried_is_done() -> None:
    verified = run(Trial(1, moves=(Move("replace", 0.5, 0), Move("exchange", 2.0, 1))))
    assert verified.moves == 5, verified  # Let in, promoted, removed; removed, let in.
    assert verified.unknown < 20 and verified.leases > 3 and verified.hashes > 10, verified
    assert verified.compact_revision > 50 and verified.compacted_watches > 3, verified


# ------------------------------------------------------------------ bugs that are planted


TRIALS_MAX = 12
"""A planted bug is found within so many runs."""


def quiet(seed: int, **others: Any) -> Trial:
    """Nothing but two clients for a while, and what is added."""
    nobody = dict.fromkeys(ROLES, 0)
    return Trial(seed, **{**nobody, "clients": 2, "seconds": 4.0, **others})


def found(trials: Iterable[Trial]) -> tuple[Trial, AssertionError]:
    """The first run that fails, and what it says. Raises AssertionError: none did."""
    for trial in trials:
        try:
            run(trial)
        except AssertionError as error:
            assert any("history = [" in note for note in error.__notes__), "a failure shows its history"
            return trial, error
    raise AssertionError("no run noticed")


def test_serializable_reads_passed_off_as_linearizable_are_found_and_made_small() -> None:
    faults = (Fault("pause", 0.5, 0.3, "etcd-3"), Fault("isolate", 1.0, 1.0, "etcd-2"))
    trials = (
        quiet(seed, readers=3, lessees=1, faults=faults, serializable=True) for seed in range(TRIALS_MAX)
    )
    trial, error = found(trials)
    assert "not linearizable" in str(error)
    smallest = shrunk(trial, error, runs_max=4)
    assert smallest.runs <= 4 and smallest.trial.size < trial.size, smallest
    assert "not linearizable" in str(smallest.error)
    # What it says to run again is what failed, and it fails again in the same way.
    again = Trial.read(smallest.trial.written())
    assert again == smallest.trial
    with pytest.raises(AssertionError) as told:
        prove(again, runs_max=0)
    assert str(told.value) == str(smallest.error)
    command = f"UNDERSTUDY_TRIAL='{again.written()}' .venv/bin/pytest "
    assert any(command in note for note in told.value.__notes__), told.value.__notes__


def test_what_fails_shrinks_to_what_it_needs() -> None:
    """Here: one of the faults, one of the moves, two clients and the lessee, and nine operations of each."""
    trial = next(drawn(seed) for seed in range(100) if len(drawn(seed).moves) == 2)
    fault, move = trial.faults[1], trial.moves[1]

    def attempt(candidate: Trial) -> None:
        needed = fault in candidate.faults and move in candidate.moves and candidate.operations_max >= 9
        if needed and candidate.clients >= 2 and candidate.lessees:
            raise AssertionError(f"members differ: {candidate.seconds}")
        if not candidate.faults:
            raise AssertionError("something else")

    smallest = shrunk(trial, AssertionError("members differ: 6.0"), 200, attempt)
    expected = quiet(
        trial.seed, faults=(fault,), moves=(move,), lessees=1, operations_max=smallest.trial.operations_max
    )
    assert evolve(smallest.trial, seconds=expected.seconds) == expected
    assert smallest.trial.seconds < SECONDS and smallest.runs < 120
    assert 9 <= smallest.trial.operations_max < 12
    assert Trial.read(smallest.trial.written()) == smallest.trial
    # It stops where it is told to.
    assert shrunk(trial, AssertionError("members differ"), 5, attempt).runs == 5


class Unsynced:
    """A file that says that it is synced, and is not."""

    def __init__(self, file: Any) -> None:
        self.file = file

    async def write_synced(self, offset: int, data: bytes) -> None:
        await self.file.write(offset, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_acknowledging_before_the_sync_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    append = Segments.append

    async def append_unsynced(self: Segments, *arguments: Any) -> None:
        planted = Unsynced(self._file)
        self._file = planted  # type: ignore[assignment]
        try:
            await append(self, *arguments)
        finally:
            if self._file is planted:  # type: ignore[comparison-overlap]
                self._file = planted.file

    monkeypatch.setattr(Segments, "append", append_unsynced)
    _, error = found(drawn(seed, ("crash all",)) for seed in range(TRIALS_MAX))
    # Or a member's log has a hole, which it refuses, and the rest is no majority.
    expected = ("acknowledged and lost", "a watch told of", "not linearizable", "no answer within")
    assert any(what in str(error) for what in expected), error


def test_lease_reads_that_trust_clocks_too_much_are_found() -> None:
    """A bound of 1.0 says that no clock goes faster than another, and one does."""

    def trial(seed: int, clock_drift: float) -> Trial:
        faults = tuple(
            fault
            for at in (0.8, 3.0)
            for fault in (
                Fault("skew leader", at, 2.0, "etcd-1"),
                Fault("isolate leader", at + 0.1, 1.8, "etcd-1"),
            )
        )
        others = {"clients": 3, "readers": 3, "seconds": SECONDS}
        return quiet(seed, faults=faults, lease_read_clock_drift=clock_drift, **others)

    _, error = found(trial(seed, 1.0) for seed in range(TRIALS_MAX))
    assert "not linearizable" in str(error)
    # With a bound that is true they are as good as any.
    for seed in range(2):
        run(trial(seed, 4.0))


def test_a_lease_that_ends_too_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    start = LeaseClock.start
    monkeypatch.setattr(LeaseClock, "start", lambda self, lease, _, now_s: start(self, lease, 0.4, now_s))
    _, error = found(quiet(seed, lessees=1) for seed in range(TRIALS_MAX))
    assert str(error).startswith("lease 1 is not linearizable"), error


def test_a_lease_that_a_new_leader_does_not_know_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock never starts: it lasts for ever."""

    def start_leading(self: StateMachine, now_s: float) -> None:
        self.stop_leading()

    monkeypatch.setattr(StateMachine, "start_leading", start_leading)
    faults = (Fault("crash leader", 2.0, 0.5, ""),)
    _, error = found(quiet(seed, lessees=1, faults=faults) for seed in range(TRIALS_MAX))
    assert "do not end" in str(error), error


def test_a_lease_that_leaves_keys_behind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def revoke(self: MvccStore, lease: int) -> LeaseRevokeReply:
        changed: list[Any] = []
        for key in self.leases.remove(lease)[:1]:
            pair = self.keys.latest(key)
            assert pair is not None
            self._delete_pair(pair, changed)
        self._seal(changed)
        return LeaseRevokeReply(self.revision)

    monkeypatch.setattr(MvccStore, "_revoke", revoke)
    _, error = found(quiet(seed, lessees=2) for seed in range(TRIALS_MAX))
    assert "nobody's work" in str(error), error


def test_a_compaction_that_takes_too_much_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    prune = KeySpace.prune
    monkeypatch.setattr(KeySpace, "prune", lambda self, key, floor: prune(self, key, floor + 3))
    _, error = found(quiet(seed, compactors=1, historians=1) for seed in range(TRIALS_MAX))
    assert "not linearizable" in str(error) or " at " in str(error), error


def test_a_read_of_what_is_compacted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    range_ = MvccStore.range

    def lenient(self: MvccStore, request: Any) -> Any:
        try:
            return range_(self, request)
        except Compacted:
            return self._read(request, self.revision)

    monkeypatch.setattr(MvccStore, "range", lenient)
    _, error = found(quiet(seed, compactors=1, historians=1) for seed in range(TRIALS_MAX))
    assert "not linearizable" in str(error) or "does not refuse" in str(error), error


def test_a_watch_that_is_not_told_what_is_compacted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on with what is left."""

    since = MvccStore.changes_since

    def changes_since(self: MvccStore, revision: int, *others: Any) -> Any:
        return since(self, max(revision, self.changes_from), *others)

    add = WatchHub.add

    def lenient(self: WatchHub, watch: Any) -> int:
        compacted, self.store.compact_revision = self.store.compact_revision, 0
        number = add(self, watch)
        self.store.compact_revision = compacted
        return number

    monkeypatch.setattr(MvccStore, "changes_since", changes_since)
    monkeypatch.setattr(WatchHub, "add", lenient)
    trials = (quiet(seed, compactors=1, diggers=2) for seed in range(TRIALS_MAX))
    _, error = found(trials)
    assert "reliable" in str(error) or "resumable" in str(error) or "does not refuse" in str(error), error


def test_a_watch_that_falls_silent_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody wakes it when something comes, so that a watch tells only what is there when it begins."""
    monkeypatch.setattr(WatchHub, "changed", lambda self, change: [])
    _, error = found(quiet(seed, watchers=1) for seed in range(TRIALS_MAX))
    assert str(error).startswith("nothing comes of"), error


def test_a_member_whose_past_differs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One member keeps a version that the others have forgotten, and says so in its hash."""
    machines: list[StateMachine] = []
    reading = StateMachine.reading

    def differs(self: StateMachine, request: Any, now_s: float) -> Any:
        if self not in machines:
            machines.append(self)
        revision = getattr(request, "revision", 0)
        answer = yield from reading(self, request, now_s)
        if self is machines[0] and answer.reply is not None and 0 < revision < answer.reply.revision:
            return evolve(answer, reply=evolve(answer.reply, hash=answer.reply.hash ^ 1))
        return answer

    monkeypatch.setattr(StateMachine, "reading", differs)
    _, error = found(quiet(seed, auditors=1) for seed in range(TRIALS_MAX))
    assert "members differ" in str(error), error


def test_a_member_that_was_removed_and_goes_on_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Member, "_leave", lambda self: None)
    _, error = found(quiet(seed, moves=(Move("replace", 0.5, 0),)) for seed in range(TRIALS_MAX))
    assert "do not stop" in str(error), error
