"""Everything that clients and watchers of a store were told, held against everything that is there."""

from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define

from tests.raftstore.proof.asking import END, PREFIX
from tests.raftstore.proof.watchers import Watchers
from tests.raftstore.proof.workload import Workload
from understudy.actors import Ref
from understudy.mailbox import Refusal
from understudy.properties.linearizability import (
    StoreModel,
    check,
    check_leases,
    expiries,
    of_keys,
    settle,
)
from understudy.properties.watches import Ledger, check_reader
from understudy.raftstore.storage import (
    Compacted,
    Event,
    HashKV,
    LeaseList,
    OpenWatch,
    Range,
    Storage,
    Watch,
)

TRUTH_SECONDS = 30.0
LEASES_END_SECONDS = 10.0
"""Within this time after everything was mended every lease has ended: a new leader gives each its whole time
again, and a proposal that was lost is made again after 1 s."""


@define
class Verified:
    """How much was checked."""

    operations: int
    unknown: int
    revision: int
    events: int
    compact_revision: int
    compacted_watches: int
    """Watches that were told that what they need is compacted."""
    leases: int
    hashes: int
    """That were found equal."""
    moves: int = 0
    """Changes of the members."""


@define(eq=False)
class Verification:
    work: Workload
    watchers: Watchers
    clock_rate: float = 1.0
    """The fastest clock went so many times as fast as that of the history."""

    async def verify(self) -> Verified:
        """Raises AssertionError."""
        work = self.work
        await self._no_lease_is_left()
        ledger, compact_revision = await self._truth()
        await self._what_is_compacted_is_refused(compact_revision, ledger)
        await self.watchers.finish(ledger)
        readers = [reader.records for reader in self.watchers.readers if reader.records]
        breaches = [breach for records in readers for breach in check_reader(records, ledger)]
        assert not breaches, "\n".join(str(breach) for breach in breaches[:5])
        settled = settle([*work.history, *expiries(work.history, self.clock_rate)], ledger)
        for lease, verdict in check_leases(settled, self.watchers.heard).items():
            assert verdict.linearizable, f"lease {lease} is {verdict}"
        verdict = check(of_keys(settled), StoreModel(ledger=ledger))
        assert verdict.linearizable, verdict
        return Verified(
            len(work.history),
            sum(operation.returned is None for operation in work.history),
            ledger.revision,
            sum(len(record.events) for records in readers for record in records),
            compact_revision,
            self.watchers.refused,
            len(work.leases),
            work.compared,
        )

    async def _no_lease_is_left(self) -> None:
        """Every lease ends when nobody keeps it alive."""
        work = self.work
        left: tuple[int, ...] = ()
        with work.world.limit(LEASES_END_SECONDS):
            while True:
                reply = await self.persistently(lambda: work.stores[0].ask(LeaseList()))
                left = reply.ids
                if not left:
                    return
                await work.world.sleep(0.1)
        raise AssertionError(f"leases that nobody keeps alive do not end: {left}")

    async def _truth(self) -> tuple[Ledger, int]:
        """Everything that was ever written, as the chronicle and a watch of what is left tell it; and the
        newest compaction."""
        work = self.work
        reply = await self.persistently(lambda: work.stores[0].ask(Range(b"\0", b"\0")))
        revision, compact_revision = reply.revision, 0
        for store in work.stores:
            # A linearizable read: it has applied at least that much.
            await self.persistently(_asking(store, Range(b"\0")))
            answer = await self.persistently(_asking(store, HashKV(revision)))
            compact_revision = max(compact_revision, answer.compact_revision)
            work.note_hash(revision, answer.compact_revision, answer.hash, store.path)
        assert compact_revision <= work.floor, f"compacted at {compact_revision}, which nobody asked for"
        start = max(2, compact_revision)
        left = await self._left(start, revision)
        told = self.watchers.told()
        last = max((event.kv.mod_revision for event in told), default=1)
        assert last <= revision, f"a watch told of revision {last}, and there are only {revision}"
        told_twice = [event for event in told if event.kv.mod_revision >= start]
        for before, after in zip(told_twice, left, strict=False):
            assert before == after, f"a watch told of {before}, and then it is {after}"
        ledger = Ledger.of([*(event for event in told if event.kv.mod_revision < start), *left])
        present = tuple(ledger.pairs[key] for key in sorted(ledger.pairs))
        assert reply.kvs == present, f"there is {reply.kvs}, and the history makes it {present}"
        leased = [kv for kv in present if kv.lease]
        assert not leased, f"the leases have ended, and their keys are there: {leased}"
        return ledger, compact_revision

    async def _left(self, start: int, revision: int) -> list[Event]:
        events: list[Event] = []
        if start > revision:
            return events
        work = self.work
        writer, reader = work.system.own_channel("truth", 16)
        await work.stores[0].ask(OpenWatch(Watch(b"\0", b"\0", start_revision=start), writer))
        with work.world.deadline(TRUTH_SECONDS):
            while (events[-1].kv.mod_revision if events else 1) < revision:
                events.extend((await reader.receive()).events)
        reader.cancel()
        return events

    async def _what_is_compacted_is_refused(self, compact_revision: int, ledger: Ledger) -> None:
        """At every member, in reads and in watches; and what is not, is there."""
        if compact_revision < 2:
            return
        there = tuple(kv for _, kv in sorted(ledger.at(compact_revision).items()))
        for store in self.work.stores:
            before, at = (
                Range(PREFIX, END, revision=each) for each in (compact_revision - 1, compact_revision)
            )
            reply = await self.persistently(_asking(store, at))
            assert reply.kvs == there, f"{store.path} has {reply.kvs} at {compact_revision}, not {there}"
            writer, reader = self.work.system.own_channel("compacted", 16)
            watch = Watch(b"\0", b"\0", start_revision=compact_revision - 1)
            for request in (before, OpenWatch(watch, writer)):
                try:
                    await store.ask(request)
                except Compacted as refusal:
                    assert refusal.compact_revision == compact_revision, refusal
                else:
                    raise AssertionError(f"{store.path} does not refuse {request}")
            reader.cancel()

    async def persistently(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """The answer, however often it has to be asked for."""
        last: Refusal | None = None
        with self.work.world.limit(TRUTH_SECONDS):
            while True:
                try:
                    return await ask()
                except Refusal as refusal:
                    last = refusal
                await self.work.world.sleep(0.1)
        raise AssertionError(f"no answer within {TRUTH_SECONDS:g} s after everything was mended: {last}")


def _asking(store: Ref[Storage], request: Any) -> Callable[[], Awaitable[Any]]:
    return lambda: store.ask(request)
