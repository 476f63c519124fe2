"""What a scheduling cycle decided, and why, as data; and the messages people read."""

from collections import Counter
from collections.abc import Iterable, Mapping

from attrs import field, frozen

from understudy.components.scheduler.framework import Failure
from understudy.components.scheduler.pod_info import PodInfo

NO_NODES = "no nodes available to schedule pods"


@frozen
class NodeVerdict:
    """What came of one node."""

    node: str
    plugin: str = ""
    """The filter that refused it; empty when it can run the pod."""
    failure: Failure | None = None
    scores: Mapping[str, int] = field(factory=dict)
    """Plugin to weighted score. Empty when it was the only feasible node: then none is asked."""

    @property
    def total(self) -> int:
        return sum(self.scores.values())


@frozen
class Decision:
    """The outcome of one scheduling cycle for one pod."""

    pod: PodInfo
    node: str | None
    """Where it goes; None when it fits nowhere now."""
    verdicts: tuple[NodeVerdict, ...]
    """One for each node that was looked at, in order."""
    message: str = ""
    """Why it fits nowhere, for the PodScheduled condition and the FailedScheduling event."""
    rejectors: frozenset[str] = frozenset()
    """Plugins whose refusal the queueing hints are asked about."""
    nominated_node: str | None = None
    """The node on which preemption makes room."""
    victims: tuple[PodInfo, ...] = ()
    """Pods to evict from it, lowest priority last."""


def available_message(node_count: int, reasons: Iterable[str]) -> str:
    """`0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`"""
    counted = sorted(f"{count} {reason}" for reason, count in Counter(reasons).items())
    message = f"0/{node_count} nodes are available:"
    return f"{message} {', '.join(counted)}." if counted else message


def fit_error(node_count: int, verdicts: Iterable[NodeVerdict], post_filter: str) -> str:
    """The message of a pod that fits nowhere, with what the PostFilter plugins found appended."""
    reasons = [reason for v in verdicts if v.failure is not None for reason in v.failure.reasons]
    message = available_message(node_count, reasons)
    return f"{message} {post_filter}" if post_filter else message
