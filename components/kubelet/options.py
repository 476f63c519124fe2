"""What a kubelet can be told: KubeletConfiguration's names and defaults, and what the machine is like."""

from collections.abc import Mapping

from attrs import field, frozen

KUBELET_VERSION = "v1.36.2"


@frozen
class KubeletOptions:
    """Options of one kubelet. Times are seconds."""

    node_status_update_frequency: float = 10.0
    """How often the node's status is worked out; it is sent when something changed."""
    node_status_report_frequency: float = 300.0
    """How often the node's status is sent when nothing changed."""
    node_lease_duration_seconds: int = 40
    """Renewed four times in this time."""
    max_pods: int = 110
    pod_cidr: str = ""
    """Addresses of this node's pods; "" waits for the node's spec.podCIDR."""
    cluster_dns: tuple[str, ...] = ("10.96.0.10",)
    cluster_domain: str = "cluster.local"
    node_labels: Mapping[str, str] = field(factory=dict)
    register_with_taints: tuple[Mapping[str, str], ...] = ()
    port: int = 10250
    max_container_backoff: float = 300.0
    container_backoff_initial: float = 10.0
    image_pull_backoff_initial: float = 10.0
    image_pull_backoff_max: float = 300.0
    sync_retry: float = 10.0
    """After which time a pod whose start failed is tried again (the kubelet's `backOffPeriod`)."""
    transient_error_retry: float = 1.0
    """The same while the node's network is not ready (`backOffOnTransientErrorPeriod`)."""
    relist_period: float = 300.0
    """How often the runtime is listed although it sends events (the event-driven PLEG's period)."""
    cpu: str = "8"
    """Capacity of the machine, as quantities."""
    memory: str = "32Gi"
    ephemeral_storage: str = "100Gi"
    system_reserved: Mapping[str, str] = field(factory=dict)
    """Subtracted from the capacity to give the allocatable amounts."""
    os_image: str = "Understudy (simulated node)"
    kernel_version: str = "6.12.0"
    operating_system: str = "linux"
    architecture: str = "amd64"
    kubelet_version: str = KUBELET_VERSION

    @property
    def lease_renew_interval(self) -> float:
        """A quarter of the lease's duration, as the kubelet does."""
        return self.node_lease_duration_seconds * 0.25
