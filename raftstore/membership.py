"""What members and routers of a group tell each other, besides the Raft messages themselves."""

from typing import Any

from attrs import frozen

from understudy.actors import ChannelWriter, Ref
from understudy.mailbox import Message, Request, message
from understudy.raftstore.machine import Answer
from understudy.raftstore.messages import Message as RaftMessage
from understudy.raftstore.storage import Storage, Watch, WatchOpened


class Membership:
    """The protocol of a group's members."""


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
    """Requests for the leader (serializable reads: for any member). Each is answered in an `Outcomes`."""

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
    """A member's answers to a router. `NotLeader` means: send it to somebody else, it was not taken here."""

    member: int
    session: int
    outcomes: tuple[Outcome, ...]


@message("raft.leader-news")
@frozen
class LeaderNews(Message[Storage]):
    """What a member knows now of who leads: its router need not ask around."""

    member: int
    term: int
    leader: int
    """0 for nobody."""


@message("raft.member-gave-up")
@frozen
class MemberGaveUp(Message[Storage]):
    """A member's disk or folder cannot be used: it stops, and is not started again by itself."""

    member: int
    reason: str


@message("raft.serve-watch")
@frozen
class ServeWatch(Request[Membership, WatchOpened]):
    """Feed a channel with a watch, for as long as this member leads. Refused with `NotLeader`."""

    watch: Watch
    to: "ChannelWriter[Any]"


@message("raft.hand-over")
@frozen
class HandOver(Message[Membership]):
    """Let another member lead (thesis §3.10); ignored unless this one leads."""

    to: int


@message("raft.stop-member")
@frozen
class StopMember(Request[Storage, None]):
    """Told to a group: stop one member's actor. What its log holds stays."""

    member: int


@message("raft.start-member")
@frozen
class StartMember(Request[Storage, None]):
    """Told to a group: start a member again on its log; nothing if it runs."""

    member: int


@message("raft.locate-leader")
@frozen
class LocateLeader(Request[Storage, int]):
    """Told to a group: which member leads, as far as the router knows; 0 for nobody."""
