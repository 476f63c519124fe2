"""What every controller is: an actor that watches through shared informers and works off a queue of keys.

A subclass says in `register` what it watches and which keys a change concerns, and in `sync` how one key is
brought from what is to what should be. The queue conflates: however many changes, a key is synced by one
task at a time. Nothing is synced before every informer that the controller asked for has its first list.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from attrs import frozen

from understudy.actors import Actor
from understudy.actors.world import Nursery
from understudy.components.client import (
    Change,
    Client,
    EventRecorder,
    Informer,
    Informers,
    WorkQueue,
)
from understudy.components.controllers.options import ControllerManagerOptions
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import Resource

Object = dict[str, Any]
Indexer = Callable[[Object], list[str]]

log = logging.getLogger("understudy.controllers")


class Controlling:
    """Protocol of controllers: they take no messages but those they send themselves."""


@frozen(eq=False)
class ControllerContext:
    """What all controllers of one manager share."""

    client: Client
    informers: Informers
    options: ControllerManagerOptions


class Controller(Actor[Controlling]):
    """Base class of controllers."""

    name: ClassVar[str]
    """As kube-controller-manager names it, e.g. `deployment-controller`."""
    component: ClassVar[str] = ""
    """The source of its events; empty: its name."""

    def __init__(self, shared: ControllerContext) -> None:
        self.client = shared.client
        self.informers = shared.informers
        self.options = shared.options
        self._unsubscribe: list[Callable[[], None]] = []
        self._watched: dict[Resource, Informer] = {}
        self._in_flight = 0

    # -- what a subclass says

    @property
    def workers(self) -> int:
        """How many keys may be synced at the same time."""
        return 1

    @abstractmethod
    def register(self) -> None:
        """Ask for informers (`informer`) and subscribe to their changes (`watch`)."""

    @abstractmethod
    async def sync(self, key: str) -> None:
        """Bring what `key` names to its desired state. An ApiError is tried again later."""

    async def on_synced(self) -> None:
        """Called once all informers have their first list, before the first sync."""

    # -- what a subclass uses

    def informer(self, resource: Resource, indexers: Mapping[str, Indexer] | None = None) -> Informer:
        """The shared informer of a resource; this controller waits for its first list."""
        informer = self.informers.of(resource)
        for name, indexer in (indexers or {}).items():
            informer.add_indexer(name, indexer)
        self._watched[resource] = informer
        return informer

    def watch(
        self,
        resource: Resource,
        handler: Callable[[Change], None],
        indexers: Mapping[str, Indexer] | None = None,
    ) -> Informer:
        """The shared informer of a resource; `handler` gets its changes for as long as this actor lives."""
        informer = self.informer(resource, indexers)
        self._unsubscribe.append(informer.subscribe(handler))
        return informer

    def enqueue(self, change: Change) -> None:
        """A handler that syncs the changed object itself."""
        self.queue.add(change.key)

    # -- its life

    async def on_start(self) -> None:
        self.queue: WorkQueue[str] = WorkQueue(self.world, self.name)
        self.recorder = EventRecorder(self.client, self.component or self.name)
        self.context.start_soon(self.recorder.run, name=f"{self.name} events")
        self.register()
        self.context.start_soon(self._run, name=self.name)

    async def on_stop(self) -> None:
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self._unsubscribe.clear()
        self.queue.close()

    async def _run(self) -> None:
        for informer in list(self._watched.values()):
            await informer.synced()
        await self.on_synced()
        self._room = self.world.signal(f"{self.name} room")
        async with self.world.nursery() as nursery:
            while True:
                if self._in_flight >= self.workers:
                    await self._room.wait()
                else:
                    await self._take_next(nursery)

    async def _take_next(self, nursery: Nursery) -> None:
        key = await self.queue.get()
        self._in_flight += 1
        nursery.start_soon(self._process, key, name=f"{self.name} sync")

    async def _process(self, key: str) -> None:
        try:
            await self.sync(key)
        except ApiError as error:
            log.debug("%s: %s: %r", self.name, key, error)
            self.queue.add_rate_limited(key)
        else:
            self.queue.forget(key)
        finally:
            self._in_flight -= 1
            self._room.set()
            self.queue.done(key)


def is_conflict(error: ApiError) -> bool:
    """Whether the object has changed since it was read."""
    return error.code == 409 and error.reason == "Conflict"


def is_namespace_terminating(error: ApiError) -> bool:
    """Whether a creation was refused because its namespace is going away: no fault of anybody's."""
    causes = (error.details or {}).get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
