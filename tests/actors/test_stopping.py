"""Graceful ends: deadlines of one's own, the order of stops, drains, and ends by force."""

import logging
from collections import Counter
from typing import Any

import pytest
import trio
from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.actors import (
    PERMANENT,
    Actor,
    ActorStopped,
    ActorSystem,
    RealWorld,
    Ref,
    Shuffled,
    SimWorld,
    Supervision,
    World,
    handles,
)
from understudy.mailbox import Message, Overflow, Request, message

from .runs import Run, both, in_simulation


class Ending:
    """Protocol of actors that are to end."""


@message("test.stopping.work")
@frozen
class Work(Message[Ending]):
    number: int
    seconds: float = 0.0
    crashes: bool = False


@message("test.stopping.aside")
@frozen
class Aside(Request[Ending, str]):
    seconds: float


@message("test.stopping.have")
@frozen
class Have(Request[Ending, Ref[Ending]]):
    """Start a child."""

    name: str
    stops_after: tuple[Ref[Ending], ...] = ()


class Worker(Actor[Ending]):
    def __init__(self, log: list[str]) -> None:
        self.log = log

    @handles(Work)
    async def work(self, work: Work) -> None:
        await self.world.sleep(work.seconds)
        if work.crashes:
            raise RuntimeError("crash")
        self.log.append(f"did {work.number}")

    @handles(Aside, concurrent=True)
    async def aside(self, aside: Aside) -> str:
        await self.world.sleep(aside.seconds)
        self.log.append("did it aside")
        return "done"

    @handles(Have)
    def have(self, have: Have) -> Ref[Ending]:
        return self.context.spawn(lambda: Worker(self.log), have.name, stops_after=have.stops_after)

    async def on_stop(self) -> None:
        await self.world.sleep(0.001)
        self.log.append(self.context.path)


# -- deadlines


def seconds_to_stop(supervision: Supervision, busy_seconds: float, **how: Any) -> float:
    async def main(world: World) -> float:
        async with ActorSystem.open(world) as system:
            ref: Ref[Ending] = system.spawn(lambda: Worker([]), "worker", supervision)
            ref.tell(Work(1, busy_seconds))
            await world.sleep(0.01)
            began = world.monotonic()
            await system.stop(ref, **how)
            return world.monotonic() - began

    return float(in_simulation(main))


def test_each_actor_has_a_stop_deadline_of_its_own() -> None:
    patient = evolve(PERMANENT, stop_seconds=30.0)
    assert seconds_to_stop(PERMANENT, 20.0) == pytest.approx(1.0, abs=0.1), "cancelled"
    assert seconds_to_stop(patient, 20.0) == pytest.approx(20.0, abs=0.1), "waited for"
    assert seconds_to_stop(patient, 60.0) == pytest.approx(30.0, abs=0.1), "cancelled"
    assert seconds_to_stop(patient, 60.0, deadline_seconds=5.0) == pytest.approx(5.0, abs=0.1)


@both
def test_the_end_of_a_parent_and_of_the_system_keep_to_it(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []

    class Parent(Actor[Ending]):
        async def on_start(self) -> None:
            patient = evolve(PERMANENT, stop_seconds=2.0)
            self.context.spawn(lambda: Worker(log), "worker", patient).tell(Work(1, 1.2))

    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            system.spawn(Parent, "parent", evolve(PERMANENT, stop_seconds=0.05))
            system.spawn(lambda: Worker(log), "other", evolve(PERMANENT, stop_seconds=0.2)).tell(
                Work(2, 0.05)
            )
            await world.sleep(0.01)

    run(main)
    assert log == ["did 2", "/other", "did 1", "/parent/worker"]
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING and "in time" in r.message]


@both
@pytest.mark.parametrize("shutdown_seconds", [10.0, 0.1])
def test_who_had_to_be_cancelled_is_named_in_one_line(
    run: Run, shutdown_seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []

    async def main(world: World) -> None:
        async with ActorSystem.open(world, shutdown_seconds=shutdown_seconds) as system:
            impatient = evolve(PERMANENT, stop_seconds=0.02)
            for number in range(30):
                seconds = 1000.0 if number % 2 else 0.0
                system.spawn(lambda: Worker(log), f"w{number:02}", impatient).tell(Work(number, seconds))
            await world.sleep(0.01)

    run(main)
    (line,) = [r.message for r in caplog.records if "in time" in r.message]
    assert line.startswith("15 actors did not stop in time and were cancelled: /w")
    assert ("/w29" in line) and ("/w28" not in line)
    assert sorted(entry for entry in log if entry[0] == "/") == [f"/w{n:02}" for n in range(30)], (
        "stop hooks ran"
    )


def test_an_actor_that_is_cancelled_by_a_stop_is_named(caplog: pytest.LogCaptureFixture) -> None:
    seconds_to_stop(PERMANENT, 20.0)
    assert [r.message for r in caplog.records if "in time" in r.message] == [
        "actor /worker did not stop in time and is cancelled"
    ]


# -- order

FAMILY = st.lists(
    st.tuples(st.sampled_from(["", "/a0", "/a1"]), st.sets(st.integers(0, 9), max_size=3)), max_size=10
)


@settings(max_examples=60, deadline=None)
@given(FAMILY, st.integers(0, 1000))
def test_the_order_of_stops(family: list[tuple[str, set[int]]], schedule: int) -> None:
    log: list[str] = []
    after: list[tuple[str, str]] = []
    started: list[str] = []

    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            parents: dict[str, Ref[Ending]] = {}
            siblings: dict[str, list[Ref[Ending]]] = {"": []}
            for name in ("a0", "a1"):
                parents[f"/{name}"] = system.spawn(lambda: Worker(log), name)
                siblings[""].append(parents[f"/{name}"])
                siblings[f"/{name}"] = []
                started.append(f"/{name}")
            for number, (parent, others) in enumerate(family):
                known = siblings[parent]
                stops_after = [known[other] for other in sorted(others) if other < len(known)]
                if parent:
                    ref = await parents[parent].ask(Have(f"c{number}", tuple(stops_after)))
                else:
                    ref = system.spawn(lambda: Worker(log), f"c{number}", stops_after=stops_after)
                known.append(ref)
                started.append(ref.path)
                after.extend((ref.path, other.path) for other in stops_after)
            await world.sleep(0.01)

    SimWorld(seed=1, schedule=Shuffled(schedule)).run(main)
    place = {path: number for number, path in enumerate(log)}
    assert sorted(place) == sorted(started), "every stop hook ran, once"
    for path in started:
        parent = path.rpartition("/")[0]
        assert not parent or place[path] < place[parent], "children before parents"
    for path, other in after:
        assert place[path] > place[other], f"{path} stops after {other}"
    if not after:
        for parent in ("", "/a0", "/a1"):
            own = [path for path in started if path.rpartition("/")[0] == parent]
            assert [path for path in log if path in own] == own[::-1], "the last started first"


def test_who_stops_after_somebody_goes_directly_behind() -> None:
    log: list[str] = []

    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            refs: dict[str, Ref[Ending]] = {}
            for name, others in {"store": "", "front": "", "cache": "", "audit": "front"}.items():
                stops_after = [refs[others]] if others else []
                refs[name] = system.spawn(lambda: Worker(log), name, stops_after=stops_after)
            await world.sleep(0.01)

    in_simulation(main)
    assert log == ["/cache", "/front", "/audit", "/store"]


@both
def test_one_stops_after_siblings_only(run: Run) -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            first: Ref[Ending] = system.spawn(lambda: Worker([]), "first")
            child = await first.ask(Have("child"))
            with pytest.raises(
                ValueError, match="/second stops after /first/child, which is not alive beside it"
            ):
                system.spawn(lambda: Worker([]), "second", stops_after=[child])
            await system.stop(first)
            with pytest.raises(ValueError, match="start it first"):
                system.spawn(lambda: Worker([]), "second", stops_after=[first])

    run(main)


# -- drains


@both
def test_a_drain_handles_what_was_accepted_and_takes_nothing_new(run: Run) -> None:
    log: list[str] = []

    async def main(world: World) -> Any:
        async with ActorSystem.open(world) as system:
            ref: Ref[Ending] = system.spawn(lambda: Worker(log), "worker", Supervision(stop_seconds=5.0))
            for number in range(3):
                ref.tell(Work(number, 0.01))
            async with world.nursery() as nursery:
                answers: list[str] = []

                async def ask() -> None:
                    answers.append(await ref.ask(Aside(0.1)))

                nursery.start_soon(ask)
                await world.sleep(0.005)

                async def stop() -> None:
                    await system.stop(ref, drain=True)

                nursery.start_soon(stop)
                await world.sleep(0.005)
                assert [s.state for s in system.statistics()] == ["draining"]
                ref.tell(Work(9))
                for late in (ref.ask(Aside(0.0)), ref.send(Work(9))):
                    with pytest.raises(ActorStopped):
                        await late
            assert answers == ["done"], "what was begun is ended"
            return system.dead_letters_by_reason

    assert run(main) == {"the actor is stopping": 3}
    assert log == ["did 0", "did 1", "did 2", "did it aside", "/worker"]


@both
def test_an_idle_actor_drains_at_once(run: Run) -> None:
    async def main(world: World) -> float:
        async with ActorSystem.open(world) as system:
            ref: Ref[Ending] = system.spawn(lambda: Worker([]), "worker", Supervision(stop_seconds=9.0))
            await world.sleep(0.01)
            began = world.monotonic()
            await system.stop(ref, drain=True)
            return world.monotonic() - began

    assert run(main) < 1.0


@both
def test_an_actor_that_is_drained_by_what_it_does_itself_ends_at_once(run: Run) -> None:
    """Its handler, begun in an asker's step, has somebody drain it before its own task runs again."""

    class Quitter(Worker):
        @handles(Have)
        def have(self, have: Have) -> Ref[Ending]:
            self.context._incarnation.cell.request_stop(9.0, drain=True)
            return self.context.self

    class Asker(Actor[Ending]):
        def __init__(self, asked: Ref[Ending]) -> None:
            self.asked = asked

        @handles(Work)
        async def work(self, _: Work) -> None:
            await self.asked.ask(Have(""))

    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            ref: Ref[Ending] = system.spawn(lambda: Quitter([]), "worker")
            asker: Ref[Ending] = system.spawn(lambda: Asker(ref), "asker")
            await world.sleep(0.01)
            asker.tell(Work(1))
            await world.sleep(0.1)
            assert not system.is_alive(ref)

    run(main)


@both
def test_a_drain_has_a_deadline(run: Run) -> None:
    log: list[str] = []

    async def main(world: World) -> Any:
        async with ActorSystem.open(world) as system:
            ref: Ref[Ending] = system.spawn(lambda: Worker(log), "worker")
            for number, seconds in enumerate([0.01, 100.0, 0.01]):
                ref.tell(Work(number, seconds))
            await system.stop(ref, 0.2, drain=True)
            return system.dead_letters_by_reason

    assert run(main) == {"its handler was cancelled": 1, "the actor has ended": 1}
    assert log == ["did 0", "/worker"]


@both
def test_who_waits_for_room_when_the_drain_begins_was_not_accepted(run: Run) -> None:
    log: list[str] = []

    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            ref: Ref[Ending] = system.spawn(lambda: Worker(log), "worker", capacity=1, overflow=Overflow.WAIT)
            ref.tell(Work(1, 0.1))
            await world.sleep(0.01)
            ref.tell(Work(2))
            async with world.nursery() as nursery:

                async def send() -> None:
                    with pytest.raises(ActorStopped):
                        await ref.send(Work(3))

                nursery.start_soon(send)
                await world.sleep(0.01)
                await system.stop(ref, drain=True)

    run(main)
    assert log == ["did 1", "did 2", "/worker"]


JOBS = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.001, 0.01])), max_size=12)


@settings(max_examples=60, deadline=None)
@given(JOBS, JOBS, st.sampled_from([0.0, 0.0005, 0.005]), st.integers(0, 1000))
def test_whatever_crashes_a_drain_loses_only_what_was_being_handled(
    jobs: list[tuple[bool, float]], late: list[tuple[bool, float]], pause: float, schedule: int
) -> None:
    log: list[str] = []

    async def main(world: World) -> Any:
        async with ActorSystem.open(world) as system:
            policy = Supervision(
                restarts_max=100, backoff_initial_seconds=0.001, stop_seconds=600.0, drains=True
            )
            ref: Ref[Ending] = system.spawn(lambda: Worker(log), "worker", policy)
            for number, (crashes, seconds) in enumerate(jobs):
                ref.tell(Work(number, seconds, crashes))
            await world.sleep(pause)
            async with world.nursery() as nursery:
                nursery.start_soon(system.stop, ref)
                await world.sleep(0.0001)
                for crashes, seconds in late:
                    ref.tell(Work(-1, seconds, crashes))
            return [(d.message.number, d.reason) for d in system.dead_letters]

    lost = SimWorld(seed=1, schedule=Shuffled(schedule)).run(main)
    assert [n for n, why in lost if why == "its handler crashed"] == [n for n, (c, _) in enumerate(jobs) if c]
    did = [entry for entry in log if entry != "/worker"]
    assert did == [f"did {n}" for n, (crashes, _) in enumerate(jobs) if not crashes], "all the rest, in order"
    assert Counter(n for n, _ in lost)[-1] == len(late), "nothing new"


# -- by force


@pytest.mark.parametrize("children", [False, True])
def test_an_end_by_force_lets_others_run_in_between(children: bool) -> None:
    """Cancelling a nursery of 10,000 tasks at once would keep Trio's loop from everything else for 0.1 s."""
    ended_at_once: Counter[int] = Counter()

    class Passes(trio.abc.Instrument):
        number = 0

        def before_io_wait(self, timeout: float) -> None:
            self.number += 1

        def task_exited(self, task: trio.lowlevel.Task) -> None:
            ended_at_once[self.number] += 1

    class Stuck(Actor[Ending]):
        async def on_stop(self) -> None:
            ended_at_once[-1] += 1

        @handles(Work)
        async def work(self, work: Work) -> None:
            await self.world.sleep(1000.0)

    class Parent(Actor[Ending]):
        async def on_start(self) -> None:
            for number in range(2000):
                self.context.spawn(Stuck, f"child-{number}").tell(Work(number))

    async def main() -> None:
        async with RealWorld.open() as world, ActorSystem.open(world, shutdown_seconds=0.0) as system:
            if children:
                system.spawn(Parent, "parent")
            else:
                for number in range(2000):
                    system.spawn(Stuck, f"stuck-{number}").tell(Work(number))
            await trio.testing.wait_all_tasks_blocked()
            trio.lowlevel.add_instrument(passes)

    passes = Passes()
    trio.run(main)
    assert ended_at_once.pop(-1) == 2000, "stop hooks run all the same"
    assert max(ended_at_once.values()) <= 200
