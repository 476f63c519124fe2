"""What a pod asks of a node: resource requests as integers.

`cpu` counts milli-cores, everything else whole units (bytes, devices). Rules: KEP-753 (sidecars), pod
overhead, and pod-level resources; see "Pod requests" in the Kubernetes documentation of init containers.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from math import ceil
from typing import Any

from understudy.components.machinery import quantity

Amounts = dict[str, int]

CPU = "cpu"
MEMORY = "memory"
PODS = "pods"

NONZERO_CPU_MILLI = 100
"""A container without a CPU request is scored as if it asked for this much, so that many such pods spread."""
NONZERO_MEMORY_BYTES = 200 * 1024 * 1024


@lru_cache(maxsize=4096)
def amount(resource: str, text: str) -> int:
    """A quantity as an integer, rounded up: milli-cores for `cpu`, units otherwise."""
    exact = quantity.parse(text)
    return ceil(exact * 1000) if resource == CPU else ceil(exact)


def amounts(quantities: Mapping[str, Any] | None) -> Amounts:
    """A `v1.ResourceList` as integers; zeros are left out."""
    found = {name: amount(name, str(text)) for name, text in (quantities or {}).items()}
    return {name: value for name, value in found.items() if value}


def pod_requests(spec: Mapping[str, Any]) -> Amounts:
    """What the pod needs at most at any time of its life, overhead included."""
    return _aggregate(spec, lambda container: amounts((container.get("resources") or {}).get("requests")))


def nonzero_requests(spec: Mapping[str, Any]) -> tuple[int, int]:
    """(cpu in milli-cores, memory in bytes) for scoring, with a default where a container asks for none."""

    def requests(container: Mapping[str, Any]) -> Amounts:
        stated = (container.get("resources") or {}).get("requests") or {}
        found = amounts(stated)
        if CPU not in stated:
            found[CPU] = NONZERO_CPU_MILLI
        if MEMORY not in stated:
            found[MEMORY] = NONZERO_MEMORY_BYTES
        return found

    total = _aggregate(spec, requests)
    return total.get(CPU, 0), total.get(MEMORY, 0)


def _aggregate(spec: Mapping[str, Any], requests: Callable[[Mapping[str, Any]], Amounts]) -> Amounts:
    """Sum of containers and sidecars, or an init container beside the sidecars before it if that is more."""
    total: Amounts = {}
    for container in spec.get("containers") or ():
        _add(total, requests(container))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        wanted = requests(container)
        if container.get("restartPolicy") == "Always":
            _add(total, wanted)
            _add(sidecars, wanted)
            wanted = dict(sidecars)
        else:
            _add(wanted, sidecars)
        for name, value in wanted.items():
            peak[name] = max(peak.get(name, 0), value)
    for name, value in peak.items():
        total[name] = max(total.get(name, 0), value)
    total.update(amounts((spec.get("resources") or {}).get("requests")))
    _add(total, amounts(spec.get("overhead")))
    return total


def _add(total: Amounts, more: Amounts) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0) + value
