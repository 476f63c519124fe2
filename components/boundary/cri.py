"""The container runtime interface as messages: CRI `runtime.v1`, names and meanings kept.

Each request class names its answer in its docstring ("Answer: ..."). A call that fails raises
:class:`CriError`, whose code is a gRPC status code, because that is what real runtimes answer and what
the kubelet decides by. Calls are idempotent where CRI says so: stopping or removing what is stopped or
gone succeeds. Times are integer nanoseconds since the Unix epoch, as in CRI; 0 means "not yet".

Two messages are not in CRI. :class:`ReadContainerLog` stands for the kubelet reading the log file that
the runtime writes. :class:`GetContainerEvents` is CRI's server stream turned into a long poll; a runtime
without events answers `UNIMPLEMENTED` and the kubelet relists instead.
"""

from collections.abc import Mapping
from enum import Enum, IntEnum

from attrs import field, frozen

API_VERSION = "v1"


class CriCode(IntEnum):
    """The gRPC status codes that runtimes answer with."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


@frozen
class CriError(Exception):
    """A call that the runtime could not do."""

    code: CriCode
    message: str

    def __str__(self) -> str:
        return f"rpc error: code = {_go_name(self.code)} desc = {self.message}"


def _go_name(code: CriCode) -> str:
    return "".join(part.capitalize() for part in code.name.split("_"))


class PodSandboxState(IntEnum):
    READY = 0
    NOT_READY = 1


class ContainerState(IntEnum):
    CREATED = 0
    RUNNING = 1
    EXITED = 2
    UNKNOWN = 3


class NamespaceMode(IntEnum):
    """Whose Linux namespace is used: the pod's, the container's own, or the node's."""

    POD = 0
    CONTAINER = 1
    NODE = 2


# --------------------------------------------------------------------------- pod sandboxes


@frozen
class PodSandboxMetadata:
    """What makes a sandbox unique: a runtime refuses a second sandbox with the same metadata."""

    name: str
    uid: str
    namespace: str
    attempt: int = 0
    """Counts the sandboxes that this pod has had on this node, from 0."""


@frozen
class DNSConfig:
    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@frozen
class PortMapping:
    container_port: int
    host_port: int = 0
    protocol: str = "TCP"
    host_ip: str = ""


@frozen
class PodSandboxConfig:
    metadata: PodSandboxMetadata
    hostname: str = ""
    log_directory: str = ""
    """Where container logs go on the node; a container's `log_path` is relative to it."""
    dns_config: DNSConfig = DNSConfig()
    port_mappings: tuple[PortMapping, ...] = ()
    labels: Mapping[str, str] = field(factory=dict)
    annotations: Mapping[str, str] = field(factory=dict)
    cgroup_parent: str = ""
    network_namespace: NamespaceMode = NamespaceMode.POD
    pid_namespace: NamespaceMode = NamespaceMode.CONTAINER
    ipc_namespace: NamespaceMode = NamespaceMode.POD
    sysctls: Mapping[str, str] = field(factory=dict)


@frozen
class PodSandbox:
    """One sandbox as lists show it."""

    id: str
    metadata: PodSandboxMetadata
    state: PodSandboxState
    created_at: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    runtime_handler: str


@frozen
class PodSandboxStatus:
    id: str
    metadata: PodSandboxMetadata
    state: PodSandboxState
    created_at: int
    ips: tuple[str, ...]
    """The pod's addresses, the primary one first; empty with the node's network."""
    network_namespace: NamespaceMode
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    runtime_handler: str


@frozen
class RunPodSandbox:
    """Make a sandbox with its network and start it. Answer: :class:`RunPodSandboxReply`."""

    config: PodSandboxConfig
    runtime_handler: str = ""
    """The handler of the pod's RuntimeClass; "" is the runtime's default."""


@frozen
class RunPodSandboxReply:
    pod_sandbox_id: str


@frozen
class StopPodSandbox:
    """Kill what runs in the sandbox and take its network down; idempotent. Answer: `Done`."""

    pod_sandbox_id: str


@frozen
class RemovePodSandbox:
    """Remove the sandbox and its containers, killing what still runs; idempotent. Answer: `Done`."""

    pod_sandbox_id: str


@frozen
class GetPodSandboxStatus:
    """CRI's `PodSandboxStatus` call. Answer: :class:`PodSandboxStatusReply`; NOT_FOUND when gone."""

    pod_sandbox_id: str


@frozen
class PodSandboxStatusReply:
    status: PodSandboxStatus
    containers: tuple["ContainerStatus", ...] = ()


@frozen
class ListPodSandbox:
    """Sandboxes that fit all given filters. Answer: :class:`ListPodSandboxReply`."""

    id: str | None = None
    state: PodSandboxState | None = None
    label_selector: Mapping[str, str] = field(factory=dict)


@frozen
class ListPodSandboxReply:
    items: tuple[PodSandbox, ...]
    """In order of creation."""


# --------------------------------------------------------------------------- containers


@frozen
class ContainerMetadata:
    name: str
    attempt: int = 0
    """The restart count of the container when this one was created."""


@frozen
class ImageSpec:
    image: str
    """A reference (`nginx:1.27`) when asked for, an image id when answered."""
    user_specified_image: str = ""


class MountPropagation(IntEnum):
    PRIVATE = 0
    HOST_TO_CONTAINER = 1
    BIDIRECTIONAL = 2


@frozen
class Mount:
    container_path: str
    host_path: str
    readonly: bool = False
    propagation: MountPropagation = MountPropagation.PRIVATE


@frozen
class LinuxContainerResources:
    """Limits in the kernel's terms; 0 means not set."""

    cpu_period: int = 0
    """Microseconds."""
    cpu_quota: int = 0
    """Microseconds of CPU in each period."""
    cpu_shares: int = 0
    memory_limit_in_bytes: int = 0
    oom_score_adj: int = 0


@frozen
class LinuxContainerSecurityContext:
    privileged: bool = False
    run_as_user: int | None = None
    run_as_group: int | None = None
    readonly_rootfs: bool = False
    supplemental_groups: tuple[int, ...] = ()
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()


@frozen
class ContainerConfig:
    metadata: ContainerMetadata
    image: ImageSpec
    command: tuple[str, ...] = ()
    """Replaces the image's entry point when not empty."""
    args: tuple[str, ...] = ()
    """Replaces the image's CMD when not empty."""
    working_dir: str = ""
    envs: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    labels: Mapping[str, str] = field(factory=dict)
    annotations: Mapping[str, str] = field(factory=dict)
    log_path: str = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    resources: LinuxContainerResources = LinuxContainerResources()
    security_context: LinuxContainerSecurityContext = LinuxContainerSecurityContext()
    stop_signal: str = ""


@frozen
class Container:
    """One container as lists show it."""

    id: str
    pod_sandbox_id: str
    metadata: ContainerMetadata
    image: ImageSpec
    image_ref: str
    state: ContainerState
    created_at: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@frozen
class ContainerStatus:
    id: str
    pod_sandbox_id: str
    metadata: ContainerMetadata
    state: ContainerState
    created_at: int
    started_at: int
    finished_at: int
    exit_code: int
    """Meaningful when EXITED; 128 + the signal's number after a kill."""
    image: ImageSpec
    image_ref: str
    """The image's digest or id, as the pod's `imageID` shows it."""
    reason: str
    """`Completed`, `Error`, `OOMKilled`, `StartError`; empty while running."""
    message: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    log_path: str
    """Whole path on the node."""
    resources: LinuxContainerResources = LinuxContainerResources()


@frozen
class CreateContainer:
    """Create a container in a sandbox, not started. Answer: :class:`CreateContainerReply`."""

    pod_sandbox_id: str
    config: ContainerConfig
    sandbox_config: PodSandboxConfig


@frozen
class CreateContainerReply:
    container_id: str


@frozen
class StartContainer:
    """Start a created container. Answer: `Done`."""

    container_id: str


@frozen
class StopContainer:
    """Stop signal, then kill after `timeout_seconds`; idempotent. Answer: `Done`, once it has exited."""

    container_id: str
    timeout_seconds: float = 0.0


@frozen
class RemoveContainer:
    """Remove a container, killing it if it runs; idempotent. Answer: `Done`."""

    container_id: str


@frozen
class ListContainers:
    """Containers that fit all given filters. Answer: :class:`ListContainersReply`."""

    id: str | None = None
    pod_sandbox_id: str | None = None
    state: ContainerState | None = None
    label_selector: Mapping[str, str] = field(factory=dict)


@frozen
class ListContainersReply:
    containers: tuple[Container, ...]
    """In order of creation."""


@frozen
class GetContainerStatus:
    """CRI's `ContainerStatus` call. Answer: :class:`ContainerStatusReply`; NOT_FOUND when gone."""

    container_id: str


@frozen
class ContainerStatusReply:
    status: ContainerStatus


@frozen
class UpdateContainerResources:
    """Change a running container's limits in place. Answer: `Done`."""

    container_id: str
    resources: LinuxContainerResources


@frozen
class ExecSync:
    """Run a command in a running container and wait for it. Answer: :class:`ExecSyncReply`.

    DEADLINE_EXCEEDED after `timeout_seconds` (0: no limit); the command is killed then.
    """

    container_id: str
    cmd: tuple[str, ...]
    timeout_seconds: float = 0.0


@frozen
class ExecSyncReply:
    stdout: bytes
    stderr: bytes
    exit_code: int


class LogStream(Enum):
    STDOUT = "stdout"
    STDERR = "stderr"


@frozen
class LogLine:
    """One line of a CRI log: `<time> <stream> <P|F> <content>`."""

    timestamp: int
    stream: LogStream
    content: bytes
    """Without the line's end."""
    partial: bool = False
    """Tag `P`: the next line of the stream goes on with this one."""


@frozen
class ReadContainerLog:
    """Lines of a container's log from a cursor on. Answer: :class:`ReadContainerLogReply`.

    Works for exited containers until they are removed; NOT_FOUND afterwards. With `wait` the answer comes
    when there is a line after the cursor or the container can write no more: `kubectl logs -f` is a loop
    of these.
    """

    container_id: str
    cursor: int = 0
    """0 is the log's beginning; otherwise the cursor of an earlier answer."""
    limit_lines: int = 1000
    wait: bool = False


@frozen
class ReadContainerLogReply:
    lines: tuple[LogLine, ...]
    cursor: int
    """Where the next read goes on."""
    ended: bool
    """The container has exited and `lines` reaches the log's end."""


# --------------------------------------------------------------------------- images


@frozen
class AuthConfig:
    username: str = ""
    password: str = ""
    server_address: str = ""
    identity_token: str = ""
    registry_token: str = ""


@frozen
class Image:
    id: str
    repo_tags: tuple[str, ...]
    repo_digests: tuple[str, ...]
    size: int
    """Bytes."""
    uid: int | None = None
    username: str = ""
    pinned: bool = False


@frozen
class PullImage:
    """Fetch an image. Answer: :class:`PullImageReply`; NOT_FOUND, UNKNOWN or UNAVAILABLE when it fails."""

    image: ImageSpec
    auth: AuthConfig | None = None
    sandbox_config: PodSandboxConfig | None = None


@frozen
class PullImageReply:
    image_ref: str


@frozen
class GetImageStatus:
    """CRI's `ImageStatus` call. Answer: :class:`ImageStatusReply`, whose image is None when absent."""

    image: ImageSpec


@frozen
class ImageStatusReply:
    image: Image | None


@frozen
class ListImages:
    """Answer: :class:`ListImagesReply`."""

    image: ImageSpec | None = None


@frozen
class ListImagesReply:
    images: tuple[Image, ...]
    """Sorted by id."""


@frozen
class RemoveImage:
    """Idempotent. Answer: `Done`."""

    image: ImageSpec


# --------------------------------------------------------------------------- the runtime itself


@frozen
class Version:
    """Answer: :class:`VersionReply`."""

    version: str = API_VERSION


@frozen
class VersionReply:
    version: str
    runtime_name: str
    runtime_version: str
    runtime_api_version: str


@frozen
class RuntimeCondition:
    """`RuntimeReady` and `NetworkReady` are the two that every runtime must answer."""

    type: str
    status: bool
    reason: str = ""
    message: str = ""


@frozen
class Status:
    """Answer: :class:`StatusReply`."""


@frozen
class StatusReply:
    conditions: tuple[RuntimeCondition, ...]
    runtime_handlers: tuple[str, ...] = ("",)


class ContainerEventType(IntEnum):
    CREATED = 0
    STARTED = 1
    STOPPED = 2
    DELETED = 3


@frozen
class ContainerEvent:
    """Something happened to a container, or to a sandbox (then `container_id` is the sandbox's id)."""

    sequence: int
    container_id: str
    pod_sandbox_id: str
    pod_uid: str
    type: ContainerEventType
    created_at: int


@frozen
class GetContainerEvents:
    """Events after a sequence number, waiting until there is one. Answer: :class:`ContainerEventsReply`.

    UNIMPLEMENTED from a runtime without events.
    """

    after: int = 0


@frozen
class ContainerEventsReply:
    events: tuple[ContainerEvent, ...]
    latest: int
    """The `after` of the next call."""
    lost: bool = False
    """Events after `after` were already dropped: relist."""


@frozen
class Done:
    """The answer of calls that only succeed."""
