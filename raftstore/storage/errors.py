"""What a store refuses: a value each (attrs classes), so that refusals cross hosts as any message does."""

from typing import Literal

from attrs import frozen

from understudy.mailbox import Refusal, message


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


@message("etcd.error.no-space")
@frozen
class NoSpace(StorageError):
    """The store is as large as it may be. Compact it, then take the alarm back."""

    def __str__(self) -> str:
        return "mvcc: database space exceeded"


@message("etcd.error.corrupt")
@frozen
class Corrupt(StorageError):
    """Somebody found that members differ: nothing is written until the alarm was taken back."""

    def __str__(self) -> str:
        return "corrupt cluster"


@message("etcd.error.overflowed")
@frozen
class Overflowed(StorageError):
    """A watch whose reader stayed too far behind. Resume it after the last revision seen."""

    revision: int
    """Everything up to here has been delivered."""

    def __str__(self) -> str:
        return f"watch overflowed after revision {self.revision}"


AuthProblem = Literal[
    "auth not enabled",
    "authentication failed",
    "invalid auth token",
    "old auth revision",
    "permission denied",
    "user name is empty",
    "role name is empty",
    "user already exists",
    "user not found",
    "role already exists",
    "role not found",
    "role not granted",
    "permission not granted",
    "permission not given",
    "invalid auth management",
    "root user does not exist",
    "root role not granted",
    "user has no password",
    "password too long",
]


@message("etcd.error.auth-error")
@frozen
class AuthError(StorageError):
    """What the users' business, or the lack of a permission, refuses."""

    problem: AuthProblem
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.problem}: {self.detail}" if self.detail else self.problem
