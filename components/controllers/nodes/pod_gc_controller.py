"""The pod garbage collector: pods that no kubelet will ever clean up."""

from typing import Any

from attrs import frozen

from understudy.actors import handles
from understudy.components.client import Change
from understudy.components.controllers.conditions import is_true
from understudy.components.controllers.controller import Controller, ControllerContext, Controlling
from understudy.components.controllers.nodes.disruption import mark_disrupted
from understudy.components.controllers.nodes.lifecycle_controller import NODE_INDEX, by_node
from understudy.components.controllers.nodes.taints import OUT_OF_SERVICE, taints_of
from understudy.components.controllers.ownership import key_of, split_key
from understudy.components.controllers.pod_state import is_terminal, is_terminating, node_of
from understudy.components.controllers.timestamps import created_at
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import NODES, PODS
from understudy.mailbox import Message, message

Object = dict[str, Any]

PERIOD_SECONDS = 20.0
QUARANTINE_SECONDS = 40.0
"""A node must be missing for so long before its pods are believed to be orphans."""


@message("controllers.collect_pods")
@frozen
class CollectPods(Message[Controlling]):
    """Look for pods that nobody looks after."""


class PodGarbageCollector(Controller):
    """Every 20 s: finished pods over the limit, pods of lost nodes, terminating ones that never ran."""

    name = "pod-garbage-collector-controller"

    def __init__(self, shared: ControllerContext) -> None:
        super().__init__(shared)
        self.missing_since: dict[str, float] = {}

    def register(self) -> None:
        self.pods = self.informer(PODS, {NODE_INDEX: by_node})
        self.nodes = self.watch(NODES, self._on_node)

    def _on_node(self, change: Change) -> None:
        if change.type != "DELETED":
            self.missing_since.pop(change.key, None)

    async def on_synced(self) -> None:
        self.context.set_timer("collect", PERIOD_SECONDS, CollectPods(), every_seconds=PERIOD_SECONDS)

    async def sync(self, key: str) -> None:
        raise AssertionError(f"the pod garbage collector queues nothing, but got {key}")

    @handles(CollectPods)
    async def collect(self, _: CollectPods) -> None:
        """One round; what cannot be deleted now is found again in the next."""
        pods = self.pods.list()
        for pod in self._over_limit(pods):
            await self._delete(pod, None)
        for pod in pods:
            if is_terminating(pod) and not node_of(pod):
                await self._delete(pod, None)
            elif is_terminating(pod) and self._out_of_service(pod):
                await self._delete(pod, "PodGC: node out-of-service")
        for pod in await self._orphans(pods):
            await self._delete(pod, "PodGC: node no longer exists")

    def _over_limit(self, pods: list[Object]) -> list[Object]:
        """The oldest finished pods above the limit, evicted ones first."""
        threshold = self.options.terminated_pod_gc_threshold
        if threshold <= 0:
            return []
        finished = [pod for pod in pods if is_terminal(pod) and not is_terminating(pod)]
        finished.sort(
            key=lambda pod: ((pod["status"].get("reason") != "Evicted"), created_at(pod), key_of(pod))
        )
        return finished[: max(0, len(finished) - threshold)]

    def _out_of_service(self, pod: Object) -> bool:
        node = self.nodes.get(node_of(pod))
        if node is None or is_true(node, "Ready"):
            return False
        return any(taint["key"] == OUT_OF_SERVICE for taint in taints_of(node))

    async def _orphans(self, pods: list[Object]) -> list[Object]:
        now = self.world.monotonic()
        suspects = {node_of(pod) for pod in pods if node_of(pod) and self.nodes.get(node_of(pod)) is None}
        self.missing_since = {name: self.missing_since.get(name, now) for name in sorted(suspects)}
        gone: set[str] = set()
        for name, since in list(self.missing_since.items()):
            if now - since >= QUARANTINE_SECONDS and await self._is_gone(name):
                gone.add(name)
        return [pod for pod in pods if node_of(pod) in gone]

    async def _is_gone(self, node: str) -> bool:
        try:
            await self.client.get(NODES, node)
        except ApiError as error:
            return error.code == 404
        return False

    async def _delete(self, pod: Object, disruption: str | None) -> None:
        namespace, name = split_key(key_of(pod))
        try:
            if disruption is not None:
                await mark_disrupted(
                    self.client, pod, "DeletionByPodGC", disruption, self.world.now_text(), fail=True
                )
            await self.client.delete(
                PODS, name, namespace, uid=pod["metadata"]["uid"], grace_period_seconds=0
            )
        except ApiError:
            return  # the next round finds it again, if it is still there
