"""Death watch across nodes: the same `Terminated`, whoever ends and whatever is lost."""

import pytest

from tests.actors.remote.nodes import (
    QUICK,
    Boom,
    Follow,
    Pair,
    Run,
    Watcher,
    Worker,
    Working,
    everywhere,
    simulated,
    until,
)
from understudy.actors import ActorFailed, Ref, SimWorld, Supervision, Terminated, World
from understudy.actors.remote import PeerLost, Remote, SimNetwork


async def watching(nodes: Pair, path: str) -> tuple[list[Terminated], Ref[Working], Ref[Working]]:
    """What a watcher on `a` hears of an actor of `b`; the watcher, and whom it watches."""
    heard: list[Terminated] = []
    watcher: Ref[Working] = nodes.a.system.spawn(lambda: Watcher(heard), "watcher")
    whom = nodes.a.peer.ref(path, Working)
    await watcher.ask(Follow(whom))
    return heard, watcher, whom


@everywhere
def test_a_watcher_hears_of_every_end(run: Run) -> None:
    async def story(nodes: Pair) -> None:
        worker = nodes.b.system.spawn(
            Worker, "worker", Supervision(backoff_initial_seconds=0.001, backoff_max_seconds=0.001)
        )
        heard, _, whom = await watching(nodes, "/worker")
        await until(nodes.world, lambda: "/worker" in nodes.b.node.watched.by_path)
        with pytest.raises(ActorFailed):
            await whom.ask(Boom())
        await until(nodes.world, lambda: len(heard) == 1)
        assert heard == [Terminated("beta:/worker", 1, "RuntimeError('boom')", False)]
        await until(nodes.world, lambda: nodes.b.system.statistics()[-1].incarnation == 2)
        await nodes.b.system.stop(worker)
        await until(nodes.world, lambda: len(heard) == 2)
        assert heard[1] == Terminated("beta:/worker", 2, None, True)
        assert not nodes.b.node.watched.by_path

    run(story)


@everywhere
def test_whoever_is_not_there_has_ended_already(run: Run) -> None:
    async def story(nodes: Pair) -> None:
        heard, _, _ = await watching(nodes, "/nobody")
        await until(nodes.world, lambda: len(heard) == 1)
        assert heard == [Terminated("beta:/nobody", 0, None, True)]

    run(story)


@everywhere
def test_an_unwatched_end_is_not_heard_of(run: Run) -> None:
    async def story(nodes: Pair) -> None:
        worker = nodes.b.system.spawn(Worker, "worker")
        heard, watcher, whom = await watching(nodes, "/worker")
        await until(nodes.world, lambda: "/worker" in nodes.b.node.watched.by_path)
        await watcher.ask(Follow(whom, leave=True))
        await until(nodes.world, lambda: not nodes.b.node.watched.by_path)
        await nodes.b.system.stop(worker)
        await nodes.world.sleep(0.02)
        assert heard == []

    run(story)


def test_a_lost_connection_ends_whom_one_watches_and_the_reason_says_so() -> None:
    async def story(nodes: Pair) -> None:
        nodes.b.system.spawn(Worker, "worker")
        heard, watcher, whom = await watching(nodes, "/worker")
        await nodes.world.sleep(0.01)
        assert nodes.network is not None
        nodes.network.cut("a", "b")
        await until(nodes.world, lambda: len(heard) == 1)
        assert heard[0].final and heard[0].reason == "connection lost: the connection was reset"
        assert not nodes.b.node.watched.by_path, "the other side forgets it, too"
        await nodes.a.peer.wait(connected=True)
        await watcher.ask(Follow(whom))
        await until(nodes.world, lambda: "/worker" in nodes.b.node.watched.by_path)
        await nodes.b.system.stop(nodes.b.system.ref("/worker"))
        await until(nodes.world, lambda: len(heard) == 2)
        assert heard[1] == Terminated("beta:/worker", 1, None, True), "and may be watched again"

    simulated(story)


def test_silence_ends_whom_one_watches_within_the_deadline() -> None:
    async def story(nodes: Pair) -> None:
        nodes.b.system.spawn(Worker, "worker")
        heard, _, _ = await watching(nodes, "/worker")
        assert nodes.network is not None
        nodes.network.silence("b", "a")
        await nodes.world.sleep(2 * QUICK.silence_seconds_max)
        assert heard[0].reason is not None and "nothing was heard" in heard[0].reason

    simulated(story)


def test_a_watchers_own_end_undoes_its_watches() -> None:
    async def story(nodes: Pair) -> None:
        nodes.b.system.spawn(Worker, "worker")
        _, watcher, _ = await watching(nodes, "/worker")
        await until(nodes.world, lambda: "/worker" in nodes.b.node.watched.by_path)
        await nodes.a.system.stop(watcher)
        await until(nodes.world, lambda: not nodes.b.node.watched.by_path)

    simulated(story)


def test_a_watch_agent_that_was_restarted_still_watches() -> None:
    async def story(nodes: Pair) -> None:
        worker = nodes.b.system.spawn(Worker, "worker")
        heard, _, _ = await watching(nodes, "/worker")
        await nodes.world.sleep(0.01)
        nodes.b.system.crash(nodes.b.system.ref("/remote-beta"), RuntimeError("on purpose"))
        await nodes.world.sleep(1.0)
        await nodes.b.system.stop(worker)
        await until(nodes.world, lambda: len(heard) == 1)

    simulated(story)


def test_simulated_hosts_of_one_system_pass_remote_refs_on() -> None:
    async def main(world: World) -> None:
        from tests.actors.remote.nodes import Add, Relay
        from understudy.actors import ActorSystem

        network = SimNetwork(world)
        async with (
            ActorSystem.open(world) as one,
            ActorSystem.open(world) as two,
            Remote.listen(one, "sim:a", name="alpha", transport=network.at("a")) as alpha,
            Remote.listen(two, "sim:b", name="beta", transport=network.at("b")) as beta,
        ):
            two.spawn(Worker, "worker")
            relay: Ref[Working] = one.spawn(Worker, "relay", host="elsewhere")
            there = (await alpha.connect(beta.address)).ref("/worker", Working)
            assert await relay.ask(Relay(there)) == 100
            assert await there.ask(Add(1)) == 101
            network.cut("a", "b")
            try:
                await relay.ask(Relay(there))
            except PeerLost as lost:
                assert lost.node == "beta"

    SimWorld().run(main)
