"""The taint eviction controller: deletes pods that do not bear their node's NoExecute taints."""

from typing import Any

from understudy.components.client import Change
from understudy.components.controllers.controller import Controller, ControllerContext
from understudy.components.controllers.nodes.disruption import mark_disrupted
from understudy.components.controllers.nodes.lifecycle_controller import NODE_INDEX, by_node
from understudy.components.controllers.nodes.taints import NO_EXECUTE, seconds_tolerated, taints_of
from understudy.components.controllers.ownership import key_of, split_key
from understudy.components.controllers.pod_state import is_terminating, node_of
from understudy.components.controllers.timestamps import seconds_since
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import NODES, PODS

Object = dict[str, Any]


class TaintEvictionController(Controller):
    """Works off pods; a pod's deadline counts from when its node got the taint."""

    name = "taint-eviction-controller"

    def __init__(self, shared: ControllerContext) -> None:
        super().__init__(shared)
        self.condemned: dict[str, None] = {}
        """Keys of pods whose time runs."""

    @property
    def workers(self) -> int:
        return 8

    def register(self) -> None:
        self.pods = self.watch(PODS, self._on_pod, {NODE_INDEX: by_node})
        self.nodes = self.watch(NODES, self._on_node)

    def _on_pod(self, change: Change) -> None:
        old, new = change.old, change.new
        if new is None:
            self.condemned.pop(change.key, None)
        elif node_of(new) and (
            old is None
            or node_of(old) != node_of(new)
            or (old.get("spec") or {}).get("tolerations") != (new.get("spec") or {}).get("tolerations")
        ):
            self.queue.add(change.key)

    def _on_node(self, change: Change) -> None:
        before = _no_execute(change.old) if change.old is not None else []
        after = _no_execute(change.new) if change.new is not None else []
        if before != after:
            for pod in self.pods.by_index(NODE_INDEX, change.key):
                self.queue.add(key_of(pod))

    async def sync(self, key: str) -> None:
        pod = self.pods.get(key)
        if pod is None or is_terminating(pod):
            self.condemned.pop(key, None)
            return
        node = self.nodes.get(node_of(pod))
        taints = _no_execute(node) if node is not None else []
        wait = seconds_tolerated(pod, taints) if taints else None
        if wait is None:
            if key in self.condemned:
                del self.condemned[key]
                self._say(pod, f"Cancelling deletion of Pod {key}")
            return
        now = self.world.now()
        # Deadlines survive a restart of this controller: they count from the youngest taint.
        starts = [seconds_since(taint["timeAdded"], now) for taint in taints if taint.get("timeAdded")]
        left = wait - min(starts, default=0.0)
        if wait > 0 and left > 0:
            self.condemned[key] = None
            self.queue.add_after(key, left)
            return
        self.condemned.pop(key, None)
        await self._evict(key, pod)

    async def _evict(self, key: str, pod: Object) -> None:
        self._say(pod, f"Marking for deletion Pod {key}")
        namespace, name = split_key(key)
        try:
            await mark_disrupted(
                self.client,
                pod,
                "DeletionByTaintManager",
                "Taint manager: deleting due to NoExecute taint",
                self.world.now_text(),
            )
            await self.client.delete(PODS, name, namespace, uid=pod["metadata"]["uid"])
        except ApiError as error:
            if error.code != 404:
                raise

    def _say(self, pod: Object, text: str) -> None:
        self.recorder.event(pod, "Normal", "TaintManagerEviction", text)


def _no_execute(node: Object) -> list[Object]:
    return [taint for taint in taints_of(node) if taint["effect"] == NO_EXECUTE]
