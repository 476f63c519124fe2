"""Reading, writing, transactions, compaction."""

from typing import Literal

from attrs import frozen

from understudy.mailbox import Request, message

from .protocol import Storage

CompareTarget = Literal["mod", "create", "version", "value", "lease"]
CompareOperator = Literal["=", "!=", ">", "<"]
SortOrder = Literal["none", "ascend", "descend"]
SortTarget = Literal["key", "version", "create", "mod", "value"]


@message("etcd.key-value")
@frozen(weakref_slot=False)
class KeyValue:
    """One key as it was after some revision. Shared by reference and never changed."""

    key: bytes
    value: bytes
    create_revision: int
    """Revision of the put that created the key (since its last deletion). 0 in the `kv` of a DELETE event."""
    mod_revision: int
    """Revision of the last change; in the `kv` of a DELETE event, of the deletion."""
    version: int
    """Number of puts since creation: 1 for a new key. 0 in the `kv` of a DELETE event."""
    lease: int = 0
    """The lease that the key lives by, 0 for none."""


@message("etcd.range")
@frozen
class Range(Request[Storage, "RangeReply"]):
    """Read a key or a range. Answered by `RangeReply`; errors: `Compacted`, `FutureRevision`, `Unavailable`.

    Linearizable unless `serializable`, which any member answers from what it has applied (it may be stale,
    and says by its revision how much).
    """

    key: bytes
    range_end: bytes = b""
    limit: int = 0
    """At most so many pairs; 0 for no limit."""
    revision: int = 0
    """Read the store as it was after this revision; 0 for now, as is one below it outside a transaction."""
    serializable: bool = False
    keys_only: bool = False
    """Leave the values out (empty)."""
    count_only: bool = False
    """Answer `count` alone."""
    sort_order: SortOrder = "none"
    """"none" is ascending by key, as etcd does it; or, where `sort_target` is another field, by that: with a
    limit, only what the limit lets through and the pair behind it, of which the last one is left out then."""
    sort_target: SortTarget = "key"
    min_mod_revision: int = 0
    max_mod_revision: int = 0
    min_create_revision: int = 0
    max_create_revision: int = 0


@message("etcd.range-reply")
@frozen
class RangeReply:
    revision: int
    kvs: tuple[KeyValue, ...]
    more: bool
    """`limit` cut the answer short."""
    count: int
    """How many keys the range has, whatever the limit and the filters."""


@message("etcd.put")
@frozen
class Put(Request[Storage, "PutReply"]):
    """Write one key. Answered by `PutReply`; errors: `LeaseNotFound`, `KeyNotFound` (with ignore_*),
    `Unavailable`.
    """

    key: bytes
    value: bytes
    lease: int = 0
    prev_kv: bool = False
    """Answer with the pair that was there before."""
    ignore_value: bool = False
    """Keep the value that is there (`value` must be empty)."""
    ignore_lease: bool = False
    """Keep the lease that is there (`lease` must be 0)."""


@message("etcd.put-reply")
@frozen
class PutReply:
    revision: int
    prev_kv: KeyValue | None = None


@message("etcd.delete-range")
@frozen
class DeleteRange(Request[Storage, "DeleteRangeReply"]):
    """Delete a key or a range. Answered by `DeleteRangeReply`. Deleting nothing makes no revision."""

    key: bytes
    range_end: bytes = b""
    prev_kv: bool = False


@message("etcd.delete-range-reply")
@frozen
class DeleteRangeReply:
    revision: int
    deleted: int
    prev_kvs: tuple[KeyValue, ...] = ()


@message("etcd.compare")
@frozen
class Compare:
    """A guard of a transaction: does `target` of the key (of every key of the range) stand so to `value`?

    A key that is not there compares as create = mod = version = lease = 0, and with target "value" is always
    false.
    """

    key: bytes
    target: CompareTarget
    operator: CompareOperator
    value: int | bytes
    range_end: bytes = b""


@message("etcd.txn")
@frozen
class Txn(Request[Storage, "TxnReply"]):
    """If all `compares` hold do `success`, else `failure`, all at one revision. Answered by `TxnReply`.

    A transaction may not put one key twice, nor put a key that it deletes (`DuplicateKey`).
    """

    compares: tuple[Compare, ...] = ()
    success: tuple["Operation", ...] = ()
    failure: tuple["Operation", ...] = ()


@message("etcd.txn-reply")
@frozen
class TxnReply:
    revision: int
    succeeded: bool
    responses: tuple["OperationReply", ...]
    """One per operation of the branch that ran, in order."""


Operation = Range | Put | DeleteRange | Txn
OperationReply = RangeReply | PutReply | DeleteRangeReply | TxnReply


@message("etcd.compact")
@frozen
class Compact(Request[Storage, "CompactReply"]):
    """Forget what was overwritten or deleted before `revision`: it stays readable, older ones do not.

    Answered by `CompactReply`; errors: `Compacted` (already done), `FutureRevision`.
    """

    revision: int
    physical: bool = False
    """Answer only when what is forgotten is gone from memory, too."""


@message("etcd.compact-reply")
@frozen
class CompactReply:
    revision: int
