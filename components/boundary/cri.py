"""The container runtime interface as messages: CRI `runtime.v1`, names and meanings kept.

Each request class names its answer in its base. A call that fails is refused with :class:`CriError`,
whose code is a gRPC status code, because that is what real runtimes answer and what the kubelet decides
by. Calls are idempotent where CRI says so: stopping or removing what is stopped or gone succeeds. Times
are integer nanoseconds since the Unix epoch, as in CRI; 0 means "not yet".

CRI's server stream of events is a channel here. One message is not in CRI: :class:`StreamContainerLog`
stands for the kubelet reading, and following, the log file that the runtime writes.
"""

from collections.abc import Mapping
from enum import Enum, IntEnum

from attrs import field, frozen

from understudy.actors import ChannelWriter
from understudy.mailbox import Refusal, Request, message

API_VERSION = "v1"


class ContainerRuntime:
    """Protocol of a container runtime and its image service."""


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


@message("cri.cri_error")
@frozen
class CriError(Refusal):
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


@message("cri.pod_sandbox_metadata")
@frozen
class PodSandboxMetadata:
    """What makes a sandbox unique: a runtime refuses a second sandbox with the same metadata."""

    name: str
    uid: str
    namespace: str
    attempt: int = 0
    """Counts the sandboxes that this pod has had on this node, from 0."""


@message("cri.dns_config")
@frozen
class DNSConfig:
    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@message("cri.port_mapping")
@frozen
class PortMapping:
    container_port: int
    host_port: int = 0
    protocol: str = "TCP"
    host_ip: str = ""


@message("cri.pod_sandbox_config")
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


@message("cri.pod_sandbox")
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


@message("cri.pod_sandbox_status")
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


@message("cri.run_pod_sandbox")
@frozen
class RunPodSandbox(Request[ContainerRuntime, "RunPodSandboxReply"]):
    """Make a sandbox with its network and start it."""

    config: PodSandboxConfig
    runtime_handler: str = ""
    """The handler of the pod's RuntimeClass; "" is the runtime's default."""


@message("cri.run_pod_sandbox_reply")
@frozen
class RunPodSandboxReply:
    pod_sandbox_id: str


@message("cri.stop_pod_sandbox")
@frozen
class StopPodSandbox(Request[ContainerRuntime, "Done"]):
    """Kill what runs in the sandbox and take its network down; idempotent."""

    pod_sandbox_id: str


@message("cri.remove_pod_sandbox")
@frozen
class RemovePodSandbox(Request[ContainerRuntime, "Done"]):
    """Remove the sandbox and its containers, killing what still runs; idempotent."""

    pod_sandbox_id: str


@message("cri.get_pod_sandbox_status")
@frozen
class GetPodSandboxStatus(Request[ContainerRuntime, "PodSandboxStatusReply"]):
    """CRI's `PodSandboxStatus` call; NOT_FOUND when gone."""

    pod_sandbox_id: str


@message("cri.pod_sandbox_status_reply")
@frozen
class PodSandboxStatusReply:
    status: PodSandboxStatus
    containers: tuple["ContainerStatus", ...] = ()


@message("cri.list_pod_sandbox")
@frozen
class ListPodSandbox(Request[ContainerRuntime, "ListPodSandboxReply"]):
    """Sandboxes that fit all given filters."""

    id: str | None = None
    state: PodSandboxState | None = None
    label_selector: Mapping[str, str] = field(factory=dict)


@message("cri.list_pod_sandbox_reply")
@frozen
class ListPodSandboxReply:
    items: tuple[PodSandbox, ...]
    """In order of creation."""


# --------------------------------------------------------------------------- containers


@message("cri.container_metadata")
@frozen
class ContainerMetadata:
    name: str
    attempt: int = 0
    """The restart count of the container when this one was created."""


@message("cri.image_spec")
@frozen
class ImageSpec:
    image: str
    """A reference (`nginx:1.27`) when asked for, an image id when answered."""
    user_specified_image: str = ""


class MountPropagation(IntEnum):
    PRIVATE = 0
    HOST_TO_CONTAINER = 1
    BIDIRECTIONAL = 2


@message("cri.mount")
@frozen
class Mount:
    container_path: str
    host_path: str
    readonly: bool = False
    propagation: MountPropagation = MountPropagation.PRIVATE


@message("cri.linux_container_resources")
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


@message("cri.linux_container_security_context")
@frozen
class LinuxContainerSecurityContext:
    privileged: bool = False
    run_as_user: int | None = None
    run_as_group: int | None = None
    readonly_rootfs: bool = False
    supplemental_groups: tuple[int, ...] = ()
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()


@message("cri.container_config")
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


@message("cri.container")
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


@message("cri.container_status")
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


@message("cri.create_container")
@frozen
class CreateContainer(Request[ContainerRuntime, "CreateContainerReply"]):
    """Create a container in a sandbox, not started."""

    pod_sandbox_id: str
    config: ContainerConfig
    sandbox_config: PodSandboxConfig


@message("cri.create_container_reply")
@frozen
class CreateContainerReply:
    container_id: str


@message("cri.start_container")
@frozen
class StartContainer(Request[ContainerRuntime, "Done"]):
    """Start a created container."""

    container_id: str


@message("cri.stop_container")
@frozen
class StopContainer(Request[ContainerRuntime, "Done"]):
    """Stop signal, then kill after `timeout_seconds`; idempotent. The answer comes once it has exited."""

    container_id: str
    timeout_seconds: float = 0.0


@message("cri.remove_container")
@frozen
class RemoveContainer(Request[ContainerRuntime, "Done"]):
    """Remove a container, killing it if it runs; idempotent."""

    container_id: str


@message("cri.list_containers")
@frozen
class ListContainers(Request[ContainerRuntime, "ListContainersReply"]):
    """Containers that fit all given filters."""

    id: str | None = None
    pod_sandbox_id: str | None = None
    state: ContainerState | None = None
    label_selector: Mapping[str, str] = field(factory=dict)


@message("cri.list_containers_reply")
@frozen
class ListContainersReply:
    containers: tuple[Container, ...]
    """In order of creation."""


@message("cri.get_container_status")
@frozen
class GetContainerStatus(Request[ContainerRuntime, "ContainerStatusReply"]):
    """CRI's `ContainerStatus` call; NOT_FOUND when gone."""

    container_id: str


@message("cri.container_status_reply")
@frozen
class ContainerStatusReply:
    status: ContainerStatus


@message("cri.update_container_resources")
@frozen
class UpdateContainerResources(Request[ContainerRuntime, "Done"]):
    """Change a running container's limits in place."""

    container_id: str
    resources: LinuxContainerResources


@message("cri.exec_sync")
@frozen
class ExecSync(Request[ContainerRuntime, "ExecSyncReply"]):
    """Run a command in a running container and wait for it.

    DEADLINE_EXCEEDED after `timeout_seconds` (0: no limit); the command is killed then.
    """

    container_id: str
    cmd: tuple[str, ...]
    timeout_seconds: float = 0.0


@message("cri.exec_sync_reply")
@frozen
class ExecSyncReply:
    stdout: bytes
    stderr: bytes
    exit_code: int


class LogStream(Enum):
    STDOUT = "stdout"
    STDERR = "stderr"


@message("cri.log_line")
@frozen
class LogLine:
    """One line of a CRI log: `<time> <stream> <P|F> <content>`."""

    timestamp: int
    stream: LogStream
    content: bytes
    """Without the line's end."""
    partial: bool = False
    """Tag `P`: the next line of the stream goes on with this one."""


@message("cri.stream_container_log")
@frozen
class StreamContainerLog(Request[ContainerRuntime, "Done"]):
    """Send a container's log lines to a channel of :class:`LogLine`, oldest first, and close it at the end.

    The answer comes before the lines. Works for exited containers until they are removed; NOT_FOUND
    afterwards. With `follow` the end is the container's exit, otherwise the last line that is there now.
    """

    container_id: str
    to: ChannelWriter[LogLine]
    follow: bool = False
    tail_lines: int | None = None
    """Only that many of the newest lines that are there now; None: all of them."""
    since: int = 0
    """Only lines with this timestamp or a later one."""


# --------------------------------------------------------------------------- images


@message("cri.auth_config")
@frozen
class AuthConfig:
    username: str = ""
    password: str = ""
    server_address: str = ""
    identity_token: str = ""
    registry_token: str = ""


@message("cri.image")
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


@message("cri.pull_image")
@frozen
class PullImage(Request[ContainerRuntime, "PullImageReply"]):
    """Fetch an image. Refused with NOT_FOUND, UNKNOWN or UNAVAILABLE when it fails."""

    image: ImageSpec
    auth: AuthConfig | None = None
    sandbox_config: PodSandboxConfig | None = None


@message("cri.pull_image_reply")
@frozen
class PullImageReply:
    image_ref: str


@message("cri.get_image_status")
@frozen
class GetImageStatus(Request[ContainerRuntime, "ImageStatusReply"]):
    """CRI's `ImageStatus` call; its answer's image is None when absent."""

    image: ImageSpec


@message("cri.image_status_reply")
@frozen
class ImageStatusReply:
    image: Image | None


@message("cri.list_images")
@frozen
class ListImages(Request[ContainerRuntime, "ListImagesReply"]):
    """The images on the node, or those that fit a reference."""

    image: ImageSpec | None = None


@message("cri.list_images_reply")
@frozen
class ListImagesReply:
    images: tuple[Image, ...]
    """Sorted by id."""


@message("cri.remove_image")
@frozen
class RemoveImage(Request[ContainerRuntime, "Done"]):
    """Idempotent."""

    image: ImageSpec


# --------------------------------------------------------------------------- the runtime itself


@message("cri.version")
@frozen
class Version(Request[ContainerRuntime, "VersionReply"]):
    """What the runtime is."""

    version: str = API_VERSION


@message("cri.version_reply")
@frozen
class VersionReply:
    version: str
    runtime_name: str
    runtime_version: str
    runtime_api_version: str


@message("cri.runtime_condition")
@frozen
class RuntimeCondition:
    """`RuntimeReady` and `NetworkReady` are the two that every runtime must answer."""

    type: str
    status: bool
    reason: str = ""
    message: str = ""


@message("cri.status")
@frozen
class Status(Request[ContainerRuntime, "StatusReply"]):
    """Whether the runtime and its network are ready."""


@message("cri.status_reply")
@frozen
class StatusReply:
    conditions: tuple[RuntimeCondition, ...]
    runtime_handlers: tuple[str, ...] = ("",)


class ContainerEventType(IntEnum):
    CREATED = 0
    STARTED = 1
    STOPPED = 2
    DELETED = 3


@message("cri.container_event")
@frozen
class ContainerEvent:
    """Something happened to a container, or to a sandbox (then `container_id` is the sandbox's id)."""

    container_id: str
    pod_sandbox_id: str
    pod_uid: str
    type: ContainerEventType
    created_at: int


@message("cri.events_lost")
@frozen
class EventsLost(Refusal):
    """The reader was too slow, and the runtime ended the channel of events: subscribe again and relist."""


@message("cri.get_container_events")
@frozen
class GetContainerEvents(Request[ContainerRuntime, "Done"]):
    """Send every :class:`ContainerEvent` from now on to a channel, until its reader cancels it.

    The channel ends with :class:`EventsLost` when the reader is too slow. UNIMPLEMENTED from a runtime
    without events.
    """

    to: ChannelWriter[ContainerEvent]


@message("cri.update_runtime_config")
@frozen
class UpdateRuntimeConfig(Request[ContainerRuntime, "Done"]):
    """Tell the runtime which addresses the pods of this node get: a CIDR, or "" when not known yet."""

    pod_cidr: str


@message("cri.done")
@frozen
class Done:
    """The answer of calls that only succeed."""
