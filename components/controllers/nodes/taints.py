"""Taints: which a node should have, and which pods bear them, for how long. All pure."""

from collections.abc import Iterable, Sequence
from typing import Any

from understudy.components.controllers.conditions import condition_of

Object = dict[str, Any]

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
NO_SCHEDULE = "NoSchedule"
NO_EXECUTE = "NoExecute"

_BY_CONDITION: tuple[tuple[str, str, str], ...] = (
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
)
_MANAGED = frozenset(key for _, _, key in _BY_CONDITION) | {UNSCHEDULABLE}


def taints_of(node: Object) -> list[Object]:
    """The node's taints."""
    return list((node.get("spec") or {}).get("taints") or ())


def has_taint(node: Object, key: str, effect: str) -> bool:
    """Whether the node has that taint."""
    return any(taint["key"] == key and taint["effect"] == effect for taint in taints_of(node))


def no_schedule_taints(node: Object, now_text: str) -> list[Object]:
    """All taints that the node should have when its conditions decide about the NoSchedule ones.

    Taints of other keys and effects stay as they are.
    """
    wanted = []
    for kind, status, key in _BY_CONDITION:
        condition = condition_of(node, kind)
        if condition is not None and condition.get("status") == status:
            wanted.append(key)
    if (node.get("spec") or {}).get("unschedulable"):
        wanted.append(UNSCHEDULABLE)
    return _replaced(taints_of(node), NO_SCHEDULE, wanted, _MANAGED, now_text)


def no_execute_taints(node: Object, key: str | None, now_text: str) -> list[Object]:
    """All taints that the node should have when `key` (not-ready, unreachable or None) drives pods away."""
    wanted = [key] if key is not None else []
    return _replaced(taints_of(node), NO_EXECUTE, wanted, frozenset({NOT_READY, UNREACHABLE}), now_text)


def _replaced(
    taints: Sequence[Object], effect: str, wanted: Sequence[str], managed: frozenset[str], now_text: str
) -> list[Object]:
    kept = [t for t in taints if t["effect"] != effect or t["key"] not in managed or t["key"] in wanted]
    present = {t["key"] for t in kept if t["effect"] == effect}
    added = [{"key": key, "effect": effect, "timeAdded": now_text} for key in wanted if key not in present]
    return [*kept, *added]


def tolerates(toleration: Object, taint: Object) -> bool:
    """Whether one toleration bears one taint."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def seconds_tolerated(pod: Object, taints: Iterable[Object]) -> float | None:
    """How long the pod may stay on a node with these NoExecute taints: 0 not at all, None for ever."""
    tolerations = (pod.get("spec") or {}).get("tolerations") or ()
    limits: list[float] = []
    for taint in taints:
        bearing = [toleration for toleration in tolerations if tolerates(toleration, taint)]
        if not bearing:
            return 0.0
        limits += [
            max(0.0, float(toleration["tolerationSeconds"]))
            for toleration in bearing
            if toleration.get("tolerationSeconds") is not None
        ]
    return min(limits, default=None)
