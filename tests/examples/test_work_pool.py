"""The work pool in virtual time, under several orders of events."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from understudy.actors import Actor, ActorSystem, Ref, Shuffled, SimWorld, handles
from understudy.mailbox import MailboxFull

from . import example

work_pool = example("work_pool")
Job, Submit = work_pool.Job, work_pool.Submit


class Results(Actor[Any]):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.came: list[Any] = []

    @handles(work_pool.Done)
    def done(self, message: Any) -> None:
        self.came.append(message)


def simulated(
    main: Callable[[ActorSystem, Results, Ref[Any], Ref[Any]], Awaitable[None]], seed: int, capacity: int = 16
) -> None:
    async def run(world: SimWorld) -> None:
        results = Results()
        async with ActorSystem.open(world) as system:
            to: Ref[Any] = system.spawn(lambda: results, "results")
            pool = system.spawn(lambda: work_pool.Pool(3), "pool", capacity=capacity)
            await main(system, results, pool, to)

    SimWorld(seed, Shuffled(seed)).run(run)


seeds = pytest.mark.parametrize("seed", range(10))


@seeds
def test_every_job_is_done_and_the_workers_share_them(seed: int) -> None:
    async def main(system: ActorSystem, results: Results, pool: Ref[Any], to: Ref[Any]) -> None:
        for n in range(30):
            await pool.ask(Submit(Job(n, 1.0), to), 100.0)
        assert 9.0 <= system.world.monotonic() < 9.5, "submitting is as slow as three workers work"
        await system.world.sleep(2.0)
        assert sorted(done.result for done in results.came) == [sum(range(n)) for n in range(30)]

    simulated(main, seed)


@seeds
def test_a_producer_that_does_not_wait_is_refused_at_the_bound(seed: int) -> None:
    async def main(system: ActorSystem, results: Results, pool: Ref[Any], to: Ref[Any]) -> None:
        accepted = 0
        with pytest.raises(MailboxFull):
            for _ in range(100):
                pool.tell(Submit(Job(1, 1.0), to))
                accepted += 1
        assert accepted == 4
        await system.world.sleep(10.0)
        assert len(results.came) == accepted, "what was accepted is done"

    simulated(main, seed, capacity=4)


@seeds
def test_a_bad_job_is_reported_and_costs_the_pool_no_worker(seed: int) -> None:
    async def main(system: ActorSystem, results: Results, pool: Ref[Any], to: Ref[Any]) -> None:
        for n in (-1, 2, -1, -1, 3, -1):
            await pool.ask(Submit(Job(n, 1.0), to), 100.0)
        await system.world.sleep(10.0)
        assert sorted(done.job.n for done in results.came if done.error is None) == [2, 3]
        assert len([done for done in results.came if done.error is not None]) == 4
        assert len([status for status in system.statistics() if "/worker-" in status.path]) == 3

    simulated(main, seed)


@seeds
def test_the_pool_can_be_stopped_in_the_middle(seed: int) -> None:
    async def main(system: ActorSystem, results: Results, pool: Ref[Any], to: Ref[Any]) -> None:
        for n in range(5):
            await pool.ask(Submit(Job(n, 1000.0), to), 3000.0)
            if n == 2:
                break
        await system.stop(pool)
        assert [status.path for status in system.statistics()] == ["/results"]

    simulated(main, seed)


def test_it_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    import trio

    trio.run(work_pool.main)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20
    assert len([line for line in lines if line.startswith("below -1: ")]) == 1
    assert f"below 19000: {sum(range(19000))}" in lines
