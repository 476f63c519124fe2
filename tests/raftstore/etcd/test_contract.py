"""The Storage contract, held by a client of the etcd API: before our own service, and before a real etcd.

The tests are those of `tests/raftstore/contract`; here is only the store that they are played against.
"""

import inspect
from pathlib import Path

import pytest
import trio

from tests.raftstore.contract import test_access, test_keys, test_leases, test_maintenance, test_watches
from tests.raftstore.contract.stores import Bench, Play, Scenario
from tests.raftstore.etcd.etcds import at, real_etcd, through_the_api
from understudy.actors import ActorSystem, RealWorld, Shuffled, SimWorld, World

globals().update(
    {
        name: test
        for module in (test_keys, test_watches, test_leases, test_access, test_maintenance)
        for name, test in vars(module).items()
        if name.startswith("test_") and [*inspect.signature(test).parameters] == ["play"]
    }
)


NOT_OF_A_REMOTE_STORE = {
    "through the API": ["test_whoever_a_front_has_seen"],
    "a real etcd": [
        "test_whoever_a_front_has_seen",
        "test_its_version_is_one_that",
        "test_a_password_that_bcrypt_would_cut",
        "test_a_short_lease_lasts_two_seconds_and_a_physical_compaction_is_one",
    ],
}
"""A server sees certificates for itself; Debian's etcd is older than an API server wants and cuts passwords;
and a bbolt file does not shrink.
"""


@pytest.fixture(params=["through the API", "through the API, shuffled", "a real etcd"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    kind = str(request.param)
    if request.node.name.startswith(tuple(NOT_OF_A_REMOTE_STORE[kind.partition(",")[0]])):
        pytest.skip("not of a store behind the etcd API")

    async def main(world: World, store: object, scenario: Scenario) -> None:
        async with ActorSystem.open(world) as system:
            await scenario(Bench(world, system, system.spawn(store, "etcd")))  # type: ignore[arg-type]

    def run(scenario: Scenario) -> None:
        if kind != "a real etcd":
            world = SimWorld(1, Shuffled(7) if "shuffled" in kind else None, turns_max=400_000)
            world.run(lambda inside: main(inside, through_the_api(), scenario))
            return

        async def real(url: str) -> None:
            async with RealWorld.open(seed=1) as world:
                await main(world, at(url), scenario)

        with real_etcd(tmp_path) as url:
            trio.run(real, url)

    return run
