"""A store that is a real etcd, or another Understudy: a `Storage` over gRPC.

It knows no sockets: it speaks over a `calls.Channel`, to a server somewhere or to a service in this process.
Each watch is a stream of its own, begun again after the last revision that was delivered when it breaks.

Bookmarks need a server of 3.4.25, 3.5.8 or newer: an older one may say that a watch is further than it is
(etcd#15220), of which the store warns. A Kubernetes API server asks for 3.4.31 or 3.5.13.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import define, evolve, frozen

from understudy.actors import Actor, ChannelWriter
from understudy.mailbox import ChannelClosed
from understudy.raftstore.machine import takes_long
from understudy.raftstore.serving import serving_aside
from understudy.raftstore.storage import (
    ALL_KEYS_END,
    REQUESTS,
    AsUser,
    AuthError,
    Compact,
    Compacted,
    EmptyKey,
    FutureRevision,
    InvalidRequest,
    LeaseKeepAlive,
    LeaseKeepAliveReply,
    LeaseNotFound,
    OpenSnapshot,
    OpenWatch,
    ProgressReply,
    Range,
    RequestProgress,
    SnapshotPart,
    Status,
    Storage,
    StorageError,
    Txn,
    Unavailable,
    Watch,
    WatchBatch,
    WatchOpened,
)
from understudy.raftstore.storage.cluster import AwaitLeader, Leadership, MoveLeader

from .calls import Channel, ClientStream
from .errors import COMPACTED, FUTURE_REVISION, refusal_of
from .grpc import Code, RpcError
from .routes import ROUTES
from .schema import messages
from .translation import event_from

log = logging.getLogger("understudy.raftstore.etcd")

WATCH: Final = "/etcdserverpb.Watch/Watch"
SNAPSHOT: Final = "/etcdserverpb.Maintenance/Snapshot"
KEEP_ALIVE: Final = "/etcdserverpb.Lease/LeaseKeepAlive"
NO_PUT: Final = 0
NO_DELETE: Final = 1
HONEST_BOOKMARKS: Final = {(3, 4): 25, (3, 5): 8}
"""The first patch of each line whose progress answers come behind the events."""


@frozen
class RemoteOptions:
    request_seconds: float = 4.0
    """A request is answered within this time, if only with `Unavailable`."""
    long_request_seconds: float = 320.0
    """The same of what takes long: hashes, and compactions, which are always physical ones here."""
    look_seconds: float = 0.5
    """The protocol tells nobody of a new leader: whoever waits for one has the server asked so often."""
    retry_seconds: float = 0.2
    """A watch whose stream broke is begun again after this time."""


@define(eq=False)
class RemoteWatch:
    """A watch that goes on."""

    watch: Watch
    """With the revision from which it still has to see."""
    to: ChannelWriter[WatchBatch]
    stream: ClientStream
    metadata: Mapping[str, str]


class RemoteStore(Actor[Storage]):
    def __init__(self, channel: Channel, options: RemoteOptions) -> None:
        self.channel = channel
        self.options = options
        self._watches: dict[RemoteWatch, None] = {}
        self._warned = False

    async def on_start(self) -> None:
        self.context.start_soon(self.channel.run, name=f"{self.context.path} connection")

    for _request in {**dict.fromkeys(REQUESTS), **ROUTES, AwaitLeader: None}:
        vars()[f"_serve_{_request.__name__}"] = serving_aside(_request)

    async def serve_aside(self, request: Any) -> object:
        """Have a request answered. Raises a `StorageError`."""
        metadata: dict[str, str] = {}
        if isinstance(request, AsUser):
            if request.user and not request.token:
                raise InvalidRequest("a server sees certificates for itself: only a token can be passed on")
            metadata["token"] = request.token
            request = request.request
        try:
            match request:
                case OpenWatch():
                    return await self._open_watch(request, metadata)
                case OpenSnapshot():
                    await self._open_snapshot(request, metadata)
                    return None
                case LeaseKeepAlive():
                    return await self._keep_alive(request, metadata)
                case MoveLeader():
                    return evolve(await self._call(request, metadata), leader=request.target)
                case AwaitLeader():
                    return await self._await_leader(request.known)
                case RequestProgress():
                    return await self._request_progress(metadata)
                case _:
                    return await self._call(request, metadata)
        except RpcError as error:
            raise await self._refusal(error, request) from error

    async def _call(self, request: Any, metadata: Mapping[str, str]) -> Any:
        route = ROUTES.get(type(request))
        if route is None:
            raise Unavailable(f"{type(request).__name__} is not a request for a store over gRPC")
        wire = route.request(request)
        long = takes_long(request) or isinstance(request, Compact)
        seconds = self.options.long_request_seconds if long else self.options.request_seconds
        return route.reply(await self.channel.unary(route.path, wire, seconds, metadata))

    async def _await_leader(self, known: Leadership | None) -> Leadership:
        while True:
            status = await self._call(Status(), {})
            found = Leadership(status.member, status.leader, status.term)
            if found != known:
                return found
            await self.world.sleep(self.options.look_seconds, "another leader")

    async def _refusal(self, error: RpcError, request: Any) -> StorageError:
        try:
            if (error.code, error.message) == COMPACTED:
                return Compacted(await self._compact_revision())
            if (error.code, error.message) == FUTURE_REVISION:
                revision = await self._call(Status(), {})
                return FutureRevision(_newest(request), revision.revision)
        except RpcError as silent:
            return refusal_of(silent, request)
        return refusal_of(error, request)

    async def _compact_revision(self) -> int:
        """What a server says to a watch of what is gone: no other answer tells it."""
        stream = await self._stream(WATCH)
        try:
            with self.world.limit(self.options.request_seconds):
                create = messages.WatchCreateRequest(key=b"\0", range_end=ALL_KEYS_END, start_revision=1)
                await stream.send(messages.WatchRequest(create_request=create))
                while (response := await stream.receive()) is not None:
                    if response.compact_revision:
                        revision: int = response.compact_revision
                        return revision
        finally:
            stream.cancel()
        raise RpcError(Code.UNAVAILABLE, "the server does not say what is compacted")

    async def _stream(self, path: str, metadata: Mapping[str, str] | None = None) -> ClientStream:
        await self.channel.connect()
        return self.channel.stream(path, metadata)

    async def _keep_alive(self, request: LeaseKeepAlive, metadata: Mapping[str, str]) -> object:
        with self.world.limit(self.options.request_seconds):
            stream = await self._stream(KEEP_ALIVE, metadata)
            try:
                await stream.send(messages.LeaseKeepAliveRequest(ID=request.id))
                response = await stream.receive()
            finally:
                stream.cancel()
            if response is None:
                raise RpcError(Code.UNAVAILABLE, "the stream of keep-alives ended")
            if response.TTL <= 0:
                raise LeaseNotFound(request.id)
            return LeaseKeepAliveReply(response.header.revision, response.ID, response.TTL)
        raise RpcError(Code.DEADLINE_EXCEEDED, "the lease was not kept alive in time")

    # ---------------------------------------------------------------- snapshots

    on_open_snapshot = serving_aside(OpenSnapshot)

    async def _open_snapshot(self, request: OpenSnapshot, metadata: Mapping[str, str]) -> None:
        """What the server's file is made of, byte by byte: a real etcd's is a bbolt file."""
        stream = await self._stream(SNAPSHOT, metadata)
        first = None
        try:
            with self.world.limit(self.options.request_seconds):
                await stream.send(messages.SnapshotRequest())
                first = await stream.receive()
        finally:
            if first is None:
                stream.cancel()
        if first is None:
            raise Unavailable(f"no snapshot within {self.options.request_seconds:g} s")
        self.context.adopt(request.to)
        cancel = self.context.start_soon(self._deliver_snapshot, stream, first, request.to)

        def gone() -> None:
            stream.cancel()
            cancel()

        request.to.on_end(gone)

    async def _deliver_snapshot(
        self, stream: ClientStream, part: Any, to: ChannelWriter[SnapshotPart]
    ) -> None:
        try:
            while part is not None:
                await to.send(SnapshotPart(part.blob, part.remaining_bytes))
                part = await stream.receive()
            to.close()
        except ChannelClosed:
            pass  # Its reader wants no more.
        except RpcError as error:
            to.close(refusal_of(error, None))

    # ---------------------------------------------------------------- watches

    on_open_watch = serving_aside(OpenWatch)

    async def _open_watch(self, request: OpenWatch, metadata: Mapping[str, str]) -> WatchOpened:
        if not request.watch.key:
            # The protocol would take it for all keys.
            raise EmptyKey()
        with self.world.limit(self.options.request_seconds):
            watch = request.watch
            if watch.start_revision:
                await self._check_past(watch, metadata)
            stream, revision = await self._begin(watch, metadata)
            start_revision = watch.start_revision or revision + 1
            going = RemoteWatch(evolve(watch, start_revision=start_revision), request.to, stream, metadata)
            self._watches[going] = None
            self.context.adopt(request.to)
            cancel = self.context.start_soon(self._follow, going)
            request.to.on_end(cancel)
            return WatchOpened(revision)
        raise Unavailable(f"no watch within {self.options.request_seconds:g} s")

    async def _check_past(self, watch: Watch, metadata: Mapping[str, str]) -> None:
        """Refuse a watch of what is compacted at once: the server would begin it and then cancel it."""
        try:
            await self._call(Range(watch.key, revision=watch.start_revision, count_only=True), metadata)
        except RpcError as error:
            if (error.code, error.message) != FUTURE_REVISION:
                raise

    async def _begin(self, watch: Watch, metadata: Mapping[str, str]) -> tuple[ClientStream, int]:
        """Begin a watch at the server; returns its stream and where the store stood. Raises RpcError."""
        stream = await self._stream(WATCH, {"hasleader": "true", **metadata})
        try:
            create = messages.WatchCreateRequest(
                key=watch.key,
                range_end=watch.range_end,
                start_revision=watch.start_revision,
                prev_kv=watch.prev_kv,
                progress_notify=watch.progress_notify,
                filters=[
                    *([NO_PUT] if watch.no_put else []),
                    *([NO_DELETE] if watch.no_delete else []),
                ],
            )
            await stream.send(messages.WatchRequest(create_request=create))
            response = await stream.receive()
            if response is None or not response.created or response.canceled:
                reason = response.cancel_reason if response is not None else "the stream ended"
                raise RpcError(Code.UNKNOWN, f"the watch was refused: {reason}")
        except BaseException:
            stream.cancel()
            raise
        return stream, response.header.revision

    async def _follow(self, going: RemoteWatch) -> None:
        """Deliver what a watch brings, and begin it again when it breaks."""
        try:
            while True:
                try:
                    await self._deliver(going)
                except RpcError as error:
                    log.info("a watch broke and is begun again: %s", error)
                going.stream.cancel()
                going.stream = await self._begin_again(going)
        except ChannelClosed:
            pass  # Its reader has seen enough.
        except StorageError as refusal:
            going.to.close(refusal)
        finally:
            going.stream.cancel()
            del self._watches[going]

    async def _begin_again(self, going: RemoteWatch) -> ClientStream:
        """Raises AuthError: whoever watches may no more."""
        while True:
            await self.world.sleep(self.options.retry_seconds, "watch of a remote store")
            try:
                with self.world.limit(self.options.request_seconds):
                    stream, _ = await self._begin(going.watch, going.metadata)
                    return stream
                log.info("a watch cannot begin again yet: no answer")
            except RpcError as error:
                refusal = refusal_of(error, None)
                if isinstance(refusal, AuthError):
                    raise refusal from error
                log.info("a watch cannot begin again yet: %s", error)

    async def _deliver(self, going: RemoteWatch) -> None:
        """Deliver until the stream ends. Raises RpcError, ChannelClosed, Compacted."""
        parts: list[Any] = []
        while (response := await going.stream.receive()) is not None:
            if response.compact_revision:
                raise Compacted(response.compact_revision)
            if response.canceled:
                raise RpcError(Code.UNAVAILABLE, f"the watch was canceled: {response.cancel_reason}")
            parts.extend(response.events)
            if response.fragment:
                continue
            if parts:
                # The header may be ahead: a server reads the past in batches of so many revisions.
                revision = parts[-1].kv.mod_revision
            elif response.created or not going.watch.progress_notify:
                continue
            else:
                revision = response.header.revision
            events = tuple([event_from(event) for event in parts])
            parts = []
            await going.to.send(WatchBatch(revision, events))
            start_revision = max(going.watch.start_revision, revision + 1)
            going.watch = evolve(going.watch, start_revision=start_revision)

    async def _request_progress(self, metadata: Mapping[str, str]) -> object:
        status = await self._call(Status(), metadata)
        self._warn_of(status.version)
        # A linearizable read: the bookmarks that are asked for after it are at least at its revision.
        reply = await self._call(Range(b"\0", count_only=True), metadata)
        for going in list(self._watches):
            if going.watch.progress_notify:
                try:
                    await going.stream.send(
                        messages.WatchRequest(progress_request=messages.WatchProgressRequest())
                    )
                except RpcError as error:
                    log.info("a watch is broken and cannot say how far it is: %s", error)
        return ProgressReply(reply.revision)

    def _warn_of(self, version: str) -> None:
        if self._warned:
            return
        self._warned = True
        numbers = [int(part) if part.isdecimal() else 0 for part in version.split("-")[0].split(".")]
        major, minor, patch = (*numbers, 0, 0, 0)[:3]
        if (major, minor) < (3, 4) or patch < HONEST_BOOKMARKS.get((major, minor), 0):
            log.warning(
                "etcd %s may say that a watch is further than it is (etcd#15220): use 3.4.31 or 3.5.13",
                version,
            )


def remote_store(
    channel: Callable[[], Channel], options: RemoteOptions | None = None
) -> Callable[[], Actor[Storage]]:
    """A factory for a store behind a channel, which is made anew for each incarnation."""
    return lambda: RemoteStore(channel(), options or RemoteOptions())


def _newest(request: Any) -> int:
    """The newest revision that a request asks for."""
    if isinstance(request, Txn):
        return max([_newest(each) for each in (*request.success, *request.failure)], default=0)
    return getattr(request, "revision", 0)
