"""Who counts, stands and leads while members come and go (§6; thesis §4): what storms meet too rarely."""

import pytest

from tests.raftstore.rafts import elect, entry, leading, member, work
from understudy.raftstore.confchange import Change, ConfigurationChange
from understudy.raftstore.configuration import Configuration
from understudy.raftstore.messages import (
    AppendReply,
    AppendRequest,
    Entry,
    HardState,
    HeartbeatReply,
    Snapshot,
    SnapshotRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from understudy.raftstore.raft import Raft
from understudy.raftstore.ready import ProposalRefused, Role


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
