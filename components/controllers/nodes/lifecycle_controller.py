"""The node lifecycle controller: silent nodes become Unknown, are tainted, and lose their pods.

It never deletes a pod itself: it marks the pods of a silent node not ready (so that Services drop them) and
taints the node NoExecute, which the taint eviction controller carries out.
"""

from typing import Any

from attrs import frozen

from understudy.actors import handles
from understudy.components.client import Change
from understudy.components.controllers.conditions import condition_of
from understudy.components.controllers.controller import Controller, ControllerContext, Controlling
from understudy.components.controllers.nodes.health import (
    NodeHealth,
    not_ready_pod_conditions,
    unknown_conditions,
)
from understudy.components.controllers.nodes.taints import (
    NO_EXECUTE,
    NOT_READY,
    UNREACHABLE,
    has_taint,
    no_execute_taints,
    no_schedule_taints,
    taints_of,
)
from understudy.components.controllers.nodes.zones import (
    ZoneQueue,
    ZoneState,
    eviction_rate,
    zone_of,
    zone_state,
)
from understudy.components.controllers.pod_state import node_of
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import LEASES, NODES, PODS
from understudy.mailbox import Message, message

Object = dict[str, Any]

NODE_INDEX = "node"
NODE_LEASE_NAMESPACE = "kube-node-lease"


def by_node(pod: Object) -> list[str]:
    """Index function: the node that a pod is bound to."""
    return [node_of(pod)] if node_of(pod) else []


@message("controllers.monitor_nodes")
@frozen
class MonitorNodes(Message[Controlling]):
    """Look at the health of all nodes."""


class NodeLifecycleController(Controller):
    """Keeps the conditions and the condition taints of nodes true."""

    name = "node-lifecycle-controller"
    component = "node-controller"

    def __init__(self, shared: ControllerContext) -> None:
        super().__init__(shared)
        self.health: dict[str, NodeHealth] = {}
        self.zones: dict[str, ZoneQueue] = {}
        self.zone_states: dict[str, ZoneState] = {}
        self.unmarked: dict[str, None] = {}
        """Silent nodes whose pods could not all be marked not ready yet."""

    @property
    def workers(self) -> int:
        return 8

    def register(self) -> None:
        self.nodes = self.watch(NODES, self._on_node)
        self.leases = self.informer(LEASES)
        self.pods = self.informer(PODS, {NODE_INDEX: by_node})

    def _on_node(self, change: Change) -> None:
        if change.old is None or change.new is None or _taint_inputs(change.old) != _taint_inputs(change.new):
            self.queue.add(change.key)

    async def on_synced(self) -> None:
        period = self.options.node_monitor_period
        self.context.set_timer("monitor", period, MonitorNodes(), every_seconds=period)

    # -- NoSchedule taints follow the conditions at once

    async def sync(self, key: str) -> None:
        node = self.nodes.get(key)
        if node is not None:
            await self._write_taints(node, no_schedule_taints(node, self.world.now_text()))

    async def _write_taints(self, node: Object, taints: list[Object]) -> None:
        if taints == taints_of(node):
            return
        # A list is replaced whole, so the resourceVersion guards taints of others.
        metadata = node["metadata"]
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "spec": {"taints": taints}}
        await self.client.patch(NODES, metadata["name"], patch, type="merge")

    # -- health

    @handles(MonitorNodes)
    async def monitor(self, _: MonitorNodes) -> None:
        """One round: who is silent, who is back, and whose turn it is to be emptied."""
        self._note_arrivals()
        for node in self.nodes.list():
            try:
                await self._examine(node)
            except ApiError:
                self.queue.add_rate_limited(node["metadata"]["name"])  # the next round looks again
        self._rate_zones()
        await self._taint_next()

    def _note_arrivals(self) -> None:
        now = self.world.monotonic()
        present = {node["metadata"]["name"]: node for node in self.nodes.list()}
        for name, node in present.items():
            if name not in self.health:
                self.health[name] = NodeHealth(now)
                self._say(
                    node,
                    "Normal",
                    "RegisteredNode",
                    f"Node {name} event: Registered Node {name} in Controller",
                )
        for name in [name for name in self.health if name not in present]:
            del self.health[name]
            self.unmarked.pop(name, None)
            for zone in self.zones.values():
                zone.remove(name)
            gone = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name}}
            self._say(
                gone, "Normal", "RemovingNode", f"Node {name} event: Removing Node {name} from Controller"
            )

    def _say(self, node: Object, kind: str, reason: str, text: str) -> None:
        # Events about nodes name the node as uid, so that kubelet's and ours are found together.
        name = node["metadata"]["name"]
        reference = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name}}
        self.recorder.event(reference, kind, reason, text)

    async def _examine(self, node: Object) -> None:
        name = node["metadata"]["name"]
        health, now = self.health[name], self.world.monotonic()
        health.observe(node, self.leases.get(f"{NODE_LEASE_NAMESPACE}/{name}"), now)
        ready = condition_of(node, "Ready")
        grace = self.options.node_monitor_grace_period if ready else self.options.node_startup_grace_period
        if now - health.spoke_at > grace:
            conditions = unknown_conditions(node, self.world.now_text())
            if conditions != ((node.get("status") or {}).get("conditions") or []):
                status = {**(node.get("status") or {}), "conditions": conditions}
                node = await self.client.update_status(NODES, {**node, "status": status})
        status_now = str((condition_of(node, "Ready") or {}).get("status", "Unknown"))
        if status_now != "True" and health.ready in ("True", ""):
            # "": this controller has just started, and its predecessor may have died before it marked them.
            self.unmarked[name] = None
            if health.ready:
                self._say(node, "Normal", "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        health.ready = status_now
        if status_now == "True":
            self.unmarked.pop(name, None)
            await self._release(node)
        else:
            await self._condemn(node, NOT_READY if status_now == "False" else UNREACHABLE)
        if name in self.unmarked:
            await self._mark_pods_not_ready(name)

    async def _mark_pods_not_ready(self, node_name: str) -> None:
        complete = True
        for pod in self.pods.by_index(NODE_INDEX, node_name):
            conditions = not_ready_pod_conditions(pod, self.world.now_text())
            if conditions is None:
                continue
            try:
                status = {**pod["status"], "conditions": conditions}
                await self.client.update_status(PODS, {**pod, "status": status})
                self.recorder.event(pod, "Warning", "NodeNotReady", "Node is not ready")
            except ApiError as error:
                complete = complete and error.code == 404
        if complete:
            self.unmarked.pop(node_name, None)

    async def _release(self, node: Object) -> None:
        name = node["metadata"]["name"]
        for zone in self.zones.values():
            zone.remove(name)
        await self._write_taints(node, no_execute_taints(node, None, self.world.now_text()))

    async def _condemn(self, node: Object, key: str) -> None:
        """Taint NoExecute when the zone's turn comes; a tainted node changes its taint at once."""
        other = UNREACHABLE if key == NOT_READY else NOT_READY
        if has_taint(node, other, NO_EXECUTE):
            await self._write_taints(node, no_execute_taints(node, key, self.world.now_text()))
        elif not has_taint(node, key, NO_EXECUTE):
            self._zone(zone_of(node)).add(node["metadata"]["name"])

    def _zone(self, name: str) -> ZoneQueue:
        return self.zones.setdefault(name, ZoneQueue(self.options.node_eviction_rate))

    def _rate_zones(self) -> None:
        members: dict[str, list[Object]] = {}
        for node in self.nodes.list():
            members.setdefault(zone_of(node), []).append(node)
        threshold = self.options.unhealthy_zone_threshold
        self.zone_states = {name: zone_state(nodes, threshold) for name, nodes in members.items()}
        for name, nodes in members.items():
            state = self.zone_states[name]
            self._zone(name).rate = eviction_rate(state, self.zone_states, len(nodes), self.options)

    async def _taint_next(self) -> None:
        now = self.world.monotonic()
        for zone in self.zones.values():
            for name in zone.take(now):
                node = self.nodes.get(name)
                ready = condition_of(node, "Ready") if node is not None else None
                if node is None or (ready is not None and ready.get("status") == "True"):
                    continue
                key = NOT_READY if ready is not None and ready.get("status") == "False" else UNREACHABLE
                try:
                    await self._write_taints(node, no_execute_taints(node, key, self.world.now_text()))
                except ApiError:
                    zone.add(name)


def _taint_inputs(node: Object) -> Any:
    conditions = (node.get("status") or {}).get("conditions") or ()
    states = [(c.get("type"), c.get("status")) for c in conditions]
    return states, (node.get("spec") or {}).get("unschedulable"), (node.get("spec") or {}).get("taints")
