"""About the store: status, hashes, alarms, snapshots."""

from typing import Literal

from attrs import field, frozen

from understudy.actors import ChannelWriter
from understudy.mailbox import Request, message

from .protocol import Storage

AlarmAction = Literal["get", "activate", "deactivate"]
AlarmType = Literal["none", "nospace", "corrupt"]
"""`none` means all of them, in a request to get."""


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
    """Keys and values, all live revisions: what the quota counts."""
    in_use_bytes: int = 0
    """Of these, those that no compaction has still to look at."""
    quota_bytes: int = 0
    """What `size_bytes` may reach; 0 for no limit."""
    is_learner: bool = False
    errors: tuple[str, ...] = ()
    """What is wrong, as etcd says it: alarms, no leader."""


@message("etcd.hash-kv")
@frozen
class HashKV(Request[Storage, "HashKVReply"]):
    """A hash over all that the store holds up to a revision (0 for now). Answered by `HashKVReply`.

    Equal at two members at equal revision and compaction, else one of them is wrong: a member answers from
    what it has applied, also without a leader.
    """

    revision: int = 0


@message("etcd.hash-kv-reply")
@frozen
class HashKVReply:
    revision: int
    hash: int
    compact_revision: int


@message("etcd.hash")
@frozen
class Hash(Request[Storage, "HashReply"]):
    """A hash over the whole replicated state: keys, leases, users, alarms. Answered by `HashReply`.

    Equal at members that applied the same entries, whatever of them came by snapshot. A member answers from
    what it has applied, also without a leader.
    """


@message("etcd.hash-reply")
@frozen
class HashReply:
    revision: int
    hash: int


@message("etcd.alarm-member")
@frozen
class AlarmMember:
    """An alarm that a member raised."""

    member: int
    alarm: AlarmType


@message("etcd.alarm")
@frozen
class Alarm(Request[Storage, "AlarmReply"]):
    """Look at alarms, raise one or take it back. Answered by `AlarmReply`.

    While there is a `nospace` alarm, puts and grants are refused with `NoSpace`; while there is a `corrupt`
    one, what changes keys or leases, but for keep-alives, with `Corrupt`. Reads are answered all the same.
    """

    action: AlarmAction = "get"
    member: int = 0
    """Whose alarm; not looked at by "get"."""
    alarm: AlarmType = "none"


@message("etcd.alarm-reply")
@frozen
class AlarmReply:
    revision: int
    alarms: tuple[AlarmMember, ...]
    """Those that were asked for; the one that was raised; the one that was taken back, if there was one."""


@message("etcd.snapshot-part")
@frozen
class SnapshotPart:
    data: bytes
    remaining_bytes: int
    """How many follow after these."""


@message("etcd.open-snapshot")
@frozen
class OpenSnapshot(Request[Storage, None]):
    """Have the whole state, as a member has applied it, sent over a channel; it ends behind the last part.

    Answered before the first part; errors: `AuthError`, `Unavailable`, which also ends the channel when the
    member stops meanwhile. To end it earlier, the reader cancels its end of the channel.

    The parts make the file that `etcdctl snapshot save` writes. What is in it is the store's own business:
    `wal.saved_snapshots` of this store, a bbolt file of a real etcd, each with a SHA-256 behind it.
    """

    to: "ChannelWriter[SnapshotPart]"
    token: str = field(default="", repr=False)
    """Who asks, as in `AsUser`: set by the store when it comes in one."""
    user: str = ""
