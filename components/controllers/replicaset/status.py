"""The status of a ReplicaSet, computed from its pods."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from understudy.components.controllers.conditions import (
    find_condition,
    with_condition,
    without_condition,
)
from understudy.components.controllers.equality import semantically_equal
from understudy.components.controllers.ownership import labels_of
from understudy.components.controllers.pod_state import (
    is_available,
    is_ready,
    seconds_to_available,
)

Object = dict[str, Any]


def replica_set_status(
    replica_set: Object,
    active: Sequence[Object],
    terminating: int,
    failure: str | None,
    now: datetime,
) -> Object:
    """The status that the ReplicaSet should have.

    `active` are its pods that count, `terminating` how many others are being deleted; `failure` says why
    pods could not be created or deleted in this sync.
    """
    spec, metadata = replica_set["spec"], replica_set["metadata"]
    old = replica_set.get("status") or {}
    min_ready = spec.get("minReadySeconds", 0)
    template_labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    ready = [pod for pod in active if is_ready(pod)]
    counts = {
        "fullyLabeledReplicas": sum(template_labels.items() <= labels_of(pod).items() for pod in active),
        "readyReplicas": len(ready),
        "availableReplicas": sum(is_available(pod, min_ready, now) for pod in ready),
    }
    status: Object = {"replicas": len(active), "terminatingReplicas": terminating}
    status.update({name: count for name, count in counts.items() if count})
    if metadata.get("generation"):
        status["observedGeneration"] = metadata["generation"]
    conditions = _conditions(old.get("conditions"), failure, len(active) < spec.get("replicas", 1), now)
    if conditions:
        status["conditions"] = conditions
    return status


def _conditions(
    old: Sequence[Object] | None, failure: str | None, too_few: bool, now: datetime
) -> list[Object]:
    if failure is None:
        return without_condition(old, "ReplicaFailure")
    if find_condition(old, "ReplicaFailure") is not None:
        return list(old or ())
    condition = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate" if too_few else "FailedDelete",
        "message": failure,
        "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return with_condition(old, condition)


def status_differs(old: Object | None, new: Object) -> bool:
    """Whether writing `new` over `old` would change anything."""
    return not semantically_equal(_without_zeros(old or {}), _without_zeros(new))


def _without_zeros(status: Object) -> Object:
    return {key: value for key, value in status.items() if value != 0}


def seconds_to_next_available(
    active: Sequence[Object], min_ready_seconds: int, now: datetime
) -> float | None:
    """Seconds until the next ready pod becomes available; None when none is on its way."""
    waits = [seconds_to_available(pod, min_ready_seconds, now) for pod in active]
    coming = [wait for wait in waits if wait is not None and wait > 0]
    return min(coming, default=None)
