"""The test kit's own promises: probes, time, crashes, and failures that print how to repeat them."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from attrs import frozen

from understudy.actors import (
    TEMPORARY,
    Actor,
    ActorSystem,
    AskTimeout,
    RealWorld,
    Ref,
    Shuffled,
    World,
    handles,
)
from understudy.actors.plan import Plan
from understudy.actors.testkit import (
    Probe,
    Unanswerable,
    advance,
    crash,
    expect_dead_letter,
    expect_restarted,
    settle,
    simulate,
    status,
)
from understudy.mailbox import Message, Refusal, Request, message

from .runs import HANG_SECONDS


class Post:
    """Protocol of the test."""


@message("testkit.letter")
@frozen
class Letter(Message[Post]):
    text: str


@message("testkit.parcel")
@frozen
class Parcel(Message[Post]):
    pass


@message("testkit.question")
@frozen
class Question(Request[Post, int]):
    number: int


@message("testkit.never")
@frozen
class Never(Refusal):
    pass


class Forwarder(Actor[Post]):
    """Sends on what it gets."""

    def __init__(self, to: Ref[Post]) -> None:
        self.to = to

    @handles(Letter)
    def letter(self, message: Letter) -> None:
        self.to.tell(Letter(message.text.upper()))

    @handles(Question)
    async def question(self, message: Question) -> int:
        return 1 + await self.to.ask(message, timeout_seconds=1.0)


Scenario = Callable[[ActorSystem], Awaitable[Any]]


def in_real_world(scenario: Scenario) -> Any:
    async def run() -> Any:
        async with RealWorld.open() as world, ActorSystem.open(world) as system:
            with trio.fail_after(HANG_SECONDS):
                return await scenario(system)

    return trio.run(run)


both = pytest.mark.parametrize("run", [in_real_world, simulate])
Run = Callable[[Scenario], Any]


@both
def test_a_probe_records_what_it_is_told_in_order(run: Run) -> None:
    async def scenario(system: ActorSystem) -> None:
        probe: Probe[Post] = Probe(system)
        forwarder = system.spawn(lambda: Forwarder(probe.ref), "forwarder")
        for text in ("a", "b", "c"):
            forwarder.tell(Letter(text))
        assert (await probe.expect(Letter)).text == "A"
        assert probe.last_sender == "/forwarder"
        assert (await probe.expect(Letter)).text == "B"
        assert (await probe.expect(Letter)).text == "C"
        await probe.expect_none(0.05)
        assert probe.received == [Letter("A"), Letter("B"), Letter("C")]

    run(scenario)


@both
def test_a_probe_says_what_came_instead(run: Run) -> None:
    async def scenario(system: ActorSystem) -> None:
        probe: Probe[Post] = Probe(system)
        with pytest.raises(
            AssertionError, match=r"no Letter reached /probe within 0.02 s; nothing ever came"
        ):
            await probe.expect(Letter, within_seconds=0.02)
        probe.ref.tell(Parcel())
        with pytest.raises(AssertionError, match=r"expected Letter, and Parcel\(\) came from outside"):
            await probe.expect(Letter)
        probe.ref.tell(Parcel())
        with pytest.raises(AssertionError, match=r"expected nothing for 0.02 s"):
            await probe.expect_none(0.02)
        probe.ignore(Parcel)
        probe.ref.tell(Parcel())
        probe.ref.tell(Letter("x"))
        await probe.expect(Letter)

    run(scenario)


@both
def test_a_probe_answers_refuses_and_knows_when_nobody_waits(run: Run) -> None:
    async def scenario(system: ActorSystem) -> None:
        probe: Probe[Post] = Probe(system)
        forwarder = system.spawn(lambda: Forwarder(probe.ref), "forwarder")
        answers: list[Any] = []

        async def ask(number: int) -> None:
            try:
                answers.append(await forwarder.ask(Question(number), timeout_seconds=3.0))
            except Refusal as refusal:
                answers.append(refusal)

        async with system.world.nursery() as nursery:
            nursery.start_soon(ask, 1)
            assert await probe.expect(Question) == Question(1)
            probe.reply(41)
            with pytest.raises(Unanswerable):
                probe.reply(42)
        async with system.world.nursery() as nursery:
            nursery.start_soon(ask, 2)
            await probe.expect(Question)
            probe.refuse(Never())
        assert answers[0] == 42 and isinstance(answers[1], Never)
        probe.ref.tell(Question(3))
        await probe.expect(Question)
        with pytest.raises(Unanswerable, match="nobody waits"):
            probe.reply(0)

    run(scenario)


def test_a_probe_that_is_not_answered_lets_the_asker_time_out() -> None:
    async def scenario(system: ActorSystem) -> None:
        probe: Probe[Post] = Probe(system)
        with pytest.raises(AskTimeout):
            await probe.ref.ask(Question(1), timeout_seconds=2.0)
        await probe.expect(Question)
        await settle(system.world)
        with pytest.raises(Unanswerable):
            probe.reply(1)

    simulate(scenario)


@both
def test_crashes_are_seen_and_restarts_awaited(run: Run) -> None:
    async def scenario(system: ActorSystem) -> None:
        probe: Probe[Any] = Probe(system)
        forwarder = system.spawn(lambda: Forwarder(probe.ref), "forwarder")
        once = system.spawn(lambda: Forwarder(probe.ref), "once", TEMPORARY)
        await probe.watch(forwarder)
        await expect_restarted(system, forwarder, 1)
        error = await crash(system, forwarder)
        terminated = await probe.expect_terminated(forwarder)
        assert (terminated.incarnation, terminated.reason, terminated.final) == (1, repr(error), False)
        await expect_restarted(system, forwarder, 2)
        await expect_restarted(system, once, 1)
        await crash(system, once, ValueError("no"))
        with pytest.raises(AssertionError, match="ended for good"):
            await expect_restarted(system, once, 2)
        assert status(system, once) is None

    run(scenario)


@both
def test_fishing_skips_what_comes_before_and_says_so_in_vain(run: Run) -> None:
    async def scenario(system: ActorSystem) -> None:
        probe: Probe[Post] = Probe(system)
        for text in ("a", "bb", "c", "dd"):
            probe.ref.tell(Letter(text))
        probe.ref.tell(Parcel())
        assert (await probe.fish(Letter, lambda letter: len(letter.text) == 2)).text == "bb"
        assert (await probe.expect(Letter)).text == "c", "what comes after the catch is still to be expected"
        await probe.fish(Parcel)
        probe.ref.tell(Letter("e"))
        with pytest.raises(AssertionError, match=r"no Parcel .* within 0.05 s; Letter\(text='e'\) came"):
            await probe.fish(Parcel, within_seconds=0.05)

    run(scenario)


@both
def test_a_dead_letter_is_expected_with_its_reason(run: Run) -> None:
    async def scenario(system: ActorSystem) -> None:
        forwarder = system.spawn(lambda: Forwarder(system.ref("/nobody")), "forwarder")
        forwarder.tell(Letter("lost"))
        letter = await expect_dead_letter(system, Letter)
        assert (letter.path, letter.message) == ("/nobody", Letter("LOST"))
        assert await expect_dead_letter(system, Letter, letter.reason) is letter
        forwarder.tell(Parcel())
        await expect_dead_letter(system, Parcel, "no handler")
        with pytest.raises(
            AssertionError, match=r"no Parcel was lost \(refused\) within 0.05 s; dead letters: "
        ):
            await expect_dead_letter(system, Parcel, "refused", 0.05)

    run(scenario)


def test_time_moves_when_told() -> None:
    async def scenario(system: ActorSystem) -> None:
        world: World = system.world
        done: list[str] = []
        world.call_later(5.0, lambda: done.append("five"))
        world.call_later(5.0 + 1e-6, lambda: done.append("later"))

        async def busy() -> None:
            for _ in range(10):
                await world.sleep(0.0)
            done.append("busy")

        async with world.nursery() as nursery:
            nursery.start_soon(busy)
            await settle(world)
            assert done == ["busy"]
        assert world.monotonic() == 0.0
        done.clear()
        await advance(world, 5.0)
        assert done == ["five"] and world.monotonic() == 5.0

    simulate(scenario)


def test_a_failure_prints_a_plan_that_repeats_it() -> None:
    hashes: list[str] = []

    async def scenario(system: ActorSystem) -> None:
        probe: Probe[Post] = Probe(system)
        one = system.spawn(lambda: Forwarder(probe.ref), "one")
        two = system.spawn(lambda: Forwarder(probe.ref), "two")
        for text in ("a", "b"):
            one.tell(Letter(text))
            two.tell(Letter(text))
        for _ in range(4):
            await probe.expect(Letter)
        hashes.append(str(probe.received))
        raise AssertionError("on purpose")

    with pytest.raises(AssertionError) as failure:
        simulate(scenario, seed=3, schedule=Shuffled(5))
    note = failure.value.__notes__[-1]
    plan = eval(note[note.index("Plan(") : -1], {"Plan": Plan})
    assert isinstance(plan, Plan) and plan.seed == 3 and plan.skips
    with pytest.raises(AssertionError):
        simulate(scenario, plan)
    assert hashes[0] == hashes[1]
