"""The replicating half of the Raft core: what a member is, and what it does while it leads.

Entries go to each follower as fast as it takes them: one probe at a time until the logs are known to agree,
then a window of messages ahead of their answers; the snapshot to whom the log no longer reaches (§5.3, §7;
thesis §10.2.1).
"""

import math
from random import Random

from understudy.raftstore import quorum
from understudy.raftstore.leadership import Leadership
from understudy.raftstore.log import RaftLog
from understudy.raftstore.messages import (
    AppendReply,
    AppendRequest,
    Entry,
    EntryKind,
    HardState,
    Heartbeat,
    HeartbeatReply,
    Message,
    ReadIndexReply,
    ReadIndexRequest,
    ReadToken,
    Snapshot,
    SnapshotRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from understudy.raftstore.options import RaftOptions
from understudy.raftstore.progress import Progress, ProgressState
from understudy.raftstore.readindex import PendingRead, ReadState
from understudy.raftstore.ready import NotLeading, PersistentState, Role


class Replicator:
    """A member's state; the leader's sending and counting. `Elector` adds elections, `Raft` the way in."""

    def __init__(
        self,
        member: int,
        persistent: PersistentState,
        options: RaftOptions,
        random: Random,
        now_ms: float = 0.0,
    ) -> None:
        assert member > 0, member
        self.member = member
        self.options = options
        self.now_ms = now_ms
        self.term = persistent.hard_state.term
        self.vote = persistent.hard_state.vote
        self.log = RaftLog(persistent.snapshot, list(persistent.entries))
        self.log.commit_to(persistent.hard_state.commit_index)
        self.configuration = persistent.snapshot.configuration
        self.role = Role.FOLLOWER
        self.leader = 0
        self.leadership: Leadership | None = None
        self._random = random
        self._nonce = random.getrandbits(63)
        self._read_count = 0
        self._persisted = HardState(self.term, self.vote, self.log.commit_index)
        self._persisted_term = self.term
        self._candidacy_ms = now_ms
        """When this member last became a candidate."""
        self._votes: dict[int, bool] = {}
        self._leader_contact_ms = -math.inf
        if options.lease_read_clock_drift is not None and self.term > 0:
            # What it promised before it stopped is forgotten: promise it again (thesis §6.4.1).
            self._leader_contact_ms = now_ms
        self._excuses = 0
        self._forwarded_reads: dict[ReadToken, None] = {}
        self._messages: list[Message] = []
        self._messages_after_sync: list[Message] = []
        self._pending_snapshot: Snapshot | None = None
        self._reads: list[ReadState] = []
        self._lost_reads: list[ReadToken] = []

    # ------------------------------------------------------------------ a leader's log

    def _leading(self) -> Leadership:
        if self.leadership is None:
            raise NotLeading(self.leader)
        return self.leadership

    def _append(self, kind: EntryKind, data: object, size_bytes: int) -> int:
        leadership = self._leading()
        index = self.log.last_index + 1
        self.log.append(Entry(index, self.term, kind, data, size_bytes))
        leadership.uncommitted_bytes += size_bytes
        return index

    # ------------------------------------------------------------------ a leader's answers

    def _on_append_reply(self, reply: AppendReply) -> None:
        leadership = self.leadership
        progress = leadership.progress.get(reply.sender) if leadership is not None else None
        if leadership is None or progress is None:
            return
        self._heard(progress)
        if reply.rejected:
            agreement = reply.hint_index
            if reply.hint_term:
                agreement, _ = self.log.last_agreement(reply.hint_index, reply.hint_term)
            if progress.rejected(reply.index, agreement) and progress.state is ProgressState.REPLICATE:
                progress.become_probe()
            return
        assert reply.index <= self.log.last_index, (
            f"{reply} acknowledges what was never sent: the log ends at {self.log.last_index}"
        )
        news = progress.acknowledged(reply.index)
        if progress.state is ProgressState.REPLICATE:
            progress.inflight.free_to(reply.index)
        elif progress.state is ProgressState.PROBE:
            if news or reply.index == progress.match:
                progress.become_replicate()
        elif progress.match >= self.log.floor_index:
            progress.become_replicate()
        elif progress.match >= progress.pending_snapshot:
            # It came, and the log was cut beyond it meanwhile: do not wait with the next one.
            progress.become_probe()
        if news:
            self._commit(leadership)
            if leadership.transferee == reply.sender:
                self._hand_over_when_ready(leadership, reply.sender)

    def _on_heartbeat_reply(self, reply: HeartbeatReply) -> None:
        leadership = self.leadership
        progress = leadership.progress.get(reply.sender) if leadership is not None else None
        if leadership is None or progress is None:
            return
        self._heard(progress)
        progress.paused = False
        progress.doubtful = progress.match < self.log.last_index
        if progress.state is ProgressState.REPLICATE:
            # Answers may have been lost: never let a full window stay full.
            if progress.inflight.full:
                progress.inflight.free_first()
        elif (
            progress.state is ProgressState.SNAPSHOT
            and self.now_ms - progress.snapshot_sent_ms >= self.options.snapshot_retry_ms
        ):
            # It seems lost: begin again from what is known.
            progress.become_probe()
        leadership.reads.confirm(reply.sender, reply.read_round)
        self._prolong_lease(leadership)

    def _prolong_lease(self, leadership: Leadership) -> None:
        """Thesis §6.4.1: from when a round was begun that a majority has confirmed."""
        drift = self.options.lease_read_clock_drift
        if drift is not None:
            since_ms = leadership.reads.confirmed_since_ms(self.configuration)
            if since_ms is not None:
                leadership.lease_until_ms = since_ms + self.options.election_timeout_min_ms / drift

    def _heard(self, progress: Progress) -> None:
        progress.recently_active = True
        progress.heard_ms = self.now_ms

    def _commit(self, leadership: Leadership) -> None:
        """§5.3: what a majority has is committed; §5.4.2, figure 8: but only entries of its own term."""
        matches = {member: progress.match for member, progress in leadership.progress.items()}
        index = quorum.committed(self.configuration, matches)
        log = self.log
        if index <= log.commit_index or log.term_at(index) != self.term:
            return
        for entry in log.entries[log.commit_index - log.floor_index : index - log.floor_index]:
            if entry.term == self.term:
                leadership.uncommitted_bytes -= entry.size_bytes
        assert leadership.uncommitted_bytes >= 0, leadership.uncommitted_bytes
        log.commit_to(index)

    def _hand_over_when_ready(self, leadership: Leadership, to: int) -> None:
        if leadership.progress[to].match == self.log.last_index:
            leadership.lease_forfeited = True
            self._send(TimeoutNow(self.member, to, self.term))

    # ------------------------------------------------------------------ a leader's messages

    def _flush(self, leadership: Leadership) -> None:
        """Send what followers lack and open a round for the reads that came since."""
        reads = leadership.reads
        # etcd#7331: a new leader does not know the commit index before an entry of its own term is committed.
        if self.log.term_at(self.log.commit_index) == self.term:
            if self.now_ms < leadership.lease_until_ms and not leadership.lease_forfeited:
                # The time was looked at after the reads had come: nobody else led at that moment.
                for read in reads.take_new():
                    self._grant_read(read, self.log.commit_index)
            elif reads.open(self.member, self.log.commit_index, self.now_ms):
                self._broadcast_heartbeat(leadership)
            for index, read in reads.take_confirmed(self.configuration):
                self._grant_read(read, index)
        for member, progress in leadership.progress.items():
            if member != self.member:
                while self._send_append(member, progress):
                    pass

    def _grant_read(self, read: PendingRead, index: int) -> None:
        if read.member == self.member:
            self._reads.append(ReadState(read.token, index))
        else:
            self._send(ReadIndexReply(self.member, read.member, self.term, read.token, index))

    def _send_append(self, member: int, progress: Progress) -> bool:
        """Send one message of entries, or the snapshot, or just the commit index, if there is reason to;
        returns whether there may be more."""
        if progress.blocked():
            return False
        log = self.log
        previous_index = progress.next - 1
        previous_term = log.term_at(previous_index)
        if previous_term is None:
            self._send_snapshot(member, progress)
            return False
        probing = progress.state is ProgressState.PROBE
        news = progress.next <= log.last_index or progress.commit_told < log.commit_index
        if not (news or probing or progress.doubtful):
            return False
        entries: tuple[Entry, ...] = ()
        if progress.next <= log.last_index:
            entries = log.slice(progress.next, log.last_index, self.options.max_append_bytes)
        self._send(
            AppendRequest(
                sender=self.member,
                to=member,
                term=self.term,
                previous_index=previous_index,
                previous_term=previous_term,
                entries=entries,
                commit_index=log.commit_index,
            )
        )
        size_bytes = sum([entry.size_bytes for entry in entries])
        progress.sent(previous_index + len(entries), size_bytes, len(entries))
        progress.commit_told = log.commit_index
        return not probing and progress.next <= log.last_index

    def _send_snapshot(self, member: int, progress: Progress) -> None:
        if not progress.recently_active:
            return  # Nobody is there to take it: wait for a sign of life.
        snapshot = self.log.snapshot
        self._send(SnapshotRequest(self.member, member, self.term, snapshot))
        progress.become_snapshot(snapshot.index, self.now_ms)

    def _broadcast_heartbeat(self, leadership: Leadership) -> None:
        for member, progress in leadership.progress.items():
            if member != self.member:
                # What the follower lacks must not be committed there: its log may still hold something else
                # (§5.3).
                commit_index = min(progress.match, self.log.commit_index)
                self._send(Heartbeat(self.member, member, self.term, commit_index, leadership.reads.round))

    def _send(self, message: Message) -> None:
        """A leader of a durable term says nothing that its disk could make a lie (thesis §10.2.1); nor does
        anybody with what promises nothing about his log. The rest waits for the disk: a slow one must not
        keep a leader from hearing that he is followed.
        """
        if self._persisted_term == self.term and (self.role is Role.LEADER or _promises_nothing(message)):
            self._messages.append(message)
        else:
            self._messages_after_sync.append(message)


def _promises_nothing(message: Message) -> bool:
    """Whether a message is true in its term, whatever becomes of the sender's log and vote."""
    match message:
        case HeartbeatReply() | ReadIndexRequest():
            return True
        case VoteRequest() | VoteReply():
            return message.pre
        case _:
            return False
