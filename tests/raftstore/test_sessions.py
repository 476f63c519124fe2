"""What makes a retry harmless: the answers that the state machine remembers, whatever becomes of it."""

from typing import Any

import pytest
from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.mailbox import decode, encode
from understudy.raftstore.machine import SESSIONS_MAX, StateMachine
from understudy.raftstore.restorer import Restorer
from understudy.raftstore.sessions import ANSWER_BYTES_MAX, Answer, Command, weight_bytes
from understudy.raftstore.snapshot import SnapshotHead, SnapshotSessions
from understudy.raftstore.storage import (
    ALL_KEYS_END,
    Alarm,
    Compact,
    Compacted,
    Compare,
    DeleteRange,
    FutureRevision,
    LeaseGrant,
    Put,
    PutReply,
    Range,
    Txn,
    Unavailable,
)


def moved(machine: StateMachine) -> StateMachine:
    """Another member's machine, which got the state as a snapshot."""
    restorer = Restorer()
    for part in machine.snapshot().slices():
        restorer.add(decode(encode(part)))
    other = StateMachine(machine.options)
    other.restore(restorer.finish())
    return other


def command(number: int, request: Any, *, session: int = 7, settled: int = 0) -> Command:
    return Command(session, number, settled, request)


@define
class Log:
    """What a leader, and the next, have put into the log, and the answer that counts for each command."""

    machine: StateMachine = field(factory=StateMachine)
    answers: dict[int, Answer] = field(factory=dict)

    def apply(self, number: int, request: Any, settled: int) -> None:
        answer, _, done = self.machine.apply(command(number, request, settled=settled))
        if number < settled:
            assert isinstance(answer.refusal, Unavailable) and not done
        elif number in self.answers:
            # (Two refusals are the same when they say the same.)
            assert encode(answer) == encode(self.answers[number]) and not done
        else:
            assert done is (answer.refusal is None)
            self.answers[number] = answer


APPEND = st.tuples(st.integers(0, 3), st.integers(0, 6), st.booleans())
"""How many of the oldest requests that nobody waits for any more there are now, which one of those under way
is applied, and whether a snapshot comes first."""


@settings(max_examples=200, deadline=None)
@given(st.lists(APPEND, max_size=40))
def test_whatever_comes_again_is_done_once_and_answered_alike(steps: list[tuple[int, int, bool]]) -> None:
    """Commands of one router, again and again, in any order, across snapshots."""
    log, settled = Log(), 0
    for given_up, ahead, snapshot in steps:
        if snapshot:
            log.machine = moved(log.machine)
        highest = max(log.answers, default=0)
        settled = min(settled + given_up, highest + 1)
        number = max(0, settled - 1) + ahead
        # Each changes something that a second time would show: an addition, a refusal that would pass later.
        kinds = (
            Txn((Compare(b"%d" % number, "mod", "=", 0),), (Put(b"%d" % number, b""),)),
            LeaseGrant(60),
            Compact(number // 2),
        )
        log.apply(number, kinds[number % 3], settled)
        session = log.machine.sessions[7]
        assert all(each in log.answers for each in session.answers)
    keys = log.machine.store.range(Range(b"\0", ALL_KEYS_END))
    assert all(pair.version == 1 for pair in keys.kvs)
    granted = [answer for number, answer in log.answers.items() if number % 3 == 1]
    assert len(log.machine.store.leases) == len(granted)


def test_a_refusal_is_remembered_as_well() -> None:
    """What was refused must not be done by a retry, behind the back of who was told so."""
    machine = StateMachine()
    machine.apply(command(1, Put(b"k", b"")))
    first, _, done = machine.apply(command(2, Compact(5)))
    assert isinstance(first.refusal, FutureRevision) and not done
    for number in range(3, 8):
        machine.apply(command(number, Put(b"k", b"")))
    again, woken, done = machine.apply(command(2, Compact(5)))
    assert (again, woken, done) == (first, [], False) and machine.store.compact_revision == 0


def test_what_its_router_gave_up_is_not_done_any_more() -> None:
    """It waits for nothing below `settled`: what comes late must not undo what came after."""
    machine = StateMachine()
    machine.apply(command(2, Put(b"k", b"new"), settled=2))
    for each in (machine, moved(machine)):
        answer, woken, done = each.apply(command(1, DeleteRange(b"k"), settled=0))
        assert isinstance(answer.refusal, Unavailable) and not (woken or done)
        assert each.store.range(Range(b"k")).count == 1


def test_answers_are_remembered_no_longer_than_somebody_may_ask_again() -> None:
    machine = StateMachine()
    for number in range(1, 100):
        machine.apply(command(number, Put(b"k", b""), settled=max(1, number - 3)))
        assert len(machine.sessions[7].answers) <= 4
    assert machine.remembered(7, 99) == Answer(reply=PutReply(100))
    assert machine.remembered(7, 90) is None and machine.remembered(8, 99) is None


def test_of_many_sessions_the_one_that_was_silent_longest_is_forgotten() -> None:
    """Also after a snapshot. There are as many as routers that wrote something; each has one, and a new one
    when it starts again."""
    machine = StateMachine()
    for session in range(1, SESSIONS_MAX + 1):
        machine.apply(command(1, Put(b"k", b""), session=session))
    machine.apply(command(2, Put(b"k", b""), session=1))
    machine = moved(machine)
    machine.apply(command(1, Put(b"k", b""), session=1000))
    assert len(machine.sessions) == SESSIONS_MAX and 2 not in machine.sessions
    before = machine.store.revision
    for session in (1, 3, SESSIONS_MAX, 1000):
        answer, _, done = machine.apply(command(1, Put(b"k", b""), session=session))
        assert answer.refusal is None and not done and machine.store.revision == before


@pytest.mark.parametrize("kind", ["read", "write"])
def test_a_retry_gets_the_answer_of_its_first_time_although_it_would_be_refused_now(kind: str) -> None:
    machine = StateMachine()
    request = Put(b"k", b"v") if kind == "write" else Txn((), (Range(b"k", revision=2),))
    machine.apply(command(1, Put(b"k", b"")))
    first, _, _ = machine.apply(command(2, request))
    machine.apply(command(3, Put(b"k", b"")))
    machine.apply(command(4, Compact(3)))
    machine.run(Alarm("activate", 1, "corrupt"), trusted=True)
    assert machine.apply(command(2, request))[0] == first and first.refusal is None
    with pytest.raises(Compacted):
        machine.store.range(Range(b"k", revision=2))


def test_what_the_leader_proposes_by_itself_has_no_session() -> None:
    machine = StateMachine()
    for _ in range(2):
        assert machine.apply(Command(0, 0, 0, Alarm("activate", 1, "nospace")))[2]
    assert machine.sessions == {}


def test_an_answer_that_is_very_large_is_not_given_twice() -> None:
    """It would be kept by every member until the router has confirmed it, and go with every snapshot."""
    machine = StateMachine()
    for number in range(3):
        machine.run(Put(b"%d" % number, bytes(ANSWER_BYTES_MAX // 2)))
    request = Txn((), (Put(b"k", b"v"), Range(b"0", b"9")))
    first, _, done = machine.apply(command(1, request))
    assert done and len(first.reply.responses[1].kvs) == 3
    for each in (machine, moved(machine)):
        again, _, done = each.apply(command(1, request))
        assert not done
        assert isinstance(again.refusal, Unavailable) and again.refusal.maybe_applied
        assert [pair.version for pair in each.store.range(Range(b"k")).kvs] == [1]


@pytest.mark.parametrize("bytes_max", [1, 1000, 1 << 20])
def test_sessions_are_told_in_slices(bytes_max: int) -> None:
    machine = StateMachine()
    for session in range(1, 6):
        machine.apply(command(1, Txn(()), session=session))  # An empty one: nothing remembered is told, too.
        machine.apply(command(2, Put(b"k", b""), session=session, settled=2))
        for number in range(3, 3 + 10 * (session % 3)):
            machine.apply(command(number, Put(b"k", bytes(100), prev_kv=True), session=session, settled=2))
    snapshot = machine.snapshot()
    slices = [part for part in snapshot.slices(bytes_max) if isinstance(part, SnapshotSessions)]
    # Each has one answer at least, and no more than fit.
    for part in slices:
        weights = [weight_bytes(answer.reply) for state in part.sessions for _, answer in state.answers]
        assert len(weights) <= 1 or sum(weights) <= bytes_max
    remembered = sum(len(state.answers) for state in snapshot.sessions)
    assert len(slices) in {1: [remembered], 1000: range(8, 16), 1 << 20: [1]}[bytes_max]
    restorer = Restorer()
    for each in snapshot.slices(bytes_max):
        restorer.add(decode(encode(each)))
    told, expected = restorer.finish().sessions, snapshot.sessions
    assert [(state.session, state.settled) for state in told] == [
        (state.session, state.settled) for state in expected
    ]
    assert encode(told) == encode(expected)


def test_until_format_3_the_first_slice_had_all_sessions() -> None:
    machine = StateMachine()
    machine.apply(command(1, Put(b"k", b"v")))
    restorer = Restorer()
    for part in machine.snapshot().slices():
        if isinstance(part, SnapshotHead):
            part = evolve(part, sessions=machine.snapshot().sessions)
        if not isinstance(part, SnapshotSessions):
            restorer.add(part)
    assert encode(restorer.finish().sessions) == encode(machine.snapshot().sessions)
