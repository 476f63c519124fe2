"""Single rules of Raft that random storms meet too rarely, each with its section or the bug it stands for:
terms, votes and promises, what is durable when, stalls, reads, proposals."""

import pytest

from tests.raftstore.rafts import BOOTSTRAP, elect, entry, leading, member, work
from understudy.raftstore.configuration import Configuration
from understudy.raftstore.messages import (
    AppendReply,
    AppendRequest,
    HardState,
    Heartbeat,
    HeartbeatReply,
    ReadIndexRequest,
    ReadToken,
    Snapshot,
    SnapshotRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from understudy.raftstore.raft import Raft
from understudy.raftstore.ready import NotLeading, ProposalRefused, Ready, Role


def test_a_vote_is_durable_before_it_is_told_and_binds_after_a_restart() -> None:
    """§5.2: at most one vote a term, whatever happens in between."""
    raft = member(2)
    raft.step(VoteRequest(1, 2, 1, 0, 0))
    ready = raft.ready()
    assert ready.hard_state == HardState(1, vote=1)
    assert not ready.messages and ready.messages_after_sync == (VoteReply(2, 1, 1, True),)
    again = member(2, hard_state=ready.hard_state)
    again.step(VoteRequest(3, 2, 1, 5, 1))
    assert again.ready().messages_after_sync == (VoteReply(2, 3, 1, False),)
    again.step(VoteRequest(1, 2, 1, 0, 0))
    assert again.ready().messages_after_sync == (VoteReply(2, 1, 1, True),)


def test_a_leader_counts_itself_only_when_its_disk_has_the_entry() -> None:
    """Thesis §10.2.1: it may send before its disk is done, and not count on it."""
    raft = member()
    elect(raft)
    work(raft)
    raft.step(AppendReply(2, 1, raft.term, index=1))
    work(raft)
    raft.propose("x", 1)
    ready = raft.ready()
    assert any(isinstance(m, AppendRequest) for m in ready.messages)
    raft.step(AppendReply(2, 1, raft.term, index=2))
    assert raft.log.commit_index == 1
    raft.persisted(ready)
    assert raft.log.commit_index == 2


def test_whoever_hears_a_leader_lets_nobody_else_be_elected() -> None:
    """Thesis §4.2.3: a member that is removed or cut off does not disturb."""
    raft = member(2)
    raft.step(Heartbeat(1, 2, 1, 0, 0))
    work(raft)
    for pre in (True, False):
        raft.step(VoteRequest(3, 2, 2, 9, 1, pre=pre))
        assert (work(raft), raft.term) == ([], 1)
    raft.step(VoteRequest(3, 2, 2, 9, 1, transfer=True))
    assert raft.vote == 3
    raft = member(2)
    raft.step(Heartbeat(1, 2, 1, 0, 0))
    work(raft)
    raft.advance_clock(401.0)
    raft.step(VoteRequest(3, 2, 2, 9, 1, pre=True))
    assert (work(raft), raft.term) == ([VoteReply(2, 3, 2, True, True)], 1)


def test_an_entry_is_durable_before_it_is_acknowledged() -> None:
    """Figure 2: respond after updating stable storage."""
    raft = member(2)
    raft.step(AppendRequest(1, 2, 1, 0, 0, (entry(1, 1),), 0))
    ready = raft.ready()
    assert ready.entries and ready.hard_state and not ready.messages
    assert ready.messages_after_sync == (AppendReply(2, 1, 1, index=1),)


def test_only_a_leader_takes_proposals_and_the_others_name_it() -> None:
    raft = member(2)
    with pytest.raises(NotLeading) as refused:
        raft.propose("x", 1)
    assert refused.value.leader == 0
    raft.step(Heartbeat(1, 2, 1, 0, 0))
    with pytest.raises(NotLeading) as refused:
        raft.propose("x", 1)
    assert refused.value.leader == 1


def test_a_ready_is_given_once() -> None:
    raft = member()
    elect(raft)
    work(raft)
    assert raft.ready() == Ready((), None, None, (), (), (), (), ())


def test_a_promise_to_a_leader_s_lease_outlives_a_restart() -> None:
    """Thesis §6.4.1: whoever promised to elect nobody else may have forgotten that it did."""
    for drift, votes_at_ms in ((None, 1.0), (1.5, 401.0)):
        raft = member(2, HardState(1, 0, 0), lease_read_clock_drift=drift)
        raft.advance_clock(votes_at_ms - 1.5 if drift else 0.0)
        raft.step(VoteRequest(3, 2, 2, 0, 0))
        assert bool(work(raft)) is (drift is None)
        raft.advance_clock(votes_at_ms)
        raft.step(VoteRequest(3, 2, 2, 0, 0))
        assert raft.vote == 3


def test_a_promise_to_a_leader_holds_in_whatever_term_and_role_one_is_since() -> None:
    """Thesis §6.4.1. A late answer to an old question of its own can raise a follower's term."""
    raft = member(2, HardState(1, 0, 0))
    raft.step(Heartbeat(1, 2, 1, 0, 0))
    raft.step(VoteReply(3, 2, 2, granted=False, pre=True))
    assert (raft.term, raft.leader) == (2, 0)
    for term in (2, 3):
        raft.step(VoteRequest(3, 2, term, 5, 1))
        assert (raft.vote, raft.term) == (0, 2)
    raft.advance_clock(401.0)
    raft.step(VoteRequest(3, 2, 2, 5, 1))
    assert raft.vote == 3


def test_a_lease_begins_when_the_question_was_sent() -> None:
    """Thesis §6.4.1: the promise counts from when a follower heard it, which is not before that."""
    raft = member(lease_read_clock_drift=1.0)
    elect(raft)
    work(raft)
    raft.step(AppendReply(2, 1, raft.term, index=1))
    raft.tick(100.0)
    work(raft)
    raft.advance_clock(300.0)
    raft.step(HeartbeatReply(2, 1, raft.term, 1))
    for now_ms, answered in ((499.0, True), (500.0, False)):
        raft.advance_clock(now_ms)
        raft.read_index()
        assert bool(raft.ready().reads) is answered


def test_a_hand_over_to_the_leader_itself_takes_one_back() -> None:
    raft = leading()
    raft.propose("x", 1)
    raft.transfer_leadership(3)
    with pytest.raises(ProposalRefused):
        raft.propose("y", 1)
    raft.transfer_leadership(1)
    raft.propose("y", 1)
    work(raft)
    raft.step(AppendReply(3, 1, raft.term, index=3))
    assert not [m for m in work(raft) if isinstance(m, TimeoutNow)]


def test_a_read_is_lost_with_its_term_even_if_the_same_member_leads_on() -> None:
    raft = member(2)
    raft.step(Heartbeat(1, 2, 1, 0, 0))
    token = raft.read_index()
    work(raft)
    raft.step(Heartbeat(1, 2, 2, 0, 0))
    assert raft.ready().lost_reads == (token,)


@pytest.mark.parametrize("drift", [None, 1.5])
@pytest.mark.parametrize("voters", [(1,), (1, 2, 3)])
def test_a_leader_keeps_nothing_of_reads_that_are_answered(
    drift: float | None, voters: tuple[int, ...]
) -> None:
    raft = member(voters=voters, lease_read_clock_drift=drift)
    if len(voters) > 1:
        elect(raft)
    else:
        raft.campaign()
    work(raft)
    raft.step(AppendReply(2, 1, raft.term, index=1))
    work(raft)
    assert raft.leadership is not None
    for _ in range(20):
        raft.tick(raft.now_ms + raft.options.heartbeat_ms)
        token = raft.read_index()
        said = raft.ready()
        reads = list(said.reads)
        for beat in said.messages:
            if isinstance(beat, Heartbeat):
                raft.step(HeartbeatReply(beat.to, 1, raft.term, beat.read_round))
        reads += raft.ready().reads
        assert [read.token for read in reads] == [token]
    rounds = raft.leadership.reads
    assert (len(rounds.begun_ms), len(rounds.waiting), len(rounds.new)) == (0, 0, 0)


def test_a_leader_that_is_late_each_time_is_excused_so_often_only() -> None:
    """thesis §6.2: a leader that hears nobody holds up its clients; a stall excuses it, not for ever."""
    raft = leading()
    late = 0
    while raft.role is Role.LEADER:
        late += 1
        assert late < 10
        raft.tick(raft.now_ms + 2 * raft.options.election_timeout_max_ms)
        work(raft)
    # The first time that it looks, it finds that it had been followed before.
    assert late == 2 * (1 + raft.options.max_excuses)


def test_who_follows_a_leader_votes_for_nobody_else_in_its_term() -> None:
    """It may not have voted for it: its vote would make no second leader, but could depose the first."""
    raft = member(2, check_quorum=False)
    raft.step(Heartbeat(1, 2, 1, 0, 0))
    work(raft)
    raft.step(VoteRequest(3, 2, 1, 5, 1))
    (reply,) = work(raft)
    assert isinstance(reply, VoteReply) and not reply.granted and raft.vote == 0


def test_a_pre_vote_for_an_earlier_term_counts_no_more() -> None:
    """Thesis §9.6. Its term came meanwhile, and with it perhaps a leader."""
    raft = member(1, HardState(1, 0, 0))
    raft.campaign()
    raft.step(VoteReply(3, 1, 2, False, True))
    raft.campaign()
    assert (raft.role, raft.term) == (Role.PRE_CANDIDATE, 2)
    raft.step(VoteReply(2, 1, 2, True, True))
    assert raft.role is Role.PRE_CANDIDATE
    raft.step(VoteReply(2, 1, 3, True, True))
    assert raft.role is Role.CANDIDATE


@pytest.mark.parametrize("commit_index", [0, 1])
def test_who_asks_for_an_older_term_is_told_the_newer_one_and_what_is_committed(commit_index: int) -> None:
    """Or a member with the better log, and one with the higher term, could keep each other from winning
    for ever (thesis §9.6; etcd#12359)."""
    raft = member(2, HardState(5, 0, 0), (entry(1, 1),))
    raft.step(VoteRequest(3, 2, 2, 4, 1, pre=True, commit_index=commit_index, commit_term=1))
    assert VoteReply(2, 3, 5, False, True) in work(raft)
    assert (raft.term, raft.log.commit_index) == (5, commit_index)


def test_nobody_stands_while_a_snapshot_waits_to_be_taken_over() -> None:
    """Its log is ahead of what it can apply, and its configuration of what its disk has."""
    raft = member(2)
    raft.step(SnapshotRequest(1, 2, 1, Snapshot(5, 1, BOOTSTRAP.configuration, None)))
    assert raft.deadline_ms == float("inf")
    raft.campaign()
    raft.step(TimeoutNow(1, 2, 1))
    assert (raft.role, raft.term) == (Role.FOLLOWER, 1)
    work(raft)
    raft.step(TimeoutNow(1, 2, 1))
    assert (raft.role, raft.term) == (Role.CANDIDATE, 2)


def late_tick(raft: Raft) -> None:
    raft.tick(raft.deadline_ms + raft.options.stall_ms + 1)


def test_a_timer_that_fires_late_is_excused_so_often_and_anew_once_a_leader_was_heard() -> None:
    raft = member(2)
    raft.step(Heartbeat(1, 2, 1, 0, 0))
    for _ in range(2):
        for _ in range(raft.options.max_excuses):
            late_tick(raft)
            assert raft.role is Role.FOLLOWER
        raft.step(Heartbeat(1, 2, 1, 0, 0))
    for _ in range(raft.options.max_excuses + 1):
        late_tick(raft)
    assert raft.role is Role.PRE_CANDIDATE


def test_a_leader_is_excused_whatever_excuses_it_had_before() -> None:
    raft = member()
    raft.step(Heartbeat(2, 1, 1, 0, 0))
    for _ in range(raft.options.max_excuses):
        late_tick(raft)
    elect(raft)
    assert raft.leadership is not None
    raft.tick(raft.leadership.quorum_deadline_ms + raft.options.stall_ms + 1)
    assert raft.role is Role.LEADER


def test_a_candidate_does_not_try_again_before_its_disk_let_it_ask() -> None:
    """And gives the others' disks the time that its own took."""
    raft = member(1, HardState(1, 0, 0), pre_vote=False)
    raft.campaign()
    ready = raft.ready()
    assert ready.messages == () and ready.messages_after_sync
    for _ in range(5):
        raft.tick(raft.deadline_ms)
        assert (raft.role, raft.term) == (Role.CANDIDATE, 2)
    took_ms, before_ms = raft.now_ms, raft.deadline_ms
    raft.persisted(ready)
    assert raft.deadline_ms == before_ms + 3 * took_ms
    raft.tick(raft.deadline_ms)
    assert (raft.role, raft.term) == (Role.CANDIDATE, 3)


def test_a_leader_says_nothing_before_its_term_is_durable() -> None:
    """A single voter is elected at once. Were it to crash, it would lead the same term again with other
    entries, which its learner could not tell from the first ones (§5.3)."""
    raft = member(1, voters=())
    raft.step(SnapshotRequest(2, 1, 1, Snapshot(1, 1, Configuration(voters=(1,), learners=(2,)), None)))
    work(raft)
    raft.campaign()
    assert (raft.role, raft.term) == (Role.LEADER, 2)
    first = raft.ready()
    assert first.messages == ()
    assert [m.to for m in first.messages_after_sync if isinstance(m, AppendRequest)] == [2]
    raft.persisted(first)
    raft.tick(raft.deadline_ms)
    assert [m.to for m in raft.ready().messages] == [2]


def test_a_leader_that_is_deposed_loses_its_own_reads_and_nobody_else_s() -> None:
    """Who forwarded one knows by itself that it was lost."""
    raft = leading()
    own = raft.read_index()
    raft.step(ReadIndexRequest(3, 1, raft.term, ReadToken(9, 9)))
    work(raft)
    waiting = raft.read_index()
    raft.step(ReadIndexRequest(3, 1, raft.term, ReadToken(9, 10)))
    raft.step(Heartbeat(2, 1, raft.term + 1, 0, 0))
    assert raft.ready().lost_reads == (own, waiting)


@pytest.mark.parametrize("pre", [True, False])
def test_a_leader_lets_nobody_be_elected_who_was_not_told_to_stand(pre: bool) -> None:
    """Thesis §4.2.3: it looks itself whether it is still followed."""
    raft = leading()
    raft.advance_clock(600.0)
    raft.step(VoteRequest(3, 1, 2, 9, 1, pre=pre))
    assert (work(raft), raft.role, raft.term) == ([], Role.LEADER, 1)
    raft.step(VoteRequest(3, 1, 2, 9, 1, transfer=True))
    assert (raft.role, raft.term, raft.vote) == (Role.FOLLOWER, 2, 3)
