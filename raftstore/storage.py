"""The Storage contract: what every store of Understudy promises, as messages.

It is the data model of an etcd v3 store. Three implementations can replace one another behind it: the Raft
group, the single in-memory actor, and a real etcd over gRPC; one contract test suite runs against all of
them.

Keys and values are bytes. A *range* is named as etcd names it: `range_end` empty means the one key `key`;
otherwise the half-open interval [key, range_end); `range_end == b"\\0"` means every key from `key` on;
`prefix_end` makes the end of a prefix. Revisions count mutating transactions: a fresh store is at revision 1,
and every event of one transaction carries the same revision. Every reply carries the revision of the store at
which it was computed.

Source of the rules: etcd's API reference and "KV API guarantees", v3.6.
"""

from typing import Final, Literal

from attrs import frozen

from understudy.actors import ChannelWriter
from understudy.mailbox import Refusal, Request, message

ALL_KEYS_END: Final = b"\0"
"""As `range_end`: every key from `key` on."""

CompareTarget = Literal["mod", "create", "version", "value", "lease"]
CompareOperator = Literal["=", "!=", ">", "<"]
SortOrder = Literal["none", "ascend", "descend"]
SortTarget = Literal["key", "version", "create", "mod", "value"]
EventType = Literal["PUT", "DELETE"]


class Storage:
    """The protocol of every store: `Ref[Storage]` takes the requests below and `OpenWatch`."""


def prefix_end(prefix: bytes) -> bytes:
    """The `range_end` under which a range covers exactly the keys that start with `prefix`.

    `prefix_end(b"/registry/") == b"/registry0"`; a prefix of nothing but 0xff bytes (or the empty one)
    reaches to the end of the key space.
    """
    stem = prefix.rstrip(b"\xff")
    if not stem:
        return ALL_KEYS_END
    return stem[:-1] + bytes((stem[-1] + 1,))


@message("etcd.key-value")
@frozen
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


# ------------------------------------------------------------------------------------------------------------
# Reading and writing
# ------------------------------------------------------------------------------------------------------------


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
    """Read the store as it was after this revision; 0 for now."""
    serializable: bool = False
    keys_only: bool = False
    """Leave the values out (empty)."""
    count_only: bool = False
    """Answer `count` alone."""
    sort_order: SortOrder = "none"
    """"none" is ascending by key, as etcd does it, unless `sort_target` is another field."""
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


@message("etcd.compact-reply")
@frozen
class CompactReply:
    revision: int


# ------------------------------------------------------------------------------------------------------------
# Leases
# ------------------------------------------------------------------------------------------------------------


@message("etcd.lease-grant")
@frozen
class LeaseGrant(Request[Storage, "LeaseGrantReply"]):
    """A new lease. Answered by `LeaseGrantReply`; error: `LeaseExists`."""

    ttl_s: int
    id: int = 0
    """The id to use; 0 lets the store choose."""


@message("etcd.lease-grant-reply")
@frozen
class LeaseGrantReply:
    revision: int
    id: int
    ttl_s: int


@message("etcd.lease-revoke")
@frozen
class LeaseRevoke(Request[Storage, "LeaseRevokeReply"]):
    """End a lease and delete its keys, at one revision. Answered by `LeaseRevokeReply`; error:
    `LeaseNotFound`.
    """

    id: int


@message("etcd.lease-revoke-reply")
@frozen
class LeaseRevokeReply:
    revision: int


@message("etcd.lease-keep-alive")
@frozen
class LeaseKeepAlive(Request[Storage, "LeaseKeepAliveReply"]):
    """Start the lease's time again. Answered by `LeaseKeepAliveReply`; error: `LeaseNotFound`."""

    id: int


@message("etcd.lease-keep-alive-reply")
@frozen
class LeaseKeepAliveReply:
    revision: int
    id: int
    ttl_s: int


@message("etcd.lease-time-to-live")
@frozen
class LeaseTimeToLive(Request[Storage, "LeaseTimeToLiveReply"]):
    """What is left of a lease. Answered by `LeaseTimeToLiveReply`; error: `LeaseNotFound`."""

    id: int
    keys: bool = False


@message("etcd.lease-time-to-live-reply")
@frozen
class LeaseTimeToLiveReply:
    revision: int
    id: int
    ttl_s: int
    """Seconds left, rounded down."""
    granted_ttl_s: int
    keys: tuple[bytes, ...] = ()


@message("etcd.lease-list")
@frozen
class LeaseList(Request[Storage, "LeaseListReply"]):
    """All leases. Answered by `LeaseListReply`."""


@message("etcd.lease-list-reply")
@frozen
class LeaseListReply:
    revision: int
    ids: tuple[int, ...]


# ------------------------------------------------------------------------------------------------------------
# Watches
# ------------------------------------------------------------------------------------------------------------


@message("etcd.event")
@frozen
class Event:
    """One change of one key."""

    type: EventType
    kv: KeyValue
    """For a DELETE: the key and the revision of the deletion, the rest empty."""
    prev_kv: KeyValue | None = None
    """The pair before the change, where the watch asked for it, there was one, and it is not compacted."""


@message("etcd.watch")
@frozen
class Watch:
    """What to see: every change of a range, over a channel of `WatchBatch` that `OpenWatch` brings.

    Promised: ordered by revision, each event once, the events of one revision together in one batch, none
    missing from `start_revision` on. The channel ends with `Compacted` when what it needs next is compacted,
    and with `Overflowed` when its reader stayed too far behind; a reader resumes with `start_revision` = last
    seen revision + 1.
    """

    key: bytes
    range_end: bytes = b""
    start_revision: int = 0
    """The first revision to see; 0 for whatever comes next. A future one is waited for."""
    prev_kv: bool = False
    no_put: bool = False
    no_delete: bool = False
    progress_notify: bool = False
    """Also send batches without events, now and then and at `RequestProgress`."""


@message("etcd.open-watch")
@frozen
class OpenWatch(Request[Storage, "WatchOpened"]):
    """Begin a watch. Answered by `WatchOpened` before the first batch; errors: `Compacted`, `EmptyKey`,
    `Unavailable`.

    To end it, the reader cancels its end of the channel.
    """

    watch: Watch
    to: "ChannelWriter[WatchBatch]"


@message("etcd.watch-opened")
@frozen
class WatchOpened:
    revision: int
    """Where the store stood: a watch without a start revision sees what comes after."""


@message("etcd.watch-batch")
@frozen
class WatchBatch:
    """Events of one or more whole revisions. Without events it is a bookmark: nothing up to `revision` is
    missing.
    """

    revision: int
    """The reader has now seen everything of its range up to here."""
    events: tuple[Event, ...] = ()


@message("etcd.request-progress")
@frozen
class RequestProgress(Request[Storage, "ProgressReply"]):
    """Ask that every watch with `progress_notify` that is in step sends a bookmark now. Answered by
    `ProgressReply`.
    """


@message("etcd.progress-reply")
@frozen
class ProgressReply:
    revision: int


# ------------------------------------------------------------------------------------------------------------
# About the store
# ------------------------------------------------------------------------------------------------------------


@message("etcd.status")
@frozen
class Status(Request[Storage, "StatusReply"]):
    """How a member is. Answered by `StatusReply`, also without a leader."""


@message("etcd.status-reply")
@frozen
class StatusReply:
    revision: int
    version: str
    """The etcd version whose behaviour this is: at least 3.5.13, below which an API server leaves features
    off.
    """
    member: int
    leader: int
    """Id of the leader that this member knows, 0 for none."""
    term: int
    commit_index: int
    applied_index: int
    compact_revision: int
    size_bytes: int
    """Keys and values, all live revisions."""


@message("etcd.hash-kv")
@frozen
class HashKV(Request[Storage, "HashKVReply"]):
    """A hash over all that the store holds up to a revision (0 for now). Answered by `HashKVReply`.

    Equal at two members at equal revision and compaction, else one of them is wrong.
    """

    revision: int = 0


@message("etcd.hash-kv-reply")
@frozen
class HashKVReply:
    revision: int
    hash: int
    compact_revision: int


StorageRequest = (
    Range
    | Put
    | DeleteRange
    | Txn
    | Compact
    | LeaseGrant
    | LeaseRevoke
    | LeaseKeepAlive
    | LeaseTimeToLive
    | LeaseList
    | RequestProgress
    | Status
    | HashKV
)


# ------------------------------------------------------------------------------------------------------------
# Errors: a value each (attrs classes), so that they cross hosts as any message does
# ------------------------------------------------------------------------------------------------------------


@message("etcd.error.storage-error")
@frozen
class StorageError(Refusal):
    """Anything the store refuses."""


@message("etcd.error.compacted")
@frozen
class Compacted(StorageError):
    """The revision asked for is gone."""

    compact_revision: int
    """The oldest revision that can still be read; a watch can start right after it."""

    def __str__(self) -> str:
        return f"required revision has been compacted (compacted up to {self.compact_revision})"


@message("etcd.error.future-revision")
@frozen
class FutureRevision(StorageError):
    """The revision asked for has not come yet."""

    requested: int
    revision: int

    def __str__(self) -> str:
        return f"required revision {self.requested} is a future revision (the store is at {self.revision})"


@message("etcd.error.unavailable")
@frozen
class Unavailable(StorageError):
    """There is no leader with a majority. A write that ended so may still have happened, or happen later."""

    reason: str
    maybe_applied: bool = False
    """The request had been proposed: its outcome is unknown. False: it certainly has no effect."""

    def __str__(self) -> str:
        outcome = "; its outcome is unknown" if self.maybe_applied else "; it had no effect"
        return f"store unavailable: {self.reason}{outcome}"


@message("etcd.error.not-leader")
@frozen
class NotLeader(StorageError):
    """This member does not lead. Routers take it for advice and users never see it."""

    leader: int
    """Who leads as far as this member knows, 0 for nobody."""

    def __str__(self) -> str:
        return (
            f"not the leader (member {self.leader} is)" if self.leader else "not the leader (there is none)"
        )


@message("etcd.error.request-too-large")
@frozen
class RequestTooLarge(StorageError):
    """The request is bigger than the store takes."""

    size_bytes: int
    limit_bytes: int

    def __str__(self) -> str:
        return f"request is too large: {self.size_bytes} bytes, at most {self.limit_bytes}"


@message("etcd.error.too-many-operations")
@frozen
class TooManyOperations(StorageError):
    """The transaction has more operations or compares than the store takes."""

    operations: int
    limit: int

    def __str__(self) -> str:
        return f"too many operations in the transaction: {self.operations}, at most {self.limit}"


@message("etcd.error.duplicate-key")
@frozen
class DuplicateKey(StorageError):
    """A transaction writes one key twice."""

    key: bytes

    def __str__(self) -> str:
        return f"duplicate key in the transaction: {self.key!r}"


@message("etcd.error.empty-key")
@frozen
class EmptyKey(StorageError):
    """A request without a key."""

    def __str__(self) -> str:
        return "key is not provided"


@message("etcd.error.invalid-request")
@frozen
class InvalidRequest(StorageError):
    """A request that contradicts itself."""

    reason: str

    def __str__(self) -> str:
        return f"invalid request: {self.reason}"


@message("etcd.error.key-not-found")
@frozen
class KeyNotFound(StorageError):
    """`ignore_value` or `ignore_lease` for a key that is not there."""

    key: bytes

    def __str__(self) -> str:
        return f"key not found: {self.key!r}"


@message("etcd.error.lease-not-found")
@frozen
class LeaseNotFound(StorageError):
    """No such lease: it expired, was revoked, or never was."""

    id: int

    def __str__(self) -> str:
        return f"requested lease not found: {self.id:x}"


@message("etcd.error.lease-exists")
@frozen
class LeaseExists(StorageError):
    """A lease of this id is already there."""

    id: int

    def __str__(self) -> str:
        return f"lease already exists: {self.id:x}"


@message("etcd.error.lease-ttl-too-large")
@frozen
class LeaseTtlTooLarge(StorageError):
    """A lease may last nine billion seconds and no longer."""

    ttl_s: int

    def __str__(self) -> str:
        return f"too large lease TTL: {self.ttl_s} s"


@message("etcd.error.overflowed")
@frozen
class Overflowed(StorageError):
    """A watch whose reader stayed too far behind. Resume it after the last revision seen."""

    revision: int
    """Everything up to here has been delivered."""

    def __str__(self) -> str:
        return f"watch overflowed after revision {self.revision}"
