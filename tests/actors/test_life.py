"""An actor's life: starting, stopping, crashing, escalating, and what each incarnation owns."""

import logging
from typing import Any

import pytest
import trio
from attrs import frozen

from understudy.actors import (
    PERMANENT,
    TEMPORARY,
    TRANSIENT,
    Actor,
    ActorFailed,
    ActorStopped,
    ActorSystem,
    AskTimeout,
    Ref,
    SimWorld,
    Supervision,
    Terminated,
    World,
    handles,
)
from understudy.actors.supervision import RestartIntensityExceeded
from understudy.mailbox import MailboxFull, Message, Overflow, Refusal, Request, message


class Scripted:
    """Protocol of an actor that does what it is told."""


@message("test.life.note")
@frozen
class Note(Request[Scripted, int]):
    """Answered with the number of the incarnation."""

    text: str = ""


@message("test.life.crash")
@frozen
class Crash(Request[Scripted, None]):
    pass


@message("test.life.leave")
@frozen
class Leave(Message[Scripted]):
    times: int = 1


@message("test.life.wait")
@frozen
class Wait(Request[Scripted, None]):
    seconds: float


@message("test.life.aside")
@frozen
class Aside(Request[Scripted, None]):
    seconds: float


@message("test.life.group")
@frozen
class Group(Request[Scripted, None]):
    """Ends, when it is cancelled, in a group of the cancellation and an error."""


@message("test.life.refused")
@frozen
class Refused(Refusal):
    why: str


@message("test.life.refuse_in_group")
@frozen
class RefuseInGroup(Request[Scripted, None]):
    pass


@message("test.life.leftover")
@frozen
class StartLeftover(Request[Scripted, None]):
    """Starts a task that cannot be cancelled for so long, and then acts in several ways."""

    seconds: float


class Script(Actor[Scripted]):
    """Writes down what happens to it; `made` counts the incarnations."""

    def __init__(self, log: list[str], made: list[int]) -> None:
        made.append(len(made) + 1)
        self.number, self.log = made[-1], log

    async def on_start(self) -> None:
        self.log.append(f"start {self.number}")

    async def on_stop(self) -> None:
        self.log.append(f"stop {self.number}")

    @handles(Note)
    def note(self, note: Note) -> int:
        self.log.append(f"{note.text} {self.number}")
        return self.number

    @handles(Crash)
    def crash(self, _: Crash) -> None:
        raise RuntimeError("crash")

    @handles(Leave)
    def leave(self, leave: Leave) -> None:
        for _ in range(leave.times):
            self.context.stop_self()

    @handles(Wait)
    async def wait(self, wait: Wait) -> None:
        await self.world.sleep(wait.seconds)

    @handles(Aside, concurrent=True)
    async def aside(self, wait: Aside) -> None:
        self.log.append("aside")
        await self.world.sleep(wait.seconds)

    @handles(Group)
    async def group(self, _: Group) -> None:
        async def fails_when_cancelled() -> None:
            try:
                await self.world.sleep(100)
            finally:
                raise ValueError("while cancelled")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails_when_cancelled)
            nursery.start_soon(self.world.sleep, 100)

    @handles(RefuseInGroup)
    async def refuse_in_group(self, _: RefuseInGroup) -> None:
        async def refuse() -> None:
            raise Refused("in a group")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(refuse)

    @handles(StartLeftover)
    def start_leftover(self, leftover: StartLeftover) -> None:
        async def outlive() -> None:
            with trio.CancelScope(shield=True):
                await self.world.sleep(leftover.seconds)
            self.log.append("leftover acts")
            self.context.stop_self()
            self.context.set_timer("late", 0.0, Note("late timer"))
            self.context.start_soon(self.world.sleep, 0.0)
            with pytest.raises(ActorStopped):
                self.context.spawn(Script, "child")  # type: ignore[arg-type]
            raise RuntimeError("the leftover's own crash")

        self.context.start_soon(outlive)


QUICK = Supervision(backoff_initial_seconds=0.001, backoff_max_seconds=0.001)


class Bench:
    """One system with one scripted actor."""

    def __init__(self, world: World, system: ActorSystem) -> None:
        self.world, self.system = world, system
        self.log: list[str] = []
        self.made: list[int] = []

    def spawn(self, supervision: Supervision = QUICK, **options: Any) -> Ref[Scripted]:
        return self.system.spawn(lambda: Script(self.log, self.made), "script", supervision, **options)


def simulate(scenario: Any, **options: Any) -> Any:
    async def main(world: World) -> Any:
        async with ActorSystem.open(world) as system:
            return await scenario(Bench(world, system))

    return SimWorld(seed=3, **options).run(main)


def test_a_leftover_task_of_an_old_incarnation_cannot_touch_the_next() -> None:
    async def scenario(b: Bench) -> None:
        ref = b.spawn()
        await ref.ask(StartLeftover(5.0))
        ref.tell(Crash())
        assert await ref.ask(Note(), 10.0) == 2
        await b.world.sleep(10.0)
        assert "leftover acts" in b.log
        assert await ref.ask(Note()) == 2, "neither its crash nor its stop reached the second incarnation"
        assert not any("late timer" in line for line in b.log)
        assert b.log.index("stop 1") < b.log.index("start 2")

    simulate(scenario)


def test_leaving_twice_in_one_message_ends_one_incarnation() -> None:
    async def scenario(b: Bench) -> None:
        ref = b.spawn()
        ref.tell(Leave(times=3))
        assert await ref.ask(Note()) == 2
        await b.world.sleep(1.0)
        assert b.made == [1, 2]

    simulate(scenario)


def test_an_actor_that_leaves_again_and_again_escalates_instead_of_spinning() -> None:
    class Leaver(Actor[Scripted]):
        async def on_start(self) -> None:
            self.context.stop_self()

    async def scenario(b: Bench) -> None:
        b.system.spawn(Leaver, "leaver")
        await b.world.sleep(1000.0)

    with pytest.raises(RestartIntensityExceeded, match="/leaver ended by itself 6 times in 30 s"):
        simulate(scenario)


def test_supervision_decides_what_follows_an_end() -> None:
    async def scenario(b: Bench) -> list[int]:
        counts = []
        for supervision in (PERMANENT, TRANSIENT, TEMPORARY):
            for end in (Leave(), Crash()):
                b.made.clear()
                ref = b.spawn(supervision)
                ref.tell(end)
                await b.world.sleep(1.0)
                counts.append(len(b.made))
                await b.system.stop(ref)
        return counts

    assert simulate(scenario) == [2, 2, 1, 2, 1, 1]


def test_a_group_with_a_cancellation_in_it_is_a_crash_like_any_other() -> None:
    async def scenario(b: Bench) -> None:
        ref = b.spawn()

        async def ask() -> None:
            with pytest.raises((ActorStopped, ActorFailed)):
                await ref.ask(Group(), 60.0)

        async with b.world.nursery() as nursery:
            nursery.start_soon(ask)
            await b.world.sleep(0.1)
            await b.system.stop(ref, 0.1)
        assert not b.system.is_alive(ref)

    simulate(scenario)


def test_a_refusal_inside_a_group_of_one_is_still_a_refusal() -> None:
    async def scenario(b: Bench) -> None:
        with pytest.raises(Refused, match="in a group"):
            await b.spawn().ask(RefuseInGroup())
        assert b.made == [1]

    simulate(scenario)


def test_stop_has_a_deadline_that_outlives_whoever_asked_for_it() -> None:
    async def scenario(b: Bench) -> None:
        ref = b.spawn()
        ref.tell(Wait(1000.0))
        await b.world.sleep(0.1)
        with b.world.limit(0.5):
            await b.system.stop(ref, 2.0)
        assert b.system.is_alive(ref)
        await b.world.sleep(1.6)
        assert not b.system.is_alive(ref)
        assert b.log == ["start 1", "stop 1"]

    simulate(scenario)


def test_two_callers_may_stop_an_actor_at_once() -> None:
    async def scenario(b: Bench) -> None:
        ref = b.spawn()
        ref.tell(Wait(1000.0))
        await b.world.sleep(1.0)
        async with b.world.nursery() as nursery:
            nursery.start_soon(b.system.stop, ref, 1.0)
            nursery.start_soon(b.system.stop, ref, 3.0)
        assert b.world.monotonic() == pytest.approx(2.0)
        assert b.log == ["start 1", "stop 1"]

    simulate(scenario)


def test_a_start_that_hangs_is_cancelled_by_a_stop() -> None:
    class Hangs(Script):
        async def on_start(self) -> None:
            await self.world.sleep(1000.0)

    async def scenario(b: Bench) -> None:
        ref = b.system.spawn(lambda: Hangs(b.log, b.made), "hangs")
        with pytest.raises(ActorStopped):
            async with b.world.nursery() as nursery:
                nursery.start_soon(ref.ask, Note())
                await b.world.sleep(0.1)
                await b.system.stop(ref, 1.0)
        assert b.log == ["stop 1"]

    simulate(scenario)


def test_a_stop_during_back_off_ends_it_at_once_and_watchers_hear_the_last_word() -> None:
    heard: list[tuple[int, bool]] = []

    class Watcher(Actor[Scripted]):
        async def on_start(self) -> None:
            self.context.watch(self.context.self.__class__("/script", self.context.self._system))

        @handles(Terminated)
        def terminated(self, terminated: Terminated) -> None:
            heard.append((terminated.incarnation, terminated.final))

    async def scenario(b: Bench) -> None:
        ref = b.spawn(Supervision(backoff_initial_seconds=100.0, backoff_max_seconds=100.0))
        b.system.spawn(Watcher, "watcher")
        await b.world.sleep(0.1)
        ref.tell(Crash())
        await b.world.sleep(1.0)
        ref.tell(Note())
        before = b.world.monotonic()
        await b.system.stop(ref)
        assert b.world.monotonic() == before
        await b.world.sleep(0.1)
        assert heard == [(1, False), (1, True)]
        assert b.system.dead_letters[-1].reason == "the actor has ended"

    simulate(scenario)


def test_a_watch_ends_with_the_incarnation_that_wanted_it() -> None:
    heard: list[int] = []

    class Watcher(Script):
        async def on_start(self) -> None:
            if self.number == 1:
                self.context.watch(Ref("/target", self.context._system))

        @handles(Terminated)
        def terminated(self, terminated: Terminated) -> None:
            heard.append(terminated.incarnation)

    async def scenario(b: Bench) -> None:
        target = b.system.spawn(lambda: Script([], []), "target", QUICK)
        ref = b.system.spawn(lambda: Watcher(b.log, b.made), "watcher", QUICK)
        target.tell(Crash())
        await b.world.sleep(1.0)
        assert heard == [1]
        ref.tell(Crash())
        await b.world.sleep(1.0)
        target.tell(Crash())
        await b.world.sleep(1.0)
        assert heard == [1], "the second incarnation did not ask"

    simulate(scenario)


def test_stop_hooks_that_raise_or_hang_hold_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    class Raises(Script):
        async def on_stop(self) -> None:
            raise RuntimeError("in the stop hook")

    class Hangs(Script):
        async def on_stop(self) -> None:
            await self.world.sleep(1000.0)

    async def scenario(b: Bench) -> None:
        raises = b.system.spawn(lambda: Raises(b.log, b.made), "raises", QUICK)
        hangs = b.system.spawn(lambda: Hangs(b.log, b.made), "hangs", QUICK)
        raises.tell(Leave())
        hangs.tell(Leave())
        assert await raises.ask(Note()) > 2
        assert await hangs.ask(Note()) > 2
        assert b.world.monotonic() < 2.1

    with caplog.at_level(logging.WARNING):
        simulate(scenario)
    assert "in the stop hook" in caplog.text
    assert "on_stop of actor /hangs took over 2 s" in caplog.text


def test_a_chain_of_escalations_ends_the_block() -> None:
    class Parent(Actor[Scripted]):
        def __init__(self, depth: int) -> None:
            self.depth = depth

        async def on_start(self) -> None:
            policy = Supervision(restarts_max=1, backoff_initial_seconds=0.001)
            if self.depth:
                self.context.spawn(lambda: Parent(self.depth - 1), "child", policy)
            else:
                raise RuntimeError("never starts")

    starts = 0

    async def scenario(b: Bench) -> None:
        b.system.spawn(lambda: Parent(3), "top", Supervision(restarts_max=1))
        await b.world.sleep(1000.0)

    with pytest.raises(RestartIntensityExceeded, match="/top crashed 2 times") as raised:
        simulate(scenario)
    cause: BaseException | None = raised.value
    while cause is not None:
        starts, last, cause = starts + 1, cause, cause.__cause__
    assert starts == 5
    assert str(last) == "never starts"


def test_nothing_started_while_an_incarnation_ends_outlives_it() -> None:
    outcomes: list[str] = []

    class Late(Script):
        async def on_stop(self) -> None:
            self.context.start_soon(self.forever)
            self.context.set_timer("t", 0.0, Note("timer"))
            with pytest.raises(ActorStopped):
                self.context.spawn(lambda: Script([], []), "late")
            writer, _ = self.context.channel("late")
            outcomes.append("closed" if writer.finished else "open")

        async def forever(self) -> None:
            outcomes.append("ran")
            await self.world.sleep(1000.0)

    async def scenario(b: Bench) -> None:
        ref = b.system.spawn(lambda: Late(b.log, b.made), "late", QUICK)
        await b.world.sleep(0.1)
        await b.system.stop(ref)
        await b.world.sleep(1.0)
        assert outcomes == ["closed"]
        assert b.log == ["start 1"]

    simulate(scenario)


def test_a_concurrent_handler_cancelled_before_its_first_step_still_answers() -> None:
    async def scenario(b: Bench) -> None:
        ref = b.spawn()
        ref.tell(Leave())
        with pytest.raises(ActorStopped):
            async with b.world.nursery() as nursery:
                await b.world.sleep(0.0)
                nursery.start_soon(ref.ask, Aside(1000.0), 1000.0)
                await b.world.sleep(0.5)
                await b.system.stop(ref, 0.0)
        assert b.world.monotonic() < 2.0

    simulate(scenario)


@pytest.mark.parametrize("far", [False, True])
def test_work_that_nobody_waits_for_is_not_begun(far: bool) -> None:
    async def scenario(b: Bench) -> None:
        ref = b.spawn(host="elsewhere" if far else "local")
        ref.tell(Wait(10.0))
        with pytest.raises(AskTimeout):
            await ref.ask(Aside(1.0), 1.0)
        with pytest.raises(AskTimeout):
            await ref.ask(Note("too late"), 1.0)
        await b.world.sleep(20.0)
        assert b.log == ["start 1"]
        assert [letter.reason for letter in b.system.dead_letters] == ["its asker no longer waits"] * 2

    simulate(scenario)


def test_an_ask_that_is_refused_at_once_still_lets_others_run() -> None:
    async def scenario(b: Bench) -> None:
        done = b.world.event()

        async def insist() -> None:
            while not done.is_set():
                with pytest.raises(ActorStopped):
                    await b.system.ref("/nobody").ask(Note())

        async with b.world.nursery() as nursery:
            nursery.start_soon(insist)
            await b.world.sleep(0.0)
            done.set()

    simulate(scenario, turns_max=1000)


def test_a_pinned_ref_reaches_no_later_incarnation_even_from_the_mailbox() -> None:
    async def scenario(b: Bench) -> None:
        ref = b.spawn()
        await b.world.sleep(0.1)
        pinned: Ref[Scripted] = Ref(ref.path, b.system, 1)
        assert await pinned.ask(Note()) == 1
        ref.tell(Crash())
        pinned.tell(Note("old"))
        with pytest.raises(ActorStopped):
            await pinned.ask(Note("old"))
        assert await ref.ask(Note()) == 2
        assert not any("old" in line for line in b.log)

    simulate(scenario)


def test_displaced_asks_are_told_so() -> None:
    async def scenario(b: Bench) -> None:
        for overflow in (Overflow.DROP_NEWEST, Overflow.DROP_OLDEST):
            ref = b.spawn(capacity=1, overflow=overflow)
            await b.world.sleep(0.1)
            ref.tell(Wait(1.0))
            await b.world.sleep(0.1)
            outcomes: dict[str, int | None] = {}

            async def ask(text: str, ref: Ref[Scripted] = ref, into: Any = outcomes) -> None:
                try:
                    into[text] = await ref.ask(Note(text))
                except MailboxFull:
                    into[text] = None

            async with b.world.nursery() as nursery:
                nursery.start_soon(ask, "first")
                await b.world.sleep(0.1)
                nursery.start_soon(ask, "second")
            lost = "second" if overflow is Overflow.DROP_NEWEST else "first"
            assert [text for text, number in outcomes.items() if number is None] == [lost]
            assert b.system.dead_letters[-1].reason == "displaced by the overflow policy"
            await b.system.stop(ref)

    simulate(scenario)


def test_a_timer_on_a_full_mailbox_is_a_dead_letter() -> None:
    class Ticking(Script):
        async def on_start(self) -> None:
            self.context.set_timer("tick", 1.0, Note("tick"), every_seconds=1.0)

    async def scenario(b: Bench) -> None:
        ref = b.system.spawn(lambda: Ticking(b.log, b.made), "ticking", QUICK, capacity=2)
        ref.tell(Wait(5.5))
        await b.world.sleep(8.2)
        assert b.log == ["tick 1"] * 5
        assert b.system.dead_letter_count == 3
        ref.tell(Crash())
        await b.world.sleep(0.9)
        assert b.log == ["tick 1"] * 5 + ["stop 1"], "the old timer is gone, the new one not yet due"

    simulate(scenario)


def test_timers_are_replaced_by_key_and_cancelled() -> None:
    class Timed(Script):
        async def on_start(self) -> None:
            self.context.set_timer("a", 1.0, Note("replaced"))
            self.context.set_timer("a", 2.0, Note("kept"))
            self.context.set_timer("b", 1.0, Note("cancelled"))
            self.context.cancel_timer("b")
            self.context.cancel_timer("no such")

    async def scenario(b: Bench) -> None:
        b.system.spawn(lambda: Timed(b.log, b.made), "timed")
        await b.world.sleep(10.0)
        assert b.log == ["kept 1"]

    simulate(scenario)


def test_a_task_started_on_anothers_behalf_acts_for_its_owner() -> None:
    """A callback may run in another actor's task; what it starts belongs to whose context it used."""
    senders: list[str] = []

    class Owner(Script):
        async def on_start(self) -> None:
            owners.append(self)

    class Caller(Script):
        async def on_start(self) -> None:
            owners[0].context.start_soon(self.act)

        async def act(self) -> None:
            Ref("/observed", self.context._system).tell(Note())

    owners: list[Owner] = []

    async def scenario(b: Bench) -> None:
        b.system.observers.append(lambda delivery: senders.append(delivery.sender))
        b.system.spawn(lambda: Script([], []), "observed")
        b.system.spawn(lambda: Owner([], []), "owner")
        await b.world.sleep(0.1)
        b.system.spawn(lambda: Caller([], []), "caller")
        await b.world.sleep(0.1)
        assert senders == ["/owner"]

    simulate(scenario)
