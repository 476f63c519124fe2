"""The status of a pod as the kubelet reports it: phase, conditions, addresses, containers."""

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from understudy.components.boundary.cri import ContainerStatus
from understudy.components.machinery.quality_of_service import quality_of_service

from .container_status import Findings, container_statuses
from .pod_actions import initialized_before
from .pod_phase import pod_phase
from .runtime_state import Object, PodRuntime, containers, host_network, init_containers, is_sidecar

OWNED_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


@frozen
class Decision:
    """That a pod has come to its end whatever its containers do."""

    reason: str
    message: str
    phase: str = "Failed"


@frozen
class Circumstances:
    """What a pod's status depends on beside the pod and its containers."""

    now: str
    """As the API writes times."""
    host_ips: tuple[str, ...]
    start_time: str
    """When this kubelet first saw the pod."""
    ended: bool = False
    """Everything of the pod has been stopped, for good."""
    decision: Decision | None = None


def compute_status(
    pod: Object, runtime: PodRuntime, findings: Findings, circumstances: Circumstances, previous: Object
) -> Object:
    """The whole status; `previous` is the one before, for what has not changed since."""
    ending = circumstances.ended or circumstances.decision is not None
    initialized = _is_initialized(pod, runtime, findings.started)
    init = container_statuses(
        pod,
        init_containers(pod),
        runtime,
        findings,
        are_init=True,
        initialized=initialized,
        ending=ending,
    )
    regular = container_statuses(
        pod, containers(pod), runtime, findings, are_init=False, initialized=initialized, ending=ending
    )
    phase = pod_phase(pod, regular, init, ended=circumstances.ended)
    status: Object = {}
    generation = pod["metadata"].get("generation")
    if generation:
        status["observedGeneration"] = generation
    decision = circumstances.decision
    if decision is not None:
        phase = decision.phase
        status["reason"] = decision.reason
        status["message"] = decision.message
    if previous.get("phase") in ("Succeeded", "Failed"):
        phase = previous["phase"]
        for name in ("reason", "message"):
            if name in previous:
                status[name] = previous[name]
    status["phase"] = phase
    ready = [_ready_to_start(runtime, ended=circumstances.ended), _initialized(pod, init, phase)]
    containers_ready = _containers_ready(regular, init, pod, phase)
    ready += [_pod_ready(pod, previous, containers_ready), containers_ready]
    status["conditions"] = [
        *_with_times(ready, previous, circumstances.now, generation),
        *_others(previous, circumstances.now, generation),
    ]
    _add_addresses(status, pod, runtime, circumstances, previous)
    status["startTime"] = circumstances.start_time
    if init:
        status["initContainerStatuses"] = init
    status["containerStatuses"] = regular
    status["qosClass"] = previous.get("qosClass") or quality_of_service(pod["spec"])
    return status


def _add_addresses(
    status: Object, pod: Object, runtime: PodRuntime, circumstances: Circumstances, previous: Object
) -> None:
    status["hostIP"] = circumstances.host_ips[0]
    status["hostIPs"] = [{"ip": ip} for ip in circumstances.host_ips]
    ips = circumstances.host_ips if host_network(pod) and runtime.sandbox is not None else runtime.ips
    if ips:
        status["podIP"] = ips[0]
        status["podIPs"] = [{"ip": ip} for ip in ips]
    elif circumstances.ended or status["phase"] in ("Succeeded", "Failed"):
        # A finished pod keeps the address that it had.
        for name in ("podIP", "podIPs"):
            if name in previous:
                status[name] = previous[name]


def _is_initialized(pod: Object, runtime: PodRuntime, started: Any) -> bool:
    if initialized_before(pod, runtime):
        return True
    for container in init_containers(pod):
        newest: ContainerStatus | None = runtime.newest(container["name"])
        if newest is None:
            return False
        if is_sidecar(container):
            if not (runtime.is_running(container["name"]) and started(newest)):
                return False
        elif not (newest.finished_at and newest.exit_code == 0):
            return False
    return True


def _condition(type: str, ok: bool, reason: str = "", message: str = "") -> Object:
    condition: Object = {"type": type, "status": "True" if ok else "False"}
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition


def _ready_to_start(runtime: PodRuntime, *, ended: bool) -> Object:
    return _condition("PodReadyToStartContainers", runtime.ready_sandbox is not None and not ended)


def _initialized(pod: Object, statuses: list[Object], phase: str) -> Object:
    if phase == "Succeeded":
        return _condition("Initialized", True, "PodCompleted")
    if phase == "Running":
        return _condition("Initialized", True)
    by_name = {status["name"]: status for status in statuses}
    incomplete = []
    for container in init_containers(pod):
        status = by_name[container["name"]]
        done = status["started"] if is_sidecar(container) else status["ready"]
        if not done:
            incomplete.append(container["name"])
    if incomplete:
        message = f"containers with incomplete status: [{' '.join(incomplete)}]"
        return _condition("Initialized", False, "ContainersNotInitialized", message)
    return _condition("Initialized", True)


def _containers_ready(statuses: list[Object], init: list[Object], pod: Object, phase: str) -> Object:
    if phase == "Succeeded":
        return _condition("ContainersReady", False, "PodCompleted")
    if phase == "Failed":
        return _condition("ContainersReady", False, "PodFailed")
    sidecars = {container["name"] for container in init_containers(pod) if is_sidecar(container)}
    counted = [status for status in init if status["name"] in sidecars] + statuses
    unready = [status["name"] for status in counted if not status["ready"]]
    if unready:
        message = f"containers with unready status: [{' '.join(unready)}]"
        return _condition("ContainersReady", False, "ContainersNotReady", message)
    return _condition("ContainersReady", True)


def _pod_ready(pod: Object, previous: Object, containers_ready: Object) -> Object:
    if containers_ready["status"] != "True":
        return containers_ready | {"type": "Ready"}
    found = {c["type"]: c["status"] for c in previous.get("conditions") or ()}
    problems = []
    for gate in pod["spec"].get("readinessGates") or ():
        type = gate["conditionType"]
        if type not in found:
            problems.append(f'corresponding condition of pod readiness gate "{type}" does not exist.')
        elif found[type] != "True":
            problems.append(f'the status of pod readiness gate "{type}" is not "True", but {found[type]}')
    if problems:
        return _condition("Ready", False, "ReadinessGatesNotReady", ", ".join(problems))
    return _condition("Ready", True)


def _with_times(conditions: list[Object], previous: Object, now: str, generation: Any) -> list[Object]:
    known = {c["type"]: c for c in previous.get("conditions") or ()}
    result = []
    for condition in conditions:
        old = known.get(condition["type"])
        same = old is not None and old["status"] == condition["status"]
        since = old.get("lastTransitionTime") if same and old is not None else None
        full = {"type": condition["type"]} | ({"observedGeneration": generation} if generation else {})
        full |= {"status": condition["status"], "lastProbeTime": None, "lastTransitionTime": since or now}
        full |= {name: condition[name] for name in ("reason", "message") if name in condition}
        result.append(full)
    return result


def _others(previous: Object, now: str, generation: Any) -> list[Object]:
    """PodScheduled, and whatever conditions others have set, as they are."""
    found = [c for c in previous.get("conditions") or () if c["type"] not in OWNED_CONDITIONS[:4]]
    if not any(c["type"] == "PodScheduled" for c in found):
        found += _with_times([_condition("PodScheduled", True)], previous, now, generation)
    return found


def status_patch(uid: str, previous: Object, status: Object) -> Object | None:
    """The strategic merge patch from one status to another, or None when they say the same."""
    changed: Object = {name: value for name, value in status.items() if previous.get(name) != value}
    if "conditions" in changed:
        # Only what changed: other conditions are others' to set, and may be newer on the server.
        known = {c["type"]: c for c in previous.get("conditions") or ()}
        order = [{"type": c["type"]} for c in status["conditions"]]
        changed["conditions"] = [
            {name: None for name in sorted(known.get(c["type"], {})) if name not in c} | c
            for c in status["conditions"]
            if known.get(c["type"]) != c
        ]
        changed["$setElementOrder/conditions"] = order
    owned = {"reason", "message", "podIP", "podIPs"}
    changed |= {name: None for name in sorted(owned) if name in previous and name not in status}
    if not changed:
        return None
    return {"metadata": {"uid": uid}, "status": changed}


def readiness_of(status: Mapping[str, Any]) -> bool:
    """Whether a status says Ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())
