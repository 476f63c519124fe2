"""The registry: who is found under a key, by whom, and until when."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.actors import (
    TEMPORARY,
    Actor,
    ActorSystem,
    Key,
    Listing,
    NotRegistered,
    Ref,
    Routing,
    Shuffled,
    SimWorld,
    Supervision,
    World,
    handles,
    registered_pool,
)
from understudy.actors.observe import resume, suspend
from understudy.mailbox import Message, Request, message

from .runs import Run, both, until


class Selling:
    """Protocol of tills."""


class Looking:
    """Protocol of who looks for tills."""


@message("test.registry.sell")
@frozen
class Sell(Request[Selling, str]):
    """Answered with the till's path."""


@message("test.registry.crash")
@frozen
class Crash(Message[Selling]):
    pass


@message("test.registry.close")
@frozen
class Close(Message[Selling]):
    """Be found no longer."""


@message("test.registry.open")
@frozen
class Open(Message[Selling]):
    pass


@message("test.registry.busy")
@frozen
class Busy(Message[Looking]):
    seconds: float
    crashes: bool = False


@message("test.registry.ignore")
@frozen
class Ignore(Message[Looking]):
    """Hear no more of tills."""


@message("test.registry.sell_somewhere")
@frozen
class SellSomewhere(Request[Looking, str]):
    pass


TILLS = Key(Selling, "tills")
OTHERS = Key(Selling, "others")


class Till(Actor[Selling]):
    async def on_start(self) -> None:
        self.context.register(TILLS)

    @handles(Sell)
    def sell(self, _: Sell) -> str:
        return self.context.path

    @handles(Crash)
    def crash(self, _: Crash) -> None:
        raise RuntimeError("crash")

    @handles(Close)
    def close(self, _: Close) -> None:
        self.context.unregister(TILLS)

    @handles(Open)
    def open(self, _: Open) -> None:
        self.context.register(TILLS)


class Looker(Actor[Looking]):
    def __init__(self, heard: list[tuple[str, ...]]) -> None:
        self.heard = heard

    async def on_start(self) -> None:
        self.context.subscribe(TILLS)
        self.pool = registered_pool(self.context, TILLS, Routing.ROUND_ROBIN)

    @handles(Listing)
    def listed(self, listing: Listing) -> None:
        self.heard.append(paths(listing.of(TILLS)))

    @handles(Busy)
    async def busy(self, busy: Busy) -> None:
        await self.world.sleep(busy.seconds)
        if busy.crashes:
            raise RuntimeError("crash")

    @handles(Ignore)
    def ignore(self, _: Ignore) -> None:
        self.context.unsubscribe(TILLS)

    @handles(SellSomewhere)
    async def sell_somewhere(self, _: SellSomewhere) -> str:
        return await self.pool.ask(Sell())


FAST = Supervision(backoff_initial_seconds=0.001)


def paths(refs: tuple[Ref[Selling], ...]) -> tuple[str, ...]:
    return tuple(ref.path for ref in refs)


def in_system(body: Callable[[World, ActorSystem], Any]) -> Callable[[World], Any]:
    async def main(world: World) -> Any:
        async with ActorSystem.open(world) as system:
            return await body(world, system)

    return main


@both
def test_actors_are_found_until_they_have_ended(run: Run) -> None:
    async def body(world: World, system: ActorSystem) -> None:
        assert system.registry.find(TILLS) is None
        refs: list[Ref[Selling]] = []
        for name in ("a", "b", "c"):
            refs.append(system.spawn(Till, name, FAST))
            await world.sleep(0.01)
        oldest = system.registry.find(TILLS)
        assert oldest is not None
        assert await oldest.ask(Sell()) == "/a"
        assert paths(system.registry.find_all(TILLS)) == ("/a", "/b", "/c")
        assert system.registry.find_all(OTHERS) == (), "another key of the same protocol"
        refs[0].tell(Crash())
        await world.sleep(0.02)
        assert paths(system.registry.find_all(TILLS)) == ("/a", "/b", "/c"), "a restart keeps the entry"
        refs[1].tell(Close())
        await system.stop(refs[0])
        await world.sleep(0.01)
        assert paths(system.registry.find_all(TILLS)) == ("/c",)
        system.spawn(Till, "a", FAST)
        await world.sleep(0.01)
        assert paths(system.registry.find_all(TILLS)) == ("/c", "/a"), "a new actor is a new entry"

    run(in_system(body))


@both
def test_an_actor_that_crashed_for_good_is_not_found(run: Run) -> None:
    async def body(world: World, system: ActorSystem) -> None:
        ref: Ref[Selling] = system.spawn(Till, "a", TEMPORARY)
        assert await system.registry.wait_for(TILLS) == ref
        ref.tell(Crash())
        await world.sleep(0.01)
        assert system.registry.find(TILLS) is None

    run(in_system(body))


@both
def test_one_waits_for_somebody_with_a_deadline(run: Run) -> None:
    async def body(world: World, system: ActorSystem) -> None:
        async def later() -> None:
            await world.sleep(0.05)
            system.spawn(Till, "a")

        with pytest.raises(NotRegistered, match="tills"):
            await system.registry.wait_for(TILLS, 0.01)
        async with world.nursery() as nursery:
            nursery.start_soon(later)
            assert (await system.registry.wait_for(TILLS, 5.0)).path == "/a"
        assert (await system.registry.wait_for(TILLS, 0.0)).path == "/a"

    run(in_system(body))


@both
def test_a_task_reads_listings_the_newest_only(run: Run) -> None:
    async def body(world: World, system: ActorSystem) -> list[tuple[str, ...]]:
        seen = []
        with system.registry.subscribe(TILLS) as listings:
            async for refs in listings:
                seen.append(paths(refs))
                if len(seen) == 3:
                    break
                if len(seen) == 1:
                    system.spawn(Till, "a")
                else:
                    for name in ("b", "c"):
                        system.spawn(Till, name)
                        await world.sleep(0.01)
        return seen

    assert run(in_system(body)) == [(), ("/a",), ("/a", "/b", "/c")]


@both
def test_an_actor_is_told_and_a_slow_one_only_the_newest(run: Run) -> None:
    heard: list[tuple[str, ...]] = []

    async def body(world: World, system: ActorSystem) -> int:
        system.spawn(Till, "a")
        await until(world, lambda: len(system.registry.find_all(TILLS)) == 1)
        looker: Ref[Looking] = system.spawn(lambda: Looker(heard), "looker", FAST)
        await until(world, lambda: bool(heard))
        assert heard == [("/a",)], "what is so is told at once"
        await suspend(looker)
        for number in range(50):
            await system.stop(system.spawn(Till, "b"))
            await world.sleep(0.0005)
            system.spawn(Till, f"c{number}")
        await until(world, lambda: len(system.registry.find_all(TILLS)) == 51)
        await resume(looker)
        await until(world, lambda: len(heard) > 1)
        await world.sleep(0.02)
        assert len(heard) == 2, "one notice waited"
        looker.tell(Ignore())
        await world.sleep(0.01)
        system.spawn(Till, "d")
        await world.sleep(0.01)
        return len(heard)

    assert run(in_system(body)) == 2
    assert heard[-1] == ("/a", *[f"/c{n}" for n in range(50)])


@both
def test_a_subscription_ends_with_its_incarnation(run: Run) -> None:
    heard: list[tuple[str, ...]] = []

    async def body(world: World, system: ActorSystem) -> None:
        looker: Ref[Looking] = system.spawn(lambda: Looker(heard), "looker", FAST)
        await world.sleep(0.01)
        looker.tell(Busy(0.02, crashes=True))
        await world.sleep(0.01)
        system.spawn(Till, "a")
        await world.sleep(0.2)
        assert heard == [(), ("/a",)], "the next incarnation's own, once"
        await system.stop(looker)
        assert system.registry._entries["tests.actors.test_registry.Selling tills"].subscribers == {}

    run(in_system(body))


@both
def test_a_pool_of_who_is_registered(run: Run) -> None:
    async def body(world: World, system: ActorSystem) -> None:
        looker: Ref[Looking] = system.spawn(lambda: Looker([]), "looker")
        with pytest.raises(NotRegistered):
            await looker.ask(SellSomewhere())
        tills = [system.spawn(Till, name) for name in ("a", "b")]
        await world.sleep(0.01)
        sold = [await looker.ask(SellSomewhere()) for _ in range(4)]
        assert sold == [*paths(system.registry.find_all(TILLS))] * 2
        system.spawn(Till, "c")
        await system.stop(tills[0])
        await world.sleep(0.01)
        assert [await looker.ask(SellSomewhere()) for _ in range(4)] == ["/b", "/c", "/b", "/c"], (
            "they come and go"
        )

    run(in_system(body))


# -- between hosts


def at_hosts(body: Callable[[SimWorld, ActorSystem, Ref[Looking]], Any], heard: list[tuple[str, ...]]) -> Any:
    world = SimWorld(seed=1)

    async def main(_: World) -> Any:
        async with ActorSystem.open(world) as system:
            system.spawn(Till, "a", host="left")
            looker: Ref[Looking] = system.spawn(lambda: Looker(heard), "looker", host="right")
            await world.sleep(0.1)
            system.spawn(Till, "b", host="right")
            await world.sleep(0.1)
            return await body(world, system, looker)

    return world.run(main)


def test_other_hosts_hear_of_entries() -> None:
    heard: list[tuple[str, ...]] = []

    async def body(world: SimWorld, system: ActorSystem, looker: Ref[Looking]) -> None:
        assert heard[-1] == ("/a", "/b")
        await system.stop(system.ref("/a"))
        await world.sleep(0.1)
        assert heard[-1] == ("/b",)
        assert paths(system.registry.find_all(TILLS)) == ()
        await world.sleep(0.1)
        assert paths(system.registry.find_all(TILLS)) == ("/b",), "outside is a host that follows, too"

    at_hosts(body, heard)


def test_when_hosts_part_each_knows_its_own_until_they_meet_again() -> None:
    heard: list[tuple[str, ...]] = []

    async def body(world: SimWorld, system: ActorSystem, looker: Ref[Looking]) -> None:
        world.network.partition(["left"], ["right"])
        system.ref("/a").tell(Close())
        await world.sleep(5.0)
        assert heard[-1] == ("/a", "/b"), "not known yet"
        await world.sleep(10.0)
        assert heard[-1] == ("/b",)
        system.ref("/a").tell(Open())
        system.spawn(Till, "c", host="left")
        await world.sleep(100.0)
        assert heard[-1] == ("/b",)
        world.network.heal()
        await world.sleep(15.0)
        assert sorted(heard[-1]) == ["/a", "/b", "/c"]
        await system.stop(system.ref("/c"))
        await world.sleep(0.1)
        assert heard[-1] == ("/b", "/a")

    at_hosts(body, heard)


def test_a_host_that_crashed_registers_anew() -> None:
    heard: list[tuple[str, ...]] = []

    async def body(world: SimWorld, system: ActorSystem, looker: Ref[Looking]) -> None:
        world.host("left").crash()
        await world.sleep(15.0)
        assert heard[-1] == ("/b",)
        world.host("left").restart()
        await world.sleep(1.0)
        assert heard[-1] == ("/b", "/a")
        world.host("left").crash()
        world.host("left").restart()
        await world.sleep(1.0)
        assert heard[-1] == ("/b", "/a")
        assert all(one != other for one, other in pairwise(heard)), "only changes are told"

    at_hosts(body, heard)


# -- the laws, whatever happens

ACTS = st.lists(
    st.tuples(
        st.sampled_from(["start", "start", "stop", "crash", "close", "open", "part", "heal", "busy"]),
        st.integers(0, 3),
        st.sampled_from([0.0, 0.001, 0.02, 12.0]),
    ),
    max_size=14,
)


@settings(max_examples=80, deadline=None)
@given(ACTS, st.booleans(), st.integers(0, 1000))
def test_the_laws_of_the_registry(acts: list[tuple[str, int, float]], apart: bool, schedule: int) -> None:
    """Once it is quiet, everybody knows exactly who lives and is registered, and was told so last."""
    heard: dict[str, list[tuple[str, ...]]] = {"left": [], "right": []}
    world = SimWorld(seed=1, schedule=Shuffled(schedule))

    async def main(_: World) -> tuple[Any, ...]:
        policy = Supervision(restarts_max=100, backoff_initial_seconds=0.001)
        open_: dict[str, bool] = {}
        async with ActorSystem.open(world) as system:

            def host(number: int) -> str:
                return "left" if number % 2 or not apart else "right"

            for number, name in enumerate(("right", "left")):
                log = heard[name]
                system.spawn(lambda log=log: Looker(log), name, policy, host=host(number))  # type: ignore[misc]
            await world.sleep(0.1)
            for what, number, pause in acts:
                path = f"/till-{number}"
                ref: Ref[Selling] = system.ref(path)
                if what == "start" and not system.is_alive(ref):
                    system.spawn(Till, path[1:], policy, host=host(number))
                    open_[path] = True
                    await world.sleep(0.01)
                elif what == "stop":
                    await system.stop(ref)
                    open_.pop(path, None)
                elif what == "crash":
                    ref.tell(Crash())
                elif what in ("close", "open") and path in open_:
                    ref.tell(Close() if what == "close" else Open())
                elif what == "part":
                    world.network.partition(["left"], ["right"])
                elif what == "heal":
                    world.network.heal()
                elif what == "busy":
                    system.ref("/left").tell(Busy(0.005, crashes=bool(number % 2)))
                await world.sleep(pause)
            world.network.heal()
            await world.sleep(60.0)
            known = {name: sorted(paths(system._registries.at(name).find_all(TILLS))) for name in heard}
            alive = [s.path for s in system.statistics() if s.path.startswith("/till")]
            told = {name: list(listings) for name, listings in heard.items()}
            return known, alive, open_, told

    known, alive, open_, told = world.run(main)
    hosts = ("left", "right") if apart else ("left",)
    assert sorted(open_) == alive
    for host in hosts:
        assert set(known[host]) <= set(alive), "nobody who has ended"
        assert known[host] == known[hosts[0]], "all know the same"
    for name in ("left", "right"):
        own = known[name if apart else "left"]
        assert sorted(told[name][-1]) == own, "who subscribed was told what is so"
        assert all(len(set(listing)) == len(listing) for listing in told[name]), "each once"
