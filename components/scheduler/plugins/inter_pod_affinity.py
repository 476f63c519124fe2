"""InterPodAffinity: pods that must or should be near to, or far from, other pods.

A term selects pods and names a topology; "near" is the same value of the topology's label. Anti-affinity
works both ways: a pod is also kept from where a running pod would not have it.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

from attrs import frozen

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
from understudy.components.scheduler.pod_info import AffinityTerm, PodInfo

HARD_POD_AFFINITY_WEIGHT = 1
"""What a running pod's required affinity for the incoming pod adds to a node's score."""

Domain = tuple[str, str]
"""(topology key, value)."""


@frozen
class _Counts:
    """Matching pods in each domain."""

    affinity: Counter[Domain]
    anti_affinity: Counter[Domain]
    existing_anti_affinity: Counter[Domain]
    first_of_its_kind: bool
    """The pod meets its own affinity, so it may come where there is none yet."""


def _selects(term: AffinityTerm, pod: PodInfo, cache: Cache) -> bool:
    return term.selects(pod.namespace, cache.namespace_labels.get(pod.namespace, {}), pod.labels)


class InterPodAffinity(FilterPlugin, ScorePlugin):
    name = "InterPodAffinity"
    events: ClassVar[Events] = {
        EventResource.NODE: Change.ADD | Change.UPDATE_NODE_LABEL,
        EventResource.ASSIGNED_POD: Change.ADD | Change.DELETE | Change.UPDATE_POD_LABEL,
        EventResource.NAMESPACE: Change.ADD | Change.UPDATE_OTHER,
    }
    _affinity = Failure(("node(s) didn't match pod affinity rules",), resolvable=False)
    _anti_affinity = Failure(("node(s) didn't match pod anti-affinity rules",))
    _existing = Failure(("node(s) didn't satisfy existing pods anti-affinity rules",))

    # required terms

    def pre_filter(self, pod: PodInfo, cache: Cache) -> _Counts | Skip:
        affinity: Counter[Domain] = Counter()
        anti: Counter[Domain] = Counter()
        existing: Counter[Domain] = Counter()
        for node in cache.nodes:
            for other in node.with_affinity.values():
                for term in other.pod_anti_affinity:
                    value = node.labels.get(term.topology_key)
                    if value is not None and _selects(term, pod, cache):
                        existing[term.topology_key, value] += 1
            if not pod.pod_affinity and not pod.pod_anti_affinity:
                continue
            for (namespace, labels, _), count in node.groups.items():
                scope, have = cache.namespace_labels.get(namespace, {}), dict(labels)
                if pod.pod_affinity and all(t.selects(namespace, scope, have) for t in pod.pod_affinity):
                    _tally(affinity, node, pod.pod_affinity, count)
                near = [t for t in pod.pod_anti_affinity if t.selects(namespace, scope, have)]
                _tally(anti, node, near, count)
        if not existing and not pod.pod_affinity and not pod.pod_anti_affinity:
            return SKIP
        itself = all(_selects(term, pod, cache) for term in pod.pod_affinity)
        return _Counts(affinity, anti, existing, itself and not affinity)

    def filter(self, state: Any, pod: PodInfo, node: NodeInfo) -> Failure | None:
        if not self._near_enough(state, pod, node):
            return self._affinity
        if any(
            state.anti_affinity[term.topology_key, node.labels[term.topology_key]]
            for term in pod.pod_anti_affinity
            if term.topology_key in node.labels
        ):
            return self._anti_affinity
        if any(node.labels.get(key) == value for key, value in state.existing_anti_affinity):
            return self._existing
        return None

    def _near_enough(self, state: _Counts, pod: PodInfo, node: NodeInfo) -> bool:
        domains = [(t.topology_key, node.labels.get(t.topology_key)) for t in pod.pod_affinity]
        if any(value is None for _, value in domains):
            return False
        return state.first_of_its_kind or all(
            state.affinity[key, value] for key, value in domains if value is not None
        )

    def hint(self, pod: PodInfo, event: ClusterEvent) -> bool:
        if event.resource is not EventResource.ASSIGNED_POD or event.pod is None:
            return True
        other = event.pod
        terms = pod.pod_affinity + pod.pod_anti_affinity
        # Namespace labels are not known here: a term with a namespace selector might be meant.
        concerned = any(
            (other.namespace in term.namespaces or term.namespace_selector is not None)
            and term.selector.matches(other.labels)
            for term in terms
        )
        return concerned or bool(other.pod_anti_affinity)

    # preferred terms

    def pre_score(self, pod: PodInfo, cache: Cache, nodes: Sequence[NodeInfo]) -> Counter[Domain] | Skip:
        weights: Counter[Domain] = Counter()
        for node in cache.nodes:
            for other in node.with_affinity.values():
                for term in other.preferred_pod_affinity:
                    if _selects(term, pod, cache):
                        _tally(weights, node, (term,), term.weight)
                for term in other.pod_affinity:
                    if _selects(term, pod, cache):
                        _tally(weights, node, (term,), HARD_POD_AFFINITY_WEIGHT)
            for (namespace, labels, _), count in node.groups.items() if pod.preferred_pod_affinity else ():
                scope, have = cache.namespace_labels.get(namespace, {}), dict(labels)
                for term in pod.preferred_pod_affinity:
                    if term.selects(namespace, scope, have):
                        _tally(weights, node, (term,), term.weight * count)
        return weights or SKIP

    def score(self, state: Any, pod: PodInfo, node: NodeInfo) -> int:
        return sum(weight for (key, value), weight in state.items() if node.labels.get(key) == value)

    def normalize(self, state: Any, nodes: Sequence[NodeInfo], scores: list[int]) -> list[int]:
        low, high = min(scores), max(scores)
        if high == low:
            return [0] * len(scores)
        return [MAX_NODE_SCORE * (score - low) // (high - low) for score in scores]


def _tally(counter: Counter[Domain], node: NodeInfo, terms: Sequence[AffinityTerm], count: int) -> None:
    for term in terms:
        value = node.labels.get(term.topology_key)
        if value is not None:
            counter[term.topology_key, value] += count
