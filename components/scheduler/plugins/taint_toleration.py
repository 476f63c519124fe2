"""TaintToleration: NoSchedule and NoExecute taints keep pods off, PreferNoSchedule ones count against."""

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


class TaintToleration(FilterPlugin, ScorePlugin):
    name = "TaintToleration"
    events: ClassVar[Events] = {EventResource.NODE: Change.ADD | Change.UPDATE_NODE_TAINT}
    # Since 1.35 the message names no taint, so that a cluster of many taints has one message.
    _failure = Failure(("node(s) had untolerated taint(s)",), resolvable=False)

    def filter(self, state: Any, pod: PodInfo, node: NodeInfo) -> Failure | None:
        for taint in node.taints:
            if taint.effect != "PreferNoSchedule" and not pod.tolerates(taint):
                return self._failure
        return None

    def hint(self, pod: PodInfo, event: ClusterEvent) -> bool:
        return event.node is None or self.filter(None, pod, event.node) is None

    def pre_score(self, pod: PodInfo, cache: Cache, nodes: Sequence[NodeInfo]) -> Skip | None:
        # Without soft taints every node would get the same 100.
        soft = any(taint.effect == "PreferNoSchedule" for node in nodes for taint in node.taints)
        return None if soft else SKIP

    def score(self, state: Any, pod: PodInfo, node: NodeInfo) -> int:
        return sum(taint.effect == "PreferNoSchedule" and not pod.tolerates(taint) for taint in node.taints)

    def normalize(self, state: Any, nodes: Sequence[NodeInfo], scores: list[int]) -> list[int]:
        return default_normalize(scores, reverse=True)
