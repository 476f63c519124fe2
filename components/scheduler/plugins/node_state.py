"""Filters about the node itself: cordoned, named by the pod, host ports taken."""

from typing import Any, ClassVar

from understudy.components.scheduler.cache import ANY_ADDRESS, Cache, NodeInfo
from understudy.components.scheduler.framework import (
    SKIP,
    Change,
    ClusterEvent,
    EventResource,
    Events,
    Failure,
    FilterPlugin,
    Skip,
)
from understudy.components.scheduler.pod_info import PodInfo, Taint

UNSCHEDULABLE_TAINT = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")


class NodeUnschedulable(FilterPlugin):
    """A cordoned node takes no pod but those that tolerate it."""

    name = "NodeUnschedulable"
    events: ClassVar[Events] = {EventResource.NODE: Change.ADD | Change.UPDATE_NODE_TAINT}
    _failure = Failure(("node(s) were unschedulable",), resolvable=False)

    def filter(self, state: Any, pod: PodInfo, node: NodeInfo) -> Failure | None:
        if not node.unschedulable or pod.tolerates(UNSCHEDULABLE_TAINT):
            return None
        return self._failure

    def hint(self, pod: PodInfo, event: ClusterEvent) -> bool:
        return event.node is None or self.filter(None, pod, event.node) is None


class NodeName(FilterPlugin):
    """A pod that names its node goes nowhere else."""

    name = "NodeName"
    events: ClassVar[Events] = {EventResource.NODE: Change.ADD}
    _failure = Failure(("node(s) didn't match the requested node name",), resolvable=False)

    def pre_filter(self, pod: PodInfo, cache: Cache) -> Skip | None:
        return None if pod.node_name else SKIP

    def filter(self, state: Any, pod: PodInfo, node: NodeInfo) -> Failure | None:
        return None if pod.node_name == node.name else self._failure


class NodePorts(FilterPlugin):
    """Two pods cannot hold the same host port of one node."""

    name = "NodePorts"
    events: ClassVar[Events] = {
        EventResource.NODE: Change.ADD,
        EventResource.ASSIGNED_POD: Change.DELETE,
    }
    _failure = Failure(("node(s) didn't have free ports for the requested pod ports",))

    def pre_filter(self, pod: PodInfo, cache: Cache) -> Skip | None:
        return None if pod.host_ports else SKIP

    def filter(self, state: Any, pod: PodInfo, node: NodeInfo) -> Failure | None:
        return self._failure if any(node.conflicts(port) for port in pod.host_ports) else None

    def hint(self, pod: PodInfo, event: ClusterEvent) -> bool:
        if event.pod is None:
            return True
        return any(
            number == freed and protocol == kind and (address == held or ANY_ADDRESS in (address, held))
            for address, protocol, number in pod.host_ports
            for held, kind, freed in event.pod.host_ports
        )
