"""WATCH: a stream of events cut from the watch cache.

A watcher that is slower than its channel is ended, as the real server does; its client resumes from the last
revision it saw. Nothing here ever waits for a reader except while sending the initial state.

Source: Kubernetes API concepts, "Efficient detection of changes" and "Streaming lists".
"""

from collections.abc import Callable, Iterable

import orjson
from attrs import define, field, frozen

from understudy.actors import ChannelWriter, Timer, World
from understudy.components.machinery import protobuf
from understudy.components.machinery.api import ApiResponse, Object
from understudy.components.machinery.errors import ApiError, FieldError, bad_request, invalid
from understudy.components.machinery.partial import partial_object_metadata
from understudy.components.machinery.tables import WatchTables, printer_for
from understudy.mailbox import ChannelClosed, ChannelFull

from .cacher import Cache, Interest, Seen
from .context import RequestContext
from .conversion import as_served, as_served_entry
from .encoding import Stored
from .negotiation import Rendering
from .reads import headers, parse_resource_version, read_interest, wait_for
from .registry import Registry
from .routing import go_bool

MIN_REQUEST_TIMEOUT_SECONDS = 1800.0
"""A watch without timeoutSeconds ends after 30 to 60 minutes (kube-apiserver --min-request-timeout)."""

BOOKMARK_SECONDS = 60.0
"""How often a watch that allows bookmarks gets one while nothing happens."""

CHUNK_BYTES = 64 * 1024
"""Initial events are joined into chunks of about this size."""

BACKLOG_MAX = 10_000
"""Events that may queue up behind an initial state that is still being sent."""

INITIAL_EVENTS_END = "k8s.io/initial-events-end"


@define(eq=False)
class Watcher:
    """One open watch: initial state first, then events; ended once, by whoever comes first."""

    context: RequestContext
    rendering: Rendering
    cache: Cache
    writer: ChannelWriter[bytes]
    world: World
    tables: WatchTables | None = None
    after: int = 0
    """Events up to this revision are not sent."""
    ended: bool = False
    _backlog: list[bytes] | None = None
    """While the initial state is being sent: what has to follow it."""
    _unsubscribe: Callable[[], None] | None = None
    _timers: dict[str, Timer] = field(factory=dict)

    def start(self, interest: Interest, *, behind_initial_state: bool) -> None:
        """Follow the cache from now on."""
        self._backlog = [] if behind_initial_state else None
        self._unsubscribe = self.cache.subscribe(interest, self._deliver)
        self.writer.on_end(self.end)

    def _deliver(self, seen: Seen, revision: int) -> None:
        if revision <= self.after:
            return
        if self.tables is not None:  # whose first event differs from the others
            self.send(self.encode(seen.type, seen.entry))
            return
        key = (seen.type, self.context.resource.api_version, self.rendering)
        chunk = seen.rendered.get(key)
        if chunk is None:
            chunk = seen.rendered[key] = self.encode(seen.type, seen.entry)
        self.send(chunk)

    def send(self, chunk: bytes) -> None:
        """Send without waiting; a reader that is too slow loses its watch."""
        if self.ended:
            return
        if self._backlog is not None:
            self._backlog.append(chunk)
            if len(self._backlog) > BACKLOG_MAX:
                self.end()
            return
        try:
            self.writer.try_send(chunk)
        except (ChannelFull, ChannelClosed):
            self.end()

    async def send_initial(self, first: list[bytes]) -> None:
        """Send a large initial state at the reader's pace, then what queued up behind it."""
        try:
            while first:
                for chunk in _joined(first):
                    await self.writer.send(chunk)
                first, self._backlog = self._backlog or [], []
        except ChannelClosed:
            self.end()
        self._backlog = None

    def after_seconds(self, seconds: float, what: str, action: Callable[[], None]) -> None:
        """Do something later, unless the watch has ended by then."""
        self._timers[what] = self.world.call_later(seconds, action, f"watch {what}")

    def end(self) -> None:
        """Close the stream."""
        if self.ended:
            return
        self.ended = True
        for timer in self._timers.values():
            timer.cancel()
        if self._unsubscribe is not None:
            self._unsubscribe()
        self.writer.close()

    def encode(self, type: str, entry: Stored) -> bytes:
        """One event as it goes out."""
        rendering = self.rendering
        if rendering.shape == "object" and rendering.format == "json":
            return b'{"type":"%b","object":%b}\n' % (
                type.encode(),
                as_served_entry(self.context.resource, entry),
            )
        return self.encode_object(type, as_served(self.context.resource, entry.parse()))

    def encode_object(self, type: str, obj: Object) -> bytes:
        """An event whose object is not taken from the cache as it is."""
        if obj.get("kind") != "Status":
            if self.tables is not None:
                obj = self.tables.event(obj, self.world.now())
            elif self.rendering.shape == "partial":
                obj = partial_object_metadata(obj, self.rendering.shape_api_version)
        if self.rendering.format == "protobuf":
            return protobuf.encode_watch_event(type, obj)
        return orjson.dumps({"type": type, "object": obj}) + b"\n"

    def bookmark(self, revision: int, annotations: dict[str, str] | None = None) -> bytes:
        """A bookmark: everything up to `revision` has been sent."""
        resource = self.context.resource
        metadata: Object = {"resourceVersion": str(revision)}
        if annotations:
            metadata["annotations"] = annotations
        obj = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
        return self.encode_object("BOOKMARK", obj)


@frozen
class WatchOptions:
    """What a watch asks for."""

    interest: Interest
    revision: int
    """Where it starts; 0: with the current state."""
    current: bool
    """The initial state must be as current as the store."""
    send_initial_events: bool
    bookmarks: bool
    timeout_seconds: float


def read_watch_options(context: RequestContext, world: World) -> WatchOptions:
    """The parameters of a watch. Raises 400, 422, and 500 as the real server does."""
    text = context.request.parameter("resourceVersion") or ""
    interest = read_interest(context)
    initial, bookmarks = _check_options(context)
    return WatchOptions(
        interest,
        parse_resource_version(text),
        not text,
        initial,
        bookmarks,
        _timeout_seconds(context, world),
    )


def _check_options(context: RequestContext) -> tuple[bool, bool]:
    """Whether initial events are asked for, and bookmarks allowed. Raises 422 as the real server does."""
    request = context.request
    match = request.parameter("resourceVersionMatch") or ""
    asked = request.parameter("sendInitialEvents")
    findings: list[FieldError] = []

    def forbid(field: str, value: str, detail: str) -> None:
        findings.append(FieldError("FieldValueForbidden", field, value, detail))

    if asked is not None:
        if match != "NotOlderThan":
            forbid(
                "resourceVersionMatch",
                match,
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )
        if match not in ("", "NotOlderThan"):
            findings.append(
                FieldError(
                    "FieldValueNotSupported",
                    "resourceVersionMatch",
                    match,
                    'supported values: "NotOlderThan"',
                )
            )
    elif match:
        forbid(
            "resourceVersionMatch",
            match,
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        )
    if findings:
        raise invalid("meta.k8s.io", "ListOptions", "", findings)
    return go_bool(asked), go_bool(request.parameter("allowWatchBookmarks"))


def _timeout_seconds(context: RequestContext, world: World) -> float:
    text = context.request.parameter("timeoutSeconds")
    if text:
        try:
            seconds = int(text)
        except ValueError:
            raise bad_request(f'timeoutSeconds: "{text}" is not a whole number') from None
        if seconds > 0:
            return float(seconds)
    return MIN_REQUEST_TIMEOUT_SECONDS * (1.0 + world.rng("watch time-outs").random())


async def open_watch(
    registry: Registry,
    context: RequestContext,
    rendering: Rendering,
    options: WatchOptions,
    writer: ChannelWriter[bytes],
    start_soon: Callable[..., object],
) -> ApiResponse:
    """Begin a watch; the events go to `writer`."""
    interest, revision = options.interest, options.revision
    initial, bookmarks = options.send_initial_events, options.bookmarks
    cache = registry.cache(context.resource)
    tables = None
    if rendering.shape == "table":
        include = context.request.parameter("includeObject") or ""
        tables = WatchTables(printer_for(context.resource), include, api_version=rendering.shape_api_version)
    watcher = Watcher(context, rendering, cache, writer, registry.world, tables, after=revision)
    state_first = initial or not revision
    if state_first and options.current:
        await registry.fresh()
    elif initial:
        await wait_for(registry, revision)
    # From here on nothing waits until the watcher follows the cache: no event falls into a gap.
    if not state_first and revision < cache.oldest:
        error = ApiError(410, "Expired", f"too old resource version: {revision} ({cache.oldest})")
        watcher.send(watcher.encode_object("ERROR", error.status))
        watcher.end()
        return _head(context, rendering)
    if state_first:
        first = [watcher.encode("ADDED", entry) for entry in cache.list(interest)]
        if initial and bookmarks:
            first.append(watcher.bookmark(registry.revision, {INITIAL_EVENTS_END: "true"}))
    else:
        first = [watcher.encode(seen.type, seen.entry) for seen, _ in cache.since(revision, interest)]
    if sum(map(len, first)) > CHUNK_BYTES:
        watcher.start(interest, behind_initial_state=True)
        start_soon(watcher.send_initial, first)
    else:
        if first:
            watcher.send(b"".join(first))
        watcher.start(interest, behind_initial_state=False)
    watcher.after_seconds(options.timeout_seconds, "time-out", lambda: _expire(watcher, registry, bookmarks))
    if bookmarks:
        _bookmark_again(watcher, registry)
    return _head(context, rendering)


def _head(context: RequestContext, rendering: Rendering) -> ApiResponse:
    found = dict(headers(context, rendering))
    if rendering.format == "protobuf":
        found["content-type"] = "application/vnd.kubernetes.protobuf;stream=watch"
    return ApiResponse(200, tuple(found.items()), b"", streaming=True)


def _bookmark_again(watcher: Watcher, registry: Registry) -> None:
    def bookmark() -> None:
        watcher.send(watcher.bookmark(registry.revision))
        if not watcher.ended:
            _bookmark_again(watcher, registry)

    watcher.after_seconds(BOOKMARK_SECONDS, "bookmark", bookmark)


def _expire(watcher: Watcher, registry: Registry, bookmarks: bool) -> None:
    """The watch has lasted long enough; a last bookmark spares the client a relist."""
    if bookmarks:
        watcher.send(watcher.bookmark(registry.revision))
    watcher.end()


def _joined(chunks: Iterable[bytes]) -> Iterable[bytes]:
    waiting: list[bytes] = []
    size = 0
    for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size >= CHUNK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
