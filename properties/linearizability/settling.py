"""What became of the writes that nobody answered, by the ledger of everything that was written.

A write whose client was never answered may have been done or not, which leaves the checker of a long history
too many ways. The ledger tells which: each of its revisions is the work of one operation, and each value is
written by one operation only. What the ledger itself tells wrong then shows in the answers that were given.
"""

from collections.abc import Sequence

from attrs import evolve

from understudy.properties.watches import Ledger

from .history import UNKNOWN, Operation
from .store import CompareAndSet, Delete, Read, ReadAll, Write, WriteResult, WriteTogether

Effect = tuple[tuple[bytes, bytes | None], ...]
"""(key, value) of every key that one revision changes, ascending; None for a deletion."""


class Unexplained(AssertionError):
    """The ledger has what nobody did, or lacks what somebody was told is done."""


def settle(history: Sequence[Operation], ledger: Ledger) -> list[Operation]:
    """The history without unknown outcomes.

    What was done gets its result, and is taken to have returned when everything was over; what was not done
    is left out. Deletions of a key look alike: the one that was called first is taken to have been done
    first, since it can stand wherever a later one could.

    Args:
        history: of a store that was fresh. No two of its operations write the same value to one key.
        ledger: everything that was written until the end.

    Raises:
        Unexplained: a write that was acknowledged is not in the ledger, or is something else there; or a
            revision is nobody's work, in whole or in part.
    """
    acknowledged: dict[int, Operation] = {}
    for operation in history:
        if isinstance(operation.result, WriteResult) and operation.result.done:
            revision = operation.result.revision
            if revision in acknowledged:
                raise Unexplained(
                    f"two writes made revision {revision}: {operation}, {acknowledged[revision]}"
                )
            acknowledged[revision] = operation
    for revision, operation in sorted(acknowledged.items()):
        if revision not in ledger.by_revision:
            raise Unexplained(f"acknowledged and lost: {operation}")
        if _effect(operation) != _recorded(ledger, revision):
            raise Unexplained(
                f"revision {revision} is {_recorded(ledger, revision)}, and was to be {operation}"
            )
    unknown: dict[Effect, list[Operation]] = {}
    for operation in sorted(history, key=lambda each: each.called):
        if operation.result is UNKNOWN and not isinstance(operation.request, Read | ReadAll):
            unknown.setdefault(_effect(operation), []).append(operation)
    over = max((each for op in history for each in (op.called, op.returned or 0.0)), default=0.0)
    settled = [op for op in history if op.result is not UNKNOWN]
    for revision in sorted(ledger.by_revision):
        if revision in acknowledged:
            continue
        recorded = _recorded(ledger, revision)
        candidates = unknown.get(recorded)
        if not candidates:
            raise Unexplained(f"revision {revision} is nobody's work: {recorded}")
        settled.append(evolve(candidates.pop(0), returned=over, result=WriteResult(revision)))
    return settled


def _effect(operation: Operation) -> Effect:
    match operation.request:
        case Write(key, value) | CompareAndSet(key, _, value):
            return ((key, value),)
        case Delete(key):
            return ((key, None),)
        case WriteTogether(pairs):
            return tuple(sorted(pairs))
    raise AssertionError(f"no write: {operation}")


def _recorded(ledger: Ledger, revision: int) -> Effect:
    events = ledger.by_revision[revision]
    return tuple(sorted((event.kv.key, event.kv.value if event.type == "PUT" else None) for event in events))
