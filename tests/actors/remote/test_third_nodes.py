"""Refs to actors of a third node: they work once that node is a peer, and say so where it is not."""

import pytest

from tests.actors.remote.nodes import QUICK, Add, Itself, Note, Relay, Worker, Working, until
from tests.actors.remote.test_faults import alone
from understudy.actors import SimWorld, World
from understudy.actors.remote import PeerLost, PeerQuarantined, SimNetwork


def test_a_ref_to_a_third_node_works_once_that_is_a_peer() -> None:
    async def main(world: World) -> None:
        network = SimNetwork(world)
        async with (
            alone(world, network, "a", "alpha") as (_, alpha),
            alone(world, network, "b", "beta") as (two, beta),
            alone(world, network, "c", "gamma") as (three, gamma),
        ):
            two.spawn(Worker, "worker")
            three.spawn(Worker, "worker")
            at_beta = (await alpha.connect(beta.address)).ref("/worker", Working)
            at_gamma = (await alpha.connect(gamma.address)).ref("/worker", Working)
            with pytest.raises(PeerLost, match="gamma: it is no peer of this node: connect to it"):
                await at_beta.ask(Relay(at_gamma))
            (known,) = [p for p in [beta.peer_or_stranger(gamma.identity)] if not p.connected]
            held = known.ref("/worker", Working)
            held.tell(Note("nowhere"))
            assert two.dead_letters[-1].reason == "no connection to its node"
            await beta.connect(gamma.address)
            assert await held.ask(Add(1)) == 1, "what was given before works from now on"
            assert await at_beta.ask(Relay(at_gamma)) == 101
            assert await held.ask(Itself()) == held, "and it is the same place"

    SimWorld(seed=1).run(main)


def test_a_ref_to_a_node_in_quarantine_says_so() -> None:
    async def main(world: World) -> None:
        network = SimNetwork(world)
        async with alone(world, network, "a", "alpha") as (_, alpha):
            async with alone(world, network, "b", "beta") as (_, beta):
                await alpha.connect(beta.address)
                gone = beta.identity
            async with alone(world, network, "b", "beta") as (_, beta):
                await until(world, lambda: alpha.peers()[0].identity == beta.identity)
                ref = alpha.peer_or_stranger(gone).ref("/worker", Working)
                with pytest.raises(PeerQuarantined):
                    await ref.ask(Add(1))

    SimWorld(seed=1).run(main)


def test_refs_to_a_node_that_was_forgotten_work_when_it_is_back() -> None:
    limits = QUICK.__class__(silence_seconds_max=1.0, backoff_max_seconds=50.0, forget_seconds=5.0)

    async def main(world: World) -> None:
        network = SimNetwork(world)
        async with (
            alone(world, network, "a", "alpha", limits) as (_, alpha),
            alone(world, network, "b", "beta", limits) as (two, beta),
        ):
            two.spawn(Worker, "worker")
            ref = (await alpha.connect(beta.address)).ref("/worker", Working)
            network.refusing.add("b")
            network.cut("a", "b")
            await until(world, lambda: not alpha.peers())
            with pytest.raises(PeerLost):
                await ref.ask(Add(1))
            network.refusing.clear()
            await alpha.connect(beta.address)
            await until(world, lambda: bool(alpha.peers()) and alpha.peers()[0].connected)
            assert await ref.ask(Add(1)) == 1

    SimWorld(seed=1).run(main)
