"""From a failing run to a smaller plan that fails alike: fewer deviations and crashes, smaller ones.

What a candidate does is only known by running it: to leave out one deviation shifts what the later ones mean.
A candidate that fails alike is adopted as it turned out, without what had no effect.
"""

from collections.abc import Callable, Generator
from typing import Any

from attrs import define, evolve, field

from .exploration import Delays
from .plan import Plan
from .simrun import Job, RunResult

RUNS_MAX = 3_000
"""Runs that shrinking may take unless told otherwise."""

FRESH_RUNS_MAX = 1_000
"""Of those, the runs to look for a failure with few holds, from scratch."""

Steps = Generator[Job, RunResult[Any], None]


def fails_alike(one: Exception, other: Exception) -> bool:
    """Whether two runs failed for the same reason, as far as can be told: the same type of error."""
    return type(one) is type(other)


@define
class _Shrinking:
    best: RunResult[Any]
    alike: Callable[[Exception, Exception], bool]
    runs_left: int
    _tried: set[str] = field(factory=set, init=False)

    def attempt(self, plan: Plan) -> Generator[Job, RunResult[Any], bool]:
        """Try a plan, and take it when it fails alike and is smaller."""
        if str(plan) in self._tried or self.runs_left <= 0:
            return False
        self._tried.add(str(plan))
        self.runs_left -= 1
        result = yield Job(plan)
        return self.adopt(result)

    def adopt(self, result: RunResult[Any]) -> bool:
        assert self.best.error is not None
        if result.error is None or not self.alike(result.error, self.best.error):
            return False
        if _size(result.plan) >= _size(self.best.plan):
            return False
        self.best = result
        return True

    def remove(self) -> Steps:
        """Leave out halves, then quarters, ... then single elements (delta debugging)."""
        chunk = max(1, self.best.plan.size // 2)
        while True:
            start = 0
            while start < self.best.plan.size:
                if not (yield from self.attempt(_without(self.best.plan, start, start + chunk))):
                    start += chunk
            if chunk == 1:
                return
            chunk //= 2

    def hold(self) -> Steps:
        """One hold in place of several skips: the longest stretch of them first."""
        start = 0
        while start < len(self.best.plan.skips):
            if not (yield from self._hold_from(start)):
                start += 1

    def _hold_from(self, start: int) -> Generator[Job, RunResult[Any], bool]:
        plan = self.best.plan
        steps = list(plan.skips)
        for end in range(len(steps) - 1, start, -1):
            span = steps[end] - steps[start] + 1
            rest = {s: n for s, n in plan.skips.items() if not steps[start] <= s <= steps[end]}
            for turns in (span, span + 1, span + 3, 2 * span, FOR_LONG):
                holds = {**plan.holds, steps[start]: turns}
                if (yield from self.attempt(evolve(plan, skips=rest, holds=holds))):
                    return True
        return False

    def lower(self) -> Steps:
        """Pass over fewer ready turns, hold back for fewer turns."""
        for kind in ("skips", "holds"):
            for step in list(getattr(self.best.plan, kind)):
                for divide in (lambda n: 1, lambda n: n // 2, lambda n: n - 1):
                    while True:
                        counts = getattr(self.best.plan, kind)
                        fewer = divide(counts.get(step, 0))
                        if not 0 < fewer < counts.get(step, 0):
                            break
                        if not (yield from self.attempt(_with(self.best.plan, kind, step, fewer))):
                            break

    def afresh(self) -> Steps:
        """One hold alone, or two, may be enough in quite another place."""
        base = evolve(self.best.plan, skips={}, holds={})
        plain = yield Job(base)
        for turns in (FOR_LONG, 2, 4, 8, 16, 32):
            for step in plain.widths:
                if (yield from self.attempt(evolve(base, holds={step: turns}))):
                    return
        source = Delays(min(3, self.best.plan.size - 1)).runs(base, plain)
        job = next(source)
        for _ in range(min(FRESH_RUNS_MAX, self.runs_left)):
            self.runs_left -= 1
            result = yield job
            if self.adopt(result):
                return
            job = source.send(result)


FOR_LONG = 1_000
"""Turns of a hold that ends when nobody else is ready."""


def _size(plan: Plan) -> tuple[int, int, tuple[int, ...]]:
    """Fewer elements first, then smaller skips and holds, then earlier turns."""
    counts = sum(plan.skips.values()) + sum(plan.holds.values())
    return (plan.size, counts, (*plan.crashes, *plan.holds, *plan.skips))


def _without(plan: Plan, start: int, end: int) -> Plan:
    """The plan without some of its elements: crashes are counted first, then holds, then the last skips."""
    names = ("crashes", "holds", "skips")
    elements = [(name, step) for name in names for step in reversed(getattr(plan, name))]
    for name, step in elements[start:end]:
        changes: dict[str, Any] = {name: {s: n for s, n in getattr(plan, name).items() if s != step}}
        plan = evolve(plan, **changes)
    return plan


def _with(plan: Plan, kind: str, step: int, count: int) -> Plan:
    changes: dict[str, Any] = {kind: {**getattr(plan, kind), step: count}}
    return evolve(plan, **changes)


def shrink(
    failing: RunResult[Any],
    alike: Callable[[Exception, Exception], bool] = fails_alike,
    runs_max: int = RUNS_MAX,
) -> Generator[Job, RunResult[Any], RunResult[Any]]:
    """A search for the smallest plan that fails as `failing` does; ends with the run of that plan."""
    assert failing.error is not None, "only what fails is shrunk"
    work = _Shrinking(failing, alike, runs_max)
    yield from _reduce(work)
    if work.best.plan.size > 1 and work.runs_left > 0:
        yield from work.afresh()
        yield from _reduce(work)
    return work.best


def _reduce(work: _Shrinking) -> Steps:
    while work.runs_left > 0:
        before = _size(work.best.plan)
        yield from work.remove()
        yield from work.hold()
        yield from work.lower()
        if _size(work.best.plan) == before:
            return
