"""The actor runtime beside Pykka, Thespian, bare Trio memory channels and a bare Trio TCP echo, in one run.

python benchmarks/bench_actors.py [--quick]

Every figure is the best of several rounds, and the rounds of all contestants alternate, so that a busy
machine slows everybody. An actor is the producer everywhere. `burst N` means: N messages, each a fresh
object, are put in without waiting, then the others may run; when the mailbox is full the producer waits.
Pykka's producer and consumer are threads, which run whenever they can: for it a burst has no meaning, and
its queue has no bound.
"""

import argparse
import asyncio
import gc
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pykka
import trio
import trio.testing
from attrs import evolve, frozen

from understudy.actors import Actor, ActorSystem, RealWorld, Ref, handles
from understudy.actors.embed import asyncio_system
from understudy.mailbox import MailboxFull, Message, Request, message

sys.path.insert(0, str(Path(__file__).parent))
import actors_remote
from rows import Row, compared, report

BURSTS = (1, 64, 1000)
BURST_OF_REACH = 64


@frozen
class Load:
    """How much each contestant does in a round."""

    tells: int = 100_000
    asks: int = 20_000
    hops: int = 50_000
    rounds: int = 5


QUICK = Load(20_000, 4_000, 10_000, 3)


class Counting:
    """Protocol of the consumer."""


class Producing:
    """Protocol of producers and askers."""


class Ringing:
    """Protocol of an actor in the ring."""


@message("bench.item")
@frozen
class Item(Message[Counting]):
    number: int


@message("bench.query")
@frozen
class Query(Request[Counting, int]):
    number: int


@message("bench.hold")
@frozen
class Hold(Message[Counting]):
    """Handle this until cancelled."""


@message("bench.await_count")
@frozen
class AwaitCount(Request[Counting, None]):
    count: int


@message("bench.produce")
@frozen
class Produce(Request[Producing, None]):
    count: int
    burst: int


@message("bench.query_many")
@frozen
class QueryMany(Request[Producing, None]):
    count: int


@message("bench.token")
@frozen
class Token(Message[Ringing]):
    hops_left: int


@message("bench.join")
@frozen
class Join(Message[Ringing]):
    next: Ref[Ringing]


class Consumer(Actor[Counting]):
    def __init__(self) -> None:
        self.seen = 0
        self.awaited = 0

    async def on_start(self) -> None:
        self.reached = self.world.event("count reached")

    @handles(Item)
    async def item(self, message: Item) -> None:
        self.seen += 1
        if self.seen == self.awaited:
            self.reached.set()

    @handles(Query)
    async def query(self, message: Query) -> int:
        return message.number

    @handles(Hold)
    async def hold(self, message: Hold) -> None:
        await self.world.event("never").wait()

    @handles(AwaitCount, concurrent=True)
    async def await_count(self, message: AwaitCount) -> None:
        self.awaited = message.count
        if self.seen < message.count:
            await self.reached.wait()


class Producer(Actor[Producing]):
    def __init__(self, consumer: Ref[Counting]) -> None:
        self.consumer = consumer

    @handles(Produce)
    async def produce(self, message: Produce) -> None:
        tell, send, burst = self.consumer.tell, self.consumer.send, message.burst
        for begin in range(0, message.count, burst):
            for number in range(begin, min(begin + burst, message.count)):
                item = Item(number)
                try:
                    tell(item)
                except MailboxFull:
                    await send(item)
            await trio.lowlevel.checkpoint()
        await self.consumer.ask(AwaitCount(message.count), 100.0)

    @handles(QueryMany)
    async def query_many(self, message: QueryMany) -> None:
        ask = self.consumer.ask
        for number in range(message.count):
            await ask(Query(number))


class Link(Actor[Ringing]):
    def __init__(self, done: trio.Event) -> None:
        self.done = done
        self.next: Ref[Ringing] | None = None

    @handles(Join)
    async def join(self, message: Join) -> None:
        self.next = message.next

    @handles(Token)
    async def token(self, message: Token) -> None:
        assert self.next is not None
        if message.hops_left:
            self.next.tell(Token(message.hops_left - 1))
        else:
            self.done.set()


async def with_system(function: Callable[[ActorSystem], Awaitable[float]]) -> float:
    async with RealWorld.open() as world, ActorSystem.open(world) as system:
        return await function(system)


async def tell(system: ActorSystem, count: int, burst: int) -> float:
    """Messages a second, from the first tell until the last was handled."""
    consumer = system.spawn(Consumer, f"consumer-{burst}")
    producer = system.spawn(lambda: Producer(consumer), f"producer-{burst}")
    began = time.perf_counter()
    await producer.ask(Produce(count, burst), 100.0)
    return count / (time.perf_counter() - began)


async def ask(system: ActorSystem, count: int) -> float:
    consumer = system.spawn(Consumer, "asked")
    asker = system.spawn(lambda: Producer(consumer), "asker")
    began = time.perf_counter()
    await asker.ask(QueryMany(count), 100.0)
    return count / (time.perf_counter() - began)


async def ring(system: ActorSystem, hops: int, size: int = 1000) -> float:
    done = trio.Event()
    refs: list[Ref[Ringing]] = [system.spawn(lambda: Link(done), f"link-{n}") for n in range(size)]
    for ref, following in zip(refs, [*refs[1:], refs[0]], strict=True):
        ref.tell(Join(following))
    await trio.testing.wait_all_tasks_blocked()
    began = time.perf_counter()
    refs[0].tell(Token(hops - 1))
    await done.wait()
    return hops / (time.perf_counter() - began)


# -- memory channels


async def channel_tell(count: int, burst: int, *, await_each: bool) -> float:
    sending, receiving = trio.open_memory_channel[Item](1024)

    async def produce() -> None:
        async with sending:
            for begin in range(0, count, burst):
                for number in range(begin, min(begin + burst, count)):
                    item = Item(number)
                    if await_each:
                        await sending.send(item)
                        continue
                    try:
                        sending.send_nowait(item)
                    except trio.WouldBlock:
                        await sending.send(item)
                if not await_each:
                    await trio.lowlevel.checkpoint()

    async def consume() -> None:
        seen = 0
        async for _ in receiving:
            seen += 1
        assert seen == count

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        nursery.start_soon(consume)
    return count / (time.perf_counter() - began)


async def channel_ring(hops: int, size: int = 1000) -> float:
    channels = [trio.open_memory_channel[int](1) for _ in range(size)]
    done = trio.Event()

    async def link(receiving: trio.MemoryReceiveChannel[int], following: trio.MemorySendChannel[int]) -> None:
        async for left in receiving:
            if left:
                await following.send(left - 1)
            else:
                done.set()

    async with trio.open_nursery() as nursery:
        for number in range(size):
            nursery.start_soon(link, channels[number][1], channels[(number + 1) % size][0])
        await trio.testing.wait_all_tasks_blocked()
        began = time.perf_counter()
        await channels[0][0].send(hops - 1)
        await done.wait()
        elapsed = time.perf_counter() - began
        nursery.cancel_scope.cancel()
    return hops / elapsed


# -- Pykka


class PykkaConsumer(pykka.ThreadingActor):
    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, Item):
            self.seen += 1
            return None
        return message.number if isinstance(message, Query) else self.seen


class PykkaProducer(pykka.ThreadingActor):
    def __init__(self, consumer: "pykka.ActorRef[PykkaConsumer]") -> None:
        super().__init__()
        self.consumer = consumer

    def on_receive(self, message: Any) -> None:
        if isinstance(message, Produce):
            for number in range(message.count):
                self.consumer.tell(Item(number))
            assert self.consumer.ask(AwaitCount(message.count)) == message.count
        else:
            for number in range(message.count):
                self.consumer.ask(Query(number), timeout=5.0)


def pykka_round(work: Any) -> float:
    consumer = PykkaConsumer.start()
    producer = PykkaProducer.start(consumer)
    began = time.perf_counter()
    producer.ask(work)
    elapsed = time.perf_counter() - began
    producer.stop()
    consumer.stop()
    return float(work.count / elapsed)


# -- Thespian


def thespian_rounds(asks: int, tells: int) -> tuple[float, float]:
    """Asks and tells a second in Thespian's in-process system base, from outside: it has no other ask."""
    from thespian.actors import ActorSystem as ThespianSystem
    from thespian_peer import ThespianConsumer

    system = ThespianSystem("simpleSystemBase")
    try:
        consumer = system.createActor(ThespianConsumer)
        began = time.perf_counter()
        for number in range(asks):
            assert system.ask(consumer, number, 5.0) == number
        asked = asks / (time.perf_counter() - began)
        began = time.perf_counter()
        for number in range(tells):
            system.tell(consumer, (number,))
        assert system.ask(consumer, "count", 5.0) == tells
        return asked, tells / (time.perf_counter() - began)
    finally:
        system.shutdown()


# -- many actors


@frozen
class Many:
    """10,000 actors, from their start to their end."""

    spawned_per_s: float
    stopped_per_s: float
    bytes_each: float
    stall_ms_max: float


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def stalls(worst: list[float]) -> None:
    """Note the longest time that Trio's loop took for one pass."""
    last = time.perf_counter()
    while True:
        await trio.lowlevel.checkpoint()
        now = time.perf_counter()
        worst[0] = max(worst[0], now - last)
        last = now


class Parent(Actor[Producing]):
    """Has so many children."""

    def __init__(self, children: int) -> None:
        self.children = children

    async def on_start(self) -> None:
        for number in range(self.children):
            self.context.spawn(Consumer, f"child-{number}")


async def many(how: str, count: int = 10_000) -> Many:
    """Start that many actors, stop them in the way that `how` says, and look for stalls meanwhile."""
    worst = [0.0]
    gc.collect()
    # Not the collector's pauses: those belong to the program's other garbage.
    gc.disable()
    try:
        async with trio.open_nursery() as nursery:
            async with RealWorld.open() as world:
                stopping = trio.CancelScope()
                with stopping:
                    seconds = 0.0 if how == "by force" else 60.0
                    async with ActorSystem.open(world, shutdown_seconds=seconds) as system:
                        before, began = resident_bytes(), time.perf_counter()
                        if how == "children":
                            parent = system.spawn(lambda: Parent(count), "parent")
                        else:
                            for number in range(count):
                                ref: Ref[Counting] = system.spawn(Consumer, f"actor-{number}")
                                if how == "by force":
                                    ref.tell(Hold())
                        await trio.testing.wait_all_tasks_blocked()
                        spawned = time.perf_counter() - began
                        used = resident_bytes() - before
                        nursery.start_soon(stalls, worst)
                        await trio.lowlevel.checkpoint()
                        began = time.perf_counter()
                        if how == "children":
                            await system.stop(parent, 60.0)
                        elif how == "cancelled":
                            stopping.cancel()
                            await trio.sleep_forever()
                ended = time.perf_counter() - began
            nursery.cancel_scope.cancel()
    finally:
        gc.enable()
    return Many(count / spawned, count / ended, used / count, worst[0] * 1000)


# -- the run


async def guest_ask(count: int) -> float:
    async with asyncio_system() as portal:
        return await portal.run(ask, portal.system, count)


async def guest_tell(count: int, burst: int) -> float:
    async with asyncio_system() as portal:
        return await portal.run(tell, portal.system, count, burst)


async def portal_ask(count: int) -> float:
    async with asyncio_system() as portal:
        ref = portal.spawn(Consumer, "consumer")
        began = time.perf_counter()
        for number in range(count):
            await portal.ask(ref, Query(number))
        return count / (time.perf_counter() - began)


def reached(row: Row, reach: str, met: bool) -> Row:
    return evolve(row, reach=reach, met=met)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="fewer messages and rounds")
    load = QUICK if parser.parse_args().quick else Load()
    logging.disable(logging.WARNING)
    report("bench_actors", many_rows() + message_rows(load) + actors_remote.rows(load.rounds))


def many_rows() -> list[Row]:
    rows = []
    for how, words in (
        ("roots", "10,000 actors, the system ends"),
        ("children", "10,000 children, their parent is stopped"),
        ("cancelled", "10,000 actors, their host is cancelled"),
        ("by force", "10,000 busy actors, no time left"),
    ):
        got = trio.run(many, how)
        if how == "roots":
            # Measured in a fresh process, whose memory holds nothing that could be used again.
            rows.append(Row("spawn", got.spawned_per_s, "actors/s"))
            memory = Row("memory of an idle actor", got.bytes_each, "bytes")
            rows.append(reached(memory, "<= 5,000", got.bytes_each <= 5000))
        rows.append(Row(f"stop: {words}", got.stopped_per_s, "actors/s"))
        stall = Row("  longest stall of the loop", got.stall_ms_max, "ms")
        rows.append(reached(stall, "<= 50", got.stall_ms_max <= 50))
    return rows


def message_rows(load: Load) -> list[Row]:
    best: dict[str, float] = {}

    def note(name: str, value: float) -> None:
        best[name] = max(best.get(name, 0.0), value)

    for _ in range(load.rounds):
        for burst in BURSTS:
            note(f"tell {burst}", trio.run(with_system, lambda s, b=burst: tell(s, load.tells, b)))
            note(f"channel {burst}", trio.run(lambda b=burst: channel_tell(load.tells, b, await_each=False)))
        note("channel awaiting", trio.run(lambda: channel_tell(load.tells, 1, await_each=True)))
        note("pykka tell", pykka_round(Produce(load.tells, 1)))
        note("ask", trio.run(with_system, lambda s: ask(s, load.asks)))
        note("pykka ask", pykka_round(QueryMany(load.asks)))
        note("ring", trio.run(with_system, lambda s: ring(s, load.hops)))
        note("channel ring", trio.run(channel_ring, load.hops))
        note("guest tell", asyncio.run(guest_tell(load.tells, BURST_OF_REACH)))
        note("guest ask", asyncio.run(guest_ask(load.asks)))
        note("portal ask", asyncio.run(portal_ask(load.asks // 4)))
        asked, told = thespian_rounds(load.asks // 10, load.tells // 20)
        note("thespian ask", asked)
        note("thespian tell", told)
    return rows_of(best)


def rows_of(best: dict[str, float]) -> list[Row]:
    rows = []

    def beside(figure: str, ours: str, peer: str, theirs: str, times: float | None = None) -> None:
        row = compared(figure, best[ours], "/s", peer, best[theirs], less_is_better=False)
        if times is not None:
            assert row.ratio is not None
            row = reached(row, f">= {times:g} times", row.ratio >= times)
        rows.append(row)

    channel = max(("channel awaiting", *(f"channel {b}" for b in BURSTS)), key=best.__getitem__)
    for burst in BURSTS:
        ours, counts = f"tell {burst}", burst == BURST_OF_REACH
        beside(f"tell, burst {burst}", ours, "pykka", "pykka tell", 3.0 if counts else None)
        beside(
            f"tell, burst {burst}", ours, "memory channel, same", f"channel {burst}", 5.0 if counts else None
        )
    beside(f"tell, burst {BURST_OF_REACH}", f"tell {BURST_OF_REACH}", "memory channel, its best", channel)
    beside(f"tell, burst {BURST_OF_REACH}", f"tell {BURST_OF_REACH}", "thespian, in process", "thespian tell")
    beside("ask with a deadline", "ask", "pykka", "pykka ask", 2.0)
    beside("ask with a deadline", "ask", "thespian, in process", "thespian ask")
    beside("ring of 1,000, hops", "ring", "memory-channel ring", "channel ring", 1.0)
    beside("guest mode: tell, burst 64", "guest tell", "native", "tell 64")
    beside("guest mode: ask", "guest ask", "native", "ask")
    beside("guest mode: ask from asyncio", "portal ask", "native", "ask")
    return rows


if __name__ == "__main__":
    main()
