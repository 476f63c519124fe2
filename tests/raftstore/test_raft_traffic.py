"""What goes between a leader and a follower, and when: logs brought together, windows, probes, snapshots,
and what comes late or twice (§5.3, §7; thesis §10.2.1)."""

import pytest

from tests.raftstore.rafts import BOOTSTRAP, elect, entry, leading, member, work
from understudy.raftstore.log import RaftLog
from understudy.raftstore.messages import (
    AppendReply,
    AppendRequest,
    HardState,
    HeartbeatReply,
    Snapshot,
    SnapshotRequest,
)
from understudy.raftstore.options import RaftOptions
from understudy.raftstore.progress import ProgressState
from understudy.raftstore.raft import Raft
from understudy.raftstore.ready import ProposalRefused


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


def test_a_follower_commits_no_further_than_the_leader_s_message_reaches() -> None:
    """Figure 2: min(leaderCommit, index of last new entry). What it has beyond may be of another leader."""
    raft = member(2, HardState(2, 0, 0), (entry(1, 1), entry(2, 1), entry(3, 1)))
    raft.step(AppendRequest(1, 2, 2, 1, 1, (), 3))
    assert raft.log.commit_index == 1
    raft.step(AppendRequest(1, 2, 2, 1, 1, (entry(2, 2),), 3))
    assert raft.log.commit_index == 2


def test_entries_that_are_committed_already_are_answered_with_all_that_is() -> None:
    raft = member(2, HardState(1, 0, 0), (entry(1, 1), entry(2, 1), entry(3, 1)))
    raft.step(AppendRequest(1, 2, 1, 3, 1, (), 3))
    work(raft)
    raft.step(AppendRequest(1, 2, 1, 0, 0, (entry(1, 1),), 1))
    assert work(raft) == [AppendReply(2, 1, 1, 3)]


def test_what_is_not_committed_is_bounded() -> None:
    raft = member(max_uncommitted_bytes=100)
    elect(raft)
    raft.propose("a", 1000)
    with pytest.raises(ProposalRefused):
        raft.propose("b", 1)
    raft.propose("what weighs nothing", 0)
    work(raft)
    raft.step(AppendReply(2, 1, raft.term, index=3))
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


@pytest.mark.parametrize("limit", ["max_inflight_messages", "max_inflight_bytes"])
def test_a_window_that_nothing_fits_through_is_refused(limit: str) -> None:
    with pytest.raises(ValueError, match=limit):
        RaftOptions(**{limit: 0})  # type: ignore[arg-type]


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
    for probed, hint, following in ((8, 5, 6), (5, 2, 3), (8, 5, 3)):
        raft.step(AppendReply(2, 1, raft.term, probed, True, hint, 1))
        assert progress.next == following
        work(raft)


def test_a_snapshot_of_what_is_here_keeps_what_follows() -> None:
    """§7: it commits, and nothing is replaced."""
    raft = member(2, HardState(1, 0, 0), (entry(1, 1), entry(2, 1), entry(3, 1)))
    raft.step(SnapshotRequest(1, 2, 1, Snapshot(2, 1, BOOTSTRAP.configuration, None)))
    ready = raft.ready()
    assert ready.snapshot is None and [e.index for e in ready.committed] == [1, 2]
    assert (raft.log.commit_index, raft.log.last_index) == (2, 3)
    assert AppendReply(2, 1, 1, 2) in ready.messages_after_sync


def test_after_a_snapshot_up_to_the_log_s_beginning_entries_follow_at_once() -> None:
    raft = leading()
    raft.compact(Snapshot(1, raft.term, raft.configuration, None), 0)
    raft.step(AppendReply(3, 1, raft.term, 0, True, 0, 0))
    assert [m.snapshot.index for m in work(raft) if isinstance(m, SnapshotRequest)] == [1]
    assert state_of(raft, 3) is ProgressState.SNAPSHOT
    raft.step(AppendReply(3, 1, raft.term, 1))
    assert state_of(raft, 3) is ProgressState.REPLICATE


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


def test_a_follower_that_has_everything_is_asked_nothing() -> None:
    """A heartbeat's answer raises a doubt, which the answer to a probe settles."""
    raft = leading()
    for probed in (True, False):
        raft.step(HeartbeatReply(3, 1, raft.term, 0))
        if probed:
            assert [m.commit_index for m in work(raft) if isinstance(m, AppendRequest)] == [1]
    raft.step(AppendReply(3, 1, raft.term, 1))
    assert work(raft) == []


def test_entries_are_handed_out_to_be_applied_a_few_at_a_time_and_one_at_least() -> None:
    raft = member(2, max_apply_bytes=25)
    raft.step(AppendRequest(1, 2, 1, 0, 0, tuple(entry(index, 1) for index in range(1, 6)), 5))
    applied = []
    while committed := raft.ready().committed:
        applied.append([each.index for each in committed])
    assert applied == [[1, 2], [3, 4], [5]]
    raft = member(2, max_apply_bytes=1)
    raft.step(AppendRequest(1, 2, 1, 0, 0, (entry(1, 1), entry(2, 1)), 2))
    assert [each.index for each in raft.ready().committed] == [1]


def test_a_window_of_bytes_is_full_when_it_is_reached() -> None:
    raft = leading(max_inflight_bytes=20, max_append_bytes=10)
    for number in range(4):
        raft.propose(number, 10)
    sent = [
        m.entries[0].index for m in work(raft) if isinstance(m, AppendRequest) and m.to == 2 and m.entries
    ]
    assert sent == [2, 3]


def test_a_follower_whose_snapshot_was_lost_is_followed_from_what_it_has() -> None:
    raft = leading()
    for peer in (2, 3):
        raft.step(AppendReply(peer, 1, raft.term, 1))
    raft.propose("x", 1)
    work(raft)
    raft.step(AppendReply(2, 1, raft.term, 2))
    work(raft)
    raft.compact(Snapshot(2, raft.term, raft.configuration, None), 0)
    raft.step(AppendReply(3, 1, raft.term, 2, True, 1, 1))
    assert [m.to for m in work(raft) if isinstance(m, SnapshotRequest)] == [3]
    assert raft.followed_from() == 2
    raft.advance_clock(raft.options.snapshot_retry_ms)
    for peer in (2, 3):
        raft.step(HeartbeatReply(peer, 1, raft.term, 0))
    assert raft.followed_from() == 1
