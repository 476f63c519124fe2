"""An actor system as a block: how it ends, whatever ended it, and in whatever program it runs."""

import asyncio
import logging
from typing import Any

import pytest
import trio
from attrs import frozen

from understudy.actors import Actor, ActorSystem, RealWorld, Ref, Supervision, World, handles
from understudy.actors.supervision import RestartIntensityExceeded
from understudy.mailbox import Request, message

from .runs import Run, both, in_real_world


class Echoing:
    """Protocol of the actors here."""


@message("test.system.echo")
@frozen
class Echo(Request[Echoing, int]):
    number: int


@message("test.system.crash")
@frozen
class Crash(Request[Echoing, None]):
    pass


class Echoer(Actor[Echoing]):
    def __init__(self, log: list[str] | None = None, name: str = "echo") -> None:
        self.log = log if log is not None else []
        self.name = name

    async def on_stop(self) -> None:
        await self.world.sleep(0.001)
        self.log.append(self.name)

    @handles(Echo)
    def echo(self, request: Echo) -> int:
        return request.number

    @handles(Crash)
    def crash(self, _: Crash) -> None:
        raise RuntimeError("crash")


@both
def test_a_body_that_raises_still_stops_every_actor_last_started_first(run: Run) -> None:
    log: list[str] = []

    async def main(world: World) -> None:
        try:
            async with ActorSystem.open(world) as system:
                for name in ("first", "second"):
                    await system.spawn(lambda name=name: Echoer(log, name), name).ask(Echo(1))  # type: ignore[misc]
                raise KeyError("from the body")
        finally:
            for _ in range(3):
                await world.sleep(0.001)
            assert not [name for name in _task_names() if "actor system" in name]

    with pytest.raises(KeyError, match="from the body"):
        run(main)
    assert log == ["second", "first"]


def _task_names() -> list[str]:
    names: list[str] = []

    def walk(task: trio.lowlevel.Task) -> None:
        names.append(task.name)
        for nursery in task.child_nurseries:
            for child in nursery.child_tasks:
                walk(child)

    root = trio.lowlevel.current_root_task()
    assert root is not None
    walk(root)
    return names


@both
def test_a_root_that_escalates_is_raised_even_when_the_body_raises_too(run: Run) -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            ref: Ref[Echoing] = system.spawn(Echoer, "echo", Supervision(restarts_max=0))
            try:
                await ref.ask(Crash())
            finally:
                await world.sleep(0.01)

    with pytest.raises(RestartIntensityExceeded, match="/echo crashed 1 times"):
        run(main)


@both
def test_cancelled_before_it_is_open_it_leaves_nothing_behind(run: Run) -> None:
    async def main(world: World) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            async with ActorSystem.open(world):
                await world.sleep(1.0)
        assert scope.cancelled_caught
        for _ in range(3):
            await world.sleep(0.001)
        assert not [name for name in _task_names() if "actor system" in name]

    run(main)


def test_a_timer_whose_action_raises_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("in a timer")

    async def main(world: World) -> None:
        world.call_later(0.0, fail, "the bad one")
        await world.sleep(0.01)

    with caplog.at_level(logging.ERROR):
        in_real_world(main)
    assert "the bad one" in caplog.text
    assert "in a timer" in caplog.text


def test_turns_let_other_tasks_run() -> None:
    async def main(world: World) -> None:
        done = world.event()
        done.set()
        others = 0

        async def other() -> None:
            nonlocal others
            while True:
                others += 1
                await trio.lowlevel.checkpoint()

        async with world.nursery() as nursery:
            nursery.start_soon(other)
            for _ in range(64 * 20):
                await done.wait()
            nursery.cancel()
        assert others >= 10

    in_real_world(main)


def test_it_runs_inside_asyncio_by_guest_mode() -> None:
    log: list[str] = []

    async def trio_main() -> int:
        async with RealWorld.open() as world, ActorSystem.open(world) as system:
            ref: Ref[Echoing] = system.spawn(lambda: Echoer(log), "echo")
            await world.sleep(0.001)
            return await ref.ask(Echo(7))

    async def asyncio_main() -> int:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        trio.lowlevel.start_guest_run(
            trio_main,
            run_sync_soon_threadsafe=asyncio.get_running_loop().call_soon_threadsafe,
            done_callback=done.set_result,
        )
        return (await done).unwrap()  # type: ignore[no-any-return]

    assert asyncio.run(asyncio_main()) == 7
    assert log == ["echo"]


@both
def test_a_nurserys_only_error_comes_out_bare_with_its_cause(run: Run) -> None:
    async def main(world: World) -> None:
        async def fail() -> None:
            raise KeyError("what happened") from ValueError("why")

        async with world.nursery() as outer:

            async def inner() -> None:
                async with world.nursery() as nursery:
                    nursery.start_soon(fail)

            outer.start_soon(inner)

    with pytest.raises(KeyError, match="what happened") as raised:
        run(main)
    assert isinstance(raised.value.__cause__, ValueError)
