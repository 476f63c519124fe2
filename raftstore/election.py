"""Elections: roles, terms and votes (§5.2, §5.4.1; pre-vote: thesis §9.6; hand-over: thesis §3.10)."""

import math
from random import Random

from understudy.raftstore import quorum
from understudy.raftstore.leadership import Leadership, reconcile
from understudy.raftstore.messages import VoteReply, VoteRequest
from understudy.raftstore.options import RaftOptions
from understudy.raftstore.quorum import VoteResult
from understudy.raftstore.readindex import ReadRounds
from understudy.raftstore.ready import PersistentState, Role
from understudy.raftstore.replication import Replicator


class Elector(Replicator):
    """Adds to a replicating member how it comes to lead, or to follow somebody else."""

    def __init__(
        self,
        member: int,
        persistent: PersistentState,
        options: RaftOptions,
        random: Random,
        now_ms: float = 0.0,
    ) -> None:
        super().__init__(member, persistent, options, random, now_ms)
        self._election_deadline_ms = 0.0
        self._draw_election_deadline()
        if self.term == 0 and self.configuration.voters[:1] == (member,):
            # A group that never had a leader has nobody to wait for: its first member stands at once.
            self._election_deadline_ms = now_ms

    def _draw_election_deadline(self) -> None:
        """§5.2: a time drawn anew each time keeps split votes rare."""
        options = self.options
        unheard = self._leader_contact_ms == -math.inf and options.pre_vote
        if unheard or self.role in (Role.PRE_CANDIDATE, Role.CANDIDATE):
            # Nobody leads as far as this member can know; and if somebody does, pre-vote protects him.
            low, high = options.candidate_timeout_min_ms, options.candidate_timeout_max_ms
        else:
            low, high = options.election_timeout_min_ms, options.election_timeout_max_ms
        self._election_deadline_ms = self.now_ms + self._random.uniform(low, high)

    # ------------------------------------------------------------------ roles

    def _promotable(self) -> bool:
        """Whether this member may stand: a voter, not waiting to take over a snapshot."""
        return self._pending_snapshot is None and self.member in self.configuration.all_voters

    def _unapplied_configuration_change(self) -> bool:
        log = self.log
        # What was handed out to be applied is not applied yet.
        first = max(log.applied_index, log.floor_index) + 1
        if first > log.commit_index:
            return False
        committed = log.slice(first, log.commit_index, 1 << 62)
        return any(entry.kind == "configuration" for entry in committed)

    def _become(self, role: Role, term: int, leader: int) -> None:
        assert term >= self.term, (term, self.term)
        if term > self.term or leader != self.leader or role is not self.role:
            # Answers count only in their term, even if the same member leads the next one.
            self._lose_reads()
        if term > self.term:
            self.term, self.vote = term, 0
        self.role, self.leader, self.leadership = role, leader, None
        self._votes = {}
        self._draw_election_deadline()

    def _become_follower(self, term: int, leader: int) -> None:
        self._become(Role.FOLLOWER, term, leader)

    def _become_leader(self) -> None:
        assert self.role is Role.CANDIDATE or self.configuration.all_voters == (self.member,), self.role
        self._become(Role.LEADER, self.term, self.member)
        log, options = self.log, self.options
        progress = reconcile({}, self.configuration, log.last_index + 1, options)
        for follower in progress.values():
            follower.recently_active = False
        own = progress.get(self.member)
        if own is not None:
            own.match, own.next, own.recently_active = log.stable_index, log.last_index + 1, True
            own.become_replicate()
        self._excuses = 0
        self.leadership = Leadership(
            progress=progress,
            heartbeat_deadline_ms=self.now_ms + options.heartbeat_ms,
            quorum_deadline_ms=self.now_ms + options.election_timeout_max_ms,
            # No configuration may change before an entry of the own term is committed and applied, or two
            # leaders' changes, one after the other, could have majorities that do not meet (thesis §4.1, and
            # the correction to it of 2015).
            pending_configuration_index=log.last_index + 1,
            reads=ReadRounds(leased=options.lease_read_clock_drift is not None),
        )
        # §8, thesis §6.4: only an entry of its own term lets a leader learn what is committed.
        self._append("normal", None, 0)

    def campaign(self) -> None:
        """Stand for election; with pre-vote, ask first (thesis §9.6)."""
        if self.role is Role.LEADER or not self._promotable():
            return
        if self._unapplied_configuration_change():
            # etcd#7280, #11284: the configuration counts from when it is applied, and this one is about to
            # change.
            self._draw_election_deadline()
            return
        self._start_election(pre=self.options.pre_vote, transfer=False)

    def _start_election(self, pre: bool, transfer: bool) -> None:
        if pre:
            self._become(Role.PRE_CANDIDATE, self.term, 0)
        else:
            self._become(Role.CANDIDATE, self.term + 1, 0)
            self.vote = self.member
            self._candidacy_ms = self.now_ms
        self._votes[self.member] = True
        if self._count_votes():
            return
        for voter in self.configuration.all_voters:
            if voter != self.member:
                self._send(
                    VoteRequest(
                        sender=self.member,
                        to=voter,
                        term=self.term + 1 if pre else self.term,
                        last_index=self.log.last_index,
                        last_term=self.log.last_term,
                        pre=pre,
                        transfer=transfer,
                        commit_index=self.log.commit_index,
                        commit_term=self.log.term_at(self.log.commit_index) or 0,
                    )
                )

    def _count_votes(self) -> bool:
        """Act on the votes so far; False while the election is open."""
        result = quorum.vote(self.configuration, self._votes)
        if result is VoteResult.PENDING:
            return False
        if result is VoteResult.LOST:
            self._become_follower(self.term, 0)
        elif self.role is Role.PRE_CANDIDATE:
            self._start_election(pre=False, transfer=False)
        else:
            self._become_leader()
        return True

    # ------------------------------------------------------------------ votes

    def _leader_lives(self) -> bool:
        """Whether a leader was heard so lately that nobody else may be elected (thesis §4.2.3, §6.2)."""
        if not self.options.check_quorum:
            return False
        if self.role is Role.LEADER:
            return True
        # Whatever this member has become since: a lease may rest on it (thesis §6.4.1).
        return self.now_ms - self._leader_contact_ms < self.options.election_timeout_min_ms

    def _on_vote_request(self, request: VoteRequest) -> None:
        if not (request.pre or request.transfer or self.role is Role.LEADER) and self._leader_lives():
            return  # Its term reached this member otherwise: what was promised to the last leader holds.
        # §5.2: one vote a term, first come first served; §5.4.1: and only for a log as good as one's own.
        free = self.vote == request.sender or (self.vote == 0 and self.leader == 0)
        free = free or (request.pre and request.term > self.term)
        granted = free and self.log.is_up_to_date(request.last_index, request.last_term)
        if granted and not request.pre:
            self.vote = request.sender
            self._draw_election_deadline()
        if granted:
            self._send(VoteReply(self.member, request.sender, request.term, True, request.pre))
        else:
            self._send(self._refusal(request))
            self._commit_by_vote(request)

    def _refusal(self, request: VoteRequest) -> VoteReply:
        log = self.log
        commit_term = log.term_at(log.commit_index) or 0
        return VoteReply(
            self.member, request.sender, self.term, False, request.pre, log.commit_index, commit_term
        )

    def _commit_by_vote(self, message: VoteRequest | VoteReply) -> None:
        """etcd#12359: candidates of two configurations may refuse each other for ever, because the one with
        the longer log does not know that the configuration in it is committed. Let each learn from the other.
        """
        log = self.log
        if self.role is Role.LEADER or message.commit_index <= log.commit_index:
            return
        if message.commit_term and log.matches(message.commit_index, message.commit_term):
            log.commit_to(message.commit_index)
            if self.role is not Role.FOLLOWER and self._unapplied_configuration_change():
                # Who votes is about to change: what was counted so far does not hold.
                self._become_follower(self.term, 0)

    def _on_vote_reply(self, reply: VoteReply) -> None:
        if not reply.granted:
            self._commit_by_vote(reply)
        if self.role is not (Role.PRE_CANDIDATE if reply.pre else Role.CANDIDATE):
            return
        if reply.pre and reply.granted and reply.term != self.term + 1:
            return
        self._votes.setdefault(reply.sender, reply.granted)
        self._count_votes()

    def _on_timeout_now(self) -> None:
        if self.role is not Role.LEADER and self._promotable() and not self._unapplied_configuration_change():
            self._start_election(pre=False, transfer=True)

    def _lose_reads(self) -> None:
        if self.leadership is not None:
            self._lost_reads.extend(
                read.token for read in self.leadership.reads.all() if read.member == self.member
            )
        self._lost_reads.extend(self._forwarded_reads)
        self._forwarded_reads.clear()
