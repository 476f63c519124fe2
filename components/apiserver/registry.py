"""The registry: objects by key, written through the store and read from the watch cache.

It alone speaks to the store. It follows one watch over everything under /registry/ and keeps a cache a
resource; the watch is a supervised channel, and where it restarts, the caches emit the difference. Reads that
must be current ask the store for its revision (batched) and wait until the cache has reached it.
"""

from collections.abc import Awaitable, Callable, Sequence

import orjson
from attrs import define, field

from understudy.actors import (
    AskTimeout,
    ChannelWriter,
    Context,
    DeadlineExceeded,
    Event,
    Ref,
    Restarted,
    Supervised,
    World,
    asked,
)
from understudy.components.machinery.api import ApiServing, Object
from understudy.components.machinery.errors import ApiError, already_exists, conflict, timeout, unavailable
from understudy.components.machinery.resources import EVENTS, Resource, builtin_resources, for_kind
from understudy.mailbox import Patience, Refusal, Verdict, verdict_on
from understudy.raftstore import storage as etcd

from .cacher import Cache, Change
from .conversion import STORED_AS
from .encoding import PREFIX, Stored, encode_object, object_store_key, stored, stored_object
from .event_leases import EventLeases
from .transactions import ALONE, Companions, check_companions, guarded

STORE_TIMEOUT_SECONDS = 10.0
"""How long one request to the store may take."""

FRESH_TIMEOUT_SECONDS = 15.0
"""How long a current read waits for the cache to catch up with the store."""

CONFLICT_RETRIES_MAX = 20
"""How often an update without a precondition is computed again because somebody else was faster."""

LEASE_ATTEMPTS_MAX = 3
"""How often an event is written again because the store has lost its lease."""

CREATE_BATCH = 64
"""Objects that are created in one transaction at bootstrap; a transaction may hold 128 operations."""

WATCH_CAPACITY = 1024
"""Batches of the store's watch that may wait for the cache."""

STORE_PATIENCE = Patience(
    open_seconds=STORE_TIMEOUT_SECONDS,
    snapshot_seconds=STORE_TIMEOUT_SECONDS,
    backoff_initial_seconds=0.04,
    backoff_max_seconds=2.0,
)
"""How the store's watch is resumed: soon, since nothing is served from a cache that is behind."""

_REVISION = etcd.Range(PREFIX, count_only=True)
"""The cheapest question whose answer carries the store's revision."""


@define(eq=False)
class _Batch:
    """Current reads that share one question to the store."""

    done: Event
    fresh: bool = False
    error: ApiError | None = None


@define(eq=False)
class Registry:
    """Everything under /registry/."""

    store: Ref[etcd.Storage]
    world: World
    revision: int = 0
    """The cache has seen everything up to here."""
    store_revision_at_start: int = 0
    event_ttl_seconds: int = 3600
    """--event-ttl: how long events are kept."""
    leases: EventLeases = field(init=False)
    _caches: dict[tuple[str, str], Cache] = field(factory=dict)
    _views: dict[tuple[str, str], Cache] = field(factory=dict)
    """Caches by every (group, plural) that shows them; of several versions, one is stored."""
    _own_writes: dict[tuple[bytes, int], Stored] = field(factory=dict)
    """What this server wrote, by key and revision, until its watch brings it."""
    _reached: Event = field(init=False)
    _ready: Event = field(init=False)
    _context: "Context[ApiServing] | None" = None
    _next_batch: _Batch | None = None
    _running_batch: _Batch | None = None

    def __attrs_post_init__(self) -> None:
        self._reached = self.world.event("cache moved on")
        self._ready = self.world.event("watch cache filled")
        self.leases = EventLeases(self.world, self.event_ttl_seconds, self._grant)
        for resource in builtin_resources():
            self.serve(resource)

    # -- resources and caches

    def serve(self, resource: Resource) -> None:
        """Keep a cache of a resource; of several versions the first one stores."""
        storage = STORED_AS.get((resource.group, resource.plural), resource)
        key = (storage.group, storage.plural)
        if key not in self._caches and {"create", "get"} <= resource.verbs:
            self._caches[key] = Cache(storage, self.revision, self.revision)
        if key in self._caches:
            self._views[resource.group, resource.plural] = self._caches[key]

    def storage_version(self, resource: Resource) -> Resource:
        """The version in which objects of that resource are stored."""
        return self.cache(resource).resource

    def cache(self, resource: Resource) -> Cache:
        """The cache of a resource. Raises KeyError when it is not kept in the store."""
        return self._views[resource.group, resource.plural]

    def is_stored(self, resource: Resource) -> bool:
        """Whether objects of that resource are kept at all (reviews, for instance, are not)."""
        return (resource.group, resource.plural) in self._views

    def caches(self) -> list[Cache]:
        """Every cache."""
        return list(self._caches.values())

    def forget(self, revision: int) -> None:
        """Drop the caches' history up to `revision`, so that they remember about as much as the store."""
        for cache in self._caches.values():
            cache.forget(revision)

    def _cache_of_key(self, key: bytes) -> Cache | None:
        parts = key[len(PREFIX) :].decode().split("/", 2)
        cache = self._caches.get(("", parts[0]))
        return cache if cache is not None else self._caches.get((parts[0], parts[1]))

    # -- following the store

    async def ready(self) -> None:
        """Return once the caches were filled."""
        await self._ready.wait()

    async def follow(self, context: Context[ApiServing]) -> None:
        """Fill the caches and keep them in step until cancelled."""
        self._context = context
        follower: Supervised[int, etcd.WatchBatch, etcd.RangeReply] = Supervised(
            self.world,
            "store watch",
            open=lambda revision: asked(
                context, "store watch", WATCH_CAPACITY, lambda to: self._open_watch(revision, to)
            ),
            position_of=lambda batch: batch.revision,
            snapshot=lambda _: self._snapshot(),
            position=self.revision if self._ready.is_set() else None,
            verdict=_verdict,
            patience=STORE_PATIENCE,
        )
        await follower.run(self._take_in, self._start_again)

    async def _open_watch(self, revision: int, to: ChannelWriter[etcd.WatchBatch]) -> None:
        watch = etcd.Watch(PREFIX, etcd.prefix_end(PREFIX), revision + 1, progress_notify=True)
        await self.store.ask(etcd.OpenWatch(watch, to), STORE_TIMEOUT_SECONDS)

    async def _snapshot(self) -> tuple[int, etcd.RangeReply]:
        """What the store holds now."""
        reply = await self.store.ask(etcd.Range(PREFIX, etcd.prefix_end(PREFIX)), STORE_TIMEOUT_SECONDS)
        return reply.revision, reply

    def _start_again(self, restarted: Restarted[int, etcd.RangeReply]) -> None:
        """Bring the caches to what the store held, as changes at its revision."""
        reply = restarted.snapshot
        self._own_writes.clear()
        there: set[tuple[Cache, tuple[str, str]]] = set()
        # In the order in which they were written, which is the order that watchers are promised.
        for kv in sorted(reply.kvs, key=lambda kv: kv.mod_revision):
            cache = self._cache_of_key(kv.key)
            if cache is None:
                continue
            entry = stored(cache.resource, kv.value, kv.mod_revision)
            there.add((cache, (entry.namespace, entry.name)))
            known = cache.get(entry.namespace, entry.name)
            if known is None or known.revision != entry.revision:
                cache.apply(Change(max(cache.revision, entry.revision), known, entry))
        for cache in self._caches.values():
            for key, entry in list(cache.objects.items()):
                if (cache, key) not in there:
                    cache.apply(Change(reply.revision, entry, None, _at(entry, reply.revision)))
            # What happened between the last revision seen and now is not known event by event.
            cache.oldest = cache.revision = reply.revision
        self._move_on(reply.revision)
        self._ready.set()

    def _take_in(self, batch: etcd.WatchBatch) -> None:
        for event in batch.events:
            cache = self._cache_of_key(event.kv.key)
            if cache is None:
                continue
            revision = event.kv.mod_revision
            if event.type == "PUT":
                entry = self._own_writes.pop((event.kv.key, revision), None)
                if entry is None:
                    entry = stored(cache.resource, event.kv.value, revision)
                cache.apply(Change(revision, cache.get(entry.namespace, entry.name), entry))
            else:
                old = self._by_key(cache, event.kv.key)
                if old is not None:
                    cache.apply(Change(revision, old, None, _at(old, revision)))
        self._move_on(batch.revision)

    def _by_key(self, cache: Cache, key: bytes) -> Stored | None:
        parts = key.decode().rsplit("/", 2)
        return cache.get(parts[1] if cache.resource.namespaced else "", parts[2])

    def _move_on(self, revision: int) -> None:
        self.revision = max(self.revision, revision)
        if self.store_revision_at_start == 0:
            self.store_revision_at_start = self.revision
        reached, self._reached = self._reached, self.world.event("cache moved on")
        reached.set()

    async def reach(self, revision: int, timeout_seconds: float = FRESH_TIMEOUT_SECONDS) -> None:
        """Wait until the cache has seen `revision`. Raises DeadlineExceeded."""
        if self.revision >= revision:
            return
        with self.world.deadline(timeout_seconds):
            while self.revision < revision:
                await self._reached.wait()

    async def fresh(self) -> None:
        """Wait until the cache has seen everything that was written before this call.

        Calls that wait together share one question to the store: each joins the batch that has not been
        sent yet, so its question is asked after its call. Whoever opened the batch asks for all; if it is
        cancelled, the others begin again.
        """
        while True:
            batch = self._next_batch
            if batch is None:
                await self._ask_revision()
                return
            await batch.done.wait()
            if batch.error is not None:
                raise batch.error
            if batch.fresh:
                return

    async def _ask_revision(self) -> None:
        batch = self._next_batch = _Batch(self.world.event("fresh read"))
        try:
            while self._running_batch is not None:
                await self._running_batch.done.wait()
            self._running_batch, self._next_batch = batch, None
            reply = await self._ask(_REVISION)
            await self.reach(reply.revision)
            batch.fresh = True
        except DeadlineExceeded:
            batch.error = unavailable("the watch cache has not caught up with the store")
            raise batch.error from None
        except ApiError as error:
            batch.error = error
            raise
        finally:
            if self._next_batch is batch:
                self._next_batch = None
            if self._running_batch is batch:
                self._running_batch = None
            batch.done.set()

    async def _ask(self, range_: etcd.Range) -> etcd.RangeReply:
        try:
            return await self.store.ask(range_, STORE_TIMEOUT_SECONDS)
        except Refusal as error:
            raise store_error(error) from error

    async def _commit(self, txn: etcd.Txn) -> etcd.TxnReply:
        try:
            return await self.store.ask(txn, STORE_TIMEOUT_SECONDS)
        except Refusal as error:
            raise store_error(error) from error

    # -- writing

    async def create(self, resource: Resource, obj: Object, beside: Companions = ALONE) -> Stored:
        """Store a new object, and `beside` it what comes and goes with it.

        Raises:
            ApiError: 409 AlreadyExists.
            CompanionExists: a new companion's name is taken; nothing was stored.
        """
        data = encode_object(obj)
        name, namespace = obj["metadata"]["name"], obj["metadata"].get("namespace", "")
        key = object_store_key(resource, namespace, name)
        reply = await self._write(resource, etcd.Compare(key, "create", "=", 0), data, beside)
        if not reply.succeeded:
            check_companions(beside, reply, there=False)
            raise already_exists(resource.group, resource.plural, name)
        return self._written(key, stored_object(resource, obj, data, reply.revision))

    async def _write(
        self, resource: Resource, compare: etcd.Compare, data: bytes, beside: Companions = ALONE
    ) -> etcd.TxnReply:
        """Put an object where the comparison holds; under a lease if it is not kept for good."""
        if resource != EVENTS:
            put = etcd.Put(compare.key, data)
            return await self._commit(guarded(compare, put, beside))
        for _ in range(LEASE_ATTEMPTS_MAX):
            lease = await self.leases.current()
            try:
                put = etcd.Put(compare.key, data, lease)
                return await self.store.ask(etcd.Txn((compare,), (put,), ()), STORE_TIMEOUT_SECONDS)
            except etcd.LeaseNotFound:
                self.leases.forget(lease)
            except Refusal as error:
                raise store_error(error) from error
        raise unavailable("the store does not keep the leases of events")

    async def _grant(self, seconds: int) -> int:
        try:
            return (await self.store.ask(etcd.LeaseGrant(seconds), STORE_TIMEOUT_SECONDS)).id
        except Refusal as error:
            raise store_error(error) from error

    async def create_missing(self, objects: Sequence[Object]) -> int:
        """Store those objects, in stored versions, that are not there yet; the revision at which all are."""
        revision = self.revision
        for start in range(0, len(objects), CREATE_BATCH):
            creations = []
            for obj in objects[start : start + CREATE_BATCH]:
                resource = for_kind(obj["apiVersion"], obj["kind"])
                assert resource is not None and self.storage_version(resource) == resource, obj["kind"]
                metadata = obj["metadata"]
                key = object_store_key(resource, metadata.get("namespace", ""), metadata["name"])
                absent = (etcd.Compare(key, "create", "=", 0),)
                creations.append(etcd.Txn(absent, (etcd.Put(key, encode_object(obj)),), ()))
            revision = (await self._commit(etcd.Txn((), tuple(creations), ()))).revision
        return revision

    async def replace(self, current: Stored, obj: Object, beside: Companions = ALONE) -> Stored | None:
        """Store `obj` in place of exactly `current`; None when that is no longer what is stored.

        An object that did not change is not written, and keeps its resourceVersion. Raises CompanionExists.
        """
        data = encode_object(obj)
        if _same_content(data, current.data):
            return current
        key = object_store_key(current.resource, current.namespace, current.name)
        compare = etcd.Compare(key, "mod", "=", current.revision)
        reply = await self._write(current.resource, compare, data, beside)
        if not reply.succeeded:
            check_companions(beside, reply, there=True, revision=current.revision)
            return None
        return self._written(key, stored_object(current.resource, obj, data, reply.revision))

    def _written(self, key: bytes, entry: Stored) -> Stored:
        """Keep what was just written until the watch brings it, so that it need not be read again."""
        if entry.revision > self.revision:
            self._own_writes[key, entry.revision] = entry
        return entry

    async def remove(self, current: Stored, beside: Companions = ALONE) -> Stored | None:
        """Delete exactly `current`; its last state, at the deletion's revision, or None if it had changed."""
        key = object_store_key(current.resource, current.namespace, current.name)
        compare = etcd.Compare(key, "mod", "=", current.revision)
        reply = await self._commit(guarded(compare, etcd.DeleteRange(key), beside))
        return _at(current, reply.revision) if reply.succeeded else None

    async def live(self, resource: Resource, namespace: str, name: str) -> Stored | None:
        """The object as the store holds it now."""
        storage = self.storage_version(resource)
        reply = await self._ask(etcd.Range(object_store_key(storage, namespace, name)))
        if not reply.kvs:
            return None
        return stored(storage, reply.kvs[0].value, reply.kvs[0].mod_revision)

    async def attempt(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Callable[[Stored | None], Awaitable[Stored | None]],
    ) -> Stored:
        """Read, change and write until nobody was in between.

        `change` gets the current state and returns what it stored, or None when it was beaten. It may first
        see a stale state from the cache; a refusal based on one is checked against the live state.
        """
        current = self.cache(resource).get(namespace, name)
        live = False
        for _ in range(CONFLICT_RETRIES_MAX):
            try:
                result = await change(current)
            except ApiError:
                if live:
                    raise
                fresh = await self.live(resource, namespace, name)
                live = True
                if (fresh and fresh.revision) == (current and current.revision):
                    raise
                current = fresh
                continue
            if result is not None:
                return result
            current = await self.live(resource, namespace, name)
            live = True
        raise conflict(
            resource.group,
            resource.plural,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )


def _same_content(one: bytes, other: bytes) -> bool:
    """Whether two encoded objects say the same; they may differ in the order of keys."""
    return one == other or (len(one) == len(other) and orjson.loads(one) == orjson.loads(other))


def _at(entry: Stored, revision: int) -> Stored:
    return Stored(
        entry.resource,
        entry.data,
        revision,
        entry.namespace,
        entry.name,
        entry.labels,
        entry.fields,
        entry.uid,
    )


def _verdict(error: Exception) -> Verdict:
    return Verdict.RESTART if isinstance(error, etcd.Compacted) else verdict_on(error)


def store_error(error: Refusal) -> ApiError:
    """What a client is told when the store refuses."""
    if isinstance(error, etcd.RequestTooLarge):
        return ApiError(413, "RequestEntityTooLarge", f"etcdserver: {error}")
    if isinstance(error, AskTimeout):
        # Whether a write was stored is not known, so that nobody is told to try it again.
        return timeout(f"etcdserver: {error}")
    return unavailable(f"etcdserver: {error}")
