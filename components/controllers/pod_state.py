"""What a pod's object says about the pod: ready, available, active, finished."""

from datetime import datetime
from typing import Any

from understudy.components.controllers.conditions import condition_of, is_true
from understudy.components.controllers.timestamps import seconds_since

Object = dict[str, Any]


def phase_of(pod: Object) -> str:
    """The pod's phase; Pending when it has none yet."""
    return (pod.get("status") or {}).get("phase") or "Pending"


def is_terminal(pod: Object) -> bool:
    """Whether all its containers have ended for good."""
    return phase_of(pod) in ("Succeeded", "Failed")


def is_terminating(pod: Object) -> bool:
    """Whether its deletion has begun."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def is_active(pod: Object) -> bool:
    """Whether it counts as a replica: neither finished nor being deleted."""
    return not is_terminal(pod) and not is_terminating(pod)


def is_ready(pod: Object) -> bool:
    """Whether its Ready condition is True."""
    return is_true(pod, "Ready")


def ready_since(pod: Object) -> str:
    """When it last became ready; "" when it is not."""
    condition = condition_of(pod, "Ready")
    if condition is None or condition.get("status") != "True":
        return ""
    return str(condition.get("lastTransitionTime") or "")


def is_available(pod: Object, min_ready_seconds: int, now: datetime) -> bool:
    """Whether it has been ready for at least `min_ready_seconds`."""
    if not is_ready(pod):
        return False
    if min_ready_seconds == 0:
        return True
    since = ready_since(pod)
    return bool(since) and seconds_since(since, now) >= min_ready_seconds


def seconds_to_available(pod: Object, min_ready_seconds: int, now: datetime) -> float | None:
    """Seconds until a ready pod becomes available, 0 when it is; None when it is not ready."""
    since = ready_since(pod)
    if not since:
        return None
    return max(0.0, min_ready_seconds - seconds_since(since, now))


def node_of(pod: Object) -> str:
    """The node that it is bound to; "" when it is not scheduled."""
    return (pod.get("spec") or {}).get("nodeName") or ""


def restart_count(pod: Object) -> int:
    """The largest number of restarts of any of its containers."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return max((status.get("restartCount", 0) for status in statuses), default=0)


def pod_ips(pod: Object) -> list[str]:
    """All its addresses, the primary one first."""
    status = pod.get("status") or {}
    listed = [entry["ip"] for entry in status.get("podIPs") or () if entry.get("ip")]
    if listed:
        return listed
    return [status["podIP"]] if status.get("podIP") else []
