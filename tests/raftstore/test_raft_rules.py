"""Single rules of Raft that random storms meet too rarely, each with its section or the bug it stands for."""

import pytest

from tests.raftstore.rafts import BOOTSTRAP, elect, entry, member, work
from understudy.raftstore.confchange import Change, ConfigurationChange
from understudy.raftstore.configuration import Configuration
from understudy.raftstore.log import RaftLog
from understudy.raftstore.messages import (
    AppendReply,
    AppendRequest,
    Entry,
    HardState,
    Heartbeat,
    HeartbeatReply,
    Snapshot,
    SnapshotRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from understudy.raftstore.options import RaftOptions
from understudy.raftstore.progress import ProgressState
from understudy.raftstore.raft import Raft
from understudy.raftstore.ready import NotLeading, ProposalRefused, Ready, Role


def test_entries_of_older_terms_commit_only_with_one_of_the_leader_s_own() -> None:
    """§5.4.2, figure 8: a majority of an old entry may still be overwritten."""
    raft = member(hard_state=HardState(3, 0, 1), entries=(entry(1, 1), entry(2, 2)))
    elect(raft)
    work(raft)
    raft.step(AppendReply(2, 1, raft.term, index=2))
    work(raft)
    assert raft.log.commit_index == 1
    raft.step(AppendReply(2, 1, raft.term, index=3))
    assert raft.log.commit_index == 3


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


def test_a_group_of_one_commits_nothing_that_its_disk_does_not_have() -> None:
    """etcd#14370."""
    raft = member(voters=(1,))
    raft.campaign()
    first = raft.ready()
    assert raft.role is Role.LEADER and first.entries and not first.committed
    raft.persisted(first)
    assert [e.index for e in raft.ready().committed] == [1]
    raft.applied(1)
    raft.propose("x", 1)
    second = raft.ready()
    assert [e.index for e in second.entries] == [2] and not second.committed


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


def test_nobody_stands_while_a_committed_configuration_is_unapplied() -> None:
    """etcd#7280, #11284: the configuration that counts is about to change."""
    change = ConfigurationChange((Change("voter", 4),))
    entries = (Entry(1, 1, "configuration", change, 0),)
    raft = member(hard_state=HardState(1, 0, 1), entries=entries)
    raft.campaign()
    assert raft.role is Role.FOLLOWER
    ready = raft.ready()
    raft.apply_configuration(ready.committed[0])
    raft.applied(1)
    raft.campaign()
    assert raft.role is Role.PRE_CANDIDATE


def test_a_new_leader_changes_no_configuration_before_its_log_is_applied() -> None:
    """Thesis §4.1, the bug of single-server changes across terms: commit an own entry first."""
    raft = member(hard_state=HardState(1, 0, 0), entries=(entry(1, 1),))
    elect(raft)
    with pytest.raises(ProposalRefused):
        raft.propose_configuration(ConfigurationChange((Change("voter", 4),)))
    work(raft)
    raft.step(AppendReply(2, 1, raft.term, index=2))
    work(raft)
    raft.propose_configuration(ConfigurationChange((Change("voter", 4),)))
    with pytest.raises(ProposalRefused):
        raft.propose_configuration(ConfigurationChange((Change("voter", 5),)))


def test_an_old_message_undoes_nothing() -> None:
    """§5.3: only a conflict removes entries."""
    log = RaftLog(BOOTSTRAP, [entry(1, 1), entry(2, 1), entry(3, 1)])
    log.merge(0, (entry(1, 1), entry(2, 1)))
    assert log.last_index == 3
    log.merge(1, (entry(2, 2),))
    assert [(e.index, e.term) for e in log.entries] == [(1, 1), (2, 2)]
    assert log.stable_index == 1 and [e.index for e in log.offer_unstable()] == [2]


def test_a_committed_entry_is_never_replaced() -> None:
    log = RaftLog(BOOTSTRAP, [entry(1, 1), entry(2, 1)])
    log.commit_to(2)
    with pytest.raises(AssertionError, match="entry 2 is committed"):
        log.merge(1, (entry(2, 2),))


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


def test_what_is_not_committed_is_bounded() -> None:
    raft = member(max_uncommitted_bytes=100)
    elect(raft)
    raft.propose("a", 1000)
    with pytest.raises(ProposalRefused):
        raft.propose("b", 1)
    work(raft)
    raft.step(AppendReply(2, 1, raft.term, index=2))
    raft.propose("b", 99)


def test_no_more_is_sent_ahead_than_the_window_takes() -> None:
    raft = member(max_inflight_messages=2, max_append_bytes=10)
    elect(raft)
    work(raft)
    raft.step(AppendReply(2, 1, raft.term, index=1))
    work(raft)
    for number in range(10):
        raft.propose(number, 10)
    sent = [m for m in work(raft) if isinstance(m, AppendRequest) and m.to == 2]
    assert [[e.index for e in m.entries] for m in sent] == [[2], [3]]
    raft.step(AppendReply(2, 1, raft.term, index=2))
    sent = [m for m in work(raft) if isinstance(m, AppendRequest) and m.to == 2 and m.entries]
    assert [[e.index for e in m.entries] for m in sent] == [[4]]


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


def test_entries_that_came_back_are_durable_only_when_they_were_written_again() -> None:
    """Several writes may be under way. One has entry 2 of term 1, the second replaces it, the third puts it
    back: after the first and before the third, the disk is about to lose it."""
    raft = member(2)
    readies = []
    for term, entries in ((1, (entry(1, 1), entry(2, 1))), (2, (entry(2, 2),)), (3, (entry(2, 1),))):
        first = entries[0].index
        raft.step(AppendRequest(1, 2, term, first - 1, min(first - 1, 1), entries, 0))
        readies.append(raft.ready())
    stable = []
    for ready in readies:
        raft.persisted(ready)
        stable.append(raft.log.stable_index)
    assert stable == [1, 1, 2]


def leading(**options: float | bool | None) -> Raft:
    """A leader whose log ends with its own first entry, which is committed and applied."""
    raft = member(**options)
    elect(raft)
    work(raft)
    raft.step(AppendReply(2, 1, raft.term, index=1))
    work(raft)
    return raft


def test_a_joint_configuration_is_left_after_a_hand_over_that_came_to_nothing() -> None:
    """Nothing may be proposed while leadership is handed over: what was put off is made up for."""
    raft = leading()
    changes = (Change("voter", 4), Change("remove", 3))
    index = raft.propose_configuration(ConfigurationChange(changes))
    ready = raft.ready()
    raft.persisted(ready)
    raft.transfer_leadership(2)
    raft.step(AppendReply(3, 1, raft.term, index=index))
    work(raft)
    assert raft.configuration.joint and raft.log.last_index == index
    raft.tick(raft.now_ms + raft.options.election_timeout_max_ms)
    assert raft.role is Role.LEADER and raft.log.last_index == index + 1
    assert raft.log.entries[-1].data == ConfigurationChange()


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


def test_a_snapshot_that_came_and_is_too_old_already_is_followed_by_the_next_at_once() -> None:
    raft = leading()

    def write_and_compact() -> None:
        index = raft.propose("x", 1)
        work(raft)
        raft.step(AppendReply(2, 1, raft.term, index))
        work(raft)
        raft.compact(Snapshot(index, raft.term, raft.configuration, None), 0)

    write_and_compact()
    raft.step(AppendReply(3, 1, raft.term, raft.log.last_index - 1, True, 0, 0))
    raft.step(HeartbeatReply(3, 1, raft.term, 0))
    (first,) = [m.snapshot.index for m in work(raft) if isinstance(m, SnapshotRequest)]
    write_and_compact()
    assert not [m for m in work(raft) if isinstance(m, SnapshotRequest)]
    raft.step(AppendReply(3, 1, raft.term, first))
    (second,) = [m.snapshot.index for m in work(raft) if isinstance(m, SnapshotRequest)]
    assert second > first


@pytest.mark.parametrize("limit", ["max_inflight_messages", "max_inflight_bytes"])
def test_a_window_that_nothing_fits_through_is_refused(limit: str) -> None:
    with pytest.raises(ValueError, match=limit):
        RaftOptions(**{limit: 0})  # type: ignore[arg-type]


# ------------------------------------------------------------------ joint configurations (§6)


def leading_jointly(**options: float | bool | None) -> Raft:
    """Member 1, which leads in the joint configuration of (1 4 5) and (1 2 3)."""
    raft = member(voters=(1, 4, 5), outgoing=(1, 2, 3), **options)
    elect(raft, 2, 4)
    work(raft)
    for peer in (2, 4):
        raft.step(AppendReply(peer, 1, raft.term, index=1))
    work(raft)
    assert raft.log.commit_index == 1
    return raft


@pytest.mark.parametrize("half", [(2, 3), (4, 5)])
def test_in_a_joint_configuration_either_half_must_elect(half: tuple[int, int]) -> None:
    raft = member(voters=(1, 4, 5), outgoing=(1, 2, 3))
    raft.campaign()
    asked = [message.to for message in work(raft) if isinstance(message, VoteRequest)]
    assert asked == [2, 3, 4, 5]
    for voter in half:
        raft.step(VoteReply(voter, 1, raft.term + 1, True, True))
    assert raft.role is Role.PRE_CANDIDATE
    raft.step(VoteReply(({2, 4} - {*half}).pop(), 1, raft.term + 1, True, True))
    assert raft.role is Role.CANDIDATE


@pytest.mark.parametrize("member_of_outgoing", [2, 3])
def test_who_only_votes_in_the_outgoing_half_may_stand_and_lead(member_of_outgoing: int) -> None:
    raft = member(member_of_outgoing, voters=(1, 4, 5), outgoing=(1, 2, 3))
    assert raft.deadline_ms < float("inf")
    elect(raft, 1, 4)
    work(raft)
    for peer in (1, 4):
        raft.step(AppendReply(peer, raft.member, raft.term, index=1))
    assert raft.log.commit_index == 1


@pytest.mark.parametrize("half", [(2, 3), (4, 5)])
def test_in_a_joint_configuration_either_half_must_confirm_a_read(half: tuple[int, int]) -> None:
    raft = leading_jointly()
    token = raft.read_index()
    work(raft)
    for peer in half:
        raft.step(HeartbeatReply(peer, 1, raft.term, 1))
    assert not raft.ready().reads
    raft.step(HeartbeatReply(({2, 4} - {*half}).pop(), 1, raft.term, 1))
    assert [read.token for read in raft.ready().reads] == [token]


@pytest.mark.parametrize("half", [(2, 3), (4, 5)])
def test_in_a_joint_configuration_either_half_must_promise_a_lease(half: tuple[int, int]) -> None:
    raft = leading_jointly(lease_read_clock_drift=1.0)
    raft.tick(100.0)
    work(raft)
    for peer in half:
        raft.step(HeartbeatReply(peer, 1, raft.term, 1))
    raft.read_index()
    assert not raft.ready().reads
    raft.step(HeartbeatReply(({2, 4} - {*half}).pop(), 1, raft.term, 1))
    raft.read_index()
    assert raft.ready().reads


@pytest.mark.parametrize("half", [(2, 3), (4, 5)])
def test_in_a_joint_configuration_a_leader_steps_down_without_either_half(half: tuple[int, int]) -> None:
    raft = leading_jointly()
    roles = []
    for heard in ((2, 4), half):
        for peer in heard:
            raft.step(HeartbeatReply(peer, 1, raft.term, 0))
        assert raft.leadership is not None
        raft.tick(raft.leadership.quorum_deadline_ms)
        roles.append(raft.role)
    assert roles == [Role.LEADER, Role.FOLLOWER]


# ------------------------------------------------------------------ rules without which storms still pass


def test_a_follower_commits_no_further_than_the_leader_s_message_reaches() -> None:
    """Figure 2: min(leaderCommit, index of last new entry). What it has beyond may be of another leader."""
    raft = member(2, HardState(2, 0, 0), (entry(1, 1), entry(2, 1), entry(3, 1)))
    raft.step(AppendRequest(1, 2, 2, 1, 1, (), 3))
    assert raft.log.commit_index == 1
    raft.step(AppendRequest(1, 2, 2, 1, 1, (entry(2, 2),), 3))
    assert raft.log.commit_index == 2


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


def test_writes_under_way_count_for_nothing_after_a_snapshot_replaced_the_log() -> None:
    log = RaftLog(BOOTSTRAP, [])
    log.merge(0, tuple(entry(index, 1) for index in range(1, 6)))
    log.offer_unstable()
    log.restore(Snapshot(3, 2, BOOTSTRAP.configuration, None))
    log.merge(3, (entry(4, 2), entry(5, 2)))
    log.made_durable()
    assert log.stable_index == 3
    log.offer_unstable()
    log.made_durable()
    assert log.stable_index == 5


def test_leadership_is_handed_to_no_learner_and_not_to_who_becomes_one_meanwhile() -> None:
    raft = leading()
    index = raft.propose_configuration(ConfigurationChange((Change("learner", 3),)))
    work(raft)
    raft.transfer_leadership(3)
    raft.step(AppendReply(2, 1, raft.term, index))
    work(raft)
    assert raft.configuration.learners == (3,)
    raft.propose("the hand-over is off", 1)
    with pytest.raises(ProposalRefused, match="not a voter"):
        raft.transfer_leadership(3)


def test_no_configuration_is_proposed_while_leadership_is_handed_over() -> None:
    raft = leading()
    raft.propose("x", 1)
    raft.transfer_leadership(3)
    with pytest.raises(ProposalRefused, match="handed to member 3"):
        raft.propose_configuration(ConfigurationChange((Change("voter", 4),)))


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


def state_of(raft: Raft, peer: int) -> ProgressState:
    assert raft.leadership is not None
    return raft.leadership.progress[peer].state


def test_a_probe_that_finds_nothing_missing_ends_the_probing() -> None:
    raft = leading()
    raft.step(AppendReply(2, 1, raft.term, 2, True, 1, 1))
    work(raft)
    assert state_of(raft, 2) is ProgressState.PROBE
    raft.step(AppendReply(2, 1, raft.term, 1))
    assert state_of(raft, 2) is ProgressState.REPLICATE


def test_after_a_snapshot_up_to_the_log_s_beginning_entries_follow_at_once() -> None:
    raft = leading()
    raft.compact(Snapshot(1, raft.term, raft.configuration, None), 0)
    raft.step(AppendReply(3, 1, raft.term, 0, True, 0, 0))
    assert [m.snapshot.index for m in work(raft) if isinstance(m, SnapshotRequest)] == [1]
    assert state_of(raft, 3) is ProgressState.SNAPSHOT
    raft.step(AppendReply(3, 1, raft.term, 1))
    assert state_of(raft, 3) is ProgressState.REPLICATE


def test_a_snapshot_is_sent_to_nobody_who_is_silent() -> None:
    raft = leading()
    raft.propose("x", 1)
    work(raft)
    raft.step(AppendReply(2, 1, raft.term, 2))
    work(raft)
    raft.compact(Snapshot(2, raft.term, raft.configuration, None), 0)
    assert raft.leadership is not None
    raft.leadership.progress[3].paused = False
    assert not [m for m in work(raft) if isinstance(m, SnapshotRequest)]
    raft.step(HeartbeatReply(3, 1, raft.term, 0))
    assert [m.to for m in work(raft) if isinstance(m, SnapshotRequest)] == [3]


# ------------------------------------------------------------------ members that come, go and do not count


def test_a_leader_of_the_outgoing_half_leads_until_the_joint_configuration_is_left() -> None:
    """§6: it manages a group that it is no part of, and does not count itself."""
    raft = leading()
    raft.propose_configuration(ConfigurationChange((Change("remove", 1),), "implicit"))
    work(raft)
    raft.step(AppendReply(2, 1, raft.term, 2))
    work(raft)
    assert (raft.configuration.voters, raft.role) == ((2, 3), Role.LEADER)
    raft.step(AppendReply(2, 1, raft.term, 3))
    assert raft.log.commit_index == 2, "2 alone is no majority of 2 and 3, and 1 does not count there"
    raft.step(AppendReply(3, 1, raft.term, 3))
    work(raft)
    assert (raft.configuration.voters, raft.role, raft.deadline_ms) == ((2, 3), Role.FOLLOWER, float("inf"))


def test_what_a_smaller_group_has_is_committed_when_it_becomes_smaller() -> None:
    raft = member(voters=(1, 2))
    elect(raft)
    work(raft)
    raft.step(AppendReply(2, 1, raft.term, 1))
    work(raft)
    raft.propose_configuration(ConfigurationChange((Change("remove", 2),)))
    raft.propose("x", 1)
    ready = raft.ready()
    raft.persisted(ready)
    raft.step(AppendReply(2, 1, raft.term, 2))
    assert raft.log.commit_index == 2
    ready = raft.ready()
    raft.persisted(ready)
    raft.apply_configuration(ready.committed[0])
    assert raft.log.commit_index == 3


def test_a_newcomer_has_the_time_of_one_look_to_answer() -> None:
    """Or a leader that lets in the second member would step down for want of it."""
    raft = member(voters=(1,))
    raft.campaign()
    work(raft)
    raft.propose_configuration(ConfigurationChange((Change("voter", 2),)))
    work(raft)
    assert raft.configuration.voters == (1, 2)
    roles = []
    for _ in range(2):
        assert raft.leadership is not None
        raft.tick(raft.leadership.quorum_deadline_ms)
        roles.append(raft.role)
    assert roles == [Role.LEADER, Role.FOLLOWER]


def test_a_learner_stands_for_nothing_and_votes_when_it_is_asked() -> None:
    """Whoever asks may know that it is a voter by now (thesis §4.2.1, §4.1)."""
    raft = member(4)
    configuration = Configuration(voters=(1, 2, 3), learners=(4,))
    raft.step(SnapshotRequest(1, 4, 1, Snapshot(5, 1, configuration, None)))
    work(raft)
    assert raft.deadline_ms == float("inf")
    raft.campaign()
    raft.step(TimeoutNow(1, 4, 1))
    assert (raft.role, raft.term) == (Role.FOLLOWER, 1)
    raft.advance_clock(1_000.0)
    raft.step(VoteRequest(3, 4, 2, 5, 1))
    assert VoteReply(4, 3, 2, True) in work(raft)


@pytest.mark.parametrize("in_it", [True, False])
def test_a_snapshot_from_before_a_member_was_let_in_is_taken_over(in_it: bool) -> None:
    """The log that follows it lets the member in."""
    raft = member(4, voters=())
    configuration = Configuration(voters=(1, 2, 3, 4) if in_it else (1, 2, 3))
    raft.step(SnapshotRequest(1, 4, 1, Snapshot(5, 1, configuration, None)))
    assert work(raft)[-1] == AppendReply(4, 1, 1, 5)
    assert (raft.deadline_ms < float("inf")) is in_it
    change = ConfigurationChange((Change("voter", 4),))
    raft.step(AppendRequest(1, 4, 1, 5, 1, (Entry(6, 1, "configuration", change, 0),), 6))
    work(raft)
    assert raft.configuration.voters == (1, 2, 3, 4) and raft.deadline_ms < float("inf")


# ------------------------------------------------------------------ what comes late, or twice


def test_a_rejection_that_an_answer_overtook_changes_nothing() -> None:
    raft = leading()
    assert raft.leadership is not None
    progress = raft.leadership.progress[2]
    assert (progress.state, progress.match, progress.next) == (ProgressState.REPLICATE, 1, 2)
    raft.step(AppendReply(2, 1, raft.term, 1, True, 0, 0))
    assert (progress.state, progress.match, progress.next) == (ProgressState.REPLICATE, 1, 2)
    progress.become_probe()
    for index in (0, 1, 2):
        raft.step(AppendReply(2, 1, raft.term, index, True, 0, 0))
        assert (progress.state, progress.match, progress.next) == (ProgressState.PROBE, 1, 2)


def test_a_rejection_of_an_earlier_probe_does_not_move_the_next() -> None:
    raft = member(1, HardState(1, 0, 0), tuple(entry(index, 1) for index in range(1, 9)))
    elect(raft)
    work(raft)
    assert raft.leadership is not None
    progress = raft.leadership.progress[2]
    assert progress.next == 9
    for _ in range(2):
        raft.step(AppendReply(2, 1, raft.term, 8, True, 5, 1))
        assert progress.next == 6
        work(raft)


def test_a_snapshot_of_what_is_here_keeps_what_follows() -> None:
    """§7: it commits, and nothing is replaced."""
    raft = member(2, HardState(1, 0, 0), (entry(1, 1), entry(2, 1), entry(3, 1)))
    raft.step(SnapshotRequest(1, 2, 1, Snapshot(2, 1, BOOTSTRAP.configuration, None)))
    ready = raft.ready()
    assert ready.snapshot is None and [e.index for e in ready.committed] == [1, 2]
    assert (raft.log.commit_index, raft.log.last_index) == (2, 3)
    assert AppendReply(2, 1, 1, 2) in ready.messages_after_sync


def test_entries_that_are_committed_already_are_answered_with_all_that_is() -> None:
    raft = member(2, HardState(1, 0, 0), (entry(1, 1), entry(2, 1), entry(3, 1)))
    raft.step(AppendRequest(1, 2, 1, 3, 1, (), 3))
    work(raft)
    raft.step(AppendRequest(1, 2, 1, 0, 0, (entry(1, 1),), 1))
    assert work(raft) == [AppendReply(2, 1, 1, 3)]


# ------------------------------------------------------------------ stalls and slow disks


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
