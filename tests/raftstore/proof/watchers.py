"""Watchers of a store, who begin again wherever a watch ends, and what they were told."""

from contextlib import suppress
from typing import Any

from attrs import define, evolve, field

from tests.raftstore.proof.asking import END, PREFIX
from tests.raftstore.proof.workload import BACK, WATCHER, Workload
from understudy.actors import ChannelReader, Ref
from understudy.mailbox import ChannelClosed, Refusal
from understudy.properties.linearizability import ReadAll, ReadAllResult
from understudy.properties.watches import Ledger, WatchRecord
from understudy.raftstore.storage import Compacted, Event, OpenWatch, Storage, Watch, WatchBatch

ALL = Watch(PREFIX, END, start_revision=2, prev_kv=True)
EVERYTHING = Watch(b"\0", b"\0", start_revision=2)
SILENCE_SECONDS = 30.0
"""So long a watch may take, when everything is mended, to tell what it has still to tell."""


@define(eq=False)
class Reader:
    """One who wants to see everything that a watch tells, by as many watches as it takes."""

    watch: Watch
    """To go on with."""
    place: int
    """Of the store to begin the next one at."""
    records: list[WatchRecord] = field(factory=list)
    last: int | None = None
    """What it is to see in the end, once that is known: everything up to here. Whoever only looks at some of
    the past is never told."""

    @property
    def is_done(self) -> bool:
        return self.last is not None and self.watch.start_revision > self.last


@define(eq=False)
class Watchers:
    work: Workload
    readers: list[Reader] = field(factory=list)
    chronicle: Reader = field(init=False)
    """Of everything, from the beginning: what there was before it was compacted is known from here."""
    heard: dict[int, float] = field(factory=dict)
    """When any watch first told of a revision."""
    refused: int = 0
    """Watches that were told that what they need is compacted."""
    _going: list[Reader] = field(factory=list)
    """Those who are to see everything."""

    async def chronicler(self) -> None:
        """Watch everything. Nothing is compacted that it has not seen."""
        self.chronicle = Reader(EVERYTHING, 0)
        await self._read(self.chronicle, 1000)

    async def watcher(self, number: int, watch: Watch, batches_max: int = 20) -> None:
        """Watch until `finish` lets it end; begin again at another store whenever a watch ends, has told so
        much, or is silent while there are faults."""
        await self._read(Reader(watch, number), batches_max)

    async def digger(self, number: int) -> None:
        """Watch the past from anywhere, some of which may be compacted, for a little while."""
        work, random = self.work, self.work.random(f"digger {number}")
        while not work.over:
            start = random.randint(max(2, work.seen - BACK), work.seen + 1)
            reader = Reader(evolve(ALL, start_revision=start), random.randrange(1000))
            with suppress(Refusal, ChannelClosed):
                await self._watch_once(reader, 3)
            if reader.records:
                self.readers.append(reader)
            await work.world.sleep(random.uniform(0.0, 10 * work.pause_seconds))

    async def _read(self, reader: Reader, batches_max: int) -> None:
        self.readers.append(reader)
        self._going.append(reader)
        while not reader.is_done:
            try:
                await self._watch_once(reader, batches_max)
                if reader.records[-1].compacted:
                    await self._list_again(reader)
            except (Refusal, ChannelClosed):
                await self.work.world.sleep(0.05)

    async def _watch_once(self, reader: Reader, batches_max: int) -> None:
        """One watch, until it ends, has told so much, or is silent.

        Raises:
            Refusal, ChannelClosed: it did not begin.
        """
        work = self.work
        reader.place += 1
        store = work.stores[reader.place % len(work.stores)]
        writer, channel = work.system.own_channel("proof", 16)
        try:
            if await self._open(reader, store, writer):
                await self._follow(reader, store, channel, batches_max)
        finally:
            channel.cancel()

    async def _follow(
        self, reader: Reader, store: Ref[Storage], channel: ChannelReader[WatchBatch], batches_max: int
    ) -> None:
        work, records = self.work, reader.records
        try:
            quiet = False
            while not quiet and not reader.is_done and len(records[-1].batches) < batches_max:
                quiet = True
                with work.world.limit(work.ask_seconds):
                    self._took(reader, await channel.receive())
                    quiet = False
                # When all is mended nobody need begin again, but for those whose member was removed.
                waits = work.over and reader in self._going and store in work.stores
                quiet = quiet and not waits
        except Compacted as refusal:
            self._ended(reader, refusal)
        except (Refusal, ChannelClosed):
            pass

    async def _open(self, reader: Reader, store: Ref[Storage], writer: Any) -> bool:
        try:
            opened = await store.ask(OpenWatch(reader.watch, writer), self.work.ask_seconds)
        except Compacted as refusal:
            reader.records.append(WatchRecord(reader.watch, 0))
            self._ended(reader, refusal)
            return False
        reader.records.append(WatchRecord(reader.watch, opened.revision))
        return True

    def _took(self, reader: Reader, batch: WatchBatch) -> None:
        work, last = self.work, reader.records[-1]
        reader.records[-1] = evolve(last, batches=(*last.batches, batch), floors=(*last.floors, work.floor))
        reader.watch = evolve(reader.watch, start_revision=batch.revision + 1)
        for event in batch.events:
            self.heard.setdefault(event.kv.mod_revision, work.world.monotonic())
        if reader is self.chronicle:
            work.seen = batch.revision

    def _ended(self, reader: Reader, refusal: Compacted) -> None:
        last = reader.records[-1]
        self.refused += 1
        floors = (*last.floors, self.work.floor)
        reader.records[-1] = evolve(last, compacted=refusal.compact_revision, floors=floors)

    async def _list_again(self, reader: Reader) -> None:
        """As whoever was told that what he needs is compacted must: then go on after that."""
        while True:
            store = self.work.stores[reader.place % len(self.work.stores)]
            result = await self.work.operate(WATCHER, store, ReadAll())
            if isinstance(result, ReadAllResult):
                reader.watch = evolve(reader.watch, start_revision=result.revision + 1)
                return
            reader.place += 1
            await self.work.world.sleep(0.05)

    # ---------------------------------------------------------------- afterwards

    def told(self) -> list[Event]:
        """The chronicle: every event from the beginning on, once."""
        return [event for record in self.chronicle.records for event in record.events]

    async def finish(self, ledger: Ledger) -> None:
        """Let everybody who watches see everything, by the watches that they have. Raises AssertionError: a
        watch is silent."""
        world = self.work.world
        for reader in self._going:
            wanted = WatchRecord(reader.watch, 0)
            reader.last = max((e.kv.mod_revision for e in ledger.events if wanted.wants(e)), default=0)
        with world.limit(SILENCE_SECONDS):
            while not all(reader.is_done for reader in self._going):
                await world.sleep(0.05)
        for reader in self._going:
            assert reader.is_done, (
                f"nothing comes of {reader.watch}, which was to tell all up to {reader.last}"
            )
            if reader.records and not reader.records[-1].compacted:
                reader.records[-1] = evolve(reader.records[-1], seen_through=reader.last or 0)
