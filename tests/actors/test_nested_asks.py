"""Asks between actors: an idle actor begins inside its asker's step, and nobody can tell the difference."""

from typing import Any

import pytest
import trio
from attrs import frozen

from understudy.actors import (
    Actor,
    ActorFailed,
    ActorSystem,
    AskCycle,
    AskTimeout,
    DeadlineExceeded,
    Ref,
    Supervision,
    World,
    handles,
)
from understudy.actors.ref import current_cell
from understudy.mailbox import Message, Refusal, Request, message

from .runs import Run, both


class Nested:
    """Protocol of the actors here."""


@message("test.nested.run")
@frozen
class Do(Request[Nested, Any]):
    what: str
    then: Ref[Nested] | None = None


@message("test.nested.note")
@frozen
class Note(Message[Nested]):
    text: str


@message("test.nested.refused")
@frozen
class Refused(Refusal):
    pass


class Node(Actor[Nested]):
    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.busy = False

    async def on_start(self) -> None:
        self.gate = self.world.event("gate")
        self.log.append(f"start {self.context.path}")

    async def on_stop(self) -> None:
        self.log.append(f"stop {self.context.path}")

    @handles(Note)
    def note(self, note: Note) -> None:
        assert not self.busy, "one message at a time"
        self.log.append(note.text)

    @handles(Do)
    async def do(self, do: Do) -> Any:
        cell = current_cell.get()
        assert cell is not None
        assert cell.path == self.context.path
        assert not self.busy, "one message at a time"
        self.busy = True
        try:
            return await self.act(do)
        finally:
            self.busy = False

    async def act(self, do: Do) -> Any:
        cell = current_cell.get()
        if do.what == "pass on":
            assert do.then is not None
            return await do.then.ask(Do("now"))
        if do.what == "tell myself":
            self.context.self.tell(Note("told"))
        elif do.what == "tell myself and wait":
            self.context.self.tell(Note("told"))
            await self.world.sleep(0.001)
        elif do.what == "sleep":
            await self.world.sleep(0.001)
        elif do.what == "checkpoint":
            await trio.lowlevel.checkpoint()
        elif do.what == "nursery":
            async with self.world.nursery() as nursery:
                nursery.start_soon(self.world.sleep, 0.001)
                nursery.start_soon(self.world.sleep, 0.002)
        elif do.what == "limit":
            with self.world.limit(0.001) as scope:
                await self.world.sleep(100.0)
            assert scope.cancelled_caught
        elif do.what == "crash":
            raise ValueError("crash")
        elif do.what == "crash late":
            await self.world.sleep(0.001)
            raise ValueError("crash late")
        elif do.what == "refuse":
            raise Refused()
        elif do.what == "hang":
            await self.world.sleep(1000.0)
        elif do.what == "leave":
            self.context.stop_self()
        assert current_cell.get() is cell
        return f"{do.what} at {self.context.path}"


class Asker(Actor[Nested]):
    """Asks another to do what it is asked to do."""

    def __init__(self, other: Ref[Nested]) -> None:
        self.other = other

    @handles(Do)
    async def do(self, do: Do) -> Any:
        answer = await self.other.ask(do, 0.5 if do.what == "hang" else 5.0)
        cell = current_cell.get()
        assert cell is not None
        assert cell.path == self.context.path
        return answer


CALM = ["now", "sleep", "checkpoint", "nursery", "limit", "tell myself", "tell myself and wait", "leave"]


@both
@pytest.mark.parametrize("what", CALM)
def test_a_handler_may_wait_for_anything(run: Run, what: str) -> None:
    async def main(world: World) -> list[str]:
        log: list[str] = []
        async with ActorSystem.open(world) as system:
            policy = Supervision(backoff_initial_seconds=0.001)
            node: Ref[Nested] = system.spawn(lambda: Node(log), "node", policy)
            asker: Ref[Nested] = system.spawn(lambda: Asker(node), "asker")
            await world.sleep(0.001)
            for _ in range(3):
                assert await asker.ask(Do(what)) == f"{what} at /node"
                await world.sleep(0.02)
        return log

    log = run(main)
    assert log.count("told") == (3 if "tell" in what else 0)
    assert log.count("start /node") == log.count("stop /node") == (4 if what == "leave" else 1)


@both
@pytest.mark.parametrize("what", ["crash", "crash late"])
def test_a_crash_is_the_asked_actors_alone(run: Run, what: str) -> None:
    async def main(world: World) -> None:
        log: list[str] = []
        async with ActorSystem.open(world) as system:
            node: Ref[Nested] = system.spawn(lambda: Node(log), "node")
            asker: Ref[Nested] = system.spawn(lambda: Asker(node), "asker")
            await world.sleep(0.001)
            with pytest.raises(ActorFailed, match=what):
                await asker.ask(Do(what))
            assert await asker.ask(Do("sleep")) == "sleep at /node"
            status = {one.path: one for one in system.statistics()}
            assert (status["/node"].incarnation, status["/asker"].incarnation) == (2, 1)

    run(main)


@both
def test_a_refusal_and_a_deadline_reach_the_asker(run: Run) -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            node: Ref[Nested] = system.spawn(lambda: Node([]), "node")
            asker: Ref[Nested] = system.spawn(lambda: Asker(node), "asker")
            await world.sleep(0.001)
            with pytest.raises(Refused):
                await asker.ask(Do("refuse"))
            with pytest.raises(AskTimeout):
                await asker.ask(Do("hang"))

    run(main)


@both
def test_chains_and_cycles_of_asks(run: Run) -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            last: Ref[Nested] = system.spawn(lambda: Node([]), "last")
            for number in range(300):
                last = system.spawn(lambda last=last: Asker(last), f"link-{number}")  # type: ignore[misc]
            await world.sleep(0.001)
            assert await last.ask(Do("now")) == "now at /last", "longer than the interpreter's stack"
            a: Ref[Nested] = system.spawn(lambda: Node([]), "a")
            b: Ref[Nested] = system.spawn(lambda: Node([]), "b")
            await world.sleep(0.001)
            assert await a.ask(Do("pass on", b)) == "now at /b"
            with pytest.raises(AskCycle, match="/a asks /a"):
                await a.ask(Do("pass on", a))

    run(main)


@both
@pytest.mark.parametrize("what", ["hang", "sleep"])
def test_a_cancelled_host_stops_both(run: Run, what: str) -> None:
    log: list[str] = []

    async def main(world: World) -> None:
        with pytest.raises(DeadlineExceeded), world.deadline(0.02):
            async with ActorSystem.open(world) as system:
                node: Ref[Nested] = system.spawn(lambda: Node(log), "node")
                asker: Ref[Nested] = system.spawn(lambda: Asker(node), "asker")
                await world.sleep(0.001)
                while True:
                    await asker.ask(Do(what))

    run(main)
    assert log[-1] == "stop /node"
