"""Linearizable reads without a log entry: the leader's bookkeeping of ReadIndex (§8; thesis §6.4).

A read may be answered from the state as of the commit index at which it was taken in, once a majority has
confirmed that the leader still led after that. Reads are confirmed in rounds: a heartbeat with a round's
number vouches for every read of that round and before. Round numbers never repeat within a term, and answers
count only in their term.
"""

from collections import deque

from attrs import define, field, frozen

from understudy.raftstore import quorum
from understudy.raftstore.configuration import Configuration
from understudy.raftstore.messages import ReadToken


@frozen
class ReadState:
    """The read `token` may be answered by a state machine that has applied `index` or more."""

    token: ReadToken
    index: int


@frozen
class PendingRead:
    token: ReadToken
    member: int
    """Who asked: the leader itself, or the follower to be answered."""


@define
class ReadRounds:
    round: int = 0
    """The last round that was opened."""
    confirmed: dict[int, int] = field(factory=dict)
    """Member -> the last round that it confirmed."""
    new: list[PendingRead] = field(factory=list)
    """Reads that belong to no round yet."""
    waiting: deque[tuple[int, int, list[PendingRead]]] = field(factory=deque)
    """(round, commit index at its opening, its reads), ascending."""
    leased: bool = False
    """Whether there is a lease that rounds prolong."""
    begun_ms: deque[tuple[int, float]] = field(factory=deque)
    """(round, when it was begun) of the rounds that may still prolong the lease, ascending."""

    def add(self, read: PendingRead) -> None:
        self.new.append(read)

    def begin(self, member: int, now_ms: float) -> None:
        """A new round, which the leader, `member`, itself confirms."""
        self.round += 1
        self.confirmed[member] = self.round
        if self.leased:
            self.begun_ms.append((self.round, now_ms))

    def open(self, member: int, commit_index: int, now_ms: float) -> bool:
        """Put the new reads in a round. False without any."""
        if not self.new:
            return False
        self.begin(member, now_ms)
        self.waiting.append((self.round, commit_index, self.new))
        self.new = []
        return True

    def take_new(self) -> list[PendingRead]:
        taken, self.new = self.new, []
        return taken

    def confirm(self, member: int, round_number: int) -> None:
        assert round_number <= self.round, (round_number, self.round)
        if round_number > self.confirmed.get(member, 0):
            self.confirmed[member] = round_number

    def confirmed_since_ms(self, configuration: Configuration) -> float | None:
        """When the newest round was begun that a majority has confirmed since this was last asked."""
        confirmed = quorum.committed(configuration, self.confirmed)
        since_ms: float | None = None
        while self.begun_ms and self.begun_ms[0][0] <= confirmed:
            since_ms = self.begun_ms.popleft()[1]
        return since_ms

    def take_confirmed(self, configuration: Configuration) -> list[tuple[int, PendingRead]]:
        """The reads that a majority has confirmed, each with its index."""
        if not self.waiting:
            return []
        confirmed = quorum.committed(configuration, self.confirmed)
        taken: list[tuple[int, PendingRead]] = []
        while self.waiting and self.waiting[0][0] <= confirmed:
            _, index, reads = self.waiting.popleft()
            taken.extend((index, read) for read in reads)
        return taken

    def all(self) -> list[PendingRead]:
        return [read for _, _, reads in self.waiting for read in reads] + self.new
