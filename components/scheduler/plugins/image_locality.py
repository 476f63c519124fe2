"""ImageLocality: a node that has the pod's images already starts it sooner."""

from collections.abc import Sequence
from typing import Any

from understudy.components.scheduler.cache import Cache, NodeInfo
from understudy.components.scheduler.framework import MAX_NODE_SCORE, SKIP, ScorePlugin, Skip
from understudy.components.scheduler.pod_info import PodInfo

MIN_THRESHOLD_BYTES = 23 * 1024 * 1024
"""Smaller images are pulled too quickly to matter."""
MAX_CONTAINER_THRESHOLD_BYTES = 1000 * 1024 * 1024


class ImageLocality(ScorePlugin):
    name = "ImageLocality"

    def pre_score(self, pod: PodInfo, cache: Cache, nodes: Sequence[NodeInfo]) -> dict[str, float] | Skip:
        """Share of the nodes that have each image: a rare image must not draw all pods to one node."""
        total = cache.node_count
        spread = {name: cache.nodes_with_image(name) / total for name in pod.images}
        return spread if any(spread.values()) else SKIP

    def score(self, state: Any, pod: PodInfo, node: NodeInfo) -> int:
        present = sum(int(node.images.get(name, 0) * state[name]) for name in pod.images)
        highest = MAX_CONTAINER_THRESHOLD_BYTES * len(pod.images)
        bounded = min(max(present, MIN_THRESHOLD_BYTES), highest)
        return MAX_NODE_SCORE * (bounded - MIN_THRESHOLD_BYTES) // (highest - MIN_THRESHOLD_BYTES)
