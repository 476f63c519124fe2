"""Which resources there are: the built-in ones, and those that definitions add. All pure."""

from collections.abc import Iterable
from typing import Any

from understudy.components.controllers.conditions import is_true
from understudy.components.machinery.resources import Resource, builtin_resources

Object = dict[str, Any]

_VERBS = frozenset({"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"})


def custom_resource(definition: Object) -> Resource | None:
    """The resource that a CustomResourceDefinition serves, in its storage version; None while it does not."""
    if not is_true(definition, "Established"):
        return None
    spec = definition["spec"]
    served = [version for version in spec["versions"] if version.get("served")]
    if not served:
        return None
    version = next((v for v in served if v.get("storage")), served[0])
    names = spec["names"]
    return Resource(
        group=spec["group"],
        version=version["name"],
        plural=names["plural"],
        kind=names["kind"],
        singular=names.get("singular", ""),
        namespaced=spec.get("scope") == "Namespaced",
        verbs=_VERBS,
    )


def preferred(resources: Iterable[Resource]) -> list[Resource]:
    """One version of each resource: the first, which is the one that discovery prefers."""
    found: dict[tuple[str, str], Resource] = {}
    for resource in resources:
        found.setdefault((resource.group, resource.plural), resource)
    return list(found.values())


def served_resources(definitions: Iterable[Object]) -> list[Resource]:
    """Every resource that can be listed and deleted, in one version each."""
    customs = [custom for d in definitions if (custom := custom_resource(d)) is not None]
    return [r for r in preferred([*builtin_resources(), *customs]) if {"list", "delete"} <= r.verbs]
