"""Informers: a cache of one resource that follows the server, as a supervised channel.

The reflector lists, then watches from the list's revision. When the watch ends it resumes from the last
revision it saw; when that is too old it relists and emits the difference, so that a subscriber sees each
object's changes once and in order, whatever happened to the stream between.

Owned here: the cache and its indexes. Readers share the cached objects, which raise when changed.
"""

import builtins
from collections.abc import Callable, Mapping

from attrs import define, field, frozen
from sortedcontainers import SortedDict

from understudy.actors import Context, Event
from understudy.components.machinery.api import Object, object_key
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import Resource

from .client import Client, WatchEvent
from .readonly import read_only

BACKOFF_INITIAL_SECONDS = 0.8
BACKOFF_MAX_SECONDS = 30.0
"""A failing list or watch is tried again after 0.8 s, doubling up to 30 s, with jitter (as client-go)."""

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
    """The newest revision that the cache reflects."""
    relists: int = 0
    """How often the cache was filled from a list."""
    _objects: "SortedDict" = field(factory=SortedDict)
    _indexes: dict[str, dict[str, dict[str, None]]] = field(factory=dict)
    _handlers: dict[int, Handler] = field(factory=dict)
    _handler_number: int = 0
    _synced: Event = field(init=False)
    _failures: int = 0

    def __attrs_post_init__(self) -> None:
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
        """Follow the server until cancelled."""
        expired = False
        while True:
            try:
                if expired or not self.resource_version:
                    await self._relist(at_least_cached=not expired)
                    expired = False
                await self._watch()
                self._failures = 0
            except ApiError as error:
                if error.code == 410:
                    expired = True
                    continue
                self._failures += 1
                await self.client.world.sleep(
                    self._backoff_seconds(), f"{self.resource.plural} informer back-off"
                )

    def _backoff_seconds(self) -> float:
        base = min(BACKOFF_MAX_SECONDS, BACKOFF_INITIAL_SECONDS * 2.0 ** min(self._failures - 1, 10))
        return base * (1.0 + self.client.world.rng("informer back-off").random())

    async def _relist(self, at_least_cached: bool) -> None:
        found = await self.client.list(
            self.resource,
            self.namespace,
            self.label_selector,
            self.field_selector,
            resource_version="0" if at_least_cached else "",
        )
        self.relists += 1
        self._replace({object_key(obj): read_only(obj) for obj in found.items})
        self.resource_version = found.resource_version
        if not self._synced.is_set():
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

    async def _watch(self) -> None:
        jitter = self.client.world.rng("watch timeout").random()
        async with self.client.watch(
            self.resource,
            self.namespace,
            self.label_selector,
            self.field_selector,
            self.resource_version,
            timeout_seconds=int(WATCH_TIMEOUT_SECONDS_MIN * (1.0 + jitter)),
            shared=True,
        ) as events:
            async for event in events:
                self._failures = 0
                self._on_event(event)

    def _on_event(self, event: WatchEvent) -> None:
        if event.type != "BOOKMARK":
            self._apply(event.type, event.object)
        self.resource_version = event.object["metadata"]["resourceVersion"]

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
