"""The scheduling queue: pods to try now, pods that back off, and pods that wait for something to change.

Sans-I/O: every call takes the time (seconds on any monotonic clock), and `next_wake` says when time alone
will move a pod. A pod that was refused waits until a cluster event that one of the refusing plugins
awaits, and whose queueing hint says it may help; `podMaxInUnschedulablePodsDuration` is the safety net.
Events that come while a pod is in flight (popped, not yet bound or returned) are kept and weighed when
it is returned, so that none is missed.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from heapq import heappop, heappush
from math import inf

from attrs import Factory, define, evolve, frozen

from understudy.components.scheduler.framework import ClusterEvent, EventResource, Plugin
from understudy.components.scheduler.pod_info import PodInfo


@frozen
class QueueOptions:
    """Options with the names and defaults of KubeSchedulerConfiguration, in seconds."""

    pod_initial_backoff_seconds: float = 1
    pod_max_backoff_seconds: float = 10
    pod_max_in_unschedulable_pods_duration: float = 300
    pop_from_backoff_queue: bool = True
    """When nothing is active, try pods that back off early (the SchedulerPopFromBackoffQ feature)."""


class Where(Enum):
    ACTIVE = "active"
    BACKOFF = "backoff"
    UNSCHEDULABLE = "unschedulable"
    GATED = "gated"
    IN_FLIGHT = "in flight"


@define(eq=False)
class QueuedPod:
    """A pod in the queue with its history."""

    pod: PodInfo
    timestamp: float
    """When it last came into the queue."""
    initial_attempt_timestamp: float | None = None
    attempts: int = 0
    unschedulable_count: int = 0
    """Refusals; they and errors lengthen the back-off."""
    consecutive_errors_count: int = 0
    unschedulable_plugins: frozenset[str] = frozenset()
    where: Where = Where.ACTIVE
    serial: int = 0
    """Of its latest heap entry; earlier entries are dead."""
    waiting_for_error: bool = False
    """It backs off from an error, not from a refusal."""


@define(eq=False)
class SchedulingQueue:
    _plugins: Mapping[str, Plugin]
    """By name, to ask for hints."""
    options: QueueOptions = QueueOptions()
    _pods: dict[str, QueuedPod] = Factory(dict)
    _active: list[tuple[int, float, int, str]] = Factory(list)
    _backoff: list[tuple[float, int, int, str]] = Factory(list)
    _unschedulable: dict[str, QueuedPod] = Factory(dict)
    _serial: int = 0
    _events: list[ClusterEvent] = Factory(list)
    _events_offset: int = 0
    _in_flight: dict[str, int] = Factory(dict)
    """Pod key to how many events had been seen when it was popped."""

    # what comes in

    def add(self, pod: PodInfo, now: float) -> None:
        """A pod to schedule appeared."""
        if pod.key in self._pods:
            self.update(pod, now)
            return
        queued = QueuedPod(pod, now)
        self._pods[pod.key] = queued
        self._activate(queued)

    def update(self, pod: PodInfo, now: float) -> None:
        """The pod changed. A waiting one is tried again if the change can matter to scheduling."""
        queued = self._pods.get(pod.key)
        if queued is None:
            self.add(pod, now)
            return
        before, queued.pod = queued.pod, pod
        if queued.where is Where.GATED and not pod.gated:
            queued.timestamp = now
            self._activate(queued)
        elif queued.where is Where.UNSCHEDULABLE and _changed(before, pod):
            self._requeue(queued, now)
        elif queued.where is Where.ACTIVE and before.priority != pod.priority:
            self._activate(queued)

    def delete(self, key: str) -> None:
        """The pod is gone or was given a node by somebody; nothing to do if it is not here."""
        if self._pods.pop(key, None) is not None:
            self._unschedulable.pop(key, None)
            self._land(key)

    # what goes out

    def pop(self, now: float) -> QueuedPod | None:
        """The next pod to try, by priority and then by age; None when there is none now.

        It is in flight until `done` or one of the `add_…` methods is called for it.
        """
        self.flush(now)
        queued = self._pop_active()
        if queued is None and self.options.pop_from_backoff_queue:
            queued = self._pop_backoff()
        if queued is None:
            return None
        queued.where = Where.IN_FLIGHT
        queued.attempts += 1
        if queued.initial_attempt_timestamp is None:
            queued.initial_attempt_timestamp = now
        queued.unschedulable_plugins = frozenset()
        self._in_flight[queued.pod.key] = self._events_offset + len(self._events)
        return queued

    def done(self, key: str) -> None:
        """The pod was bound."""
        self._pods.pop(key, None)
        self._land(key)

    def add_unschedulable(self, queued: QueuedPod, rejectors: frozenset[str], now: float) -> None:
        """It was refused by these plugins; it waits, unless what it needs happened meanwhile."""
        missed = self._return(queued, now)
        if missed is None:
            return
        queued.unschedulable_count += 1
        queued.consecutive_errors_count = 0
        queued.unschedulable_plugins = rejectors
        queued.waiting_for_error = False
        if any(self._worth(queued, event) for event in missed):
            self._requeue(queued, now)
            return
        queued.where = Where.UNSCHEDULABLE
        self._unschedulable[queued.pod.key] = queued

    def add_after_error(self, queued: QueuedPod, now: float) -> None:
        """The attempt failed for a reason that has nothing to do with the pod: try again after back-off."""
        if self._return(queued, now) is None:
            return
        queued.consecutive_errors_count += 1
        queued.waiting_for_error = True
        self._push_backoff(queued)

    def _return(self, queued: QueuedPod, now: float) -> list[ClusterEvent] | None:
        """End its flight: the events since it was popped, or None when it was deleted meanwhile."""
        key = queued.pod.key
        if self._pods.get(key) is not queued:
            return None
        assert queued.where is Where.IN_FLIGHT, (str(queued.pod), queued.where)
        missed = self._events[self._in_flight[key] - self._events_offset :]
        self._land(key)
        queued.timestamp = now
        return missed

    def _land(self, key: str) -> None:
        if self._in_flight.pop(key, None) is not None:
            oldest = min(self._in_flight.values(), default=self._events_offset + len(self._events))
            del self._events[: oldest - self._events_offset]
            self._events_offset = oldest

    # what happens

    def move_on_event(self, event: ClusterEvent, now: float) -> list[str]:
        """A cluster event: the keys of the waiting pods that it brings back."""
        if self._in_flight:
            self._events.append(event)
        moved = [queued for queued in self._unschedulable.values() if self._worth(queued, event)]
        for queued in moved:
            self._requeue(queued, now)
        return [queued.pod.key for queued in moved]

    def flush(self, now: float) -> None:
        """Move pods whose time has come."""
        while self._backoff and (not self._alive(self._backoff[0]) or self._backoff[0][0] <= now):
            entry = heappop(self._backoff)
            if self._alive(entry):
                self._activate(self._pods[entry[3]])
        limit = self.options.pod_max_in_unschedulable_pods_duration
        for queued in [q for q in self._unschedulable.values() if q.timestamp + limit <= now]:
            self._requeue(queued, now)

    def next_wake(self) -> float | None:
        """When `pop` may give a pod that it does not give now, by time alone."""
        while self._backoff and not self._alive(self._backoff[0]):
            heappop(self._backoff)
        limit = self.options.pod_max_in_unschedulable_pods_duration
        waits = (queued.timestamp + limit for queued in self._unschedulable.values())
        earliest = min(min(waits, default=inf), self._backoff[0][0] if self._backoff else inf)
        return None if earliest == inf else earliest

    def where(self, key: str) -> Where | None:
        """In which part of the queue a pod is."""
        queued = self._pods.get(key)
        return None if queued is None else queued.where

    def pending(self) -> dict[Where, int]:
        """How many pods each part holds (the `scheduler_pending_pods` metric)."""
        counts = dict.fromkeys(Where, 0)
        for queued in self._pods.values():
            counts[queued.where] += 1
        return counts

    def _worth(self, queued: QueuedPod, event: ClusterEvent) -> bool:
        """Whether the event may help a pod with these rejectors; one refused by none may always be."""
        if event.resource is EventResource.WILDCARD or not queued.unschedulable_plugins:
            return True
        return any(
            plugin is not None
            and event.change & plugin.events.get(event.resource, type(event.change)(0))
            and plugin.hint(queued.pod, event)
            for plugin in map(self._plugins.get, sorted(queued.unschedulable_plugins))
        )

    # moves

    def backoff_duration(self, queued: QueuedPod) -> float:
        """Doubles with every failed attempt, from the initial back-off to the maximum, in seconds."""
        failures = queued.consecutive_errors_count or queued.unschedulable_count
        if failures == 0:
            return 0.0
        duration = self.options.pod_initial_backoff_seconds * 2.0 ** min(failures - 1, 60)
        return min(duration, self.options.pod_max_backoff_seconds)

    def _requeue(self, queued: QueuedPod, now: float) -> None:
        self._unschedulable.pop(queued.pod.key, None)
        if queued.timestamp + self.backoff_duration(queued) > now:
            self._push_backoff(queued)
        else:
            self._activate(queued)

    def _activate(self, queued: QueuedPod) -> None:
        if queued.pod.gated:
            queued.where = Where.GATED
            return
        queued.where = Where.ACTIVE
        serial = self._next_serial(queued)
        heappush(self._active, (-queued.pod.priority, queued.timestamp, serial, queued.pod.key))

    def _push_backoff(self, queued: QueuedPod) -> None:
        queued.where = Where.BACKOFF
        until = queued.timestamp + self.backoff_duration(queued)
        serial = self._next_serial(queued)
        heappush(self._backoff, (until, -queued.pod.priority, serial, queued.pod.key))

    def _next_serial(self, queued: QueuedPod) -> int:
        self._serial += 1
        queued.serial = self._serial
        return self._serial

    def _alive(self, entry: tuple[object, object, int, str]) -> bool:
        queued = self._pods.get(entry[3])
        return queued is not None and queued.serial == entry[2]

    def _pop_active(self) -> QueuedPod | None:
        while self._active:
            entry = heappop(self._active)
            if self._alive(entry):
                return self._pods[entry[3]]
        return None

    def _pop_backoff(self) -> QueuedPod | None:
        entries = [entry for entry in self._backoff if self._alive(entry)]
        early = [entry for entry in entries if not self._pods[entry[3]].waiting_for_error]
        if not early:
            return None
        queued = self._pods[min(early)[3]]
        self._next_serial(queued)
        return queued


def _changed(before: PodInfo, after: PodInfo) -> bool:
    """Whether anything but status changed."""
    return evolve(before, nominated_node="", start_time="") != evolve(after, nominated_node="", start_time="")


def plugins_by_name(plugins: Iterable[Plugin]) -> dict[str, Plugin]:
    return {plugin.name: plugin for plugin in plugins}
