"""What to do next about a pod: from its specification and what the runtime has, without I/O.

The rules are those of the kubelet's runtime manager: the sandbox first, then init containers one after
another (a sidecar counts as done once it has started), then all others at once; a container is restarted by
its restart policy, when its probe says so, or when its image changed.
"""

import hashlib
from collections.abc import Callable, Collection
from typing import Any

from attrs import frozen

from understudy.components.boundary.cri import ContainerState, ContainerStatus

from .runtime_state import (
    HASH_ANNOTATION,
    Object,
    PodRuntime,
    containers,
    host_network,
    init_containers,
    is_sidecar,
)


@frozen
class Kill:
    """A container to be killed, and what the event says."""

    name: str
    container_id: str
    message: str
    restart: bool
    """Whether it is started again in the same round."""


@frozen
class Actions:
    """One round of work for a pod."""

    kill_pod: bool = False
    """Stop everything, the sandbox included: the pod is finished, or gets a new sandbox."""
    create_sandbox: bool = False
    attempt: int = 0
    """Of the sandbox to create."""
    kill: tuple[Kill, ...] = ()
    start: tuple[str, ...] = ()
    """Names of the containers to start, in order; at most one of them is an init container."""

    @property
    def nothing(self) -> bool:
        """Everything is as it should be."""
        return not (self.kill_pod or self.create_sandbox or self.kill or self.start)


@frozen
class Verdicts:
    """What the probes have found out."""

    started: Callable[[ContainerStatus], bool] = lambda _: True
    """Whether a running container has passed its startup probe, if it has one."""
    unhealthy: Collection[tuple[str, str]] = ()
    """(container id, `liveness` or `startup`) of those that failed such a probe."""

    def failed(self, container_id: str) -> str | None:
        """Which probe a container has failed."""
        return next((probe for failed_id, probe in self.unhealthy if failed_id == container_id), None)


def compute_actions(pod: Object, runtime: PodRuntime, verdicts: Verdicts) -> Actions:
    """What to do next. The pod is not being deleted and has not reached its end by decision."""
    changed, attempt = _sandbox_changed(pod, runtime)
    if changed:
        return _with_new_sandbox(pod, runtime, attempt)
    wanted, kill, failed = _init_actions(pod, runtime, verdicts)
    if failed:
        return Actions(kill_pod=True)
    if wanted is not None:
        return Actions(start=wanted, kill=tuple(kill))
    sidecars, sidecar_kills = _sidecar_restarts(pod, runtime, verdicts)
    start: list[str] = []
    kept = 0
    kill = sidecar_kills
    for container in containers(pod):
        name = container["name"]
        status = runtime.newest(name)
        if status is None or status.state != ContainerState.RUNNING:
            if should_restart(pod, container, status):
                start.append(name)
            continue
        reason, restart = _why_kill(pod, container, status, verdicts)
        if reason is None:
            kept += 1
            continue
        kill.append(Kill(name, status.id, reason, restart))
        if restart:
            start.append(name)
    if not kept and not start and not kill:
        return Actions(kill_pod=True)
    return Actions(kill=tuple(kill), start=(*sidecars, *start))


def _sandbox_changed(pod: Object, runtime: PodRuntime) -> tuple[bool, int]:
    newest = runtime.sandbox
    if newest is None:
        return True, 0
    if runtime.ready_sandbox is None or (not newest.ips and not host_network(pod)):
        return True, newest.metadata.attempt + 1
    return False, newest.metadata.attempt


def _with_new_sandbox(pod: Object, runtime: PodRuntime, attempt: int) -> Actions:
    kill_pod = runtime.sandbox is not None
    if attempt and runtime.containers and pod["spec"].get("restartPolicy") == "Never":
        return Actions(kill_pod=kill_pod)
    wanted = [c["name"] for c in containers(pod) if should_restart(pod, c, runtime.newest(c["name"]))]
    if not wanted:
        return Actions(kill_pod=kill_pod)
    first = init_containers(pod)[:1]
    start = (first[0]["name"],) if first else tuple(wanted)
    return Actions(kill_pod, True, attempt, (), start)


def initialized_before(pod: Object, runtime: PodRuntime) -> bool:
    """Whether the pod got past its init containers in this sandbox: then they do not run again."""
    sandbox = runtime.sandbox
    return sandbox is not None and any(
        status.pod_sandbox_id == sandbox.id and status.state != ContainerState.CREATED
        for container in containers(pod)
        for status in runtime.all(container["name"])
    )


def _init_actions(
    pod: Object, runtime: PodRuntime, verdicts: Verdicts
) -> tuple[tuple[str, ...] | None, list[Kill], bool]:
    """(names to start or () to wait, or None once all init containers are done; kills; the pod has failed)"""
    sandbox = runtime.ready_sandbox
    assert sandbox is not None
    if initialized_before(pod, runtime):
        return None, [], False
    restarts: list[str] = []
    kill: list[Kill] = []
    for container in init_containers(pod):
        name = container["name"]
        status = runtime.newest(name)
        if status is None or status.pod_sandbox_id != sandbox.id:
            return (*restarts, name), kill, False
        if is_sidecar(container):
            if status.state != ContainerState.RUNNING:
                restarts.append(name)
                if not _sidecar_started(pod, runtime, name):
                    return tuple(restarts), kill, False
                continue
            reason, restart = _why_kill(pod, container, status, verdicts)
            if reason is not None:
                kill.append(Kill(name, status.id, reason, restart))
                restarts.append(name)
                continue
            if not verdicts.started(status):
                return tuple(restarts), kill, False
            continue
        if status.state == ContainerState.RUNNING:
            return tuple(restarts), kill, False
        if status.state == ContainerState.EXITED and status.exit_code == 0:
            continue
        if status.state == ContainerState.EXITED and pod["spec"].get("restartPolicy") == "Never":
            return (), [], True
        return (*restarts, name), kill, False
    return (tuple(restarts), kill, False) if restarts else (None, [], False)


def _sidecar_started(pod: Object, runtime: PodRuntime, name: str) -> bool:
    """Whether a later container exists, so that this sidecar had started once."""
    names = [container["name"] for container in init_containers(pod)]
    later = names[names.index(name) + 1 :]
    return any(runtime.newest(other) is not None for other in later)


def _sidecar_restarts(pod: Object, runtime: PodRuntime, verdicts: Verdicts) -> tuple[list[str], list[Kill]]:
    start: list[str] = []
    kill: list[Kill] = []
    for container in init_containers(pod):
        if not is_sidecar(container):
            continue
        name = container["name"]
        status = runtime.newest(name)
        if status is None or status.state != ContainerState.RUNNING:
            start.append(name)
            continue
        reason, restart = _why_kill(pod, container, status, verdicts)
        if reason is not None:
            kill.append(Kill(name, status.id, reason, restart))
            start.append(name)
    return start, kill


def _why_kill(
    pod: Object, container: Object, status: ContainerStatus, verdicts: Verdicts
) -> tuple[str | None, bool]:
    """Why a running container must go, and whether it comes back."""
    name = container["name"]
    if status.annotations.get(HASH_ANNOTATION, "") != container_hash(container):
        return f"Container {name} definition changed, will be restarted", True
    probe = verdicts.failed(status.id)
    if probe is None:
        return None, True
    restart = restart_policy(pod, container) != "Never"
    ending = ", will be restarted" if restart else ""
    return f"Container {name} failed {probe} probe{ending}", restart


def restart_policy(pod: Object, container: Object) -> str:
    """The container's own policy, or else the pod's."""
    return str(container.get("restartPolicy") or pod["spec"].get("restartPolicy") or "Always")


def should_restart(pod: Object, container: Object, status: ContainerStatus | None) -> bool:
    """Whether a container that does not run is to be started."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    if status is None or status.state in (ContainerState.CREATED, ContainerState.UNKNOWN):
        return True
    if status.state == ContainerState.RUNNING:
        return False
    for rule in container.get("restartPolicyRules") or ():
        if rule.get("action") == "Restart" and _matches(rule.get("exitCodes") or {}, status.exit_code):
            return True
    policy = restart_policy(pod, container)
    if policy == "Never":
        return False
    return not (policy == "OnFailure" and status.exit_code == 0)


def _matches(exit_codes: dict[str, Any], code: int) -> bool:
    inside = code in (exit_codes.get("values") or ())
    return inside if exit_codes.get("operator") == "In" else not inside


def container_hash(container: Object) -> str:
    """Changes when a running container must be replaced: only name and image count."""
    text = f"{container['name']}\0{container.get('image', '')}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def is_finished(pod: Object, runtime: PodRuntime) -> bool:
    """Whether every container has ended and none is started again."""
    for container in init_containers(pod):
        if is_sidecar(container):
            continue
        status = runtime.newest(container["name"])
        if status is None:
            break
        if status.state == ContainerState.EXITED and status.exit_code != 0:
            if pod["spec"].get("restartPolicy") == "Never" and not initialized_before(pod, runtime):
                return True
            break
    for container in containers(pod):
        status = runtime.newest(container["name"])
        if status is None or status.state != ContainerState.EXITED:
            return False
        if should_restart(pod, container, status):
            return False
    return True
