"""Transactions before they run: which branch is taken, and whether all of it can be done.

Everything that can be refused is refused here, before the first change, so that a transaction is all or
nothing. The comparisons of nested transactions are decided on the state before the outermost one, as etcd
does it.
"""

from collections.abc import Container, Iterable
from typing import Final

from attrs import frozen

from understudy.raftstore.keyspace import KeySpace, in_range
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

MAX_OPERATIONS: Final = 128
"""Of one transaction, and of its compares; the default of etcd's --max-txn-ops."""


def check_shape(request: Operation) -> None:
    """Refuse what is wrong whatever the state: no key, too many operations, one key written twice.

    Raises `EmptyKey`, `InvalidRequest`, `TooManyOperations`, `DuplicateKey`.
    """
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
            for operations in (request.compares, request.success, request.failure):
                if len(operations) > MAX_OPERATIONS:
                    raise TooManyOperations(len(operations), MAX_OPERATIONS)
            for compare in request.compares:
                if not compare.key:
                    raise EmptyKey()
                if isinstance(compare.value, bytes) != (compare.target == "value"):
                    raise InvalidRequest(f"compare of {compare.target} with {compare.value!r}")
            for branch in (request.success, request.failure):
                for operation in branch:
                    check_shape(operation)
                _check_overlap(branch)


def _check_overlap(branch: tuple[Operation, ...]) -> tuple[dict[bytes, None], list[DeleteRange]]:
    """Which keys a branch puts and deletes; refuses a key that is put twice, or put and deleted."""
    puts: dict[bytes, None] = {}
    deletes: list[DeleteRange] = []
    nested: list[dict[bytes, None]] = []
    for operation in branch:
        if isinstance(operation, DeleteRange):
            deletes.append(operation)
        elif isinstance(operation, Txn):
            # The two branches of one transaction never run both: they may write the same key.
            either: dict[bytes, None] = {}
            for inner in (operation.success, operation.failure):
                inner_puts, inner_deletes = _check_overlap(inner)
                either.update(inner_puts)
                deletes.extend(inner_deletes)
            nested.append(either)
    for either in nested:
        for key in either:
            if key in puts:
                raise DuplicateKey(key)
        _check_deleted(either, [d for d in branch if isinstance(d, DeleteRange)])
        puts.update(either)
    for operation in branch:
        if isinstance(operation, Put):
            if operation.key in puts:
                raise DuplicateKey(operation.key)
            _check_deleted({operation.key: None}, deletes)
            puts[operation.key] = None
    return puts, deletes


def _check_deleted(puts: dict[bytes, None], deletes: list[DeleteRange]) -> None:
    for key in puts:
        for delete in deletes:
            if in_range(key, delete.key, delete.range_end):
                raise DuplicateKey(key)


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
    operations: "Iterable[Range | Put | DeleteRange | Decided]",
    keys: KeySpace,
    leases: Container[int],
    revision: int,
    compact_revision: int,
) -> None:
    """Refuse what the state does not allow.

    Raises `Compacted`, `FutureRevision`, `KeyNotFound`, `LeaseNotFound`.
    """
    for operation in operations:
        match operation:
            case Range():
                if operation.revision > revision:
                    raise FutureRevision(operation.revision, revision)
                if 0 < operation.revision < compact_revision:
                    raise Compacted(compact_revision)
            case Put():
                if (operation.ignore_value or operation.ignore_lease) and keys.latest(operation.key) is None:
                    raise KeyNotFound(operation.key)
                if operation.lease and operation.lease not in leases:
                    raise LeaseNotFound(operation.lease)
            case Decided():
                check_state(operation.operations, keys, leases, revision, compact_revision)


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
