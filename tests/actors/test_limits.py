"""What an actor may have at a time has a bound, and what comes beyond it is said to somebody."""

from typing import Any

import pytest
import trio
from attrs import frozen

from understudy.actors import Actor, ActorSystem, LimitReached, RealWorld, Ref, World, handles, incarnation
from understudy.actors.actor import CONCURRENT_MAX
from understudy.mailbox import Message, Request, message

from .runs import Run, both


class Limited:
    """Protocol of an actor that starts much."""


@message("test.limits.start")
@frozen
class Start(Request[Limited, None]):
    what: str
    count: int


@message("test.limits.wait")
@frozen
class Wait(Message[Limited]):
    pass


class Starter(Actor[Limited]):
    waiting = 0

    @handles(Start)
    def start(self, start: Start) -> None:
        for number in range(start.count):
            if start.what == "tasks":
                self.context.start_soon(self.world.sleep, 1000.0)
            else:
                self.context.set_timer(f"{number}", 1000.0, Wait())

    @handles(Wait, concurrent=True)
    async def wait(self, _: Wait) -> None:
        Starter.waiting += 1
        await self.world.sleep(1000.0)


@both
@pytest.mark.parametrize("what", ["tasks", "timers"])
def test_tasks_and_timers(run: Run, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incarnation, f"{what.upper()}_MAX", 20)

    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            ref: Ref[Limited] = system.spawn(Starter, "starter")
            await ref.ask(Start(what, 20))
            if what == "timers":
                await ref.ask(Start(what, 20))
            with pytest.raises(LimitReached) as refused:
                await ref.ask(Start(what, 21))
            assert (refused.value.what, refused.value.limit) == (what, 20)
            assert system.statistics()[0].restarts == 0, "a refusal, not a crash"

    run(main)


def test_calls_of_a_concurrent_handler_that_names_no_number() -> None:
    async def main() -> Any:
        async with RealWorld.open() as world, ActorSystem.open(world) as system:
            ref: Ref[Limited] = system.spawn(Starter, "starter", capacity=2 * CONCURRENT_MAX)
            for _ in range(CONCURRENT_MAX + 50):
                ref.tell(Wait())
            await trio.testing.wait_all_tasks_blocked()
            return Starter.waiting, system.statistics()[0].mailbox.depth

    Starter.waiting = 0
    assert trio.run(main) == (CONCURRENT_MAX, 49), "one more is taken, and waits for its turn"
