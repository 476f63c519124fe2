"""NodeAffinity: the pod's nodeSelector and node affinity, required and preferred."""

from collections.abc import Sequence
from typing import Any, ClassVar

from understudy.components.scheduler.cache import Cache, NodeInfo
from understudy.components.scheduler.framework import (
    SKIP,
    Change,
    ClusterEvent,
    EventResource,
    Events,
    Failure,
    FilterPlugin,
    ScorePlugin,
    Skip,
    default_normalize,
)
from understudy.components.scheduler.pod_info import PodInfo


def admits(pod: PodInfo, node: NodeInfo) -> bool:
    """Whether the node has the labels that the pod requires: the selector, and any one of the terms."""
    if not pod.node_selector.matches(node.labels):
        return False
    terms = pod.required_node_terms
    return terms is None or any(term.matches(node.name, node.labels) for term in terms)


class NodeAffinity(FilterPlugin, ScorePlugin):
    name = "NodeAffinity"
    events: ClassVar[Events] = {EventResource.NODE: Change.ADD | Change.UPDATE_NODE_LABEL}
    _failure = Failure(("node(s) didn't match Pod's node affinity/selector",), resolvable=False)

    def pre_filter(self, pod: PodInfo, cache: Cache) -> Skip | None:
        if pod.required_node_terms is None and not pod.node_selector.requirements:
            return SKIP
        return None

    def filter(self, state: Any, pod: PodInfo, node: NodeInfo) -> Failure | None:
        return None if admits(pod, node) else self._failure

    def hint(self, pod: PodInfo, event: ClusterEvent) -> bool:
        return event.node is None or admits(pod, event.node)

    def pre_score(self, pod: PodInfo, cache: Cache, nodes: Sequence[NodeInfo]) -> Skip | None:
        return None if pod.preferred_node_terms else SKIP

    def score(self, state: Any, pod: PodInfo, node: NodeInfo) -> int:
        return sum(
            weight for weight, term in pod.preferred_node_terms if term.matches(node.name, node.labels)
        )

    def normalize(self, state: Any, nodes: Sequence[NodeInfo], scores: list[int]) -> list[int]:
        return default_normalize(scores)
