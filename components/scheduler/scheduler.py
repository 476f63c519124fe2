"""kube-scheduler as an actor: pods without a node in, bindings out.

The decisions are `algorithm`'s and the order is `queue`'s; here is what surrounds them: informers that keep
the cache, one scheduling cycle after the other (each sees the pods that the one before it assumed), and
binding cycles beside them. A pod that fits nowhere gets its condition and event, and room is made for it if
that is possible.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVarTuple

from attrs import Factory, frozen

from understudy.actors import Actor, handles
from understudy.components.client import Change as ObjectChange
from understudy.components.client import Client, EventRecorder, Informer
from understudy.components.machinery.api import Object
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import (
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    SERVICES,
    STATEFUL_SETS,
)
from understudy.components.scheduler.algorithm import schedule
from understudy.components.scheduler.cache import Cache
from understudy.components.scheduler.decision import Decision
from understudy.components.scheduler.explanation import Explain, Explanation, Scheduling, explain
from understudy.components.scheduler.framework import (
    Change,
    ClusterEvent,
    EventResource,
    node_event,
    pod_event,
)
from understudy.components.scheduler.plugins import default_profile
from understudy.components.scheduler.pod_info import DEFAULT_SCHEDULER, PodInfo, pod_info
from understudy.components.scheduler.queue import (
    QueuedPod,
    QueueOptions,
    SchedulingQueue,
    plugins_by_name,
)

Ts = TypeVarTuple("Ts")

log = logging.getLogger("understudy.scheduler")

DECISIONS_KEPT = 1000
"""The latest decisions, one a pod, that can be asked about."""


@frozen
class SchedulerOptions:
    """What KubeSchedulerConfiguration states."""

    scheduler_name: str = DEFAULT_SCHEDULER
    queue: QueueOptions = Factory(QueueOptions)
    bindings_max: int = 64
    """Binding cycles and other requests in flight at the same time."""


class Scheduler(Actor[Scheduling]):
    """Schedules the pods that name it. `client` has the identity `system:kube-scheduler`."""

    def __init__(self, client: Client, options: SchedulerOptions | None = None) -> None:
        self.client = client
        self.options = options or SchedulerOptions()
        self.profile = default_profile(self.options.scheduler_name)
        self.cache = Cache()
        self.queue = SchedulingQueue(plugins_by_name(self.profile.filters), self.options.queue)
        self.decisions: OrderedDict[str, Decision] = OrderedDict()
        self._pods = Informer(client, PODS, field_selector="status.phase!=Succeeded,status.phase!=Failed")
        self._in_flight = 0

    # -- its life

    async def on_start(self) -> None:
        self._wake = self.world.signal("scheduling queue")
        self.recorder = EventRecorder(self.client, self.options.scheduler_name)
        self.context.start_soon(self.recorder.run, name="scheduler events")
        informers = [self._pods]
        self._pods.subscribe(self._on_pod)
        for resource, handler in (
            (NODES, self._on_node),
            (NAMESPACES, self._on_namespace),
            (SERVICES, self._on_service),
            (REPLICA_SETS, self._on_owner),
            (STATEFUL_SETS, self._on_owner),
            (REPLICATION_CONTROLLERS, self._on_owner),
        ):
            informer = Informer(self.client, resource)
            informer.subscribe(handler)
            informers.append(informer)
        for informer in informers:
            self.context.start_soon(informer.run, name=f"scheduler {informer.resource.plural} informer")
        self.context.start_soon(self._run, informers, name="scheduling cycles")

    @handles(Explain)
    def explain(self, question: Explain) -> Explanation:
        """Why a pod was put where it is, or why nowhere."""
        return explain(question.pod, self.decisions.get(question.pod))

    async def _run(self, informers: list[Informer]) -> None:
        for informer in informers:
            await informer.synced()
        while True:
            room = self._in_flight < self.options.bindings_max
            queued = self.queue.pop(self.world.monotonic()) if room else None
            if queued is None:
                await self._wait(timed=room)
            else:
                self._cycle(queued)
                await self.world.sleep(0.0, "scheduling cycle")

    async def _wait(self, timed: bool) -> None:
        """Until something changed, a request ended, or (`timed`) a back-off did."""
        due = self.queue.next_wake() if timed else None
        if due is None:
            await self._wake.wait()
            return
        delay = max(0.0, due - self.world.monotonic())
        timer = self.world.call_later(delay, self._wake.set, "scheduling back-off")
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    # -- what changes

    def _on_pod(self, change: ObjectChange) -> None:
        old = None if change.old is None else pod_info(change.old)
        new = None if change.new is None else pod_info(change.new)
        if new is None or new.terminated:
            assert old is not None or new is not None
            gone = new or old
            assert gone is not None
            self.cache.remove_pod(gone.key)
            self.queue.delete(gone.key)
            self.decisions.pop(change.key, None)
        elif new.node_name:
            self.cache.set_pod(new)
            self.queue.delete(new.key)
        elif new.scheduler_name == self.options.scheduler_name and not self.cache.is_assumed(new.key):
            if new.terminating:
                self.queue.delete(new.key)
            else:
                self.queue.update(new, self.world.monotonic())
                if new.nominated_node and self.cache.node_of(new.key) is None:
                    self.cache.nominate(new, new.nominated_node)
        self._move(pod_event(old, new))
        self._wake.set()

    def _on_node(self, change: ObjectChange) -> None:
        name = change.key
        if change.new is None:
            self.cache.remove_node(name)
        else:
            self.cache.set_node(change.new)
        self._move(node_event(change.old, change.new, self.cache.node(name)))

    def _on_namespace(self, change: ObjectChange) -> None:
        if change.new is None:
            self.cache.namespace_labels.pop(change.key, None)
            return
        labels = change.new["metadata"].get("labels") or {}
        changed = self.cache.namespace_labels.get(change.key) != labels
        self.cache.namespace_labels[change.key] = labels
        if changed:
            self._move(ClusterEvent(EventResource.NAMESPACE, Change.UPDATE_OTHER, label="NamespaceUpdate"))

    def _on_service(self, change: ObjectChange) -> None:
        if change.new is None:
            namespace, _, name = change.key.partition("/")
            self.cache.remove_service(namespace, name)
        else:
            self.cache.set_service(change.new)

    def _on_owner(self, change: ObjectChange) -> None:
        owner = change.new or change.old
        assert owner is not None
        if change.new is None:
            namespace, _, name = change.key.partition("/")
            self.cache.remove_owner(owner["kind"], namespace, name)
        else:
            self.cache.set_owner(owner)

    def _move(self, event: ClusterEvent | None) -> None:
        if event is not None and self.queue.move_on_event(event, self.world.monotonic()):
            self._wake.set()

    # -- scheduling and binding

    def _cycle(self, queued: QueuedPod) -> None:
        pod = queued.pod
        decision = schedule(pod, self.cache, self.profile, self.world.rng("scheduler"))
        self._remember(decision)
        if decision.node is not None:
            self.cache.assume(pod, decision.node)
            self._request(self._bind, queued, decision.node, name=f"bind {pod}")
            return
        self.queue.add_unschedulable(queued, decision.rejectors, self.world.monotonic())
        if decision.nominated_node is not None:
            self.cache.nominate(pod, decision.nominated_node)
        else:
            self.cache.nominated.pop(pod.key, None)
        self._say(pod, "Warning", "FailedScheduling", decision.message)
        self._request(self._refused, decision, name=f"refuse {pod}")

    def _remember(self, decision: Decision) -> None:
        key = str(decision.pod)
        self.decisions[key] = decision
        self.decisions.move_to_end(key)
        while len(self.decisions) > DECISIONS_KEPT:
            self.decisions.popitem(last=False)

    def _request(self, function: Callable[[*Ts], Awaitable[None]], *arguments: *Ts, name: str) -> None:
        """Run requests to the API server beside the scheduling cycles."""

        async def run() -> None:
            try:
                await function(*arguments)
            finally:
                self._in_flight -= 1
                self._wake.set()

        self._in_flight += 1
        self.context.start_soon(run, name=name)

    async def _bind(self, queued: QueuedPod, node: str) -> None:
        pod = queued.pod
        binding: Object = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.key},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            await self.client.create_subresource(PODS, pod.name, "binding", binding, pod.namespace)
        except ApiError as error:
            self._binding_failed(queued, error)
            return
        self.queue.done(pod.key)
        self._say(pod, "Normal", "Scheduled", f"Successfully assigned {pod} to {node}")

    def _binding_failed(self, queued: QueuedPod, error: ApiError) -> None:
        pod = queued.pod
        now = self.world.monotonic()
        self.cache.forget(pod.key)
        if error.code == 404:
            self.queue.delete(pod.key)
        else:
            self.queue.add_after_error(queued, now)
            self._say(pod, "Warning", "FailedScheduling", f"binding rejected: {error.message}")
        # The room that it was to take is free again.
        freed = ClusterEvent(EventResource.ASSIGNED_POD, Change.DELETE, pod=pod, label="AssignedPodDelete")
        self._move(freed)

    async def _refused(self, decision: Decision) -> None:
        """Write down why the pod waits, and evict those who have to make room for it."""
        pod = decision.pod
        try:
            await self._set_condition(decision)
            for victim in decision.victims:
                await self._evict(victim, pod, decision.nominated_node or "")
        except ApiError as error:
            if error.code != 404:
                # The condition is written again at the next attempt.
                log.warning("%s: %s", pod, error)

    async def _set_condition(self, decision: Decision) -> None:
        pod = decision.pod
        known = self._pods.get(str(pod))
        if known is None or (known["metadata"].get("uid") or "") != pod.key:
            return
        status = known.get("status") or {}
        before = next((c for c in status.get("conditions") or () if c["type"] == "PodScheduled"), None)
        condition: Object = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": decision.message,
        }
        if "generation" in known["metadata"]:
            condition["observedGeneration"] = known["metadata"]["generation"]
        nominated = decision.nominated_node or ""
        same = before is not None and all(before.get(name) == value for name, value in condition.items())
        if same and (status.get("nominatedNodeName") or "") == nominated:
            return
        if before is None or before["status"] != "False":
            condition["lastTransitionTime"] = self.world.now_text()
        patch: Object = {"metadata": {"uid": pod.key}, "status": {"conditions": [condition]}}
        if (status.get("nominatedNodeName") or "") != nominated:
            patch["status"]["nominatedNodeName"] = nominated or None
        await self.client.patch(PODS, pod.name, patch, pod.namespace, type="strategic", subresource="status")

    async def _evict(self, victim: PodInfo, preemptor: PodInfo, node: str) -> None:
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{self.options.scheduler_name}: preempting to accommodate a higher priority pod",
            "lastTransitionTime": self.world.now_text(),
        }
        patch = {"metadata": {"uid": victim.key}, "status": {"conditions": [condition]}}
        try:
            await self.client.patch(
                PODS, victim.name, patch, victim.namespace, type="strategic", subresource="status"
            )
            await self.client.delete(PODS, victim.name, victim.namespace, uid=victim.key)
        except ApiError as error:
            if error.code not in (404, 409):
                raise
            return  # It has gone by itself.
        self._say(victim, "Normal", "Preempted", f"Preempted by pod {preemptor.key} on node {node}")

    def _say(self, pod: PodInfo, kind: str, reason: str, message: str) -> None:
        known = self._pods.get(str(pod))
        if known is not None:
            self.recorder.event(known, kind, reason, message)
