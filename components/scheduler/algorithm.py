"""One scheduling cycle: filter the nodes, score those that are left, pick the best, or make room.

Pure over the cache: nothing is changed. The caller assumes the pod on the node that was decided.
"""

from collections.abc import Sequence
from typing import Any

from understudy.components.scheduler.cache import Cache, NodeInfo
from understudy.components.scheduler.decision import NO_NODES, Decision, NodeVerdict, fit_error
from understudy.components.scheduler.framework import Failure, FilterPlugin, Profile, Rng, Skip
from understudy.components.scheduler.pod_info import PodInfo
from understudy.components.scheduler.preemption import preempt

Prepared = list[tuple[FilterPlugin, Any]]


def schedule(pod: PodInfo, cache: Cache, profile: Profile, rng: Rng) -> Decision:
    """Decide where a pod goes. Nodes of equal score are drawn from by `rng`."""
    if not cache.node_count:
        return Decision(pod, None, (), NO_NODES)
    prepared = pre_filter(pod, cache, profile)
    verdicts: list[NodeVerdict] = []
    feasible: list[NodeInfo] = []
    for node in cache.nodes:
        plugin, failure = filter_with_nominated(pod, node, prepared, cache, profile)
        verdicts.append(NodeVerdict(node.name, plugin, failure))
        if failure is None:
            feasible.append(node)
    if not feasible:
        return _nowhere(pod, cache, profile, verdicts)
    if len(feasible) == 1:
        return Decision(pod, feasible[0].name, tuple(verdicts))
    scored = _score(pod, cache, profile, feasible)
    ranked = {verdict.node: verdict for verdict in scored}
    return Decision(pod, _pick(scored, rng), tuple(ranked.get(verdict.node, verdict) for verdict in verdicts))


def pre_filter(pod: PodInfo, cache: Cache, profile: Profile) -> Prepared:
    """The filters that have something to say about the pod, each with its state."""
    prepared: Prepared = []
    for plugin in profile.filters:
        state = plugin.pre_filter(pod, cache)
        if not isinstance(state, Skip):
            prepared.append((plugin, state))
    return prepared


def run_filters(pod: PodInfo, node: NodeInfo, prepared: Prepared) -> tuple[str, Failure | None]:
    """The first refusal, with the plugin's name; ("", None) when the node can run the pod."""
    for plugin, state in prepared:
        failure = state if isinstance(state, Failure) else plugin.filter(state, pod, node)
        if failure is not None:
            return plugin.name, failure
    return "", None


def filter_with_nominated(
    pod: PodInfo, node: NodeInfo, prepared: Prepared, cache: Cache, profile: Profile
) -> tuple[str, Failure | None]:
    """Filter as the node is, and also as it will be when pods that room was made for have come.

    Both must pass: those pods may never come, and the incoming pod may want to be near them.
    """
    if cache.nominated:
        promised = cache.nominated_to(node.name, pod.priority, pod.key)
        if promised:
            fuller = node.clone()
            for other in promised:
                fuller.add(other)
            later = pre_filter(pod, cache.with_node(fuller), profile)
            plugin, failure = run_filters(pod, fuller, later)
            if failure is not None:
                return plugin, failure
    return run_filters(pod, node, prepared)


def _score(pod: PodInfo, cache: Cache, profile: Profile, nodes: Sequence[NodeInfo]) -> list[NodeVerdict]:
    columns: list[tuple[str, list[int]]] = []
    for plugin, weight in profile.scores:
        state = plugin.pre_score(pod, cache, nodes)
        if isinstance(state, Skip):
            continue
        raw = [plugin.score(state, pod, node) for node in nodes]
        normalized = plugin.normalize(state, nodes, raw)
        assert all(0 <= score <= 100 for score in normalized), (plugin.name, raw, normalized)
        columns.append((plugin.name, [weight * score for score in normalized]))
    return [
        NodeVerdict(node.name, scores={name: scores[index] for name, scores in columns})
        for index, node in enumerate(nodes)
    ]


def _pick(scored: Sequence[NodeVerdict], rng: Rng) -> str:
    best = max(verdict.total for verdict in scored)
    names = [verdict.node for verdict in scored if verdict.total == best]
    return names[0] if len(names) == 1 else names[rng.randrange(len(names))]


def _nowhere(pod: PodInfo, cache: Cache, profile: Profile, verdicts: list[NodeVerdict]) -> Decision:
    def filters(node: NodeInfo) -> Failure | None:
        view = cache.with_node(node)
        return filter_with_nominated(pod, node, pre_filter(pod, view, profile), view, profile)[1]

    preemption = preempt(pod, cache, verdicts, filters)
    return Decision(
        pod,
        None,
        tuple(verdicts),
        fit_error(cache.node_count, verdicts, preemption.message),
        frozenset(verdict.plugin for verdict in verdicts),
        preemption.node,
        preemption.victims,
    )
