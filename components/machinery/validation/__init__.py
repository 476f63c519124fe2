"""Validation: which objects the API server takes, and which changes to them.

All functions take defaulted and prepared objects and return findings, in the order in which a real server
reports them; an empty list means the object may be stored. `errors.invalid` makes the answer.
"""

from typing import Any

from understudy.components.machinery.errors import FieldError
from understudy.components.machinery.names import path_segment
from understudy.components.machinery.resources import for_kind
from understudy.components.machinery.validation import (
    autoscaling,
    batch,
    cluster,
    core,
    definitions,
    grants,
    networking,
    nodes,
    pods,
    services,
    storage_claims,
    webhooks,
    workloads,
)
from understudy.components.machinery.validation.findings import invalid_all
from understudy.components.machinery.validation.metadata import validate_metadata, validate_metadata_update
from understudy.components.machinery.validation.rules import Rules

Object = dict[str, Any]

_RULES: dict[str, Rules] = {
    **pods.RULES,
    **services.RULES,
    **storage_claims.RULES,
    **core.RULES,
    **nodes.RULES,
    **workloads.RULES,
    **batch.RULES,
    **autoscaling.RULES,
    **networking.RULES,
    **grants.RULES,
    **cluster.RULES,
    **webhooks.RULES,
    **definitions.RULES,
}
_PLAIN = Rules(known_finalizers=False)


def _rules(obj: Object) -> Rules:
    return _RULES.get(f"{obj['apiVersion']} {obj['kind']}", _PLAIN)


def validate_create(obj: Object, *, namespaced: bool | None = None) -> list[FieldError]:
    """Findings about an object that is to be created.

    `namespaced` says whether the kind lives in namespaces; for built-in kinds it is looked up.
    """
    rules = _rules(obj)
    metadata = obj["metadata"]
    found: list[FieldError] = []
    if namespaced is None:
        namespaced = _namespaced(obj)
    if rules.validates_metadata:
        found += validate_metadata(
            metadata,
            namespaced=namespaced,
            name_check=rules.name,
            known_finalizers=rules.known_finalizers,
        )
    found += rules.create(obj)
    if not found:
        if not rules.validates_metadata:
            found += validate_metadata(
                metadata, namespaced=namespaced, name_check=path_segment, known_finalizers=False
            )
        else:
            found += invalid_all("metadata.name", metadata["name"], path_segment(metadata["name"]))
    return found


def validate_update(new: Object, old: Object) -> list[FieldError]:
    """Findings about an object that is to replace `old`."""
    rules = _rules(new)
    found = _metadata_update(new, old, rules)
    changes = rules.change(new, old)
    whole = rules.create(new) if rules.revalidates else []
    return found + whole + changes if rules.change_last else found + changes + whole


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    """Findings about an object whose status is to be stored."""
    rules = _rules(new)
    return _metadata_update(new, old, rules) + rules.status(new, old)


def validate_subresource_update(subresource: str, new: Object, old: Object) -> list[FieldError]:
    """Findings about an object that is to be stored through another subresource than `status`."""
    if subresource == "status":
        return validate_status_update(new, old)
    rules = _rules(new)
    found = _metadata_update(new, old, rules)
    check = rules.subresources.get(subresource)
    return found + check(new, old) if check is not None else found


def _metadata_update(new: Object, old: Object, rules: Rules) -> list[FieldError]:
    """Findings about metadata, twice: as of any object and as of the kind; the real server gives both."""
    found = validate_metadata_update(new["metadata"], old["metadata"], known_finalizers=False)
    if rules.validates_metadata and (found or new["metadata"].get("finalizers")):
        found += validate_metadata_update(
            new["metadata"], old["metadata"], known_finalizers=rules.known_finalizers
        )
    return found


def _namespaced(obj: Object) -> bool:
    resource = for_kind(obj["apiVersion"], obj["kind"])
    return resource.namespaced if resource is not None else bool(obj["metadata"].get("namespace"))


__all__ = [
    "validate_create",
    "validate_status_update",
    "validate_subresource_update",
    "validate_update",
]
