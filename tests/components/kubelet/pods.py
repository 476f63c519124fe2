"""Pods and what a runtime has of them, for tests."""

from typing import Any

from understudy.components.boundary import cri
from understudy.components.kubelet.pod_actions import container_hash
from understudy.components.kubelet.runtime_state import HASH_ANNOTATION, PodRuntime

Object = dict[str, Any]


def container(name: str = "main", image: str = "nginx", **fields: Any) -> Object:
    return {"name": name, "image": image, **fields}


def pod(*containers: Object, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "uid": "uid-web", "generation": 1},
        "spec": {"containers": list(containers) or [container()], "restartPolicy": "Always", **spec},
        "status": {},
    }


def sandbox(attempt: int = 0, ready: bool = True, ip: str = "10.0.0.2") -> cri.PodSandboxStatus:
    state = cri.PodSandboxState.READY if ready else cri.PodSandboxState.NOT_READY
    metadata = cri.PodSandboxMetadata("web", "uid-web", "default", attempt)
    ips = (ip,) if ip else ()
    return cri.PodSandboxStatus(
        f"sandbox-{attempt}", metadata, state, 1 + attempt, ips, cri.NamespaceMode.POD, {}, {}, ""
    )


def status(
    spec: Object, state: str, exit_code: int = 0, attempt: int = 0, sandbox_id: str = "sandbox-0"
) -> cri.ContainerStatus:
    found = cri.ContainerState[state.upper()]
    exited = found is cri.ContainerState.EXITED
    seconds = 1_767_225_600 + 100 * attempt
    return cri.ContainerStatus(
        id=f"{spec['name']}-{attempt}",
        pod_sandbox_id=sandbox_id,
        metadata=cri.ContainerMetadata(spec["name"], attempt),
        state=found,
        created_at=seconds * 10**9,
        started_at=0 if found is cri.ContainerState.CREATED else seconds * 10**9,
        finished_at=(seconds + 5) * 10**9 if exited else 0,
        exit_code=exit_code,
        image=cri.ImageSpec(spec["image"]),
        image_ref=f"{spec['image']}@sha256:0",
        reason=("Completed" if exit_code == 0 else "Error") if exited else "",
        message="",
        labels={},
        annotations={HASH_ANNOTATION: container_hash(spec)},
        log_path="",
    )


def runtime(*statuses: cri.ContainerStatus, box: cri.PodSandboxStatus | None = None) -> PodRuntime:
    found = box or sandbox()
    return PodRuntime.of([cri.PodSandboxStatusReply(found, statuses)])
