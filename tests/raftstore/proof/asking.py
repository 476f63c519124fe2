"""What the operations of a history are as requests to a store, and what its replies are as their results."""

from typing import Any

from understudy.properties.linearizability import (
    Attached,
    CompactAt,
    CompareAndSet,
    Delete,
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
from understudy.raftstore.storage import (
    Compact,
    Compacted,
    Compare,
    DeleteRange,
    FutureRevision,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseList,
    LeaseNotFound,
    LeaseRevoke,
    LeaseTimeToLive,
    Put,
    Range,
    RangeReply,
    Txn,
    prefix_end,
)

PREFIX = b"/k/"
END = prefix_end(PREFIX)
REFUSALS = (Compacted, FutureRevision, LeaseNotFound)
"""They are answers: nothing was done, and why is to be right."""


def wire(request: Any, *, serializable: bool = False) -> Any:
    """An operation as a store is asked it."""
    match request:
        case Read(key):
            return Range(key, serializable=serializable)
        case ReadAll():
            return Range(PREFIX, END, serializable=serializable)
        case ReadAt(revision):
            return Range(PREFIX, END, revision=revision, serializable=serializable)
        case Write(key, value, lease):
            return Put(key, value, lease)
        case CompareAndSet(key, mod_revision, value):
            return Txn((Compare(key, "mod", "=", mod_revision),), (Put(key, value),))
        case WriteTogether(pairs):
            return Txn(
                (), tuple(DeleteRange(key) if value is None else Put(key, value) for key, value in pairs)
            )
        case Delete(key):
            return DeleteRange(key)
        case CompactAt(revision, physical):
            return Compact(revision, physical)
        case Grant(lease, ttl_s):
            return LeaseGrant(ttl_s, lease)
        case KeepAlive(lease):
            return LeaseKeepAlive(lease)
        case TimeToLive(lease):
            return LeaseTimeToLive(lease, keys=True)
        case ReadLeases():
            return LeaseList()
        case Revoke(lease):
            return LeaseRevoke(lease)
    raise AssertionError(request)


def result_of(request: Any, reply: Any) -> Any:
    """What a reply says."""
    match request:
        case Read():
            return _read_result(reply)
        case ReadAll() | ReadAt():
            pairs = tuple((kv.key, kv.value, kv.mod_revision, kv.lease) for kv in reply.kvs)
            return ReadAllResult(reply.revision, pairs)
        case CompareAndSet():
            return WriteResult(reply.revision, reply.succeeded)
        case Delete():
            return WriteResult(reply.revision, bool(reply.deleted))
        case Grant() | KeepAlive():
            return Granted(reply.revision, reply.ttl_s)
        case TimeToLive():
            return Attached(reply.revision, tuple(sorted(reply.keys)))
        case ReadLeases():
            return LeaseIds(reply.revision, reply.ids)
        case Revoke():
            return Revoked(reply.revision)
    return WriteResult(reply.revision)


def refused_with(refusal: Exception, *, exact: bool) -> Any:
    """What one of `REFUSALS` says. `exact`: it tells what was compacted at that very moment."""
    match refusal:
        case Compacted(compact_revision):
            return WasCompacted(compact_revision if exact else None)
        case FutureRevision():
            return IsFuture()
        case LeaseNotFound():
            return NoLease()
    raise AssertionError(refusal)


def _read_result(reply: RangeReply) -> ReadResult:
    if not reply.kvs:
        return ReadResult(reply.revision, None)
    (kv,) = reply.kvs
    return ReadResult(reply.revision, kv.value, kv.mod_revision, kv.lease)
