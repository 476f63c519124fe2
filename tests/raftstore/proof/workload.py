"""Concurrent clients of a store and what they were told, for the checker of linearizability.

The store may be anything with a `Ref[Storage]`: nodes of a simulated group, or real processes behind a client
of the etcd API. `watchers` watch meanwhile, and `verification` holds everything against everything.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

from attrs import define, field

from tests.raftstore.proof.asking import PREFIX, REFUSALS, refused_with, result_of, wire
from understudy.actors import ActorFailed, ActorStopped, ActorSystem, AskTimeout, Ref, World
from understudy.actors import Event as WorldEvent
from understudy.mailbox import Refusal
from understudy.properties.linearizability import (
    CompactAt,
    CompareAndSet,
    Delete,
    Grant,
    KeepAlive,
    Operation,
    Read,
    ReadAll,
    ReadAt,
    ReadLeases,
    ReadResult,
    Revoke,
    TimeToLive,
    Write,
    WriteTogether,
)
from understudy.raftstore.storage import HashKV, Status, Storage, Unavailable

KEYS = tuple(PREFIX + key for key in (b"a", b"b", b"c", b"d"))
LEASED = tuple(PREFIX + key for key in (b"x", b"y", b"z"))
"""Written with and without leases, and never deleted alone: so whose work a deletion is can be told."""
LEASE_S = 2
"""The shortest that there is."""
READER, LESSEE, COMPACTOR, HISTORIAN, WATCHER = 100, 200, 300, 400, 500
"""Clients from each number on have that role."""
BACK = 25
"""So many revisions of the past are read, compacted and watched."""
READS = (Read, ReadAll, ReadAt, TimeToLive, ReadLeases)


@define(eq=False)
class Workload:
    """Clients of several stores that are one."""

    system: ActorSystem
    stores: list[Ref[Storage]]
    """Each is a way to the same data. They may come and go."""
    ask_seconds: float = 1.0
    pause_seconds: float = 0.02
    """Between two operations of a client, at most twice as long."""
    serializable: bool = False
    """Planted: reads are made from what a member happens to have."""
    exact: bool = True
    """What is refused says what was compacted at that moment; over the wire it is asked for afterwards."""
    operations_max: int = 1_000_000
    """Of each client."""
    history: list[Operation] = field(factory=list, init=False)
    over: bool = field(default=False, init=False)
    seen: int = field(default=1, init=False)
    """The chronicle (see `Watchers`) has everything up to here: nobody compacts beyond it."""
    floor: int = field(default=0, init=False)
    """The newest revision at which anybody asked to compact."""
    leases: list[int] = field(factory=list, init=False)
    """The ids of all leases that were granted, as far as anybody knows."""
    hashes: dict[tuple[int, int], dict[int, str]] = field(factory=dict, init=False)
    """By revision and compaction: each hash, and a member that said it."""
    compared: int = field(default=0, init=False)
    """Hashes that were found equal to another one's."""
    _values: int = field(default=0, init=False)
    _grants: int = field(default=0, init=False)
    _refused: deque[str] = field(factory=lambda: deque(maxlen=4), init=False)
    _answered: WorldEvent = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._answered = self.world.event("answered")

    @property
    def world(self) -> World:
        return self.system.world

    def random(self, name: str) -> Random:
        """Each client draws from a stream of its own: without one the others do much the same."""
        return self.world.rng(f"workload {name}")

    # ---------------------------------------------------------------- clients

    async def client(self, number: int) -> None:
        """Write and read, at another store after each failure."""
        random, known = self.random(f"client {number}"), dict[bytes, int]()

        def draw() -> Any:
            return self._drawn(random, known)

        await self._work(number, random, draw, known)

    async def reader(self, number: int) -> None:
        """Only read, and always at the same store: who is stuck with a write sees nothing stale."""
        random = self.random(f"reader {number}")

        def draw() -> Any:
            return random.choice([Read(random.choice(KEYS + LEASED)), ReadAll()])

        await self._work(READER + number, random, draw, stays=True)

    async def historian(self, number: int) -> None:
        """Read what was, is compacted, or has not come yet."""
        random = self.random(f"historian {number}")

        def draw() -> Any:
            return ReadAt(random.randint(max(1, self.seen - BACK), self.seen + 2))

        await self._work(HISTORIAN + number, random, draw)

    async def compactor(self, number: int) -> None:
        """Compact at some revision of the near past again and again."""
        random = self.random(f"compactor {number}")

        def draw() -> Any:
            revision = random.randint(max(1, self.seen - BACK // 2), self.seen)
            self.floor = max(self.floor, revision)
            return CompactAt(revision, random.random() < 0.3)

        await self._work(COMPACTOR + number, random, draw, pause=8.0)

    async def lessee(self, number: int) -> None:
        """Grant leases, give them keys, keep them alive, revoke them or let them end."""
        random = self.random(f"lessee {number}")

        def draw() -> Any:
            recent = self.leases[-4:]
            kind = random.random()
            if not recent or kind < 0.15:
                self._grants += 1
                return Grant(self._grants, LEASE_S)
            lease, key = random.choice(recent), random.choice(LEASED)
            if kind < 0.40:
                return Write(key, self._value(), lease)
            if kind < 0.48:
                # That the key is deleted can be told from the value of the other.
                return WriteTogether(((random.choice(KEYS), self._value()), (key, None)))
            if kind < 0.68:
                return KeepAlive(lease)
            if kind < 0.82:
                return TimeToLive(lease)
            if kind < 0.96:
                return ReadLeases()
            return Revoke(lease)

        await self._work(LESSEE + number, random, draw, pause=1.5)

    async def auditor(self, number: int) -> None:
        """Compare what the members' hashes of the same are."""
        random = self.random(f"auditor {number}")
        for _ in self._turns():
            revision = max(1, self.seen - random.randrange(4))
            for store in list(self.stores):
                try:
                    reply = await store.ask(HashKV(revision), self.ask_seconds)
                except (Refusal, ActorFailed):
                    continue  # It cannot be reached, lags behind or has compacted that.
                self.note_hash(revision, reply.compact_revision, reply.hash, store.path)
            await self._pause(random, 10.0)

    def note_hash(self, revision: int, compact_revision: int, hash: int, who: str) -> None:
        """Raises AssertionError: somebody had another hash of the same."""
        said = self.hashes.setdefault((revision, compact_revision), {})
        self.compared += bool(said)
        said.setdefault(hash, who)
        assert len(said) == 1, (
            f"members differ at revision {revision}, compacted at {compact_revision}: {said}"
        )

    # ---------------------------------------------------------------- operations

    async def _work(
        self,
        client: int,
        random: Random,
        draw: Callable[[], Any],
        known: dict[bytes, int] | None = None,
        *,
        stays: bool = False,
        pause: float = 1.0,
    ) -> None:
        place = client
        for _ in self._turns():
            store = self.stores[place % len(self.stores)]
            if not await self.operate(client, store, draw(), known) and not stays:
                place += 1
            await self._pause(random, pause)

    def _turns(self) -> Iterator[None]:
        for _ in range(self.operations_max):
            if self.over:
                return
            yield

    async def _pause(self, random: Random, times: float = 1.0) -> None:
        await self.world.sleep(random.uniform(0.0, 2 * times * self.pause_seconds))

    def _value(self) -> bytes:
        self._values += 1
        return b"%d" % self._values

    def _drawn(self, random: Random, known: dict[bytes, int]) -> Any:
        kind = random.random()
        key = random.choice(KEYS + LEASED if kind < 0.82 else KEYS)
        if kind < 0.35:
            return Read(key)
        if kind < 0.45:
            return ReadAll()
        if kind < 0.65:
            return Write(key, self._value())
        if kind < 0.82:
            return CompareAndSet(key, known.get(key, 0), self._value())
        if kind < 0.92:
            keys, value = random.sample(KEYS, 2), self._value()
            return WriteTogether(tuple((each, value) for each in sorted(keys)))
        return Delete(key)

    async def operate(
        self, client: int, store: Ref[Storage], request: Any, known: dict[bytes, int] | None = None
    ) -> Any:
        """Make an operation and record it; what it was answered, None when it failed or nobody knows."""
        called = self.world.monotonic()
        try:
            reply = await store.ask(wire(request, serializable=self.serializable), self.ask_seconds)
            result = result_of(request, reply)
        except Unavailable as refusal:
            self._refused.append(f"{store.path}: {refusal}")
            if refusal.maybe_applied:
                self._unknown(client, called, request)
            return None
        except (AskTimeout, ActorStopped, ActorFailed) as refusal:
            self._refused.append(f"{store.path}: {refusal}")
            self._unknown(client, called, request)
            return None
        except REFUSALS as refusal:
            result = refused_with(refusal, exact=self.exact)
        if known is not None:
            if isinstance(result, ReadResult):
                known[request.key] = result.mod_revision
            elif isinstance(request, Write | CompareAndSet) and result.done:
                known[request.key] = result.revision
        self._record(Operation(client, called, self.world.monotonic(), request, result))
        answered, self._answered = self._answered, self.world.event("answered")
        answered.set()
        return result

    def _unknown(self, client: int, called: float, request: Any) -> None:
        if not isinstance(request, READS):
            self._record(Operation(client, called, None, request))

    def _record(self, operation: Operation) -> None:
        self.history.append(operation)
        if isinstance(operation.request, Grant):
            self.leases.append(operation.request.lease)

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

    def shown(self) -> str:
        """The history, to be pasted."""
        return "\n".join(f"    {operation}," for operation in self.history)


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
