"""The Raft core, sans I/O: messages, proposals and the time go in, `Ready` comes out.

The driver's part, for each `Ready`, in this order:

1. send `messages` (they depend on nothing that is not durable yet);
2. make `snapshot`, `entries` and `hard_state` durable, together;
3. call `persisted(ready)`, and send `messages_after_sync`;
4. restore `snapshot` if there is one, then apply `committed` in order, passing configuration entries to
`apply_configuration`, and call `applied(index)`.

Messages may come in between these steps. The next `Ready` may be taken, and its messages sent, before the
last one is durable, so long as each is made durable, and step 3 done for it, in order. Step 4 need not wait
for step 2: what is committed is durable at a majority.

Nothing here blocks, reads a clock or draws from a random source that was not passed in. Sections ("§") are
those of the Raft paper (extended version) and of Ongaro's thesis ("thesis §").
"""

import math

from understudy.raftstore import confchange, quorum
from understudy.raftstore.confchange import ConfigurationChange
from understudy.raftstore.configuration import Configuration
from understudy.raftstore.election import Elector
from understudy.raftstore.leadership import Leadership, reconcile
from understudy.raftstore.messages import (
    AppendReply,
    AppendRequest,
    Entry,
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
from understudy.raftstore.quorum import VoteResult
from understudy.raftstore.readindex import PendingRead, ReadState
from understudy.raftstore.ready import NotLeading, ProposalRefused, Ready, Role


class Raft(Elector):
    """One member of a group."""

    # ------------------------------------------------------------------ time

    def advance_clock(self, now_ms: float) -> None:
        """Say what time it is, on a clock that never goes back; to be called before anything else is."""
        assert now_ms >= self.now_ms, (now_ms, self.now_ms)
        self.now_ms = now_ms

    @property
    def deadline_ms(self) -> float:
        """When `tick` is due, infinity for never. It moves with every message."""
        leadership = self.leadership
        if leadership is not None:
            return min(
                leadership.heartbeat_deadline_ms,
                leadership.quorum_deadline_ms,
                leadership.transfer_deadline_ms,
            )
        return self._election_deadline_ms if self._promotable() else math.inf

    def tick(self, now_ms: float) -> None:
        """Do what is due. Calling it too early does nothing."""
        self.advance_clock(now_ms)
        if self.leadership is not None:
            self._tick_leader(self.leadership)
        elif now_ms >= self._election_deadline_ms and self._promotable():
            if self.role is Role.CANDIDATE and self._persisted_term < self.term:
                # Nobody was asked yet: the own disk is slow, and `persisted` lengthens the time.
                self._draw_election_deadline()
                return
            late_ms = now_ms - self._election_deadline_ms
            if late_ms > self.options.stall_ms and self._excuses < self.options.max_excuses:
                self._excuses += 1
                self._draw_election_deadline()
            else:
                self.campaign()

    def _tick_leader(self, leadership: Leadership) -> None:
        options = self.options
        if self.now_ms >= leadership.quorum_deadline_ms:
            late_ms = self.now_ms - leadership.quorum_deadline_ms
            leadership.quorum_deadline_ms = self.now_ms + options.election_timeout_max_ms
            excused = late_ms > options.stall_ms and self._excuses < options.max_excuses
            self._excuses = self._excuses + 1 if excused else 0
            if options.check_quorum and not excused:
                # thesis §6.2: a leader that cannot reach a majority must not hold up its clients.
                heard = {
                    member: True
                    for member, progress in leadership.progress.items()
                    if progress.recently_active or member == self.member
                }
                if quorum.vote(self.configuration, heard) is not VoteResult.WON:
                    self._become_follower(self.term, 0)
                    return
                for progress in leadership.progress.values():
                    progress.recently_active = False
        if self.now_ms >= leadership.transfer_deadline_ms:
            self._abort_transfer(leadership)
        if self.now_ms >= leadership.heartbeat_deadline_ms:
            leadership.heartbeat_deadline_ms = self.now_ms + options.heartbeat_ms
            if options.lease_read_clock_drift is not None:
                leadership.reads.begin(self.member, self.now_ms)
                self._prolong_lease(leadership)
            self._broadcast_heartbeat(leadership)

    # ------------------------------------------------------------------ what the driver asks for

    def propose(self, data: object, size_bytes: int) -> int:
        """Append one entry to the log; returns its index. It is committed when `Ready` hands it out with this
        leader's term. Raises `NotLeading`, `ProposalRefused`."""
        leadership = self._leading()
        if leadership.transferee:
            raise ProposalRefused(f"leadership is being handed to member {leadership.transferee}", True)
        limit = self.options.max_uncommitted_bytes
        if size_bytes and leadership.uncommitted_bytes and leadership.uncommitted_bytes + size_bytes > limit:
            raise ProposalRefused(
                f"{leadership.uncommitted_bytes} bytes wait to be committed, at most {limit}"
            )
        return self._append("normal", data, size_bytes)

    def propose_configuration(self, change: ConfigurationChange, size_bytes: int = 0) -> int:
        """As `propose`, for a change of the configuration. One at a time, and only what can be applied."""
        leadership = self._leading()
        if leadership.transferee:
            raise ProposalRefused(f"leadership is being handed to member {leadership.transferee}", True)
        if leadership.pending_configuration_index > self.log.applied_index:
            raise ProposalRefused(
                f"a configuration change may be unapplied up to {leadership.pending_configuration_index}",
                True,
            )
        try:
            confchange.apply_change(self.configuration, change)
        except confchange.ChangeRefused as refused:
            raise ProposalRefused(refused.reason) from refused
        leadership.pending_configuration_index = self.log.last_index + 1
        return self._append("configuration", change, size_bytes)

    @property
    def configuration_pending(self) -> bool:
        """Whether this leader would refuse a change because another may be unapplied."""
        leadership = self.leadership
        return leadership is not None and leadership.pending_configuration_index > self.log.applied_index

    def read_index(self) -> ReadToken:
        """Ask from when on the state may be read; the answer is in a later `Ready.reads` or `.lost_reads`.

        A follower asks its leader. Raises `NotLeading` when there is none.
        """
        self._read_count += 1
        token = ReadToken(self._nonce, self._read_count)
        if self.leadership is not None:
            self.leadership.reads.add(PendingRead(token, self.member))
        elif self.leader:
            self._forwarded_reads[token] = None
            self._send(ReadIndexRequest(self.member, self.leader, self.term, token))
        else:
            raise NotLeading(0)
        return token

    def abandon_read(self, token: ReadToken) -> None:
        """Nobody waits for this read any more; an answer that still comes is dropped."""
        self._forwarded_reads.pop(token, None)

    def transfer_leadership(self, to: int) -> None:
        """Hand over to a voter that is up to date, or is brought so first (thesis §3.10). It is given up
        after an election timeout, and when the leader is to keep it after all. Raises `NotLeading`,
        `ProposalRefused`."""
        leadership = self._leading()
        if to not in self.configuration.voters:
            raise ProposalRefused(f"member {to} is not a voter")
        if to == leadership.transferee:
            return
        if to == self.member:
            self._abort_transfer(leadership)
            return
        leadership.transferee = to
        leadership.transfer_deadline_ms = self.now_ms + self.options.election_timeout_max_ms
        self._hand_over_when_ready(leadership, to)

    def followed_from(self) -> int:
        """The last entry that every follower has, or is being sent with a snapshot, of those that were heard
        of late; the log's end where this member does not lead."""
        if self.leadership is None:
            return self.log.last_index
        since_ms = self.now_ms - self.options.election_timeout_max_ms
        known = [
            max(progress.match, progress.pending_snapshot)
            for member, progress in self.leadership.progress.items()
            if member != self.member and progress.heard_ms >= since_ms
        ]
        return min(known, default=self.log.last_index)

    def compact(self, snapshot: Snapshot, keep_entries: int) -> None:
        """Take a snapshot of the applied state in place of the log before it but the last `keep_entries`. It
        may be in memory only, as long as what is durable makes the same state."""
        self.log.compact(snapshot, keep_entries)

    # ------------------------------------------------------------------ Ready

    def ready(self) -> Ready:
        """Everything that is to be done now, once."""
        if self.leadership is not None:
            self._flush(self.leadership)
        state = HardState(self.term, self.vote, self.log.commit_index)
        changed = state if state != self._persisted else None
        self._persisted = state
        ready = Ready(
            messages=tuple(self._messages),
            hard_state=changed,
            snapshot=self._pending_snapshot,
            entries=self.log.offer_unstable(),
            messages_after_sync=tuple(self._messages_after_sync),
            committed=self.log.offer_committed(self.options.max_apply_bytes),
            reads=tuple(self._reads),
            lost_reads=tuple(self._lost_reads),
        )
        self._pending_snapshot = None
        for taken in (self._messages, self._messages_after_sync, self._reads, self._lost_reads):
            taken.clear()
        return ready

    def persisted(self, ready: Ready) -> None:
        """What `ready` wanted durable is."""
        if ready.hard_state is not None:
            if self.role is Role.CANDIDATE and self._persisted_term < ready.hard_state.term == self.term:
                # Others' disks may be as slow as this one was: their votes are waited for that long, too.
                self._election_deadline_ms += 3 * (self.now_ms - self._candidacy_ms)
            self._persisted_term = ready.hard_state.term
        if ready.entries:
            self.log.made_durable()
        leadership = self.leadership
        if leadership is not None and ready.entries:
            # Only now does the leader count itself (etcd#14370: a group of one that acknowledged before its
            # disk).
            own = leadership.progress.get(self.member)
            if own is not None and own.acknowledged(self.log.stable_index):
                self._commit(leadership)

    def applied(self, index: int) -> None:
        """The state machine has applied everything up to `index`."""
        log = self.log
        assert log.applied_index <= index <= log.applying_index, (
            log.applied_index,
            index,
            log.applying_index,
        )
        log.applied_index = index
        if self.leadership is not None:
            self._leave_joint_if_due(self.leadership)

    def apply_configuration(self, entry: Entry) -> Configuration:
        """A committed configuration entry has its turn; returns the configuration from here on."""
        # A snapshot that came since the entry was handed out has its effect, and of what followed.
        if entry.index > self.log.snapshot.index:
            assert isinstance(entry.data, ConfigurationChange), entry
            self._switch_configuration(confchange.apply_change(self.configuration, entry.data))
        return self.configuration

    def _switch_configuration(self, configuration: Configuration) -> None:
        self.configuration = configuration
        leadership = self.leadership
        if leadership is None:
            return
        if self.member not in configuration.all_voters:
            # §6: a leader that is not in the new configuration steps down once that is committed.
            self._become_follower(self.term, 0)
            return
        leadership.progress = reconcile(leadership.progress, configuration, self.log.last_index, self.options)
        self._commit(leadership)
        if leadership.transferee and leadership.transferee not in configuration.voters:
            self._abort_transfer(leadership)

    def _abort_transfer(self, leadership: Leadership) -> None:
        leadership.transferee = 0
        leadership.transfer_deadline_ms = math.inf
        # What had to wait for it, and would wait until something else is applied.
        self._leave_joint_if_due(leadership)

    def _leave_joint_if_due(self, leadership: Leadership) -> None:
        """§6: whoever leads leaves the joint configuration, once it is applied; thesis §4.3."""
        if (
            self.configuration.auto_leave
            and leadership.pending_configuration_index <= self.log.applied_index
            and not leadership.transferee
        ):
            leadership.pending_configuration_index = self.log.last_index + 1
            self._append("configuration", ConfigurationChange(), 0)

    # ------------------------------------------------------------------ messages in

    def step(self, message: Message) -> None:
        """Take in a message of another member."""
        assert message.to == self.member, (message, self.member)
        if message.term > self.term:
            if not self._admit_higher_term(message):
                return
        elif message.term < self.term:
            self._answer_lower_term(message)
            return
        match message:
            case AppendReply():
                self._on_append_reply(message)
            case AppendRequest():
                self._follow(message.sender)
                self._on_append(message)
            case HeartbeatReply():
                self._on_heartbeat_reply(message)
            case Heartbeat():
                self._follow(message.sender)
                self._on_heartbeat(message)
            case VoteRequest():
                self._on_vote_request(message)
            case VoteReply():
                self._on_vote_reply(message)
            case SnapshotRequest():
                self._follow(message.sender)
                self._on_snapshot(message)
            case TimeoutNow():
                self._on_timeout_now()
            case ReadIndexRequest():
                if self.leadership is not None:
                    self.leadership.reads.add(PendingRead(message.token, message.sender))
            case ReadIndexReply():
                if message.token in self._forwarded_reads:
                    del self._forwarded_reads[message.token]
                    self._reads.append(ReadState(message.token, message.index))

    def _admit_higher_term(self, message: Message) -> bool:
        match message:
            case VoteRequest():
                if not message.transfer and self._leader_lives():
                    return False
                if not message.pre:
                    self._become_follower(message.term, 0)
            case VoteReply(pre=True, granted=True):
                pass  # It names the term that would come, and does not begin it.
            case AppendRequest() | Heartbeat() | SnapshotRequest():
                self._become_follower(message.term, message.sender)
            case _:
                self._become_follower(message.term, 0)
        return True

    def _answer_lower_term(self, message: Message) -> None:
        """Somebody is behind. Whoever still leads an old term must hear of it, or a member whose term grew
        while it was alone could neither follow nor win (the leader's followers would not vote for it)."""
        match message:
            case AppendRequest() | Heartbeat() | SnapshotRequest():
                self._send(AppendReply(self.member, message.sender, self.term, index=0))
            case VoteRequest(pre=True):
                self._send(self._refusal(message))
                self._commit_by_vote(message)
            case _:
                pass

    def _follow(self, leader: int) -> None:
        """The leader of this term was heard."""
        assert self.role is not Role.LEADER, f"members {self.member} and {leader} both lead term {self.term}"
        if self.role is not Role.FOLLOWER or self.leader != leader:
            self._become_follower(self.term, leader)
        self._leader_contact_ms = self.now_ms
        self._excuses = 0
        self._draw_election_deadline()

    def _on_append(self, request: AppendRequest) -> None:
        log = self.log
        if request.previous_index < log.commit_index:
            # Old news: what is committed is the same everywhere.
            self._send(AppendReply(self.member, request.sender, self.term, index=log.commit_index))
        elif log.matches(request.previous_index, request.previous_term):
            log.merge(request.previous_index, request.entries)
            last_new = request.previous_index + len(request.entries)
            log.commit_to(min(request.commit_index, last_new))
            self._send(AppendReply(self.member, request.sender, self.term, index=last_new))
        else:
            hint_index, hint_term = log.last_agreement(request.previous_index, request.previous_term)
            self._send(
                AppendReply(
                    self.member,
                    request.sender,
                    self.term,
                    index=request.previous_index,
                    rejected=True,
                    hint_index=hint_index,
                    hint_term=hint_term,
                )
            )

    def _on_heartbeat(self, heartbeat: Heartbeat) -> None:
        self.log.commit_to(heartbeat.commit_index)
        self._send(HeartbeatReply(self.member, heartbeat.sender, self.term, heartbeat.read_round))

    def _on_snapshot(self, request: SnapshotRequest) -> None:
        log, snapshot = self.log, request.snapshot
        if snapshot.index > log.commit_index:
            if log.matches(snapshot.index, snapshot.term):
                # §7: everything is here already, and what follows it is worth keeping.
                log.commit_to(snapshot.index)
            else:
                log.restore(snapshot)
                self._pending_snapshot = snapshot
                self._switch_configuration(snapshot.configuration)
                self._send(AppendReply(self.member, request.sender, self.term, index=log.last_index))
                return
        self._send(AppendReply(self.member, request.sender, self.term, index=log.commit_index))
