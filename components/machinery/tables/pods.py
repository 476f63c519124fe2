"""The row of a pod: how far it got, told in one word.

The phase alone says little (a pod in `Running` may be crash-looping), so the Status column is the most
telling reason found: that of the first init container which is not done, else that of the first container
which waits or has ended, and in the end whether the pod is being deleted.
"""

from typing import Any

from understudy.components.machinery.tables.ages import age, parse_time
from understudy.components.machinery.tables.printer import (
    AGE,
    NAME,
    NONE,
    Column,
    Object,
    Printer,
    age_of,
    has_true_condition,
    name_of,
    wide,
)

_OVER = {
    "Succeeded": [
        {
            "type": "Completed",
            "status": "True",
            "reason": "Succeeded",
            "message": "The pod has completed successfully.",
        }
    ],
    "Failed": [{"type": "Completed", "status": "True", "reason": "Failed", "message": "The pod failed."}],
}
_NOT_OVER: list[Object] = []


class _Restarts:
    """How often containers were restarted, and when the last of them ended."""

    __slots__ = ("count", "last")

    def __init__(self) -> None:
        self.count = 0
        self.last: str | None = None

    def add(self, status: Object) -> None:
        self.count += status.get("restartCount", 0)
        last_state = status.get("lastState")
        if last_state and (ended := last_state.get("terminated")):
            finished = ended.get("finishedAt")
            if finished and (self.last is None or parse_time(finished) > parse_time(self.last)):
                self.last = finished

    def text(self, now_us: int) -> str:
        if self.count and self.last is not None:
            return f"{self.count} ({age(self.last, now_us)} ago)"
        return str(self.count)


def _ended_reason(terminated: Object) -> str:
    if reason := terminated.get("reason"):
        return str(reason)
    if signal := terminated.get("signal"):
        return f"Signal:{signal}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _init_reason(status: Object, index: int, total: int, sidecar: bool) -> str | None:
    """Why the pod still initializes because of this init container, or None when that one is past."""
    state = status.get("state") or {}
    terminated = state.get("terminated")
    if terminated is not None and not terminated.get("exitCode"):
        return None
    if sidecar and status.get("started"):
        return None
    if terminated is not None:
        return f"Init:{_ended_reason(terminated)}"
    waiting = (state.get("waiting") or {}).get("reason")
    if waiting and waiting != "PodInitializing":
        return f"Init:{waiting}"
    return f"Init:{index}/{total}"


def pod_row(pod: Object, now_us: int) -> list[Any]:
    """The cells of a pod."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    phase = status.get("phase", "")
    reason = status.get("reason") or phase
    for entry in status.get("conditions") or ():
        if entry["type"] == "PodScheduled" and entry.get("reason") == "SchedulingGated":
            reason = "SchedulingGated"

    total = len(spec.get("containers") or ())
    ready = 0
    restarts = _Restarts()
    initializing = False
    if init_containers := spec.get("initContainers"):
        sidecars = {c["name"] for c in init_containers if c.get("restartPolicy") == "Always"}
        total += len(sidecars)
        sidecar_restarts = _Restarts()
        for index, container in enumerate(status.get("initContainerStatuses") or ()):
            sidecar = container["name"] in sidecars
            restarts.add(container)
            if sidecar:
                sidecar_restarts.add(container)
            blocking = _init_reason(container, index, len(init_containers), sidecar)
            if blocking is not None:
                reason, initializing = blocking, True
                break
            if sidecar and container.get("ready") and not (container.get("state") or {}).get("terminated"):
                ready += 1
        if not initializing or has_true_condition(pod, "Initialized"):
            restarts = sidecar_restarts

    if not initializing or has_true_condition(pod, "Initialized"):
        running, failure = False, None
        # Backwards, so that the first container's reason is the one that stays.
        for container in reversed(status.get("containerStatuses") or ()):
            restarts.add(container)
            state = container.get("state") or {}
            waiting, terminated = state.get("waiting"), state.get("terminated")
            if waiting is not None and waiting.get("reason"):
                reason = waiting["reason"]
            elif terminated is not None:
                reason = _ended_reason(terminated)
                if terminated.get("exitCode"):
                    failure = reason
            elif container.get("ready") and state.get("running") is not None:
                running = True
                ready += 1
        # The first container is done, and that says nothing of the others.
        if reason == "Completed":
            if running and has_true_condition(pod, "Ready"):
                reason = "Running"
            elif failure is not None:
                reason = failure
            elif running:
                reason = "NotReady"

    if metadata.get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif phase not in _OVER:
            reason = "Terminating"

    addresses = status.get("podIPs")
    return [
        name_of(pod),
        f"{ready}/{total}",
        reason,
        restarts.text(now_us),
        age_of(pod, now_us),
        (addresses[0].get("ip") if addresses else status.get("podIP")) or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _readiness_gates(pod, spec),
    ]


def _readiness_gates(pod: Object, spec: Object) -> str:
    gates = spec.get("readinessGates")
    if not gates:
        return NONE
    passed = sum(has_true_condition(pod, gate["conditionType"]) for gate in gates)
    return f"{passed}/{len(gates)}"


def pod_conditions(pod: Object) -> list[Object]:
    """Row conditions: a pod that is over is marked, so that a client may leave it out or grey it."""
    return _OVER.get((pod.get("status") or {}).get("phase", ""), _NOT_OVER)


PRINTERS = {
    "v1/pods": Printer(
        (
            NAME,
            Column("Ready", description="Containers that are ready, of all that should be."),
            Column("Status", description="What the pod does or waits for."),
            Column("Restarts", description="How often containers were restarted, and when last."),
            AGE,
            wide("IP", "First address of the pod."),
            wide("Node", "Node that the pod is bound to."),
            wide("Nominated Node", "Node on which room is being made for the pod."),
            wide("Readiness Gates", "Readiness gates that have passed, of all."),
        ),
        pod_row,
        pod_conditions,
    )
}
