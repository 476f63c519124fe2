"""What a member makes durable, behind an interface: it outlives the member, whose restart begins from it."""

from typing import Protocol

from attrs import define, field

from understudy.raftstore.messages import Entry, HardState, Snapshot
from understudy.raftstore.ready import PersistentState, Ready


class MemberLog(Protocol):
    """A member's disk."""

    def load(self) -> PersistentState:
        """Everything that was made durable."""

    async def write(self, ready: Ready) -> None:
        """Make snapshot, entries and hard state durable, together; returns when they are (figure 2)."""

    async def compact(self, snapshot: Snapshot) -> None:
        """Make a snapshot of the own state durable, then forget the entries that it covers."""


@define
class VolatileLog:
    """A log in memory: it survives the end of its member, and not the end of the process."""

    hard_state: HardState
    snapshot: Snapshot
    entries: list[Entry] = field(factory=list)
    """The entries after the snapshot."""

    @classmethod
    def holding(cls, state: PersistentState) -> "VolatileLog":
        return cls(state.hard_state, state.snapshot, list(state.entries))

    def load(self) -> PersistentState:
        return PersistentState(self.hard_state, self.snapshot, tuple(self.entries))

    async def write(self, ready: Ready) -> None:
        self.store(ready)

    async def compact(self, snapshot: Snapshot) -> None:
        self.forget(snapshot)

    def store(self, ready: Ready) -> None:
        """`write`, at once."""
        if ready.snapshot is not None:
            assert ready.snapshot.index > self.snapshot.index, (ready.snapshot.index, self.snapshot.index)
            self.snapshot = ready.snapshot
            self.entries = []
        if ready.entries:
            keep = ready.entries[0].index - self.snapshot.index - 1
            assert 0 <= keep <= len(self.entries), (ready.entries[0], self.snapshot.index, len(self.entries))
            self.entries[keep:] = ready.entries
        if ready.hard_state is not None:
            assert ready.hard_state.term >= self.hard_state.term, (ready.hard_state, self.hard_state)
            self.hard_state = ready.hard_state

    def forget(self, snapshot: Snapshot) -> None:
        """`compact`, at once."""
        assert snapshot.index >= self.snapshot.index, (snapshot.index, self.snapshot.index)
        del self.entries[: snapshot.index - self.snapshot.index]
        self.snapshot = snapshot
