"""Concurrent clients of a store and what they were told: for the checker of linearizability, and watches.

The store may be anything with a `Ref[Storage]`: nodes of a simulated group, or real processes behind a client
of the etcd API.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

from attrs import define, evolve, field

from understudy.actors import ActorFailed, ActorStopped, ActorSystem, AskTimeout, Ref, World
from understudy.actors import Event as WorldEvent
from understudy.mailbox import ChannelClosed, Refusal
from understudy.properties.linearizability import (
    CompareAndSet,
    Delete,
    Operation,
    Read,
    ReadAll,
    ReadAllResult,
    ReadResult,
    StoreModel,
    Write,
    WriteResult,
    WriteTogether,
    check,
    settle,
)
from understudy.properties.watches import Ledger, WatchRecord, check_reader
from understudy.raftstore.storage import (
    Compare,
    DeleteRange,
    Event,
    HashKV,
    OpenWatch,
    Put,
    Range,
    RangeReply,
    Status,
    Storage,
    Txn,
    Unavailable,
    Watch,
    prefix_end,
)

PREFIX = b"/k/"
KEYS = tuple(PREFIX + key for key in (b"a", b"b", b"c", b"d"))
ALL = Watch(PREFIX, prefix_end(PREFIX), start_revision=2, prev_kv=True)
READER = 100
"""Clients from this number on only read."""
TRUTH_SECONDS = 30.0


@define(eq=False)
class Workload:
    """Clients and watchers of several stores that are one."""

    system: ActorSystem
    stores: Sequence[Ref[Storage]]
    """Each is a way to the same data."""
    random: Random
    ask_seconds: float = 1.0
    pause_seconds: float = 0.02
    """Between two operations of a client, at most twice as long."""
    serializable: bool = False
    """Planted: reads are made from what a member happens to have."""
    history: list[Operation] = field(factory=list, init=False)
    readers: list[list[WatchRecord]] = field(factory=list, init=False)
    over: bool = field(default=False, init=False)
    verified: "Verified | None" = field(default=None, init=False)
    _values: int = field(default=0, init=False)
    _refused: deque[str] = field(factory=lambda: deque(maxlen=4), init=False)
    _answered: WorldEvent = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._answered = self.world.event("answered")

    @property
    def world(self) -> World:
        return self.system.world

    # ---------------------------------------------------------------- clients

    async def client(self, number: int) -> None:
        """Make one operation after another, at another store after each failure, until it is over."""
        place = number
        known: dict[bytes, int] = {}
        while not self.over:
            request = self._draw(known)
            if not await self._operate(number, self.stores[place % len(self.stores)], request, known):
                place += 1
            await self.world.sleep(self.random.uniform(0.0, 2 * self.pause_seconds))

    async def reader(self, number: int) -> None:
        """Only read, and always at the same store: who is stuck with a write sees nothing stale."""
        store = self.stores[number % len(self.stores)]
        while not self.over:
            request = self.random.choice([Read(self.random.choice(KEYS)), ReadAll()])
            await self._operate(READER + number, store, request, {})
            await self.world.sleep(self.random.uniform(0.0, 2 * self.pause_seconds))

    def _draw(self, known: dict[bytes, int]) -> Any:
        key = self.random.choice(KEYS)
        kind = self.random.random()
        self._values += 1
        value = b"%d" % self._values
        if kind < 0.35:
            return Read(key)
        if kind < 0.45:
            return ReadAll()
        if kind < 0.65:
            return Write(key, value)
        if kind < 0.82:
            return CompareAndSet(key, known.get(key, 0), value)
        if kind < 0.92:
            keys = self.random.sample(KEYS, 2)
            return WriteTogether(tuple((each, value) for each in sorted(keys)))
        return Delete(key)

    async def _operate(self, client: int, store: Ref[Storage], request: Any, known: dict[bytes, int]) -> bool:
        """Make an operation and record it; False when it failed, or nobody knows."""
        called = self.world.monotonic()
        try:
            reply = await store.ask(self._wire(request), self.ask_seconds)
        except Unavailable as refusal:
            self._refused.append(f"{self.stores.index(store)}: {refusal}")
            if refusal.maybe_applied:
                self._unknown(client, called, request)
            return False
        except (AskTimeout, ActorStopped, ActorFailed) as refusal:
            self._refused.append(f"{self.stores.index(store)}: {refusal}")
            self._unknown(client, called, request)
            return False
        result = _result(request, reply)
        if isinstance(result, ReadResult):
            known[request.key] = result.mod_revision
        elif isinstance(request, Write | CompareAndSet) and result.done:
            known[request.key] = result.revision
        self.history.append(Operation(client, called, self.world.monotonic(), request, result))
        answered, self._answered = self._answered, self.world.event("answered")
        answered.set()
        return True

    async def until_answered(self, more: int, within_seconds: float) -> None:
        """Wait until so many more operations are answered. Raises AssertionError: they are not, in time."""
        before = len(self.history)
        with self.world.limit(within_seconds):
            while len(self.history) < before + more:
                await self._answered.wait()
            return
        answered = len(self.history) - before
        raise AssertionError(
            f"within {within_seconds:g} s {answered} operations were answered, not {more}; "
            f"the last refusals: {list(self._refused)}; the last operations: {self.history[-3:]}"
        )

    def _unknown(self, client: int, called: float, request: Any) -> None:
        if not isinstance(request, Read | ReadAll):
            self.history.append(Operation(client, called, None, request))

    def _wire(self, request: Any) -> Any:
        match request:
            case Read(key):
                return Range(key, serializable=self.serializable)
            case ReadAll():
                return Range(PREFIX, prefix_end(PREFIX), serializable=self.serializable)
            case Write(key, value):
                return Put(key, value)
            case CompareAndSet(key, mod_revision, value):
                return Txn((Compare(key, "mod", "=", mod_revision),), (Put(key, value),))
            case WriteTogether(pairs):
                return Txn((), tuple(Put(key, value) for key, value in pairs))
            case Delete(key):
                return DeleteRange(key)
        raise AssertionError(request)

    # ---------------------------------------------------------------- watchers

    async def watcher(self, number: int, watch: Watch, batches_max: int = 20) -> None:
        """Watch until it is over; begin again at another store whenever a watch ends or has told so much."""
        records: list[WatchRecord] = []
        self.readers.append(records)
        place = number
        while not self.over:
            place += 1
            try:
                watch = await self._watch_once(
                    self.stores[place % len(self.stores)], watch, records, batches_max
                )
            except (Refusal, ChannelClosed):
                await self.world.sleep(0.05)

    async def _watch_once(
        self, store: Ref[Storage], watch: Watch, records: list[WatchRecord], batches_max: int
    ) -> Watch:
        """One watch to its end; returns the one to go on with."""
        writer, reader = self.system.own_channel("proof", 16)
        try:
            opened = await store.ask(OpenWatch(watch, writer), self.ask_seconds)
            place = len(records)
            records.append(WatchRecord(watch, opened.revision))
            quiet = False
            while not self.over and not quiet and len(records[place].batches) < batches_max:
                quiet = True
                with self.world.limit(self.ask_seconds):
                    batch = await reader.receive()
                    records[place] = evolve(records[place], batches=(*records[place].batches, batch))
                    watch = evolve(watch, start_revision=batch.revision + 1)
                    quiet = False
        except (Refusal, ChannelClosed):
            pass
        finally:
            reader.cancel()
        return watch

    # ---------------------------------------------------------------- afterwards

    async def check(self) -> "Verified":
        """Hold everything that was told against everything that is there. Raises AssertionError."""
        ledger, hashes = await self.truth()
        assert len(set(hashes)) == 1, f"members differ at revision {ledger.revision}: {hashes}"
        breaches = [breach for records in self.readers if records for breach in check_reader(records, ledger)]
        assert not breaches, "\n".join(str(breach) for breach in breaches[:5])
        verdict = check(settle(self.history, ledger), StoreModel())
        assert verdict.linearizable, verdict
        return Verified(
            len(self.history),
            sum(operation.returned is None for operation in self.history),
            ledger.revision,
            sum(len(record.events) for records in self.readers for record in records),
        )

    async def truth(self) -> tuple[Ledger, list[int]]:
        """Everything that was ever written, as a watch from the beginning tells it; every store's hash."""
        reply = await self.persistently(lambda: self.stores[0].ask(Range(b"\0", b"\0")))
        revision = reply.revision
        events: list[Event] = []
        hashes = []
        for store in self.stores:
            # A linearizable read: it has applied at least that much.
            await self.persistently(lambda store=store: store.ask(Range(b"\0")))  # type: ignore[misc]
            answer = await self.persistently(lambda store=store: store.ask(HashKV(revision)))  # type: ignore[misc]
            hashes.append(answer.hash)
        writer, reader = self.system.own_channel("truth", 16)
        await self.stores[0].ask(OpenWatch(Watch(b"\0", b"\0", start_revision=2), writer))
        with self.world.deadline(TRUTH_SECONDS):
            while (events[-1].kv.mod_revision if events else 1) < revision:
                events.extend((await reader.receive()).events)
        reader.cancel()
        ledger = Ledger.of(events)
        present = tuple(ledger.pairs[key] for key in sorted(ledger.pairs))
        assert reply.kvs == present, f"there is {reply.kvs}, and the history makes it {present}"
        return ledger, hashes

    async def persistently(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """The answer, however often it has to be asked for."""
        last: Refusal | None = None
        with self.world.limit(TRUTH_SECONDS):
            while True:
                try:
                    return await ask()
                except Refusal as refusal:
                    last = refusal
                await self.world.sleep(0.1)
        raise AssertionError(f"no answer within {TRUTH_SECONDS:g} s after everything was mended: {last}")

    def shown(self) -> str:
        """The history, to be pasted."""
        return "\n".join(f"    {operation}," for operation in self.history)


@define
class Verified:
    """How much was checked."""

    operations: int
    unknown: int
    revision: int
    events: int


def _result(request: Any, reply: Any) -> Any:
    match request:
        case Read():
            return _read_result(reply)
        case ReadAll():
            pairs = tuple((kv.key, kv.value, kv.mod_revision) for kv in reply.kvs)
            return ReadAllResult(reply.revision, pairs)
        case CompareAndSet():
            return WriteResult(reply.revision, reply.succeeded)
        case Delete():
            return WriteResult(reply.revision, bool(reply.deleted))
    return WriteResult(reply.revision)


def _read_result(reply: RangeReply) -> ReadResult:
    if not reply.kvs:
        return ReadResult(reply.revision, None)
    (kv,) = reply.kvs
    return ReadResult(reply.revision, kv.value, kv.mod_revision)


async def leading(stores: Sequence[Ref[Storage]]) -> int | None:
    """The place among the stores of one whose member leads, as far as they know."""
    for place, store in enumerate(stores):
        try:
            status = await store.ask(Status(), 0.5)
        except Refusal:
            continue
        if status.leader and status.leader == status.member:
            return place
    return None
