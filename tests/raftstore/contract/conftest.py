"""Each test of the contract is played against every store, in the real and in the simulated world."""

from collections.abc import Callable

import pytest
import trio

from tests.raftstore.contract.stores import STORES, Scenario, bench
from understudy.actors import RealWorld, Shuffled, SimWorld, World


@pytest.fixture(params=["real", "simulated", "shuffled"])
def world_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=sorted(STORES))
def play(request: pytest.FixtureRequest, world_kind: str) -> Callable[[Scenario], None]:
    """Runs a scenario against one store in one world."""
    store = str(request.param)

    def run(scenario: Scenario) -> None:
        async def main(world: World) -> None:
            async with bench(world, store) as b:
                await scenario(b)

        async def real() -> None:
            async with RealWorld.open(seed=1) as world:
                await main(world)

        if world_kind == "real":
            trio.run(real)
        else:
            SimWorld(1, Shuffled(7) if world_kind == "shuffled" else None, turns_max=200_000).run(main)

    return run
