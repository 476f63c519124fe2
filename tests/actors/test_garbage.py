"""What tasks leave behind: CPython frees what nobody refers to at once, but cycles only after a long look."""

import gc

import trio
import trio.testing

from understudy.actors import RealWorld

TASKS = 200


async def test_a_task_that_waited_for_an_event_leaves_no_cycle() -> None:
    async with RealWorld.open(seed=1) as world:
        for _ in range(2):  # The first time there is more: imports, and what earlier tests left.
            gc.collect()
            gc.disable()
            try:
                done = world.event("done")
                async with trio.open_nursery() as nursery:
                    for _ in range(TASKS):
                        nursery.start_soon(done.wait)
                    await trio.testing.wait_all_tasks_blocked()
                    done.set()
                found = gc.collect()
            finally:
                gc.enable()
    assert found < TASKS
