"""The known bugs of Raft and of etcd that a core can have: each as it happened, and it does not happen here.

`Loopback` asserts on the way what must never be (two leaders of a term, a committed entry replaced or lost,
an acknowledgement that the disk does not bear out); a scenario that leads there fails of itself.
"""

from random import Random

import pytest

from tests.raftstore.rafts import elect, entry, member, work
from understudy.raftstore.confchange import Change, ConfigurationChange
from understudy.raftstore.configuration import Configuration
from understudy.raftstore.loopback import Loopback
from understudy.raftstore.messages import (
    AppendReply,
    Entry,
    HardState,
    Heartbeat,
    HeartbeatReply,
    Message,
    ReadIndexReply,
    ReadIndexRequest,
    Snapshot,
    SnapshotRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from understudy.raftstore.options import RaftOptions
from understudy.raftstore.ready import ProposalRefused, Role


def group(size: int, **options: int | bool) -> Loopback:
    return Loopback(tuple(range(1, size + 1)), Random(1), RaftOptions(**options))  # type: ignore[arg-type]


def change(*changes: Change) -> ConfigurationChange:
    return ConfigurationChange(changes)


ADD_4 = change(Change("voter", 4))
REMOVE_3 = change(Change("remove", 3))


def deliver(loopback: Loopback, *kinds: type, to: int, drop_others: bool = False) -> None:
    """What is on its way to a member and of these kinds arrives, in order."""
    waiting, loopback.network = loopback.network, []
    for message in waiting:
        if message.to == to and (not kinds or isinstance(message, kinds)):
            loopback.network.append(message)
            loopback.deliver(len(loopback.network) - 1)
        elif not drop_others:
            loopback.network.append(message)


def exchange(loopback: Loopback, *members: int, slow: int = 0) -> None:
    """Let these members talk until they have nothing to say; whatever goes to others is lost. The disk of one
    is so slow that it does nothing meanwhile."""
    moved = True
    while moved:
        moved = False
        for number in members:
            if number == slow:
                ready = loopback.begin(number)
                loopback.finish(number)
            else:
                ready = loopback.process(number)
            moved = not ready.empty or moved
        loopback.network = [m for m in loopback.network if m.to in members and m.sender in members]
        while loopback.network:
            loopback.deliver(0)
            moved = True


def force_election(loopback: Loopback, number: int, *voters: int) -> None:
    """The member's election timer fires, long after anybody heard of a leader; these members hear it."""
    for node in loopback.nodes.values():
        if node.raft is not None:
            node.raft._leader_contact_ms = float("-inf")
    loopback.raft(number).campaign()
    exchange(loopback, number, *voters)


# ------------------------------------------------------------------ configurations that are not applied yet


@pytest.mark.parametrize("handed_out", [False, True])
@pytest.mark.parametrize("way", ["timer", "transfer"])
def test_etcd_7280_nobody_stands_with_a_committed_configuration_unapplied(handed_out: bool, way: str) -> None:
    """The configuration that counts is about to change; "handed out" is not applied yet either."""
    entries = (Entry(1, 1, "configuration", ADD_4, 0),)
    raft = member(2, HardState(1, 0, 1), entries)
    ready = raft.ready() if handed_out else None

    def stand() -> None:
        if way == "timer":
            raft.campaign()
        else:
            raft.step(TimeoutNow(1, 2, 1))

    stand()
    assert raft.role is Role.FOLLOWER
    if ready is None:
        ready = raft.ready()
    raft.persisted(ready)
    raft.apply_configuration(ready.committed[0])
    raft.applied(1)
    stand()
    assert raft.role is (Role.PRE_CANDIDATE if way == "timer" else Role.CANDIDATE)


def test_etcd_11284_two_removals_in_a_row_leave_no_second_majority() -> None:
    """1 removes 3 and then 2, while 2 has not applied the first: 2 and 3 must not elect anybody beside 1."""
    loopback = group(3)
    loopback.run(1_000)
    first = loopback.raft(1).propose_configuration(REMOVE_3)
    with pytest.raises(ProposalRefused):
        loopback.raft(1).propose_configuration(change(Change("remove", 2)))
    loopback.process(1)
    deliver(loopback, to=2, drop_others=True)
    loopback.process(2)
    deliver(loopback, to=1)
    loopback.process(1)
    assert loopback.raft(1).configuration.voters == (1, 2)
    # The second goes to 2 with the news that the first is committed; 2 applies neither.
    loopback.raft(1).propose_configuration(change(Change("remove", 2)))
    loopback.process(1)
    deliver(loopback, to=2, drop_others=True)
    loopback.begin(2)
    assert loopback.raft(2).log.commit_index >= first > loopback.raft(2).log.applied_index
    loopback.sync(2)
    deliver(loopback, to=1)
    loopback.process(1)
    assert loopback.raft(1).configuration.voters == (1,)
    assert loopback.raft(1).role is Role.LEADER
    # 2 still goes by (1 2 3), and 3 would vote for it.
    loopback.raft(2)._leader_contact_ms = loopback.raft(3)._leader_contact_ms = float("-inf")
    loopback.raft(2).campaign()
    assert loopback.raft(2).role is Role.FOLLOWER


def test_etcd_11284_a_snapshot_s_configuration_is_not_undone_by_entries_handed_out_before_it() -> None:
    """A change waits to be applied while a snapshot arrives that has it, and its undoing, too."""
    raft = member(3, HardState(1, 0, 1), (Entry(1, 1, "configuration", ADD_4, 0),))
    ready = raft.ready()
    later = Snapshot(5, 1, Configuration(voters=(1, 2, 3)), None)
    raft.step(SnapshotRequest(1, 3, 1, later))
    raft.persisted(ready)
    raft.apply_configuration(ready.committed[0])
    raft.applied(1)
    assert raft.ready().snapshot == later
    raft.applied(5)
    assert raft.configuration.voters == (1, 2, 3)


def test_etcd_12359_candidates_learn_from_each_other_what_is_committed() -> None:
    """3's log is longer and holds a committed change that 3 does not know to be committed; 2 knows it, and
    its log is shorter. Neither could ever win."""
    voters = (1, 2)
    joint = ConfigurationChange((Change("voter", 3), Change("learner", 1)))
    log = (entry(1, 1), Entry(2, 1, "configuration", joint, 0), entry(3, 1))
    knows = member(2, HardState(1, 0, 2), log[:2], voters)
    work(knows)
    assert knows.configuration.voters == (2, 3) and knows.configuration.outgoing == (1, 2)
    longer = member(3, HardState(1, 0, 1), log, voters)
    work(longer)
    fresh = member(1, HardState(1, 0, 0), (), voters)
    rafts = {1: fresh, 2: knows, 3: longer}
    now_ms = 0.0
    for _ in range(40):
        now_ms = min(raft.deadline_ms for raft in rafts.values())
        said: list[Message] = []
        for raft in rafts.values():
            raft.tick(now_ms)
            said += work(raft)
        while said:
            message = said.pop(0)
            rafts[message.to].step(message)
            said += work(rafts[message.to])
        if any(raft.role is Role.LEADER for raft in rafts.values()):
            break
    assert longer.role is Role.LEADER


def test_etcd_12359_what_a_vote_says_to_be_committed_counts_only_in_the_same_log() -> None:
    raft = member(2, HardState(2, 0, 0), (entry(1, 1), entry(2, 2)))
    raft.step(VoteRequest(3, 2, 3, 1, 1, commit_index=2, commit_term=1))
    assert raft.log.commit_index == 0
    raft.step(VoteReply(3, 2, 3, False, commit_index=2, commit_term=2))
    assert raft.log.commit_index == 2


@pytest.mark.parametrize("pre", [True, False])
def test_etcd_12359_who_learns_that_a_configuration_is_committed_stands_no_more_for_the_last_one(
    pre: bool,
) -> None:
    log = (entry(1, 1), Entry(2, 1, "configuration", ADD_4, 0), entry(3, 1))
    raft = member(3, HardState(1, 0, 0), log, pre_vote=pre)
    raft.campaign()
    assert raft.role is (Role.PRE_CANDIDATE if pre else Role.CANDIDATE)
    raft.step(VoteReply(2, 3, raft.term, False, pre, commit_index=1, commit_term=1))
    assert raft.role is not Role.FOLLOWER
    raft.step(VoteReply(2, 3, raft.term, False, pre, commit_index=2, commit_term=1))
    assert raft.role is Role.FOLLOWER
    work(raft)
    assert raft.configuration.voters == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (change(Change("voter", 5)), change(Change("remove", 1))),
        (change(Change("voter", 5)), change(Change("voter", 6))),
        (change(Change("remove", 1)), change(Change("remove", 2))),
    ],
    ids=["add-remove", "add-add", "remove-remove"],
)
def test_single_server_changes_of_two_terms_have_majorities_that_meet(
    first: ConfigurationChange, second: ConfigurationChange
) -> None:
    """The three counter-examples to changing one server at a time (raft-dev, July 2015): a leader of a new
    term begins its own change before it has committed anything, while the old leader's is under way."""
    loopback = group(4)
    loopback.run(1_000)
    old = loopback.raft(1)
    for change_ in (first, second):
        for target in change_.changes:
            if target.member > 4 and target.member not in loopback.nodes:
                loopback.join(target.member)
    old.propose_configuration(first)
    loopback.process(1)
    loopback.network.clear()
    # The others elect 2, which has not seen the change.
    force_election(loopback, 2, 3, 4)
    new = loopback.raft(2)
    assert new.role is Role.LEADER
    # Elected and nothing committed: no change. (It has talked with the others; begin again without them.)
    lone = member(2, HardState(2, 0, 1), (entry(1, 1),), voters=(1, 2, 3, 4))
    lone.campaign()
    for pre in (True, False):
        work(lone)
        for voter in (3, 4):
            lone.step(VoteReply(voter, 2, lone.term + pre, True, pre))
    assert lone.role is Role.LEADER and lone.log.applied_index == 1
    with pytest.raises(ProposalRefused):
        lone.propose_configuration(second)
    # With an entry of its own committed, whoever could vote for the old leader's change knows better.
    new.propose_configuration(second)
    exchange(loopback, 2, 3)
    loopback.crash(1)
    loopback.start(1)
    extra = tuple(number for number in loopback.nodes if number > 4)
    force_election(loopback, 1, 4, *extra)
    assert loopback.raft(1).role is not Role.LEADER
    loopback.run(5_000)
    loopback.check_logs()


# ------------------------------------------------------------------ reads


def test_etcd_7331_a_new_leader_answers_no_read_before_an_entry_of_its_own_is_committed() -> None:
    raft = member(1, HardState(1, 0, 1), (entry(1, 1), entry(2, 1)))
    elect(raft)
    work(raft)
    own = raft.read_index()
    raft.step(ReadIndexRequest(3, 1, raft.term, own))
    said = work(raft)
    assert not [m for m in said if isinstance(m, Heartbeat)], "the question is not even asked"
    assert raft.log.commit_index == 1
    raft.step(AppendReply(2, 1, raft.term, index=3))
    assert [m.read_round for m in work(raft) if isinstance(m, Heartbeat)] == [1, 1]
    raft.step(HeartbeatReply(2, 1, raft.term, 1))
    ready = raft.ready()
    assert [(state.token, state.index) for state in ready.reads] == [(own, 3)]
    assert [m.index for m in ready.messages if isinstance(m, ReadIndexReply)] == [3]


def test_etcd_20418_an_answer_to_an_older_request_answers_no_newer_one() -> None:
    """A request is sent again with a new id; after a restart ids are drawn from elsewhere, too."""
    raft = member(2)
    raft.step(Heartbeat(1, 2, 1, 0, 0))
    first = raft.read_index()
    raft.abandon_read(first)
    second = raft.read_index()
    assert first != second
    raft.step(ReadIndexReply(1, 2, 1, first, 7))
    assert not raft.ready().reads
    raft.step(ReadIndexReply(1, 2, 1, second, 9))
    assert [(read.token, read.index) for read in raft.ready().reads] == [(second, 9)]
    again = member(2, seed=1)
    again.step(Heartbeat(1, 2, 1, 0, 0))
    assert again.read_index() not in (first, second)


def test_etcd_20418_a_heartbeat_s_answer_of_an_earlier_round_confirms_no_later_read() -> None:
    raft = member(1)
    elect(raft)
    work(raft)
    raft.step(AppendReply(2, 1, raft.term, index=1))
    work(raft)
    first = raft.read_index()
    work(raft)
    second = raft.read_index()
    work(raft)
    raft.step(HeartbeatReply(2, 1, raft.term, 1))
    assert [read.token for read in raft.ready().reads] == [first]
    raft.step(HeartbeatReply(3, 1, raft.term, 1))
    assert not raft.ready().reads
    raft.step(HeartbeatReply(3, 1, raft.term, 2))
    assert [read.token for read in raft.ready().reads] == [second]


# ------------------------------------------------------------------ durability


def test_etcd_14370_a_group_of_one_commits_nothing_that_its_disk_does_not_have() -> None:
    loopback = group(1)
    loopback.run(1_000)
    index = loopback.raft(1).propose("x", 1)
    ready = loopback.process(1, crash="before sync")
    assert ready.entries and not ready.committed
    loopback.start(1)
    loopback.run(1_000)
    assert index not in {e.index for e in loopback.committed.values() if e.data == "x"}
    raft = member(voters=(1,))
    raft.campaign()
    first = raft.ready()
    assert raft.role is Role.LEADER and first.entries and not first.committed
    raft.persisted(first)
    assert [e.index for e in raft.ready().committed] == [1]


@pytest.mark.parametrize("crash", ["before sync", "after sync"])
def test_etcd_14143_what_was_acknowledged_survives_everybody_s_crash(crash: str) -> None:
    """Whoever acknowledges before its disk has the entry lets a majority forget what was committed."""
    loopback = group(3)
    loopback.run(1_000)
    index = loopback.raft(1).propose("x", 1)
    loopback.process(1)
    deliver(loopback, to=2, drop_others=True)
    loopback.process(2, crash)
    deliver(loopback, to=1)
    loopback.process(1)
    acknowledged = loopback.raft(1).log.commit_index >= index
    assert not acknowledged, "2 crashed before it said anything"
    loopback.start(2)
    loopback.run(500)
    assert loopback.raft(1).log.commit_index >= index
    for number in loopback.members:
        loopback.crash(number)
    for number in (2, 3):
        loopback.start(number)
    loopback.run(2_000)
    assert "x" in loopback.nodes[loopback.leader()].applied


@pytest.mark.parametrize(("slow", "restarted"), [(0, 1), (0, 2), (1, 1), (2, 2)])
def test_etcd_14140_what_a_read_saw_no_later_read_misses_whatever_disks_lost(
    slow: int, restarted: int
) -> None:
    """A write that a read saw was on the disks of 1 and 2, the leader's own among them: either keeps it."""
    loopback = group(3)
    loopback.run(1_000)

    def read(*members: int, slow: int = 0) -> list[object]:
        reader = members[0]
        token = loopback.raft(reader).read_index()
        exchange(loopback, *members, slow=slow)
        index = loopback.nodes[reader].reads[token]
        assert index is not None and loopback.raft(reader).log.applied_index >= index
        return list(loopback.nodes[reader].applied)

    loopback.raft(1).propose("x", 1)
    seen = read(1, 2, slow=slow)
    assert seen == ([] if slow else ["x"])
    loopback.crash(1)
    loopback.crash(2)
    loopback.start(restarted)
    loopback.run(2_000)
    leader = loopback.leader()
    assert read(leader, 4 - leader if restarted == 1 else 5 - leader)[: len(seen)] == seen


@pytest.mark.parametrize("crash", ["before sync", "after sync", "compacted"])
def test_etcd_13766_after_a_crash_no_entry_is_skipped_or_applied_twice(crash: str) -> None:
    """The state that a member finds says which index it stands at; the log goes on right there, whatever else
    is known to be committed."""
    loopback = group(3)
    loopback.run(1_000)
    for number in range(8):
        if number == 5:
            loopback.compact(2, 0)
        loopback.raft(1).propose(number, 1)
        loopback.settle()
    disk = loopback.nodes[2].disk
    assert disk.hard_state.commit_index > disk.snapshot.index
    loopback.raft(1).propose(8, 1)
    loopback.process(1)
    deliver(loopback, to=2)
    if crash == "compacted":
        loopback.process(2)
        loopback.compact(2, 0)
        loopback.crash(2)
    else:
        loopback.process(2, crash)
    loopback.start(2)
    loopback.run(1_000)
    assert loopback.nodes[2].applied == list(range(9))


# ------------------------------------------------------------------ snapshots


@pytest.mark.parametrize("moment", ["before it is handed out", "while it is restored"])
def test_etcd_18055_a_second_snapshot_comes_before_the_first_is_restored(moment: str) -> None:
    loopback = group(3)
    loopback.run(1_000)
    loopback.crash(3)
    for number in range(3):
        loopback.raft(1).propose(number, 1)
    exchange(loopback, 1, 2)
    first = loopback.compact(1, 0)
    loopback.raft(1).propose(3, 1)
    exchange(loopback, 1, 2)
    second = loopback.compact(1, 0)
    assert second.index > first.index
    raft, term = loopback.start(3), loopback.raft(1).term
    raft.step(SnapshotRequest(1, 3, term, first))
    if moment == "while it is restored":
        assert loopback.begin(3).snapshot == first
    raft.step(SnapshotRequest(1, 3, term, second))
    if moment == "while it is restored":
        loopback.finish(3)
        assert loopback.nodes[3].applied == [0, 1, 2]
    assert loopback.process(3).snapshot == second
    assert loopback.nodes[3].applied == [0, 1, 2, 3]
    # An older one that was on its way changes nothing.
    raft.step(SnapshotRequest(1, 3, term, first))
    assert loopback.process(3).snapshot is None
    loopback.raft(1).propose(4, 1)
    loopback.run(1_000)
    assert loopback.nodes[3].applied == [0, 1, 2, 3, 4]
