"""What of a transaction is wrong whatever the state: each case as a real etcd answers it."""

from typing import Any

import pytest

from understudy.raftstore.storage import (
    ALL_KEYS_END,
    Compare,
    DeleteRange,
    DuplicateKey,
    EmptyKey,
    InvalidRequest,
    Put,
    Range,
    TooManyOperations,
    Txn,
)
from understudy.raftstore.transaction import check_shape


def put(key: bytes) -> Put:
    return Put(key, b"")


def then(*operations: Any) -> Txn:
    return Txn((), operations)


def either(first: Any, second: Any) -> Txn:
    return Txn((), (first,), (second,))


A, B = put(b"a"), put(b"b")
DELETE_A, DELETE_AC = DeleteRange(b"a"), DeleteRange(b"a", b"c")


@pytest.mark.parametrize(
    ("request_", "duplicate"),
    [
        (then(A, A), b"a"),
        (then(A, B), None),
        (Txn((), (A,), (A,)), None),
        (Txn((), (), (A, A)), b"a"),
        # A deletion beside a put, in any order; two deletions are none of anybody's business.
        (then(A, DELETE_A), b"a"),
        (then(DELETE_A, A), b"a"),
        (then(DELETE_A, DELETE_AC), None),
        (then(DELETE_AC, A), b"a"),
        (then(DELETE_AC, B), b"b"),
        (then(DELETE_AC, put(b"c")), None),
        (then(DeleteRange(b"a", ALL_KEYS_END), A), None),
        # What is nested counts, whichever branch it is in; but of two branches only one ever runs.
        (then(then(A), A), b"a"),
        (then(A, Txn((), (), (A,))), b"a"),
        (then(either(A, A)), None),
        (then(either(A, A), A), b"a"),
        (then(either(A, B), either(put(b"c"), B)), b"b"),
        (then(either(A, B), either(A, put(b"c"))), b"a"),
        (then(then(then(A)), then(A)), b"a"),
        # A deletion within a nested one forbids puts around it and after it, and none that stand before it.
        (then(A, then(DELETE_A)), b"a"),
        (then(Txn((), (), (DELETE_A,)), A), b"a"),
        (then(then(DELETE_A), then(A)), b"a"),
        (then(then(A), then(DELETE_A)), None),
        (then(DELETE_A, then(A)), b"a"),
        (then(then(A), DELETE_A), b"a"),
        (then(either(A, DELETE_A)), None),
    ],
)
def test_no_key_is_written_twice(request_: Txn, duplicate: bytes | None) -> None:
    if duplicate is None:
        check_shape(request_)
        return
    with pytest.raises(DuplicateKey) as refused:
        check_shape(request_)
    assert refused.value.key == duplicate


@pytest.mark.parametrize(
    ("request_", "fits"),
    [
        (then(*[Range(b"a")] * 4), True),
        (then(*[Range(b"a")] * 5), False),
        (Txn((Compare(b"a", "version", "=", 0),) * 5), False),
        (Txn((), (), (Range(b"a"),) * 5), False),
        (Txn((Compare(b"a", "version", "=", 0),) * 4, (Range(b"a"),) * 4, (Range(b"a"),) * 4), True),
        # A nested one has what the one around it leaves over: the longest of its three lists counts.
        (then(Range(b"a"), Range(b"a"), then(Range(b"a"))), True),
        (then(Range(b"a"), Range(b"a"), then(Range(b"a"), Range(b"a"))), False),
        (then(then(then(then(put(b"a"))))), True),
        (then(then(then(then(then(put(b"a")))))), False),
        (Txn((Compare(b"a", "version", "=", 0),) * 3, (), (then(Range(b"a"), Range(b"a")),)), False),
    ],
)
def test_all_that_is_nested_counts(request_: Txn, fits: bool) -> None:
    if fits:
        check_shape(request_, 4)
        return
    with pytest.raises(TooManyOperations):
        check_shape(request_, 4)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (Txn((Compare(b"", "version", "=", 0),)), EmptyKey),
        (Txn((), (), (Range(b""),)), EmptyKey),
        (then(then(DeleteRange(b""))), EmptyKey),
        (then(Put(b"a", b"x", ignore_value=True)), InvalidRequest),
        (Put(b"a", b"", lease=1, ignore_lease=True), InvalidRequest),
        (Txn((Compare(b"a", "version", "=", b""),)), InvalidRequest),
        # Of several things that are wrong, the first that etcd finds.
        (Txn((Compare(b"", "version", "=", 0),), (A, A)), EmptyKey),
        (then(A, A, put(b"")), EmptyKey),
        (then(*[put(b"")] * 129), TooManyOperations),
    ],
)
def test_what_is_wrong_by_itself_is_refused_wherever_it_stands(request_: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_shape(request_)
