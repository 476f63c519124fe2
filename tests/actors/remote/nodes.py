"""Two nodes that meet: the actors they run, and the networks over which every scenario is told."""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, evolve, field, frozen

from tests.actors.runs import HANG_SECONDS
from tests.actors.runs import until as until
from understudy.actors import (
    Actor,
    ActorSystem,
    ChannelReader,
    ChannelWriter,
    Context,
    RealWorld,
    Ref,
    SimWorld,
    Terminated,
    World,
    handles,
)
from understudy.actors.remote import Limits, Network, Peer, Remote, SimNetwork
from understudy.actors.remote.link import Link
from understudy.mailbox import Message, Refusal, Request, message


class Working:
    """Protocol of the actor that is spoken to across nodes."""


@message("test.remote.add")
@frozen
class Add(Request[Working, int]):
    amount: int


@message("test.remote.note")
@frozen
class Note(Message[Working]):
    text: str
    padding: str = ""


@message("test.remote.notes")
@frozen
class Notes(Request[Working, list[str]]):
    pass


@message("test.remote.work")
@frozen
class Work(Request[Working, str]):
    seconds: float


@message("test.remote.hold")
@frozen
class Hold(Request[Working, None]):
    """Handled in the actor's own task, so that everything behind it waits."""

    seconds: float


@message("test.remote.boom")
@frozen
class Boom(Request[Working, None]):
    pass


@message("test.remote.refuse")
@frozen
class Refuse(Request[Working, None]):
    pass


@message("test.remote.no")
@frozen
class No(Refusal):
    why: str


@message("test.remote.count")
@frozen
class Count(Request[Working, None]):
    up_to: int
    to: ChannelWriter[int]


@message("test.remote.relay")
@frozen
class Relay(Request[Working, int]):
    to: Ref[Working]


@message("test.remote.itself")
@frozen
class Itself(Request[Working, Ref[Working]]):
    pass


class Worker(Actor[Working]):
    """Does what it is told, and remembers it."""

    def __init__(self, log: list[str] | None = None) -> None:
        self.total = 0
        self.log: list[str] = [] if log is None else log

    @handles(Add)
    def add(self, message: Add) -> int:
        self.total += message.amount
        return self.total

    @handles(Note)
    def note(self, message: Note) -> None:
        self.log.append(message.text)

    @handles(Notes)
    def notes(self, message: Notes) -> list[str]:
        return list(self.log)

    @handles(Work, concurrent=True)
    async def work(self, message: Work) -> str:
        self.log.append("working")
        try:
            await self.world.sleep(message.seconds)
        except BaseException:
            self.log.append("cancelled")
            raise
        return "done"

    @handles(Hold)
    async def hold(self, message: Hold) -> None:
        await self.world.sleep(message.seconds)

    @handles(Boom)
    def boom(self, message: Boom) -> None:
        raise RuntimeError("boom")

    @handles(Refuse)
    def refuse(self, message: Refuse) -> None:
        raise No("not today")

    @handles(Count)
    def count(self, message: Count) -> None:
        self.context.adopt(message.to)
        self.context.start_soon(self.write, message)

    async def write(self, message: Count) -> None:
        for number in range(message.up_to):
            await message.to.send(number)
            self.log.append(f"sent {number}")
        message.to.close()

    @handles(Relay, concurrent=True)
    async def relay(self, message: Relay) -> int:
        return await message.to.ask(Add(100))

    @handles(Itself)
    def itself(self, message: Itself) -> Ref[Working]:
        return self.context.self


@message("test.remote.follow")
@frozen
class Follow(Request[Working, None]):
    whom: Ref[Working]
    leave: bool = False


class Watcher(Actor[Working]):
    """Watches whom it is told to."""

    def __init__(self, heard: list[Terminated]) -> None:
        self.heard = heard

    context: Context[Working]

    @handles(Follow)
    def follow(self, message: Follow) -> None:
        if message.leave:
            self.context.unwatch(message.whom)
        else:
            self.context.watch(message.whom)

    @handles(Terminated)
    def terminated(self, message: Terminated) -> None:
        self.heard.append(message)


@define
class Side:
    """One of two nodes."""

    system: ActorSystem
    node: Remote
    peer: Peer
    """The other node."""


@define
class Pair:
    """Two nodes that are connected: `a` has called `b`."""

    world: World
    a: Side
    b: Side
    network: SimNetwork | None
    """None where the network is real."""
    strangers: list[Link] = field(factory=list)
    """Closed at the end, however the story ends: an open socket that is forgotten fails another test."""

    async def stranger(self) -> Link:
        """A connection to `b` of somebody who is no node."""
        transport = Network() if self.network is None else self.network.at("stranger")
        link = await transport.connect(self.b.node.address)
        self.strangers.append(link)
        return link


QUICK = Limits(silence_seconds_max=1.0, handshake_seconds_max=1.0, backoff_max_seconds=0.2)


@asynccontextmanager
async def pair(
    world: World, addresses: tuple[str, str], limits: Limits = QUICK, **chunks: int
) -> AsyncIterator[Pair]:
    """Two systems in one world, connected by a network."""
    network = SimNetwork(world, **chunks) if world.simulated else None
    transports = [network.at(address.removeprefix("sim:")) if network else None for address in addresses]
    async with (
        ActorSystem.open(world) as one,
        ActorSystem.open(world) as two,
        Remote.listen(one, addresses[0], name="alpha", limits=limits, transport=transports[0]) as alpha,
        Remote.listen(two, addresses[1], name="beta", limits=limits, transport=transports[1]) as beta,
    ):
        there = await alpha.connect(beta.address)
        await until(world, lambda: bool(beta.peers()))
        nodes = Pair(world, Side(one, alpha, there), Side(two, beta, beta.peers()[0]), network)
        try:
            yield nodes
        finally:
            for link in nodes.strangers:
                link.close()


Story = Callable[[Pair], Awaitable[Any]]


def simulated(story: Story, limits: Limits = QUICK, seed: int = 1) -> Any:
    async def main(world: World) -> Any:
        async with pair(world, ("sim:a", "sim:b"), limits) as nodes:
            return await story(nodes)

    return SimWorld(seed=seed).run(main)


def _real(story: Story, limits: Limits, addresses: tuple[str, str]) -> Any:
    # A busy machine may be silent for a second: what happens then is told in virtual time.
    patient = evolve(limits, silence_seconds_max=HANG_SECONDS, handshake_seconds_max=HANG_SECONDS)

    async def main() -> Any:
        async with RealWorld.open() as world:
            with trio.fail_after(HANG_SECONDS):
                async with pair(world, addresses, patient) as nodes:
                    return await story(nodes)

    return trio.run(main)


def over_tcp(story: Story, limits: Limits = QUICK) -> Any:
    return _real(story, limits, ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0"))


def over_unix_sockets(story: Story, limits: Limits = QUICK) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return _real(story, limits, (f"unix:{Path(folder) / 'a'}", f"unix:{Path(folder) / 'b'}"))


Run = Callable[..., Any]
everywhere = pytest.mark.parametrize("run", [simulated, over_tcp, over_unix_sockets])


async def collect(reader: ChannelReader[Any]) -> list[Any]:
    """Everything that comes through a channel."""
    return [item async for item in reader]
