"""What a member makes durable, behind an interface: it outlives the member, whose restart begins from it."""

from collections.abc import Sequence
from typing import Protocol, Self

from attrs import define, field

from understudy.raftstore.messages import Entry, HardState, Snapshot
from understudy.raftstore.ready import PersistentState, Ready


class MemberLog(Protocol):
    """A member's disk.

    `open` first; what else it raises are `StoreFolderError`s, after which nothing may be acknowledged and
    nothing written until it is opened again. `write` is called once at a time, and so is `compact`, which may
    go on beside it.
    """

    async def open(self) -> PersistentState:
        """Everything that was made durable. Whoever had it open before has it no more."""

    def store(self, ready: Ready) -> bool:
        """Take a `Ready` in if nothing in it has to be durable before it is acted upon, or if that takes no
        time; False: it is to be written."""

    async def write(self, readies: Sequence[Ready]) -> None:
        """Make snapshots, entries and hard states durable, in order; returns when they are (figure 2)."""

    def taken(self, snapshot: Snapshot) -> None:
        """The member has a snapshot of its state in memory: what is kept there of the entries that it covers
        can go. Its entry is durable; it itself need not be."""

    async def compact(self, snapshot: Snapshot) -> None:
        """Make a snapshot of the own state durable, then forget the entries that it covers. Its entry is
        durable."""

    def spool(self, index: int, term: int) -> "Spool":
        """Where to put the bytes of a leader's snapshot as they come. `write` takes it over, and does not
        write it once more, when the `Ready` with that snapshot is written."""

    async def close(self) -> None:
        """Let others open it."""


class Spool(Protocol):
    """A snapshot on its way in. Errors are as `MemberLog`'s."""

    async def add(self, data: bytes) -> None:
        """The next bytes."""

    async def finish(self) -> None:
        """All of it came, and was found to be whole."""

    async def abandon(self) -> None:
        """It will not be finished; nothing if it is."""


@define
class NoSpool:
    """For logs in memory: what comes is put together there anyway."""

    async def add(self, data: bytes) -> None:
        """Not kept."""

    async def finish(self) -> None:
        """Nothing is to be done."""

    async def abandon(self) -> None:
        """Nothing is held."""


@define
class VolatileLog:
    """A log in memory: it survives the end of its member, and not the end of the process."""

    hard_state: HardState
    snapshot: Snapshot
    entries: list[Entry] = field(factory=list)
    """The entries after the snapshot."""

    @classmethod
    def holding(cls, state: PersistentState) -> Self:
        return cls(state.hard_state, state.snapshot, list(state.entries))

    async def open(self) -> PersistentState:
        return self.load()

    def load(self) -> PersistentState:
        """`open`, at once."""
        return PersistentState(self.hard_state, self.snapshot, tuple(self.entries))

    async def write(self, readies: Sequence[Ready]) -> None:
        for ready in readies:
            self.store(ready)

    async def compact(self, snapshot: Snapshot) -> None:
        """`taken` was enough."""

    def spool(self, index: int, term: int) -> Spool:
        return NoSpool()

    async def close(self) -> None:
        """Nothing is held."""

    def store(self, ready: Ready) -> bool:
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
        return True

    def taken(self, snapshot: Snapshot) -> None:
        if snapshot.index <= self.snapshot.index:
            return  # A leader's snapshot came meanwhile.
        del self.entries[: snapshot.index - self.snapshot.index]
        self.snapshot = snapshot
