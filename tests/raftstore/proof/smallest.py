"""From a failing trial to a smaller one that fails alike: fewer faults, fewer who work, less to do.

`actors.search` makes the order of turns small; here the order is left as it comes, and what the run is made
of shrinks. Every candidate is run, so their number is bounded.
"""

import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

from attrs import evolve, frozen

from tests.raftstore.proof.group import Move
from tests.raftstore.proof.trials import Fault, Trial, run
from tests.raftstore.proof.verification import Verified

RUNS_MAX = 60
HELPERS = ("lessees", "compactors", "historians", "diggers", "watchers", "auditors")
ROLES = (*HELPERS, "readers", "clients")


@frozen
class Smallest:
    trial: Trial
    error: Exception
    """What it fails with."""
    runs: int
    """How many it took to find it."""


def prove(trial: Trial, runs_max: int = RUNS_MAX) -> Verified:
    """Run a trial. Raises what the smallest trial that fails alike fails with, and how to run that again."""
    try:
        return run(trial)
    except Exception as error:
        smallest = shrunk(trial, error, runs_max)
    smallest.error.add_note(
        f"this is the smallest that fails alike, found in {smallest.runs} runs; to run it again:\n"
        f"UNDERSTUDY_TRIAL={shlex.quote(smallest.trial.written())} "
        f".venv/bin/pytest tests/raftstore/proof/test_simulated.py -k whatever_happens"
    )
    raise smallest.error


def shrunk(
    trial: Trial, error: Exception, runs_max: int = RUNS_MAX, attempt: Callable[[Trial], object] = run
) -> Smallest:
    """The smallest trial that fails alike, as far as so many runs find it."""
    best, runs, tried = Smallest(trial, error, 0), 0, {trial}
    while True:
        for candidate in smaller(best.trial):
            if candidate in tried:
                continue
            if runs == runs_max:
                return evolve(best, runs=runs)
            tried.add(candidate)
            runs += 1
            try:
                attempt(candidate)
            except Exception as other:
                if kind_of(other) == kind_of(error):
                    best = Smallest(candidate, other, runs)
                    break
        else:
            return evolve(best, runs=runs)


def kind_of(error: Exception) -> tuple[type, str]:
    """What tells failures apart: their type, and the words before any particulars."""
    words = re.match(r"[a-z ]*", str(error))
    return type(error), words.group() if words is not None else ""


def smaller(trial: Trial) -> Iterator[Trial]:
    """Trials with a little less, those with much less first."""
    parts: list[Fault | Move] = [*trial.faults, *trial.moves]
    size = len(parts)
    while size:
        for start in range(0, len(parts), size):
            left = {id(part) for part in (*parts[:start], *parts[start + size :])}
            yield evolve(
                trial,
                faults=tuple(fault for fault in trial.faults if id(fault) in left),
                moves=tuple(move for move in trial.moves if id(move) in left),
            )
        size //= 2
    if any(getattr(trial, role) for role in HELPERS):
        nobody: dict[str, Any] = dict.fromkeys(HELPERS, 0)
        yield evolve(trial, **nobody)
    for role in ROLES:
        count = getattr(trial, role)
        for fewer in sorted({0, count // 2, count - 1}):
            if 0 <= fewer < count:
                yield evolve(trial, **{role: fewer})
    last = max((part.at_seconds for part in parts), default=0.0)
    if trial.seconds - 1.0 >= max(2.0, last + 1.0):
        yield evolve(trial, seconds=trial.seconds - 1.0)
    for operations in (min(trial.operations_max, 256) // 2, min(trial.operations_max, 256) * 3 // 4):
        if 0 < operations < trial.operations_max:
            yield evolve(trial, operations_max=operations)
