"""What a node's silence means.

A node speaks by renewing its Lease and by writing its status. Times are those of this controller's own
clock when it saw something new, so that clocks of nodes do not matter. All pure but `NodeHealth`, which
remembers.
"""

from typing import Any

from attrs import define

from understudy.components.controllers.conditions import condition_of

Object = dict[str, Any]

WATCHED_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


@define
class NodeHealth:
    """What was last seen of one node."""

    spoke_at: float
    """Monotonic seconds when its status or lease was last seen to change."""
    heartbeat: tuple[str, str] = ("", "")
    """The Ready condition's heartbeat and the lease's renewal, as last seen."""
    ready: str = ""
    """The status of its Ready condition, as last seen after this controller's own change."""

    def observe(self, node: Object, lease: Object | None, now: float) -> None:
        """Look at the newest state of the node and of its lease."""
        ready = condition_of(node, "Ready") or {}
        beat = (
            str(ready.get("lastHeartbeatTime") or ""),
            str(((lease or {}).get("spec") or {}).get("renewTime") or ""),
        )
        if beat != self.heartbeat:
            self.heartbeat = beat
            self.spoke_at = now


def unknown_conditions(node: Object, now_text: str) -> list[Object]:
    """The node's conditions when nothing has been heard of it: those that the kubelet writes are Unknown."""
    conditions = list((node.get("status") or {}).get("conditions") or ())
    known = {condition["type"] for condition in conditions}
    changed = []
    for condition in conditions:
        if condition["type"] not in WATCHED_CONDITIONS or condition["status"] == "Unknown":
            changed.append(condition)
            continue
        changed.append(
            {
                **condition,
                "status": "Unknown",
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
                "lastTransitionTime": now_text,
            }
        )
    changed += [
        {
            "type": kind,
            "status": "Unknown",
            "reason": "NodeStatusNeverUpdated",
            "message": "Kubelet never posted node status.",
            "lastHeartbeatTime": node["metadata"].get("creationTimestamp"),
            "lastTransitionTime": now_text,
        }
        for kind in WATCHED_CONDITIONS
        if kind not in known
    ]
    return changed


def not_ready_pod_conditions(pod: Object, now_text: str) -> list[Object] | None:
    """The pod's conditions with Ready False, as its node is silent; None when it is not ready anyway."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    if not any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
        return None
    return [
        {**condition, "status": "False", "lastTransitionTime": now_text}
        if condition["type"] == "Ready"
        else condition
        for condition in conditions
    ]
