"""The Watch service: many watches on one stream.

The client's messages are taken one after another, so that `created` comes before a watch's first event and
nothing after `canceled`. One task sends what comes for all watches of the stream: what came for several goes
out in one go, and what is the same for several watches, an event or a header, is encoded once.

Every watch asks the store for bookmarks, whatever its client wants. So the stream knows how far each of its
watches is: that is what a progress answer promises.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field

from understudy.actors import ActorStopped, ChannelReader, EndOfChannel, Nursery, Signal
from understudy.raftstore.storage import (
    ALL_KEYS_END,
    AuthError,
    Compacted,
    Event,
    OpenWatch,
    RequestProgress,
    StorageError,
    Watch,
    WatchBatch,
)
from understudy.raftstore.storage.cluster import Leadership

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
ONE_GO_BYTES: Final = 64 * 1024
"""So much of several watches is sent in one go."""
ENCODED_MAX: Final = 256
ENCODED_BYTES_MAX: Final = 1 << 20
"""Of events that are kept encoded."""
MORE_FOLLOWS: Final[bytes] = messages.WatchResponse(fragment=True).SerializeToString()

EMPTY_RANGE: Final = "mvcc: watcher range is empty"
DUPLICATE_ID: Final = "mvcc: duplicate watch ID provided on the WatchStream"


@define(eq=False)
class Served:
    """One watch of the stream."""

    id: int
    reader: ChannelReader[WatchBatch]
    encoded_id: bytes
    """As answers name it."""
    first_revision: int
    """It sees nothing before this one."""
    notify: bool
    fragment: bool
    seen_revision: int = 0
    quiet: bool = True
    """No answer went out since the last look."""
    owed: bool = False
    """The next bookmark is for the client."""


@define(eq=False)
class Encoded:
    """Parts of answers, each encoded once for all watches that are told the same at about the same time.

    Each part is an answer with nothing but this: messages that are written one behind the other are the
    message with all their fields, by protobuf's rules of encoding.
    """

    service: "EtcdService"
    _header: tuple[int, Leadership | None, bytes] = (-1, None, b"")
    """The last one, and what it is of."""
    _events: dict[int, tuple[Event, bytes]] = field(factory=dict)
    """By the identity of the event, which is kept for as long."""
    _bytes: int = 0

    def header(self, revision: int) -> bytes:
        known_revision, known_leadership, encoded = self._header
        leadership = self.service.leadership
        if known_revision != revision or known_leadership is not leadership:
            encoded = messages.WatchResponse(header=self.service.header(revision)).SerializeToString()
            self._header = revision, leadership, encoded
        return encoded

    def event(self, event: Event) -> bytes:
        known = self._events.get(id(event))
        if known is not None:
            return known[1]
        encoded: bytes = messages.WatchResponse(events=[event_to(event)]).SerializeToString()
        if self._bytes > ENCODED_BYTES_MAX or len(self._events) >= ENCODED_MAX:
            self._events.clear()
            self._bytes = 0
        self._events[id(event)] = event, encoded
        self._bytes += len(encoded)
        return encoded


@define(eq=False)
class _Outgoing:
    """Answers of several watches on their way to the client, to be sent in one go."""

    call: Call
    _answers: list[bytes] = field(factory=list)
    _bytes: int = 0

    async def add(self, answer: bytes) -> None:
        self._answers.append(answer)
        self._bytes += len(answer)
        if self._bytes >= ONE_GO_BYTES:
            await self.flush()

    async def flush(self) -> None:
        if self._answers:
            answers, self._answers, self._bytes = self._answers, [], 0
            await self.call.send_encoded(answers)


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
    _pumping: bool = False
    _due: dict[int, None] = field(factory=dict)
    """Watches for which something came, in the order in which they are looked at."""
    _came: Signal = field(init=False)
    """There are some."""
    _advanced: Signal = field(init=False)
    """A watch is further than it was, or gone."""

    def __attrs_post_init__(self) -> None:
        self._advanced = self.service.world.signal("watch progress")
        self._came = self.service.world.signal("watch batches")

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
            messages.WatchResponse(watch_id=watch_id).SerializeToString(),
            watch.start_revision or opened.revision + 1,
            request.progress_notify,
            request.fragment,
        )
        self.watches[watch_id] = served
        await self._send(opened.revision, watch_id=watch_id, created=True)
        reader.on_readable(partial(self._mark_due, watch_id))
        if not self._pumping:
            self._pumping = True
            self.nursery.start_soon(self._pump)
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
        status = await self.service.look()
        return max(
            [status.revision if status else 0, *(each.seen_revision for each in self.watches.values())]
        )

    # ---------------------------------------------------------------- events

    def _mark_due(self, watch_id: int) -> None:
        self._due[watch_id] = None
        self._came.set()

    async def _pump(self) -> None:
        """Send what the store sends for the watches: of each that has something one batch, and again."""
        while True:
            await self._came.wait()
            due, self._due = self._due, {}
            outgoing = _Outgoing(self.call)
            for watch_id in due:
                served = self.watches.get(watch_id)
                if served is None:
                    continue
                batch = served.reader.receive_nowait()
                if batch is not None:
                    self._mark_due(watch_id)
                    await self._pass_on(served, batch, outgoing)
                elif served.reader.finished:
                    await outgoing.flush()
                    await self._ended(served)
            await outgoing.flush()
            self._advanced.set()

    async def _pass_on(self, served: Served, batch: WatchBatch, outgoing: _Outgoing) -> None:
        """Send a batch, in parts if need be; a bookmark only to who is owed one."""
        if batch.events or served.owed:
            if batch.events:
                served.quiet = False
            else:
                served.owed = False
            head = self.service.encoded.header(batch.revision) + served.encoded_id
            for events, more in self._fragments(served, batch):
                await outgoing.add(head + (MORE_FOLLOWS if more else b"") + events)
                if self.watches.get(served.id) is not served:
                    return
        served.seen_revision = batch.revision

    async def _ended(self, served: Served) -> None:
        """The store sends no more for a watch."""
        try:
            await served.reader.receive()
        except Compacted as gone:
            if self.watches.pop(served.id, None) is served:
                self._advanced.set()
                await self._send(
                    await self._revision(),
                    watch_id=served.id,
                    canceled=True,
                    compact_revision=gone.compact_revision,
                )
        except (EndOfChannel, ActorStopped):
            raise RpcError(*STOPPED) from None
        except StorageError as refusal:
            raise rpc_error(refusal) from refusal

    def _fragments(self, served: Served, batch: WatchBatch) -> Iterator[tuple[bytes, bool]]:
        """The events of a batch for one answer, or for several that say that more follow."""
        limit = self.service.options.max_request_bytes + RESPONSE_OVERHEAD_BYTES
        part: list[bytes] = []
        size = 0
        for event in batch.events:
            encoded = self.service.encoded.event(event)
            if served.fragment and part and size + len(encoded) > limit:
                yield b"".join(part), True
                part, size = [], 0
            part.append(encoded)
            size += len(encoded)
        yield b"".join(part), False

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
