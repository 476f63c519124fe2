"""Which pods go first when there are too many.

The order is that of the ReplicaSet documentation: unscheduled, then pending, then not ready pods; then the
lower pod-deletion-cost; then those that share their node with most siblings; then those that became ready,
then were created, more recently, by powers of two of their age; then more restarts. Where the rules say
"about the same age" the uid decides, so that the choice is spread and yet always the same.
"""

import math
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from understudy.components.controllers.pod_state import (
    is_active,
    is_ready,
    node_of,
    phase_of,
    ready_since,
    restart_count,
)
from understudy.components.controllers.timestamps import created_at, seconds_since

Object = dict[str, Any]

DELETION_COST_ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def deletion_order(pods: Iterable[Object], related: Iterable[Object], now: datetime) -> list[Object]:
    """The pods, first to be deleted first; `related` are all pods of the same owner's ReplicaSets."""
    siblings = Counter(node_of(pod) for pod in related if is_active(pod))
    return sorted(pods, key=lambda pod: _rank(pod, siblings[node_of(pod)], now))


def deletion_cost(pod: Object) -> int:
    """The cost that its annotation states; 0 without one, or when it is no 32-bit integer."""
    text = (pod["metadata"].get("annotations") or {}).get(DELETION_COST_ANNOTATION, "0")
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or (digits != "0" and digits.startswith("0")):
        return 0
    cost = int(text)
    return cost if -(2**31) <= cost < 2**31 else 0


def _rank(pod: Object, siblings: int, now: datetime) -> tuple[Any, ...]:
    return (
        bool(node_of(pod)),
        _PHASES.get(phase_of(pod), 0),
        is_ready(pod),
        deletion_cost(pod),
        -siblings,
        _age_class(ready_since(pod), now),
        -restart_count(pod),
        _age_class(created_at(pod), now),
        pod["metadata"].get("uid", ""),
    )


def _age_class(since: str, now: datetime) -> int:
    """Power of two of an age in nanoseconds; no time at all counts as newest."""
    if not since:
        return -2
    nanoseconds = seconds_since(since, now) * 1e9
    return -1 if nanoseconds < 1 else math.floor(math.log2(nanoseconds))
