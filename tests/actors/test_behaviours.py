"""Behaviours, the stash, links, and concurrent handlers with a limit."""

from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.actors import (
    TEMPORARY,
    Actor,
    ActorStopped,
    ActorSystem,
    Ref,
    Shuffled,
    SimWorld,
    StashFull,
    Supervision,
    World,
    handles,
)
from understudy.mailbox import Message, Request, message

from .runs import Run, both


class Door:
    """Protocol of a door: passing through waits until it is open."""


@message("test.door.open")
@frozen
class Open(Message[Door]):
    pass


@message("test.door.close")
@frozen
class Close(Message[Door]):
    pass


@message("test.door.pass")
@frozen
class Pass(Request[Door, int]):
    number: int


@message("test.door.crash")
@frozen
class Crash(Message[Door]):
    pass


class Doorkeeper(Actor[Door]):
    def __init__(self, passed: list[int]) -> None:
        self.passed = passed

    @handles(Pass)
    def wait(self, _: Pass) -> int:
        self.context.stash(3)
        return -1

    @handles(Pass, when="open")
    async def let_through(self, pass_: Pass) -> int:
        self.passed.append(pass_.number)
        return pass_.number

    @handles(Open)
    def open(self, _: Open) -> None:
        self.context.become("open")
        self.context.unstash_all()

    @handles(Open, when="open")
    def stay_open(self, _: Open) -> None:
        pass

    @handles(Close, when="open")
    def close(self, _: Close) -> None:
        self.context.unbecome()

    @handles(Close)
    def stay_closed(self, _: Close) -> None:
        pass

    @handles(Crash)
    def crash(self, _: Crash) -> None:
        raise RuntimeError("crash")


@both
def test_what_is_stashed_is_answered_when_the_behaviour_has_switched(run: Run) -> None:
    async def main(world: World) -> None:
        passed: list[int] = []
        async with ActorSystem.open(world) as system:
            ref: Ref[Door] = system.spawn(lambda: Doorkeeper(passed), "door")
            async with world.nursery() as nursery:
                for number in range(3):
                    nursery.start_soon(ref.ask, Pass(number))
                await world.sleep(0.001)
                with pytest.raises(StashFull):
                    await ref.ask(Pass(3))
                assert passed == []
                ref.tell(Open())
            assert sorted(passed) == [0, 1, 2]
            ref.tell(Close())
            ref.tell(Pass(4))
            ref.tell(Crash())
            await world.sleep(0.1)
            ref.tell(Open())
            await world.sleep(0.01)
            assert passed[-1] == 4, "what a crashed incarnation had stashed is not lost"

    run(main)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from(["pass", "pass", "open", "close", "crash"]), max_size=30), st.integers(0, 1000)
)
def test_every_message_passes_in_order_or_is_refused(steps: list[str], schedule: int) -> None:
    passed: list[int] = []

    async def main(world: World) -> Any:
        async with ActorSystem.open(world) as system:
            policy = Supervision(restarts_max=100, backoff_initial_seconds=0.001)
            ref: Ref[Door] = system.spawn(lambda: Doorkeeper(passed), "door", policy)
            others: dict[str, Message[Door]] = {"open": Open(), "close": Close(), "crash": Crash()}
            for number, step in enumerate(steps):
                ref.tell(Pass(number) if step == "pass" else others[step])
            await world.sleep(1000.0)
            ref.tell(Open())
            await world.sleep(1.0)
            return list(system.dead_letters)

    letters = SimWorld(seed=1, schedule=Shuffled(schedule)).run(main)
    refused = [letter.message.number for letter in letters if letter.reason == "refused"]
    assert sorted(passed + refused) == [n for n, step in enumerate(steps) if step == "pass"]
    assert passed == sorted(passed)
    assert sum(letter.reason == "its handler crashed" for letter in letters) == steps.count("crash")


class Linked(Actor[Door]):
    def __init__(self, other: str) -> None:
        self.other = other

    async def on_start(self) -> None:
        self.context.link(self.world_ref())

    def world_ref(self) -> Ref[Any]:
        return Ref(self.other, self.context.self._system)

    @handles(Crash)
    def crash(self, _: Crash) -> None:
        raise RuntimeError("crash")


@both
@pytest.mark.parametrize("crashing", ["/a", "/b"])
def test_a_link_carries_a_crash_both_ways_and_a_stop_neither_way(run: Run, crashing: str) -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            a: Ref[Door] = system.spawn(lambda: Doorkeeper([]), "a", TEMPORARY)
            await world.sleep(0.01)
            b: Ref[Door] = system.spawn(lambda: Linked("/a"), "b", TEMPORARY)
            await world.sleep(0.01)
            system.ref(crashing).tell(Crash())
            await world.sleep(0.01)
            assert not system.is_alive(a)
            assert not system.is_alive(b)
            a = system.spawn(lambda: Doorkeeper([]), "a", TEMPORARY)
            await world.sleep(0.01)
            b = system.spawn(lambda: Linked("/a"), "b", TEMPORARY)
            await world.sleep(0.01)
            await system.stop(a)
            await world.sleep(0.01)
            assert system.is_alive(b)

    run(main)


class Crowd(Actor[Door]):
    inside = 0
    most = 0

    @handles(Pass, concurrent=2)
    async def pass_(self, pass_: Pass) -> int:
        Crowd.inside += 1
        Crowd.most = max(Crowd.most, Crowd.inside)
        try:
            await self.world.sleep(0.002 if pass_.number >= 0 else 1000.0)
        finally:
            Crowd.inside -= 1
        return pass_.number


@both
def test_so_many_calls_at_a_time_and_the_rest_waits_in_the_mailbox(run: Run) -> None:
    async def main(world: World) -> None:
        Crowd.most = 0
        async with ActorSystem.open(world) as system:
            ref: Ref[Door] = system.spawn(Crowd, "crowd", capacity=20)
            answers: list[int] = []

            async def ask(number: int) -> None:
                answers.append(await ref.ask(Pass(number)))

            async with world.nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(ask, number)
            assert (sorted(answers), Crowd.most) == (list(range(10)), 2)

            stopped: list[bool] = []

            async def fail() -> None:
                with pytest.raises(ActorStopped):
                    await ref.ask(Pass(-1), 100.0)
                stopped.append(True)

            async with world.nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(fail)
                await world.sleep(0.01)
                await system.stop(ref, 0.0)
            assert len(stopped) == 5

    run(main)


@message("test.door.knock")
@frozen
class Knock(Message[Door]):
    """Put aside, and then the handler crashes, twice."""


@message("test.door.knock_and_wait")
@frozen
class KnockAndWait(Knock):
    pass


@both
@pytest.mark.parametrize("knock", [Knock(), KnockAndWait()])
def test_what_was_stashed_before_a_crash_is_the_next_incarnations(run: Run, knock: Knock) -> None:
    heard: list[str] = []

    class Hesitant(Actor[Door]):
        @handles(Knock)
        def knock(self, _: Knock) -> None:
            heard.append("knock")
            if len(heard) < 3:
                self.context.stash()
                raise RuntimeError("crash")

        @handles(KnockAndWait)
        async def knock_and_wait(self, knock: KnockAndWait) -> None:
            self.knock(knock)

    async def main(world: World) -> dict[str, int]:
        async with ActorSystem.open(world) as system:
            ref: Ref[Door] = system.spawn(Hesitant, "door", Supervision(backoff_initial_seconds=0.001))
            ref.tell(knock)
            await world.sleep(0.1)
            return system.dead_letters_by_reason

    assert run(main) == {}, "it was not lost"
    assert heard == ["knock"] * 3


@both
def test_a_concurrent_handler_has_nothing_to_stash(run: Run) -> None:
    class Busy(Actor[Door]):
        @handles(Pass, concurrent=True)
        async def pass_(self, passing: Pass) -> int:
            try:
                self.context.stash()
            except ValueError as error:
                assert "cannot be put aside" in str(error)
                return passing.number
            return -1

        @handles(Open)
        async def open(self, _: Open) -> None:
            await self.world.sleep(0.05)

    async def main(world: World) -> int:
        async with ActorSystem.open(world) as system:
            ref: Ref[Door] = system.spawn(Busy, "door")
            async with world.nursery() as nursery:
                answers: list[int] = []

                async def ask() -> None:
                    answers.append(await ref.ask(Pass(7)))

                nursery.start_soon(ask)
                ref.tell(Open())
            return answers[0]

    assert run(main) == 7
