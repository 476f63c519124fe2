"""Carrying a snapshot from the leader to a follower, a chunk at a time. Sans I/O.

The chunks are those of `wal.snapshot_format`, numbered from 0. At most a window of them is under way; the
receiver says which one it wants next. What stays unanswered is sent again from there on; what was answered is
forgotten, so that memory is bounded by the window on one side, and by one chunk (beside the state that is
being put together) on the other. A receiver that knows nothing of a transfer says so, and the sender gives it
up: the core sends the snapshot anew when it asks for it again. The end of the term ends the transfer.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from attrs import define, field, frozen

from understudy.mailbox import message
from understudy.raftstore.messages import Snapshot, SnapshotRequest
from understudy.raftstore.wal.snapshot_format import SnapshotReader

WINDOW: Final = 8
"""Chunks under way."""
RETRY_MS: Final = 1_000.0
"""What is not answered within this time is sent again."""
DEADLINE_MS: Final = 10_000.0
"""A transfer of which nothing was heard for so long is given up."""
AT_ONCE: Final = 2
"""Chunks that are made without a pause: each takes about a millisecond."""


@message("raft.snapshot-transfer")
@frozen
class Transfer:
    """Names one attempt to carry one snapshot."""

    sender: int
    to: int
    term: int
    """The sender's, who leads it."""
    number: int
    """Of the attempt, counted by the sender."""
    index: int
    """Of the snapshot, ..."""
    index_term: int
    """... and the term of that entry."""


@define
class SnapshotSender:
    """The leader's side of one transfer."""

    transfer: Transfer
    chunks: Iterator[bytes]
    now_ms: float
    finished: bool = False
    """The receiver has everything."""
    failed: str = ""
    """Why it was given up."""
    _under_way: deque[tuple[int, bytes, bool]] = field(factory=deque)
    """(number, data, whether it is the last), ascending: made and not answered."""
    _next: int = 0
    """Number of the next chunk that is made."""
    _made: bytes | None = None
    """One chunk ahead: only then it is known which is the last."""
    _exhausted: bool = False
    _heard_ms: float = field(init=False)
    _sent_ms: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._heard_ms = self._sent_ms = self.now_ms

    @property
    def over(self) -> bool:
        return self.finished or bool(self.failed)

    @property
    def deadline_ms(self) -> float:
        """When `poll` is due if nothing comes."""
        return min(self._sent_ms + RETRY_MS, self._heard_ms + DEADLINE_MS)

    def poll(self, now_ms: float) -> tuple[list[tuple[int, bytes, bool]], bool]:
        """Chunks to send now, (number, data, whether it is the last); and whether more can follow at once."""
        if self.over:
            return [], False
        if now_ms >= self._heard_ms + DEADLINE_MS:
            self.failed = f"nothing was heard for {DEADLINE_MS / 1000:g} s"
            return [], False
        if self._under_way and now_ms >= self._sent_ms + RETRY_MS:
            self._sent_ms = now_ms
            return list(self._under_way), False
        made: list[tuple[int, bytes, bool]] = []
        while len(self._under_way) < WINDOW and len(made) < AT_ONCE and not self._exhausted:
            made.append(self._make())
            self._under_way.append(made[-1])
        if made:
            self._sent_ms = now_ms
        return made, len(self._under_way) < WINDOW and not self._exhausted

    def _make(self) -> tuple[int, bytes, bool]:
        data = self._made if self._made is not None else next(self.chunks)
        self._made = next(self.chunks, None)
        self._exhausted = self._made is None
        self._next += 1
        return self._next - 1, data, self._exhausted

    def wanted(self, number: int, now_ms: float) -> None:
        """The receiver has every chunk before `number`."""
        self._heard_ms = now_ms
        first = self._under_way[0][0] if self._under_way else self._next
        if number < first:
            self.failed = f"the receiver wants chunk {number} again, which is gone"
            return
        while self._under_way and self._under_way[0][0] < number:
            self._under_way.popleft()
            self._sent_ms = now_ms
        self.finished = self._exhausted and not self._under_way


@define
class SnapshotReceiver:
    """A follower's side of one transfer."""

    transfer: Transfer
    reader: SnapshotReader = field(factory=SnapshotReader)
    expected: int = 0
    """The chunk that is wanted next."""
    complete: bool = False

    def take(self, number: int, data: bytes, last: bool) -> bool:
        """Take a chunk in; False when it is not the one that is wanted.

        Raises:
            SnapshotError: it is not what was written; the transfer is worth nothing.
        """
        if number != self.expected or self.complete:
            return False
        self.reader.feed(data)
        self.expected += 1
        self.complete = last
        return True

    def request(self) -> SnapshotRequest:
        """What the core is to take in, once all of it came; it is forgotten here, where it would keep what is
        overwritten later. Raises `SnapshotError`."""
        assert self.complete, (self.transfer, self.expected)
        transfer, snapshot = self.transfer, self.reader.snapshot()
        self.reader = SnapshotReader()
        assert isinstance(snapshot, Snapshot), snapshot
        return SnapshotRequest(transfer.sender, transfer.to, transfer.term, snapshot)
