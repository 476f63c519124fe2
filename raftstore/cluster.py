"""The replicated list of a group's members: names, addresses, who is a learner, who was taken out. Sans I/O.

The Raft core knows members by number; what else there is to know of them is part of the state machine. The
rules for changing it are etcd's (`--strict-reconfig-check`, which is on by default): a change must not leave
fewer started and heard voters than a majority.
"""

from collections.abc import Callable
from typing import Final

from attrs import define, evolve, field, frozen

from understudy.mailbox import message
from understudy.raftstore.confchange import Change
from understudy.raftstore.storage.cluster import (
    ClusterChange,
    ClusterMember,
    MemberAdd,
    MemberPromote,
    MemberPublish,
    MemberRemove,
    MembershipError,
    MemberUpdate,
)

LEARNERS_MAX: Final = 1
"""The default of etcd's --max-learners."""
IN_SYNC: Final = 0.9
"""A learner that has this part of the leader's log may become a voter, as in etcd."""


@message("raft.cluster-state")
@frozen
class ClusterState:
    members: tuple[ClusterMember, ...] = ()
    """By id."""
    removed: tuple[int, ...] = ()
    """Ascending: their ids are not used again, and they may have to be told."""


@frozen
class Health:
    """What the leader sees of the members: for judging whether a change is safe."""

    heard: Callable[[int], bool]
    """Whether a member answered lately."""
    match: Callable[[int], int]
    """Up to where a member has the leader's log."""
    last_index: int


@define
class Cluster:
    members: dict[int, ClusterMember] = field(factory=dict)
    """In the order of the ids."""
    removed: dict[int, None] = field(factory=dict)

    @classmethod
    def restore(cls, state: ClusterState) -> "Cluster":
        return cls({member.id: member for member in state.members}, dict.fromkeys(state.removed))

    def state(self) -> ClusterState:
        return ClusterState(self.all(), tuple(self.removed))

    def all(self) -> tuple[ClusterMember, ...]:
        return tuple(self.members.values())

    def voters(self) -> list[ClusterMember]:
        return [member for member in self.members.values() if not member.is_learner]

    # ---------------------------------------------------------------- before a change is proposed

    def with_id(self, request: ClusterChange) -> ClusterChange:
        """The request as it goes into the log: whoever is let in gets an id."""
        if isinstance(request, MemberAdd) and not request.id:
            return evolve(request, id=max((*self.members, *self.removed), default=0) + 1)
        return request

    def check_safe(self, request: ClusterChange, health: Health) -> None:
        """Refuse a change that could cost the group its majority. Raises `MembershipError`."""
        match request:
            case MemberAdd(is_learner=False):
                self._check_started(len(self.voters()) + 1, without=0, adding=True)
                silent = [member.id for member in self.voters() if not health.heard(member.id)]
                if silent:
                    raise MembershipError("unhealthy cluster", f"nothing is heard of {silent}")
            case MemberPromote(id=learner):
                self._check_started(len(self.voters()) + 1, without=0, adding=True)
                if health.match(learner) < health.last_index * IN_SYNC:
                    raise MembershipError(
                        "can only promote a learner member which is in sync with leader",
                        f"it has entry {health.match(learner)} of {health.last_index}",
                    )
            case MemberRemove(id=leaving) if leaving in self.members:
                if self.members[leaving].is_learner:
                    return
                left = [member for member in self.voters() if member.id != leaving]
                self._check_started(len(left), without=leaving, adding=False)
                if not health.heard(leaving):
                    return  # It is not among those who make the majority now.
                heard = [member for member in left if health.heard(member.id)]
                if len(heard) < len(left) // 2 + 1:
                    raise MembershipError(
                        "unhealthy cluster", f"only {len(heard)} of the {len(left)} that stay are heard"
                    )

    def _check_started(self, voters: int, without: int, adding: bool) -> None:
        """`voters` there will be: do enough of them run already?"""
        started = sum(1 for member in self.voters() if member.name and member.id != without)
        if adding and started == 1 and voters == 2:
            return  # A group of one can grow no other way.
        if started < voters // 2 + 1:
            raise MembershipError(
                "re-configuration failed due to not enough started members",
                f"{started} have, of {voters} there would be",
            )

    # ---------------------------------------------------------------- as the log has it

    def configuration_change(self, request: ClusterChange) -> Change | None:
        """What a change means to the Raft core; None for one that is not its business."""
        match request:
            case MemberAdd():
                return Change("learner" if request.is_learner else "voter", request.id)
            case MemberRemove():
                return Change("remove", request.id)
            case MemberPromote():
                return Change("voter", request.id)
            case _:
                return None

    def check(self, request: ClusterChange) -> None:
        """Refuse a change that makes no sense here. Raises `MembershipError`."""
        members = self.members
        match request:
            case MemberAdd():
                if request.id in members or request.id in self.removed:
                    raise MembershipError("member ID already exist", f"{request.id}")
                if not request.peer_urls:
                    raise MembershipError("peer URLs are missing")
                self._check_urls(request.peer_urls, besides=0)
                learners = sum(1 for member in members.values() if member.is_learner)
                if request.is_learner and learners >= LEARNERS_MAX:
                    raise MembershipError("too many learner members in cluster", f"at most {LEARNERS_MAX}")
            case _ if request.id not in members:
                removed = " was removed" if request.id in self.removed else ""
                raise MembershipError("member not found", f"{request.id}{removed}")
            case MemberRemove():
                if not members[request.id].is_learner and len(self.voters()) == 1:
                    raise MembershipError("unhealthy cluster", "it is the only voter")
            case MemberPromote():
                if not members[request.id].is_learner:
                    raise MembershipError("can only promote a learner member", f"{request.id} is a voter")
            case MemberUpdate():
                if not request.peer_urls:
                    raise MembershipError("peer URLs are missing")
                self._check_urls(request.peer_urls, besides=request.id)

    def _check_urls(self, urls: tuple[str, ...], besides: int) -> None:
        for member in self.members.values():
            for url in urls:
                if member.id != besides and url in member.peer_urls:
                    raise MembershipError("Peer URLs already exists", f"{url} is member {member.id}'s")

    def apply(self, request: ClusterChange) -> None:
        """Make a change that the log says. Raises `MembershipError`, the same at every member."""
        self.check(request)
        members = self.members
        match request:
            case MemberAdd():
                added = ClusterMember(request.id, peer_urls=request.peer_urls, is_learner=request.is_learner)
                self.members = dict(sorted({**members, request.id: added}.items()))
            case MemberRemove():
                del members[request.id]
                self.removed = dict.fromkeys(sorted((*self.removed, request.id)))
            case MemberUpdate():
                members[request.id] = evolve(members[request.id], peer_urls=request.peer_urls)
            case MemberPromote():
                members[request.id] = evolve(members[request.id], is_learner=False)
            case MemberPublish():
                members[request.id] = evolve(
                    members[request.id], name=request.name, client_urls=request.client_urls
                )
