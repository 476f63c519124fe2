"""A whole Raft group in one hand, sans I/O: members, their disks, the network between them and the time.

For transcripts, property tests and benchmarks of the core. Whoever holds it decides what happens next: which
message arrives, is lost or comes twice, who crashes and when, how time passes. What must always hold is
checked on the way: at most one leader a term, log matching, leader completeness, committed entries stay and
are applied in one order everywhere.
"""

from collections.abc import Sequence
from random import Random

from attrs import define, field

from understudy.raftstore.confchange import ConfigurationChange
from understudy.raftstore.memberlog import VolatileLog
from understudy.raftstore.messages import Entry, Message, ReadToken, Snapshot
from understudy.raftstore.options import RaftOptions
from understudy.raftstore.raft import Raft
from understudy.raftstore.ready import PersistentState, Ready, Role


@define
class Node:
    disk: VolatileLog
    raft: Raft | None
    """None while the member is down."""
    applied: list[object] = field(factory=list)
    """The state machine: everything that was applied, in order."""
    reads: dict[ReadToken, int | None] = field(factory=dict)
    """What became of the reads of this incarnation: index, or None for lost."""


@define
class Loopback:
    members: Sequence[int]
    random: Random
    options: RaftOptions = field(factory=RaftOptions)
    now_ms: float = 0.0
    nodes: dict[int, Node] = field(init=False)
    network: list[Message] = field(factory=list)
    """Sent and not arrived, oldest first."""
    leaders: dict[int, int] = field(factory=dict)
    """Term -> who led it."""
    committed: dict[int, Entry] = field(factory=dict)
    """Every entry that anybody was ever told to apply."""

    def __attrs_post_init__(self) -> None:
        self.nodes = {}
        for member in self.members:
            bootstrap = PersistentState.bootstrap(self.members)
            self.nodes[member] = Node(VolatileLog.holding(bootstrap), None)
            self.start(member)

    # ---------------------------------------------------------------- members

    def start(self, member: int) -> Raft:
        node = self.nodes[member]
        assert node.raft is None, member
        raft = Raft(member, node.disk.load(), self.options, self.random, self.now_ms)
        data = node.disk.snapshot.data
        node.applied = list(data) if isinstance(data, tuple) else []
        node.reads = {}
        node.raft = raft
        return raft

    def crash(self, member: int) -> None:
        """The member is gone, and with it all that its disk does not have."""
        self.nodes[member].raft = None

    def raft(self, member: int) -> Raft:
        raft = self.nodes[member].raft
        assert raft is not None, f"member {member} is down"
        return raft

    def running(self) -> list[int]:
        return [member for member, node in self.nodes.items() if node.raft is not None]

    def leader(self) -> int:
        """The leader of the newest term, 0 if nobody leads."""
        leading = [
            (node.raft.term, member)
            for member, node in self.nodes.items()
            if node.raft is not None and node.raft.role is Role.LEADER
        ]
        return max(leading)[1] if leading else 0

    # ---------------------------------------------------------------- what happens

    def process(self, member: int, crash: str = "") -> Ready:
        """Do what a member's `Ready` asks for. It can crash on the way: "before sync" or "after sync"."""
        node, raft = self.nodes[member], self.raft(member)
        ready = raft.ready()
        self.network.extend(ready.messages)
        if crash == "before sync":
            self.crash(member)
            return ready
        node.disk.store(ready)
        if crash == "after sync":
            self.crash(member)
            return ready
        raft.persisted(ready)
        self.network.extend(ready.messages_after_sync)
        if ready.snapshot is not None:
            assert isinstance(ready.snapshot.data, tuple), ready.snapshot
            node.applied = list(ready.snapshot.data)
            raft.applied(ready.snapshot.index)
        for entry in ready.committed:
            self._apply(member, node, raft, entry)
        for read in ready.reads:
            node.reads[read.token] = read.index
        for token in ready.lost_reads:
            node.reads[token] = None
        self._check(member)
        return ready

    def _apply(self, member: int, node: Node, raft: Raft, entry: Entry) -> None:
        known = self.committed.setdefault(entry.index, entry)
        assert known == entry, f"member {member} applies {entry}, which is {known} elsewhere"
        if isinstance(entry.data, ConfigurationChange):
            raft.apply_configuration(entry.data)
        elif entry.data is not None:
            node.applied.append(entry.data)
        raft.applied(entry.index)

    def deliver(self, position: int, duplicate: bool = False) -> Message:
        """A message arrives (nowhere, if its receiver is down); as a duplicate it also stays on its way."""
        message = self.network[position] if duplicate else self.network.pop(position)
        node = self.nodes[message.to]
        if node.raft is not None:
            node.raft.advance_clock(self.now_ms)
            node.raft.step(message)
        return message

    def drop(self, position: int) -> Message:
        return self.network.pop(position)

    def advance(self, to_ms: float) -> None:
        """Let time pass, on every running member's clock; timers that are due go off."""
        self.now_ms = to_ms
        for node in self.nodes.values():
            if node.raft is not None:
                node.raft.tick(to_ms)

    def next_deadline_ms(self) -> float:
        deadlines = [node.raft.deadline_ms for node in self.nodes.values() if node.raft is not None]
        return min(deadlines, default=float("inf"))

    def settle(self) -> None:
        """Process and deliver everything, in order, until nothing moves; no time passes."""
        while True:
            moved = False
            for member in self.running():
                moved = not self.process(member).empty or moved
            while self.network:
                self.deliver(0)
                moved = True
            if not moved:
                return

    def run(self, duration_ms: float) -> None:
        """Let the group run undisturbed, messages without delay."""
        end_ms = self.now_ms + duration_ms
        self.settle()
        while (deadline_ms := self.next_deadline_ms()) <= end_ms:
            self.advance(max(deadline_ms, self.now_ms))
            self.settle()
        self.advance(end_ms)
        self.settle()

    def compact(self, member: int, keep_entries: int) -> Snapshot:
        """The member takes a snapshot of what it has applied, unless it just got one that is newer."""
        node, raft = self.nodes[member], self.raft(member)
        index = raft.log.applied_index
        term = raft.log.term_at(index)
        if term is None:
            return raft.log.snapshot
        snapshot = Snapshot(index, term, raft.configuration, tuple(node.applied))
        if index > node.disk.snapshot.index:
            node.disk.forget(snapshot)
            raft.compact(snapshot, keep_entries)
        return snapshot

    # ---------------------------------------------------------------- what must always hold

    def _check(self, member: int) -> None:
        raft = self.raft(member)
        log = raft.log
        assert log.floor_index <= log.snapshot.index <= log.applied_index <= log.applying_index, log
        assert log.applying_index <= log.commit_index <= log.last_index, log
        assert log.stable_index <= log.offered_index <= log.last_index, log
        if raft.role is Role.LEADER:
            known = self.leaders.setdefault(raft.term, member)
            assert known == member, f"members {known} and {member} both lead term {raft.term}"
            # Leader completeness (§5.4): whatever is committed is in the log of every later leader.
            for index in range(max(log.floor_index + 1, log.commit_index - 50), len(self.committed) + 1):
                entry = self.committed[index]
                if entry.term < raft.term:
                    assert log.term_at(index) == entry.term, (member, entry, log.term_at(index))

    def check_logs(self) -> None:
        """Log matching (§5.3): the same index and term means the same entries up to there."""
        logs = [(member, node.raft.log) for member, node in self.nodes.items() if node.raft is not None]
        for position, (one, log) in enumerate(logs):
            for other, twin in logs[position + 1 :]:
                last = min(log.last_index, twin.last_index)
                while last > max(log.floor_index, twin.floor_index) and log.term_at(last) != twin.term_at(
                    last
                ):
                    last -= 1
                for index in range(max(log.floor_index, twin.floor_index) + 1, last + 1):
                    ours = log.entries[index - log.floor_index - 1]
                    theirs = twin.entries[index - twin.floor_index - 1]
                    assert ours == theirs, f"members {one} and {other} differ at {index}: {ours}, {theirs}"

    def majority_runs(self) -> bool:
        return 2 * len(self.running()) > len(self.nodes)
