"""Groups: who restarts with whom, in what order, and how often before it escalates."""

from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.actors import (
    Actor,
    ActorSystem,
    Group,
    Ref,
    RestartIntensityExceeded,
    Shuffled,
    SimWorld,
    Strategy,
    Supervision,
    World,
    handles,
)
from understudy.mailbox import Message, message

from .runs import Run, both, until


class Crashing:
    """Protocol of the members."""


@message("test.groups.crash")
@frozen
class Crash(Message[Crashing]):
    pass


@message("test.groups.work")
@frozen
class Work(Message[Crashing]):
    seconds: float


class Member(Actor[Crashing]):
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    async def on_start(self) -> None:
        await self.world.sleep(0.001)
        self.log.append(f"{self.name}+")

    async def on_stop(self) -> None:
        await self.world.sleep(0.001)
        self.log.append(f"{self.name}-")

    @handles(Crash)
    def crash(self, _: Crash) -> None:
        raise RuntimeError("crash")

    @handles(Work)
    async def work(self, work: Work) -> None:
        await self.world.sleep(work.seconds)


FAST = Supervision(backoff_initial_seconds=0.001)


def spawn(
    system: ActorSystem, names: str, strategy: Strategy, log: list[str], restarts_max: int = 100
) -> dict[str, Ref[Crashing]]:
    group = Group(strategy, restarts_max=restarts_max)
    return {
        name: system.spawn(lambda name=name: Member(name, log), name, FAST, group=group)  # type: ignore[misc]
        for name in names
    }


RESTARTED = {
    Strategy.ONE_FOR_ONE: ["b"],
    Strategy.ONE_FOR_ALL: ["a", "b", "c"],
    Strategy.REST_FOR_ONE: ["b", "c"],
}


@both
@pytest.mark.parametrize("strategy", Strategy)
def test_a_crash_concerns_whom_the_strategy_says(run: Run, strategy: Strategy) -> None:
    async def main(world: World) -> None:
        log: list[str] = []
        async with ActorSystem.open(world) as system:
            refs = spawn(system, "abc", strategy, log)
            await until(world, lambda: len(log) == 3)
            assert sorted(log) == ["a+", "b+", "c+"]
            log.clear()
            refs["b"].tell(Crash())
            concerned = RESTARTED[strategy]
            await until(world, lambda: len(log) >= 2 * len(concerned))
            await world.sleep(0.1)  # nothing more happens
            assert sorted(log[: len(concerned)]) == [f"{name}-" for name in concerned], "all end first"
            assert log[len(concerned) :] == [f"{name}+" for name in concerned], "then start in order"
            assert all(status.state == "running" for status in system.statistics())

    run(main)


@both
def test_a_group_escalates_when_its_members_crash_too_often_together(run: Run) -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            refs = spawn(system, "ab", Strategy.ONE_FOR_ONE, [], restarts_max=2)
            for name in "aba":
                refs[name].tell(Crash())
                await world.sleep(0.05)
            await world.sleep(10.0)

    with pytest.raises(RestartIntensityExceeded, match="/a and its one-for-one group crashed 3 times"):
        run(main)


@both
def test_a_member_that_does_not_leave_in_time_is_cancelled(run: Run) -> None:
    async def main(world: World) -> None:
        log: list[str] = []
        async with ActorSystem.open(world) as system:
            refs = spawn(system, "ab", Strategy.ONE_FOR_ALL, log)
            refs["a"].tell(Work(1000.0))
            await world.sleep(0.02)
            refs["b"].tell(Crash())
            await world.sleep(1.5)
            assert sorted(log[:2]) == ["a+", "b+"]
            assert log[2:] == ["b-", "a-", "a+", "b+"]

    run(main)


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["crash", "crash", "work", "stop"]),
        st.sampled_from("abcd"),
        st.sampled_from([0.0, 0.0005, 0.001, 0.002, 0.01]),
    ),
    max_size=12,
)


@settings(max_examples=120, deadline=None)
@given(ACTS, st.sampled_from(Strategy), st.integers(0, 1000))
def test_whatever_crashes_when_the_group_comes_to_rest(
    acts: list[tuple[str, str, float]], strategy: Strategy, schedule: int
) -> None:
    log: list[str] = []

    async def main(world: World) -> Any:
        async with ActorSystem.open(world) as system:
            refs = spawn(system, "abcd", strategy, log)
            for what, name, pause in acts:
                if what == "stop":
                    await system.stop(refs[name])
                else:
                    refs[name].tell(Crash() if what == "crash" else Work(0.001))
                await world.sleep(pause)
            await world.sleep(100.0)
            return {status.path[1:]: status.state for status in system.statistics()}

    states = SimWorld(seed=1, schedule=Shuffled(schedule)).run(main)
    stopped = {name for what, name, _ in acts if what == "stop"}
    assert states == {name: "running" for name in "abcd" if name not in stopped}
    for name in "abcd":
        own = [entry[1] for entry in log if entry[0] == name]
        assert "++" not in "".join(own), "a new incarnation only after the stop hook of the old one"


def test_a_member_that_has_not_begun_when_another_crashes_is_waited_for_by_nobody() -> None:
    """Under some schedules the crash comes before the other member's first step."""

    class Stillborn(Member):
        def __init__(self, log: list[str]) -> None:
            super().__init__("a", log)
            if log.count("made") < 2:
                log.append("made")
                raise RuntimeError("crash")

    for schedule in range(20):

        async def main(world: World) -> list[str]:
            log: list[str] = []
            async with ActorSystem.open(world) as system:
                group = Group(Strategy.ONE_FOR_ALL, restarts_max=100)
                system.spawn(lambda: Stillborn(log), "a", FAST, group=group)
                system.spawn(lambda: Member("b", log), "b", FAST, group=group)
                await world.sleep(1.0)
                return [status.state for status in system.statistics()]

        assert SimWorld(seed=1, schedule=Shuffled(schedule)).run(main) == ["running", "running"]


def test_nobody_waits_for_a_member_whose_host_is_down() -> None:
    world = SimWorld(seed=1)
    log: list[str] = []

    async def main(_: World) -> None:
        async with ActorSystem.open(world) as system:
            group = Group(Strategy.ONE_FOR_ALL, restarts_max=100)
            crashing: Ref[Crashing] = system.spawn(lambda: Member("a", log), "a", FAST, group=group)
            system.spawn(lambda: Member("b", log), "b", FAST, group=group, host="far")
            await world.sleep(0.1)
            world.host("far").crash()
            log.clear()
            crashing.tell(Crash())
            await world.sleep(1.0)
            assert log == ["a-", "a+"]
            world.host("far").restart()
            await world.sleep(1.0)
            assert log == ["a-", "a+", "b+"]

    world.run(main)
