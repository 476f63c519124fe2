"""The Raft paper's rules, section by section: one test each, named for what the paper says.

Sections are those of the extended version. What a leader, a candidate and a follower do is asked of one
member in the hand; the network is what the test says it is.
"""

import pytest

from tests.raftstore.rafts import entry, member, work
from understudy.raftstore.messages import (
    AppendReply,
    AppendRequest,
    Entry,
    HardState,
    Heartbeat,
    Message,
    VoteReply,
    VoteRequest,
)
from understudy.raftstore.raft import Raft
from understudy.raftstore.ready import Role

PLAIN = {"pre_vote": False, "check_quorum": False}
"""The paper's own protocol, without the thesis's additions."""


def follower(number: int = 1, term: int = 1, entries: tuple[Entry, ...] = (), **options: bool) -> Raft:
    return member(number, HardState(term, 0, 0), entries, **(options or PLAIN))


def candidate(term: int = 1, entries: tuple[Entry, ...] = ()) -> Raft:
    raft = follower(1, term - 1, entries)
    raft.campaign()
    work(raft)
    assert (raft.role, raft.term) == (Role.CANDIDATE, term)
    return raft


def leader(entries: tuple[Entry, ...] = (), voters: tuple[int, ...] = (1, 2, 3)) -> Raft:
    raft = member(1, HardState(1, 0, 0), entries, voters, **PLAIN)
    raft.campaign()
    work(raft)
    for voter in voters[1:]:
        if raft.role is Role.CANDIDATE:
            raft.step(VoteReply(voter, 1, raft.term, True))
    assert raft.role is Role.LEADER
    work(raft)
    return raft


def votes(said: list[Message]) -> list[bool]:
    return [message.granted for message in said if isinstance(message, VoteReply)]


# ------------------------------------------------------------------ §5.1 terms


@pytest.mark.parametrize("make", [follower, candidate, leader])
def test_5_1_whoever_sees_a_higher_term_takes_it_and_follows(make: "type[Raft]") -> None:
    raft = make()
    raft.step(AppendRequest(2, 1, raft.term + 3, 0, 0, (), 0))
    assert (raft.role, raft.leader) == (Role.FOLLOWER, 2)
    assert work(raft)
    assert raft.term >= 4


def test_5_1_a_request_of_an_old_term_changes_nothing() -> None:
    raft = follower(term=3, entries=(entry(1, 3),))
    raft.step(AppendRequest(2, 1, 2, 0, 0, (entry(1, 2),), 1))
    raft.step(VoteRequest(2, 1, 2, 9, 9))
    said = work(raft)
    assert (raft.term, raft.vote, raft.log.last_term, raft.log.commit_index) == (3, 0, 3, 0)
    assert not votes(said)
    assert all(message.term == 3 for message in said), "the sender learns the newer term"


# ------------------------------------------------------------------ §5.2 election


def test_5_2_servers_begin_as_followers() -> None:
    assert member(2).role is Role.FOLLOWER


def test_5_2_a_leader_sends_heartbeats_to_all() -> None:
    raft = leader()
    raft.tick(100.0)
    beats = [message for message in work(raft) if isinstance(message, Heartbeat)]
    assert sorted(beat.to for beat in beats) == [2, 3]


@pytest.mark.parametrize("make", [follower, candidate])
def test_5_2_without_a_leader_one_stands_with_a_new_term_and_votes_for_itself(make: "type[Raft]") -> None:
    raft = make()
    term = raft.term
    raft.tick(raft.deadline_ms)
    asked = [message for message in work(raft) if isinstance(message, VoteRequest)]
    assert (raft.role, raft.term, raft.vote) == (Role.CANDIDATE, term + 1, 1)
    assert [(request.to, request.term) for request in asked] == [(2, term + 1), (3, term + 1)]


@pytest.mark.parametrize(
    ("size", "granted", "refused", "role"),
    [
        (1, (), (), Role.LEADER),
        (3, (2,), (), Role.LEADER),
        (3, (), (), Role.CANDIDATE),
        (3, (), (2,), Role.CANDIDATE),
        (3, (), (2, 3), Role.FOLLOWER),
        (5, (2, 3), (), Role.LEADER),
        (5, (2, 3), (4, 5), Role.LEADER),
        (5, (2,), (4, 5), Role.CANDIDATE),
        (5, (2,), (3, 4, 5), Role.FOLLOWER),
        (5, (2, 2, 2), (), Role.CANDIDATE),
    ],
)
def test_5_2_a_majority_s_votes_make_a_leader(
    size: int, granted: tuple[int, ...], refused: tuple[int, ...], role: Role
) -> None:
    raft = member(1, voters=tuple(range(1, size + 1)), **PLAIN)
    raft.campaign()
    work(raft)
    for voter in granted:
        raft.step(VoteReply(voter, 1, raft.term, True))
    for voter in refused:
        raft.step(VoteReply(voter, 1, raft.term, False))
    assert raft.role is role


@pytest.mark.parametrize(
    ("voted", "asks", "granted"), [(0, 1, True), (0, 3, True), (1, 1, True), (1, 3, False)]
)
def test_5_2_one_vote_a_term_first_come_first_served(voted: int, asks: int, granted: bool) -> None:
    raft = member(2, HardState(1, voted, 0), **PLAIN)
    raft.step(VoteRequest(asks, 2, 1, 0, 0))
    assert votes(work(raft)) == [granted]


def test_5_2_a_candidate_that_hears_the_leader_of_its_term_follows_it() -> None:
    raft = candidate(2)
    raft.step(AppendRequest(2, 1, 2, 0, 0, (), 0))
    assert (raft.role, raft.leader, raft.term) == (Role.FOLLOWER, 2, 2)


@pytest.mark.parametrize("role", ["follower", "candidate"])
def test_5_2_election_times_are_drawn_at_random(role: str) -> None:
    waits = set()
    for seed in range(50):
        raft = member(1, HardState(1, 0, 0), seed=seed, **PLAIN)
        raft.step(Heartbeat(2, 1, 1, 0, 0))
        if role == "candidate":
            raft.campaign()
        waits.add(round(raft.deadline_ms))
    low, high = (400, 700) if role == "follower" else (150, 450)
    assert len(waits) > 30 and low <= min(waits) <= max(waits) <= high
    assert max(waits) - min(waits) > 0.7 * (high - low)


@pytest.mark.parametrize("role", ["follower", "candidate"])
def test_5_2_so_that_two_seldom_stand_at_once(role: str) -> None:
    conflicts = 0
    for seed in range(300):
        rafts = [member(number, HardState(1, 0, 0), seed=10 * seed + number, **PLAIN) for number in (1, 2, 3)]
        for raft in rafts:
            raft.step(Heartbeat(9, raft.member, 1, 0, 0))
            if role == "candidate":
                raft.campaign()
        first, second, _ = sorted(raft.deadline_ms for raft in rafts)
        conflicts += second - first < 5.0  # A vote's way there and back on a slow network.
    assert conflicts < 300 * 0.15


# ------------------------------------------------------------------ §5.3 replication


def test_5_3_a_leader_appends_what_a_client_wants_and_sends_it_to_all() -> None:
    raft = leader()
    for peer in (2, 3):
        raft.step(AppendReply(peer, 1, raft.term, raft.log.last_index))
    work(raft)
    previous = raft.log.last_index
    raft.propose("x", 1)
    ready = raft.ready()
    sent = [message for message in ready.messages if isinstance(message, AppendRequest)]
    wanted = Entry(previous + 1, raft.term, "normal", "x", 1)
    assert ready.entries == (wanted,)
    assert [(m.to, m.previous_index, m.previous_term, m.entries) for m in sent] == [
        (2, previous, raft.term, (wanted,)),
        (3, previous, raft.term, (wanted,)),
    ]


@pytest.mark.parametrize(
    ("size", "acknowledge", "committed"),
    [
        (1, 0, True),
        (3, 0, False),
        (3, 1, True),
        (3, 2, True),
        (5, 0, False),
        (5, 1, False),
        (5, 2, True),
        (5, 4, True),
    ],
)
def test_5_3_an_entry_is_committed_once_a_majority_has_it(
    size: int, acknowledge: int, committed: bool
) -> None:
    raft = leader(voters=tuple(range(1, size + 1)))
    for peer in range(2, size + 1):
        raft.step(AppendReply(peer, 1, raft.term, raft.log.last_index))
    work(raft)
    index = raft.propose("x", 1)
    work(raft)
    for peer in range(2, 2 + acknowledge):
        raft.step(AppendReply(peer, 1, raft.term, index))
    assert (raft.log.commit_index >= index) is committed


def test_5_3_with_an_entry_all_before_it_are_committed_those_of_former_leaders_too() -> None:
    for entries in ((), (entry(1, 1),), (entry(1, 1), entry(2, 1))):
        raft = leader(entries)
        index = raft.propose("x", 1)
        work(raft)
        raft.step(AppendReply(2, 1, raft.term, index))
        ready = raft.ready()
        assert [e.index for e in ready.committed] == list(range(1, index + 1))


def test_5_3_followers_learn_the_commit_index_and_apply_in_order() -> None:
    raft = follower(2)
    raft.step(AppendRequest(1, 2, 1, 0, 0, (entry(1, 1), entry(2, 1), entry(3, 1)), 2))
    ready = raft.ready()
    assert [e.index for e in ready.committed] == [1, 2]
    raft.persisted(ready)
    raft.applied(2)
    raft.step(Heartbeat(1, 2, 1, 3, 0))
    assert [e.index for e in raft.ready().committed] == [3]


@pytest.mark.parametrize(
    ("index", "term", "matches"),
    [(0, 0, True), (1, 1, True), (2, 2, True), (1, 2, False), (2, 1, False), (3, 3, False)],
)
def test_5_3_a_follower_takes_entries_only_after_one_that_it_has(
    index: int, term: int, matches: bool
) -> None:
    raft = follower(2, 2, (entry(1, 1), entry(2, 2)))
    raft.step(AppendRequest(1, 2, 2, index, term, (), 0))
    (reply,) = work(raft)
    assert isinstance(reply, AppendReply)
    assert (reply.rejected, reply.index) == (not matches, index)


@pytest.mark.parametrize(
    ("index", "term", "sent", "held", "stored"),
    [
        (2, 2, ((3, 3),), ((1, 1), (2, 2), (3, 3)), ((3, 3),)),
        (1, 1, ((2, 3), (3, 4)), ((1, 1), (2, 3), (3, 4)), ((2, 3), (3, 4))),
        (0, 0, ((1, 1),), ((1, 1), (2, 2)), ()),
        (0, 0, ((1, 3),), ((1, 3),), ((1, 3),)),
    ],
)
def test_5_3_a_conflicting_entry_goes_and_all_that_follow_it(
    index: int,
    term: int,
    sent: tuple[tuple[int, int], ...],
    held: tuple[tuple[int, int], ...],
    stored: tuple[tuple[int, int], ...],
) -> None:
    raft = follower(2, 4, (entry(1, 1), entry(2, 2)))
    raft.step(AppendRequest(1, 2, 4, index, term, tuple(entry(*place) for place in sent), 0))
    ready = raft.ready()
    assert [(e.index, e.term) for e in raft.log.entries] == list(held)
    assert [(e.index, e.term) for e in ready.entries] == list(stored)


FIGURE_7 = {
    "leader": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6),
    "a": (1, 1, 1, 4, 4, 5, 5, 6, 6),
    "b": (1, 1, 1, 4),
    "c": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
    "d": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
    "e": (1, 1, 1, 4, 4, 4, 4),
    "f": (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
}


def log_of(terms: tuple[int, ...]) -> tuple[Entry, ...]:
    return tuple(entry(index, term) for index, term in enumerate(terms, 1))


@pytest.mark.parametrize("name", sorted(set(FIGURE_7) - {"leader"}))
def test_figure_7_a_leader_brings_a_follower_s_log_into_line_with_its_own(name: str) -> None:
    ours, theirs = log_of(FIGURE_7["leader"]), log_of(FIGURE_7[name])
    leads = member(1, HardState(7, 0, 9), ours, **PLAIN)
    follows = member(2, HardState(7, 0, 3), theirs, **PLAIN)
    leads.campaign()
    work(leads)
    leads.step(VoteReply(3, 1, leads.term, True))
    assert (leads.role, leads.term) == (Role.LEADER, 8)
    trips = 0
    while follows.log.commit_index < 11:
        trips += 1
        assert trips < 12, "a whole term is passed over at a time"
        for message in work(leads):
            if message.to == 2:
                follows.step(message)
        for message in work(follows):
            leads.step(message)
        if trips == 8:
            leads.tick(leads.deadline_ms)
    assert follows.log.entries == leads.log.entries
    assert [e.term for e in follows.log.entries] == [*FIGURE_7["leader"], 8]


# ------------------------------------------------------------------ §5.4 safety


@pytest.mark.parametrize(
    ("own", "last_index", "last_term", "granted"),
    [
        ((1,), 1, 1, True),
        ((1,), 2, 1, True),
        ((1, 1), 1, 1, False),
        ((1,), 1, 2, True),
        ((1, 1), 1, 2, True),
        ((2,), 1, 1, False),
        ((2,), 2, 1, False),
        ((1, 2), 9, 1, False),
    ],
)
def test_5_4_1_a_vote_goes_only_to_a_log_that_is_as_up_to_date(
    own: tuple[int, ...], last_index: int, last_term: int, granted: bool
) -> None:
    raft = member(1, HardState(2, 0, 0), log_of(own), **PLAIN)
    raft.step(VoteRequest(2, 1, 3, last_index, last_term))
    assert votes(work(raft)) == [granted]


def test_5_4_1_a_candidate_says_where_its_log_ends() -> None:
    for terms in ((1,), (1, 2)):
        raft = member(1, HardState(2, 0, 0), log_of(terms), **PLAIN)
        raft.campaign()
        asked = [message for message in work(raft) if isinstance(message, VoteRequest)]
        assert [(r.to, r.last_index, r.last_term) for r in asked] == [
            (2, len(terms), terms[-1]),
            (3, len(terms), terms[-1]),
        ]


@pytest.mark.parametrize(("acknowledged", "committed"), [(1, 0), (2, 0), (3, 3)])
def test_5_4_2_only_an_entry_of_the_own_term_is_committed_by_counting(
    acknowledged: int, committed: int
) -> None:
    raft = leader((entry(1, 1), entry(2, 1)))
    raft.step(AppendReply(2, 1, raft.term, acknowledged))
    assert raft.log.commit_index == committed


def test_figure_8_what_a_majority_has_of_an_old_term_may_still_go() -> None:
    """(c) counts on three of five and must not commit; (d) overwrites it."""
    old = member(1, HardState(3, 0, 0), (entry(1, 1), entry(2, 2)), voters=(1, 2, 3, 4, 5), **PLAIN)
    old.campaign()
    work(old)
    for voter in (2, 3):
        old.step(VoteReply(voter, 1, old.term, True))
    work(old)
    for peer in (2, 3):
        old.step(AppendReply(peer, 1, old.term, 2))
    assert old.log.commit_index == 0
    behind = member(3, HardState(4, 0, 0), (entry(1, 1), entry(2, 2)), voters=(1, 2, 3, 4, 5), **PLAIN)
    behind.step(AppendRequest(5, 3, 5, 1, 1, (entry(2, 3),), 0))
    work(behind)
    assert [(e.index, e.term) for e in behind.log.entries] == [(1, 1), (2, 3)]
