"""Actors in two processes: the same refs, asks, channels and death watch, over a TCP connection.

python examples/two_processes.py

starts itself a second time. The child has a clerk; the parent asks it things, is told of its progress,
follows what its request has caused over both processes, hears when the clerk dies, and then when the whole
child does.
"""

import subprocess
import sys

import trio
from attrs import frozen

from understudy.actors import (
    TEMPORARY,
    Actor,
    ActorFailed,
    ActorSystem,
    ChannelWriter,
    Event,
    RealWorld,
    Ref,
    Terminated,
    handles,
)
from understudy.actors.observe import INSPECTOR, CauseTrace, Inspector, gather_story
from understudy.actors.remote import PeerLost, Remote
from understudy.mailbox import Message, Request, message


class Clerk:
    """What a clerk understands."""


class Desk:
    """What whoever watches the clerk understands."""


@message("example.counted")
@frozen
class Counted(Message[Desk]):
    """The clerk is done with a count."""

    letters: int


@message("example.count")
@frozen
class Count(Request[Clerk, int]):
    """Count the letters of each word, and report every word that is done."""

    words: tuple[str, ...]
    progress: ChannelWriter[str]
    desk: Ref[Desk]


@message("example.fail")
@frozen
class Fail(Request[Clerk, None]):
    """Crash."""


class CountingClerk(Actor[Clerk]):
    """Lives in the child process."""

    @handles(Count, concurrent=True)
    async def count(self, message: Count) -> int:
        """Count, a report at a time: the reader's credits set the pace."""
        total = 0
        for word in message.words:
            total += len(word)
            await message.progress.send(word)
        message.progress.close()
        message.desk.tell(Counted(total))
        return total

    @handles(Fail)
    def fail(self, message: Fail) -> None:
        """A crash is told to those who watch, wherever they are."""
        raise RuntimeError("out of ink")


class Watcher(Actor[Desk]):
    """Lives in the parent process, and watches somebody in the child's."""

    def __init__(self, whom: Ref[Clerk], ended: Event) -> None:
        self.whom = whom
        self.ended = ended

    async def on_start(self) -> None:
        """Watching a remote actor is like watching any other."""
        self.context.watch(self.whom)

    @handles(Counted)
    def counted(self, message: Counted) -> None:
        """Told by the clerk, from the other process."""
        print("the desk hears of", message.letters, "letters", flush=True)

    @handles(Terminated)
    def terminated(self, message: Terminated) -> None:
        """Told once, whether the actor, its node or the network failed."""
        print(f"{message.path} has ended: {message.reason}", flush=True)
        self.ended.set()


async def child() -> None:
    """A node with one actor, until its standard input ends."""
    async with (
        RealWorld.open() as world,
        ActorSystem.open(world) as system,
        Remote.listen(system, "tcp://127.0.0.1:0", name="child") as node,
    ):
        system.spawn(CountingClerk, "clerk", TEMPORARY)
        with CauseTrace.of(system) as causes:
            # Lets other nodes look into this one: its part of a story, here.
            system.spawn(lambda: Inspector(causes), INSPECTOR)
            print(node.address, flush=True)
            await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


async def parent(process: "subprocess.Popen[str]", address: str) -> None:
    """A node that is connected with the child's."""
    async with (
        RealWorld.open() as world,
        ActorSystem.open(world) as system,
        Remote.listen(system, "tcp://127.0.0.1:0", name="parent") as node,
    ):
        peer = await node.connect(address)
        clerk = peer.ref("/clerk", Clerk)
        ended = world.event("the clerk's end")
        desk = system.spawn(lambda: Watcher(clerk, ended), "desk")

        progress, reports = system.channel("progress", capacity=2)
        with CauseTrace.of(system) as causes:
            async with world.nursery() as nursery:

                async def read() -> None:
                    async for word in reports:
                        print("counted", word, flush=True)

                nursery.start_soon(read)
                with causes.story("a count"):
                    total = await clerk.ask(Count(("to", "be", "or", "not"), progress, desk))
            print("letters:", total, flush=True)
            print((await gather_story("a count", causes, node)).text(), flush=True)

        try:
            await clerk.ask(Fail())
        except ActorFailed as failed:
            print("the clerk crashed:", failed.error, flush=True)
        await ended.wait()

        process.kill()
        await peer.wait(connected=False)
        try:
            await clerk.ask(Fail())
        except PeerLost as lost:
            print("nobody there:", lost.node, flush=True)


def main() -> None:
    """Start the child, and be the parent."""
    if "--child" in sys.argv:
        trio.run(child)
        return
    command = [sys.executable, __file__, "--child"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            trio.run(parent, process, process.stdout.readline().strip())
        finally:
            process.kill()


if __name__ == "__main__":
    main()
