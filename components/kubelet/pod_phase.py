"""The phase of a pod, from the statuses of its containers; the kubelet's `getPhase`."""

from .runtime_state import Object, containers, init_containers, is_sidecar


def pod_phase(pod: Object, statuses: list[Object], init_statuses: list[Object], *, ended: bool) -> str:
    """Pending, Running, Succeeded or Failed. `ended`: nothing runs any more, and nothing will."""
    policy = pod["spec"].get("restartPolicy") or "Always"
    by_name = {status["name"]: status for status in (*init_statuses, *statuses)}
    pending_init, failed_init = _init_progress(pod, by_name)
    if failed_init and policy == "Never":
        return "Failed"
    waiting = running = stopped = succeeded = 0
    for container in containers(pod):
        state = by_name[container["name"]]["state"]
        last = by_name[container["name"]]["lastState"]
        if "running" in state:
            running += 1
        elif "terminated" in state:
            stopped += 1
            succeeded += state["terminated"]["exitCode"] == 0
        elif "terminated" in last:
            stopped += 1
        else:
            waiting += 1
    if ended and stopped:
        return "Succeeded" if stopped == succeeded and not waiting else "Failed"
    if ended and not running:
        # Deleted, or failed by decision, before anything had run.
        return "Failed"
    if pending_init or waiting:
        return "Pending"
    if running or policy == "Always" or (stopped != succeeded and policy == "OnFailure"):
        return "Running"
    if any(_sidecar_runs(container, by_name) for container in init_containers(pod)):
        return "Running"
    return "Succeeded" if stopped == succeeded else "Failed"


def _sidecar_runs(container: Object, by_name: dict[str, Object]) -> bool:
    return is_sidecar(container) and "running" in by_name[container["name"]]["state"]


def _init_progress(pod: Object, by_name: dict[str, Object]) -> tuple[int, int]:
    """(init containers that hold up the pod, init containers that failed)"""
    begun = any(
        "waiting" not in by_name[c["name"]]["state"] or by_name[c["name"]]["lastState"]
        for c in containers(pod)
    )
    if begun:
        return 0, 0
    pending = failed = 0
    for container in init_containers(pod):
        status = by_name[container["name"]]
        state = status["state"]
        if is_sidecar(container):
            pending += not ("running" in state and status["started"])
            continue
        terminated = state.get("terminated") or status["lastState"].get("terminated")
        if "terminated" in state and terminated["exitCode"] == 0:
            continue
        if terminated and terminated["exitCode"] != 0:
            failed += 1
        pending += 1
    return pending, failed
