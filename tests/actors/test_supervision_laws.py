"""The laws of supervision, under drawn workloads and schedules.

- No message that was accepted is lost in a restart, but for those being handled, and those displaced by a
  named policy; each of these is counted as a dead letter, once.
- A new incarnation starts only after the old one's tasks, children and stop hook have ended.
- A ref pinned to an incarnation reaches that one or nobody; a stable name reaches whichever runs.
- A storm of restarts ends in escalation, within a bounded number of starts and bounded time.
"""

import re
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
import trio
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
from understudy.mailbox import MailboxFull, Message, Overflow, Request, message


class Working:
    """Protocol of the worker."""


@message("test.laws.work")
@frozen
class Work(Message[Working]):
    number: int
    seconds: float
    crashes: bool


@message("test.laws.aside")
@frozen
class Aside(Work):
    """The same, in a concurrent handler."""


@message("test.laws.put_aside")
@frozen
class PutAside(Work):
    """The same, after it was stashed once."""


@message("test.laws.unstash")
@frozen
class Unstash(Message[Working]):
    pass


@message("test.laws.which")
@frozen
class Which(Request[Working, int]):
    """Answered with the number of the incarnation."""

    number: int


KINDS = [Work, Work, Aside, PutAside]
JOBS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([0.0, 0.001, 0.01]),
        st.booleans(),
        st.sampled_from([0.0, 0.002, 0.02]),
    ),
    max_size=25,
)
LOST_BY_LAW = {
    "its handler crashed",
    "its handler was cancelled",
    "displaced by the overflow policy",
    "refused",  # what finds the stash full
}


class Child(Actor[Working]):
    def __init__(self, lives: list[str]) -> None:
        self.lives = lives

    async def on_stop(self) -> None:
        await self.world.sleep(0.001)
        self.lives.append("child ended")


@settings(max_examples=150, deadline=None)
@given(JOBS, st.integers(0, 1000), st.integers(1, 8), st.sampled_from(Overflow), st.booleans())
def test_every_accepted_message_is_handled_once_or_counted(
    jobs: list[tuple[int, float, bool, float]],
    schedule: int,
    capacity: int,
    overflow: Overflow,
    hook_raises: bool,
) -> None:
    begun: list[int] = []
    ended: list[int] = []
    crashed_aside: set[int] = set()
    lives: list[str] = []

    class Worker(Actor[Working]):
        async def on_start(self) -> None:
            await self.world.sleep(0.001)
            lives.append("start")
            self.put_aside: set[int] = set()
            self.context.spawn(lambda: Child(lives), "child")
            self.context.start_soon(self.linger)

        async def linger(self) -> None:
            try:
                await self.world.sleep(10_000.0)
            finally:
                with trio.CancelScope(shield=True):
                    await self.world.sleep(0.02)
                lives.append("task ended")

        async def on_stop(self) -> None:
            await self.world.sleep(0.003)
            lives.append("stop")
            if hook_raises:
                raise RuntimeError("in the stop hook")

        @handles(Work)
        async def work(self, work: Work) -> None:
            assert "stop" not in lives[-1], "handled by an incarnation that has started and not stopped"
            begun.append(work.number)
            await self.world.sleep(work.seconds)
            if work.crashes:
                raise RuntimeError("crash")
            ended.append(work.number)

        @handles(Aside, concurrent=3)
        async def aside(self, work: Aside) -> None:
            await self.work(work)

        @handles(PutAside)
        async def stash_it(self, work: PutAside) -> None:
            if work.number not in self.put_aside:
                self.put_aside.add(work.number)
                self.context.stash(4)
                if work.crashes and work.number not in crashed_aside:
                    crashed_aside.add(work.number)
                    raise RuntimeError("crash, with the message put aside")
                with suppress(MailboxFull):
                    self.context.self.tell(Unstash())
            else:
                await self.work(work)

        @handles(Unstash)
        def unstash(self, _: Unstash) -> None:
            self.context.unstash_all()

    async def main(world: World) -> tuple[list[int], list[tuple[int, str]]]:
        async with ActorSystem.open(world) as system:
            policy = Supervision(restarts_max=200, backoff_initial_seconds=0.001, backoff_max_seconds=0.1)
            ref: Ref[Working] = system.spawn(Worker, "worker", policy, capacity=capacity, overflow=overflow)
            rejected = []
            for number, (kind, seconds, crashes, pause) in enumerate(jobs):
                try:
                    ref.tell(KINDS[kind](number, seconds, crashes))
                except MailboxFull:
                    rejected.append(number)
                await world.sleep(pause)
            for _ in range(20):
                # What is stashed still, because a full mailbox had no room for the word to take it out.
                await world.sleep(60.0)
                with suppress(MailboxFull):
                    ref.tell(Unstash())
            letters = [(d.message, d.reason) for d in system.dead_letters if isinstance(d.message, Work)]
            return rejected, [(work.number, reason) for work, reason in letters]

    rejected, letters = SimWorld(seed=1, schedule=Shuffled(schedule)).run(main)
    assert {reason for _, reason in letters} <= LOST_BY_LAW
    lost = [number for number, _ in letters]
    assert sorted(rejected + ended + lost) == list(range(len(jobs))), (
        "each one handled to its end, or counted"
    )
    assert max(Counter(begun).values(), default=0) <= 1, "nothing is begun twice"
    crashed = [number for number, reason in letters if reason == "its handler crashed"]
    assert set(crashed) <= {number for number in begun if jobs[number][2]}, "what a crash cost is counted"
    plain = [number for number in begun if jobs[number][0] < 2]
    assert plain == sorted(plain), "in the order in which they were told"
    text = " ".join({"start": "(", "stop": ")"}.get(entry, "x") for entry in lives)
    assert re.fullmatch(r"(\( (x ){0,2}\) ?)*", text), f"something of one life is outside of it: {lives}"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["tell", "pinned", "pinned", "crash", "leave", "stop"]),
        st.integers(0, 5),
        st.sampled_from([0.0, 0.0005, 0.002, 0.05]),
    ),
    max_size=20,
)


@settings(max_examples=100, deadline=None)
@given(STEPS, st.integers(0, 1000))
def test_a_pinned_ref_reaches_its_incarnation_or_nobody(
    steps: list[tuple[str, int, float]], schedule: int
) -> None:
    handled: dict[int, tuple[int, int]] = {}

    class Worker(Actor[Working]):
        def __init__(self, made: int) -> None:
            self.made = made

        async def on_start(self) -> None:
            await self.world.sleep(0.001)
            lives.append(self.made)
            self.number = len(lives) - born[-1]

        @handles(Which)
        async def which(self, which: Which) -> int:
            handled[which.number] = (self.made, self.number)
            await self.world.sleep(0.001)
            return self.number

        @handles(Work)
        def work(self, work: Work) -> None:
            if work.crashes:
                raise RuntimeError("crash")
            self.context.stop_self()

    lives: list[int] = []
    born: list[int] = [0]

    async def main(world: World) -> tuple[dict[int, tuple[int, int | None]], set[int]]:
        told: dict[int, tuple[int, int | None]] = {}
        policy = Supervision(restarts_max=100, backoff_initial_seconds=0.001, backoff_max_seconds=0.01)
        async with ActorSystem.open(world) as system:
            made = 0
            ref: Ref[Working] = system.spawn(lambda: Worker(0), "worker", policy)
            for number, (what, pin, pause) in enumerate(steps):
                if what == "stop":
                    await system.stop(ref)
                    made += 1
                    born.append(len(lives))
                    ref = system.spawn(lambda made=made: Worker(made), "worker", policy)  # type: ignore[misc]
                elif what in ("crash", "leave"):
                    ref.tell(Work(number, 0.0, what == "crash"))
                else:
                    pinned: Ref[Working] = Ref("/worker", system, pin) if what == "pinned" else ref
                    told[number] = (made, pin if what == "pinned" else None)
                    pinned.tell(Which(number))
                await world.sleep(pause)
            await world.sleep(60.0)
            lost = {d.message.number for d in system.dead_letters if isinstance(d.message, Which)}
        return told, lost

    told, lost = SimWorld(seed=1, schedule=Shuffled(schedule)).run(main)
    assert set(handled) | lost == set(told), "handled, or counted"
    for number, (made, incarnation) in handled.items():
        told_to, pin = told[number]
        assert made == told_to, "what was told to an actor that ended is nobody else's"
        assert pin is None or pin == incarnation, "another incarnation than the one it was for"


# -- storms

TURNS_MAX = 10_000
"""A spin is over by then."""

STORMS = st.tuples(
    st.sampled_from([None, *Strategy]),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(0, 2),
    st.sampled_from(["factory", "on_start", "message", "task", "timer", "leave", "on_stop"]),
    st.booleans(),
)


@settings(max_examples=120, deadline=None)
@given(STORMS, st.integers(0, 1000))
def test_a_storm_of_restarts_ends_in_escalation(
    storm: tuple[Strategy | None, int, int, int, str, bool], schedule: int
) -> None:
    strategy, children, restarts_max, parents_max, where, all_crash = storm
    starts: Counter[str] = Counter()

    class Crasher(Actor[Working]):
        def __init__(self, crashes: bool) -> None:
            self.crashes = crashes
            if crashes and where == "factory":
                raise RuntimeError("crash")

        async def on_start(self) -> None:
            if not self.crashes:
                return
            if where == "on_start":
                raise RuntimeError("crash")
            if where in ("message", "on_stop"):
                self.context.self.tell(Work(0, 0.0, where == "message"))
            elif where == "task":
                self.context.start_soon(self.crash)
            elif where == "timer":
                self.context.set_timer("crash", 0.01, Work(0, 0.0, True))
            elif where == "leave":
                self.context.stop_self()

        async def on_stop(self) -> None:
            if self.crashes and where == "on_stop":
                raise RuntimeError("crash")

        async def crash(self) -> None:
            raise RuntimeError("crash")

        @handles(Work)
        def work(self, work: Work) -> None:
            if work.crashes:
                raise RuntimeError("crash")
            self.context.stop_self()

    class Parent(Actor[Working]):
        async def on_start(self) -> None:
            starts["parent"] += 1
            group = (
                None if strategy is None else Group(strategy, restarts_max=restarts_max, within_seconds=600.0)
            )
            policy = Supervision(restarts_max=restarts_max, within_seconds=600.0)
            for number in range(children):
                name = f"child-{number}"

                def make(name: str = name, crashes: bool = all_crash or number == 0) -> Crasher:
                    starts[name] += 1
                    return Crasher(crashes)

                self.context.spawn(make, name, policy, group=group)

    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            system.spawn(Parent, "parent", Supervision(restarts_max=parents_max, within_seconds=6000.0))
            try:
                await world.sleep(10_000.0)
            finally:
                ended.append(world.monotonic())

    ended: list[float] = []
    with pytest.raises(RestartIntensityExceeded, match="/parent"):
        SimWorld(seed=1, schedule=Shuffled(schedule), turns_max=TURNS_MAX).run(main)
    assert starts["parent"] == parents_max + 1, "the parent has as many lives as its own limit says"
    # Siblings that stand by may begin once more for each crash of another one in their group.
    crashing = children if all_crash else 1
    crashes_max = (restarts_max + 1) * (crashing if strategy is None else 1) * (parents_max + 1)
    starts_max = crashes_max if strategy is None else (crashes_max + parents_max + 1) * children
    own = sum(starts[f"child-{number}"] for number in range(children))
    assert own <= starts_max + children * (parents_max + 1), "no spin"
    backs_off = (restarts_max + 1) * children + 1
    assert ended[0] <= (parents_max + 2) * backs_off * 6.0 * 1.2, "bounded in time"


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(0, 2), st.integers(0, 1000))
def test_an_escalation_goes_up_the_whole_tree(depth: int, restarts_max: int, schedule: int) -> None:
    starts: Counter[int] = Counter()

    class Level(Actor[Working]):
        def __init__(self, level: int) -> None:
            self.level = level

        async def on_start(self) -> None:
            starts[self.level] += 1
            if self.level == depth:
                raise RuntimeError("crash")
            policy = Supervision(restarts_max=restarts_max, within_seconds=1e6, backoff_max_seconds=0.1)
            self.context.spawn(lambda: Level(self.level + 1), "below", policy)

    async def main(world: World) -> None:
        policy = Supervision(restarts_max=restarts_max, within_seconds=1e6, backoff_max_seconds=0.1)
        async with ActorSystem.open(world) as system:
            system.spawn(lambda: Level(1), "top", policy)
            await world.sleep(1e5)

    with pytest.raises(RestartIntensityExceeded, match="/top ") as raised:
        SimWorld(seed=1, schedule=Shuffled(schedule), turns_max=TURNS_MAX).run(main)
    assert [starts[level] for level in range(1, depth + 1)] == [
        (restarts_max + 1) ** level for level in range(1, depth + 1)
    ], "each level restarts as often as it may within each life of the one above"
    causes = 0
    error: BaseException | None = raised.value
    while error is not None:
        causes, error = causes + 1, error.__cause__
    assert causes == depth + 1, "the error tells the whole way down to the crash"


# -- the wait before a restart


@pytest.mark.parametrize(("initial", "most"), [(0.1, 1.0), (2.0, 2.0), (0.05, 5.0)])
def test_the_wait_before_a_restart_doubles_up_to_its_bound_with_jitter_from_the_world(
    initial: float, most: float
) -> None:
    def waits(seed: int) -> list[float]:
        started: list[float] = []

        class Crashing(Actor[Any]):
            async def on_start(self) -> None:
                started.append(self.world.monotonic())
                raise RuntimeError("again")

        async def main(world: World) -> None:
            policy = Supervision(
                restarts_max=9,
                within_seconds=1e6,
                backoff_initial_seconds=initial,
                backoff_max_seconds=most,
            )
            with pytest.raises(RestartIntensityExceeded):
                async with ActorSystem.open(world) as system:
                    system.spawn(Crashing, "crashing", policy)
                    await world.sleep(1e5)

        SimWorld(seed).run(main)
        return [later - earlier for earlier, later in pairwise(started)]

    found = waits(1)
    assert len(found) == 9
    jitter = [wait / min(most, initial * 2**number) for number, wait in enumerate(found)]
    assert all(0.999 <= factor <= 1.201 for factor in jitter)
    assert max(jitter) - min(jitter) > 0.02, "no two crowds come back in step"
    assert waits(1) == found != waits(2), "from the world: a seed repeats it"
