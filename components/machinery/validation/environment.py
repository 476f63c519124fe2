"""Validation of environment variables, and of references to a pod's own fields and resources."""

import re
from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.validation.findings import (
    Findings,
    invalid,
    invalid_all,
    not_supported,
    one_of,
    required,
)

Object = dict[str, Any]

_ENV_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
VOLUME_FIELDS = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
_CONTAINER_RESOURCES = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_subscripted = re.compile(r"(metadata\.(?:labels|annotations))\['(.*)'\]").fullmatch


def validate_environment(variables: list[Object], path: str) -> Findings:
    """Variables: each with a name, and a value or one source of it."""
    found: Findings = []
    for index, variable in enumerate(variables):
        at = f"{path}[{index}]"
        if variable["name"]:
            found += invalid_all(f"{at}.name", variable["name"], names.environment_variable(variable["name"]))
        else:
            found.append(required(f"{at}.name"))
        if "valueFrom" in variable:
            found += _value_from(variable, f"{at}.valueFrom")
    return found


def _value_from(variable: Object, path: str) -> Findings:
    source = variable["valueFrom"]
    found: Findings = []
    count = 0
    if "fieldRef" in source:
        count += 1
        found += validate_field_selector(source["fieldRef"], f"{path}.fieldRef", ENV_FIELDS)
    if "resourceFieldRef" in source:
        count += 1
        found += validate_resource_field(source["resourceFieldRef"], f"{path}.resourceFieldRef", False)
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if kind in source:
            count += 1
            found += _key_selector(source[kind], f"{path}.{kind}")
    if "fileKeyRef" in source:
        count += 1
        for name in ("volumeName", "path", "key"):
            if not source["fileKeyRef"].get(name):
                found.append(required(f"{path}.fileKeyRef.{name}"))
    if count == 0:
        listed = ", ".join(f"`{name}`" for name in _ENV_SOURCES[:-1])
        found.append(invalid(path, "", f"must specify one of: {listed} or `{_ENV_SOURCES[-1]}`"))
    elif variable.get("value"):
        found.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif count > 1:
        found.append(invalid(path, "", "may not have more than one field specified at a time"))
    return found


def _key_selector(selector: Object, path: str) -> Findings:
    found: Findings = []
    if not selector.get("name"):
        found.append(required(f"{path}.name"))
    else:
        found += invalid_all(f"{path}.name", selector["name"], names.dns1123_subdomain(selector["name"]))
    if not selector.get("key"):
        found.append(required(f"{path}.key"))
    else:
        found += invalid_all(f"{path}.key", selector["key"], names.config_key(selector["key"]))
    return found


def validate_field_selector(selector: Object, path: str, supported: tuple[str, ...]) -> Findings:
    """A reference to one of the pod's own fields."""
    if not selector.get("apiVersion"):
        return [required(f"{path}.apiVersion")]
    field = selector["fieldPath"]
    if not field:
        return [required(f"{path}.fieldPath")]
    match = _subscripted(field)
    if match is not None:
        key = match[2] if match[1].endswith("labels") else match[2].lower()
        return invalid_all(f"{path}.fieldPath", match[2], names.qualified_name(key))
    return one_of(f"{path}.fieldPath", field, supported)


def validate_resource_field(selector: Object, path: str, in_volume: bool) -> Findings:
    """A reference to an amount that a container asked for."""
    if in_volume and not selector.get("containerName"):
        return [required(f"{path}.containerName")]
    resource = selector["resource"]
    if not resource:
        return [required(f"{path}.resource")]
    if resource in _CONTAINER_RESOURCES or resource.partition(".")[2].startswith("hugepages-"):
        return []
    return [not_supported(f"{path}.resource", resource, _CONTAINER_RESOURCES)]


def validate_environment_from(sources: list[Object], path: str) -> Findings:
    """All keys of a ConfigMap or Secret as variables."""
    found: Findings = []
    for index, source in enumerate(sources):
        at = f"{path}[{index}]"
        if source.get("prefix"):
            found += invalid_all(
                f"{at}.prefix", source["prefix"], names.environment_variable(source["prefix"])
            )
        given = [kind for kind in ("configMapRef", "secretRef") if kind in source]
        for kind in given:
            name = source[kind].get("name", "")
            if not name:
                found.append(required(f"{at}.{kind}.name"))
            else:
                found += invalid_all(f"{at}.{kind}.name", name, names.dns1123_subdomain(name))
        if not given:
            found.append(invalid(at, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(given) > 1:
            found.append(invalid(at, "", "may not have more than one field specified at a time"))
    return found
