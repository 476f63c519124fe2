"""What clients ask of an etcd store, and are answered, as histories have it."""

from attrs import frozen

# ------------------------------------------------------------------ keys


@frozen
class Write:
    """Put a key; it lives by a lease from then on, or by none."""

    key: bytes
    value: bytes
    lease: int = 0


@frozen
class CompareAndSet:
    """Put a key if its last change was at `mod_revision`; 0: if it is not there."""

    key: bytes
    mod_revision: int
    value: bytes


@frozen
class Delete:
    """Delete a key; without it there, that is no revision."""

    key: bytes


@frozen
class WriteTogether:
    """Put several keys, and delete others, in one transaction."""

    pairs: tuple[tuple[bytes, bytes | None], ...]
    """(key, value), no key twice; None deletes the key if it is there."""


@frozen
class Read:
    """Read a key, linearizably."""

    key: bytes


@frozen
class ReadAll:
    """Read every key at one revision, linearizably."""


@frozen
class WriteResult:
    revision: int
    """The store's, afterwards."""
    done: bool = True
    """Whether it changed anything."""


@frozen
class ReadResult:
    revision: int
    value: bytes | None
    """None: there is no such key."""
    mod_revision: int = 0
    lease: int = 0


@frozen
class ReadAllResult:
    revision: int
    """The store's; also where a past revision was read."""
    pairs: tuple[tuple[bytes, bytes, int, int], ...]
    """(key, value, mod_revision, lease) of each key, ascending by key."""


# ------------------------------------------------------------------ the past


@frozen
class ReadAt:
    """Read every key as it was after a past revision, linearizably: answered by `ReadAllResult`."""

    revision: int


@frozen
class CompactAt:
    """Forget what was overwritten before a revision: answered by `WriteResult`."""

    revision: int
    physical: bool = False


@frozen
class WasCompacted:
    """Refused: the revision is not there any more."""

    compact_revision: int | None
    """The newest compaction; None when the refusal does not say it, or not as of that moment."""


@frozen
class IsFuture:
    """Refused: the revision has not come yet."""


# ------------------------------------------------------------------ leases


@frozen
class Grant:
    """Begin a lease. No id is granted twice in a history."""

    lease: int
    ttl_s: int


@frozen
class KeepAlive:
    """Give a lease its whole time again."""

    lease: int


@frozen
class TimeToLive:
    """Which keys live by a lease, linearizably."""

    lease: int


@frozen
class ReadLeases:
    """Which leases there are, linearizably."""


@frozen
class Revoke:
    """End a lease, and delete its keys."""

    lease: int


@frozen
class Expire:
    """A lease ends by itself, and its keys are deleted: nobody's request. See `expiries`."""

    lease: int


@frozen
class Granted:
    """Of a grant or a keep-alive."""

    revision: int
    ttl_s: int
    """So long it lasts, from some moment between call and answer on."""


@frozen
class Attached:
    revision: int
    keys: tuple[bytes, ...]
    """Ascending."""


@frozen
class LeaseIds:
    revision: int
    ids: tuple[int, ...]


@frozen
class Revoked:
    """The lease has ended. The store does not say whether that was a revision: it was if there were keys."""

    revision: int


@frozen
class NoLease:
    """Refused: there is no such lease."""
