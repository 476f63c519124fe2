"""Validation of the metadata that all objects share."""

from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.names import NameCheck
from understudy.components.machinery.validation.findings import (
    Findings,
    forbidden,
    immutable,
    invalid,
    invalid_all,
    non_negative,
    required,
    too_long,
)

Object = dict[str, Any]

ANNOTATIONS_MAX_BYTES = 256 * 1024
_STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")
_FIELDS_TYPE = "FieldsV1"
_MANAGER_MAX = 128


def validate_metadata(
    metadata: Object,
    *,
    namespaced: bool,
    name_check: NameCheck,
    path: str = "metadata",
    known_finalizers: bool = True,
) -> Findings:
    """The metadata of an object that is to be created.

    `known_finalizers` wants finalizers without a domain to be among the standard ones (built-in kinds do).
    """
    found: Findings = []
    prefix = metadata.get("generateName")
    if prefix:
        found += invalid_all(f"{path}.generateName", prefix, name_check(mask_trailing_dash(prefix)))
    name = metadata.get("name")
    if name:
        found += invalid_all(f"{path}.name", name, name_check(name))
    else:
        found.append(required(f"{path}.name", "name or generateName is required"))
    found += _namespace(metadata.get("namespace", ""), namespaced, path)
    if "generation" in metadata:
        found += non_negative(f"{path}.generation", metadata["generation"])
    found += validate_labels(metadata.get("labels"), f"{path}.labels")
    found += validate_annotations(metadata.get("annotations"), f"{path}.annotations")
    if "ownerReferences" in metadata:
        found += _owner_references(metadata["ownerReferences"], f"{path}.ownerReferences")
    finalizers = metadata.get("finalizers")
    if finalizers:
        for finalizer in finalizers:
            found += invalid_all(f"{path}.finalizers", finalizer, names.qualified_name(finalizer))
        if "orphan" in finalizers and "foregroundDeletion" in finalizers:
            detail = 'finalizer "orphan" and "foregroundDeletion" cannot be both set'
            found.append(invalid(f"{path}.finalizers", finalizers, detail))
    found += _managed_fields(metadata.get("managedFields"), f"{path}.managedFields")
    if known_finalizers and finalizers:
        found += _standard_finalizers(finalizers, path)
    return found


def mask_trailing_dash(text: str) -> str:
    """The text as it would be with something behind it: a trailing dash is no fault of a prefix."""
    return text[:-1] + "a" if len(text) > 1 and text.endswith("-") else text


def _namespace(namespace: str, namespaced: bool, path: str) -> Findings:
    if not namespaced:
        return [forbidden(f"{path}.namespace", "not allowed on this type")] if namespace else []
    if not namespace:
        return [required(f"{path}.namespace")]
    return invalid_all(f"{path}.namespace", namespace, names.dns1123_label(namespace))


def _standard_finalizers(finalizers: list[str], path: str) -> Findings:
    detail = "name is neither a standard finalizer name nor is it fully qualified"
    return [
        invalid(f"{path}.finalizers[{index}]", finalizer, detail)
        for index, finalizer in enumerate(finalizers)
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS
    ]


def validate_labels(labels: dict[str, str] | None, path: str) -> Findings:
    """Labels, and node selectors: qualified keys, label values."""
    found: Findings = []
    if labels:
        for key in sorted(labels):
            found += invalid_all(path, key, names.qualified_name(key))
            found += invalid_all(path, labels[key], names.label_value(labels[key]))
    return found


def validate_annotations(annotations: dict[str, str] | None, path: str) -> Findings:
    """Annotations: qualified keys in any case, 256 kB in all."""
    found: Findings = []
    if annotations:
        size = 0
        for key in sorted(annotations):
            found += invalid_all(path, key, names.qualified_name(key.lower()))
            size += len(key.encode()) + len(annotations[key].encode())
        if size > ANNOTATIONS_MAX_BYTES:
            found.append(too_long(path, f"may not be more than {ANNOTATIONS_MAX_BYTES} bytes"))
    return found


def _owner_references(references: list[Object], path: str) -> Findings:
    found: Findings = []
    controller: Object | None = None
    for reference in references:
        group, _, version = reference["apiVersion"].rpartition("/")
        if not version:
            found.append(invalid(f"{path}.apiVersion", reference["apiVersion"], "version must not be empty"))
        found += [
            invalid(f"{path}.{name}", reference[name], "must not be empty")
            for name in ("kind", "name", "uid")
            if not reference[name]
        ]
        if (group, version, reference["kind"]) == ("", "v1", "Event"):
            found.append(invalid(path, reference, "/v1, Kind=Event is disallowed from being an owner"))
        if reference.get("controller"):
            if controller is not None:
                both = (
                    f"{controller['kind']}/{controller['name']} and {reference['kind']}/{reference['name']}"
                )
                detail = 'Only one reference can have Controller set to true. Found "true" in references for '
                detail += both
                found.append(invalid(path, references, detail))
            controller = reference
    return found


def _managed_fields(entries: list[Object] | None, path: str) -> Findings:
    found: Findings = []
    for index, entry in enumerate(entries or ()):
        at = f"{path}[{index}]"
        if entry.get("operation") not in ("Apply", "Update"):
            found.append(
                invalid(f"{at}.operation", entry.get("operation", ""), "must be `Apply` or `Update`")
            )
        if entry.get("fieldsType") and entry["fieldsType"] != _FIELDS_TYPE:
            found.append(invalid(f"{at}.fieldsType", entry["fieldsType"], "must be `FieldsV1`"))
        manager = entry.get("manager", "")
        if len(manager) > _MANAGER_MAX:
            found.append(too_long(f"{at}.manager", f"may not be more than {_MANAGER_MAX} bytes"))
        elif not manager.isprintable():
            found.append(invalid(f"{at}.manager", manager, "should only contain printable characters"))
        if entry.get("subresource") and len(entry["subresource"]) > 256:
            found.append(too_long(f"{at}.subresource", "may not be more than 256 bytes"))
    return found


def validate_metadata_update(
    new: Object, old: Object, path: str = "metadata", known_finalizers: bool = True
) -> Findings:
    """The metadata of an object that replaces another: what may not change, and the rest as on create."""
    found: Findings = []
    if old.get("deletionTimestamp"):
        before = old.get("finalizers", [])
        added = [finalizer for finalizer in new.get("finalizers", ()) if finalizer not in before]
        if added:
            detail = (
                f"no new finalizers can be added if the object is being deleted, found new finalizers {added}"
            )
            found.append(forbidden(f"{path}.finalizers", detail))
    if not new.get("resourceVersion"):
        found.append(invalid(f"{path}.resourceVersion", "", "must be specified for an update"))
    if new.get("generation", 0) < old.get("generation", 0):
        found.append(invalid(f"{path}.generation", new.get("generation", 0), "must not be decremented"))
    for name in _IMMUTABLE:
        if new.get(name) != old.get(name):
            found += immutable(f"{path}.{name}", new.get(name), old.get(name))
    found += validate_labels(new.get("labels"), f"{path}.labels")
    found += validate_annotations(new.get("annotations"), f"{path}.annotations")
    if "ownerReferences" in new:
        found += _owner_references(new["ownerReferences"], f"{path}.ownerReferences")
    found += _managed_fields(new.get("managedFields"), f"{path}.managedFields")
    if known_finalizers and new.get("finalizers"):
        found += _standard_finalizers(new["finalizers"], path)
    return found


_IMMUTABLE = (
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)


def validate_label_selector(selector: Object | None, path: str) -> Findings:
    """A label selector in its object form."""
    found: Findings = []
    if not selector:
        return found
    found += validate_labels(selector.get("matchLabels"), f"{path}.matchLabels")
    for index, expression in enumerate(selector.get("matchExpressions", ())):
        at = f"{path}.matchExpressions[{index}]"
        operator, values = expression["operator"], expression.get("values", [])
        if operator in ("In", "NotIn"):
            if not values:
                detail = "must be specified when `operator` is 'In' or 'NotIn'"
                found.append(required(f"{at}.values", detail))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                found.append(forbidden(f"{at}.values", detail))
        else:
            found.append(invalid(f"{at}.operator", operator, "not a valid selector operator"))
        found += invalid_all(f"{at}.key", expression["key"], names.qualified_name(expression["key"]))
        for number, value in enumerate(values):
            found += invalid_all(f"{at}.values[{number}]", value, names.label_value(value))
    return found


def selector_is_empty(selector: Object | None) -> bool:
    """Whether the selector selects by nothing: absent, or without requirements."""
    return not selector or not (selector.get("matchLabels") or selector.get("matchExpressions"))


def selector_matches(selector: Object, labels: dict[str, str]) -> bool | None:
    """Whether the labels satisfy the selector; None when the selector itself is not valid."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", ()):
        value, operator = labels.get(expression["key"]), expression["operator"]
        values = expression.get("values", [])
        if operator == "In":
            satisfied = value in values
        elif operator == "NotIn":
            satisfied = value not in values
        elif operator == "Exists":
            satisfied = value is not None
        elif operator == "DoesNotExist":
            satisfied = value is None
        else:
            return None
        if not satisfied:
            return False
    return True
