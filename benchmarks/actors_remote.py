"""Actors in two processes on loopback: asks one after the other, and tells in bursts.

    python benchmarks/actors_remote.py [--rounds 8]

The peer of an ask is a bare Trio TCP echo, between two processes too, of as many bytes as the ask's frame
and its answer's have on average. Every figure is the best of several short rounds, and the rounds of all
contestants alternate: on a machine with few cores much depends on whether the two processes share one.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio
from attrs import evolve, frozen

from understudy.actors import Actor, ActorSystem, RealWorld, Ref, handles
from understudy.actors.remote import Peer, Remote
from understudy.mailbox import MailboxFull, Message, Request, message

sys.path.insert(0, str(Path(__file__).parent))
from rows import Row, compared, report

BURSTS = (64, 1000)
ROUNDS = 8
SECONDS = 0.4
"""Of one round of one contestant."""
ECHO_BYTES = 33
"""The mean of the 53 bytes of the frame of an ask and the 12 bytes of its answer's."""


class Tally:
    """Protocol of the actor that counts."""


@message("bench.remote.add")
@frozen
class Add(Message[Tally]):
    """What is told."""

    amount: int


@message("bench.remote.total")
@frozen
class Total(Request[Tally, int]):
    """What is asked."""

    number: int


class Counter(Actor[Tally]):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.total = 0

    @handles(Add)
    async def add(self, message: Add) -> None:
        """A typed async handler, as the figure is defined."""
        self.total += message.amount

    @handles(Total)
    async def get(self, message: Total) -> int:
        """The total so far."""
        return self.total


@contextmanager
def child(role: str) -> Iterator[str]:
    """Another process of this file in that role; the address that it prints."""
    command = [sys.executable, __file__, "--role", role]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


async def serve_actors() -> None:
    """The process of the actor that is asked and told."""
    async with (
        RealWorld.open() as world,
        ActorSystem.open(world) as system,
        Remote.listen(system, "tcp://127.0.0.1:0", name="there") as node,
    ):
        system.spawn(Counter, "counter")
        print(node.address, flush=True)
        await trio.sleep_forever()


async def serve_echo() -> None:
    """The process of the bare echo."""

    async def echo(stream: trio.SocketStream) -> None:
        while data := await stream.receive_some(65536):
            await stream.send_all(data)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listeners[0].socket.getsockname()[1], flush=True)
    await trio.serve_listeners(echo, listeners)


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Peer]:
    """This process as a node that is connected with the other."""
    async with (
        RealWorld.open() as world,
        ActorSystem.open(world) as system,
        Remote.listen(system, "tcp://127.0.0.1:0", name="here") as node,
    ):
        yield await node.connect(address)


async def asks(ref: Ref[Tally], seconds: float) -> float:
    """Asks a second, one after the other."""
    count, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        for number in range(100):
            await ref.ask(Total(number))
        count += 100
    return count / spent


async def tells(ref: Ref[Tally], seconds: float, burst: int) -> float:
    """Tells a second that were handled, in bursts, waiting when there is no room."""
    before = await ref.ask(Total(0))
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(burst):
            message = Add(1)
            try:
                ref.tell(message)
            except MailboxFull:
                await ref.send(message, 60.0)
        count += burst
        await trio.lowlevel.checkpoint()
    while await ref.ask(Total(0)) - before < count:
        pass
    return count / (time.perf_counter() - began)


async def echoes(port: int, size: int, seconds: float) -> float:
    """Round trips of a bare Trio TCP echo a second."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    data = b"x" * size
    count, began = 0, time.perf_counter()
    async with stream:
        while (spent := time.perf_counter() - began) < seconds:
            for _ in range(100):
                await stream.send_all(data)
                got = 0
                while got < size:
                    got += len(await stream.receive_some(65536))
            count += 100
    return count / spent


async def measured(rounds: int, seconds: float) -> dict[str, float]:
    """The best of each contestant's rounds."""
    best = {"echo": 0.0, "ask": 0.0, **{f"tell {burst}": 0.0 for burst in BURSTS}}
    with child("actors") as address, child("echo") as port:
        async with connected(address) as peer:
            ref = peer.ref("/counter", Tally)
            for _ in range(rounds):
                best["echo"] = max(best["echo"], await echoes(int(port), ECHO_BYTES, seconds))
                best["ask"] = max(best["ask"], await asks(ref, seconds))
                for burst in BURSTS:
                    told = await tells(ref, seconds, burst)
                    best[f"tell {burst}"] = max(best[f"tell {burst}"], told)
    return best


def rows(rounds: int, seconds: float = SECONDS) -> list[Row]:
    """All figures."""
    best = trio.run(measured, rounds, seconds)
    row = compared(
        "remote ask, serial", best["ask"], "/s", "bare Trio TCP echo", best["echo"], less_is_better=False
    )
    assert row.ratio is not None
    found = [evolve(row, reach=">= 0.5 times", met=row.ratio >= 0.5)]
    for burst in BURSTS:
        value = best[f"tell {burst}"]
        found.append(
            Row(f"remote tell, burst {burst}", value, "/s", reach=">= 250,000", met=value >= 250_000.0)
        )
    return found


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--role", choices=["actors", "echo"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role is not None:
        trio.run(serve_actors if options.role == "actors" else serve_echo)
    else:
        report("actors_remote", rows(options.rounds))


if __name__ == "__main__":
    main()
