"""A Trio run in virtual time: its clock, and the one who is called before each pass of its loop.

Starting Trio costs more than a small simulation does, so one such run may drive many, one after the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio
from attrs import define, field

from . import _trio


@define(eq=False)
class VirtualClock(trio.abc.Clock):
    """Trio's clock in a simulation: moves only when somebody moves it."""

    seconds: float = 0.0

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self.seconds

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return 0.0 if deadline <= self.seconds else 1e9


@define(eq=False)
class VirtualRun:
    """What a simulation needs of the Trio run that it takes place in."""

    clock: VirtualClock
    passes: _trio.Passes = field(factory=_trio.watch_passes)

    @contextmanager
    def driven(self, before_pass: Callable[[], bool], *, rare_polls: bool) -> Iterator[None]:
        """Within this block of the main task `before_pass` is called before each pass of Trio's loop.

        What the block sets in context variables is forgotten at its end. With `rare_polls`, I/O is looked
        for only now and then.
        """
        task, passes = trio.lowlevel.current_task(), self.passes
        context = task.context
        # Of the task's own, and not of the present one: that may still be the copy of the run before.
        task.context = context.copy()
        passes.before, passes.rare = before_pass, rare_polls
        try:
            yield
        finally:
            passes.before, passes.rare = None, True
            task.context = context


def run_in_virtual_time(root: Callable[[VirtualRun], Awaitable[None]]) -> None:
    """Run `root` as the main task of a Trio run, which runs tasks in the order of their creation."""
    clock = VirtualClock()

    async def main() -> None:
        # In traces and explanations it is the scenario.
        trio.lowlevel.current_task().name = "main"
        await root(VirtualRun(clock))

    with _trio.pinned_batch_order():
        trio.run(main, clock=clock, strict_exception_groups=True)
