"""Answers that come later: whoever asked gets exactly one, or hears why not, and nothing is kept of it."""

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from understudy.actors import (
    TEMPORARY,
    Actor,
    ActorSystem,
    Deferred,
    LimitReached,
    Ref,
    World,
    deferred,
    handles,
)
from understudy.actors.plan import Plan
from understudy.actors.strategies import plans
from understudy.actors.testkit import simulate
from understudy.mailbox import Message, Refusal, Request, message

from .runs import Run, both, until


class Desk:
    """Protocol of somebody who answers when he is told to."""


@message("test.deferred.question")
@frozen
class Question(Request[Desk, int]):
    number: int


@message("test.deferred.ready")
@frozen
class Ready(Request[Desk, int]):
    """Answered before it is returned."""

    number: int


@message("test.deferred.no")
@frozen
class No(Refusal):
    number: int


@message("test.deferred.settle")
@frozen
class Settle(Message[Desk]):
    number: int
    refuse: bool = False


@message("test.deferred.break")
@frozen
class Break(Message[Desk]):
    pass


@message("test.deferred.ask-itself")
@frozen
class AskItself(Request[Desk, int]):
    """Asks itself from its mailbox loop, and is answered all the same: nobody waits for the loop."""

    number: int


class Clerk(Actor[Desk]):
    def __init__(self) -> None:
        self.open: dict[int, Deferred[int]] = {}
        self.abandoned: list[int] = []

    @handles(Question)
    def on_question(self, question: Question) -> Deferred[int]:
        later = self.open[question.number] = Deferred[int]()
        later.on_abandoned(lambda: self.abandoned.append(question.number))
        return later

    @handles(Ready)
    def on_ready(self, ready: Ready) -> Deferred[int]:
        later = Deferred[int]()
        if ready.number < 0:
            later.refuse(No(ready.number))
        later.answer(ready.number)
        return later

    @handles(Settle)
    def on_settle(self, settle: Settle) -> None:
        later = self.open.get(settle.number)
        if later is None:
            return  # Asked of the incarnation before this one.
        if settle.refuse:
            later.refuse(No(settle.number))
        later.answer(10 * settle.number)

    @handles(Break)
    def on_break(self, _: Break) -> None:
        raise RuntimeError("broken")


async def _outcome(desk: Ref[Desk], question: Request[Desk, int], seconds: float = 5.0) -> str:
    """The answer, or what was raised instead, as text."""
    try:
        return str(await desk.ask(question, seconds))
    except Refusal as refusal:
        return repr(refusal)


@both
def test_an_ask_is_answered_or_refused_later_and_the_next_messages_need_not_wait(run: Run) -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            desk: Ref[Desk] = system.spawn(Clerk, "desk")
            outcomes: dict[int, str] = {}

            async def ask(number: int) -> None:
                outcomes[number] = await _outcome(desk, Question(number))

            async with world.nursery() as nursery:
                for number in (1, 2, 3):
                    nursery.start_soon(ask, number)
                await until(world, lambda: system.statistics()[0].owed == 3)
                assert system.load_of(desk) == 3
                desk.tell(Settle(3))
                desk.tell(Settle(1, refuse=True))
                desk.tell(Settle(2))
                desk.tell(Settle(2))
            assert outcomes == {1: repr(No(1)), 2: "20", 3: "30"}
            assert system.statistics()[0].owed == 0
            assert await _outcome(desk, Ready(7)) == "7"
            assert await _outcome(desk, Ready(-7)) == repr(No(-7))

    run(main)


@both
def test_of_what_was_told_nobody_hears_the_answer(run: Run) -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            desk: Ref[Desk] = system.spawn(Clerk, "desk")
            desk.tell(Question(4))
            desk.tell(Settle(4))
            assert await desk.ask(Ready(1)) == 1
            assert system.statistics()[0].owed == 0
            assert system.dead_letter_count == 0

    run(main)


@both
def test_who_stops_waiting_is_no_longer_owed_and_the_work_for_him_may_end(run: Run) -> None:
    async def main(world: World) -> None:
        clerk = Clerk()
        async with ActorSystem.open(world) as system:
            desk: Ref[Desk] = system.spawn(lambda: clerk, "desk")
            outcome = await _outcome(desk, Question(1), 0.05)
            assert outcome.startswith("AskTimeout")
            assert clerk.abandoned == [1]
            assert clerk.open[1].done
            assert system.statistics()[0].owed == 0
            desk.tell(Settle(1))
            assert await desk.ask(Ready(1)) == 1

    run(main)


@both
@pytest.mark.parametrize("how", ["stop", "crash"])
def test_what_an_incarnation_owes_ends_with_it(run: Run, how: str) -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            desk: Ref[Desk] = system.spawn(Clerk, "desk", TEMPORARY)
            outcomes: list[str] = []

            async def ask() -> None:
                outcomes.append(await _outcome(desk, Question(1)))

            async with world.nursery() as nursery:
                nursery.start_soon(ask)
                await until(world, lambda: system.statistics()[0].owed == 1)
                if how == "stop":
                    await system.stop(desk)
                else:
                    desk.tell(Break())
            assert outcomes[0].startswith("ActorStopped" if how == "stop" else "ActorFailed")
            assert system.dead_letters_by_reason["its handler was cancelled"] == 1

    run(main)


@both
def test_draining_waits_for_what_is_owed(run: Run) -> None:
    class Slow(Actor[Desk]):
        @handles(Question)
        def on_question(self, question: Question) -> Deferred[int]:
            later = Deferred[int]()
            self.world.call_later(0.2, lambda: later.answer(question.number), "later")
            return later

    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            desk: Ref[Desk] = system.spawn(Slow, "desk")
            outcomes: list[str] = []

            async def ask() -> None:
                outcomes.append(await _outcome(desk, Question(5)))

            async with world.nursery() as nursery:
                nursery.start_soon(ask)
                await until(world, lambda: system.statistics()[0].owed == 1)
                await system.stop(desk, drain=True)
            assert outcomes == ["5"]

    run(main)


@both
def test_beyond_the_bound_an_ask_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred, "DEFERRED_MAX", 3)

    async def main(world: World) -> None:
        clerk = Clerk()
        async with ActorSystem.open(world) as system:
            desk: Ref[Desk] = system.spawn(lambda: clerk, "desk")
            async with world.nursery() as nursery:
                for number in range(3):
                    nursery.start_soon(_outcome, desk, Question(number))
                await until(world, lambda: system.statistics()[0].owed == 3)
                refused = await _outcome(desk, Question(9))
                assert refused == repr(LimitReached("/desk", "deferred answers", 3))
                assert clerk.abandoned == [9]
                desk.tell(Settle(0))
                assert await desk.ask(Ready(1)) == 1
                nursery.start_soon(_outcome, desk, Question(10))
                await until(world, lambda: 10 in clerk.open)
                nursery.cancel()
            assert sorted(clerk.abandoned) == [1, 2, 9, 10]

    run(main)


@both
def test_who_waits_for_a_deferred_answer_closes_no_circle(run: Run) -> None:
    class Asking(Clerk):
        @handles(AskItself, concurrent=True)
        async def on_ask_itself(self, request: AskItself) -> int:
            return await self.context.self.ask(Question(request.number))

    async def main(world: World) -> None:
        clerk = Asking()
        async with ActorSystem.open(world) as system:
            desk: Ref[Desk] = system.spawn(lambda: clerk, "desk")
            async with world.nursery() as nursery:
                outcomes: list[str] = []

                async def ask() -> None:
                    outcomes.append(await _outcome(desk, AskItself(3)))

                nursery.start_soon(ask)
                await until(world, lambda: 3 in clerk.open)
                desk.tell(Settle(3))
            assert outcomes == ["30"]

    run(main)


def test_what_is_no_refusal_is_a_mistake_of_the_actor() -> None:
    with pytest.raises(TypeError, match="make its class one"):
        Deferred[int]().refuse(ValueError("no"))  # type: ignore[arg-type]


@given(
    steps=st.lists(st.tuples(st.sampled_from(["answer", "refuse", "leave", "nothing"]), st.integers(0, 4))),
    host=st.sampled_from(["local", "away"]),
    plan=plans(crash_paths=["/desk"]),
)
def test_every_ask_ends_once_and_nothing_is_kept(steps: list[tuple[str, int]], host: str, plan: Plan) -> None:
    """Whatever the order of turns, on whichever host, and whether or not the actor crashes meanwhile."""

    async def scenario(system: ActorSystem) -> None:
        world = system.world
        desk: Ref[Desk] = system.spawn(Clerk, "desk", host=host)
        outcomes: dict[int, list[str]] = {number: [] for number in range(5)}

        async def ask(number: int) -> None:
            leaves = ("leave", number) in steps
            outcomes[number].append(await _outcome(desk, Question(number), 0.01 if leaves else 1.0))

        async with world.nursery() as nursery:
            for number in range(5):
                nursery.start_soon(ask, number)
            await world.sleep(0.02)
            for what, number in steps:
                if what in ("answer", "refuse"):
                    desk.tell(Settle(number, refuse=what == "refuse"))
        settled = {number: what for what, number in reversed(steps) if what in ("answer", "refuse")}
        for number, ended in outcomes.items():
            wanted = {"answer": str(10 * number), "refuse": repr(No(number))}.get(settled.get(number, ""))
            assert len(ended) == 1
            lost = ended[0].startswith(("AskTimeout", "ActorFailed"))
            assert ended[0] == wanted or (
                lost and (wanted is None or ("leave", number) in steps or plan.crashes)
            )
        await world.sleep(2.0)
        assert [status.owed for status in system.statistics()] == [0]

    simulate(scenario, plan)
