"""What a newcomer does wrong is said where it is done, with what to do instead."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
from attrs import frozen

from understudy.actors import (
    TEMPORARY,
    Actor,
    ActorFailed,
    ActorSystem,
    Group,
    RealWorld,
    Ref,
    Supervision,
    World,
    handles,
)
from understudy.actors.testkit import settle
from understudy.mailbox import Mailbox, Message, Request, message

from .runs import in_simulation


class Shop:
    """Protocol of the test."""


@message("mistakes.sell")
@frozen
class Sell(Request[Shop, int]):
    price: int = 1


@message("mistakes.close")
@frozen
class Close(Message[Shop]):
    pass


class Till(Actor[Shop]):
    @handles(Sell)
    def sell(self, message: Sell) -> int:
        return message.price


def twice() -> None:
    class Two(Till):
        @handles(Close)
        def close(self, message: Close) -> None: ...

        @handles(Close)
        def shut(self, message: Close) -> None: ...


def hook() -> None:
    class Forgetful(Actor[Shop]):
        def on_start(self) -> None:  # type: ignore[override]
            ...


def not_async() -> None:
    class Sync(Actor[Shop]):
        @handles(Sell, concurrent=True)
        def sell(self, message: Sell) -> int:
            return 1


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (twice, r"Two\.shut and \.close both handle Close: name a behaviour with `when`, or leave one out"),
        (hook, r"Forgetful\.on_start is awaited: make it `async def`"),
        (not_async, r"Sync\.sell is concurrent: make it async"),
        (lambda: handles(Sell()), r"@handles takes a message's class, not Sell\(price=1\)"),  # type: ignore[call-overload]
        (lambda: handles(Sell, concurrent=0)(_sell), "at least one call at a time, not 0"),
        (lambda: handles(Sell, concurrent=-1)(_sell), "at least one call at a time, not -1"),
        (lambda: Mailbox(0), "at least one message, not 0"),
        (lambda: Supervision(restarts_max=-1), "at most -1 restarts within 30 s"),
        (lambda: Supervision(within_seconds=0.0), "at most 5 restarts within 0 s"),
        (lambda: Supervision(stop_seconds=-1.0), "a wait is not below 0 s"),
        (lambda: Supervision(backoff_initial_seconds=-1.0), "a wait is not below 0 s"),
        (lambda: Group(restarts_max=-1), "at most -1 restarts"),
    ],
)
def test_what_is_no_actor_is_said_at_once(mistake: Callable[[], Any], says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        mistake()


async def _sell(self: Till, message: Sell) -> int:
    return 1


def in_system(scenario: Callable[[ActorSystem], Any]) -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            await scenario(system)

    in_simulation(main)


def test_a_factory_is_wanted_and_room() -> None:
    async def scenario(system: ActorSystem) -> None:
        with pytest.raises(TypeError, match="/till: spawn takes a factory, not an actor; each restart makes"):
            system.spawn(Till(), "till")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="a mailbox holds at least one message, not 0"):
            system.spawn(Till, "till", capacity=0)
        with pytest.raises(ValueError, match="a channel holds at least one item, not 0"):
            system.channel("numbers", capacity=0)
        system.spawn(Till, "till")

    in_system(scenario)


@pytest.mark.parametrize("what", ["context", "world"])
def test_a_context_comes_after_the_constructor(what: str) -> None:
    class Early(Actor[Shop]):
        def __init__(self) -> None:
            getattr(self, what)

    with pytest.raises(AttributeError, match=f"no attribute '{what}' yet: actors have it from on_start on"):
        Early()


@pytest.mark.parametrize(("delay", "every"), [(-1.0, None), (0.0, 0.0), (1.0, -2.0)])
def test_a_timer_goes_off_later(delay: float, every: float | None) -> None:
    errors: list[str] = []

    class Hasty(Actor[Shop]):
        async def on_start(self) -> None:
            with pytest.raises(ValueError, match="/hasty timer 'tick': a delay is 0 or more") as info:
                self.context.set_timer("tick", delay, Close(), every_seconds=every)
            errors.append(str(info.value))

    async def scenario(system: ActorSystem) -> None:
        system.spawn(Hasty, "hasty", TEMPORARY)
        await settle(system.world)

    in_system(scenario)
    assert len(errors) == 1


async def test_after_its_end_a_system_says_so() -> None:
    async with RealWorld.open() as world:
        async with ActorSystem.open(world) as system:
            till: Ref[Shop] = system.spawn(Till, "till")
        with pytest.raises(RuntimeError, match="/late: the actor system has ended"):
            system.spawn(Till, "late")
        till.tell(Close())
        assert system.dead_letters[-1].reason == "no such actor"
        await trio.lowlevel.checkpoint()


def test_errors_of_messages_say_what_happened_in_words() -> None:
    async def scenario(system: ActorSystem) -> None:
        from understudy.actors import ActorStopped, AskTimeout, Unhandled

        class Slow(Actor[Shop]):
            @handles(Sell)
            async def sell(self, message: Sell) -> int:
                await self.world.sleep(100.0)
                return 1

        till: Ref[Shop] = system.spawn(Till, "till")
        slow: Ref[Shop] = system.spawn(Slow, "slow", TEMPORARY)
        with pytest.raises(Unhandled, match=r"/till has no handler for mistakes\.close: is one of"):
            await till.ask(Close())  # type: ignore[arg-type]
        with pytest.raises(ActorStopped, match="there is no actor /nobody, or it has ended"):
            await system.ref("/nobody").ask(Sell())
        with pytest.raises(AskTimeout, match=r"/slow did not answer mistakes\.sell within 0\.5 s"):
            await slow.ask(Sell(), 0.5)

    in_system(scenario)


async def test_where_an_actor_crashed_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Actor[Shop]):
        @handles(Sell)
        def sell(self, message: Sell) -> int:
            return {"price": 1}["prize"]

    async with RealWorld.open() as world, ActorSystem.open(world) as system:
        broken: Ref[Shop] = system.spawn(Broken, "broken", TEMPORARY)
        with pytest.raises(ActorFailed, match=r"/broken crashed on this message: KeyError\('prize'\)"):
            await broken.ask(Sell())
        await system.stop(broken)
    assert "actor /broken crashed" in caplog.text
    assert 'return {"price": 1}["prize"]' in caplog.text, "the line that raised it"
