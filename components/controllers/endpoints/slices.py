"""The EndpointSlices of a Service, changed as little as possible. All pure.

Slices are grouped by address family and by the ports that their pods have under the Service's port names.
Within a group an endpoint stays in the slice that it is in; new endpoints fill up slices that change anyway,
then the fullest other slice that takes all of them, then new slices: one write more is cheaper for every
node of the cluster than two.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from understudy.components.client import mutable
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
from understudy.components.controllers.equality import semantically_equal
from understudy.components.controllers.ownership import controller_reference
from understudy.components.controllers.pod_state import is_ready, is_terminating, node_of

Object = dict[str, Any]

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
ZONE_LABEL = "topology.kubernetes.io/zone"

GroupKey = tuple[str, tuple[tuple[str, ...], ...]]


@frozen
class SlicePlan:
    """What to write so that the slices fit; `update` holds whole new objects."""

    create: tuple[Object, ...] = ()
    update: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()


@define
class _Group:
    ports: list[Object]
    wanted: dict[tuple[str, ...], Object] = field(factory=dict)
    existing: list[Object] = field(factory=list)


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
    groups: dict[GroupKey, _Group] = {}
    families = families_of(service)
    for pod in pods:
        if not may_serve(pod, include_terminating=True):
            continue
        ports = endpoint_ports(service, pod)
        for family in families:
            address = address_in(pod, family)
            if address is not None:
                group = groups.setdefault(_group_key(family, ports), _Group(ports))
                group.wanted[_identity_of(pod, address)] = _endpoint(service, pod, address, zones)
    foreign: list[Object] = []
    for piece in existing:
        key = _group_key(piece.get("addressType", "IPv4"), piece.get("ports") or [])
        if key in groups:
            groups[key].existing.append(piece)
        else:
            foreign.append(piece)
    plan = SlicePlan()
    for key in sorted(groups):
        plan = _merged(plan, _plan_group(service, key[0], groups[key], capacity))
    covered = {family for family, _ in groups}
    placeholders, foreign = _placeholders(service, families, covered, foreign)
    plan = _merged(plan, placeholders)
    return _merged(plan, SlicePlan(delete=tuple(foreign)))


def _merged(one: SlicePlan, other: SlicePlan) -> SlicePlan:
    return SlicePlan(one.create + other.create, one.update + other.update, one.delete + other.delete)


def _group_key(family: str, ports: Iterable[Object]) -> GroupKey:
    fields = ("name", "port", "protocol", "appProtocol")
    return family, tuple(sorted(tuple(str(port.get(name) or "") for name in fields) for port in ports))


def _identity_of(pod: Object, address: str) -> tuple[str, ...]:
    return address, str(pod["metadata"]["uid"])


def _identity(endpoint: Object) -> tuple[str, ...]:
    return endpoint["addresses"][0], str((endpoint.get("targetRef") or {}).get("uid", ""))


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


def _labels(service: Object) -> dict[str, str]:
    labels = inherited_labels(service, (SERVICE_NAME_LABEL, MANAGED_BY_LABEL))
    return {
        **labels,
        SERVICE_NAME_LABEL: service["metadata"]["name"],
        MANAGED_BY_LABEL: MANAGER,
    }


def _slice(service: Object, family: str, ports: list[Object], endpoints: list[Object]) -> Object:
    metadata = service["metadata"]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": _prefix(metadata["name"]),
            "namespace": metadata["namespace"],
            "labels": _labels(service),
            "ownerReferences": [controller_reference(service, "v1", "Service")],
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": ports,
    }


def _prefix(name: str) -> str:
    return f"{name}-"


def _plan_group(service: Object, family: str, group: _Group, capacity: int) -> SlicePlan:
    labels = _labels(service)
    missing = dict(group.wanted)
    changed: dict[str, Object] = {}
    unchanged: list[Object] = []
    deleted: list[Object] = []
    for piece in group.existing:
        kept: list[Object] = []
        dirty = not semantically_equal(piece["metadata"].get("labels"), labels)
        for endpoint in piece.get("endpoints") or ():
            wanted = missing.pop(_identity(endpoint), None)
            if wanted is None:
                dirty = True
                continue
            dirty = dirty or not semantically_equal(endpoint, wanted)
            kept.append(wanted)
        if not kept:
            deleted.append(piece)  # unless what is missing needs a slice: see below
        elif dirty:
            changed[piece["metadata"]["name"]] = _revised(piece, labels, kept)
        else:
            unchanged.append(piece)
    left = [missing[identity] for identity in sorted(missing)]
    for piece in sorted(changed.values(), key=_fullest_first):
        room = capacity - len(piece["endpoints"])
        piece["endpoints"].extend(left[:room])
        del left[: max(0, room)]
    if left:
        fitting = [p for p in unchanged if len(p.get("endpoints") or ()) + len(left) <= capacity]
        if fitting:
            best = min(fitting, key=_fullest_first)
            changed[best["metadata"]["name"]] = _revised(
                best, labels, [*mutable(list(best.get("endpoints") or ())), *left]
            )
            left = []
    while left and deleted:
        piece = deleted.pop(0)
        changed[piece["metadata"]["name"]] = _revised(piece, labels, left[:capacity])
        del left[:capacity]
    created = []
    while left:
        created.append(_slice(service, family, group.ports, left[:capacity]))
        del left[:capacity]
    return SlicePlan(tuple(created), tuple(changed[name] for name in sorted(changed)), tuple(deleted))


def _fullest_first(piece: Object) -> tuple[int, str]:
    return -len(piece.get("endpoints") or ()), piece["metadata"]["name"]


def _revised(piece: Object, labels: dict[str, str], endpoints: list[Object]) -> Object:
    return {
        **piece,
        "metadata": {**piece["metadata"], "labels": labels},
        "endpoints": endpoints,
    }


def _placeholders(
    service: Object, families: Sequence[str], covered: set[str], foreign: list[Object]
) -> tuple[SlicePlan, list[Object]]:
    """An empty slice for each family without endpoints: it says that the Service is known, and serves none.

    Returns the plan for them and the slices that nothing needs.
    """
    labels = _labels(service)
    create: list[Object] = []
    update: list[Object] = []
    rest = list(foreign)
    for family in families:
        if family in covered:
            continue
        same = [piece for piece in rest if piece.get("addressType") == family]
        if not same:
            create.append(_slice(service, family, [], []))
            continue
        empty = next((piece for piece in same if not piece.get("endpoints")), same[0])
        rest.remove(empty)
        if empty.get("endpoints") or not semantically_equal(empty["metadata"].get("labels"), labels):
            update.append({**_revised(empty, labels, []), "ports": []})
    return SlicePlan(tuple(create), tuple(update)), rest
