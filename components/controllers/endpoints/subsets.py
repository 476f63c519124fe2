"""The Endpoints object of a Service: addresses grouped by the ports that they share. All pure."""

from collections.abc import Iterable
from typing import Any

from understudy.components.controllers.endpoints.selection import (
    address_in,
    endpoint_ports,
    families_of,
    hostname_in,
    inherited_labels,
    is_headless,
    may_serve,
    publishes_not_ready,
    target_reference,
)
from understudy.components.controllers.equality import semantically_equal
from understudy.components.controllers.pod_state import is_ready, node_of

Object = dict[str, Any]

MANAGED_BY_LABEL = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
CAPACITY_MAX = 1000
"""Addresses in one Endpoints object; a Service with more is cut, and says so in an annotation."""
OVER_CAPACITY_ANNOTATION = "endpoints.kubernetes.io/over-capacity"


def endpoints_for(service: Object, pods: Iterable[Object], existing: Object | None) -> Object:
    """The Endpoints that the Service should have; keeps foreign annotations of the existing ones."""
    metadata = service["metadata"]
    labels = inherited_labels(service)
    labels[MANAGED_BY_LABEL] = MANAGER
    annotations = dict((existing or {"metadata": {}})["metadata"].get("annotations") or {})
    subsets, cut = _subsets(service, pods)
    if cut:
        annotations[OVER_CAPACITY_ANNOTATION] = "truncated"
    else:
        annotations.pop(OVER_CAPACITY_ANNOTATION, None)
    made: Object = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            **(existing["metadata"] if existing is not None else {}),
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": labels,
        },
    }
    if annotations:
        made["metadata"]["annotations"] = annotations
    else:
        made["metadata"].pop("annotations", None)
    if subsets:
        made["subsets"] = subsets
    return made


def endpoints_differ(existing: Object, wanted: Object) -> bool:
    """Whether writing `wanted` over `existing` would change anything."""
    before, after = existing["metadata"], wanted["metadata"]
    return not (
        semantically_equal(existing.get("subsets"), wanted.get("subsets"))
        and semantically_equal(before.get("labels"), after.get("labels"))
        and semantically_equal(before.get("annotations"), after.get("annotations"))
    )


def _subsets(service: Object, pods: Iterable[Object]) -> tuple[list[Object], bool]:
    """The subsets in canonical order, and whether addresses had to be left out."""
    tolerant = publishes_not_ready(service)
    family = families_of(service)[0]
    groups: dict[tuple[tuple[str, ...], ...], tuple[list[Object], list[Object], list[Object]]] = {}
    count = 0
    for pod in pods:
        if not may_serve(pod, include_terminating=tolerant):
            continue
        address = _address(service, pod, family)
        if address is None:
            continue
        ports = endpoint_ports(service, pod)
        if not ports and not (is_headless(service) and not (service["spec"].get("ports"))):
            continue
        if count == CAPACITY_MAX:
            return _in_order(groups), True
        count += 1
        key = tuple(sorted(tuple(str(port.get(n, "")) for n in _PORT_FIELDS) for port in ports))
        group = groups.setdefault(key, (ports, [], []))
        group[1 if tolerant or is_ready(pod) else 2].append(address)
    return _in_order(groups), False


_PORT_FIELDS = ("name", "port", "protocol", "appProtocol")


def _in_order(
    groups: dict[tuple[tuple[str, ...], ...], tuple[list[Object], list[Object], list[Object]]],
) -> list[Object]:
    subsets = []
    for key in sorted(groups):
        ports, ready, waiting = groups[key]
        subset: Object = {}
        if ready:
            subset["addresses"] = sorted(ready, key=_address_order)
        if waiting:
            subset["notReadyAddresses"] = sorted(waiting, key=_address_order)
        if ports:
            listed = sorted(ports, key=lambda port: (port["name"], port["port"], port["protocol"]))
            subset["ports"] = [
                {k: v for k, v in port.items() if not (k == "name" and not v)} for port in listed
            ]
        subsets.append(subset)
    return subsets


def _address_order(address: Object) -> tuple[str, str]:
    return address["ip"], address["targetRef"]["uid"]


def _address(service: Object, pod: Object, family: str) -> Object | None:
    ip = address_in(pod, family)
    if ip is None:
        return None
    address: Object = {"ip": ip, "targetRef": target_reference(pod)}
    if node_of(pod):
        address["nodeName"] = node_of(pod)
    hostname = hostname_in(service, pod)
    if hostname is not None:
        address["hostname"] = hostname
    return address
