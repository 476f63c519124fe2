"""Trio's private names, all of them, so that one test notices when Trio moves one.

Why they are needed: Trio shuffles the tasks that became runnable together, on purpose and unseeded, and it
walks a cancelled scope's tasks in set order. A simulation has to pin both.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio
from trio._core import _run


class _Unshuffled(random.Random):
    """Leaves a batch such that Trio, which pops from its end, runs tasks in the order of their creation."""

    def shuffle(self, x: Any) -> None:
        x.reverse()


@contextmanager
def pinned_batch_order() -> Iterator[None]:
    """Within this block, tasks that become runnable together run in the order of their creation."""
    saved = (_run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r)
    # A fixed seed: nothing may depend on what `_r` draws, and a repeat must not differ if it does.
    _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r = True, _Unshuffled(0)  # type: ignore[misc]
    try:
        yield
    finally:
        _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r = saved  # type: ignore[misc]


def creation_order(task: trio.lowlevel.Task) -> int:
    """A number that grows with the order in which this process created its tasks."""
    return task._counter
