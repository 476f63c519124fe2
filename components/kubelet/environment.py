"""The environment of a container: plain values, references, whole ConfigMaps, and the Services around it.

Resolving is pure: `needed` says which objects to fetch first. Order and precedence are the kubelet's: service
variables first, then `envFrom`, then `env`, each of which may use what came before as `$(NAME)`.
"""

import re
from base64 import b64decode
from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from typing import Any

from attrs import frozen

from understudy.components.machinery.quantity import parse

from .runtime_state import Object

_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_FIELD = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]")


class ConfigError(Exception):
    """Something that the container's configuration refers to is missing: `CreateContainerConfigError`."""


@frozen(order=True)
class Source:
    """A ConfigMap or Secret of the pod's namespace."""

    kind: str
    """`ConfigMap` or `Secret`."""
    name: str


_Fetched = Mapping[Source, Object | None]
"""None: it does not exist."""


def needed(container: Object) -> list[Source]:
    """What must be fetched to resolve a container's environment."""
    found: dict[Source, None] = {}
    for entry in container.get("envFrom") or ():
        for source, _ in _env_from_sources(entry):
            found[source] = None
    for variable in container.get("env") or ():
        value_from = variable.get("valueFrom") or {}
        for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
            if value_from.get(field):
                found[Source(kind, value_from[field].get("name", ""))] = None
    return sorted(found)


def _env_from_sources(entry: Object) -> list[tuple[Source, bool]]:
    return [
        (Source(kind, entry[field].get("name", "")), bool(entry[field].get("optional")))
        for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret"))
        if entry.get(field)
    ]


def source_data(source: Source, obj: Object) -> dict[str, str]:
    """The text data of a ConfigMap or Secret."""
    data = obj.get("data") or {}
    if source.kind == "Secret":
        return {key: b64decode(value).decode("utf-8", "replace") for key, value in data.items()}
    return dict(data)


def resolve(
    pod: Object,
    container: Object,
    fetched: _Fetched,
    facts: Mapping[str, str],
    services: Mapping[str, str],
    allocatable: Mapping[str, str],
) -> dict[str, str]:
    """The variables in their order.

    `facts`: what only the kubelet knows: `status.podIP`, `status.podIPs`, `status.hostIP`,
    `status.hostIPs`. `allocatable`: the node's, which stand for limits that are not set.

    Raises:
        ConfigError: an object or a key is missing and not optional.
    """
    result: dict[str, str] = {}
    for entry in container.get("envFrom") or ():
        for source, optional in _env_from_sources(entry):
            obj = fetched[source]
            if obj is None:
                if optional:
                    continue
                raise ConfigError(_missing(source))
            prefix = entry.get("prefix") or ""
            for key, value in sorted(source_data(source, obj).items()):
                if _NAME.fullmatch(prefix + key):
                    result[prefix + key] = value
    for variable in container.get("env") or ():
        seen = dict(services) | result
        value_from = variable.get("valueFrom")
        text: str | None
        if value_from:
            text = _referred(pod, container, value_from, fetched, facts, allocatable)
        else:
            text = expand(variable.get("value") or "", seen)
        if text is not None:
            result[variable["name"]] = text
    for name, value in services.items():
        result.setdefault(name, value)
    return result


def _missing(source: Source) -> str:
    return f'{source.kind.lower()} "{source.name}" not found'


def _referred(
    pod: Object,
    container: Object,
    value_from: Object,
    fetched: _Fetched,
    facts: Mapping[str, str],
    allocatable: Mapping[str, str],
) -> str | None:
    if value_from.get("fieldRef"):
        return pod_field(pod, value_from["fieldRef"].get("fieldPath", ""), facts)
    if value_from.get("resourceFieldRef"):
        return resource_field(pod, container, value_from["resourceFieldRef"], allocatable)
    for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
        reference = value_from.get(field)
        if not reference:
            continue
        source = Source(kind, reference.get("name", ""))
        optional = bool(reference.get("optional"))
        obj = fetched[source]
        if obj is None:
            if optional:
                return None
            raise ConfigError(_missing(source))
        data = source_data(source, obj)
        if reference["key"] not in data:
            if optional:
                return None
            place = f"{pod['metadata']['namespace']}/{source.name}"
            raise ConfigError(f"couldn't find key {reference['key']} in {kind} {place}")
        return data[reference["key"]]
    raise ConfigError(f"unsupported source of a variable: {', '.join(sorted(value_from))}")


def pod_field(pod: Object, path: str, facts: Mapping[str, str]) -> str:
    """One field of the pod, as `fieldRef` names it."""
    metadata = pod["metadata"]
    match = _FIELD.fullmatch(path)
    if match is not None:
        return str((metadata.get(match.group(1)) or {}).get(match.group(2), ""))
    match path:
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            return str(metadata.get(path.partition(".")[2], ""))
        case "metadata.labels" | "metadata.annotations":
            found = metadata.get(path.partition(".")[2]) or {}
            return "\n".join(f'{key}="{_escaped(value)}"' for key, value in sorted(found.items()))
        case "spec.nodeName" | "spec.serviceAccountName":
            return str(pod["spec"].get(path.partition(".")[2], ""))
    if path in facts:
        return facts[path]
    raise ConfigError(f"unsupported fieldPath: {path}")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resource_field(pod: Object, container: Object, reference: Object, allocatable: Mapping[str, str]) -> str:
    """A container's request or limit in units of the divisor, rounded up."""
    name = reference.get("containerName")
    if name:
        every = (*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or ()))
        container = next((c for c in every if c["name"] == name), container)
    kind, _, resource = str(reference["resource"]).partition(".")
    resources = container.get("resources") or {}
    amount: Any = (resources.get(kind) or {}).get(resource)
    if amount is None and kind == "limits":
        amount = allocatable.get(resource)
    if amount is None:
        return "0"
    divisor = parse(str(reference.get("divisor") or "1")) or Fraction(1)
    return str(ceil(parse(str(amount)) / divisor))


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by the variable; unknown ones stay, and `$$` is a dollar sign."""

    def replaced(match: "re.Match[str]") -> str:
        if match.group() == "$$":
            return "$"
        return variables.get(match.group(1), match.group())

    return re.sub(r"\$\$|\$\(([^()]+)\)", replaced, text)


def service_variables(services: list[Object], namespace: str, *, links: bool) -> dict[str, str]:
    """The variables for Services: those of the pod's namespace if `links`, and always `kubernetes`."""
    chosen: dict[str, Object] = {}
    for service in services:
        metadata, spec = service["metadata"], service["spec"]
        if spec.get("clusterIP") in (None, "", "None"):
            continue
        if metadata["namespace"] == "default" and metadata["name"] == "kubernetes":
            chosen.setdefault("kubernetes", service)
        if links and metadata["namespace"] == namespace:
            chosen[metadata["name"]] = service
    variables: dict[str, str] = {}
    for _, service in sorted(chosen.items()):
        variables |= _of_service(service)
    return variables


def _of_service(service: Object) -> dict[str, str]:
    name = service["metadata"]["name"].upper().replace("-", "_")
    ip, ports = service["spec"]["clusterIP"], service["spec"].get("ports") or []
    if not ports:
        return {}
    result = {f"{name}_SERVICE_HOST": ip, f"{name}_SERVICE_PORT": str(ports[0]["port"])}
    for port in ports:
        if port.get("name"):
            suffix = port["name"].upper().replace("-", "_")
            result[f"{name}_SERVICE_PORT_{suffix}"] = str(port["port"])
    for number, port in enumerate(ports):
        protocol = port.get("protocol") or "TCP"
        url = f"{protocol.lower()}://{ip}:{port['port']}"
        prefix = f"{name}_PORT_{port['port']}_{protocol.upper()}"
        if number == 0:
            result[f"{name}_PORT"] = url
        result[prefix] = url
        result[f"{prefix}_PROTO"] = protocol.lower()
        result[f"{prefix}_PORT"] = str(port["port"])
        result[f"{prefix}_ADDR"] = ip
    return result
