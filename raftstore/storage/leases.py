"""Leases."""

from attrs import frozen

from understudy.mailbox import Request, message

from .protocol import Storage


@message("etcd.lease-grant")
@frozen
class LeaseGrant(Request[Storage, "LeaseGrantReply"]):
    """A new lease. Answered by `LeaseGrantReply`; errors: `LeaseExists`, `LeaseTtlTooLarge`, `NoSpace`.

    A time to live below the store's least (a little above its election timeout) becomes that.
    """

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


@message("etcd.lease-checkpoint")
@frozen
class LeaseCheckpoint(Request[Storage, "LeaseCheckpointReply"]):
    """Write down what is left of leases, so that a new leader does not give them their whole time again.

    Proposed by the leader itself. Leases that are gone are passed over. Answered by `LeaseCheckpointReply`.
    """

    remaining: tuple[tuple[int, int], ...]
    """(id, seconds left)."""


@message("etcd.lease-checkpoint-reply")
@frozen
class LeaseCheckpointReply:
    revision: int


@message("etcd.lease-list")
@frozen
class LeaseList(Request[Storage, "LeaseListReply"]):
    """All leases. Answered by `LeaseListReply`."""


@message("etcd.lease-list-reply")
@frozen
class LeaseListReply:
    revision: int
    ids: tuple[int, ...]
