"""Entries to bytes and back: whatever a log may hold comes back as it was, and the bytes stay the same."""

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from understudy.mailbox import decode, encode
from understudy.properties.store_requests import AUTH_REQUESTS, REQUESTS
from understudy.raftstore.confchange import ConfigurationChange
from understudy.raftstore.messages import Entry, HardState
from understudy.raftstore.sessions import Command
from understudy.raftstore.storage import (
    Compact,
    Compare,
    DeleteRange,
    LeaseCheckpoint,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseRevoke,
    Put,
    Range,
    Txn,
)
from understudy.raftstore.wal.batches import encode_batch, read_batch
from understudy.raftstore.wal.entries import (
    SEALED_BYTES,
    EntryError,
    Sealed,
    array_head,
    decode_rows,
    encode_entry,
    read_rows,
    unsealed,
)
from understudy.raftstore.wal.frames import SEGMENT_FORMAT

numbers = st.integers(0, 2**63 - 1)
requests = REQUESTS | AUTH_REQUESTS | st.just(LeaseCheckpoint(((1, 2), (3, 4))))
data = st.none() | st.builds(Command, numbers, numbers, numbers, requests)
contents = st.lists(st.tuples(numbers, data))


def entries_of(content: list[tuple[int, Any]]) -> list[Entry]:
    return [Entry(index, term, "normal", data, 64) for index, (term, data) in enumerate(content, 1)]


@given(contents)
def test_what_is_written_is_read(content: list[tuple[int, Any]]) -> None:
    entries = entries_of(content)
    state = HardState(4, 2, 9)
    batch = read_batch(encode_batch(state, entries, (7, 3)))
    assert (batch.hard_state, batch.replaced) == (state, (7, 3))
    read = decode_rows(batch.rows)
    assert read == entries
    assert repr(read) == repr(entries)  # Tuples are tuples again, and booleans booleans.


def test_a_change_of_the_configuration_is_kept_whole() -> None:
    entry = Entry(3, 2, "configuration", ConfigurationChange(), 10)
    assert decode_rows(read_rows(array_head(1) + encode_entry(entry))) == [entry]


@pytest.mark.parametrize(
    ("request_", "row"),
    [
        (None, "9402014000"),
        (Put(b"k", b"v", 5), "9a0201400109080fc4016bc4017605"),
        (Put(b"k", b"v", 0, True, False, True), "980201400209080f9702c4016bc4017600c3c2c3"),
        (DeleteRange(b"k", b"l", True), "980201400209080f9403c4016bc4016cc3"),
        (
            Range(b"k", b"l", 3, 4, True, True, False, "descend", "mod", 1, 2, 3, 4),
            "980201400209080f9e04c4016bc4016c0304c3c3c2a764657363656e64a36d6f6401020304",
        ),
        (Compact(7, True), "980201400209080f930507c3"),
        (LeaseGrant(60, 7), "980201400209080f93063c07"),
        (LeaseRevoke(7), "980201400209080f920707"),
        (LeaseKeepAlive(7), "980201400209080f920807"),
        (
            Txn((Compare(b"k", "value", "=", b"v", b"l"),), (Put(b"k", b""),), (Txn(),)),
            "980201400209080f94019195c4016ba576616c7565a13dc40176c4016c919702c4016bc40000c2c2c2919401909090",
        ),
    ],
)
def test_the_bytes_are_those_of_this_format(request_: Any, row: str) -> None:
    """Whoever changes them has to raise `SEGMENT_FORMAT`: logs that were written before could not be read."""
    command = Command(9, 8, 15, request_) if request_ is not None else None
    assert encode_entry(Entry(2, 1, "normal", command, 64)).hex() == row
    assert SEGMENT_FORMAT == 2


@pytest.mark.parametrize(
    "row",
    [b"\x01", b"\x91\x01", b"\x94\x01\xc0\x00\x00", b"\xc1", b"\xdd"],
    ids=["no array", "too short", "no term", "no msgpack", "cut"],
)
def test_what_is_no_row_is_refused(row: bytes) -> None:
    with pytest.raises(EntryError):
        read_rows(array_head(1) + row)


@pytest.mark.parametrize(
    "row", [(1, 1, 0, 9), (1, 1, 0, 0, 1), (1, 1, 0, 1, 2), (1, 1, 0, 2, 1, 1, 1, (99,))]
)
def test_what_is_no_entry_is_refused(row: tuple[Any, ...]) -> None:
    with pytest.raises(EntryError):
        decode_rows([row])


def test_what_has_no_wire_form_is_refused_by_name() -> None:
    with pytest.raises(EntryError, match="entry 2 cannot be written"):
        encode_entry(Entry(2, 1, "normal", Command(1, 1, 1, object()), 0))


def test_a_large_command_stays_in_its_bytes_until_it_is_applied() -> None:
    """A log of them, as objects, would take twice the room, and leave the memory in holes."""
    request = Txn((), tuple(Put(b"%d" % number, bytes(1000)) for number in range(8)))
    entry = Entry(7, 2, "normal", Command(5, 6, 3, request), SEALED_BYTES)
    row = array_head(1) + encode_entry(entry)
    (read,) = decode_rows(read_rows(row))
    assert isinstance(read.data, Sealed) and evolve(read, data=None) == evolve(entry, data=None)
    assert unsealed(read.data) == entry.data and unsealed(entry.data) is entry.data
    # To another member, and into another log, it goes as it is.
    assert decode(encode(read)) == read and encode_entry(read) == encode_entry(entry)
    (small,) = decode_rows(
        read_rows(array_head(1) + encode_entry(evolve(entry, size_bytes=SEALED_BYTES - 1)))
    )
    assert small.data == entry.data
    # What could not be decoded is found when the log is read.
    with pytest.raises(EntryError):
        decode_rows([(7, 2, SEALED_BYTES, 2, 5, 6, 3, (99, b"no such request"))])
