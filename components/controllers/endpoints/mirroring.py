"""EndpointSlices for Endpoints that somebody wrote by hand: for Services without a selector. All pure."""

from collections.abc import Sequence
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
from understudy.components.controllers.endpoints.selection import family_of, selector_of
from understudy.components.controllers.endpoints.slices import MANAGED_BY_LABEL, SERVICE_NAME_LABEL
from understudy.components.controllers.ownership import controller_reference, labels_of

Object = dict[str, Any]

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP_LABEL = "endpointslice.kubernetes.io/skip-mirror"
_NOT_INHERITED = frozenset(
    {MANAGED_BY_LABEL, SERVICE_NAME_LABEL, "endpoints.kubernetes.io/managed-by", SKIP_LABEL}
)
_NOT_INHERITED_ANNOTATION = "control-plane.alpha.kubernetes.io/leader"


def is_mirrored(endpoints: Object, service: Object | None) -> bool:
    """Whether the Endpoints are a Service's, written by hand, and not marked to be left alone."""
    if service is None or selector_of(service) or (service.get("spec") or {}).get("selector"):
        return False
    if _NOT_INHERITED_ANNOTATION in (endpoints["metadata"].get("annotations") or {}):
        return False
    return labels_of(endpoints).get(SKIP_LABEL) != "true"


def plan_mirror(endpoints: Object, existing: Sequence[Object], capacity: int) -> SlicePlan:
    """How the mirroring slices must change; at most `capacity` addresses of each subset are mirrored."""
    metadata = endpoints["metadata"]
    groups: dict[GroupKey, Group] = {}
    for subset in endpoints.get("subsets") or ():
        ports = [{"name": "", "protocol": "TCP", **port} for port in subset.get("ports") or ()]
        states = [(address, True) for address in subset.get("addresses") or ()]
        states += [(address, False) for address in subset.get("notReadyAddresses") or ()]
        for address, ready in states[:capacity]:
            endpoint = _endpoint(address, ready)
            group = groups.setdefault(group_key(family_of(address["ip"]), ports), Group(ports))
            group.wanted.setdefault(identity_of(endpoint), endpoint)
    labels = {k: v for k, v in labels_of(endpoints).items() if k not in _NOT_INHERITED}
    labels |= {SERVICE_NAME_LABEL: metadata["name"], MANAGED_BY_LABEL: MANAGER}
    reference = controller_reference(endpoints, "v1", "Endpoints")
    owner = SliceOwner(metadata["name"], metadata["namespace"], labels, reference)
    return pack(owner, groups, existing, capacity)


def _endpoint(address: Object, ready: bool) -> Object:
    endpoint: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for name in ("targetRef", "hostname", "nodeName"):
        if address.get(name):
            endpoint[name] = address[name]
    return endpoint
