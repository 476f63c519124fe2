"""What a group's members begin with: who belongs to it, where each has its log, how they reach each other."""

from collections.abc import Callable, Sequence

from attrs import frozen

from understudy.actors import Ref, World
from understudy.raftstore.cluster import Cluster
from understudy.raftstore.machine import StateMachine
from understudy.raftstore.memberlog import MemberLog, VolatileLog
from understudy.raftstore.membership import Membership
from understudy.raftstore.options import StoreOptions
from understudy.raftstore.ready import PersistentState
from understudy.raftstore.storage.cluster import ClusterMember, MemberPublish

LogOf = Callable[[World, str, int, PersistentState], MemberLog]
"""The log of a member, given its world, host, id, and what an empty one begins with."""


@frozen
class Seat:
    """A place for one member."""

    member: int
    log_of: LogOf
    host: str
    """Where it lives; empty for the group's own host."""
    state: PersistentState
    """What its log begins with when it is empty."""
    publish: MemberPublish | None = None
    """What it tells the group when it has started."""

    def log(self, world: World, host: str) -> MemberLog:
        return self.log_of(world, host, self.member, self.state)


class VolatileLogs:
    """Logs in memory: each survives its member's actor, and not the process."""

    def __init__(self) -> None:
        self._logs: dict[int, VolatileLog] = {}

    def log(self, world: World, host: str, member: int, state: PersistentState) -> MemberLog:
        return self._logs.setdefault(member, VolatileLog.holding(state))


def founding_state(members: Sequence[ClusterMember], options: StoreOptions | None = None) -> PersistentState:
    """What the log of each first member of a group begins with: who belongs to it, and an empty store."""
    machine = StateMachine(options or StoreOptions())
    machine.cluster = Cluster({member.id: member for member in sorted(members, key=lambda each: each.id)})
    voters = [member.id for member in members if not member.is_learner]
    return PersistentState.bootstrap(voters, machine.snapshot())


def local_founders(count: int) -> tuple[ClusterMember, ...]:
    """The first members of a group whose members are all in one system."""
    return tuple(
        ClusterMember(number, f"member-{number}", (f"actor:member-{number}",))
        for number in range(1, count + 1)
    )


class LocalPeers:
    """Members that are all in this system: whoever starts them fills it."""

    def __init__(self) -> None:
        self.refs: dict[int, Ref[Membership]] = {}

    def get(self, member: int) -> Ref[Membership] | None:
        return self.refs.get(member)

    def learn(self, members: tuple[ClusterMember, ...]) -> None:
        """Addresses are of no use here."""
