"""A plan: what makes one simulated run what it is, besides the code. Data, small enough to paste in a test.

A run is a function of (code, plan): the seed of the world's random streams, the sparse deviations of its
order of turns from first come, first served, and the actors and hosts that crash at given turns.

There are two deviations. A *skip* lets another turn go first, once. A *hold* keeps the turn that is next back
for a number of turns, as a slow machine or a long queue would: most races need one or two of them, where they
would need a skip at every turn in between. (Delaying what is next is the search space of Emmi, Qadeer and
Rakamaric, "Delay-bounded scheduling", POPL 2011.)
"""

from collections.abc import Mapping

from attrs import define, field, frozen


class InjectedCrash(Exception):
    """What an actor fails with when a plan crashes it."""


def _sorted_counts(counts: Mapping[int, int]) -> dict[int, int]:
    """By turn, so that equal plans print alike; a deviation by nothing is none."""
    assert all(step >= 0 and count >= 0 for step, count in counts.items()), counts
    return {step: count for step, count in sorted(counts.items()) if count > 0}


def _sorted_paths(crashes: Mapping[int, str]) -> dict[int, str]:
    return dict(sorted(crashes.items()))


@frozen
class Plan:
    """Everything that one simulated run depends on, besides the code. Turns are counted from 0."""

    seed: int = 0
    """Of the world's random streams."""
    skips: Mapping[int, int] = field(factory=dict, converter=_sorted_counts)
    """At these turns so many of those who are next are passed over, this once."""
    holds: Mapping[int, int] = field(factory=dict, converter=_sorted_counts)
    """At these turns the one who is next is held back: others go first for so many turns, or until nobody
    else is ready."""
    crashes: Mapping[int, str] = field(factory=dict, converter=_sorted_paths)
    """Before these turns the actor of that path crashes, if there is one. A name without a slash in front is
    a host, which loses power for a tenth of a second."""

    def __str__(self) -> str:
        """Python that makes this plan again."""
        parts = [f"seed={self.seed}"] if self.seed else []
        parts += [
            f"{name}={dict(value)}"
            for name, value in (("skips", self.skips), ("holds", self.holds), ("crashes", self.crashes))
            if value
        ]
        return f"Plan({', '.join(parts)})"

    @property
    def size(self) -> int:
        """How many deviations and crashes there are."""
        return len(self.skips) + len(self.holds) + len(self.crashes)


@define
class Planned:
    """The schedule of a plan, for one run.

    It knows where in the ready set the held turns are, since nothing happens to that set between two choices
    but that the chosen turn leaves it and new ones join at its end.
    """

    plan: Plan
    skips: dict[int, int] = field(factory=dict, init=False)
    """The plan's skips that had an effect so far."""
    holds: dict[int, int] = field(factory=dict, init=False)
    """The plan's holds that had an effect so far."""
    _held: list[tuple[int, int]] = field(factory=list, init=False)
    """Index of each held turn, ascending, and the turn at which it is let go."""

    def choose(self, step: int, ready: int) -> int:
        plan = self.plan
        if not self._held and step not in plan.holds:
            skip = plan.skips.get(step, 0)
            if skip and ready > 1:
                self.skips[step] = skip = min(skip, ready - 1)
                return skip
            return 0
        self._held = [(index, until) for index, until in self._held if until > step]
        held = {index for index, _ in self._held}
        free = [index for index in range(ready) if index not in held]
        turns = plan.holds.get(step, 0)
        if turns and len(free) > 1:
            self.holds[step] = turns
            self._held = sorted([*self._held, (free.pop(0), step + turns)])
        skip = min(plan.skips.get(step, 0), len(free) - 1)
        if skip > 0:
            self.skips[step] = skip
        chosen = free[max(skip, 0)] if free else 0
        self._held = [(index - (index > chosen), until) for index, until in self._held if index != chosen]
        return chosen
