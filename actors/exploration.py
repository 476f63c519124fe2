"""Which orders of turns to try: all within a bound, random ones, random delays, or random priorities.

Each is a source of runs for `search`. All are deterministic: the same numbers make the same runs.
"""

import random
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

from attrs import define, field, frozen

from .digest import Digest
from .plan import Plan
from .schedule import Schedule, Shuffled
from .sim import SimWorld
from .simrun import Job, RunResult, Situation

Source = Generator[Job, RunResult[Any], bool]
"""Asks for runs; returns whether these were all runs that there are within its bound."""


class Exploration(Protocol):
    """A way to choose orders."""

    def runs(self, base: Plan, first: RunResult[Any]) -> Source:
        """The runs to try. `base` gives seed and crashes; `first` is the run without deviations."""


@frozen
class _Explored:
    """A run whose later deviations are still to be tried."""

    skips: dict[int, int]
    widths: dict[int, int]
    open_until: int
    """From this turn on, what follows was explored from an equal state of another run."""

    def children(self, turns_max: int) -> Iterator[dict[int, int]]:
        """Every plan that has one more deviation, later than the others."""
        last = max(self.skips, default=-1)
        for step, width in self.widths.items():
            if last < step < min(self.open_until, turns_max):
                for skip in range(1, width):
                    yield {**self.skips, step: skip}


@frozen
class Exhaustive:
    """Every order, those with fewer deviations first: what fails first fails with the fewest."""

    deviations_max: int | None = None
    """Orders with more deviations are left out."""
    turns_max: int = 1_000_000
    """Deviations at later turns are left out."""
    prune: bool = False
    """Do not go on from a state that was seen in another run; `digest` says when states count as equal.
    Sound only for actors that share nothing but messages, answers and channels."""

    def runs(self, base: Plan, first: RunResult[Any]) -> Source:
        seen: set[int] = set()
        level = [(yield from self._run(base, {}, seen))] if self.prune else [_explored(first)]
        complete = True
        depth = 0
        while level:
            if depth == self.deviations_max:
                return complete and not any(any(run.children(self.turns_max)) for run in level)
            depth += 1
            following = []
            for run in level:
                complete = complete and max(run.widths, default=0) < self.turns_max
                for skips in run.children(self.turns_max):
                    child = yield from self._run(base, skips, seen)
                    following.append(child)
            level = following
        return complete

    def _run(
        self, base: Plan, skips: dict[int, int], seen: set[int]
    ) -> Generator[Job, RunResult[Any], _Explored]:
        plan = Plan(base.seed, skips, {}, base.crashes)
        if not self.prune:
            return _explored((yield Job(plan)))
        last = max(skips, default=-1)
        digest, open_until = Digest(), 1 << 62

        def look(situation: Situation) -> None:
            nonlocal open_until
            if last < situation.step < open_until:
                state = digest.of(situation)
                if state in seen:
                    open_until = situation.step
                seen.add(state)
            digest.taken(situation)

        result = yield Job(plan, observe=digest.note, before_turn=look)
        return _Explored(dict(result.plan.skips), result.widths, open_until)


def _explored(result: RunResult[Any]) -> _Explored:
    return _Explored(dict(result.plan.skips), result.widths, 1 << 62)


@frozen
class Random:
    """Any ready turn with equal chance, each run from a seed of its own."""

    seed: int = 0

    def runs(self, base: Plan, first: RunResult[Any]) -> Source:
        number = 0
        while True:
            yield Job(base, _shuffled((self.seed << 32) + number))
            number += 1


def _shuffled(seed: int) -> Callable[[SimWorld], Schedule]:
    return lambda _: Shuffled(seed)


@frozen
class Delays:
    """First come, first served, but for a few turns that are held back for a while.

    A failure comes with few deviations from the start, and one that needs few is found soon.
    """

    holds_max: int = 3
    """Runs have 1, 2, ... so many holds, in turn."""
    seed: int = 0

    def runs(self, base: Plan, first: RunResult[Any]) -> Source:
        number = 0
        turns = sorted(first.widths) or [0]
        while True:
            rng = random.Random(f"delays/{self.seed}/{number}")
            holds = {}
            for _ in range(1 + number % self.holds_max):
                # A little later than the plain run ends, since a run with holds may take more turns.
                step = rng.choice(turns) if rng.random() < 0.9 else turns[-1] + rng.randrange(20)
                holds[step] = 1 << rng.randrange(HOLD_BITS_MAX)
            yield Job(Plan(base.seed, {}, holds, base.crashes))
            number += 1


HOLD_BITS_MAX = 8
"""Holds are tried for 1, 2, 4, ... up to half of 2 to this many turns."""


@frozen
class Priorities:
    """Random priorities, strictly kept, with a few random moments where whoever is first becomes last.

    A bug that needs d orderings to come about is found by a run with d - 1 changes with a chance of at least
    one in (actors x turns^(d-1)): Burckhardt and others, "A randomized scheduler with probabilistic
    guarantees of finding bugs" (ASPLOS 2010). An actor, and each task of the scenario, has one priority.
    """

    changes_max: int = 3
    """Runs have 0, 1, ... so many changes of priority, in turn."""
    seed: int = 0

    def runs(self, base: Plan, first: RunResult[Any]) -> Source:
        number = 0
        while True:
            changes = number % (self.changes_max + 1)
            rng = random.Random(f"priorities/{self.seed}/{number}")
            when = frozenset(rng.randrange(max(1, first.turns)) for _ in range(changes))
            yield Job(base, _prioritised(rng, when))
            number += 1


def _prioritised(rng: random.Random, change_at: frozenset[int]) -> Callable[[SimWorld], Schedule]:
    return lambda world: _ByPriority(world, rng, change_at)


@define
class _ByPriority:
    """The schedule of one run of `Priorities`."""

    world: SimWorld
    rng: random.Random
    change_at: frozenset[int]
    _priorities: dict[str, float] = field(factory=dict, init=False)
    """By actor or task; the higher goes first."""
    _lowest: float = field(default=0.0, init=False)
    _changed: int = field(default=-1, init=False)
    """The last turn at which changes were made."""

    def choose(self, step: int, ready: int) -> int:
        index, who = self._first()
        if any(self._changed < turn <= step for turn in self.change_at):
            self._changed = step
            self._lowest -= 1.0
            self._priorities[who] = self._lowest
            index, _ = self._first()
        return index

    def _first(self) -> tuple[int, str]:
        best, found = -1, ""
        for index, turn in enumerate(self.world.ready_turns()):
            who = turn.label.partition(" ")[0]
            priority = self._priorities.get(who)
            if priority is None:
                priority = self._priorities[who] = self.rng.random()
            if best < 0 or priority > self._priorities[found]:
                best, found = index, who
        return best, found
