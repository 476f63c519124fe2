"""What work leaves behind: CPython frees what nobody refers to at once, but cycles only after a long look."""

import gc
from collections.abc import Awaitable, Callable

import trio
import trio.testing
from attrs import frozen

from understudy.actors import Actor, ActorSystem, Deferred, RealWorld, handles
from understudy.mailbox import Request, message

TIMES = 200


async def garbage_of(work: Callable[[], Awaitable[None]]) -> int:
    """How many objects the collector finds after the work was done once more."""
    for _ in range(2):  # The first time there is more: imports, and what earlier tests left.
        gc.collect()
        gc.disable()
        try:
            await work()
            found = gc.collect()
        finally:
            gc.enable()
    return found


async def test_a_task_that_waited_for_an_event_leaves_no_cycle() -> None:
    async with RealWorld.open(seed=1) as world:

        async def wait() -> None:
            done = world.event("done")
            async with trio.open_nursery() as nursery:
                for _ in range(TIMES):
                    nursery.start_soon(done.wait)
                await trio.testing.wait_all_tasks_blocked()
                done.set()

        assert await garbage_of(wait) < TIMES


class Desk:
    """Protocol of somebody who answers the question before when the next one comes."""


@message("test.garbage.question")
@frozen
class Question(Request[Desk, int]):
    number: int


class Clerk(Actor[Desk]):
    def __init__(self) -> None:
        self.owed: Deferred[int] = Deferred()

    @handles(Question)
    def on_question(self, question: Question) -> Deferred[int]:
        self.owed.answer(question.number)
        self.owed = Deferred()
        if question.number == TIMES:
            self.owed.answer(0)
        self.owed.on_abandoned(lambda: None)
        return self.owed


async def test_an_answer_that_came_later_leaves_no_cycle() -> None:
    async with RealWorld.open(seed=1) as world, ActorSystem.open(world) as system:
        clerk = system.spawn(Clerk, "clerk")

        async def ask() -> None:
            async with trio.open_nursery() as nursery:
                for number in range(TIMES + 1):
                    nursery.start_soon(clerk.ask, Question(number))
                    await trio.lowlevel.checkpoint()

        assert await garbage_of(ask) < TIMES
