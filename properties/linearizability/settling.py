"""What became of the writes that nobody answered, by the ledger of everything that was written.

A write whose client was never answered may have been done or not, which leaves the checker of a long history
too many ways. The ledger tells which: each of its revisions is the work of one operation, and each value is
written by one operation only. What the ledger itself tells wrong then shows in the answers that were given.
"""

from collections.abc import Mapping, Sequence

from attrs import evolve

from understudy.properties.watches import Ledger

from .history import UNKNOWN, Operation
from .requests import (
    CompactAt,
    Expire,
    Grant,
    KeepAlive,
    Read,
    ReadAll,
    ReadAt,
    ReadLeases,
    Revoke,
    Revoked,
    TimeToLive,
    WriteResult,
)
from .store import effect

Effect = Mapping[bytes, tuple[bytes, int] | None]
"""Value and lease of every key that one revision changes; None for a deletion."""

READS = (Read, ReadAll, ReadAt, ReadLeases, TimeToLive, KeepAlive)
"""They change nothing that a ledger or another client could see."""
SILENT = (CompactAt, Grant, Revoke, Expire)
"""They can be done without a trace in the ledger."""


class Unexplained(AssertionError):
    """The ledger has what nobody did, or lacks what somebody was told is done."""


def settle(history: Sequence[Operation], ledger: Ledger) -> list[Operation]:
    """The history without unknown outcomes, but for compactions, grants, and ends of leases without keys.

    What was done gets its result, and is taken to have returned when everything was over; what was not done
    is left out. Deletions of a key look alike: the one that was called first is taken to have been done
    first, since it can stand wherever a later one could.

    Args:
        history: of a store that was fresh. No two of its operations write the same value to one key, and no
            id of a lease is granted twice. With the `expiries` of its leases, if it has any.
        ledger: everything that was written until the end.

    Raises:
        Unexplained: a write that was acknowledged is not in the ledger, or is something else there; or a
            revision is nobody's work, in whole or in part.
    """
    acknowledged: dict[int, Operation] = {}
    for operation in history:
        done = isinstance(operation.result, WriteResult) and operation.result.done
        if done and not isinstance(operation.request, CompactAt):
            revision = operation.result.revision
            if revision in acknowledged:
                raise Unexplained(
                    f"two writes made revision {revision}: {operation}, {acknowledged[revision]}"
                )
            acknowledged[revision] = operation
    for revision, operation in sorted(acknowledged.items()):
        if revision not in ledger.by_revision:
            raise Unexplained(f"acknowledged and lost: {operation}")
    open_ends = [
        operation
        # Who was told that he ended a lease did, and it was no other.
        for operation in sorted(history, key=lambda each: (each.result is UNKNOWN, each.called))
        if not isinstance(operation.request, READS)
        and (operation.result is UNKNOWN or isinstance(operation.result, Revoked))
    ]
    over = max((each for op in history for each in (op.called, op.returned or 0.0)), default=0.0)
    settled = [op for op in history if op.result is not UNKNOWN]
    leases: dict[bytes, int] = {}
    """Of every key that is there, before the revision in hand."""
    for revision in sorted(ledger.by_revision):
        recorded = _recorded(ledger, revision)
        if revision not in acknowledged:
            operation = _worker(open_ends, revision, recorded, leases)
            open_ends.remove(operation)
            if operation.result is UNKNOWN:
                result = Revoked(revision) if isinstance(operation.request, Revoke | Expire) else None
                settled.append(evolve(operation, returned=over, result=result or WriteResult(revision)))
        elif effect(acknowledged[revision].request, leases) != recorded:
            raise Unexplained(f"revision {revision} is {recorded}, and was to be {acknowledged[revision]}")
        for key, put in recorded.items():
            if put is None:
                del leases[key]
            else:
                leases[key] = put[1]
    unknown = [op for op in open_ends if op.result is UNKNOWN and isinstance(op.request, SILENT)]
    return [*settled, *unknown]


def _worker(
    open_ends: Sequence[Operation], revision: int, recorded: Effect, leases: dict[bytes, int]
) -> Operation:
    """Whose work a revision is of which nobody was told. Raises `Unexplained`."""
    for operation in open_ends:
        told = operation.result is UNKNOWN or operation.result == Revoked(revision)
        silent = isinstance(operation.request, CompactAt | Grant)
        if told and not silent and effect(operation.request, leases) == recorded:
            return operation
    raise Unexplained(f"revision {revision} is nobody's work: {recorded}; leases were {leases}")


def _recorded(ledger: Ledger, revision: int) -> Effect:
    return {
        event.kv.key: (event.kv.value, event.kv.lease) if event.type == "PUT" else None
        for event in ledger.by_revision[revision]
    }
