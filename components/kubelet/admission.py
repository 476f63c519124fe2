"""Whether a pod fits on the node: the kubelet's own look, after the scheduler's, at what is really free."""

from collections.abc import Iterable, Mapping
from math import ceil

from understudy.components.machinery.quantity import parse

from .pod_status import Decision
from .runtime_state import Object, init_containers, is_sidecar


def _amount(resource: str, quantity: object) -> int:
    exact = parse(str(quantity))
    return ceil(exact * 1000) if resource == "cpu" else ceil(exact)


def requests_of(pod: Object) -> dict[str, int]:
    """What a pod needs at most at a time: milli-cores of cpu, units of everything else."""
    spec = pod["spec"]
    total: dict[str, int] = {}
    for container in spec["containers"]:
        _add(total, container)
    peak: dict[str, int] = {}
    sidecars: dict[str, int] = {}
    for container in init_containers(pod):
        if is_sidecar(container):
            _add(total, container)
            _add(sidecars, container)
            continue
        needed = dict(sidecars)
        _add(needed, container)
        for name, amount in needed.items():
            peak[name] = max(peak.get(name, 0), amount)
    for name, amount in peak.items():
        total[name] = max(total.get(name, 0), amount)
    for name, quantity in ((spec.get("resources") or {}).get("requests") or {}).items():
        total[name] = _amount(name, quantity)
    for name, quantity in (spec.get("overhead") or {}).items():
        total[name] = total.get(name, 0) + _amount(name, quantity)
    return total


def _add(total: dict[str, int], container: Object) -> None:
    for name, quantity in ((container.get("resources") or {}).get("requests") or {}).items():
        total[name] = total.get(name, 0) + _amount(name, quantity)


def admit(pod: Object, others: Iterable[Object], allocatable: Mapping[str, str]) -> Decision | None:
    """None when the pod fits beside the others, else why it failed (`OutOfcpu`, `OutOfpods`, ...)."""
    running = list(others)
    capacity = {name: _amount(name, quantity) for name, quantity in allocatable.items()}
    wanted = requests_of(pod) | {"pods": 1}
    used: dict[str, int] = {"pods": len(running)}
    for other in running:
        for name, amount in requests_of(other).items():
            used[name] = used.get(name, 0) + amount
    for name, amount in wanted.items():
        if amount and used.get(name, 0) + amount > capacity.get(name, 0):
            message = (
                f"Node didn't have enough resource: {name}, requested: {amount}, "
                f"used: {used.get(name, 0)}, capacity: {capacity.get(name, 0)}"
            )
            return Decision(f"OutOf{name}", f"Pod was rejected: {message}")
    return None
