"""What became of writes that nobody answered; and the model of writes and reads of several keys together."""

import pytest

from understudy.properties.linearizability import (
    CompareAndSet,
    Delete,
    Operation,
    Read,
    ReadAll,
    ReadAllResult,
    ReadResult,
    StoreModel,
    Unexplained,
    Write,
    WriteResult,
    WriteTogether,
    check,
    settle,
)
from understudy.properties.watches import Ledger
from understudy.raftstore.storage import Event, KeyValue


def put(revision: int, key: bytes, value: bytes, create: int, version: int) -> Event:
    return Event("PUT", KeyValue(key, value, create, revision, version))


def deletion(revision: int, key: bytes) -> Event:
    return Event("DELETE", KeyValue(key, b"", 0, revision, 0))


LEDGER = Ledger.of(
    [
        put(2, b"a", b"1", 2, 1),
        put(3, b"a", b"2", 2, 2),
        put(3, b"b", b"2", 3, 1),
        deletion(4, b"a"),
    ]
)
TOGETHER = WriteTogether(((b"a", b"2"), (b"b", b"2")))
FIRST = Operation(1, 0.0, 1.0, Write(b"a", b"1"), WriteResult(2))
SECOND = Operation(1, 2.0, 3.0, TOGETHER, WriteResult(3))
THIRD = Operation(1, 4.0, 5.0, Delete(b"a"), WriteResult(4))


def unknown(operation: Operation) -> Operation:
    return Operation(operation.client, operation.called, None, operation.request)


@pytest.mark.parametrize("lost", range(8))
def test_what_was_done_is_known_from_the_ledger(lost: int) -> None:
    history = [unknown(op) if lost >> place & 1 else op for place, op in enumerate((FIRST, SECOND, THIRD))]
    never = [
        Operation(2, 0.5, None, Write(b"a", b"9")),
        Operation(2, 1.5, None, CompareAndSet(b"b", 2, b"8")),
        Operation(2, 4.5, None, Delete(b"a")),
    ]
    settled = settle([*history, *never], LEDGER)
    assert len(settled) == 3
    assert {each.result.revision for each in settled} == {2, 3, 4}
    assert check(settled, StoreModel()).linearizable


def test_of_two_deletions_the_first_is_taken() -> None:
    late = Operation(2, 9.0, None, Delete(b"a"))
    settled = settle([FIRST, SECOND, late, unknown(THIRD)], LEDGER)
    read = Operation(3, 6.0, 7.0, Read(b"a"), ReadResult(4, None))
    assert check([*settled, read], StoreModel()).linearizable


@pytest.mark.parametrize(
    ("history", "what"),
    [
        ([FIRST, SECOND], "nobody's work"),
        ([FIRST, SECOND, THIRD, Operation(2, 6.0, 7.0, Write(b"c", b"7"), WriteResult(5))], "lost"),
        ([FIRST, Operation(1, 2.0, 3.0, Write(b"a", b"2"), WriteResult(3)), THIRD], "was to be"),
        ([FIRST, Operation(1, 2.0, None, Write(b"a", b"2")), THIRD], "nobody's work"),
        ([FIRST, FIRST, SECOND, THIRD], "two writes"),
    ],
)
def test_what_nobody_did_and_what_is_lost_is_said(history: list[Operation], what: str) -> None:
    with pytest.raises(Unexplained, match=what):
        settle(history, LEDGER)


def test_several_keys_are_written_and_read_together() -> None:
    after = (b"b", b"2", 3, 0)
    both = Operation(2, 3.5, 3.6, ReadAll(), ReadAllResult(3, ((b"a", b"2", 3, 0), after)))
    torn = Operation(2, 3.5, 3.6, ReadAll(), ReadAllResult(3, ((b"a", b"1", 2, 0), after)))
    gone = Operation(2, 6.0, 7.0, ReadAll(), ReadAllResult(4, (after,)))
    history = [FIRST, SECOND, THIRD, gone]
    assert check([*history, both], StoreModel()).linearizable
    assert check([*history, torn], StoreModel()).linearizable is False
