"""Pools: every message reaches one member, chosen as the routing says."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from attrs import frozen

from understudy.actors import Actor, ActorSystem, HashRing, Ref, Routing, World, handles, spawn_pool
from understudy.mailbox import Request, message

from .runs import Run, both


class Pooling:
    """Protocol of the pool's owner and its members."""


@message("test.routing.job")
@frozen
class Job(Request[Pooling, str]):
    key: str
    seconds: float = 0.0


class Worker(Actor[Pooling]):
    @handles(Job)
    async def job(self, job: Job) -> str:
        await self.world.sleep(job.seconds)
        return self.context.path


class Owner(Actor[Pooling]):
    def __init__(self, routing: Routing | Callable[[Any], str]) -> None:
        self.routing = routing

    async def on_start(self) -> None:
        self.pool = spawn_pool(self.context, Worker, "worker", 3, self.routing, capacity=4)

    @handles(Job, concurrent=True)
    async def job(self, job: Job) -> str:
        return await self.pool.ask(job)


async def members(world: World, routing: Routing | Callable[[Any], str], jobs: list[Job]) -> list[str]:
    """Who did each job, all asked at once."""
    done: dict[int, str] = {}
    async with ActorSystem.open(world) as system:
        owner: Ref[Pooling] = system.spawn(lambda: Owner(routing), "owner")
        await world.sleep(0.01)

        async def ask(number: int, job: Job) -> None:
            done[number] = await owner.ask(job)

        async with world.nursery() as nursery:
            for number, job in enumerate(jobs):
                nursery.start_soon(ask, number, job)
                await world.sleep(0.001)
    return [done[number] for number in range(len(jobs))]


@both
def test_round_robin_gives_each_as_much(run: Run) -> None:
    paths = run(lambda world: members(world, Routing.ROUND_ROBIN, [Job("")] * 9))
    assert paths == ["/owner/worker-0", "/owner/worker-1", "/owner/worker-2"] * 3


@both
def test_the_least_loaded_is_not_who_is_busy(run: Run) -> None:
    jobs = [Job("", 0.2), *[Job("", 0.0)] * 5]
    paths = run(lambda world: members(world, Routing.LEAST_LOADED, jobs))
    assert paths.count(paths[0]) == 1


@both
def test_a_key_keeps_its_member(run: Run) -> None:
    jobs = [Job(key) for key in "abcdefgh" * 2]
    paths = run(lambda world: members(world, lambda job: job.key, jobs))
    assert paths[:8] == paths[8:]
    assert len(set(paths)) > 1


@pytest.mark.parametrize("size", [2, 5, 10])
def test_a_ring_moves_only_the_keys_of_the_member_that_goes(size: int) -> None:
    refs: tuple[Ref[Pooling], ...] = tuple(Ref(f"/m{n}", None) for n in range(size))  # type: ignore[arg-type]
    ring, smaller = HashRing(refs), HashRing(refs[:-1])
    keys = [f"key-{n}" for n in range(2000)]
    assert all(ring.member(k) == smaller.member(k) for k in keys if ring.member(k) != refs[-1])
    shares = Counter(ring.member(key).path for key in keys)
    assert min(shares.values()) > 2000 / size / 2, "each has a fair share"
