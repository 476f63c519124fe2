"""Options of the controller manager: the flags of kube-controller-manager, by their names and defaults."""

from attrs import frozen

UNLIMITED_REVISIONS = 2**31 - 1


@frozen
class ControllerManagerOptions:
    """What kube-controller-manager's flags of these names state; durations are in seconds.

    There is no `kube_api_qps`: requests do not leave the process, and the API server queues for itself.
    """

    node_monitor_period: float = 5.0
    """How often the health of all nodes is looked at."""
    node_monitor_grace_period: float = 50.0
    """How long a node may be silent before its conditions become Unknown."""
    node_startup_grace_period: float = 60.0
    """The same for a node that has never reported."""
    node_eviction_rate: float = 0.1
    """Nodes a second that get a NoExecute taint in a healthy zone."""
    secondary_node_eviction_rate: float = 0.01
    """The same in a zone above `unhealthy_zone_threshold`."""
    unhealthy_zone_threshold: float = 0.55
    """Share of not ready nodes (at least 3) that makes a zone unhealthy."""
    large_cluster_size_threshold: int = 50
    """Unhealthy zones of at most so many nodes stop evicting altogether."""
    allocate_node_cidrs: bool = True
    """Whether nodes are given pod address ranges."""
    cluster_cidr: str = "10.244.0.0/16"
    """The range that nodes' pod ranges are cut from."""
    node_cidr_mask_size: int = 24
    """Prefix length of one node's pod range."""
    terminated_pod_gc_threshold: int = 12500
    """How many finished pods may lie about."""
    concurrent_deployment_syncs: int = 5
    concurrent_replicaset_syncs: int = 5
    concurrent_endpoint_syncs: int = 5
    concurrent_service_endpoint_syncs: int = 5
    concurrent_namespace_syncs: int = 10
    concurrent_serviceaccount_syncs: int = 5
    concurrent_gc_syncs: int = 20
    concurrent_job_syncs: int = 5
    concurrent_statefulset_syncs: int = 5
    concurrent_daemonset_syncs: int = 2
    concurrent_ttl_after_finished_syncs: int = 5
    max_endpoints_per_slice: int = 100
    """Endpoints in one EndpointSlice."""
    mirroring_concurrent_service_endpoint_syncs: int = 5
    mirroring_max_endpoints_per_subset: int = 1000
    """Addresses of one subset of hand-written Endpoints that are mirrored."""
    endpoint_updates_batch_period: float = 0.0
    """How long changes of pods are gathered before Endpoints are written."""
    endpointslice_updates_batch_period: float = 0.0
    """The same for EndpointSlices."""
    enable_garbage_collector: bool = True
    root_ca: str = ""
    """The PEM text behind --root-ca-file: published in every namespace as kube-root-ca.crt; empty: not."""
    controllers: tuple[str, ...] = ("*",)
    """Which controllers run: `*` all, `name` that one, `-name` not that one."""

    def enabled(self, controller: str) -> bool:
        """Whether the controller of that name runs."""
        if f"-{controller}" in self.controllers:
            return False
        return controller in self.controllers or "*" in self.controllers
