"""The Watch service: many watches on one stream.

Each watch reads a channel of the store in a task of its own and sends what comes; the client's messages are
taken one after another, so that `created` comes before a watch's first event and nothing after `canceled`.

Every watch asks the store for bookmarks, whatever its client wants. So the stream knows how far each of its
watches is: that is what a progress answer promises.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field

from understudy.actors import ActorStopped, ChannelReader, EndOfChannel, Nursery, Signal
from understudy.raftstore.storage import (
    ALL_KEYS_END,
    AuthError,
    Compacted,
    OpenWatch,
    RequestProgress,
    StorageError,
    Watch,
    WatchBatch,
)

from .calls import Call
from .errors import STOPPED, rpc_error
from .grpc import RpcError
from .schema import messages
from .translation import event_to

if TYPE_CHECKING:
    from .service import EtcdService

ALL_WATCHES: Final = -1
"""The watch id of a progress answer to a request, and of a watch that was refused."""
NO_PUT: Final = 0
NO_DELETE: Final = 1
CAPACITY: Final = 16
"""Batches that wait between the store and a stream. The store holds no queue for the rest."""
PROGRESS_RETRY_SECONDS: Final = 1.0
"""A bookmark that does not come was lost with its leader: ask again."""
RESPONSE_OVERHEAD_BYTES: Final = 512 * 1024
"""etcd splits a fragmented answer at its request limit and so much more."""

EMPTY_RANGE: Final = "mvcc: watcher range is empty"
DUPLICATE_ID: Final = "mvcc: duplicate watch ID provided on the WatchStream"


@define(eq=False)
class Served:
    """One watch of the stream."""

    id: int
    reader: ChannelReader[WatchBatch]
    first_revision: int
    """It sees nothing before this one."""
    notify: bool
    fragment: bool
    seen_revision: int = 0
    quiet: bool = True
    """No answer went out since the last look."""
    owed: bool = False
    """The next bookmark is for the client."""


async def serve_watch(service: "EtcdService", call: Call) -> None:
    """Serve a stream of watches until the client ends it."""
    async with service.world.nursery() as nursery:
        stream = WatchStream(service, call, nursery)
        try:
            await stream.serve()
            nursery.cancel()
        finally:
            watches, stream.watches = stream.watches, {}
            for served in watches.values():
                served.reader.cancel()


@define(eq=False)
class WatchStream:
    service: "EtcdService"
    call: Call
    nursery: Nursery
    watches: dict[int, Served] = field(factory=dict)
    _next_id: int = 0
    _progress_wanted: int = 0
    """Progress requests that are not answered yet."""
    _notifying: bool = False
    _advanced: Signal = field(init=False)
    """A watch is further than it was, or gone."""

    def __attrs_post_init__(self) -> None:
        self._advanced = self.service.world.signal("watch progress")

    async def serve(self) -> None:
        while (request := await self.call.receive()) is not None:
            match request.WhichOneof("request_union"):
                case "create_request":
                    await self._create(request.create_request)
                case "cancel_request":
                    await self._cancel(request.cancel_request.watch_id)
                case "progress_request":
                    self._progress_wanted += 1
                    if self._progress_wanted == 1:
                        self.nursery.start_soon(self._answer_progress)
                case _:
                    pass  # A later version's request: etcd lets it pass too.

    async def _send(self, revision: int, **fields: Any) -> None:
        await self.call.send(messages.WatchResponse(header=self.service.header(revision), **fields))

    # ---------------------------------------------------------------- beginning and ending

    async def _create(self, request: Any) -> None:
        refused = self._refusal(request)
        if refused:
            revision = await self._revision()
            await self._send(
                revision, watch_id=ALL_WATCHES, created=True, canceled=True, cancel_reason=refused
            )
            return
        watch_id = request.watch_id or self._free_id()
        writer, reader = self.service.open_channel(f"etcd watch {watch_id}", CAPACITY)
        watch = Watch(
            key=request.key or b"\0",
            range_end=request.range_end,
            start_revision=max(0, request.start_revision),
            prev_kv=request.prev_kv,
            no_put=NO_PUT in request.filters,
            no_delete=NO_DELETE in request.filters,
            progress_notify=True,
        )
        try:
            opened = await self.service.ask(OpenWatch(watch, writer), self.call)
        except RpcError as error:
            reader.cancel()
            gone = error.__cause__
            if isinstance(gone, AuthError):
                await self._send(
                    await self._revision(),
                    watch_id=ALL_WATCHES,
                    created=True,
                    canceled=True,
                    cancel_reason=f"rpc error: code = {error.code.go_name} desc = {error.message}",
                )
                return
            if not isinstance(gone, Compacted):
                raise
            revision = await self._revision()
            await self._send(revision, watch_id=watch_id, created=True)
            await self._send(
                revision, watch_id=watch_id, canceled=True, compact_revision=gone.compact_revision
            )
            return
        except BaseException:
            reader.cancel()
            raise
        served = Served(
            watch_id,
            reader,
            watch.start_revision or opened.revision + 1,
            request.progress_notify,
            request.fragment,
        )
        self.watches[watch_id] = served
        await self._send(opened.revision, watch_id=watch_id, created=True)
        self.nursery.start_soon(self._pump, served)
        if served.notify and not self._notifying:
            self._notifying = True
            self.nursery.start_soon(self._notify)

    def _refusal(self, request: Any) -> str:
        key = request.key or b"\0"
        if request.range_end and request.range_end != ALL_KEYS_END and key >= request.range_end:
            return EMPTY_RANGE
        if request.watch_id and request.watch_id in self.watches:
            return DUPLICATE_ID
        if len(self.watches) >= self.service.options.watches_max:
            return f"etcdserver: too many watches on one stream, at most {len(self.watches)}"
        return ""

    def _free_id(self) -> int:
        while self._next_id in self.watches:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    async def _cancel(self, watch_id: int) -> None:
        served = self.watches.pop(watch_id, None)
        if served is not None:
            served.reader.cancel()
            self._advanced.set()
            await self._send(await self._revision(), watch_id=watch_id, canceled=True)

    async def _revision(self) -> int:
        status = self.service.status
        if status is None:
            await self.service.look()
            status = self.service.status
        return max(
            [status.revision if status else 0, *(each.seen_revision for each in self.watches.values())]
        )

    # ---------------------------------------------------------------- events

    async def _pump(self, served: Served) -> None:
        """Send what the store sends for one watch."""
        try:
            while True:
                batch = await served.reader.receive()
                if batch.events:
                    served.quiet = False
                    for events, more in self._fragments(served, batch):
                        if self.watches.get(served.id) is not served:
                            return
                        await self._send(batch.revision, watch_id=served.id, events=events, fragment=more)
                elif served.owed and self.watches.get(served.id) is served:
                    served.owed = False
                    await self._send(batch.revision, watch_id=served.id)
                served.seen_revision = batch.revision
                self._advanced.set()
        except EndOfChannel:
            if self.watches.get(served.id) is served:
                raise RpcError(*STOPPED) from None
        except Compacted as gone:
            if self.watches.pop(served.id, None) is served:
                self._advanced.set()
                await self._send(
                    await self._revision(),
                    watch_id=served.id,
                    canceled=True,
                    compact_revision=gone.compact_revision,
                )
        except ActorStopped:
            raise RpcError(*STOPPED) from None
        except StorageError as refusal:
            raise rpc_error(refusal) from refusal

    def _fragments(self, served: Served, batch: WatchBatch) -> Iterator[tuple[list[Any], bool]]:
        """The events of a batch as one answer, or as several that say that more follow."""
        events = [event_to(event) for event in batch.events]
        if not served.fragment:
            yield events, False
            return
        limit = self.service.options.max_request_bytes + RESPONSE_OVERHEAD_BYTES
        part: list[Any] = []
        size = 0
        for event in events:
            bytes_of_it = event.ByteSize()
            if part and size + bytes_of_it > limit:
                yield part, True
                part, size = [], 0
            part.append(event)
            size += bytes_of_it
        yield part, False

    # ---------------------------------------------------------------- progress

    async def _answer_progress(self) -> None:
        """Tell how far all watches of the stream are, once for each request."""
        while self._progress_wanted:
            wanted = self._progress_wanted
            revision = await self._in_step()
            for _ in range(wanted):
                await self._send(revision, watch_id=ALL_WATCHES)
            self._progress_wanted -= wanted

    async def _in_step(self) -> int:
        """Wait until every watch has sent all up to some revision of now; returns it."""
        while True:
            revision: int = (await self.service.ask(RequestProgress())).revision
            with self.service.world.limit(PROGRESS_RETRY_SECONDS):
                while not all(
                    each.seen_revision >= revision or each.first_revision > revision
                    for each in self.watches.values()
                ):
                    await self._advanced.wait()
                return revision

    async def _notify(self) -> None:
        """Now and then tell each watch that wants it, and heard nothing meanwhile, how far it is."""
        options = self.service.options
        while True:
            for served in self.watches.values():
                served.quiet = True
            await self.service.world.sleep(options.progress_seconds, "watch progress")
            quiet = [served for served in self.watches.values() if served.notify and served.quiet]
            for served in quiet:
                served.owed = True
            if quiet:
                await self.service.ask(RequestProgress())
