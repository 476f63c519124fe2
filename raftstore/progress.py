"""What a leader knows of one follower's log, and how fast it may send to it (thesis §10.2.1: pipelining)."""

from collections import deque
from enum import Enum
from typing import Final

from attrs import define, field

NEVER_MS: Final = float("-inf")


class ProgressState(Enum):
    PROBE = "StateProbe"
    """Where the logs agree is not known: one message at a time, going back on each rejection."""
    REPLICATE = "StateReplicate"
    """They agree: messages are sent ahead of their answers, up to the window."""
    SNAPSHOT = "StateSnapshot"
    """A snapshot is on its way: nothing else is sent until it is answered or given up."""


@define
class Inflight:
    """Messages sent and not answered: bounded in number and in bytes. A limit on bytes is passed by the last
    one.
    """

    max_messages: int
    max_bytes: int
    sent: deque[tuple[int, int]] = field(factory=deque)
    """(last index, bytes) of each, ascending."""
    size_bytes: int = 0

    @property
    def full(self) -> bool:
        return len(self.sent) >= self.max_messages or self.size_bytes >= self.max_bytes

    def add(self, last_index: int, size_bytes: int) -> None:
        assert not self.full, (len(self.sent), self.size_bytes)
        self.sent.append((last_index, size_bytes))
        self.size_bytes += size_bytes

    def free_to(self, index: int) -> None:
        """Everything up to `index` is answered."""
        while self.sent and self.sent[0][0] <= index:
            self.size_bytes -= self.sent.popleft()[1]

    def free_first(self) -> None:
        """Let one more message go although nothing was answered: the answers may be lost."""
        if self.sent:
            self.size_bytes -= self.sent.popleft()[1]

    def clear(self) -> None:
        self.sent.clear()
        self.size_bytes = 0


@define
class Progress:
    match: int
    """The highest index known to be durable there (§5.3 matchIndex)."""
    next: int
    """The next index to send (§5.3 nextIndex). match < next."""
    inflight: Inflight
    state: ProgressState = ProgressState.PROBE
    paused: bool = False
    """In PROBE: a message is out, wait for its answer or for the next heartbeat's."""
    doubtful: bool = False
    """It lives and lacks something: what was sent to it may be lost, so ask, be it with an empty message."""
    heard_ms: float = NEVER_MS
    """When it last answered."""
    pending_snapshot: int = 0
    """In SNAPSHOT: the index of what is on its way; 0 otherwise."""
    commit_told: int = 0
    """The commit index of the last message that was sent there."""
    snapshot_sent_ms: float = NEVER_MS
    recently_active: bool = False
    """Has been heard since the last check of the quorum."""

    def blocked(self) -> bool:
        """Whether nothing may be sent now but heartbeats."""
        if self.state is ProgressState.PROBE:
            return self.paused
        if self.state is ProgressState.REPLICATE:
            return self.inflight.full
        return True

    def become_probe(self) -> None:
        self._enter(ProgressState.PROBE)
        self.next = self.match + 1

    def become_replicate(self) -> None:
        self._enter(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int, now_ms: float) -> None:
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = index
        self.snapshot_sent_ms = now_ms

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.paused = False
        self.doubtful = False
        self.pending_snapshot = 0
        self.inflight.clear()

    def acknowledged(self, index: int) -> bool:
        """The follower has everything up to `index`. False when that is old news."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        return True

    def sent(self, last_index: int, size_bytes: int, entries: int) -> None:
        """A message that ends at `last_index` went out."""
        self.doubtful = False
        if self.state is ProgressState.REPLICATE:
            if entries:
                self.next = last_index + 1
                self.inflight.add(last_index, size_bytes)
        elif self.state is ProgressState.PROBE:
            # An empty probe pauses too: it asks just as well where the logs agree.
            self.paused = True
        else:
            raise AssertionError(f"nothing is sent in {self.state}")

    def rejected(self, index: int, agreement: int) -> bool:
        """The follower lacks the entry at `index`; the logs may agree at `agreement`. False when that is old
        news.
        """
        if self.state is ProgressState.REPLICATE:
            # What it lacks lies above what it acknowledged, or the rejection was overtaken by an
            # acknowledgement.
            if index <= self.match:
                return False
            self.next = self.match + 1
            return True
        if self.next - 1 != index:
            return False
        self.next = max(min(index, agreement + 1), self.match + 1)
        self.paused = False
        return True
