"""A simulated group of members, each on its host with its log on the host's disk, whose members change."""

from collections.abc import Callable
from typing import Any, Literal, get_args

from attrs import define, field, frozen

from tests.raftstore.proof.membership import Changes
from understudy.actors import ActorSystem, Ref, SimWorld
from understudy.raftstore.founding import LocalPeers, founding_state
from understudy.raftstore.group import raft_node
from understudy.raftstore.options import GroupOptions
from understudy.raftstore.ready import PersistentState
from understudy.raftstore.storage import Storage
from understudy.raftstore.storage.cluster import ClusterMember, MemberList
from understudy.raftstore.wal.logs import DiskLogs
from understudy.raftstore.wal.segments import LogOptions

HOSTS = ("etcd-1", "etcd-2", "etcd-3")
SPARE_HOSTS = ("etcd-4", "etcd-5")
SYNC_SECONDS = 0.003
LOGS = DiskLogs(options=LogOptions(segment_bytes=8192))
ENDED_SECONDS = 10.0
"""Within this time after everything was mended a member that was removed has heard of it."""

MoveKind = Literal["replace", "exchange"]
MOVES: tuple[MoveKind, ...] = get_args(MoveKind)


@frozen
class Move:
    """Members that come and go, step by step."""

    kind: MoveKind
    """Let a learner in, promote it, and remove another; or remove one first, and let a voter in."""
    at_seconds: float
    leaving: int
    """The place of the member that is removed, among those that there are."""


@define(eq=False)
class Group:
    system: ActorSystem
    world: SimWorld
    options: GroupOptions
    stores: list[Ref[Storage]] = field(factory=list)
    """Of the members that belong to it and were started; shared with those who use them."""
    changes: Changes = field(init=False)
    _peers: LocalPeers = field(factory=LocalPeers)
    _members: dict[int, Ref[Storage]] = field(factory=dict)
    """Everybody who was ever started, by id."""

    def __attrs_post_init__(self) -> None:
        self.changes = Changes(self.world, self.stores)

    def found(self) -> None:
        founders = [
            ClusterMember(number, host, (f"tcp://{host}:2380",)) for number, host in enumerate(HOSTS, 1)
        ]
        state = founding_state(founders)
        for each in founders:
            self._start(each.id, each.name, state)

    def _start(self, member: int, host: str, state: PersistentState) -> None:
        self.world.disk(host).faults.sync_seconds = SYNC_SECONDS
        factory = raft_node(member, self._peers, LOGS.log, state, name=host, options=self.options)
        self._members[member] = self.system.spawn(factory, host, host=host)
        self.stores.append(self._members[member])

    def host_of(self, store: Ref[Storage]) -> str:
        return store.path.removeprefix("/")

    async def move(self, moves: tuple[Move, ...]) -> None:
        """Make these changes, one after another, as far as there is time."""
        for move, host in zip(moves, SPARE_HOSTS, strict=False):
            await self.world.sleep(max(0.0, move.at_seconds - self.world.monotonic()))
            there = [member for member, store in self._members.items() if store in self.stores]
            leaving = there[move.leaving % len(there)]
            replaces = move.kind == "replace"
            if not replaces and not await self._remove(leaving):
                return
            member = await self.changes.let_in(f"tcp://{host}:2380", is_learner=replaces)
            if member is None:
                return
            await self.world.until_host_up(host)
            self._start(member, host, PersistentState.joining())
            if replaces and not (await self.changes.promote(member) and await self._remove(leaving)):
                return

    async def _remove(self, member: int) -> bool:
        if not await self.changes.remove(member):
            return False
        self.stores.remove(self._members[member])
        return True

    async def verify(self, persistently: Callable[..., Any]) -> None:
        """Those in the list work, and everybody else has stopped. Raises AssertionError."""
        listed = await persistently(lambda: self.stores[0].ask(MemberList()))
        ids = [member.id for member in listed.members]
        # Who was removed when time was up does not know it yet.
        self.stores[:] = [store for member, store in self._members.items() if member in ids]
        gone = [member for member in self._members if member not in ids]
        with self.world.limit(ENDED_SECONDS):
            while any(self._runs(member) for member in gone):
                await self.world.sleep(0.05)
        running = [member for member in gone if self._runs(member)]
        assert not running, f"removed members do not stop: {running}, where the others are {ids}"

    def _runs(self, member: int) -> bool:
        return f"{self._members[member].path}/member-{member}" in self.system._cells
