"""Watches."""

from typing import Literal

from attrs import field, frozen

from understudy.actors import ChannelWriter
from understudy.mailbox import Request, message

from .keyvalue import KeyValue
from .protocol import Storage

EventType = Literal["PUT", "DELETE"]


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
    """Also send batches without events, at `RequestProgress`."""
    token: str = field(default="", repr=False)
    """Who watches, as in `AsUser`: set by the store when an `OpenWatch` comes in one."""
    user: str = ""
    granted: bool = False
    """The store has let this watch in already: set when it goes on at another member."""


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
