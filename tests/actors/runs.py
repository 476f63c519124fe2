"""The two worlds in which every scenario of these tests runs."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from understudy.actors import RealWorld, SimWorld, World

Main = Callable[[World], Awaitable[Any]]
Run = Callable[[Main], Any]

HANG_SECONDS = 120
"""What hangs in the real world fails after so long: no test comes near it on a machine ten times slower."""


async def until(world: World, condition: Callable[[], bool]) -> None:
    """Return once a condition holds, looking again and again."""
    with world.deadline(HANG_SECONDS):
        while not condition():
            await world.sleep(0.002)


def in_real_world(main: Main) -> Any:
    async def run() -> Any:
        async with RealWorld.open() as world:
            with trio.fail_after(HANG_SECONDS):
                return await main(world)

    return trio.run(run)


def in_simulation(main: Main) -> Any:
    return SimWorld(seed=1).run(main)


both = pytest.mark.parametrize("run", [in_real_world, in_simulation])
