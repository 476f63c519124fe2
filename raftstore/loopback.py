"""A whole Raft group in one hand, sans I/O: members, their disks, the network between them and the time.

For transcripts, property tests and benchmarks of the core. Whoever holds it decides what happens next: which
message arrives, is lost or comes twice, who crashes and when, how time passes. What must always hold is
checked on the way: at most one leader a term, log matching, leader completeness, committed entries are
durable at their majorities, stay and are applied in one order everywhere.
"""

import math
from collections import deque
from collections.abc import Sequence
from random import Random

from attrs import define, evolve, field

from understudy.raftstore.confchange import ConfigurationChange
from understudy.raftstore.memberlog import VolatileLog
from understudy.raftstore.messages import (
    AppendReply,
    AppendRequest,
    Entry,
    HardState,
    Heartbeat,
    Message,
    ReadToken,
    Snapshot,
    VoteReply,
)
from understudy.raftstore.options import RaftOptions
from understudy.raftstore.raft import Raft
from understudy.raftstore.ready import PersistentState, Ready, Role


@define
class LazyLog(VolatileLog):
    """As a real disk's log: a commit index that comes alone is written with what is written next."""

    noted: HardState = field(factory=HardState)

    def store(self, ready: Ready) -> bool:
        state = ready.hard_state or self.noted
        self.noted = state
        alone = (state.term, state.vote) == (self.hard_state.term, self.hard_state.vote)
        if alone and not ready.entries and ready.snapshot is None:
            return True
        return super().store(evolve(ready, hard_state=state))

    def load(self) -> PersistentState:
        self.noted = self.hard_state
        return super().load()

    def has(self, index: int, term: int | None) -> bool:
        """Whether the entry, or a snapshot that covers it, is durable."""
        offset = index - self.snapshot.index - 1
        return offset < 0 or (offset < len(self.entries) and self.entries[offset].term == term)


@define
class Node:
    disk: LazyLog
    raft: Raft | None
    """None while the member is down."""
    applied: list[object] = field(factory=list)
    """The state machine: everything that was applied, in order."""
    reads: dict[ReadToken, int | None] = field(factory=dict)
    """What became of the reads of this incarnation: index, or None for lost."""
    under_way: Ready | None = None
    """Its messages are sent; it is not applied yet."""
    unsynced: deque[Ready] = field(factory=deque)
    """Taken and not durable yet, in order."""
    clock_rate: float = 1.0
    """How fast its clock goes."""
    commit_checked: int = 0
    """As a leader: every commit up to here was found to be durable."""
    durable: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Of its disk: term, commit index, last index, snapshot index; none but the third ever goes back."""


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
    votes: dict[tuple[int, int], int] = field(factory=dict)
    """(term, member) -> whom it voted for, over all its incarnations."""
    states: dict[int, tuple[object, ...]] = field(factory=dict)
    """Index -> the state after it was applied, the same at whoever comes there."""

    def __attrs_post_init__(self) -> None:
        self.nodes = {}
        for member in self.members:
            bootstrap = PersistentState.bootstrap(self.members)
            self.nodes[member] = Node(LazyLog.holding(bootstrap), None)
            self.start(member)

    # ---------------------------------------------------------------- members

    def start(self, member: int) -> Raft:
        node = self.nodes[member]
        assert node.raft is None, member
        raft = Raft(member, node.disk.load(), self.options, self.random, self.clock_ms(member))
        data = node.disk.snapshot.data
        node.applied = list(data) if isinstance(data, tuple) else []
        node.reads = {}
        node.raft = raft
        return raft

    def crash(self, member: int) -> None:
        """The member is gone, and with it all that its disk does not have."""
        self.nodes[member].raft = None
        self.nodes[member].under_way = None
        self.nodes[member].unsynced.clear()

    def join(self, member: int) -> None:
        """A new member starts, with nothing; the group hears of it through a configuration change."""
        self.nodes[member] = Node(LazyLog.holding(PersistentState.joining()), None)
        self.start(member)

    def clock_ms(self, member: int) -> float:
        """What time it is for a member."""
        return self.now_ms * self.nodes[member].clock_rate

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
        ready = self.begin(member)
        if crash != "before sync":
            self.sync(member, tell=not crash)
        if crash:
            self.crash(member)
        else:
            self.finish(member)
        return ready

    def begin(self, member: int) -> Ready:
        """Take a `Ready`. To make it durable is for `sync`, what else it asks for waits for `finish`."""
        node, raft = self.nodes[member], self.raft(member)
        if node.under_way is not None:
            self.finish(member)
        ready = raft.ready()
        self._check_sent(ready.messages, node)
        self.network.extend(ready.messages)
        node.under_way = ready
        node.unsynced.append(ready)
        return ready

    def sync(self, member: int, count: int = 1 << 62, tell: bool = True) -> None:
        """The disk has done the oldest `count` writes; messages may have come meanwhile."""
        node, raft = self.nodes[member], self.raft(member)
        for _ in range(min(count, len(node.unsynced))):
            ready = node.unsynced.popleft()
            node.disk.store(ready)
            self._check_disk(member, node)
            if tell:
                raft.persisted(ready)
                self._check_commit(node)
                self._check_sent(ready.messages_after_sync, node)
                self.network.extend(ready.messages_after_sync)

    def finish(self, member: int) -> None:
        """The rest of what `begin` began. Messages may have come meanwhile."""
        node, raft = self.nodes[member], self.raft(member)
        ready, node.under_way = node.under_way, None
        assert ready is not None, member
        if ready.snapshot is not None:
            assert isinstance(ready.snapshot.data, tuple | None), ready.snapshot
            node.applied = list(ready.snapshot.data or ())
            raft.applied(ready.snapshot.index)
            self._check_state(ready.snapshot.index, node)
        for entry in ready.committed:
            self._apply(member, node, raft, entry)
        for read in ready.reads:
            node.reads[read.token] = read.index
        for token in ready.lost_reads:
            node.reads[token] = None
        self._check(member)

    def _apply(self, member: int, node: Node, raft: Raft, entry: Entry) -> None:
        known = self.committed.setdefault(entry.index, entry)
        assert known == entry, f"member {member} applies {entry}, which is {known} elsewhere"
        if isinstance(entry.data, ConfigurationChange):
            raft.apply_configuration(entry)
            self._check_commit(node)
        elif entry.data is not None:
            node.applied.append(entry.data)
        raft.applied(entry.index)
        self._check_state(entry.index, node)

    def deliver(self, position: int, duplicate: bool = False) -> Message:
        """A message arrives (nowhere, if its receiver is down); as a duplicate it also stays on its way."""
        message = self.network[position] if duplicate else self.network.pop(position)
        node = self.nodes.get(message.to)
        if node is not None and node.raft is not None:
            node.raft.advance_clock(self.clock_ms(message.to))
            node.raft.step(message)
            self._check_commit(node)
        return message

    def drop(self, position: int) -> Message:
        return self.network.pop(position)

    def advance(self, to_ms: float) -> None:
        """Let time pass, on every running member's clock; timers that are due go off."""
        self.now_ms = math.nextafter(to_ms, math.inf) if self._skewed() else to_ms
        for member, node in self.nodes.items():
            if node.raft is not None:
                node.raft.tick(self.clock_ms(member))

    def next_deadline_ms(self) -> float:
        deadlines = [
            node.raft.deadline_ms / node.clock_rate for node in self.nodes.values() if node.raft is not None
        ]
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
        """The member takes a snapshot of what it has applied, unless it has one of that already."""
        node, raft = self.nodes[member], self.raft(member)
        index = raft.log.applied_index
        term = raft.log.term_at(index)
        if term is None or index > raft.log.stable_index or index == raft.log.snapshot.index:
            return raft.log.snapshot
        snapshot = Snapshot(index, term, raft.configuration, tuple(node.applied))
        if index > node.disk.snapshot.index:
            node.disk.taken(snapshot)
            raft.compact(snapshot, keep_entries)
        return snapshot

    def _skewed(self) -> bool:
        """Whether a deadline on some clock is not exactly the same moment on another."""
        return any(node.clock_rate != 1.0 for node in self.nodes.values())

    # ---------------------------------------------------------------- what must always hold

    def last_committed(self) -> int:
        """The last index that anybody was told to apply."""
        return max(self.committed, default=0)

    def _check_sent(self, messages: tuple[Message, ...], node: Node) -> None:
        """What must be durable before it is said (§5, figure 2; §5.2: one vote a term)."""
        disk = node.disk
        for message in messages:
            match message:
                case VoteReply(pre=False, granted=True):
                    known = self.votes.setdefault((message.term, message.sender), message.to)
                    assert known == message.to, f"{message}: it has voted for {known}"
                    assert (disk.hard_state.term, disk.hard_state.vote) >= (message.term, 0), message
                case AppendReply(rejected=False):
                    assert disk.hard_state.term >= message.term, (message, disk.hard_state)
                    if message.term == disk.hard_state.term:
                        assert disk.snapshot.index + len(disk.entries) >= message.index, message
                case AppendRequest():
                    assert disk.hard_state.term >= message.term, (message, disk.hard_state)
                case Heartbeat():
                    assert message.commit_index <= self.last_committable(), message

    def last_committable(self) -> int:
        """The highest commit index that any running member has: what a heartbeat can tell of."""
        return max(node.raft.log.commit_index for node in self.nodes.values() if node.raft is not None)

    def _check_commit(self, node: Node) -> None:
        """What a leader calls committed is on the disks of a majority of its voters, of either half (§5.3,
        §6); learners do not count, nor does what no disk has yet."""
        raft = node.raft
        assert raft is not None
        log = raft.log
        if raft.leadership is None or log.commit_index <= node.commit_checked:
            node.commit_checked = log.commit_index
            return
        index = node.commit_checked = log.commit_index
        term = log.term_at(index)
        for voters in filter(None, (raft.configuration.voters, raft.configuration.outgoing)):
            having = [voter for voter in voters if self.nodes[voter].disk.has(index, term)]
            assert 2 * len(having) > len(voters), (index, term, having, raft.configuration)

    def _check_disk(self, member: int, node: Node) -> None:
        """On a disk, term, commit index and snapshot never go back; what was committed stays."""
        disk = node.disk
        last = disk.snapshot.index + len(disk.entries)
        now = (disk.hard_state.term, disk.hard_state.commit_index, last, disk.snapshot.index)
        before, node.durable = node.durable, now
        assert now[0] >= before[0] and now[1] >= before[1] and now[3] >= before[3], (member, before, now)
        assert last >= before[1], f"member {member} lost committed entries: {before}, {now}"
        assert last >= now[1] or node.raft is None, f"member {member}: commit index beyond its log: {now}"

    def _check_state(self, index: int, node: Node) -> None:
        """State machine safety (figure 3): whoever applied up to `index`, by entries or by a snapshot, is in
        the same state."""
        known = self.states.setdefault(index, tuple(node.applied))
        assert known == tuple(node.applied), (index, known, node.applied)

    def _check_progress(self, raft: Raft) -> None:
        """A leader's windows hold, and one configuration change is unapplied."""
        leadership = raft.leadership
        assert leadership is not None
        for member, progress in leadership.progress.items():
            assert progress.match < progress.next, (member, progress)
            inflight = progress.inflight
            assert len(inflight.sent) <= inflight.max_messages, (member, inflight)
        changes = [
            entry.index
            for entry in raft.log.entries
            if entry.kind == "configuration" and entry.index > raft.log.applied_index
        ]
        assert len([index for index in changes if raft.log.term_at(index) == raft.term]) <= 1, changes

    def _check(self, member: int) -> None:
        raft = self.raft(member)
        log = raft.log
        assert log.floor_index <= log.snapshot.index <= log.applying_index, log
        snapshot_waits = log.applying_index == log.snapshot.index
        assert log.snapshot.index <= log.applied_index or snapshot_waits, log
        assert log.applied_index <= log.applying_index, log
        assert log.applying_index <= log.commit_index <= log.last_index, log
        assert log.stable_index <= log.offered_index <= log.last_index, log
        if not any(ready.snapshot for ready in self.nodes[member].unsynced):
            disk = self.nodes[member].disk
            for index in range(max(log.floor_index, disk.snapshot.index) + 1, log.stable_index + 1):
                held = disk.entries[index - disk.snapshot.index - 1]
                assert held == log.entries[index - log.floor_index - 1], (member, index, held)
        if raft.role is Role.LEADER:
            known = self.leaders.setdefault(raft.term, member)
            assert known == member, f"members {known} and {member} both lead term {raft.term}"
            self._check_progress(raft)
            # Leader completeness (§5.4): whatever is committed is in the log of every later leader.
            for index in range(max(log.floor_index + 1, log.commit_index - 50), self.last_committed() + 1):
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
