"""Looking at actors of other nodes: causes that cross; states, pauses and traces where they are permitted."""

from typing import Any

import pytest
from attrs import frozen

from tests.actors.remote.nodes import (
    Add,
    Boom,
    Hold,
    Note,
    Pair,
    Relay,
    Run,
    Worker,
    Working,
    everywhere,
    simulated,
    until,
)
from understudy.actors import Actor, ActorFailed, ActorStopped, AskTimeout, Ref, handles
from understudy.actors.observe import (
    INSPECTOR,
    CauseTrace,
    Inspector,
    NotInspectable,
    Shown,
    gather_story,
    get_state,
    remote_trace,
    resume,
    suspend,
    trace,
)
from understudy.actors.remote import PeerLost
from understudy.actors.remote.protocol import CAUSE_CHARACTERS_MAX, Kind, cause_of, pack, pack_caused, parse
from understudy.mailbox import Message, message


@message("test.observe.pass_along")
@frozen
class PassAlong(Message[Working]):
    """Tell the first of the refs to do the same with the others, and the last of them a note."""

    to: tuple[Ref[Working], ...]
    reliably: bool = False


class Passer(Worker):
    """Knows how to reach the other node by reliable streams."""

    def __init__(self, nodes: Pair) -> None:
        super().__init__()
        self.nodes = nodes

    @handles(PassAlong)
    def pass_along(self, message: PassAlong) -> None:
        to, *rest = message.to
        following = PassAlong(tuple(rest)) if rest else Note("end")
        if message.reliably:
            self.nodes.a.peer.reliable(to).tell(following)
        else:
            to.tell(following)


@everywhere
def test_a_cause_is_followed_across_nodes(run: Run) -> None:
    async def story(nodes: Pair) -> None:
        here = nodes.a.system.spawn(lambda: Passer(nodes), "here")
        nodes.b.system.spawn(lambda: Passer(nodes), "there")
        log: list[str] = []
        nodes.a.system.spawn(lambda: Worker(log), "last")
        there = nodes.a.peer.ref("/there", Working)
        last: Ref[Working] = nodes.a.system.ref("/last")
        with CauseTrace.of(nodes.a.system) as a, CauseTrace.of(nodes.b.system) as b:
            nodes.b.system.spawn(lambda: Inspector(b), INSPECTOR)
            with a.story("order 7"):
                here.tell(PassAlong((there, last)))
                here.tell(PassAlong((there, last), reliably=True))
                assert await there.ask(Relay(last)) == 100
            await until(nodes.world, lambda: log == ["end", "end"])
            whole = await gather_story("order 7", a, nodes.a.node)
        assert whole.unseen == ()
        lines = whole.text().splitlines()
        passed = [
            "outside -> alpha:/here: test.observe.pass_along",
            "  alpha:/here -> beta:/there: test.observe.pass_along",
            "    beta:/there -> alpha:/last: test.remote.note",
        ]
        assert lines == [
            *passed,
            *passed,
            "outside -> beta:/there: test.remote.relay",
            "  beta:/there -> alpha:/last: test.remote.add",
        ]

    run(story)


def test_a_story_says_which_nodes_did_not_tell_theirs() -> None:
    async def story(nodes: Pair) -> None:
        with CauseTrace.of(nodes.a.system) as a:
            whole = await gather_story("nothing", a, nodes.a.node)
            assert [name for name, _ in whole.unseen] == ["beta"]
            assert "(not seen: beta: beta cannot be looked into" in whole.text()
            nodes.b.system.spawn(Inspector, INSPECTOR)
            whole = await gather_story("nothing", a, nodes.a.node)
            assert "no causes are traced there" in whole.text()

    simulated(story)


def test_without_a_trace_nothing_is_added_and_with_one_on_one_side_everything_works() -> None:
    async def story(nodes: Pair) -> None:
        log: list[str] = []
        nodes.b.system.spawn(lambda: Worker(log), "worker")
        there = nodes.a.peer.ref("/worker", Working)
        frames: list[list[Any]] = []
        handlers = nodes.b.peer._handlers
        for kind in (Kind.TELLS, Kind.ASK):
            handlers[kind] = lambda frame, handler=handlers[kind]: (frames.append(frame), handler(frame))[1]
        there.tell(Note("plain"))
        await there.ask(Add(1))
        assert [len(frame) for frame in frames] == [4, 5]
        with CauseTrace.of(nodes.a.system) as a, a.story("x" * (CAUSE_CHARACTERS_MAX + 1)):
            there.tell(Note("too long a name stays here"))
        with CauseTrace.of(nodes.a.system) as a, a.story("s"):
            there.tell(Note("traced"))
            await there.ask(Add(1))
        assert [len(frame) for frame in frames] == [4, 5, 4, 5, 6]
        assert [cause_of(frame) for frame in frames[3:]] == [("s", step.step) for step in a.of_story("s")]
        assert log == ["plain", "too long a name stays here", "traced"]

    simulated(story)


@pytest.mark.parametrize("extra", [1, [], ["a"], ["a", 1], ["a", "b" * 201], {"new": 1}])
def test_what_is_no_cause_here_is_a_newer_versions_field(extra: Any) -> None:
    ask = (Kind.ASK, 1, "/a", "", b"")
    assert cause_of(parse(pack(*ask, extra)[4:])) is None
    assert cause_of(parse(pack(*ask)[4:])) is None
    assert cause_of(parse(pack_caused(("a", "b"), *ask)[4:])) == ("a", "b")


@everywhere
def test_a_node_that_permits_it_shows_states_and_lets_actors_be_suspended(run: Run) -> None:
    async def story(nodes: Pair) -> None:
        nodes.b.system.spawn(lambda: Worker(["x"]), "worker")
        there = nodes.a.peer.ref("/worker", Working)
        for look in (get_state, suspend, resume):
            with pytest.raises(NotInspectable, match=r'system.spawn\(Inspector, "inspector"\)'):
                await look(there)
        nodes.b.system.spawn(Inspector, INSPECTOR)
        assert await get_state(there) == {"total": 0, "log": ["x"]}
        await suspend(there)
        there.tell(Note("waits"))
        assert (await get_state(there))["log"] == ["x"]
        with pytest.raises(AskTimeout):
            await there.ask(Add(1), timeout_seconds=0.05)
        await resume(there)
        assert await there.ask(Add(2)) == 2
        assert (await get_state(there))["log"] == ["x", "waits"]
        with pytest.raises(ActorStopped):
            await get_state(nodes.a.peer.ref("/nobody", Working))
        with pytest.raises(NotInspectable, match="not itself"):
            await suspend(nodes.a.peer.ref("/inspector", Working))
        there.tell(Hold(0.5))
        await until(nodes.world, lambda: nodes.b.system.load_of(nodes.b.system.ref("/worker")) > 0)
        with pytest.raises(AskTimeout):
            await get_state(there, timeout_seconds=0.05)

    run(story)


def test_what_cannot_leave_its_node_is_shown_as_it_prints() -> None:
    class Odd(Actor[Working]):
        def __init__(self) -> None:
            self.number = 1
            self.note = Note("n")
            self.live = object()
            self.large = b"x" * 1_000_000

    async def story(nodes: Pair) -> None:
        nodes.b.system.spawn(Odd, "odd")
        nodes.b.system.spawn(Inspector, INSPECTOR)
        state = await get_state(nodes.a.peer.ref("/odd", Working))
        assert (state["number"], state["note"]) == (1, Note("n"))
        assert isinstance(state["live"], Shown) and "object object" in repr(state["live"])
        assert isinstance(state["large"], Shown) and len(state["large"].text) == 1000

    simulated(story)


@everywhere
def test_a_remote_actor_is_traced_as_long_as_somebody_looks(run: Run) -> None:
    async def story(nodes: Pair) -> None:
        nodes.b.system.spawn(Worker, "worker")
        there = nodes.a.peer.ref("/worker", Working)
        with pytest.raises(ValueError, match="remote_trace"), trace(there):
            pass
        with pytest.raises(NotInspectable):
            async with remote_trace(there):
                pass
        nodes.b.system.spawn(Inspector, INSPECTOR)
        async with remote_trace(there) as events:
            assert await there.ask(Add(3)) == 3
            with pytest.raises(ActorFailed):
                await there.ask(Boom())
            await until(nodes.world, lambda: len(events) >= 8)
        assert [(event.kind, event.what) for event in events][:5] == [
            ("handles", "test.remote.add"),
            ("answered", "test.remote.add"),
            ("handles", "test.remote.boom"),
            ("crashed", "test.remote.boom"),
            ("is", "stopping"),
        ]
        assert (events[0].detail, events[1].detail) == (Add(3), 3)
        assert "boom" in repr(events[3].detail)
        await until(nodes.world, lambda: nodes.b.system.probes == [])

    run(story)


def test_a_trace_outlives_neither_its_reader_nor_the_connection() -> None:
    async def story(nodes: Pair) -> None:
        nodes.b.system.spawn(Worker, "worker")
        nodes.b.system.spawn(Inspector, INSPECTOR)
        there = nodes.a.peer.ref("/worker", Working)
        assert nodes.network is not None
        async with remote_trace(there) as events:
            nodes.network.cut("a", "b")
            await until(nodes.world, lambda: nodes.b.system.probes == [])
            assert not events
            await nodes.a.peer.wait(connected=False)
            with pytest.raises(PeerLost):
                async with remote_trace(there):
                    pass

    simulated(story)
