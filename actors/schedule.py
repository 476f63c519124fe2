"""Schedules: which of the ready turns goes next, as data.

FIFO is the plain order. A seeded schedule draws from a stream of its own; a list of deviations is FIFO but
for the named steps, and is what a failing run is shrunk to.
"""

import random
from collections.abc import Mapping
from typing import Protocol

from attrs import define, field, frozen


class Schedule(Protocol):
    """Chooses a turn."""

    def choose(self, step: int, ready: int) -> int:
        """The index, in order of readiness, of the turn to take at this step; 0 <= index < `ready`."""


@frozen
class Fifo:
    """The turn that has been ready longest."""

    def choose(self, step: int, ready: int) -> int:
        return 0


@define
class Shuffled:
    """Any ready turn with equal chance, from a seed."""

    seed: int
    _rng: random.Random = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._rng = random.Random(f"schedule/{self.seed}")

    def choose(self, step: int, ready: int) -> int:
        # Much quicker than `randrange`, and as even, as far as so few turns can tell.
        return int(self._rng.random() * ready) if ready > 1 else 0


@frozen
class Deviations:
    """FIFO, but at the given steps skip so many ready turns (at most all but one)."""

    skips: Mapping[int, int]

    def choose(self, step: int, ready: int) -> int:
        return min(self.skips.get(step, 0), ready - 1)
