"""Informers: a cache of one resource that follows the server, as a supervised channel.

It is filled from a list, and then from a watch. When the server says that the watch's position is too old
(410), it lists again and emits the difference, so that a subscriber sees each object's changes once and in
order, whatever happened to the stream between.

Owned here: the cache and its indexes. Readers share the cached objects, which raise when changed.
"""

import builtins
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager

from attrs import define, field, frozen
from sortedcontainers import SortedDict

from understudy.actors import Context, Event, Restarted, Supervised
from understudy.components.machinery.api import Object, object_key
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import Resource
from understudy.mailbox import FollowingStatistics, Patience, Verdict, verdict_on

from .client import Client, WatchEvent
from .readonly import read_only

PATIENCE = Patience(
    open_seconds=40.0,
    snapshot_seconds=60.0,
    silence_seconds=180.0,
    backoff_initial_seconds=0.8,
    backoff_max_seconds=30.0,
    backoff_jitter=1.0,
)
"""The back-off is client-go's. A server sends bookmarks about every minute; who misses three has lost it. The
client's own time-outs come before those for opening and listing."""

WATCH_TIMEOUT_SECONDS_MIN = 300
"""A watch is asked to end after 5 to 10 minutes, so that no server keeps one for ever."""

Indexer = Callable[[Object], list[str]]


@frozen
class Change:
    """One change of one object."""

    type: str
    """ADDED, MODIFIED or DELETED."""
    key: str
    """`namespace/name` or `name`."""
    old: Object | None
    """As it was; of a deletion, the last state that was seen."""
    new: Object | None


Handler = Callable[[Change], None]


@define(eq=False)
class Informer:
    """A read-only, indexed cache of a resource (or of what the selectors let through)."""

    client: Client
    resource: Resource
    namespace: str = ""
    label_selector: str = ""
    field_selector: str = ""
    indexers: dict[str, Indexer] = field(factory=dict)
    resource_version: str = ""
    """Of the newest change that the cache reflects."""
    _objects: "SortedDict" = field(factory=SortedDict)
    _indexes: dict[str, dict[str, dict[str, None]]] = field(factory=dict)
    _handlers: dict[int, Handler] = field(factory=dict)
    _handler_number: int = 0
    _synced: Event = field(init=False)
    _follower: Supervised[str, WatchEvent, Mapping[str, Object]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._follower = Supervised(
            self.client.world,
            f"{self.resource.plural} informer",
            open=self._watch,
            position_of=self._complete_up_to,
            snapshot=self._list,
            is_after=None,
            verdict=_verdict,
            patience=PATIENCE,
        )
        self._synced = self.client.world.event(f"{self.resource.plural} synced")
        self._indexes = {name: {} for name in self.indexers}

    # -- reading

    def get(self, key: str) -> Object | None:
        """The object of that key, or None."""
        return self._objects.get(key)  # type: ignore[no-any-return]

    def list(self) -> builtins.list[Object]:
        """Every object, in order of key."""
        return list(self._objects.values())

    def by_index(self, index: str, value: str) -> builtins.list[Object]:
        """The objects for which the indexer gave `value`, in order of key."""
        return [self._objects[key] for key in sorted(self._indexes[index].get(value, ()))]

    def has_synced(self) -> bool:
        """Whether the cache was filled once."""
        return self._synced.is_set()

    async def synced(self) -> None:
        """Return once the cache was filled."""
        await self._synced.wait()

    def subscribe(self, handler: Handler) -> Callable[[], None]:
        """Call `handler` with every change from now on, first with an ADDED for every cached object.

        The handler is synchronous and short: it puts keys in queues. Returns the function that ends it.
        """
        self._handler_number += 1
        number = self._handler_number
        self._handlers[number] = handler
        for key, obj in list(self._objects.items()):
            handler(Change("ADDED", key, None, obj))
        return lambda: self._forget(number)

    def _forget(self, number: int) -> None:
        self._handlers.pop(number, None)

    def add_indexer(self, name: str, indexer: Indexer) -> None:
        """Index by what `indexer` says; harmless when the name is known already."""
        if name in self.indexers:
            return
        self.indexers[name] = indexer
        index: dict[str, dict[str, None]] = {}
        for key, obj in self._objects.items():
            for value in indexer(obj):
                index.setdefault(value, {})[key] = None
        self._indexes[name] = index

    # -- following the server

    async def run(self) -> None:
        """Follow the server until cancelled; once."""
        await self._follower.run(self._on_event, self._on_list)

    def statistics(self) -> FollowingStatistics[str]:
        """How often it resumed its watch, how often it listed, and what it does now."""
        return self._follower.statistics()

    async def _list(self, expired: Exception | None) -> tuple[str, Mapping[str, Object]]:
        found = await self.client.list(
            self.resource,
            self.namespace,
            self.label_selector,
            self.field_selector,
            # Whatever the server has cached will do, unless it may be the past that it no longer has.
            resource_version="" if expired else "0",
        )
        return found.resource_version, {object_key(obj): read_only(obj) for obj in found.items}

    def _on_list(self, restarted: Restarted[str, Mapping[str, Object]]) -> None:
        self._replace(restarted.snapshot)
        self.resource_version = restarted.position
        self._synced.set()

    def _replace(self, fresh: Mapping[str, Object]) -> None:
        """Emit the difference between the cache and what is there now."""
        for key in [key for key in self._objects if key not in fresh]:
            self._apply("DELETED", self._objects[key])
        for key, obj in sorted(fresh.items()):
            known = self._objects.get(key)
            if known is None:
                self._apply("ADDED", obj)
            elif known["metadata"]["uid"] != obj["metadata"]["uid"]:
                self._apply("DELETED", known)
                self._apply("ADDED", obj)
            elif known["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
                self._apply("MODIFIED", obj)

    def _watch(self, resource_version: str) -> AbstractAsyncContextManager[AsyncIterator[WatchEvent]]:
        jitter = self.client.world.rng("watch timeout").random()
        return self.client.watch(
            self.resource,
            self.namespace,
            self.label_selector,
            self.field_selector,
            resource_version,
            timeout_seconds=int(WATCH_TIMEOUT_SECONDS_MIN * (1.0 + jitter)),
            shared=True,
        )

    def _complete_up_to(self, event: WatchEvent) -> str | None:
        """The changes of one transaction share a resourceVersion: only the next one tells that all came."""
        version = _version(event.object)
        if event.type == "BOOKMARK":
            return version
        return self.resource_version if self.resource_version != version else None

    def _on_event(self, event: WatchEvent) -> None:
        if event.type != "BOOKMARK" and not self._is_known(event):
            self._apply(event.type, event.object)
        self.resource_version = _version(event.object)

    def _is_known(self, event: WatchEvent) -> bool:
        """Whether it comes again: a transaction that a broken watch had brought in part."""
        known = self._objects.get(object_key(event.object))
        return known is not None and event.type != "DELETED" and _version(known) == _version(event.object)

    def _apply(self, type: str, obj: Object) -> None:
        """Take in one change; `obj` is read-only."""
        key = object_key(obj)
        old = self._objects.get(key)
        if old is not None:
            self._unindex(key, old)
        if type == "DELETED":
            if old is None:
                return
            del self._objects[key]
            change = Change("DELETED", key, obj, None)
        else:
            new = obj
            self._objects[key] = new
            for name, indexer in self.indexers.items():
                for value in indexer(new):
                    self._indexes[name].setdefault(value, {})[key] = None
            change = Change("ADDED" if old is None else "MODIFIED", key, old, new)
        for handler in list(self._handlers.values()):
            handler(change)

    def _unindex(self, key: str, old: Object) -> None:
        for name, indexer in self.indexers.items():
            for value in indexer(old):
                keys = self._indexes[name][value]
                keys.pop(key, None)
                if not keys:
                    del self._indexes[name][value]


def _version(obj: Object) -> str:
    return str(obj["metadata"]["resourceVersion"])


def _verdict(error: Exception) -> Verdict:
    if isinstance(error, ApiError):
        return Verdict.RESTART if error.code == 410 else Verdict.RESUME
    return verdict_on(error)


@define(eq=False)
class Informers:
    """One shared informer a resource, for actors on one host. Their owner starts them."""

    client: Client
    _informers: dict[Resource, Informer] = field(factory=dict)
    _context: "Context[object] | None" = None

    def of(self, resource: Resource) -> Informer:
        """The shared informer of all objects of a resource; started with the others, or at once."""
        informer = self._informers.get(resource)
        if informer is None:
            informer = self._informers[resource] = Informer(self.client, resource)
            if self._context is not None:
                self._context.start_soon(
                    informer.run, name=f"{self._context.path} {resource.plural} informer"
                )
        return informer

    def start(self, context: "Context[object]") -> None:
        """Run every informer as a task of that actor."""
        self._context = context
        for resource, informer in self._informers.items():
            context.start_soon(informer.run, name=f"{context.path} {resource.plural} informer")

    async def synced(self) -> None:
        """Return once every informer asked for so far was filled."""
        for informer in list(self._informers.values()):
            await informer.synced()
