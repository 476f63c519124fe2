"""The endpoints of a Service's pods, packed into EndpointSlices. All pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from understudy.components.controllers.endpoints.packing import (
    Group,
    GroupKey,
    SliceOwner,
    SlicePlan,
    group_key,
    identity_of,
    pack,
)
from understudy.components.controllers.endpoints.selection import (
    address_in,
    endpoint_ports,
    families_of,
    hostname_in,
    inherited_labels,
    may_serve,
    publishes_not_ready,
    target_reference,
)
from understudy.components.controllers.ownership import controller_reference
from understudy.components.controllers.pod_state import is_ready, is_terminating, node_of

Object = dict[str, Any]

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
ZONE_LABEL = "topology.kubernetes.io/zone"


def plan_slices(
    service: Object,
    pods: Iterable[Object],
    zones: Mapping[str, str],
    existing: Sequence[Object],
    capacity: int,
) -> SlicePlan:
    """How the Service's slices must change so that they name exactly the pods that serve it.

    `zones` gives the zone of each node that has one; `existing` are the slices that this controller
    manages for the Service; `capacity` is the number of endpoints that a slice may hold.
    """
    groups: dict[GroupKey, Group] = {}
    families = families_of(service)
    for pod in pods:
        if not may_serve(pod, include_terminating=True):
            continue
        ports = endpoint_ports(service, pod)
        for family in families:
            address = address_in(pod, family)
            if address is not None:
                endpoint = _endpoint(service, pod, address, zones)
                group = groups.setdefault(group_key(family, ports), Group(ports))
                group.wanted[identity_of(endpoint)] = endpoint
    return pack(_owner(service), groups, existing, capacity, families)


def _endpoint(service: Object, pod: Object, address: str, zones: Mapping[str, str]) -> Object:
    serving = is_ready(pod)
    terminating = is_terminating(pod)
    endpoint: Object = {
        "addresses": [address],
        "conditions": {
            "ready": publishes_not_ready(service) or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": target_reference(pod),
    }
    node = node_of(pod)
    if node:
        endpoint["nodeName"] = node
        if node in zones:
            endpoint["zone"] = zones[node]
    hostname = hostname_in(service, pod)
    if hostname is not None:
        endpoint["hostname"] = hostname
    return endpoint


def _owner(service: Object) -> SliceOwner:
    metadata = service["metadata"]
    labels = inherited_labels(service, (SERVICE_NAME_LABEL, MANAGED_BY_LABEL))
    labels |= {SERVICE_NAME_LABEL: metadata["name"], MANAGED_BY_LABEL: MANAGER}
    return SliceOwner(
        metadata["name"], metadata["namespace"], labels, controller_reference(service, "v1", "Service")
    )
