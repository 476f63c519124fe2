"""A member's snapshots on their way to others, and the one on its way in: what drives `snapshot_transfer`."""

import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from understudy.actors import World
from understudy.mailbox import MailboxFull, Message
from understudy.raftstore.memberlog import MemberLog, Spool
from understudy.raftstore.membership import Membership, Peers, SnapshotChunk, SnapshotWanted
from understudy.raftstore.messages import SnapshotRequest
from understudy.raftstore.snapshot_transfer import WINDOW, SnapshotReceiver, SnapshotSender, Transfer
from understudy.raftstore.wal.snapshot_format import SnapshotError, encode_snapshot

log = logging.getLogger("understudy.raftstore")

CHUNKS_MAX: Final = 2 * WINDOW
"""What has come and is not taken in yet: the window of a leader, and of the next one. A sender sends again
what is not answered, as often as it likes while the disk is stuck; what is beyond this is dropped."""


class Transfers:
    """All transfers of one member."""

    def __init__(
        self,
        member: int,
        disk: MemberLog,
        peers: Peers,
        world: World,
        arrived: Callable[[SnapshotRequest], None],
    ) -> None:
        """`arrived` is called with each snapshot that came whole."""
        self.member = member
        self.disk = disk
        self.peers = peers
        self.arrived = arrived
        self._count = 0
        self._out: dict[int, SnapshotSender] = {}
        """By receiver."""
        self._in: SnapshotReceiver | None = None
        self._spool: Spool | None = None
        self._chunks: deque[SnapshotChunk] = deque()
        """Came and not taken in yet, at most `CHUNKS_MAX`."""
        self._came = world.signal(f"member {member} snapshot")

    # ---------------------------------------------------------------- out

    @property
    def deadline_ms(self) -> float:
        return min([sender.deadline_ms for sender in self._out.values()], default=float("inf"))

    def begin(self, request: SnapshotRequest, now_ms: float) -> None:
        """Send a snapshot, unless one is on its way to that member in this term."""
        known = self._out.get(request.to)
        if known is not None and known.transfer.term == request.term:
            return
        self._count += 1
        snapshot = request.snapshot
        transfer = Transfer(self.member, request.to, request.term, self._count, snapshot.index, snapshot.term)
        self._out[request.to] = SnapshotSender(transfer, encode_snapshot(snapshot, 0), now_ms)

    def pump(self, now_ms: float) -> bool:
        """Send what is due; whether there is more, after others had their turn."""
        more = False
        for member, sender in list(self._out.items()):
            chunks, again = sender.poll(now_ms)
            for chunk in chunks:
                self._tell(member, SnapshotChunk(sender.transfer, *chunk))
            more = more or again
            self._drop_if_over(member, sender)
        return more

    def wanted(self, answer: SnapshotWanted, now_ms: float) -> None:
        sender = self._out.get(answer.transfer.to)
        if sender is not None and sender.transfer == answer.transfer:
            sender.wanted(answer.number, now_ms)
            self._drop_if_over(answer.transfer.to, sender)

    def _drop_if_over(self, member: int, sender: SnapshotSender) -> None:
        if sender.failed:
            log.warning("member %d: the snapshot for member %d: %s", self.member, member, sender.failed)
        if sender.over:
            del self._out[member]

    def stop_sending(self) -> None:
        """This member leads no more, or another term."""
        self._out.clear()

    def _tell(self, member: int, message: Message[Membership]) -> None:
        peer = self.peers.get(member)
        if peer is None:
            return
        try:
            peer.tell(message)
        except MailboxFull:
            log.warning("member %d: the mailbox of member %d is full", self.member, member)

    # ---------------------------------------------------------------- in

    def chunk(self, chunk: SnapshotChunk) -> None:
        """Take a chunk from the mailbox; `receive` does the rest."""
        if len(self._chunks) < CHUNKS_MAX:
            self._chunks.append(chunk)
            self._came.set()

    async def receive(self) -> None:
        """Put what comes on the disk and together, as long as the member runs. Raises `StoreFolderError`."""
        try:
            while True:
                await self._came.wait()
                while self._chunks:
                    await self._take(self._chunks.popleft())
        finally:
            await self._abandon()  # A file is open.

    async def _take(self, chunk: SnapshotChunk) -> None:
        receiver = self._in
        if receiver is None or receiver.transfer != chunk.transfer:
            if receiver is not None and _older(chunk.transfer, receiver.transfer):
                return
            await self._abandon()
            receiver = self._in = SnapshotReceiver(chunk.transfer)
            self._spool = self.disk.spool(chunk.transfer.index, chunk.transfer.index_term)
        assert self._spool is not None
        try:
            if receiver.take(chunk.number, chunk.data, chunk.last):
                await self._spool.add(chunk.data)
                if receiver.complete:
                    request = receiver.request()
                    await self._spool.finish()
                    self.arrived(request)
        except SnapshotError as error:
            log.error("member %d: a snapshot came damaged: %s", self.member, error)
            await self._abandon()
            return
        self._tell(chunk.transfer.sender, SnapshotWanted(chunk.transfer, receiver.expected))

    async def _abandon(self) -> None:
        spool, self._spool, self._in = self._spool, None, None
        if spool is not None:
            await spool.abandon()


def _older(one: Transfer, other: Transfer) -> bool:
    """Whether one transfer began before the other; of different senders, the one of the lower term."""
    if one.sender == other.sender:
        return (one.term, one.number) < (other.term, other.number)
    return one.term < other.term
