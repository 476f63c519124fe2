"""PodTopologySpread: pods that a selector selects are spread evenly over nodes, zones, or any topology.

Constraints with `DoNotSchedule` filter, those with `ScheduleAnyway` score. A pod without any gets the
system's defaults, over its siblings (see `Cache.default_selector`): softly over zones and nodes. They are
what puts two replicas on two nodes.
"""

from collections.abc import Iterable, Sequence
from math import log
from typing import Any, ClassVar

from attrs import frozen

from understudy.components.scheduler.cache import Cache, NodeInfo
from understudy.components.scheduler.framework import (
    MAX_NODE_SCORE,
    NODE_UPDATES,
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
from understudy.components.scheduler.plugins.node_affinity import admits
from understudy.components.scheduler.pod_info import PodInfo, TopologyConstraint
from understudy.components.scheduler.requirements import Selector

HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"


@frozen
class _Domains:
    """One required constraint with the matching pods counted in each of its domains."""

    constraint: TopologyConstraint
    counts: dict[str, int]
    minimum: int


@frozen
class _SoftSpread:
    constraints: tuple[TopologyConstraint, ...]
    counts: tuple[dict[str, int], ...]
    """For each constraint but those by hostname: topology value to matching pods."""
    weights: tuple[float, ...]
    ignored: frozenset[str]
    """Nodes that lack a topology key: they score 0."""
    namespace: str


def _eligible(constraint: TopologyConstraint, pod: PodInfo, node: NodeInfo) -> bool:
    if constraint.honor_node_affinity and not admits(pod, node):
        return False
    if not constraint.honor_taints:
        return True
    return all(taint.effect == "PreferNoSchedule" or pod.tolerates(taint) for taint in node.taints)


def matching_pods(selector: Selector, namespace: str, node: NodeInfo) -> int:
    """How many pods on the node the selector selects; those being deleted do not count."""
    return sum(
        count
        for (where, labels, terminating), count in node.groups.items()
        if where == namespace and not terminating and selector.matches(dict(labels))
    )


class PodTopologySpread(FilterPlugin, ScorePlugin):
    name = "PodTopologySpread"
    events: ClassVar[Events] = {
        EventResource.NODE: Change.ADD | Change.DELETE | NODE_UPDATES,
        EventResource.ASSIGNED_POD: Change.ADD
        | Change.DELETE
        | Change.UPDATE_POD_LABEL
        | Change.UPDATE_OTHER,
    }
    _missing = Failure(
        ("node(s) didn't match pod topology spread constraints (missing required label)",), resolvable=False
    )
    _skewed = Failure(("node(s) didn't match pod topology spread constraints",))

    def hint(self, pod: PodInfo, event: ClusterEvent) -> bool:
        if event.pod is None:
            return True
        other = event.pod
        return other.namespace == pod.namespace and any(
            constraint.selector.matches(other.labels) for constraint in pod.spread if constraint.required
        )

    # required constraints

    def pre_filter(self, pod: PodInfo, cache: Cache) -> tuple[_Domains, ...] | Skip:
        required = [constraint for constraint in pod.spread if constraint.required]
        if not required:
            return SKIP
        keys = [constraint.topology_key for constraint in required]
        nodes = [node for node in cache.nodes if all(key in node.labels for key in keys)]
        return tuple(self._count(constraint, pod, nodes) for constraint in required)

    def _count(self, constraint: TopologyConstraint, pod: PodInfo, nodes: Iterable[NodeInfo]) -> _Domains:
        counts: dict[str, int] = {}
        for node in nodes:
            if _eligible(constraint, pod, node):
                value = node.labels[constraint.topology_key]
                here = matching_pods(constraint.selector, pod.namespace, node)
                counts[value] = counts.get(value, 0) + here
        # With too few domains the emptiest is one that does not exist yet.
        enough = len(counts) >= constraint.min_domains
        return _Domains(constraint, counts, min(counts.values(), default=0) if enough else 0)

    def filter(self, state: Any, pod: PodInfo, node: NodeInfo) -> Failure | None:
        for domains in state:
            constraint = domains.constraint
            value = node.labels.get(constraint.topology_key)
            if value is None:
                return self._missing
            itself = constraint.selector.matches(pod.labels)
            skew = domains.counts.get(value, 0) + itself - domains.minimum
            if skew > constraint.max_skew:
                return self._skewed
        return None

    # soft constraints

    def pre_score(self, pod: PodInfo, cache: Cache, nodes: Sequence[NodeInfo]) -> _SoftSpread | Skip:
        if pod.spread:
            constraints = tuple(constraint for constraint in pod.spread if not constraint.required)
        else:
            constraints = _defaults(cache.default_selector(pod))
        if not constraints:
            return SKIP
        keys = [constraint.topology_key for constraint in constraints]
        # The defaults must work in a cluster without zones, so they ask no node to have every key.
        strict = bool(pod.spread)
        ignored = frozenset(
            node.name for node in nodes if strict and any(key not in node.labels for key in keys)
        )
        candidates = [node for node in nodes if node.name not in ignored]
        counts: list[dict[str, int]] = []
        weights: list[float] = []
        for constraint in constraints:
            key = constraint.topology_key
            if key == HOSTNAME:
                counts.append({})
                weights.append(log(len(candidates) + 2))
                continue
            domains = {node.labels[key]: 0 for node in candidates if key in node.labels}
            for node in cache.nodes:
                value = node.labels.get(key)
                if value in domains and _eligible(constraint, pod, node):
                    domains[value] += matching_pods(constraint.selector, pod.namespace, node)
            counts.append(domains)
            weights.append(log(len(domains) + 2))
        return _SoftSpread(constraints, tuple(counts), tuple(weights), ignored, pod.namespace)

    def score(self, state: Any, pod: PodInfo, node: NodeInfo) -> int:
        if node.name in state.ignored:
            return 0
        score = 0.0
        for constraint, counts, weight in zip(state.constraints, state.counts, state.weights, strict=True):
            value = node.labels.get(constraint.topology_key)
            if value is None:
                continue
            if constraint.topology_key == HOSTNAME:
                count = matching_pods(constraint.selector, state.namespace, node)
            else:
                count = counts[value]
            score += count * weight + (constraint.max_skew - 1)
        return round(score)

    def normalize(self, state: Any, nodes: Sequence[NodeInfo], scores: list[int]) -> list[int]:
        counted = [score for node, score in zip(nodes, scores, strict=True) if node.name not in state.ignored]
        low, high = min(counted, default=0), max(counted, default=0)
        return [
            0
            if node.name in state.ignored
            else MAX_NODE_SCORE
            if high == 0
            else MAX_NODE_SCORE * (high + low - score) // high
            for node, score in zip(nodes, scores, strict=True)
        ]


def _defaults(selector: Selector) -> tuple[TopologyConstraint, ...]:
    """The system's default constraints, or none for a pod without siblings."""
    if selector.nothing:
        return ()
    return (
        TopologyConstraint(HOSTNAME, 3, False, selector),
        TopologyConstraint(ZONE, 5, False, selector),
    )
