"""The status of each container of a pod, as the API shows it, from what the runtime has."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from attrs import field, frozen

from understudy.components.boundary.cri import ContainerState, ContainerStatus
from understudy.components.machinery.quantity import canonical

from .pod_actions import should_restart
from .runtime_state import Object, PodRuntime, container_id, is_sidecar


@frozen
class Findings:
    """What the kubelet knows about a pod's containers beside the runtime."""

    started: Callable[[ContainerStatus], bool]
    """Of a running container: its startup probe, if it has one, has passed and its start is complete."""
    ready: Callable[[ContainerStatus], bool]
    """Of a started container: its readiness probe, if it has one, passes."""
    waiting: Mapping[str, tuple[str, str]]
    """By container name: reason and message of why it could not be started."""
    runtime_name: str = "containerd"
    """The scheme of container ids."""
    before: Mapping[str, Object] = field(factory=dict)
    """The container statuses before, by container name: what the runtime has lost shows only there."""


def time_text(nanoseconds: int) -> str | None:
    """A runtime's time as the API writes it; None for "not yet"."""
    if not nanoseconds:
        return None
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


LOST_EXIT_CODE = 137


def next_restart_count(before: Object | None) -> int:
    """The restart count of a container of which the runtime has nothing, by the status before."""
    if before is None:
        return 0
    return int(before.get("restartCount", 0)) + (1 if before.get("containerID") else 0)


def _lost_state() -> Object:
    return {
        "exitCode": LOST_EXIT_CODE,
        "reason": "ContainerStatusUnknown",
        "message": "The container could not be located when the pod was terminated",
        "startedAt": None,
        "finishedAt": None,
    }


def terminated_state(status: ContainerStatus, runtime_name: str) -> Object:
    """`state.terminated` of an exited container."""
    state: Object = {"exitCode": status.exit_code}
    if status.reason:
        state["reason"] = status.reason
    if status.message:
        state["message"] = status.message
    state["startedAt"] = time_text(status.started_at)
    state["finishedAt"] = time_text(status.finished_at)
    state["containerID"] = container_id(status, runtime_name)
    return state


def container_statuses(
    pod: Object,
    specs: list[Object],
    runtime: PodRuntime,
    findings: Findings,
    *,
    are_init: bool,
    initialized: bool,
    ending: bool,
) -> list[Object]:
    """One status for each container of `specs`: init containers in their order, others by name.

    `initialized`: the pod is past its init containers. `ending`: nothing will be started any more.
    """
    has_init = bool(pod["spec"].get("initContainers"))
    default = "PodInitializing" if has_init and not (initialized and not are_init) else "ContainerCreating"
    ordered = specs if are_init else sorted(specs, key=lambda spec: str(spec["name"]))
    return [
        _status(pod, spec, runtime, findings, are_init=are_init, default=default, ending=ending)
        for spec in ordered
    ]


def _status(
    pod: Object,
    spec: Object,
    runtime: PodRuntime,
    findings: Findings,
    *,
    are_init: bool,
    default: str,
    ending: bool,
) -> Object:
    name = spec["name"]
    known = runtime.all(name)
    newest = known[0] if known else None
    shown: Object = {
        "name": name,
        "state": {"waiting": {"reason": default}},
        "lastState": {},
        "ready": False,
        "restartCount": 0,
        "image": spec.get("image", ""),
        "imageID": "",
        "started": False,
    }
    if newest is None:
        _show_lost(shown, findings.before.get(name), ending=ending)
    else:
        shown["restartCount"] = newest.metadata.attempt
        shown["image"] = newest.image.image
        shown["imageID"] = newest.image_ref
        shown["containerID"] = container_id(newest, findings.runtime_name)
        _fill_state(shown, newest, known[1:], findings.runtime_name)
    _apply_waiting(pod, spec, shown, newest, findings, ending=ending)
    running = newest is not None and "running" in shown["state"]
    if running and newest is not None:
        shown["started"] = findings.started(newest)
    if are_init and not is_sidecar(spec):
        shown["ready"] = shown["state"].get("terminated", {}).get("exitCode") == 0
    elif running and newest is not None:
        shown["ready"] = shown["started"] and findings.ready(newest)
    if running:
        _add_resources(shown, spec)
    mounts = spec.get("volumeMounts")
    if mounts:
        shown["volumeMounts"] = [_mount(mount) for mount in mounts]
    return shown


def _show_lost(shown: Object, before: Object | None, *, ending: bool) -> None:
    """The runtime has nothing of this container: either it never was, or its record is lost."""
    shown["restartCount"] = next_restart_count(before)
    if before is None:
        return
    if "running" in before["state"]:
        if ending:
            shown["state"] = {"terminated": _lost_state()}
            shown["restartCount"] = before.get("restartCount", 0)
        else:
            shown["lastState"] = {"terminated": _lost_state()}
    elif "terminated" in before["state"] and ending:
        shown.update(before)
    else:
        shown["lastState"] = before["lastState"]


def _fill_state(
    shown: Object, newest: ContainerStatus, older: list[ContainerStatus], runtime_name: str
) -> None:
    if newest.state == ContainerState.RUNNING:
        shown["state"] = {"running": {"startedAt": time_text(newest.started_at)}}
    elif newest.state == ContainerState.EXITED:
        shown["state"] = {"terminated": terminated_state(newest, runtime_name)}
    elif newest.state == ContainerState.UNKNOWN:
        shown["state"] = {"terminated": _lost_state()}
    previous = next((status for status in older if status.state == ContainerState.EXITED), None)
    if previous is not None:
        shown["lastState"] = {"terminated": terminated_state(previous, runtime_name)}


def _apply_waiting(
    pod: Object,
    spec: Object,
    shown: Object,
    newest: ContainerStatus | None,
    findings: Findings,
    *,
    ending: bool,
) -> None:
    """A container that will be started, but could not be, is waiting: with the reason why."""
    why = findings.waiting.get(spec["name"])
    if why is None or ending:
        return
    if not should_restart(pod, spec, newest):
        return
    if newest is not None and newest.state == ContainerState.EXITED and _is_init_done(spec, pod, newest):
        return
    if "terminated" in shown["state"]:
        shown["lastState"] = shown["state"]
    shown["state"] = {"waiting": {"reason": why[0]} | ({"message": why[1]} if why[1] else {})}


def _is_init_done(spec: Object, pod: Object, newest: ContainerStatus) -> bool:
    names = [container["name"] for container in pod["spec"].get("initContainers") or ()]
    return spec["name"] in names and not is_sidecar(spec) and newest.exit_code == 0


def _add_resources(shown: Object, spec: Object) -> None:
    resources = spec.get("resources") or {}
    kept = {
        kind: {name: canonical(str(amount)) for name, amount in resources[kind].items()}
        for kind in ("limits", "requests")
        if resources.get(kind)
    }
    if "requests" in kept:
        shown["allocatedResources"] = kept["requests"]
    shown["resources"] = kept


def _mount(mount: Object) -> Object:
    shown = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        shown |= {"readOnly": True, "recursiveReadOnly": "Disabled"}
    return shown
