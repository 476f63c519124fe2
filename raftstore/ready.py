"""What goes between a Raft core and its driver: the state to start from, and what is to be done."""

from collections.abc import Sequence
from enum import Enum
from typing import Any

from attrs import define, frozen

from understudy.raftstore.configuration import Configuration
from understudy.raftstore.messages import Entry, HardState, Message, ReadToken, Snapshot
from understudy.raftstore.readindex import ReadState


class Role(Enum):
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


@frozen
class PersistentState:
    """What a member finds on its disk when it starts."""

    hard_state: HardState
    snapshot: Snapshot
    entries: tuple[Entry, ...] = ()
    """The entries after the snapshot."""

    @classmethod
    def bootstrap(cls, voters: Sequence[int], data: Any = None) -> "PersistentState":
        """The state in which every first member of a new group starts: as if entry 1 had been committed and
        compacted, so that whoever joins with nothing is sent a snapshot, and with it the configuration."""
        configuration = Configuration(voters=tuple(sorted(voters)))
        return cls(HardState(), Snapshot(index=1, term=0, configuration=configuration, data=data))

    @classmethod
    def joining(cls) -> "PersistentState":
        """The state in which a new member of an existing group starts: with nothing, and no say."""
        return cls(HardState(), Snapshot(index=0, term=0, configuration=Configuration(), data=None))


@frozen
class Ready:
    """What is to be done; `understudy.raftstore.raft` says in which order."""

    messages: tuple[Message, ...]
    hard_state: HardState | None
    """None: as before."""
    snapshot: Snapshot | None
    """From the leader: replaces the log and the state."""
    entries: tuple[Entry, ...]
    """To be made durable; whatever was durable from entries[0].index on is void."""
    messages_after_sync: tuple[Message, ...]
    committed: tuple[Entry, ...]
    reads: tuple[ReadState, ...]
    """Reads that may be answered once their index is applied."""
    lost_reads: tuple[ReadToken, ...]
    """Reads that will get no index: there was a change of leader."""

    @property
    def empty(self) -> bool:
        return self.only_messages and not (self.messages or self.messages_after_sync)

    @property
    def durable(self) -> bool:
        """Something is to be made durable."""
        return bool(self.hard_state or self.entries or self.snapshot)

    @property
    def only_messages(self) -> bool:
        """Nothing is to be made durable, applied or answered."""
        return not (
            self.hard_state
            or self.snapshot
            or self.entries
            or self.committed
            or self.reads
            or self.lost_reads
        )


@define(slots=False)
class NotLeading(Exception):
    """Only a leader takes this; `leader` is the one that this member knows, 0 for nobody."""

    leader: int


@define(slots=False)
class ProposalRefused(Exception):
    """The leader does not take this now; nothing of it is in the log."""

    reason: str
    passing: bool = False
    """What is in the way will be over soon: a hand-over, or a change of the members."""
