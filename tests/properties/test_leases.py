"""Leases and compactions in histories: what may be answered, and what may not."""

from typing import Any

import pytest

from understudy.properties.linearizability import (
    UNKNOWN,
    Attached,
    CompactAt,
    Expire,
    Grant,
    Granted,
    IsFuture,
    KeepAlive,
    LeaseIds,
    NoLease,
    Operation,
    ReadAll,
    ReadAllResult,
    ReadAt,
    ReadLeases,
    Revoke,
    Revoked,
    StoreModel,
    TimeToLive,
    Unexplained,
    Verdict,
    WasCompacted,
    Write,
    WriteResult,
    WriteTogether,
    check,
    check_leases,
    expiries,
    of_keys,
    settle,
)
from understudy.properties.watches import Ledger
from understudy.raftstore.storage import Event, KeyValue

TTL_S = 2


def put(revision: int, key: bytes, value: bytes, lease: int = 0) -> Event:
    return Event("PUT", KeyValue(key, value, revision, revision, 1, lease))


def deletion(revision: int, key: bytes) -> Event:
    return Event("DELETE", KeyValue(key, b"", 0, revision, 0))


LEASED = (put(2, b"a", b"1", lease=7), put(3, b"b", b"2", lease=7), put(4, b"c", b"3"))
ENDED = (*LEASED, deletion(5, b"a"), deletion(5, b"b"))


def op(called: float, returned: float | None, request: Any, result: Any = UNKNOWN) -> Operation:
    return Operation(1, called, returned, request, result)


GRANTED = op(0, 1, Grant(7, TTL_S), Granted(1, TTL_S))
BEGUN = (
    GRANTED,
    op(1, 2, Write(b"a", b"1", 7), WriteResult(2)),
    op(1, 2, Write(b"b", b"2", 7), WriteResult(3)),
    op(1, 2, Write(b"c", b"3"), WriteResult(4)),
)


def lease_7(
    *operations: Operation, events: tuple[Event, ...] = ENDED, known: dict[int, float] | None = None
) -> Verdict:
    history = [*BEGUN, *operations]
    settled = settle([*history, *expiries(history)], Ledger.of(events))
    keys = check(of_keys(settled), StoreModel(ledger=Ledger.of(events)))
    verdict = check_leases(settled, known)[7]
    return verdict if keys.linearizable else keys


def test_a_lease_ends_by_itself_when_its_time_is_over() -> None:
    assert lease_7(op(5, 6, ReadAll(), ReadAllResult(5, ((b"c", b"3", 4, 0),)))).linearizable
    assert lease_7(op(5, 6, KeepAlive(7), NoLease()), op(5, 6, ReadLeases(), LeaseIds(5, ()))).linearizable


@pytest.mark.parametrize(
    "seen",
    [
        op(2.5, 2.9, ReadAll(), ReadAllResult(5, ((b"c", b"3", 4, 0),))),
        op(2.5, 2.9, KeepAlive(7), NoLease()),
        op(2.5, 2.9, TimeToLive(7), NoLease()),
        op(2.5, 2.9, Write(b"a", b"9", 7), NoLease()),
        op(2.5, 2.9, ReadLeases(), LeaseIds(4, ())),
    ],
)
def test_a_lease_that_ends_before_its_time_is_found(seen: Operation) -> None:
    kept = op(2, 2.4, KeepAlive(7), Granted(4, TTL_S))
    assert lease_7(kept, seen).linearizable is False


def test_a_watch_that_tells_of_the_end_too_early_tells_on_it() -> None:
    kept = op(2, 2.4, KeepAlive(7), Granted(4, TTL_S))
    assert lease_7(kept, known={5: 4.5}).linearizable
    assert lease_7(kept, known={5: 3.5}).linearizable is False


def test_faster_clocks_end_leases_earlier() -> None:
    assert [op.called for op in expiries([GRANTED, op(1, 2, KeepAlive(7), Granted(1, TTL_S))])] == [3.0]
    assert [op.called for op in expiries([GRANTED], clock_rate=2.0)] == [1.0]
    # A grant that nobody answered promised nothing, and may have been made.
    assert [op.called for op in expiries([op(3, None, Grant(8, 9))])] == [3]


@pytest.mark.parametrize(
    "after",
    [
        op(6, 7, KeepAlive(7), Granted(5, TTL_S)),
        op(6, 7, TimeToLive(7), Attached(5, ())),
        op(6, 7, ReadLeases(), LeaseIds(5, (7,))),
        op(6, 7, Revoke(7), Revoked(5)),
    ],
)
def test_what_has_ended_is_gone(after: Operation) -> None:
    ended = op(4, 5, Revoke(7), Revoked(5))
    assert lease_7(ended).linearizable
    assert lease_7(ended, after).linearizable is False


def test_a_lease_does_not_end_before_it_is_revoked_and_is_not_there_after() -> None:
    before = op(1.1, 1.2, ReadLeases(), LeaseIds(1, ()))
    assert lease_7(before).linearizable is False
    # A lease without keys leaves no trace in the ledger.
    revoked = op(2, 3, Revoke(8), Revoked(4))
    granted = op(0, 1, Grant(8, TTL_S), Granted(1, TTL_S))
    settled = settle([*BEGUN, granted, revoked], Ledger.of(LEASED))
    assert all(verdict.linearizable for verdict in check_leases(settled).values())


def test_the_keys_of_a_lease_are_those_that_were_written_with_it() -> None:
    assert lease_7(op(2, 2.1, TimeToLive(7), Attached(4, (b"a", b"b")))).linearizable
    assert lease_7(op(2, 2.1, TimeToLive(7), Attached(4, (b"a",)))).linearizable is False


@pytest.mark.parametrize(
    "events",
    [
        (*LEASED, deletion(5, b"a")),
        (*LEASED, deletion(5, b"a"), deletion(6, b"b")),
        (*LEASED, deletion(5, b"a"), deletion(5, b"b"), deletion(5, b"c")),
        (*LEASED[:2], put(4, b"c", b"3", lease=7), deletion(5, b"a")),
    ],
)
def test_keys_that_go_otherwise_than_together_are_found(events: tuple[Event, ...]) -> None:
    with pytest.raises(Unexplained):
        lease_7(events=events)


def test_a_key_that_was_deleted_or_written_anew_is_not_the_lease_s_any_more() -> None:
    events = (*LEASED, deletion(5, b"a"), put(5, b"d", b"4"), deletion(6, b"b"))
    instead = op(2, 3, WriteTogether(((b"a", None), (b"d", b"4"), (b"e", None))), WriteResult(5))
    assert lease_7(instead, events=events).linearizable


# ------------------------------------------------------------------ the past

PAST = Ledger.of([put(2, b"a", b"1"), put(3, b"b", b"2"), deletion(4, b"a")])
WRITES = (
    op(0, 1, Write(b"a", b"1"), WriteResult(2)),
    op(1, 2, Write(b"b", b"2"), WriteResult(3)),
    op(2, 3, WriteTogether(((b"a", None),)), WriteResult(4)),
)
AT_2 = ReadAllResult(4, ((b"a", b"1", 2, 0),))
AT_3 = ReadAllResult(4, ((b"a", b"1", 2, 0), (b"b", b"2", 3, 0)))


def past(*operations: Operation) -> bool | None:
    settled = settle([*WRITES, *operations], PAST)
    return check(of_keys(settled), StoreModel(ledger=PAST)).linearizable


def test_the_past_is_what_it_was() -> None:
    assert past(op(3, 4, ReadAt(3), AT_3), op(3, 4, ReadAt(1), ReadAllResult(4, ())))
    assert past(op(3, 4, ReadAt(5), IsFuture()))
    assert not past(op(3, 4, ReadAt(3), AT_2))
    assert not past(op(3.5, 4, ReadAt(4), IsFuture()))
    assert not past(op(3.5, 4, ReadAt(3), WasCompacted(4)))


COMPACTED = op(3, 4, CompactAt(3), WriteResult(4))


def test_what_is_compacted_is_refused_from_then_on() -> None:
    assert past(COMPACTED, op(5, 6, ReadAt(2), WasCompacted(3)), op(5, 6, ReadAt(3), AT_3))
    assert past(COMPACTED, op(5, 6, ReadAt(2), WasCompacted(None)))
    assert past(COMPACTED, op(3, 6, ReadAt(2), AT_2))
    assert not past(COMPACTED, op(5, 6, ReadAt(2), AT_2))
    assert not past(COMPACTED, op(5, 6, ReadAt(2), WasCompacted(2)))
    assert not past(COMPACTED, op(5, 6, ReadAt(3), WasCompacted(3)))


def test_compactions_only_go_on() -> None:
    assert past(COMPACTED, op(5, 6, CompactAt(3), WasCompacted(3)), op(5, 6, CompactAt(9), IsFuture()))
    assert past(COMPACTED, op(5, 6, CompactAt(4), WriteResult(4)), op(7, 8, ReadAt(3), WasCompacted(4)))
    assert not past(COMPACTED, op(5, 6, CompactAt(2), WriteResult(4)))
    assert not past(op(3, 4, CompactAt(5), WriteResult(4)))


def test_a_compaction_that_nobody_answered_may_have_been_made() -> None:
    unknown = op(3, None, CompactAt(3))
    assert past(unknown, op(5, 6, ReadAt(2), WasCompacted(3)))
    assert past(unknown, op(5, 6, ReadAt(2), AT_2))
    assert not past(unknown, op(5, 6, ReadAt(2), WasCompacted(3)), op(7, 8, ReadAt(2), AT_2))


def test_the_end_of_a_lease_without_keys_is_of_no_consequence_for_keys() -> None:
    unknown = op(0, None, Expire(9))
    assert of_keys([*WRITES, unknown]) == list(WRITES)
