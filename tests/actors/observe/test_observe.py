"""Looking into a running system: its tree, one actor at a time, causes, circles of asks, and figures."""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import pytest
from attrs import frozen

from understudy.actors import (
    Actor,
    ActorFailed,
    ActorStopped,
    ActorSystem,
    AskTimeout,
    Ref,
    SimWorld,
    Terminated,
    handles,
)
from understudy.actors.observe import (
    CauseTrace,
    HandlerTimes,
    get_state,
    resume,
    snapshot,
    suspend,
    trace,
    tree_text,
)
from understudy.actors.testkit import crash, expect_restarted
from understudy.actors.waiting import AskCycle
from understudy.mailbox import Message, Refusal, Request, message


class Working:
    """Protocol of the test's actors."""


@message("test.observe.add")
@frozen
class Add(Request[Working, int]):
    amount: int


@message("test.observe.forward")
@frozen
class Forward(Request[Working, int]):
    """Ask the first of the refs to do the same with the others; answered with how many there were."""

    to: tuple[Ref[Working], ...]
    timeout_seconds: float = 60.0


@message("test.observe.delegate")
@frozen
class Delegate(Forward):
    """As Forward, by a concurrent handler."""


@message("test.observe.pass_on")
@frozen
class PassOn(Message[Working]):
    """Tell the first of the refs the rest."""

    to: tuple[Ref[Working], ...]


@message("test.observe.refuse")
@frozen
class Refuse(Request[Working, None]):
    pass


@message("test.observe.no")
@frozen
class No(Refusal):
    pass


@message("test.observe.boom")
@frozen
class Boom(Request[Working, None]):
    pass


@message("test.observe.spawn")
@frozen
class Spawn(Request[Working, Ref[Working]]):
    name: str


class Worker(Actor[Working]):
    def __init__(self) -> None:
        self.total = 0
        self.ended: list[str] = []

    @handles(Add)
    async def add(self, message: Add) -> int:
        await self.world.sleep(message.amount)
        self.total += message.amount
        return self.total

    @handles(Forward)
    async def forward(self, message: Forward) -> int:
        return await self.pass_to(message)

    @handles(Delegate, concurrent=True)
    async def delegate(self, message: Delegate) -> int:
        return await self.pass_to(message)

    async def pass_to(self, message: Forward) -> int:
        if not message.to:
            return 0
        rest = type(message)(message.to[1:], message.timeout_seconds)
        return 1 + await message.to[0].ask(rest, message.timeout_seconds)

    @handles(PassOn)
    def pass_on(self, message: PassOn) -> None:
        if message.to:
            message.to[0].tell(PassOn(message.to[1:]))

    @handles(Refuse)
    def refuse(self, message: Refuse) -> None:
        raise No

    @handles(Boom)
    def boom(self, message: Boom) -> None:
        raise RuntimeError("boom")

    @handles(Spawn)
    def spawn(self, message: Spawn) -> Ref[Working]:
        child: Ref[Working] = self.context.spawn(Worker, message.name)
        self.context.watch(child)
        return child

    @handles(Terminated)
    def on_terminated(self, message: Terminated) -> None:
        self.ended.append(message.path)


def simulated(main: Callable[[ActorSystem], Awaitable[Any]]) -> Any:
    async def run(world: SimWorld) -> Any:
        async with ActorSystem.open(world) as system:
            return await main(system)

    return SimWorld(seed=1).run(run)


def workers(system: ActorSystem, names: str, host: str = "local") -> list[Ref[Working]]:
    return [system.spawn(Worker, name, host=host) for name in names]


# -- circles of asks


def test_an_actor_that_asks_itself_hears_so_at_once() -> None:
    async def main(system: ActorSystem) -> None:
        (a,) = workers(system, "a")
        with pytest.raises(AskCycle) as caught:
            await a.ask(Forward((a,)), 100.0)
        assert caught.value.cycle == ("/a asks /a: test.observe.forward",)
        assert system.world.monotonic() < 1.0
        assert await a.ask(Add(0)) == 0, "and lives on"

    simulated(main)


@pytest.mark.parametrize("host", ["local", "elsewhere"])
def test_a_circle_of_asks_is_named_and_fails_at_once(host: str) -> None:
    async def main(system: ActorSystem) -> None:
        a, b = workers(system, "ab")
        (c,) = workers(system, "c", host)
        with pytest.raises(AskCycle) as caught:
            await a.ask(Forward((b, c, a)), 100.0)
        assert caught.value.cycle == (
            "/c asks /a: test.observe.forward",
            "/a asks /b: test.observe.forward",
            "/b asks /c: test.observe.forward",
        )
        assert system.world.monotonic() < 1.0
        assert await a.ask(Forward((b, c)), 100.0) == 2, "a chain is no circle, and nothing is left over"

    simulated(main)


def test_two_actors_that_ask_each_other_at_the_same_time_are_found() -> None:
    async def main(system: ActorSystem) -> None:
        a, b = workers(system, "ab")
        errors: list[str] = []

        async def ask(first: Ref[Working], second: Ref[Working]) -> None:
            try:
                await first.ask(Forward((second,)), 100.0)
            except AskCycle as error:
                errors.append(str(error))

        async with system.world.nursery() as nursery:
            nursery.start_soon(ask, a, b)
            nursery.start_soon(ask, b, a)
        assert len(errors) == 1, "one is refused, so that the other can be answered"
        assert system.world.monotonic() < 1.0

    simulated(main)


def test_concurrent_handlers_may_ask_in_circles() -> None:
    async def main(system: ActorSystem) -> None:
        a, b = workers(system, "ab")
        assert await a.ask(Delegate((a,))) == 1
        assert await a.ask(Delegate((b, a, b, a))) == 4
        # The handler of /b holds its mailbox while it waits for /a; only an ask of /b itself would be stuck.
        assert await a.ask(Delegate((b,))) == 1
        with pytest.raises(AskCycle):
            await b.ask(Forward((a, b)))

    simulated(main)


def test_an_ask_that_was_given_up_is_no_part_of_a_circle() -> None:
    async def main(system: ActorSystem) -> None:
        a, b = workers(system, "ab")
        await suspend(b)
        with pytest.raises(AskTimeout):
            await a.ask(Forward((b,), timeout_seconds=1.0), 10.0)
        await resume(b)
        assert await b.ask(Forward((a,))) == 1

    simulated(main)


# -- one actor


def test_the_state_is_read_between_two_messages() -> None:
    async def main(system: ActorSystem) -> None:
        (a,) = workers(system, "a")
        a.tell(Add(5))
        await system.world.sleep(1)
        assert await get_state(a, 10.0) == {"total": 5, "ended": []}, "not while the handler sleeps"
        a.tell(Add(100))
        await system.world.sleep(1)
        with pytest.raises(AskTimeout):
            await get_state(a, 10.0)
        await system.stop(a)
        with pytest.raises(ActorStopped):
            await get_state(a)

    simulated(main)


def test_the_state_of_slotted_actors_is_read_too() -> None:
    class Slotted(Actor[Working]):
        __slots__ = ("here", "not_set_yet")

        def __init__(self) -> None:
            self.here = 1

    async def main(system: ActorSystem) -> None:
        assert await get_state(system.spawn(Slotted, "slotted")) == {"here": 1}

    simulated(main)


def test_an_actor_that_ends_first_tells_whoever_looks() -> None:
    async def main(system: ActorSystem) -> None:
        (a,) = workers(system, "a")
        a.tell(Add(100))
        await system.world.sleep(1)
        errors: list[Exception] = []

        async def look() -> None:
            try:
                await get_state(a, 100.0)
            except ActorStopped as error:
                errors.append(error)

        async with system.world.nursery() as nursery:
            nursery.start_soon(look)
            await system.world.sleep(1)
            await system.stop(a)
        assert len(errors) == 1

    simulated(main)


def test_a_suspended_actor_queues_and_resumes_in_order() -> None:
    async def main(system: ActorSystem) -> None:
        (a,) = workers(system, "a")
        child = await a.ask(Spawn("child"))
        await suspend(a)
        await suspend(a)
        with pytest.raises(AskTimeout):
            await a.ask(Add(1), 10.0)
        a.tell(Add(2))
        await system.stop(child)
        assert await get_state(a) == {"total": 0, "ended": []}, "death notices wait as well"
        assert snapshot(system)[0].status.mailbox.depth == 2
        await resume(a)
        assert await a.ask(Add(0), 10.0) == 2, "the ask that nobody waits for is not handled"
        assert (await get_state(a))["ended"] == ["/a/child"]

    simulated(main)


def test_a_suspended_actor_can_be_stopped_and_stays_suspended_over_a_restart() -> None:
    async def main(system: ActorSystem) -> None:
        (a,) = workers(system, "a")
        await a.ask(Add(0))
        await suspend(a)
        system.crash(a, RuntimeError("on purpose"))
        with pytest.raises(AskTimeout):
            await a.ask(Add(1), 10.0)
        assert snapshot(system)[0].status.incarnation == 2
        await system.stop(a)
        assert not system.is_alive(a)

    simulated(main)


def test_a_trace_shows_what_one_actor_does() -> None:
    async def main(system: ActorSystem) -> list[tuple[str, str, str]]:
        a, b = workers(system, "ab")
        with trace(a) as events:
            assert await a.ask(Forward((b,))) == 1
            with pytest.raises(No):
                await a.ask(Refuse())
            with pytest.raises(ActorFailed):
                await a.ask(Boom())
            await a.ask(Add(1), 10.0)
            assert str(events[-1]).endswith(" answered test.observe.add for outside: 1")
        await a.ask(Add(1))
        return [(event.kind, event.what, event.peer) for event in events]

    def of(name: str) -> str:
        return f"test.observe.{name}"

    assert simulated(main) == [
        ("is", "starting", ""),
        ("is", "running", ""),
        ("handles", of("forward"), ""),
        ("sends", of("forward"), "/b"),
        ("answered", of("forward"), ""),
        ("handles", of("refuse"), ""),
        ("refused", of("refuse"), ""),
        ("handles", of("boom"), ""),
        ("crashed", of("boom"), ""),
        ("is", "stopping", ""),
        ("is", "backing off", ""),
        ("is", "starting", ""),
        ("is", "running", ""),
        ("handles", of("add"), ""),
        ("answered", of("add"), ""),
    ]


# -- the whole system


def test_the_tree_shows_states_mailboxes_restarts_and_times() -> None:
    async def main(system: ActorSystem) -> None:
        a, b = workers(system, "ab")
        with HandlerTimes.of(system) as times:
            for name in ("y", "x"):
                await a.ask(Spawn(name))
            await a.ask(Add(1))
            await a.ask(Add(3))
        with pytest.raises(ActorFailed):
            await b.ask(Boom())
        for _ in range(3):
            b.tell(Add(1))
        root_a, root_b = snapshot(system, times)
        assert [child.name for child in root_a.children] == ["x", "y"]
        (add, spawn) = root_a.times
        assert (add.message, add.count, add.seconds_total, add.seconds_max) == (
            "test.observe.add",
            2,
            4.0,
            3.0,
        )
        assert (spawn.message, spawn.count, spawn.seconds_max) == ("test.observe.spawn", 2, 0.0)
        assert root_b.times == (), "times were not taken any more"
        await b.ask(Add(0), 10.0)
        text = tree_text(snapshot(system))
        assert "\n  x  running, mailbox 0 (most 0, 0 in all)\n" in text
        assert "b  running, mailbox 0 (most 4, 5 in all), 1 restarts" in text

    simulated(main)


def test_a_system_without_instruments_has_no_probes() -> None:
    async def main(system: ActorSystem) -> None:
        (a,) = workers(system, "a")
        with HandlerTimes.of(system), CauseTrace.of(system), trace(a):
            assert len(system.probes) == 3
        assert system.probes == []

    simulated(main)


def test_a_cause_is_followed_across_actors_and_hosts() -> None:
    async def main(system: ActorSystem) -> None:
        a, b = workers(system, "ab")
        (c,) = workers(system, "c", "elsewhere")
        with CauseTrace.of(system) as causes:
            with causes.story("request 7"):
                a.tell(PassOn((c, b)))
                await b.ask(Forward((a,)))
            b.tell(PassOn((a,)))
            await system.world.sleep(1)
        assert causes.text("request 7").splitlines() == [
            "outside -> /a: test.observe.pass_on",
            "  /a -> /c: test.observe.pass_on",
            "    /c -> /b: test.observe.pass_on",
            "outside -> /b: test.observe.forward",
            "  /b -> /a: test.observe.forward",
        ]
        stories = {step.story for step in causes.steps}
        assert len(stories) == 2, "what has no cause begins a story of its own"
        assert len(causes.of_story(max(stories - {"request 7"}))) == 2

    simulated(main)


def test_two_simulations_trace_alike_whatever_is_looked_at() -> None:
    def once(look: bool) -> str:
        async def run(world: SimWorld) -> None:
            async with ActorSystem.open(world) as system:
                a, b = workers(system, "ab")
                with (
                    CauseTrace.of(system) if look else nullcontext(),
                    HandlerTimes.of(system) if look else nullcontext(),
                ):
                    await a.ask(Forward((b,)))

        world = SimWorld(seed=3)
        world.run(run)
        return world.trace_hash()

    assert once(True) == once(False) == once(True)


def test_prometheus_reads_figures_on_demand() -> None:
    pytest.importorskip("prometheus_client")
    from understudy.actors.observe.metrics import ActorCollector, metrics_text

    async def main(system: ActorSystem) -> None:
        a, _ = workers(system, "ab")
        with HandlerTimes.of(system) as times:
            await a.ask(Add(2))
            text = metrics_text(system, times)
        lines = text.splitlines()
        assert 'understudy_actors{state="running"} 2.0' in lines
        assert 'understudy_mailbox_accepted_total{host="local",path="/a"} 1.0' in lines
        assert 'understudy_handler_seconds_total{message="test.observe.add",path="/a"} 2.0' in lines
        assert 'understudy_handler_seconds_max{message="test.observe.add",path="/a"} 2.0' in lines
        await suspend(a)
        for number in range(3):
            a.tell(Add(number))
        await resume(a)
        await a.ask(Add(0))
        await crash(system, a)
        await expect_restarted(system, a, incarnation=2)
        lines = metrics_text(system).splitlines()
        assert 'understudy_mailbox_high_water{host="local",path="/a"} 4.0' in lines
        assert 'understudy_mailbox_depth{host="local",path="/a"} 0.0' in lines
        assert 'understudy_actor_restarts_total{host="local",path="/a"} 1.0' in lines
        few = ActorCollector(system, None, actors_max=1)
        values = {sample.name: sample.value for family in few.collect() for sample in family.samples}
        assert values["understudy_actors_not_shown"] == 1.0

    simulated(main)
