"""The cluster as the scheduler knows it: nodes with the pods on them, kept up incrementally.

There is no snapshot to copy: one scheduling cycle runs without giving way, so the cache itself is the
snapshot. A pod is *assumed* on its node from the decision until the API server confirms it or the binding
fails, so that the next cycle already sees it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

from attrs import Factory, define, evolve, field

from understudy.components.scheduler.pod_info import (
    HostPort,
    Object,
    PodInfo,
    Taint,
    normalized_image_name,
    pod_info,
)
from understudy.components.scheduler.requirements import NOTHING, Requirement, Selector, label_selector
from understudy.components.scheduler.resources import PODS, Amounts, amounts

ANY_ADDRESS = "0.0.0.0"

T = TypeVar("T")


@define(eq=False)
class NodeInfo:
    """One node and what is on it. `node` is None while only its pods are known."""

    name: str
    node: Object | None = None
    labels: Mapping[str, str] = Factory(dict)
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    allocatable: Amounts = Factory(dict)
    allowed_pods: int = 0
    images: dict[str, int] = Factory(dict)
    """Image name to size in bytes."""
    pods: dict[str, PodInfo] = Factory(dict)
    requested: Amounts = Factory(dict)
    nonzero_cpu: int = 0
    nonzero_memory: int = 0
    host_ports: Counter[HostPort] = Factory(Counter)
    groups: Counter[tuple[str, tuple[tuple[str, str], ...], bool]] = Factory(Counter)
    """How many pods of each look (see `PodInfo.group`) are here."""
    with_affinity: dict[str, PodInfo] = Factory(dict)
    """Pods with any inter-pod affinity or anti-affinity."""

    def set_node(self, node: Object) -> None:
        """Take over a `v1.Node`."""
        spec, status = node.get("spec") or {}, node.get("status") or {}
        self.node = node
        self.labels = node["metadata"].get("labels") or {}
        self.taints = tuple(
            Taint(t["key"], t.get("value") or "", t["effect"]) for t in spec.get("taints") or ()
        )
        self.unschedulable = bool(spec.get("unschedulable"))
        self.allocatable = amounts(status.get("allocatable") or status.get("capacity"))
        self.allowed_pods = self.allocatable.get(PODS, 0)
        self.images = {
            normalized_image_name(name): image.get("sizeBytes") or 0
            for image in status.get("images") or ()
            for name in image.get("names") or ()
        }

    def add(self, pod: PodInfo) -> None:
        """Count a pod in."""
        assert pod.key not in self.pods, (pod.key, self.name)
        self.pods[pod.key] = pod
        requested = self.requested
        for resource, value in pod.requests.items():
            requested[resource] = requested.get(resource, 0) + value
        self.nonzero_cpu += pod.nonzero[0]
        self.nonzero_memory += pod.nonzero[1]
        for port in pod.host_ports:
            self.host_ports[port] += 1
        self.groups[pod.group] += 1
        if pod.pod_affinity or pod.pod_anti_affinity or pod.preferred_pod_affinity:
            self.with_affinity[pod.key] = pod

    def remove(self, key: str) -> PodInfo:
        """Count a pod out."""
        pod = self.pods.pop(key)
        for resource, value in pod.requests.items():
            left = self.requested[resource] - value
            assert left >= 0, (self.name, resource, left)
            if left:
                self.requested[resource] = left
            else:
                del self.requested[resource]
        self.nonzero_cpu -= pod.nonzero[0]
        self.nonzero_memory -= pod.nonzero[1]
        for port in pod.host_ports:
            _discount(self.host_ports, port)
        _discount(self.groups, pod.group)
        self.with_affinity.pop(key, None)
        return pod

    def conflicts(self, port: HostPort) -> bool:
        """Whether a host port is taken; the wildcard address clashes with every other."""
        if not self.host_ports:
            return False
        address, protocol, number = port
        return any(
            (number == other and protocol == used and ANY_ADDRESS in (address, held))
            or port == (held, used, other)
            for held, used, other in self.host_ports
        )

    def clone(self) -> "NodeInfo":
        """A copy to try something on, such as a preemption."""
        return NodeInfo(
            self.name,
            self.node,
            self.labels,
            self.taints,
            self.unschedulable,
            self.allocatable,
            self.allowed_pods,
            self.images,
            dict(self.pods),
            dict(self.requested),
            self.nonzero_cpu,
            self.nonzero_memory,
            Counter(self.host_ports),
            Counter(self.groups),
            dict(self.with_affinity),
        )


def _discount(counter: Counter[T], key: T) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


@define(eq=False)
class Cache:
    """Nodes, pods, and the selectors of what owns pods."""

    _infos: dict[str, NodeInfo] = Factory(dict)
    _live: dict[str, NodeInfo] = Factory(dict)
    """Those whose Node object is known, in order of arrival."""
    _placed: dict[str, str] = Factory(dict)
    """Pod key to node name."""
    _assumed: set[str] = field(factory=set)
    _image_nodes: Counter[str] = Factory(Counter)
    namespace_labels: dict[str, Mapping[str, str]] = Factory(dict)
    _services: dict[str, dict[str, Mapping[str, str]]] = Factory(dict)
    _owners: dict[tuple[str, str, str], Selector] = Factory(dict)
    nominated: dict[str, tuple[PodInfo, str]] = Factory(dict)
    """Pods that wait for the victims of their preemption to go, with the node kept for them."""

    # nodes

    @property
    def nodes(self) -> Iterable[NodeInfo]:
        """Schedulable candidates: nodes whose object is known."""
        return self._live.values()

    @property
    def node_count(self) -> int:
        return len(self._live)

    def node(self, name: str) -> NodeInfo | None:
        return self._live.get(name)

    def set_node(self, node: Object) -> None:
        """A node was added or changed."""
        name = node["metadata"]["name"]
        info = self._infos.setdefault(name, NodeInfo(name))
        self._count_images(info, -1)
        info.set_node(node)
        self._live[name] = info
        self._count_images(info, 1)

    def remove_node(self, name: str) -> None:
        """A node is gone; its pods stay counted until they are gone too."""
        info = self._live.pop(name, None)
        if info is None:
            return
        self._count_images(info, -1)
        info.node, info.images = None, {}
        if not info.pods:
            del self._infos[name]

    def _count_images(self, info: NodeInfo, sign: int) -> None:
        for name in info.images:
            self._image_nodes[name] += sign

    def nodes_with_image(self, name: str) -> int:
        return self._image_nodes[name]

    def with_node(self, node: NodeInfo) -> "Cache":
        """A view of this cache in which `node` stands in for the node of its name; read it only."""
        return evolve(self, live=self._live | {node.name: node})

    # pods

    def set_pod(self, pod: Object | PodInfo) -> None:
        """An assigned pod was added or changed; it confirms an assumed one. A finished pod takes nothing."""
        info = pod if isinstance(pod, PodInfo) else pod_info(pod)
        self.remove_pod(info.key)
        self.nominated.pop(info.key, None)
        if info.node_name and not info.terminated:
            self._place(info, info.node_name)

    def remove_pod(self, key: str) -> None:
        """A pod is gone; nothing to do if it was not here."""
        self._assumed.discard(key)
        self.nominated.pop(key, None)
        name = self._placed.pop(key, None)
        if name is None:
            return
        info = self._infos[name]
        info.remove(key)
        if info.node is None and not info.pods:
            del self._infos[name]

    def assume(self, pod: PodInfo, node: str) -> None:
        """Count a pod on the node that was chosen for it."""
        assert pod.key not in self._placed, (str(pod), self._placed[pod.key])
        self.nominated.pop(pod.key, None)
        self._place(pod, node)
        self._assumed.add(pod.key)

    def forget(self, key: str) -> None:
        """The binding failed: take the assumed pod back. A confirmed pod stays."""
        if key in self._assumed:
            self.remove_pod(key)

    def is_assumed(self, key: str) -> bool:
        return key in self._assumed

    def node_of(self, key: str) -> str | None:
        """Where a pod is or is assumed to be."""
        return self._placed.get(key)

    def _place(self, pod: PodInfo, node: str) -> None:
        self._infos.setdefault(node, NodeInfo(node)).add(pod)
        self._placed[pod.key] = node

    # nominations

    def nominate(self, pod: PodInfo, node: str) -> None:
        """Keep room on a node for a pod whose victims are still leaving."""
        self.nominated[pod.key] = (pod, node)

    def nominated_to(self, node: str, priority: int, other_than: str) -> list[PodInfo]:
        """Pods of at least that priority that were promised room on the node."""
        return [
            pod
            for key, (pod, name) in self.nominated.items()
            if name == node and pod.priority >= priority and key != other_than
        ]

    # what selects pods

    def set_service(self, service: Object) -> None:
        meta = service["metadata"]
        selector = (service.get("spec") or {}).get("selector") or {}
        self._services.setdefault(meta["namespace"], {})[meta["name"]] = selector

    def remove_service(self, namespace: str, name: str) -> None:
        self._services.get(namespace, {}).pop(name, None)

    def set_owner(self, owner: Object) -> None:
        """A ReplicaSet, StatefulSet or ReplicationController."""
        meta, selector = owner["metadata"], (owner.get("spec") or {}).get("selector")
        if owner["kind"] == "ReplicationController":
            selector = {"matchLabels": selector or {}}
        self._owners[owner["kind"], meta["namespace"], meta["name"]] = label_selector(selector)

    def remove_owner(self, kind: str, namespace: str, name: str) -> None:
        self._owners.pop((kind, namespace, name), None)

    def default_selector(self, pod: PodInfo) -> Selector:
        """What selects this pod's siblings: its Services' and its controller's selectors together."""
        requirements: list[Requirement] = []
        for _, wanted in sorted(self._services.get(pod.namespace, {}).items()):
            if wanted and all(pod.labels.get(k) == v for k, v in wanted.items()):
                requirements += Selector().with_labels(wanted).requirements
        if pod.owner is not None:
            kind, name = pod.owner
            requirements += self._owners.get((kind, pod.namespace, name), NOTHING).requirements
        return Selector(tuple(dict.fromkeys(requirements))) if requirements else NOTHING
