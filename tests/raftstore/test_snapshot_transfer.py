"""A snapshot between two members over a network that loses, doubles and reorders chunks and answers."""

from collections.abc import Callable
from random import Random

from attrs import define, evolve
from hypothesis import given
from hypothesis import strategies as st

from understudy.actors import Event, SimWorld
from understudy.raftstore.configuration import Configuration
from understudy.raftstore.machine import StateMachine
from understudy.raftstore.memberlog import NoSpool, VolatileLog
from understudy.raftstore.membership import SnapshotChunk
from understudy.raftstore.messages import Snapshot
from understudy.raftstore.ready import PersistentState
from understudy.raftstore.snapshot_transfer import (
    DEADLINE_MS,
    RETRY_MS,
    WINDOW,
    SnapshotReceiver,
    SnapshotSender,
    Transfer,
)
from understudy.raftstore.storage import HashKV, Put
from understudy.raftstore.transfers import CHUNKS_MAX, Transfers
from understudy.raftstore.wal.snapshot_format import SnapshotError, SnapshotReader, encode_snapshot

TRANSFER = Transfer(1, 2, 5, 1, 40, 4)


def snapshot(keys: int = 60) -> Snapshot:
    machine = StateMachine()
    for number in range(keys):
        machine.run(Put(b"k%04d" % number, bytes(50)), trusted=True)
    return Snapshot(40, 4, Configuration(voters=(1, 2, 3)), machine.snapshot())


def sender_of(content: Snapshot) -> SnapshotSender:
    return SnapshotSender(TRANSFER, encode_snapshot(content, 7, 256), 0.0)


@given(st.integers(0, 10_000), st.integers(0, 40), st.sampled_from([0.0, 0.2, 0.5]))
def test_a_snapshot_arrives_whole_whatever_the_network_does(seed: int, keys: int, loss: float) -> None:
    chance, content = Random(seed), snapshot(keys)
    sender, receiver = sender_of(content), SnapshotReceiver(TRANSFER)
    chunks: list[tuple[int, bytes, bool]] = []
    answers: list[int] = []
    now_ms = 0.0
    for _ in range(4000):
        made, _ = sender.poll(now_ms)
        chunks += [chunk for chunk in made if chance.random() >= loss]
        assert len(sender._under_way) <= WINDOW
        if chunks and chance.random() < 0.8:
            at = chance.randrange(len(chunks))
            receiver.take(*(chunks[at] if chance.random() < 0.2 else chunks.pop(at)))
            if chance.random() >= loss:
                answers.append(receiver.expected)
        if answers and chance.random() < 0.8:
            sender.wanted(answers.pop(chance.randrange(len(answers))), now_ms)
        elif not made:
            now_ms += RETRY_MS / 4 if not chunks else 1.0
        if sender.over:
            break
    # Only a long silence, or an old answer that overtook its chunks' end, may end it before.
    if sender.failed:
        assert "nothing was heard" in sender.failed or "wants chunk" in sender.failed
        return
    assert sender.finished and receiver.complete
    request = receiver.request()
    assert (request.sender, request.to, request.term) == (1, 2, 5)
    found = request.snapshot
    assert (found.index, found.term, found.configuration) == (40, 4, content.configuration)
    assert found.data.store.hash(HashKV()) == content.data.store.hash(HashKV())


def test_what_is_not_answered_is_sent_again_from_there_on() -> None:
    sender = sender_of(snapshot())
    sent = []
    more = True
    while more:
        made, more = sender.poll(0.0)
        sent += made
    assert [number for number, _, _ in sent] == list(range(WINDOW))
    assert sender.poll(RETRY_MS - 1) == ([], False)
    sender.wanted(3, 1.0)
    again, _ = sender.poll(1.0 + RETRY_MS)
    assert [number for number, _, _ in again] == list(range(3, WINDOW))


def test_a_transfer_is_given_up_after_a_long_silence() -> None:
    sender = sender_of(snapshot())
    sender.poll(0.0)
    sender.poll(DEADLINE_MS)
    assert sender.over and "nothing was heard" in sender.failed


def test_a_receiver_that_started_again_ends_the_transfer() -> None:
    sender = sender_of(snapshot())
    sender.poll(0.0)
    sender.wanted(2, 1.0)
    sender.wanted(0, 2.0)
    assert sender.over and "chunk 0 again" in sender.failed


@given(st.data())
def test_a_stream_with_anything_wrong_is_refused(data: st.DataObject) -> None:
    stream = b"".join(encode_snapshot(snapshot(20), 7, 256))
    bit = data.draw(st.integers(0, len(stream) * 8 - 1))
    cut = data.draw(st.none() | st.integers(0, len(stream) - 1))
    broken = bytearray(stream if cut is None else stream[:cut])
    if cut is None:
        broken[bit // 8] ^= 1 << bit % 8
    reader = SnapshotReader()
    try:
        for at in range(0, len(broken), 100):
            reader.feed(bytes(broken[at : at + 100]))
        reader.snapshot()
    except SnapshotError as error:
        assert 0 <= error.offset <= len(stream)
        return
    raise AssertionError("it was taken for whole")


def test_a_receiver_keeps_nothing_of_what_it_handed_on() -> None:
    sender, receiver = sender_of(snapshot()), SnapshotReceiver(TRANSFER)
    while not receiver.complete:
        for chunk in sender.poll(0.0)[0]:
            receiver.take(*chunk)
        sender.wanted(receiver.expected, 0.0)
    assert receiver.request().snapshot.index == 40
    assert receiver.reader.chunks == 0 and not receiver.reader._restorer._store.keys
    assert not receiver.take(0, b"", last=False)


@define
class OpenSpool(NoSpool):
    abandoned: bool = False

    async def abandon(self) -> None:
        self.abandoned = True


@define
class Spooling(VolatileLog):
    spooled: OpenSpool | None = None
    next: Callable[[], OpenSpool] = OpenSpool

    def spool(self, index: int, term: int) -> OpenSpool:
        self.spooled = self.next()
        return self.spooled


class Nobody:
    def get(self, member: int) -> None:
        return None

    def learn(self, members: object) -> None:
        raise AssertionError(members)


def test_a_member_that_stops_lets_go_of_the_file_of_a_snapshot_that_was_coming() -> None:
    async def main(world: SimWorld) -> None:
        state = PersistentState.bootstrap((1, 2, 3))
        log = Spooling(state.hard_state, state.snapshot)
        transfers = Transfers(2, log, Nobody(), world, lambda request: None)
        chunk = sender_of(snapshot()).poll(0.0)[0][0]
        async with world.nursery() as nursery:
            nursery.start_soon(transfers.receive)
            transfers.chunk(SnapshotChunk(TRANSFER, *chunk))
            await world.sleep(1.0)
            assert log.spooled is not None and not log.spooled.abandoned
            nursery.cancel()
        assert log.spooled.abandoned

    SimWorld(1).run(main)


@define
class StuckSpool(OpenSpool):
    moves: Event | None = None

    async def add(self, data: bytes) -> None:
        assert self.moves is not None
        await self.moves.wait()


def test_what_is_sent_again_while_the_disk_is_stuck_is_not_kept() -> None:
    async def main(world: SimWorld) -> None:
        state = PersistentState.bootstrap((1, 2, 3))
        log = Spooling(state.hard_state, state.snapshot)
        moves = world.event("the disk moves")
        log.next = lambda: StuckSpool(moves=moves)
        arrived: list[int] = []
        transfers = Transfers(2, log, Nobody(), world, lambda request: arrived.append(request.snapshot.index))
        sender = sender_of(snapshot(200))

        def now_ms() -> float:
            return 1000.0 * world.monotonic()

        async with world.nursery() as nursery:
            nursery.start_soon(transfers.receive)
            while not sender.failed:
                for chunk in sender.poll(now_ms())[0]:
                    transfers.chunk(SnapshotChunk(TRANSFER, *chunk))
                assert len(transfers._chunks) <= CHUNKS_MAX
                await world.sleep(RETRY_MS / 2000.0)
            moves.set()
            transfer = evolve(TRANSFER, number=2)
            again = SnapshotSender(transfer, encode_snapshot(snapshot(), 7, 256), now_ms())
            while not arrived:
                for chunk in again.poll(now_ms())[0]:
                    transfers.chunk(SnapshotChunk(transfer, *chunk))
                await world.sleep(0.1)
                if transfers._in is not None and transfers._in.transfer == transfer:
                    again.wanted(transfers._in.expected, now_ms())
            nursery.cancel()
        assert arrived == [40]

    SimWorld(1).run(main)
