"""EndpointSlices as their readers need them: kube-proxy and the cluster's DNS.

A slice belongs to the Service that its label `kubernetes.io/service-name` names. Conditions that are not
stated mean what the API documentation of `discovery.k8s.io/v1` says: ready unless told otherwise, serving
as ready, not terminating.
"""

from collections.abc import Mapping
from typing import Any

from attrs import frozen

SERVICE_NAME_LABEL = "kubernetes.io/service-name"


@frozen
class SliceEndpoint:
    addresses: tuple[str, ...]
    ready: bool
    serving: bool
    terminating: bool
    hostname: str
    node_name: str
    zone: str
    hinted_zones: frozenset[str] | None
    """Zones whose clients should use it; None without a hint."""
    hinted_nodes: frozenset[str] | None
    """Nodes whose clients should use it; None without a hint."""


@frozen
class SlicePort:
    name: str
    protocol: str
    port: int


@frozen
class SliceInfo:
    """A parsed `discovery.k8s.io/v1` EndpointSlice."""

    namespace: str
    name: str
    service: str
    """Empty when the slice belongs to no Service."""
    address_type: str
    """`IPv4`, `IPv6` or `FQDN`."""
    labels: Mapping[str, str]
    endpoints: tuple[SliceEndpoint, ...]
    ports: tuple[SlicePort, ...]


def slice_info(endpoint_slice: Mapping[str, Any]) -> SliceInfo:
    """Parse an EndpointSlice. Ports without a number (which mean all) are left out: nobody can use them."""
    meta = endpoint_slice["metadata"]
    labels = meta.get("labels") or {}
    return SliceInfo(
        namespace=meta.get("namespace") or "default",
        name=meta["name"],
        service=labels.get(SERVICE_NAME_LABEL) or "",
        address_type=endpoint_slice["addressType"],
        labels=labels,
        endpoints=tuple(_endpoint(e) for e in endpoint_slice.get("endpoints") or () if e.get("addresses")),
        ports=tuple(
            SlicePort(p.get("name") or "", p.get("protocol") or "TCP", p["port"])
            for p in endpoint_slice.get("ports") or ()
            if p.get("port")
        ),
    )


def _endpoint(endpoint: Mapping[str, Any]) -> SliceEndpoint:
    conditions = endpoint.get("conditions") or {}
    ready = conditions.get("ready")
    serving = conditions.get("serving")
    ready = True if ready is None else ready
    hints = endpoint.get("hints") or {}
    zones, nodes = hints.get("forZones"), hints.get("forNodes")
    return SliceEndpoint(
        addresses=tuple(endpoint["addresses"]),
        ready=ready,
        serving=ready if serving is None else serving,
        terminating=bool(conditions.get("terminating")),
        hostname=endpoint.get("hostname") or "",
        node_name=endpoint.get("nodeName") or "",
        zone=endpoint.get("zone") or "",
        hinted_zones=frozenset(z["name"] for z in zones) if zones else None,
        hinted_nodes=frozenset(n["name"] for n in nodes) if nodes else None,
    )
