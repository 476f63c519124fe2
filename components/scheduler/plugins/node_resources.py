"""NodeResourcesFit (with the LeastAllocated score) and NodeResourcesBalancedAllocation."""

from collections.abc import Sequence
from typing import Any, ClassVar

from understudy.components.scheduler.cache import Cache, NodeInfo
from understudy.components.scheduler.framework import (
    MAX_NODE_SCORE,
    SKIP,
    Change,
    ClusterEvent,
    EventResource,
    Events,
    Failure,
    FilterPlugin,
    ScorePlugin,
    Skip,
)
from understudy.components.scheduler.pod_info import PodInfo
from understudy.components.scheduler.resources import CPU, MEMORY

_ORDER = {CPU: 0, MEMORY: 1, "ephemeral-storage": 2}


class NodeResourcesFit(FilterPlugin, ScorePlugin):
    """The node must have what the pod requests still free; the emptier node is better."""

    name = "NodeResourcesFit"
    events: ClassVar[Events] = {
        EventResource.NODE: Change.ADD | Change.UPDATE_NODE_ALLOCATABLE,
        EventResource.ASSIGNED_POD: Change.DELETE | Change.UPDATE_POD_SCALE_DOWN,
    }

    def filter(self, state: Any, pod: PodInfo, node: NodeInfo) -> Failure | None:
        free, used = node.allocatable, node.requested
        if len(node.pods) + 1 <= node.allowed_pods:
            for resource, wanted in pod.requests.items():
                if wanted > free.get(resource, 0) - used.get(resource, 0):
                    break
            else:
                return None
        return self._explain(pod, node)

    def _explain(self, pod: PodInfo, node: NodeInfo) -> Failure:
        reasons = ["Too many pods"] if len(node.pods) + 1 > node.allowed_pods else []
        resolvable = True
        for resource in sorted(pod.requests, key=lambda name: (_ORDER.get(name, 3), name)):
            wanted, total = pod.requests[resource], node.allocatable.get(resource, 0)
            if wanted > total - node.requested.get(resource, 0):
                reasons.append(f"Insufficient {resource}")
                resolvable = resolvable and wanted <= total
        return Failure(tuple(reasons), resolvable)

    def hint(self, pod: PodInfo, event: ClusterEvent) -> bool:
        if event.node is not None:
            return self._could_fit_empty(pod, event.node)
        return True

    def _could_fit_empty(self, pod: PodInfo, node: NodeInfo) -> bool:
        # The node may have filled up by the time of the retry, but never has more than this.
        return self.filter(None, pod, node) is None

    def score(self, state: Any, pod: PodInfo, node: NodeInfo) -> int:
        cpu = _least_requested(node.nonzero_cpu + pod.nonzero[0], node.allocatable.get(CPU, 0))
        memory = _least_requested(node.nonzero_memory + pod.nonzero[1], node.allocatable.get(MEMORY, 0))
        known = [score for score in (cpu, memory) if score is not None]
        return sum(known) // len(known) if known else 0


def _least_requested(requested: int, capacity: int) -> int | None:
    """The free share in percent; None when the node has no such resource, which then does not count."""
    if capacity == 0:
        return None
    return 0 if requested > capacity else (capacity - requested) * MAX_NODE_SCORE // capacity


class NodeResourcesBalancedAllocation(ScorePlugin):
    """The closer the shares of CPU and memory in use would be to each other, the better."""

    name = "NodeResourcesBalancedAllocation"

    def pre_score(self, pod: PodInfo, cache: Cache, nodes: Sequence[NodeInfo]) -> Skip | None:
        # A best-effort pod takes no share of anything, so it cannot tip any balance.
        return None if CPU in pod.requests or MEMORY in pod.requests else SKIP

    def score(self, state: Any, pod: PodInfo, node: NodeInfo) -> int:
        shares = [
            min(1.0, (node.requested.get(name, 0) + pod.requests.get(name, 0)) / capacity)
            for name in (CPU, MEMORY)
            if (capacity := node.allocatable.get(name, 0))
        ]
        # The standard deviation of two values is half their distance; of one value, nothing.
        deviation = abs(shares[0] - shares[1]) / 2 if len(shares) == 2 else 0.0
        return int((1 - deviation) * MAX_NODE_SCORE)
