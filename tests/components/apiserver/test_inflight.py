"""Requests beyond the limit wait in order; one that gives up loses nobody's place."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.actors import DeadlineExceeded, Shuffled, SimWorld, World
from understudy.components.apiserver import inflight
from understudy.components.apiserver.inflight import InFlight
from understudy.components.machinery.errors import ApiError


@given(
    limit=st.integers(1, 4),
    jobs=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5), st.integers(1, 12)), max_size=15),
    schedule=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_never_more_than_the_limit_and_no_place_is_lost(
    limit: int, jobs: list[tuple[int, int, int]], schedule: int
) -> None:
    async def main(world: World) -> None:
        places = InFlight(world, limit)
        at_once = 0

        async def job(start: int, work: int, patience: int) -> None:
            nonlocal at_once
            await world.sleep(start)
            with world.limit(patience):
                async with places.place():
                    at_once += 1
                    try:
                        assert at_once <= limit
                        await world.sleep(work)
                    finally:
                        at_once -= 1

        async with world.nursery() as nursery:
            for start, work, patience in jobs:
                nursery.start_soon(job, start, work, patience)
        assert places.running == 0
        async with places.place():
            assert places.running == 1

    SimWorld(schedule=Shuffled(schedule)).run(main)


def test_first_come_first_served_and_a_bound_on_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflight, "QUEUE_MAX", 3)

    async def main(world: World) -> None:
        places = InFlight(world, 1)
        order: list[int] = []

        async def job(number: int) -> None:
            async with places.place():
                order.append(number)
                await world.sleep(1)

        async with world.nursery() as nursery:
            for number in range(4):
                nursery.start_soon(job, number)
            await world.sleep(0.5)
            with pytest.raises(ApiError) as refused:
                await job(99)
            assert (refused.value.code, refused.value.headers) == (429, (("Retry-After", "1"),))
        assert order == [0, 1, 2, 3]

    SimWorld().run(main)


def test_a_deadline_ends_the_wait() -> None:
    async def main(world: World) -> None:
        places = InFlight(world, 1)
        async with places.place():
            with pytest.raises(DeadlineExceeded), world.deadline(1):
                async with places.place():
                    pass
        assert places.running == 0

    SimWorld().run(main)
