"""A sequential model of an etcd store: enough of it for histories of concurrent clients.

Every answer of the store carries the revision at which it was made, which leaves the checker little choice:
a write that is answered with revision r comes right after revision r - 1. Here are keys, with the lease that
each lives by, and compactions; whether a lease is there at all is the business of `LeaseModel`.
"""

from collections.abc import Iterable
from typing import Any

from understudy.properties.watches import Ledger

from .history import UNKNOWN
from .requests import (
    Attached,
    CompactAt,
    CompareAndSet,
    Delete,
    Expire,
    Grant,
    Granted,
    IsFuture,
    KeepAlive,
    LeaseIds,
    NoLease,
    Read,
    ReadAll,
    ReadAllResult,
    ReadAt,
    ReadLeases,
    ReadResult,
    Revoke,
    Revoked,
    TimeToLive,
    WasCompacted,
    Write,
    WriteResult,
    WriteTogether,
)

Pair = tuple[bytes, bytes, int, int]
"""Key, value, mod_revision, lease."""
State = tuple[int, tuple[Pair, ...], int]
"""The revision; the pairs that are there, ascending by key; the revision of the newest compaction, or 0."""


class StoreModel:
    """The specification; keys may be there at the start."""

    def __init__(self, revision: int = 1, pairs: Iterable[Pair] = (), ledger: Ledger | None = None) -> None:
        """`ledger`: says what past revisions hold; needed for histories with `ReadAt`."""
        self._initial: State = (revision, tuple(sorted(pairs)), 0)
        self._ledger = ledger
        self._past: dict[int, tuple[Pair, ...]] = {}

    def initial(self) -> State:
        """See `Model`."""
        return self._initial

    def step(self, state: State, request: Any, result: Any) -> tuple[State, ...]:
        """See `Model`."""
        revision, pairs, compacted = state
        match request:
            case ReadAll() | Read() | ReadAt() | TimeToLive() | ReadLeases() | Grant() | KeepAlive():
                return (state,) if result is UNKNOWN or self._answers(state, request, result) else ()
            case CompactAt(to):
                if compacted < to <= revision:
                    return ((revision, pairs, to),) if result in (WriteResult(revision), UNKNOWN) else ()
                return (state,) if result is UNKNOWN or _is_refused(state, to, result) else ()
        if result == NoLease():
            return (state,)
        changes = _changes(request, pairs)
        after = revision + bool(changes)
        told = Revoked(after) if isinstance(request, Revoke | Expire) else WriteResult(after, bool(changes))
        if result not in (told, UNKNOWN):
            return ()
        if not changes:
            return (state,)
        rest = [pair for pair in pairs if pair[0] not in changes]
        written = [(key, *put, after) for key, put in changes.items() if put is not None]
        new = [(key, value, mod, lease) for key, value, lease, mod in written]
        return ((after, tuple(sorted([*rest, *new])), compacted),)

    def _answers(self, state: State, request: Any, result: Any) -> bool:
        """Whether what changes nothing may be answered so."""
        revision, pairs, compacted = state
        match request:
            case ReadAll():
                return bool(result == ReadAllResult(revision, pairs))
            case Read():
                pair = next((pair for pair in pairs if pair[0] == request.key), None)
                seen = ReadResult(revision, None) if pair is None else ReadResult(revision, *pair[1:])
                return bool(result == seen)
            case ReadAt(past):
                if compacted <= past <= revision:
                    return bool(result == ReadAllResult(revision, self._at(past)))
                return _is_refused(state, past, result, reading=True)
            case TimeToLive(lease):
                keys = tuple(pair[0] for pair in pairs if pair[3] == lease)
                return result in (Attached(revision, keys), NoLease())
        if result == NoLease():
            return True
        assert isinstance(result, Granted | LeaseIds), result
        return result.revision == revision

    def _at(self, revision: int) -> tuple[Pair, ...]:
        assert self._ledger is not None, "what was at a past revision is known from a ledger only"
        if revision not in self._past:
            self._past[revision] = tuple(
                (key, kv.value, kv.mod_revision, kv.lease)
                for key, kv in sorted(self._ledger.at(revision).items())
            )
        return self._past[revision]


def _is_refused(state: State, asked: int, result: Any, reading: bool = False) -> bool:
    """Whether a revision is to be refused so: what is compacted, what has not come yet. One can still read at
    the newest compaction, and not compact there again."""
    revision, _, compacted = state
    if asked > revision:
        return bool(result == IsFuture())
    gone = asked < compacted if reading else asked <= compacted
    return gone and result in (WasCompacted(compacted), WasCompacted(None))


def _changes(request: Any, pairs: tuple[Pair, ...]) -> dict[bytes, tuple[bytes, int] | None]:
    """What a write changes where these pairs are: value and lease of each key; None for a deletion."""
    match request:
        case CompareAndSet(key, mod_revision):
            pair = next((pair for pair in pairs if pair[0] == key), None)
            if mod_revision != (0 if pair is None else pair[2]):
                return {}
    return effect(request, {pair[0]: pair[3] for pair in pairs})


def effect(request: Any, leases: dict[bytes, int]) -> dict[bytes, tuple[bytes, int] | None]:
    """What a write that is not refused changes, by key, where the keys that are there have these leases.

    Value and lease of what it puts; None for what it deletes.
    """
    match request:
        case Write(key, value, lease):
            return {key: (value, lease)}
        case CompareAndSet(key, _, value):
            return {key: (value, 0)}
        case WriteTogether(written):
            return {
                key: None if value is None else (value, 0)
                for key, value in written
                if value is not None or key in leases
            }
        case Delete(key):
            return {key: None} if key in leases else {}
        case Revoke(lease) | Expire(lease):
            return {key: None for key, its in leases.items() if its == lease}
    raise AssertionError(f"no write of this model: {request}")
