"""Packing endpoints into EndpointSlices, changing as few slices as possible. All pure.

Slices are grouped by address family and by ports. Within a group an endpoint stays in the slice that it is
in; new endpoints fill up slices that change anyway, then the fullest other slice that takes all of them,
then new slices: one write more is cheaper for every node of the cluster than two.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from understudy.components.client import mutable
from understudy.components.controllers.equality import semantically_equal

Object = dict[str, Any]

GroupKey = tuple[str, tuple[tuple[str, ...], ...]]


@frozen
class SliceOwner:
    """Whose slices these are."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    reference: Object
    """The owner reference that each slice carries."""


@frozen
class SlicePlan:
    """What to write so that the slices fit; `update` holds whole new objects."""

    create: tuple[Object, ...] = ()
    update: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()


@define
class Group:
    """The endpoints that share an address family and ports."""

    ports: list[Object]
    wanted: dict[tuple[str, ...], Object] = field(factory=dict)
    """By `identity_of`."""
    existing: list[Object] = field(factory=list)


def group_key(family: str, ports: Iterable[Object]) -> GroupKey:
    """What the endpoints of one slice have in common."""
    fields = ("name", "port", "protocol", "appProtocol")
    return family, tuple(sorted(tuple(str(port.get(name) or "") for name in fields) for port in ports))


def identity_of(endpoint: Object) -> tuple[str, ...]:
    """What makes an endpoint the same one: its address, and the object behind it."""
    return endpoint["addresses"][0], str((endpoint.get("targetRef") or {}).get("uid", ""))


def pack(
    owner: SliceOwner,
    groups: Mapping[GroupKey, Group],
    existing: Sequence[Object],
    capacity: int,
    families: Sequence[str] = (),
) -> SlicePlan:
    """How `existing` slices must change so that they hold exactly the endpoints of the groups.

    `capacity` is the number of endpoints that a slice may hold. Each of `families` without any endpoint gets
    an empty slice. Fills `Group.existing`.
    """
    foreign: list[Object] = []
    for piece in existing:
        key = group_key(piece.get("addressType", "IPv4"), piece.get("ports") or [])
        if key in groups:
            groups[key].existing.append(piece)
        else:
            foreign.append(piece)
    plan = SlicePlan()
    for key in sorted(groups):
        plan = _merged(plan, _plan_group(owner, key[0], groups[key], capacity))
    covered = {family for family, _ in groups}
    placeholders, foreign = _placeholders(owner, families, covered, foreign)
    plan = _merged(plan, placeholders)
    return _merged(plan, SlicePlan(delete=tuple(foreign)))


def _merged(one: SlicePlan, other: SlicePlan) -> SlicePlan:
    return SlicePlan(one.create + other.create, one.update + other.update, one.delete + other.delete)


def _slice(owner: SliceOwner, family: str, ports: list[Object], endpoints: list[Object]) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{owner.name}-",
            "namespace": owner.namespace,
            "labels": dict(owner.labels),
            "ownerReferences": [owner.reference],
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": ports,
    }


def _plan_group(owner: SliceOwner, family: str, group: Group, capacity: int) -> SlicePlan:
    labels = dict(owner.labels)
    missing = dict(group.wanted)
    changed: dict[str, Object] = {}
    unchanged: list[Object] = []
    deleted: list[Object] = []
    for piece in group.existing:
        kept: list[Object] = []
        dirty = not semantically_equal(piece["metadata"].get("labels"), labels)
        for endpoint in piece.get("endpoints") or ():
            wanted = missing.pop(identity_of(endpoint), None)
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
        room = max(0, capacity - len(piece["endpoints"]))
        piece["endpoints"].extend(left[:room])
        del left[:room]
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
        created.append(_slice(owner, family, group.ports, left[:capacity]))
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
    owner: SliceOwner, families: Sequence[str], covered: set[str], foreign: list[Object]
) -> tuple[SlicePlan, list[Object]]:
    """An empty slice for each family without endpoints: it says that the Service is known, and serves none.

    Returns the plan for them and the slices that nothing needs.
    """
    labels = dict(owner.labels)
    create: list[Object] = []
    update: list[Object] = []
    rest = list(foreign)
    for family in families:
        if family in covered:
            continue
        same = [piece for piece in rest if piece.get("addressType") == family]
        if not same:
            create.append(_slice(owner, family, [], []))
            continue
        empty = next((piece for piece in same if not piece.get("endpoints")), same[0])
        rest.remove(empty)
        if empty.get("endpoints") or not semantically_equal(empty["metadata"].get("labels"), labels):
            update.append({**_revised(empty, labels, []), "ports": []})
    return SlicePlan(tuple(create), tuple(update)), rest
