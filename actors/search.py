"""Run a small system under all or many orders of turns, and shrink a failing run to its few deviations.

    finding = search(scenario, Exhaustive(deviations_max=2))
    finding.check()

A scenario is an async function of an `ActorSystem` that spawns actors, drives them and asserts. It fails by
raising: its own assertion, a deadlock (`SimulationDeadlock`), or a run that does not end
(`SimulationTooLong`). The finding names the smallest plan that was found to fail, and explains it.
"""

from collections.abc import Callable, Generator
from typing import Any

from attrs import field, frozen

from .explaining import Trace, explain
from .exploration import Delays, Exhaustive, Exploration, Priorities, Random
from .plan import Plan
from .shrinking import fails_alike, shrink
from .simrun import TURNS_MAX, Job, RunResult, Scenario, run_search

__all__ = [
    "Delays",
    "Exhaustive",
    "Failure",
    "Finding",
    "NotDeterministic",
    "Plan",
    "Priorities",
    "Random",
    "search",
]


class NotDeterministic(Exception):
    """The same plan ran in two ways: something in the scenario depends on more than the plan."""


@frozen
class Failure:
    """A failing run, as small as it was found."""

    plan: Plan
    error: Exception
    explanation: str = field(repr=False)
    found_after: int
    """Runs until the first failure."""
    found_deviations: int
    """Deviations and crashes of the run that failed first."""


@frozen
class Finding:
    """What a search came to."""

    runs: int
    """Runs that the search made, those of shrinking not counted."""
    complete: bool
    """Every order within the exploration's bound was run, or is equal to one that was."""
    failure: Failure | None

    def check(self) -> None:
        """Raise what the failing run failed with, explained, if one did."""
        if self.failure is not None:
            self.failure.error.add_note(self.failure.explanation)
            raise self.failure.error


def search(
    scenario: Scenario[Any],
    exploration: Exploration | None = None,
    *,
    runs_max: int = 10_000,
    base: Plan | None = None,
    alike: Callable[[Exception, Exception], bool] = fails_alike,
    on_run: Callable[[RunResult[Any]], None] | None = None,
    turns_max: int = TURNS_MAX,
) -> Finding:
    """Run the scenario under the orders that `exploration` (default: `Delays`) tries, up to `runs_max`.

    `base` gives the seed and the crashes of every run. `alike` says whether a smaller plan shows the same
    failure: by default, the same type of error. `on_run` sees each run of the search.

    Raises:
        NotDeterministic: the failing run went another way when it was repeated.
    """
    steps = _search(exploration or Delays(), base or Plan(), runs_max, alike, on_run)
    return run_search(scenario, steps, turns_max=turns_max)


def _search(
    exploration: Exploration,
    base: Plan,
    runs_max: int,
    alike: Callable[[Exception, Exception], bool],
    on_run: Callable[[RunResult[Any]], None] | None,
) -> Generator[Job, RunResult[Any], Finding]:
    result = yield Job(base)
    source = exploration.runs(base, result)
    runs, job = 1, next(source, None)
    while True:
        if on_run is not None:
            on_run(result)
        if result.error is not None:
            failure = yield from _explained(result, runs, alike)
            return Finding(runs, False, failure)
        if job is None:
            return Finding(runs, True, None)
        if runs >= runs_max:
            return Finding(runs, False, None)
        result = yield job
        runs += 1
        try:
            job = source.send(result)
        except StopIteration as stop:
            if result.error is None:
                if on_run is not None:
                    on_run(result)
                return Finding(runs, stop.value, None)
            job = None


def _explained(
    found: RunResult[Any], runs: int, alike: Callable[[Exception, Exception], bool]
) -> Generator[Job, RunResult[Any], Failure]:
    smallest = yield from shrink(found, alike)
    plain, failing = Trace(), Trace()
    yield plain.job(Plan(smallest.plan.seed))
    again = yield failing.job(smallest.plan)
    if again.trace_hash != smallest.trace_hash or again.error is None:
        raise NotDeterministic(
            f"{smallest.plan} failed with {smallest.error!r} after {smallest.turns} turns, and repeated"
            f" it took {again.turns} and gave {again.outcome!r}: does the scenario keep state between runs?"
        )
    text = explain(again, plain.turns, failing.turns)
    return Failure(again.plan, again.error, text, runs, found.plan.size)
