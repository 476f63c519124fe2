"""A member's log on a simulated disk: what was acknowledged comes back, and nothing half."""

import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.actors import SimWorld
from understudy.actors.disk import DiskFailed, HostCrashed
from understudy.actors.sim_disk import SimDisk
from understudy.raftstore.configuration import Configuration
from understudy.raftstore.machine import StateMachine
from understudy.raftstore.messages import Entry, HardState, Snapshot
from understudy.raftstore.ready import PersistentState, Ready
from understudy.raftstore.sessions import Command
from understudy.raftstore.snapshot import MachineSnapshot
from understudy.raftstore.storage import Put
from understudy.raftstore.wal.disklog import DiskLog
from understudy.raftstore.wal.errors import Damaged, DiskUnusable, FolderRefused
from understudy.raftstore.wal.examine import Report, dump, opened, plan_repair, verify
from understudy.raftstore.wal.folder import Identity, segment_name, snapshot_name
from understudy.raftstore.wal.frames import SEGMENT_FORMAT, scan
from understudy.raftstore.wal.segments import LogOptions
from understudy.raftstore.wal.snapshot_format import SnapshotReader, snapshot_stream

FOLDER = "etcd/member-1"
OWNER = Identity(77, 1)
BOOTSTRAP = PersistentState.bootstrap((1, 2, 3))
OPTIONS = LogOptions(segment_bytes=4096, snapshot_chunk_bytes=1024)
NOTHING = Ready((), None, None, (), (), (), (), ())


class FragileDisk(SimDisk):
    """A disk whose host loses power at its n-th call from now."""

    def __init__(self, world: SimWorld, name: str = "host") -> None:
        super().__init__(world, name)
        self.calls_left: int | None = None
        self.dead = False

    async def _turn(self) -> None:
        await super()._turn()
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left <= 0:
                self.calls_left, self.dead = None, True
                self.crash()
        if self.dead:
            raise HostCrashed("host")

    def revive(self) -> None:
        self.calls_left, self.dead, self._sync_errors = None, False, 0


def entry(index: int, term: int, size: int = 30) -> Entry:
    put = Put(b"k%d" % (index % 5), b"%d/%d" % (index, term) + bytes(size))
    return Entry(index, term, "normal", Command(1, index, 0, put), 64 + size)


def state_at(index: int, entries: list[Entry]) -> MachineSnapshot:
    """The machine after entry `index`."""
    machine = StateMachine()
    for each in entries:
        if each.index <= index:
            machine.apply(each.data)
    return machine.snapshot()


def snapshot_at(index: int, term: int, data: Any) -> Snapshot:
    return Snapshot(index, term, Configuration(voters=(1, 2, 3)), data)


@define
class Model:
    """What a log holds, kept in the plainest way."""

    hard_state: HardState = BOOTSTRAP.hard_state
    entries: list[Entry] = field(factory=list)
    """All that ever were, from index 2 on."""
    gap: int = 1
    """A leader's snapshot replaced everything up to here."""
    snapshot: tuple[int, int] = (1, 0)

    @property
    def last(self) -> int:
        return self.entries[-1].index if self.entries else 1

    def copy(self) -> "Model":
        return evolve(self, entries=list(self.entries))

    def after(self, ready: Ready) -> "Model":
        twin = self.copy()
        if ready.snapshot is not None:
            twin.gap = ready.snapshot.index
            twin.snapshot = (ready.snapshot.index, ready.snapshot.term)
            kept = [each for each in twin.entries if each.index <= twin.gap]
            missing = range(len(kept) + 2, twin.gap + 1)
            twin.entries = kept + [entry(index, ready.snapshot.term) for index in missing]
        if ready.entries:
            first = ready.entries[0].index
            twin.entries = [each for each in twin.entries if each.index < first] + list(ready.entries)
        if ready.hard_state is not None:
            twin.hard_state = ready.hard_state
        return twin

    def holds(self, found: PersistentState) -> bool:
        """Whether this is what was found; the commit index may lag."""
        snapshot = (found.snapshot.index, found.snapshot.term)
        return (
            snapshot == self.snapshot
            and (found.hard_state.term, found.hard_state.vote) == (self.hard_state.term, self.hard_state.vote)
            and found.hard_state.commit_index <= self.hard_state.commit_index
            and list(found.entries) == [each for each in self.entries if each.index > snapshot[0]]
        )


steps = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 6), st.sampled_from([10, 300, 2000, 9000])),
    st.tuples(st.just("overwrite"), st.integers(1, 4), st.just(20)),
    st.tuples(st.just("vote"), st.integers(1, 3), st.just(0)),
    st.tuples(st.just("commit"), st.integers(1, 5), st.just(0)),
    st.tuples(st.just("compact"), st.just(0), st.just(0)),
    st.tuples(st.just("receive"), st.integers(1, 5), st.just(0)),
    st.tuples(st.just("restart"), st.just(0), st.just(0)),
    st.tuples(st.just("fail sync"), st.just(0), st.just(0)),
)
calls = st.none() | st.integers(1, 12) | st.integers(1, 40)


def ready_for(model: Model, what: str, amount: int, size: int) -> Ready | None:
    """A `Ready` as a core in that state might ask for."""
    state = model.hard_state
    match what:
        case "append":
            term = max(state.term, 1)
            new = tuple(entry(model.last + 1 + n, term, size) for n in range(amount))
            return evolve(NOTHING, entries=new, hard_state=evolve(state, term=term))
        case "overwrite":
            first = max(model.last - amount, state.commit_index, model.snapshot[0]) + 1
            term = state.term + 1
            return evolve(
                NOTHING,
                entries=tuple(entry(first + n, term, size) for n in range(2)),
                hard_state=HardState(term, 0, state.commit_index),
            )
        case "vote":
            return evolve(NOTHING, hard_state=HardState(state.term + 1, amount, state.commit_index))
        case "commit":
            commit = min(model.last, max(state.commit_index, model.snapshot[0]) + amount)
            return evolve(NOTHING, hard_state=evolve(state, commit_index=commit))
        case "receive":
            index, term = model.last + amount, max(state.term, 1)
            entries = [*model.entries, *[entry(i, term) for i in range(model.last + 1, index + 1)]]
            received = snapshot_at(index, term, state_at(index, entries))
            return evolve(NOTHING, snapshot=received, hard_state=HardState(term, state.vote, index))
    return None


def run(main: Callable[[SimWorld, FragileDisk], Awaitable[None]], seed: int = 0) -> None:
    async def body(world: SimWorld) -> None:
        await main(world, FragileDisk(world))

    SimWorld(seed, turns_max=1_000_000).run(body)


def new_log(disk: SimDisk, owner: Identity = OWNER) -> DiskLog:
    return DiskLog(disk, FOLDER, owner, BOOTSTRAP, OPTIONS)


@settings(max_examples=250, deadline=None)
@given(st.lists(st.tuples(steps, calls), max_size=25), st.integers(0, 1000))
def test_a_log_gives_back_what_was_acknowledged_and_nothing_half(
    program: list[tuple[tuple[str, int, int], int | None]], seed: int
) -> None:
    async def main(world: SimWorld, disk: FragileDisk) -> None:
        chance = world.rng("test")
        model = Model()
        log = new_log(disk)

        async def reopen(candidates: list[Model]) -> Model:
            """The log after a crash is what one of the candidates says."""
            nonlocal log
            disk.revive()
            # Power may be lost again while it recovers.
            disk.calls_left = chance.choice([None, chance.randint(1, 30)])
            try:
                found = await new_log(disk).open()
                # What was once found may have been told to others.
                candidates = [m for m in candidates if m.holds(found)]
            except (DiskUnusable, HostCrashed):
                assert disk.dead
            disk.revive()
            disk.crash()
            with suppress(FolderRefused):  # It was not a member's yet.
                assert (await looked_at(disk)).damage is None
            log = new_log(disk)
            found = await log.open()
            (held, *_) = [m for m in candidates if m.holds(found)] or [None]
            assert held is not None, (found, candidates)
            machine = StateMachine()
            machine.restore(found.snapshot.data)
            if found.snapshot.data is not None:
                want = state_at(found.snapshot.index, held.entries).store
                assert machine.store.revision == want.revision
            assert not [name for name in await disk.list(FOLDER) if name.endswith((".new", ".received"))]
            held = held.copy()
            held.hard_state = found.hard_state
            return held

        model = await reopen([model])
        for (what, amount, size), calls_left in program:
            candidates = [model]
            disk.calls_left = calls_left
            try:
                if what == "restart":
                    await log.close()
                    model = await reopen([model])
                elif what == "compact":
                    index = model.hard_state.commit_index
                    if index <= max(model.snapshot[0], 1):
                        continue
                    term = next(each.term for each in model.entries if each.index == index)
                    candidates.append(evolve(model.copy(), snapshot=(index, term)))
                    await log.compact(snapshot_at(index, term, state_at(index, model.entries)))
                    model = candidates[-1]
                else:
                    if what == "fail sync":
                        disk.fail_next_sync()
                        what, amount = "append", 2
                    ready = ready_for(model, what, amount, size)
                    assert ready is not None
                    candidates.append(model.after(ready))
                    if not log.store(ready):
                        await log.write([ready])
                    model = candidates[-1]
            except (DiskUnusable, HostCrashed):
                # The process goes on only with what it finds; and a power loss may follow at any time.
                if not disk.dead:
                    await log.close()
                model = await reopen(candidates)
            disk.calls_left = None
        disk.crash()
        await reopen([model])

    run(main, seed)


def prepared(world: SimWorld, disk: FragileDisk) -> Callable[[], Awaitable[None]]:
    """A folder with two snapshots of its own and a log after them."""

    async def prepare() -> None:
        log = new_log(disk)
        await log.open()
        entries = [entry(index, 1, 400) for index in range(2, 42)]
        for each in entries:
            state = HardState(1, 1, each.index - 1)
            await log.write([evolve(NOTHING, entries=(each,), hard_state=state)])
        for index in (10, 30):
            await log.compact(snapshot_at(index, 1, state_at(index, entries)))
        await log.close()

    return prepare


async def looked_at(disk: SimDisk) -> Report:
    """What `understudy store verify` finds."""
    async with opened(disk, FOLDER) as owner:
        return await verify(disk, FOLDER, owner)


@pytest.mark.parametrize("calls", range(1, 20))
def test_no_power_loss_while_a_snapshot_takes_the_log_s_place_is_taken_for_damage(calls: int) -> None:
    async def main(world: SimWorld, disk: FragileDisk) -> None:
        await prepared(world, disk)()
        log = new_log(disk)
        await log.open()
        received = snapshot_at(50, 2, state_at(50, [entry(index, 1) for index in range(2, 51)]))
        after = evolve(entry(51, 2), term=2)
        disk.calls_left = calls
        with suppress(DiskUnusable, HostCrashed):
            ready = evolve(NOTHING, snapshot=received, entries=(after,), hard_state=HardState(2, 0, 50))
            await log.write([ready])
        disk.revive()
        disk.crash()
        report = await looked_at(disk)
        assert report.damage is None
        async with opened(disk, FOLDER) as owner:
            assert await plan_repair(disk, FOLDER, owner) is None
            first, *entries = [each async for each in dump(disk, FOLDER, owner)]
        assert isinstance(first, Snapshot)
        found = await new_log(disk).open()
        snapshots = [file.last_index for file in report.files if file.kind == "snapshot"]
        assert max(snapshots) == found.snapshot.index
        assert first.index == {30: 10, 50: 50}[found.snapshot.index]
        assert len(entries) == len(found.entries) + found.snapshot.index - first.index

    run(main)


def test_nothing_stays_of_a_snapshot_that_did_not_come_whole_or_was_not_taken() -> None:
    async def main(world: SimWorld, disk: FragileDisk) -> None:
        await prepared(world, disk)()
        log = new_log(disk)
        await log.open()
        entries = [entry(index, 1, 400) for index in range(2, 42)]

        async def left() -> list[str]:
            return [name for name in await disk.list(FOLDER) if ".received" in name]

        stopped = log.spool(35, 1)
        await stopped.add(b"begun")
        assert await left() == [snapshot_name(35, 1) + ".received.new"]
        await stopped.abandon()
        assert await left() == []
        for index in (36, 45):
            spool = log.spool(index, 1)
            for chunk in log._chunks(snapshot_at(index, 1, state_at(index, entries))):
                await spool.add(chunk)
            await spool.finish()
            await spool.abandon()
        assert await left() == [snapshot_name(index, 1) + ".received" for index in (36, 45)]
        await log.compact(snapshot_at(40, 1, state_at(40, entries)))
        assert await left() == [snapshot_name(45, 1) + ".received"]
        # It is not written again where it is there already: the bytes would be others.
        received = snapshot_at(45, 1, None)
        await log.write([evolve(NOTHING, snapshot=received, hard_state=HardState(1, 1, 45))])
        await log.close()
        found = await new_log(disk).open()
        assert found.snapshot.index == 45 and found.snapshot.data is not None and await left() == []

    run(main)


def test_the_folder_of_another_member_or_cluster_is_refused() -> None:
    async def main(world: SimWorld, disk: FragileDisk) -> None:
        await prepared(world, disk)()
        for owner in (Identity(77, 2), Identity(78, 1)):
            with pytest.raises(FolderRefused, match="belongs to member 1 of cluster"):
                await new_log(disk, owner).open()

    run(main)


def test_a_folder_is_open_once() -> None:
    async def main(world: SimWorld, disk: FragileDisk) -> None:
        log = new_log(disk)
        await log.open()
        with pytest.raises(FolderRefused, match="another process has this folder open"):
            await new_log(disk).open()
        await log.open()
        await log.close()
        await new_log(disk).open()

    run(main)


def test_a_damaged_newest_snapshot_is_replaced_by_the_one_before_while_the_log_reaches_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main(world: SimWorld, disk: FragileDisk) -> None:
        await prepared(world, disk)()
        disk.flip_bit(f"{FOLDER}/{snapshot_name(30, 1)}", 900)
        found = await new_log(disk).open()
        assert found.snapshot.index == 10 and [e.index for e in found.entries] == list(range(11, 42))

    run(main)
    assert "byte" in caplog.text and "used instead" in caplog.text


def test_a_damaged_snapshot_is_refused_when_the_log_no_longer_reaches_the_one_before() -> None:
    async def main(world: SimWorld, disk: FragileDisk) -> None:
        await prepared(world, disk)()
        log = new_log(disk)
        await log.open()
        entries = [entry(index, 1) for index in range(2, 60)]
        received = snapshot_at(50, 2, state_at(50, entries))
        await log.write([evolve(NOTHING, snapshot=received, hard_state=HardState(2, 0, 50))])
        await log.close()
        disk.flip_bit(f"{FOLDER}/{snapshot_name(50, 2)}", 900)
        with pytest.raises(Damaged, match=r"-0000000000000002\.snap, byte \d+: .*Remove this member"):
            await new_log(disk).open()

    run(main)


def test_a_log_that_lost_its_newest_segments_is_refused_once_a_snapshot_is_beyond_it() -> None:
    async def main(world: SimWorld, disk: FragileDisk) -> None:
        await prepared(world, disk)()
        names = [name for name in await disk.list(FOLDER) if name.endswith(".wal")]
        for name in names[3:]:
            await disk.remove(f"{FOLDER}/{name}")
        with pytest.raises(Damaged, match="does not go on from it"):
            await new_log(disk).open()

    run(main)


def test_segments_that_both_snapshots_cover_are_gone_and_those_after_the_older_stay() -> None:
    async def main(world: SimWorld, disk: FragileDisk) -> None:
        await prepared(world, disk)()
        names = await disk.list(FOLDER)
        assert segment_name(1) not in names
        assert [name for name in names if name.endswith(".snap")] == [
            snapshot_name(10, 1),
            snapshot_name(30, 1),
        ]

    run(main)


class RecordingDisk(FragileDisk):
    """A disk that keeps what was done to folders."""

    def __init__(self, world: SimWorld) -> None:
        super().__init__(world)
        self.done: list[str] = []

    async def remove(self, path: str) -> None:
        await super().remove(path)
        self.done.append(f"remove {path.rpartition('.')[2]}")

    async def sync_folder(self, path: str = "") -> None:
        await super().sync_folder(path)
        self.done.append("sync")


def test_each_removal_is_durable_before_the_next() -> None:
    """On a disk that keeps no order, a crash could else bring back a segment without those after it, which
    would look like damage; or the older snapshot without the log after it."""

    async def main(world: SimWorld) -> None:
        disk = RecordingDisk(world)
        log = new_log(disk)
        await log.open()
        entries = [entry(index, 1, 1500) for index in range(2, 40)]
        for each in entries:
            await log.write([evolve(NOTHING, entries=(each,), hard_state=HardState(1, 1, each.index))])
        for index in (20, 30, 39):
            disk.done.clear()
            await log.compact(snapshot_at(index, 1, state_at(index, entries)))
            removals = [at for at, what in enumerate(disk.done) if what.startswith("remove")]
            assert all(disk.done[at + 1] == "sync" for at in removals), disk.done
        assert disk.done.count("remove wal") > 3 and disk.done.count("remove snap") == 1

    SimWorld(0, turns_max=1_000_000).run(main)


def test_each_removal_is_durable_before_the_next_though_two_snapshots_are_made_at_once() -> None:
    """An own one that takes long, and one from the leader meanwhile."""

    async def main(world: SimWorld) -> None:
        disk = RecordingDisk(world)
        log = new_log(disk)
        await log.open()
        for index in range(2, 40):
            new = entry(index, 1, 1500)
            await log.write([evolve(NOTHING, entries=(new,), hard_state=HardState(1, 1, index))])
        disk.done.clear()
        async with world.nursery() as nursery:
            for index in (20, 38):
                nursery.start_soon(log._segments.forget, index)
        assert disk.done == ["remove wal", "sync"] * (len(disk.done) // 2) and len(disk.done) > 20
        assert log._segments.facts[0].last_index > 38

    SimWorld(0, turns_max=1_000_000).run(main)


def test_a_folder_is_free_again_though_its_log_cannot_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(world: SimWorld, disk: FragileDisk) -> None:
        log = new_log(disk)
        await log.open()

        async def fail() -> None:
            raise DiskFailed("close", "a test's disk")

        monkeypatch.setattr(log._segments._file, "close", fail)
        with pytest.raises(DiskFailed):
            await log.close()
        await new_log(disk).open()

    run(main)


def test_a_commit_index_alone_is_not_written_and_travels_with_the_next_batch() -> None:
    async def main(world: SimWorld, disk: FragileDisk) -> None:
        log = new_log(disk)
        await log.open()
        state = HardState(1, 1, 1)
        await log.write([evolve(NOTHING, entries=(entry(2, 1), entry(3, 1)), hard_state=state)])
        assert log.store(evolve(NOTHING, hard_state=evolve(state, commit_index=3)))
        assert not log.store(evolve(NOTHING, hard_state=HardState(1, 2, 3)))
        assert (await log.open()).hard_state.commit_index == 1
        await log.write([evolve(NOTHING, hard_state=HardState(2, 0, 3))])
        assert (await log.open()).hard_state == HardState(2, 0, 3)

    run(main)


def test_state_index_and_configuration_are_one_file_etcd_13766() -> None:
    """Whatever moment a crash picks, what is restored is the state as of the index that comes with it."""

    async def main(world: SimWorld, disk: FragileDisk) -> None:
        for calls_left in range(1, 25):
            disk = FragileDisk(world, f"host {calls_left}")
            log = new_log(disk)
            await log.open()
            entries = [entry(index, 1) for index in range(2, 12)]
            await log.write([evolve(NOTHING, entries=tuple(entries), hard_state=HardState(1, 1, 11))])
            disk.calls_left = calls_left
            with suppress(DiskUnusable, HostCrashed):
                await log.compact(snapshot_at(11, 1, state_at(11, entries)))
            disk.revive()
            disk.crash()
            log = new_log(disk)
            found = await log.open()
            machine = StateMachine()
            machine.restore(found.snapshot.data)
            for each in found.entries:
                machine.apply(each.data)
            assert machine.store.revision == 11
            await log.close()

    run(main)


def test_a_snapshot_is_streamed_as_it_is_kept() -> None:
    async def main(world: SimWorld, disk: FragileDisk) -> None:
        entries = [entry(index, 1) for index in range(2, 12)]
        kept = snapshot_at(11, 1, state_at(11, entries))
        pieces = [piece async for piece in snapshot_stream(world, kept, OWNER.cluster, 256)]
        log = new_log(disk)
        await log.open()
        await log.write([evolve(NOTHING, entries=tuple(entries), hard_state=HardState(1, 1, 11))])
        await log.compact(kept)
        reader = SnapshotReader()
        reader.feed(b"".join(pieces))
        assert reader.snapshot().data.store.revision == 11
        assert reader.head is not None and reader.head.cluster == OWNER.cluster

    run(main)


def test_a_flipped_bit_in_the_last_acknowledged_batch_is_refused_and_nothing_is_changed() -> None:
    async def main(world: SimWorld, disk: FragileDisk) -> None:
        await prepared(world, disk)()
        path = f"{FOLDER}/{[name for name in await disk.list(FOLDER) if name.endswith('.wal')][-1]}"
        found = scan(await disk.read_file(path))
        disk.flip_bit(path, (found.frames[-1].end - 5) * 8)
        before = await disk.read_file(path)
        with pytest.raises(Damaged, match=f"byte {found.frames[-1].offset}: .*expected the checksum"):
            await new_log(disk).open()
        assert await disk.read_file(path) == before

    run(main)


def test_a_log_of_another_format_is_refused_as_such() -> None:
    async def main(world: SimWorld, disk: FragileDisk) -> None:
        log = new_log(disk)
        await log.open()
        await log.close()
        path = f"{FOLDER}/{segment_name(1)}"
        data = bytearray(await disk.read_file(path))
        data[20:24] = (SEGMENT_FORMAT - 1).to_bytes(4, "little")
        data[508:512] = zlib.crc32(data[:508]).to_bytes(4, "little")
        await disk.replace_file(path, bytes(data))
        with pytest.raises(FolderRefused, match=r"format 1, known is 2.* Use the version"):
            await new_log(disk).open()

    run(main)
