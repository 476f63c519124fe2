"""The event recorder: what a component tells the user about an object, as core/v1 Events.

Recording never waits and never fails its caller: events queue up to a bound and a task writes them. The same
event said again raises the count of the first one instead of making another, and a component that has said 25
things about one object may say one more every five minutes (client-go's correlation and spam filter).
"""

from collections import OrderedDict, deque
from typing import Any

from attrs import define, field

from understudy.actors import Signal
from understudy.components.machinery.api import Object
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import EVENTS

from .client import Client

QUEUE_MAX = 1000
"""Events that may wait to be written; newer ones are dropped and counted."""

SERIES_MAX = 4096
"""How many distinct events are remembered so that repeats are counted."""


SPAM_BURST = 25
SPAM_REFILL_SECONDS = 300.0
"""Events about one object: so many at once, then one in so long."""


@define(eq=False)
class _Budget:
    """What may still be said about one object."""

    tokens: float
    at_seconds: float


@define(eq=False)
class EventRecorder:
    """Writes events of one component."""

    client: Client
    component: str
    host: str = ""
    dropped: int = 0
    _queue: deque[Object] = field(factory=deque)
    _series: "OrderedDict[tuple[str, ...], tuple[str, str, int]]" = field(factory=OrderedDict)
    _budgets: "OrderedDict[str, _Budget]" = field(factory=OrderedDict)
    _signal: Signal = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._signal = self.client.world.signal(f"{self.component} events")

    def event(self, obj: Object, type: str, reason: str, message: str, *, field_path: str = "") -> None:
        """Say something about an object; `type` is Normal or Warning.

        `field_path` names a part of it, e.g. `spec.containers{web}`.
        """
        if len(self._queue) >= QUEUE_MAX:
            self.dropped += 1
            return
        metadata = obj["metadata"]
        if not self._within_budget(metadata.get("uid") or f"{obj['kind']} {metadata['name']}"):
            self.dropped += 1
            return
        involved: Object = {
            "kind": obj["kind"],
            "apiVersion": obj["apiVersion"],
            "name": metadata["name"],
            "uid": metadata.get("uid", ""),
            "resourceVersion": metadata.get("resourceVersion", ""),
        }
        if metadata.get("namespace"):
            involved["namespace"] = metadata["namespace"]
        if field_path:
            involved["fieldPath"] = field_path
        now = self.client.world.now_text()
        self._queue.append(
            {
                "involvedObject": involved,
                "type": type,
                "reason": reason,
                "message": message[:1024],
                "firstTimestamp": now,
                "lastTimestamp": now,
            }
        )
        self._signal.set()

    def _within_budget(self, about: str) -> bool:
        now = self.client.world.monotonic()
        budget = self._budgets.get(about)
        if budget is None:
            budget = self._budgets[about] = _Budget(SPAM_BURST, now)
            if len(self._budgets) > SERIES_MAX:
                self._budgets.popitem(last=False)
        self._budgets.move_to_end(about)
        refill = (now - budget.at_seconds) / SPAM_REFILL_SECONDS
        budget.tokens, budget.at_seconds = min(SPAM_BURST, budget.tokens + refill), now
        if budget.tokens < 1.0:
            return False
        budget.tokens -= 1.0
        return True

    async def run(self) -> None:
        """Write what was recorded, until cancelled. An event that is refused is dropped and counted."""
        while True:
            while self._queue:
                try:
                    await self._write(self._queue.popleft())
                except ApiError:
                    self.dropped += 1
            await self._signal.wait()

    async def _write(self, said: Object) -> None:
        involved = said["involvedObject"]
        namespace = involved.get("namespace", "default")
        key = (
            involved["kind"],
            namespace,
            involved["name"],
            involved["uid"],
            involved.get("fieldPath", ""),
            said["type"],
            said["reason"],
            said["message"],
        )
        known = self._series.get(key)
        if known is not None:
            name, first, count = known
            try:
                patch = {"count": count + 1, "lastTimestamp": said["lastTimestamp"]}
                await self.client.patch(EVENTS, name, patch, namespace)
            except ApiError as error:
                if error.code != 404:
                    raise
            else:
                self._remember(key, (name, first, count + 1))
                return
        # As client-go names it: the object's name and the time in nanoseconds, in hex.
        stamp = int(self.client.world.now().timestamp() * 1e6) * 1000
        suffix = self.client.world.rng("event names").randrange(1000)
        name = f"{involved['name']}.{stamp + suffix:x}"
        source: dict[str, Any] = {"component": self.component}
        if self.host:
            source["host"] = self.host
        await self.client.create(
            EVENTS,
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": namespace},
                **said,
                "count": 1,
                "source": source,
                "reportingComponent": self.component,
                "reportingInstance": self.host,
            },
        )
        self._remember(key, (name, said["firstTimestamp"], 1))

    def _remember(self, key: tuple[str, ...], value: tuple[str, str, int]) -> None:
        self._series[key] = value
        self._series.move_to_end(key)
        while len(self._series) > SERIES_MAX:
            self._series.popitem(last=False)
