"""What the workers of one kubelet share."""

from collections.abc import Callable

from attrs import define

from understudy.actors import Ref, World
from understudy.components.boundary import cri
from understudy.components.boundary.podnet import PodNetwork
from understudy.components.client import Client, EventRecorder

from .images import ImagePuller
from .options import KubeletOptions
from .runtime_state import Object
from .status_manager import StatusManager


@define(eq=False)
class NodeContext:
    """One node's collaborators; the kubelet actor makes it."""

    world: World
    client: Client
    options: KubeletOptions
    node_name: str
    host_ips: tuple[str, ...]
    runtime: Ref[cri.ContainerRuntime]
    network: Ref[PodNetwork]
    events: EventRecorder
    statuses: StatusManager
    images: ImagePuller
    services: Callable[[], list[Object]]
    """Every Service of the cluster, as last seen."""
    allocatable: dict[str, str]
    runtime_name: str = "containerd"
    """The scheme of container ids; as the runtime calls itself, once it was asked."""
