"""Validation of resource names and amounts: requests, limits, quotas, capacities."""

from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.quantity import QuantityError, parse
from understudy.components.machinery.validation.findings import (
    Findings,
    duplicate,
    forbidden,
    invalid,
    invalid_all,
    not_found,
    required,
)

Object = dict[str, Any]

CONTAINER_RESOURCES = ("cpu", "memory", "ephemeral-storage")
_QUOTA_RESOURCES = (
    *CONTAINER_RESOURCES,
    *(f"{side}.{name}" for side in ("requests", "limits") for name in CONTAINER_RESOURCES),
    "requests.storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
)
_STANDARD = frozenset((*_QUOTA_RESOURCES, "storage"))
_INTEGER = frozenset(
    (
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    )
)


def is_huge_pages(name: str) -> bool:
    """Whether the resource is memory in huge pages of some size."""
    return name.startswith("hugepages-")


def is_native(name: str) -> bool:
    """Whether Kubernetes itself knows the resource."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    """Whether the resource is some vendor's, counted in whole pieces."""
    if is_native(name) or name.startswith("requests."):
        return False
    return not names.qualified_name(f"requests.{name}")


def _may_be_overcommitted(name: str) -> bool:
    return is_native(name) and not is_huge_pages(name)


def validate_resource_name(name: str, path: str) -> Findings:
    """Any resource: a standard name, or one with a domain."""
    found = invalid_all(path, name, names.qualified_name(name))
    if not found and "/" not in name and name not in _STANDARD and not is_huge_pages(name):
        found.append(invalid(path, name, "must be a standard resource type or fully qualified"))
    return found


def validate_container_resource_name(name: str, path: str) -> Findings:
    """A resource that containers can ask for."""
    found = validate_resource_name(name, path)
    if "/" not in name:
        if name not in CONTAINER_RESOURCES and not is_huge_pages(name):
            found.append(invalid(path, name, "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        found.append(invalid(path, name, "doesn't follow extended resource name standard"))
    return found


def validate_quota_resource_name(name: str, path: str) -> Findings:
    """A resource that a quota can limit."""
    found = validate_resource_name(name, path)
    if "/" not in name and name not in _QUOTA_RESOURCES and not is_huge_pages(name.partition(".")[2] or name):
        found.append(invalid(path, name, "must be a standard resource for quota"))
    return found


def validate_amount(name: str, amount: str, path: str) -> Findings:
    """An amount of the resource: not negative, and whole where pieces are counted."""
    value = parse(amount)
    found: Findings = []
    if value < 0:
        found.append(invalid(path, amount, "must be greater than or equal to 0"))
    if (name in _INTEGER or is_extended(name)) and value.denominator != 1:
        found.append(invalid(path, amount, "must be an integer"))
    return found


def validate_requirements(resources: Object, path: str, claim_names: list[str] | None = None) -> Findings:
    """Requests and limits of a container, and the devices it uses among the pod's claims."""
    found: Findings = []
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    for name in sorted(limits):
        at = f"{path}.limits[{name}]"
        found += validate_container_resource_name(name, at)
        found += validate_amount(name, limits[name], at)
    for name in sorted(requests):
        at = f"{path}.requests[{name}]"
        found += validate_container_resource_name(name, at)
        found += validate_amount(name, requests[name], at)
        found += _request_against_limit(name, requests[name], limits.get(name), path)
    asked = (*limits, *requests)
    if any(is_huge_pages(name) for name in asked) and "cpu" not in asked and "memory" not in asked:
        found.append(forbidden(path, "HugePages require cpu or memory"))
    if "claims" in resources:
        found += _claims(resources["claims"], claim_names or [], f"{path}.claims")
    return found


def _request_against_limit(name: str, request: str, limit: str | None, path: str) -> Findings:
    if limit is None:
        if _may_be_overcommitted(name):
            return []
        return [required(f"{path}.limits", "Limit must be set for non overcommitable resources")]
    if request == limit:
        return []
    wanted, allowed = parse(request), parse(limit)
    if wanted != allowed and not _may_be_overcommitted(name):
        return [invalid(f"{path}.requests", request, f"must be equal to {name} limit of {limit}")]
    if wanted > allowed:
        return [
            invalid(f"{path}.requests", request, f"must be less than or equal to {name} limit of {limit}")
        ]
    return []


def _claims(claims: list[Object], known: list[str], path: str) -> Findings:
    found: Findings = []
    seen: list[str] = []
    for index, claim in enumerate(claims):
        at, name = f"{path}[{index}]", claim["name"]
        request = claim.get("request", "")
        key = f"{name}/{request}" if request else name
        if not name:
            found.append(required(f"{at}.name"))
            continue
        if key in seen:
            found.append(duplicate(at, name))
            continue
        seen.append(key)
        if name not in known:
            detail = "must be one of the names in pod.spec.resourceClaims"
            detail += ": " + ", ".join(known) if known else " which is empty"
            found.append(not_found(at, name, detail))
    return found


def is_amount(text: Any) -> bool:
    """Whether the value can be read as a quantity."""
    try:
        parse(str(text))
    except QuantityError:
        return False
    return True
