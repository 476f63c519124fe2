"""A pod's quality of service class, which decides who goes first when a node runs out of memory."""

from typing import Any

from understudy.components.machinery.quantity import parse

Object = dict[str, Any]

_COUNTED = ("cpu", "memory")


def quality_of_service(spec: Object) -> str:
    """`Guaranteed` when every container's limits of CPU and memory are set and equal its requests,
    `BestEffort` when none has either, else `Burstable`. Resources of the pod as a whole count instead."""
    whole = spec.get("resources")
    if whole and (whole.get("requests") or whole.get("limits")):
        sources = [whole]
    else:
        sources = [
            container.get("resources") or {}
            for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
        ]
    some = False
    guaranteed = True
    for resources in sources:
        requests = _counted(resources.get("requests"))
        limits = _counted(resources.get("limits"))
        some = some or bool(requests) or bool(limits)
        guaranteed = guaranteed and len(limits) == len(_COUNTED) and requests == limits
    if not some:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _counted(amounts: Object | None) -> Object:
    if not amounts:
        return {}
    values = {name: parse(amounts[name]) for name in _COUNTED if name in amounts}
    return {name: value for name, value in values.items() if value > 0}
