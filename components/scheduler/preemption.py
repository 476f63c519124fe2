"""DefaultPreemption: which pods of lower priority would have to go so that a pod fits.

On each node that could be helped, all pods of lower priority are taken away, then given back from the
most important down as long as the pod still fits; what is not given back are the victims. The node whose
victims matter least is chosen. Pod disruption budgets are not weighed here.
"""

from collections.abc import Callable, Sequence

from attrs import frozen

from understudy.components.scheduler.cache import Cache, NodeInfo
from understudy.components.scheduler.decision import NodeVerdict, available_message
from understudy.components.scheduler.framework import Failure
from understudy.components.scheduler.pod_info import PodInfo

NOT_HELPFUL = "Preemption is not helpful for scheduling"
NO_VICTIMS = "No preemption victims found for incoming pod"
_CLAIMS = "no new claims to deallocate"
"""What the DynamicResources plugin's PostFilter says of every pod without resource claims."""

Fits = Callable[[NodeInfo], Failure | None]


@frozen
class Preemption:
    """The outcome: a node with its victims, or a message why there are none."""

    node: str | None
    """The node that is kept for the pod, with victims that were chosen now or still leave from before."""
    victims: tuple[PodInfo, ...] = ()
    message: str = ""


def preempt(pod: PodInfo, cache: Cache, verdicts: Sequence[NodeVerdict], fits: Fits) -> Preemption:
    """Look for room that evictions can make. `fits` filters the pod on a node as it is given."""
    ineligible = _ineligible(pod, cache)
    if ineligible:
        promised = cache.nominated.get(pod.key)
        return Preemption(promised[1] if promised else None, (), f"{_CLAIMS}, preemption: {ineligible}")
    candidates: list[tuple[str, tuple[PodInfo, ...]]] = []
    reasons: list[str] = []
    for verdict in verdicts:
        assert verdict.failure is not None, verdict
        node = cache.node(verdict.node)
        if node is None or not verdict.failure.resolvable:
            reasons.append(NOT_HELPFUL)
            continue
        found = _victims(pod, node, fits)
        if isinstance(found, Failure):
            reasons.extend(found.reasons)
        else:
            candidates.append((node.name, found))
    if not candidates:
        message = available_message(cache.node_count, reasons)
        return Preemption(None, (), f"{_CLAIMS}, preemption: {message}")
    node_name, victims = min(candidates, key=lambda candidate: _cost(candidate[1]))
    return Preemption(node_name, victims)


def _ineligible(pod: PodInfo, cache: Cache) -> str:
    """Why the pod must not preempt now."""
    if pod.preemption_policy == "Never":
        return "not eligible due to preemptionPolicy=Never."
    promised = cache.nominated.get(pod.key)
    node = cache.node(promised[1]) if promised else None
    if node is not None and any(p.terminating and p.priority < pod.priority for p in node.pods.values()):
        return "not eligible due to a terminating pod on the nominated node."
    return ""


def _importance(pod: PodInfo) -> tuple[int, str]:
    """Sorts more important pods first: higher priority, then longer running."""
    return -pod.priority, pod.start_time or "~"


def _victims(pod: PodInfo, node: NodeInfo, fits: Fits) -> tuple[PodInfo, ...] | Failure:
    lower = [other for other in node.pods.values() if other.priority < pod.priority]
    if not lower:
        return Failure((NO_VICTIMS,), resolvable=False)
    trial = node.clone()
    for other in lower:
        trial.remove(other.key)
    failure = fits(trial)
    if failure is not None:
        return failure
    victims: list[PodInfo] = []
    for other in sorted(lower, key=_importance):
        trial.add(other)
        if fits(trial) is not None:
            trial.remove(other.key)
            victims.append(other)
    assert victims, (str(pod), node.name)
    return tuple(victims)


@frozen(order=True)
class _Latest:
    """Orders times backwards: the node whose most important victim started last costs least."""

    characters: tuple[int, ...]


def _cost(victims: Sequence[PodInfo]) -> tuple[int, int, int, _Latest]:
    top = victims[0].priority
    started = min((v.start_time for v in victims if v.priority == top), default="")
    return (
        top,
        sum(victim.priority + 2**31 for victim in victims),
        len(victims),
        _Latest(tuple(-ord(character) for character in started)),
    )
