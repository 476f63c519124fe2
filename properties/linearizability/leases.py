"""Leases in a history: each by itself, with the end that nobody asked for.

That a lease ends when its time is over is no client's operation. It stands in the history as one all the
same, `Expire`, of unknown outcome, called when the lease may end at the earliest: so "it lasts as long as it
was said" is part of being linearizable. Since linearizability is local, each lease is looked at alone, with
the revisions of the answers to hold it in step with the keys (see `StoreModel`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

from .checker import Verdict, check
from .history import UNKNOWN, Operation
from .requests import (
    Expire,
    Grant,
    Granted,
    KeepAlive,
    LeaseIds,
    NoLease,
    ReadLeases,
    Revoke,
    Revoked,
    TimeToLive,
    Write,
)

NOBODY = -1
"""The client of what no client did."""
OF_LEASES = (Grant, KeepAlive, Revoke, Expire)

State = tuple[str, int]
""""none", "there" or "ended"; and the newest revision that any answer had."""


def expiries(history: Sequence[Operation], clock_rate: float = 1.0) -> list[Operation]:
    """An `Expire` for each lease that somebody asked for, called when it may end at the earliest.

    Args:
        clock_rate: the fastest clock of a leader goes so many times as fast as that of the history.
    """
    earliest: dict[int, float] = {}
    for operation in history:
        match operation.request:
            case Grant(lease) | KeepAlive(lease):
                until = operation.called
                if isinstance(operation.result, Granted):
                    until += operation.result.ttl_s / clock_rate
                elif isinstance(operation.request, KeepAlive):
                    continue
                earliest[lease] = max(earliest.get(lease, until), until)
    return [Operation(NOBODY, called, None, Expire(lease)) for lease, called in sorted(earliest.items())]


@frozen
class Known:
    """Somebody knew of a revision: whatever had made it had happened."""


class LeaseModel:
    """One lease. It is granted once at most, and ends once."""

    def __init__(self, lease: int) -> None:
        self.lease = lease

    def initial(self) -> State:
        """See `Model`."""
        return "none", 0

    def step(self, state: State, request: Any, result: Any) -> tuple[State, ...]:
        """See `Model`."""
        phase, revision = state
        seen = revision if result is UNKNOWN or isinstance(result, NoLease) else result.revision
        if seen < revision:
            return ()
        match request:
            case Grant():
                return (("there", seen),) if phase == "none" else ()
            case ReadLeases():
                is_there = isinstance(result, LeaseIds) and self.lease in result.ids
                return ((phase, seen),) if is_there == (phase == "there") else ()
            case Known():
                return ((phase, seen),)
        if isinstance(result, NoLease):
            return (state,) if phase != "there" else ()
        if phase != "there":
            return ()
        if isinstance(request, Revoke | Expire):
            # Its keys go in a revision of their own: nobody has seen that one before.
            keys = isinstance(request, Expire) and result is not UNKNOWN
            return (("ended", seen),) if not keys or seen > revision else ()
        return (("there", seen),)


def check_leases(
    settled: Sequence[Operation], known: Mapping[int, float] | None = None
) -> dict[int, Verdict]:
    """The verdict on each lease of a history.

    Args:
        settled: with the `expiries`, and what the ledger says became of them (`settle`).
        known: when somebody heard first of a revision otherwise than by an answer: of a watch.
    """
    heard = _first_heard(settled, known or {})
    verdicts: dict[int, Verdict] = {}
    for lease in sorted({op.request.lease for op in settled if isinstance(op.request, Grant)}):
        operations = [op for op in settled if _concerns(op, lease)]
        for op in list(operations):
            if isinstance(op.request, Expire) and isinstance(op.result, Revoked):
                revision = op.result.revision
                times = [time for each, time in heard if each >= revision]
                if times:
                    first = min(times)
                    operations.append(Operation(NOBODY, 0.0, first, Known(), Revoked(revision)))
        verdicts[lease] = check(operations, LeaseModel(lease))
    return verdicts


def _first_heard(settled: Iterable[Operation], known: Mapping[int, float]) -> list[tuple[int, float]]:
    answers = [
        (op.result.revision, op.returned)
        for op in settled
        if op.client != NOBODY and op.returned is not None and hasattr(op.result, "revision")
    ]
    return [*answers, *known.items()]


def _concerns(operation: Operation, lease: int) -> bool:
    match operation.request:
        case ReadLeases():
            return True
        case Grant() | KeepAlive() | TimeToLive() | Revoke() | Expire() | Write():
            return bool(operation.request.lease == lease)
    return False


def of_keys(settled: Iterable[Operation]) -> list[Operation]:
    """The part of a settled history that `StoreModel` is for: without ends of leases that left no trace."""
    return [op for op in settled if op.result is not UNKNOWN or not isinstance(op.request, OF_LEASES)]
