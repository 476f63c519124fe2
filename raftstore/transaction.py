"""Transactions before they run: which branch is taken, and whether all of it can be done.

Everything that can be refused is refused here, before the first change, so that a transaction is all or
nothing. The comparisons of nested transactions are decided on the state before the outermost one, as etcd
does it.
"""

from collections.abc import Container, Iterator, Sequence
from typing import Final

from attrs import frozen

from understudy.raftstore.keyspace import KeySpace
from understudy.raftstore.options import StoreOptions
from understudy.raftstore.storage import (
    Compacted,
    Compare,
    DeleteRange,
    DuplicateKey,
    EmptyKey,
    FutureRevision,
    InvalidRequest,
    KeyNotFound,
    KeyValue,
    LeaseNotFound,
    Operation,
    Put,
    Range,
    TooManyOperations,
    Txn,
)

MAX_OPERATIONS: Final = StoreOptions().max_txn_operations


def check_shape(request: Operation, max_operations: int = MAX_OPERATIONS) -> None:
    """Refuse what is wrong whatever the state: no key, too many operations, one key written twice.

    A nested transaction may have as many operations as the one around it leaves over. Raises `EmptyKey`,
    `InvalidRequest`, `TooManyOperations`, `DuplicateKey`; of several, the one that etcd finds first.
    """
    _check_fields(request, max_operations)
    if isinstance(request, Txn):
        _written(request.success)
        _written(request.failure)


def _check_fields(request: Operation, max_operations: int) -> None:
    match request:
        case Range() | DeleteRange():
            if not request.key:
                raise EmptyKey()
        case Put():
            if not request.key:
                raise EmptyKey()
            if request.ignore_value and request.value:
                raise InvalidRequest("value is provided with ignore_value")
            if request.ignore_lease and request.lease:
                raise InvalidRequest("lease is provided with ignore_lease")
        case Txn():
            operations = max(map(len, (request.compares, request.success, request.failure)))
            if operations > max_operations:
                raise TooManyOperations(operations, max_operations)
            for compare in request.compares:
                if not compare.key:
                    raise EmptyKey()
                if isinstance(compare.value, bytes) != (compare.target == "value"):
                    raise InvalidRequest(f"compare of {compare.target} with {compare.value!r}")
            for operation in (*request.success, *request.failure):
                _check_fields(operation, max_operations - operations)


def _written(branch: tuple[Operation, ...]) -> tuple[dict[bytes, None], list[DeleteRange]]:
    """Which keys a branch puts and deletes. Raises `DuplicateKey` for a key that is put twice, or put where a
    deletion comes before it: in this branch, or in a nested transaction that stands earlier.

    (A deletion in a nested transaction that stands *later* passes, as it does at etcd: the key is put, and
    deleted within the same revision.)
    """
    puts: dict[bytes, None] = {}
    deletes = [operation for operation in branch if isinstance(operation, DeleteRange)]
    for operation in branch:
        if not isinstance(operation, Txn):
            continue
        # The two branches of one transaction never run both: they may write the same key.
        then_puts, then_deletes = _written(operation.success)
        else_puts, else_deletes = _written(operation.failure)
        for key in {**then_puts, **else_puts}:
            _check_put(key, puts, deletes)
        puts |= then_puts
        puts |= else_puts
        deletes += then_deletes
        deletes += else_deletes
    for operation in branch:
        if isinstance(operation, Put):
            _check_put(operation.key, puts, deletes)
            puts[operation.key] = None
    return puts, deletes


def _check_put(key: bytes, puts: dict[bytes, None], deletes: list[DeleteRange]) -> None:
    if key in puts or any(_forbids(delete, key) for delete in deletes):
        raise DuplicateKey(key)


def _forbids(delete: DeleteRange, key: bytes) -> bool:
    """Whether a key must not be put beside a deletion. One of "all keys from here on" forbids nothing: etcd
    takes its `range_end` of one zero byte for an end here, and deletes before it puts."""
    if not delete.range_end:
        return key == delete.key
    return delete.key <= key < delete.range_end


@frozen
class Decided:
    """A transaction whose branch is chosen, and the branches of all that are nested in it."""

    succeeded: bool
    operations: tuple["Range | Put | DeleteRange | Decided", ...]


def decide(txn: Txn, keys: KeySpace) -> Decided:
    """Choose the branches by the state as it is."""
    succeeded = all(_holds(compare, keys) for compare in txn.compares)
    branch = txn.success if succeeded else txn.failure
    return Decided(succeeded, tuple(decide(op, keys) if isinstance(op, Txn) else op for op in branch))


def check_state(
    operations: "Sequence[Range | Put | DeleteRange | Decided]",
    keys: KeySpace,
    leases: Container[int],
    revision: int,
    compact_revision: int,
) -> None:
    """Refuse what the state does not allow: all puts are looked at before the first range.

    Raises `KeyNotFound`, `LeaseNotFound`, `FutureRevision`, `Compacted`.
    """
    flat = list(_flat(operations))
    for operation in flat:
        if isinstance(operation, Put):
            check_put(operation, keys, leases)
    for operation in flat:
        if isinstance(operation, Range):
            if operation.revision < 0:
                raise Compacted(compact_revision)  # Alone, it means now; but here it is taken as it is.
            check_range(operation, revision, compact_revision)


def check_put(put: Put, keys: KeySpace, leases: Container[int]) -> None:
    """Raises `KeyNotFound`, `LeaseNotFound`."""
    if (put.ignore_value or put.ignore_lease) and keys.latest(put.key) is None:
        raise KeyNotFound(put.key)
    if put.lease and put.lease not in leases:
        raise LeaseNotFound(put.lease)


def check_range(request: Range, revision: int, compact_revision: int) -> None:
    """Raises `FutureRevision`, `Compacted`."""
    if request.revision > revision:
        raise FutureRevision(request.revision, revision)
    if 0 < request.revision < compact_revision:
        raise Compacted(compact_revision)


def _flat(
    operations: "Sequence[Range | Put | DeleteRange | Decided]",
) -> Iterator[Range | Put | DeleteRange]:
    for operation in operations:
        if isinstance(operation, Decided):
            yield from _flat(operation.operations)
        else:
            yield operation


def _holds(compare: Compare, keys: KeySpace) -> bool:
    pairs = keys.live_head(compare.key, compare.range_end, 0)
    if not pairs:
        # Nothing there: everything about it is 0, and no value equals or differs from another.
        return compare.target != "value" and _stands(0, compare.operator, compare.value)
    return all(_stands(_target(pair, compare.target), compare.operator, compare.value) for pair in pairs)


def _target(pair: KeyValue, target: str) -> int | bytes:
    match target:
        case "mod":
            return pair.mod_revision
        case "create":
            return pair.create_revision
        case "version":
            return pair.version
        case "lease":
            return pair.lease
        case "value":
            return pair.value
    raise InvalidRequest(f"unknown compare target {target!r}")


def _stands(left: int | bytes, operator: str, right: int | bytes) -> bool:
    match operator:
        case "=":
            return left == right
        case "!=":
            return left != right
        case ">":
            return left > right  # type: ignore[operator]  # check_shape: both are bytes or both are int
        case "<":
            return left < right  # type: ignore[operator]
    raise InvalidRequest(f"unknown compare operator {operator!r}")
