"""Who belongs to the group that keeps the store, and who leads it."""

from typing import Literal

from attrs import frozen

from understudy.mailbox import Request, message

from .errors import StorageError
from .protocol import Storage

MembershipProblem = Literal[
    "member not found",
    "member ID already exist",
    "Peer URLs already exists",
    "peer URLs are missing",
    "too many learner members in cluster",
    "can only promote a learner member",
    "can only promote a learner member which is in sync with leader",
    "re-configuration failed due to not enough started members",
    "unhealthy cluster",
    "bad leader transferee",
]
"""As etcd says it, where it does."""


@message("etcd.error.membership-error")
@frozen
class MembershipError(StorageError):
    """A change of the members, or of the leader, that is not safe or makes no sense. Nothing was done."""

    problem: MembershipProblem
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.problem}: {self.advice}" if self.advice else self.problem


@message("etcd.cluster-member")
@frozen
class ClusterMember:
    id: int
    """Above 0; never used a second time in a cluster."""
    name: str = ""
    """As it said when it started; empty until it has."""
    peer_urls: tuple[str, ...] = ()
    """Where the other members reach it."""
    client_urls: tuple[str, ...] = ()
    """Where clients reach it, as it said when it started."""
    is_learner: bool = False
    """It is sent everything and does not count (thesis §4.2.1)."""


@message("etcd.member-list")
@frozen
class MemberList(Request[Storage, "MemberListReply"]):
    """All members, by id. Answered by `MemberListReply`."""

    linearizable: bool = True
    """False: what this member knows, also without a leader."""


@message("etcd.member-list-reply")
@frozen
class MemberListReply:
    revision: int
    members: tuple[ClusterMember, ...]


@message("etcd.member-add")
@frozen
class MemberAdd(Request[Storage, "MemberAddReply"]):
    """Let somebody in, who is to be started then with nothing. Answered by `MemberAddReply`.

    Refused (`MembershipError`) when the group could not lose the newcomer's vote: when too few members have
    started, or are heard.
    """

    peer_urls: tuple[str, ...]
    is_learner: bool = False
    """As a learner, so that nothing depends on it before `MemberPromote`."""
    id: int = 0
    """The id to use; 0 lets the store choose."""


@message("etcd.member-add-reply")
@frozen
class MemberAddReply:
    revision: int
    member: ClusterMember
    members: tuple[ClusterMember, ...]
    """All of them now."""


@message("etcd.member-remove")
@frozen
class MemberRemove(Request[Storage, "MembersReply"]):
    """Take a member out; it stops when it hears of it. Answered by `MembersReply`.

    Refused (`MembershipError`) when those who are left, and heard, would be no majority.
    """

    id: int


@message("etcd.member-update")
@frozen
class MemberUpdate(Request[Storage, "MembersReply"]):
    """A member is reached elsewhere from now on. Answered by `MembersReply`."""

    id: int
    peer_urls: tuple[str, ...]


@message("etcd.member-promote")
@frozen
class MemberPromote(Request[Storage, "MembersReply"]):
    """Make a learner a voter. Answered by `MembersReply`. Refused until it has nine tenths of the log."""

    id: int


@message("etcd.member-publish")
@frozen
class MemberPublish(Request[Storage, "MembersReply"]):
    """A member says that it has started, and where clients reach it. Answered by `MembersReply`."""

    id: int
    name: str
    client_urls: tuple[str, ...] = ()


@message("etcd.members-reply")
@frozen
class MembersReply:
    revision: int
    members: tuple[ClusterMember, ...]
    """All of them now."""


@message("etcd.move-leader")
@frozen
class MoveLeader(Request[Storage, "MoveLeaderReply"]):
    """Let another member lead. Answered by `MoveLeaderReply` once it does.

    Refused (`MembershipError`) when it is no voter; `Unavailable` when it does not take over in time.
    """

    target: int


@message("etcd.move-leader-reply")
@frozen
class MoveLeaderReply:
    revision: int
    leader: int


@message("etcd.leadership")
@frozen
class Leadership:
    """Who leads, as the member that answers knows."""

    member: int = 0
    """Who answers; 0 while nobody runs who could."""
    leader: int = 0
    """0 for nobody."""
    term: int = 0


@message("etcd.await-leader")
@frozen
class AwaitLeader(Request[Storage, Leadership]):
    """Who leads, as soon as it is something else than `known`. Answered by `Leadership`.

    What it says is as old as what the store last answered: whoever asks again with each answer has heard of
    a new leader, or of none, before anything that came of that.
    """

    known: Leadership | None = None
    """What the last answer said; None: to be answered at once."""


ClusterChange = MemberAdd | MemberRemove | MemberUpdate | MemberPromote | MemberPublish
"""What goes through the log."""
