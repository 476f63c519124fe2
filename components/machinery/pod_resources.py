"""How much of each resource a pod asks for, and is limited to.

Containers run together and add up; init containers run before them, one after the other, and only the largest
counts, on top of the sidecars that were started before it. Source: KEP-753 (sidecar containers), KEP-2837
(pod-level resources), RuntimeClass overhead (KEP-688).
"""

from fractions import Fraction
from typing import Literal

from understudy.components.machinery.api import Object
from understudy.components.machinery.quantity import parse

Side = Literal["requests", "limits"]
Amounts = dict[str, Fraction]


def amounts(resources: Object | None) -> Amounts:
    """Exact numbers of a resource list."""
    return {name: parse(value) for name, value in (resources or {}).items()}


def pod_amounts(spec: Object, side: Side, *, overhead: bool = True) -> Amounts:
    """What the pod as a whole requests, or is limited to."""
    total: Amounts = {}
    for container in spec.get("containers") or ():
        _add(total, _of(container, side))
    sidecars: Amounts = {}
    largest: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = _of(container, side)
        if container.get("restartPolicy") == "Always":
            _add(total, own)
            _add(sidecars, own)
            own = dict(sidecars)
        else:
            for name, value in sidecars.items():
                own[name] = own.get(name, Fraction(0)) + value
        _raise_to(largest, own)
    _raise_to(total, largest)
    for name, value in amounts((spec.get("resources") or {}).get(side)).items():
        if name in ("cpu", "memory") or name.startswith("hugepages-"):
            total[name] = value
    if overhead:
        for name, value in amounts(spec.get("overhead")).items():
            if side == "requests" or name in total:
                total[name] = total.get(name, Fraction(0)) + value
    return total


def _of(container: Object, side: Side) -> Amounts:
    return amounts((container.get("resources") or {}).get(side))


def _add(total: Amounts, more: Amounts) -> None:
    for name, value in more.items():
        total[name] = total.get(name, Fraction(0)) + value


def _raise_to(total: Amounts, least: Amounts) -> None:
    for name, value in least.items():
        if value > total.get(name, Fraction(-1)):
            total[name] = value
