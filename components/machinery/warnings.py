"""What the API server takes but advises against: the texts of `Warning:` headers.

Three sources: an API that is deprecated as a whole (every request to it), and what stands in an object that
is created or changed. A warning never changes what is stored.

Source: the deprecation policy and the release notes; each rule names the versions itself.
"""

from collections.abc import Callable, Iterator
from typing import Any

from understudy.components.machinery import names, quantity
from understudy.components.machinery.resources import Resource

Object = dict[str, Any]

_DEPRECATED_APIS = {
    ("", "v1", "endpoints"): "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    ("", "v1", "componentstatuses"): "v1 ComponentStatus is deprecated in v1.19+",
}

_DEPRECATED_VOLUMES = {
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
}

_RENAMED_NODE_LABELS = {
    "beta.kubernetes.io/arch": "deprecated since v1.14; use kubernetes.io/arch instead",
    "beta.kubernetes.io/os": "deprecated since v1.14; use kubernetes.io/os instead",
    "failure-domain.beta.kubernetes.io/region": (
        "deprecated since v1.17; use topology.kubernetes.io/region instead"
    ),
    "failure-domain.beta.kubernetes.io/zone": (
        "deprecated since v1.17; use topology.kubernetes.io/zone instead"
    ),
    "beta.kubernetes.io/instance-type": (
        "deprecated since v1.17; use node.kubernetes.io/instance-type instead"
    ),
}

_INGRESS_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_BYTE_RESOURCES = ("memory", "ephemeral-storage")

_TEMPLATES: dict[str, tuple[str, ...]] = {
    "Deployment": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "PodTemplate": ("template",),
}
_NAMES_PODS = frozenset(("Deployment", "ReplicaSet", "ReplicationController", "Job"))


def deprecated_api(resource: Resource) -> str:
    """The warning of every request to that resource, or ""."""
    return _DEPRECATED_APIS.get((resource.group, resource.version, resource.plural), "")


def creation_warnings(obj: Object) -> list[str]:
    """Texts about a defaulted object that is to be created."""
    return [*_name_warnings(obj), *_warnings(obj)]


def update_warnings(new: Object, old: Object) -> list[str]:
    """Texts about a defaulted object that is to replace `old`; what did not change is not warned of again."""
    path = _TEMPLATES.get(new["kind"])
    if path is not None and _at(new, path) == _at(old, path):
        return []
    if new["kind"] == "Pod" and new["spec"] == old["spec"]:
        return []
    return list(_warnings(new))


def _warnings(obj: Object) -> Iterator[str]:
    check = _CHECKS.get(obj["kind"])
    if check is not None:
        yield from check(obj)
    path = _TEMPLATES.get(obj["kind"])
    if path is not None:
        template = _at(obj, path)
        if template:
            yield from _pod_warnings(template, ".".join(path) + ".")


def _at(obj: Object, path: tuple[str, ...]) -> Any:
    value: Any = obj
    for name in path:
        value = value.get(name) or {}
    return value


def _name_warnings(obj: Object) -> Iterator[str]:
    if obj["kind"] != "Pod" and obj["kind"] not in _NAMES_PODS:
        return
    problems = names.dns1123_label(obj["metadata"]["name"])
    if problems:
        where = "the Pod's hostname" if obj["kind"] == "Pod" else "Pod names and hostnames"
        yield (
            f"metadata.name: this is used in {where}, which can result in surprising behavior; a DNS label is"
            f" recommended: {problems}"
        )


# -- pods


def _pod_warnings(pod: Object, at: str = "") -> Iterator[str]:
    spec: Object = pod.get("spec") or {}
    here = f"{at}spec"
    for label in spec.get("nodeSelector") or ():
        if label in _RENAMED_NODE_LABELS:
            yield f"{here}.nodeSelector[{label}]: {_RENAMED_NODE_LABELS[label]}"
    for index, constraint in enumerate(spec.get("topologySpreadConstraints") or ()):
        key = constraint.get("topologyKey", "")
        if key in _RENAMED_NODE_LABELS:
            why = _RENAMED_NODE_LABELS[key]
            yield f"{here}.topologySpreadConstraints[{index}].topologyKey: {key} is {why}"
    for index, volume in enumerate(spec.get("volumes") or ()):
        for kind, text in _DEPRECATED_VOLUMES.items():
            if kind in volume:
                yield f"{here}.volumes[{index}].{kind}: {text}"
    seen: set[str] = set()
    for index, reference in enumerate(spec.get("imagePullSecrets") or ()):
        name = reference.get("name", "")
        if not name:
            yield f"{here}.imagePullSecrets[{index}]: invalid empty name {name!r}"
        elif name in seen:
            yield f"{here}.imagePullSecrets[{index}].name: duplicate name {name!r}"
        seen.add(name)
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        if any(alias.get("ip") == other.get("ip") for other in spec["hostAliases"][:index]):
            yield f"{here}.hostAliases[{index}].ip: duplicate ip {alias.get('ip')!r}"
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        yield (
            f"{here}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be"
            " treated as 1"
        )
    for field in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field) or ()):
            yield from _container_warnings(container, f"{here}.{field}[{index}]")
    for name, amount in (spec.get("overhead") or {}).items():
        if name in _BYTE_RESOURCES and _fractional(amount):
            yield _fraction(f"{here}.overhead[{name}]", amount)


def _container_warnings(container: Object, at: str) -> Iterator[str]:
    resources = container.get("resources") or {}
    for field in ("limits", "requests"):
        for name, amount in (resources.get(field) or {}).items():
            if name in _BYTE_RESOURCES and _fractional(amount):
                yield _fraction(f"{at}.resources.{field}[{name}]", amount)
    names_seen: set[str] = set()
    for index, variable in enumerate(container.get("env") or ()):
        name = variable.get("name", "")
        if name in names_seen:
            place = f"{at}.env[{index}]"
            yield f"{place}: hides previous definition of {name!r}, which may be dropped when using apply"
        names_seen.add(name)
    ports: list[tuple[Any, ...]] = []
    for index, port in enumerate(container.get("ports") or ()):
        kind = tuple(port.get(key) for key in ("containerPort", "protocol", "hostIP", "hostPort"))
        if kind in ports:
            yield f"{at}.ports[{index}]: duplicate port definition with {at}.ports[{ports.index(kind)}]"
        ports.append(kind)


def _fractional(amount: str) -> bool:
    value = quantity.parse(amount)
    return value != int(value)


def _fraction(path: str, amount: str) -> str:
    return f'{path}: fractional byte value "{amount}" is invalid, must be an integer'


# -- other kinds


def _ingress_warnings(obj: Object) -> Iterator[str]:
    if _INGRESS_CLASS_ANNOTATION in (obj["metadata"].get("annotations") or {}):
        yield (
            f'annotation "{_INGRESS_CLASS_ANNOTATION}" is deprecated, please use'
            " 'spec.ingressClassName' instead"
        )


def _claim_warnings(obj: Object) -> Iterator[str]:
    requested = (obj["spec"].get("resources") or {}).get("requests") or {}
    if "storage" in requested and _fractional(requested["storage"]):
        yield _fraction("spec.resources.requests[storage]", requested["storage"])


def _volume_warnings(obj: Object) -> Iterator[str]:
    spec = obj["spec"]
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        yield (
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the"
            " recommended approach is to use dynamic provisioning."
        )
    for kind, text in _DEPRECATED_VOLUMES.items():
        if kind in spec:
            yield f"spec.{kind}: {text}"


def _service_warnings(obj: Object) -> Iterator[str]:
    spec = obj["spec"]
    if spec.get("clusterIP") == "None" and spec.get("sessionAffinity") == "ClientIP":
        yield "spec.SessionAffinity is ignored for headless services"


_CHECKS: dict[str, Callable[[Object], Iterator[str]]] = {
    "Pod": _pod_warnings,
    "Ingress": _ingress_warnings,
    "PersistentVolumeClaim": _claim_warnings,
    "PersistentVolume": _volume_warnings,
    "Service": _service_warnings,
}
