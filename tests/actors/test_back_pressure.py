"""Waiting for room: senders come in one by one, in order, each within its deadline."""

from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.actors import (
    Actor,
    ActorStopped,
    ActorSystem,
    AskTimeout,
    Ref,
    SendTimeout,
    Shuffled,
    SimWorld,
    World,
    handles,
)
from understudy.actors.testkit import status
from understudy.mailbox import Conflate, MailboxFull, Message, Overflow, Request, message

from .runs import Run, both, in_simulation


class Slow:
    """Protocol of a worker that takes its time."""


@message("test.pressure.work")
@frozen
class Work(Message[Slow]):
    number: int


@message("test.pressure.question")
@frozen
class Question(Request[Slow, int]):
    number: int


@message("test.pressure.alarm")
@frozen
class Alarm(Message[Slow]):
    number: int = -1


class Worker(Actor[Slow]):
    def __init__(self, done: list[int], seconds: float = 0.001) -> None:
        self.done, self.seconds = done, seconds

    @handles(Work)
    async def work(self, work: Work) -> None:
        await self.world.sleep(self.seconds)
        self.done.append(work.number)

    @handles(Alarm)
    def alarm(self, alarm: Alarm) -> None:
        self.done.append(alarm.number)

    @handles(Question)
    async def question(self, question: Question) -> int:
        await self.world.sleep(self.seconds)
        return question.number


@both
@pytest.mark.parametrize("host", ["local", "elsewhere"])
def test_senders_wait_and_come_in_in_order(run: Run, host: str) -> None:
    async def main(world: World) -> list[int]:
        done: list[int] = []
        async with ActorSystem.open(world) as system:
            ref: Ref[Slow] = system.spawn(lambda: Worker(done), "worker", capacity=2, host=host)
            for number in range(20):
                await ref.send(Work(number))
            assert system.statistics()[0].mailbox.high_water <= 2
            await system.stop(ref, 60.0, drain=True)
            assert system.dead_letter_count == 0
        return done

    assert run(main) == list(range(20))


@both
@pytest.mark.parametrize("host", ["local", "elsewhere"])
def test_a_sender_gives_up_at_its_deadline_and_its_message_never_comes(run: Run, host: str) -> None:
    async def main(world: World) -> list[int]:
        done: list[int] = []
        async with ActorSystem.open(world) as system:
            ref: Ref[Slow] = system.spawn(lambda: Worker(done, 0.2), "worker", capacity=1, host=host)
            await ref.send(Work(0))
            await ref.send(Work(1))
            with pytest.raises(SendTimeout):
                await ref.send(Work(2), 0.01)
            await ref.send(Work(3))
            await system.stop(ref, 60.0, drain=True)
            with pytest.raises(ActorStopped):
                await ref.send(Work(4))
        return done

    assert run(main) == [0, 1, 3]


@both
def test_a_sender_that_waits_learns_that_the_actor_has_ended(run: Run) -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system, world.nursery() as nursery:
            ref: Ref[Slow] = system.spawn(lambda: Worker([], 100.0), "worker", capacity=1)
            await ref.send(Work(0))
            await world.sleep(0.001)
            await ref.send(Work(1))

            async def late() -> None:
                with pytest.raises(ActorStopped):
                    await ref.send(Work(2))

            nursery.start_soon(late)
            await world.sleep(0.001)
            await system.stop(ref, 0.0)

    run(main)


@both
@pytest.mark.parametrize("host", ["local", "elsewhere"])
def test_where_the_policy_is_to_wait_asks_do_too(run: Run, host: str) -> None:
    async def main(world: World) -> list[Any]:
        answers: list[Any] = []
        async with ActorSystem.open(world) as system:
            ref: Ref[Slow] = system.spawn(
                lambda: Worker([]), "worker", capacity=1, overflow=Overflow.WAIT, host=host
            )

            async def ask(number: int) -> None:
                answers.append(await ref.ask(Question(number), 1.0))

            async with world.nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(ask, number)
            slow: Ref[Slow] = system.spawn(
                lambda: Worker([], 0.02), "slow", capacity=1, overflow=Overflow.WAIT
            )
            slow.tell(Work(0))
            with pytest.raises(MailboxFull):
                slow.tell(Work(1))
            with pytest.raises(AskTimeout):
                await slow.ask(Question(2), 0.01)
        return answers

    assert sorted(run(main)) == list(range(10))


@both
def test_the_newest_of_a_key_is_handled_and_the_others_are_counted(run: Run) -> None:
    async def main(world: World) -> None:
        done: list[int] = []
        async with ActorSystem.open(world) as system:
            policy = Conflate(lambda work: work.number % 3)
            ref: Ref[Slow] = system.spawn(lambda: Worker(done), "worker", capacity=3, overflow=policy)
            for number in range(30):
                ref.tell(Work(number))
            await system.stop(ref, 60.0, drain=True)
            assert system.dead_letters_by_reason == {"displaced by the overflow policy": 27}
        assert done == [27, 28, 29]

    run(main)


@both
def test_an_urgent_message_overtakes(run: Run) -> None:
    async def main(world: World) -> None:
        done: list[int] = []
        async with ActorSystem.open(world) as system:
            ref: Ref[Slow] = system.spawn(lambda: Worker(done), "worker", urgent=[Alarm])
            for number in range(3):
                ref.tell(Work(number))
            ref.tell(Alarm())
            await system.stop(ref, 60.0, drain=True)
        assert done == [-1, 0, 1, 2]

    run(main)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.001, 0.004]), st.sampled_from([0.002, 1.0])), max_size=15),
    st.integers(0, 1000),
    st.integers(1, 3),
)
def test_what_was_sent_is_handled_and_what_was_not_is_not(
    sends: list[tuple[float, float]], schedule: int, capacity: int
) -> None:
    done: list[int] = []
    sent: list[int] = []

    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system, world.nursery() as nursery:
            ref: Ref[Slow] = system.spawn(lambda: Worker(done, 0.002), "worker", capacity=capacity)

            async def send(number: int, deadline: float) -> None:
                try:
                    await ref.send(Work(number), deadline)
                except SendTimeout:
                    return
                sent.append(number)

            for number, (pause, deadline) in enumerate(sends):
                nursery.start_soon(send, number, deadline)
                await world.sleep(pause)
            await world.sleep(10.0)

    SimWorld(seed=1, schedule=Shuffled(schedule)).run(main)
    assert sorted(done) == sorted(sent)


@pytest.mark.parametrize("capacity", [1, 2, 7])
def test_an_actor_that_tells_meets_the_bound_however_its_messages_get_in(capacity: int) -> None:
    """From the second filling on, what is told goes straight into the queue: the bound holds there, too."""

    class Teller(Actor[Slow]):
        def __init__(self, to: Ref[Slow]) -> None:
            self.to = to

        @handles(Question)
        async def question(self, question: Question) -> int:
            taken = 0
            with pytest.raises(MailboxFull):
                while True:
                    self.to.tell(Work(taken))
                    taken += 1
            return taken

    async def main(world: World) -> None:
        done: list[int] = []
        async with ActorSystem.open(world) as system:
            worker: Ref[Slow] = system.spawn(lambda: Worker(done, 0.1), "worker", capacity=capacity)
            teller: Ref[Slow] = system.spawn(lambda: Teller(worker), "teller")
            for _ in range(4):
                assert await teller.ask(Question(0)) == capacity
                seen = status(system, worker)
                assert seen is not None and seen.mailbox.high_water == capacity
                await world.sleep(100.0)
        assert len(done) == 4 * capacity

    in_simulation(main)


def test_what_is_told_to_an_actor_that_drains_is_counted_however_it_gets_in() -> None:
    class Teller(Actor[Slow]):
        def __init__(self, to: Ref[Slow]) -> None:
            self.to = to

        @handles(Question)
        def question(self, question: Question) -> int:
            for number in range(question.number):
                self.to.tell(Work(number))
            return question.number

    async def main(world: World) -> None:
        done: list[int] = []
        async with ActorSystem.open(world) as system, world.nursery() as nursery:
            worker: Ref[Slow] = system.spawn(lambda: Worker(done, 1.0), "worker")
            teller: Ref[Slow] = system.spawn(lambda: Teller(worker), "teller")
            await teller.ask(Question(5))
            await world.sleep(10.0)
            await teller.ask(Question(2))

            async def stop() -> None:
                await system.stop(worker, 60.0, drain=True)

            nursery.start_soon(stop)
            await world.sleep(0.5)
            await teller.ask(Question(2))
            await world.sleep(10.0)
            assert system.dead_letters_by_reason == {"the actor is stopping": 2}
        assert len(done) == 7

    in_simulation(main)
