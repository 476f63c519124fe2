"""What members and routers of a group tell each other, besides the Raft messages themselves."""

from typing import Any, Protocol

from attrs import field, frozen

from understudy.actors import ChannelWriter, Ref
from understudy.mailbox import Message, Request, message
from understudy.raftstore.configuration import Configuration
from understudy.raftstore.messages import Message as RaftMessage
from understudy.raftstore.sessions import Answer
from understudy.raftstore.snapshot_transfer import Transfer
from understudy.raftstore.storage import SnapshotPart, Storage, StorageError, Watch, WatchOpened
from understudy.raftstore.storage.cluster import ClusterMember


class Membership:
    """The protocol of a group's members."""


class Peers(Protocol):
    """How a member reaches the others."""

    def get(self, member: int) -> "Ref[Membership] | None":
        """A member's actor, None while there is no way to it: what is meant for it is lost then."""

    def learn(self, members: tuple[ClusterMember, ...]) -> None:
        """Who there is now, and at which addresses; called whenever that may have changed."""


@message("raft.packet")
@frozen
class Packet(Message[Membership]):
    """Raft messages from one member to another, in order."""

    messages: tuple[RaftMessage, ...]


@message("raft.submission")
@frozen
class Submission:
    """One client request on its way to a member."""

    number: int
    """Within the router's session."""
    request: Any


@message("raft.submit")
@frozen
class Submit(Message[Membership]):
    """Requests of a router's clients. Each is answered in an `Outcomes`."""

    session: int
    settled: int
    """The router waits for nothing below this number."""
    submissions: tuple[Submission, ...]
    to: Ref[Storage]
    """The router."""


@message("raft.outcome")
@frozen
class Outcome:
    number: int
    answer: Answer


@message("raft.outcomes")
@frozen
class Outcomes(Message[Storage]):
    """A member's answers to a router. `NotLeader` and `Busy` mean: send it again, it was not taken here;
    `Working`: wait on."""

    member: int
    session: int
    outcomes: tuple[Outcome, ...]


@message("raft.error.busy")
@frozen
class Busy(StorageError):
    """Not now: a hand-over, or a change of the members, is under way. Routers send the request again, and
    users never see it."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@message("raft.error.working")
@frozen
class Working(StorageError):
    """The answer is being made, and takes long. Routers wait on, and users never see it."""

    def __str__(self) -> str:
        return "the answer is being made"


@message("raft.forward")
@frozen
class Forward(Message[Membership]):
    """Requests of a member's clients, for the leader. Writes are answered by that member, when it applies
    them; what else comes of them is in a `ForwardOutcomes`."""

    member: int
    """Who forwards."""
    session: int
    settled: int
    submissions: tuple[Submission, ...]


@message("raft.forward-outcomes")
@frozen
class ForwardOutcomes(Message[Membership]):
    """What became of forwarded requests that were refused, or read at the leader."""

    member: int
    session: int
    outcomes: tuple[Outcome, ...]


@message("raft.removed")
@frozen
class Removed(Message[Membership]):
    """Told to a member that still talks to a group that took it out: it may have missed that."""


@message("raft.member-news")
@frozen
class MemberNews(Message[Storage]):
    """What a member knows now of its group: its router need not ask around."""

    member: int
    term: int
    leader: int
    """0 for nobody."""
    configuration: Configuration


@message("raft.member-left")
@frozen
class MemberLeft(Message[Storage]):
    """A member was taken out of its group, and stops for good."""

    member: int


@message("raft.member-gave-up")
@frozen
class MemberGaveUp(Message[Storage]):
    """A member's disk or folder cannot be used: it stops, and is not started again by itself."""

    member: int
    reason: str


@message("raft.serve-watch")
@frozen
class ServeWatch(Request[Membership, WatchOpened]):
    """Feed a channel with a watch, from what this member applies. Refused with `NotLeader` by a member that
    knows no leader. A member that is deposed ends its watches: they go on elsewhere, or here again."""

    watch: Watch
    to: "ChannelWriter[Any]"


@message("raft.serve-snapshot")
@frozen
class ServeSnapshot(Request[Membership, None]):
    """Feed a channel with what this member has applied; see `OpenSnapshot`."""

    to: "ChannelWriter[SnapshotPart]"
    token: str = field(default="", repr=False)
    user: str = ""


@message("raft.stop-member")
@frozen
class StopMember(Request[Storage, None]):
    """Told to a group: stop one member's actor. What its log holds stays."""

    member: int


@message("raft.start-member")
@frozen
class StartMember(Request[Storage, None]):
    """Told to a group: start a member again on its log; nothing if it runs. One that `MemberAdd` has let in
    begins with nothing."""

    member: int
    host: str = ""
    """Where a new one lives; empty for the group's own host."""


@message("raft.which-cluster")
@frozen
class WhichCluster(Request[Storage, int]):
    """Told to a group, its members elsewhere among them: the cluster's id, 0 for one without."""


@message("raft.locate-leader")
@frozen
class LocateLeader(Request[Storage, int]):
    """Told to a group: which member leads, as far as the router knows; 0 for nobody."""


@message("raft.snapshot-chunk")
@frozen
class SnapshotChunk(Message[Membership]):
    """A piece of the leader's snapshot."""

    transfer: Transfer
    number: int
    data: bytes
    last: bool


@message("raft.snapshot-wanted")
@frozen
class SnapshotWanted(Message[Membership]):
    """The answer: every chunk before `number` came."""

    transfer: Transfer
    number: int
