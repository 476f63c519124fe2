"""What the runtime has of one pod, and how the kubelet's names are written on it."""

from typing import Any

from attrs import field, frozen

from understudy.components.boundary import cri
from understudy.components.boundary.cri import ContainerState, ContainerStatus, PodSandboxState

Object = dict[str, Any]

POD_NAME_LABEL = "io.kubernetes.pod.name"
POD_NAMESPACE_LABEL = "io.kubernetes.pod.namespace"
POD_UID_LABEL = "io.kubernetes.pod.uid"
CONTAINER_NAME_LABEL = "io.kubernetes.container.name"
HASH_ANNOTATION = "io.kubernetes.container.hash"
RESTART_COUNT_ANNOTATION = "io.kubernetes.container.restartCount"
PORTS_ANNOTATION = "io.kubernetes.container.ports"


@frozen
class PodRuntime:
    """The sandboxes and containers of one pod."""

    sandboxes: tuple[cri.PodSandboxStatus, ...] = ()
    """Newest first."""
    containers: tuple[ContainerStatus, ...] = ()
    """Of all sandboxes, newest first."""
    _by_name: dict[str, list[ContainerStatus]] = field(factory=dict, init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        for status in self.containers:
            self._by_name.setdefault(status.metadata.name, []).append(status)

    @classmethod
    def of(cls, replies: list[cri.PodSandboxStatusReply]) -> "PodRuntime":
        """Put together what the runtime answered for each sandbox."""
        sandboxes = sorted(
            (reply.status for reply in replies),
            key=lambda s: (s.metadata.attempt, s.created_at),
            reverse=True,
        )
        containers = sorted(
            (container for reply in replies for container in reply.containers),
            key=lambda c: (c.metadata.attempt, c.created_at),
            reverse=True,
        )
        return cls(tuple(sandboxes), tuple(containers))

    @property
    def sandbox(self) -> cri.PodSandboxStatus | None:
        """The newest sandbox."""
        return self.sandboxes[0] if self.sandboxes else None

    @property
    def ready_sandbox(self) -> cri.PodSandboxStatus | None:
        """The newest sandbox if it is up."""
        sandbox = self.sandbox
        return sandbox if sandbox is not None and sandbox.state == PodSandboxState.READY else None

    @property
    def ips(self) -> tuple[str, ...]:
        """The pod's addresses."""
        return self.sandboxes[0].ips if self.sandboxes else ()

    def newest(self, name: str) -> ContainerStatus | None:
        """The last container of that name."""
        found = self._by_name.get(name)
        return found[0] if found else None

    def all(self, name: str) -> list[ContainerStatus]:
        """Every container of that name, newest first."""
        return self._by_name.get(name, [])

    def is_running(self, name: str) -> bool:
        """Whether the last container of that name runs."""
        status = self.newest(name)
        return status is not None and status.state == ContainerState.RUNNING

    @property
    def running(self) -> list[ContainerStatus]:
        """Every container that runs, newest first."""
        return [status for status in self.containers if status.state == ContainerState.RUNNING]


def init_containers(pod: Object) -> list[Object]:
    """The pod's init containers, sidecars among them."""
    return pod["spec"].get("initContainers") or []


def containers(pod: Object) -> list[Object]:
    """The pod's regular containers."""
    return pod["spec"]["containers"]  # type: ignore[no-any-return]


def is_sidecar(container: Object) -> bool:
    """Whether an init container goes on running beside the others."""
    return bool(container.get("restartPolicy") == "Always")


def container_id(status: ContainerStatus, runtime_name: str) -> str:
    """As the pod's status shows it."""
    return f"{runtime_name}://{status.id}"


def host_network(pod: Object) -> bool:
    """Whether the pod uses its node's network."""
    return bool(pod["spec"].get("hostNetwork"))


def pod_label(pod: Object) -> str:
    """How messages name a pod: `name_namespace(uid)`."""
    metadata = pod["metadata"]
    return f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
