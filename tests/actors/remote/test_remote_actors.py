"""What an actor author relies on when an actor is on another node, over every kind of network."""

import pytest

from tests.actors.remote.nodes import (
    QUICK,
    Add,
    Boom,
    Count,
    Hold,
    Itself,
    No,
    Note,
    Notes,
    Pair,
    Refuse,
    Relay,
    Run,
    Work,
    Worker,
    Working,
    collect,
    everywhere,
    until,
)
from understudy.actors import ActorFailed, ActorStopped, AskTimeout, Ref
from understudy.actors.ref import SendTimeout
from understudy.mailbox import CodecError, MailboxFull, Message


@everywhere
def test_an_ask_is_answered_and_messages_keep_their_order(run: Run) -> None:
    async def story(nodes: Pair) -> None:
        nodes.b.system.spawn(Worker, "worker")
        ref = nodes.a.peer.ref("/worker", Working)
        for number in range(200):
            ref.tell(Note(str(number)))
        assert await ref.ask(Add(7)) == 7
        assert await ref.ask(Notes()) == [str(number) for number in range(200)]

    run(story)


@everywhere
def test_refs_in_messages_work_in_both_directions(run: Run) -> None:
    async def story(nodes: Pair) -> None:
        nodes.b.system.spawn(Worker, "worker")
        here = nodes.a.system.spawn(Worker, "here")
        there = nodes.a.peer.ref("/worker", Working)
        assert await there.ask(Relay(here)) == 100, "a ref of ours, used there"
        assert await there.ask(Relay(there)) == 100, "a ref of theirs, which is their own"
        assert await here.ask(Add(0)) == 100
        back: Ref[Working] = await there.ask(Itself())
        assert back == there
        assert await back.ask(Add(1)) == 101
        mine = await nodes.b.peer.ref("/here", Working).ask(Add(2))
        assert mine == 102, "the called node asks the caller"

    run(story)


@everywhere
def test_refusals_crashes_and_absence_reach_the_asker(run: Run) -> None:
    async def story(nodes: Pair) -> None:
        worker = nodes.b.system.spawn(Worker, "worker")
        ref = nodes.a.peer.ref("/worker", Working)
        with pytest.raises(No, match="not today"):
            await ref.ask(Refuse())
        with pytest.raises(ActorFailed, match="boom"):
            await ref.ask(Boom())
        assert await ref.ask(Add(1)) == 1, "a path follows the actor through restarts"
        await nodes.b.system.stop(worker)
        with pytest.raises(ActorStopped):
            await ref.ask(Add(1))

    run(story)


@everywhere
def test_a_deadline_cancels_the_work_over_there(run: Run) -> None:
    async def story(nodes: Pair) -> None:
        log: list[str] = []
        nodes.b.system.spawn(lambda: Worker(log), "worker")
        ref = nodes.a.peer.ref("/worker", Working)
        with pytest.raises(AskTimeout):
            await ref.ask(Work(100.0), timeout_seconds=0.05)
        await until(nodes.world, lambda: log == ["working", "cancelled"])
        assert await ref.ask(Work(0.001)) == "done"

    run(story)


@everywhere
def test_the_death_of_the_asker_cancels_the_work_over_there(run: Run) -> None:
    async def story(nodes: Pair) -> None:
        log: list[str] = []
        nodes.b.system.spawn(lambda: Worker(log), "worker")
        ref = nodes.a.peer.ref("/worker", Working)
        async with nodes.world.nursery() as nursery:
            nursery.start_soon(ref.ask, Work(100.0))
            await until(nodes.world, lambda: log == ["working"])
            nursery.cancel()
        await until(nodes.world, lambda: log == ["working", "cancelled"])

    run(story)


@everywhere
def test_a_slow_actor_holds_up_its_own_senders_only(run: Run) -> None:
    async def story(nodes: Pair) -> None:
        log: list[str] = []
        nodes.b.system.spawn(lambda: Worker(log), "slow", capacity=4)
        nodes.b.system.spawn(Worker, "quick")
        slow, quick = (nodes.a.peer.ref(path, Working) for path in ("/slow", "/quick"))
        slow.tell(Hold(0.2))
        window = nodes.b.node.limits.window
        with pytest.raises(MailboxFull):
            for number in range(3 * window):
                slow.tell(Note(str(number)))
        assert await quick.ask(Add(1), timeout_seconds=0.15) == 1, "its neighbour answers meanwhile"
        await until(nodes.world, lambda: len(log) == 2 * window - 1)
        assert log == [str(number) for number in range(2 * window - 1)], "and nothing is lost or overtaken"
        assert nodes.b.system.dead_letter_count == 0

    run(story)


@everywhere
def test_a_sender_can_wait_for_room(run: Run) -> None:
    async def story(nodes: Pair) -> None:
        log: list[str] = []
        nodes.b.system.spawn(lambda: Worker(log), "worker", capacity=8)
        ref = nodes.a.peer.ref("/worker", Working)
        count = 5 * nodes.b.node.limits.window
        for number in range(count):
            await ref.send(Note(str(number)))
        await until(nodes.world, lambda: len(log) == count)
        assert log == [str(number) for number in range(count)]
        ref.tell(Hold(1.0))
        with pytest.raises(SendTimeout):
            for _ in range(3 * nodes.b.node.limits.window):
                await ref.send(Note("late"), timeout_seconds=0.05)

    run(story)


@everywhere
def test_those_who_wait_for_room_come_in_in_order_and_whoever_gives_up_leaves_no_message(run: Run) -> None:
    async def story(nodes: Pair) -> None:
        log: list[str] = []
        nodes.b.system.spawn(lambda: Worker(log), "worker")
        ref, window = nodes.a.peer.ref("/worker", Working), nodes.b.node.limits.window
        ref.tell(Hold(0.2))
        for number in range(2 * window - 1):
            ref.tell(Note(str(number)))
        line = nodes.a.peer.outbound._target(ref).line

        async def send(name: str, timeout_seconds: float = 5.0) -> None:
            await ref.send(Note(name), timeout_seconds)

        async with nodes.world.nursery() as nursery, nodes.world.nursery() as cancelled:
            for position, name in enumerate("abcdef"):
                (cancelled if name == "c" else nursery).start_soon(send, name)
                await until(nodes.world, lambda position=position: len(line) == position + 1)
            with pytest.raises(SendTimeout):
                await send("late", 0.01)
            cancelled.cancel()
        await until(nodes.world, lambda: log[-1:] == ["f"])
        assert log[-5:] == ["a", "b", "d", "e", "f"]
        assert not line and nodes.a.system.dead_letter_count == 0

    run(story, QUICK.__class__(silence_seconds_max=1.0, window=16))


@everywhere
def test_a_channel_goes_through(run: Run) -> None:
    async def story(nodes: Pair) -> None:
        log: list[str] = []
        nodes.b.system.spawn(lambda: Worker(log), "worker")
        ref = nodes.a.peer.ref("/worker", Working)
        writer, reader = nodes.a.system.channel("numbers", capacity=4)
        await ref.ask(Count(50, writer))
        await until(nodes.world, lambda: log[-1:] == ["sent 3"])
        await nodes.world.sleep(0.01)
        assert log[-1] == "sent 3", "no further than its credits"
        assert await collect(reader) == list(range(50))

    run(story)


@everywhere
def test_a_writer_learns_that_nobody_reads(run: Run) -> None:
    async def story(nodes: Pair) -> None:
        log: list[str] = []
        nodes.b.system.spawn(lambda: Worker(log), "worker")
        ref = nodes.a.peer.ref("/worker", Working)
        writer, reader = nodes.a.system.channel("numbers", capacity=4)
        await ref.ask(Count(1000, writer))
        assert await reader.receive() == 0
        reader.cancel()
        with pytest.raises(ActorFailed):
            await until(nodes.world, lambda: nodes.b.system.statistics()[-1].restarts == 1)
            raise ActorFailed("/worker", "its writing task met ChannelClosed")

    run(story)


@everywhere
def test_what_has_no_wire_form_is_the_senders_error(run: Run) -> None:
    class Unregistered(Message[Working]):
        pass

    async def story(nodes: Pair) -> None:
        nodes.b.system.spawn(Worker, "worker")
        ref = nodes.a.peer.ref("/worker", Working)
        with pytest.raises(CodecError):
            ref.tell(Unregistered())
        with pytest.raises(CodecError, match="reads up to"):
            ref.tell(Note("x", "y" * (16 << 20)))
        assert await ref.ask(Add(1)) == 1, "and nothing else is harmed"

    run(story)
