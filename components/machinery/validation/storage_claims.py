"""Validation of persistent volumes and the claims on them."""

from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.quantity import parse
from understudy.components.machinery.validation.findings import (
    Findings,
    forbidden,
    immutable,
    invalid,
    invalid_all,
    not_supported,
    one_of,
    required,
)
from understudy.components.machinery.validation.metadata import validate_label_selector
from understudy.components.machinery.validation.placement import validate_node_selector
from understudy.components.machinery.validation.resource_amounts import validate_resource_name
from understudy.components.machinery.validation.rules import Rules
from understudy.components.machinery.validation.volumes import PERSISTENT_SOURCES, validate_source

Object = dict[str, Any]

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")
_RECLAIM = ("Delete", "Recycle", "Retain")
_CLAIM_CHANGES = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound "
    "claims"
)


def _access_modes(modes: list[str], path: str) -> Findings:
    found: Findings = []
    if not modes:
        found.append(required(path))
    found += [not_supported(path, mode, ACCESS_MODES) for mode in modes if mode not in ACCESS_MODES]
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        detail = "may not use ReadWriteOncePod with other access modes"
        found.append(forbidden(path, detail))
    return found


def validate_claim_spec(spec: Object, path: str) -> Findings:
    """How much storage, in which way to be used."""
    found = _access_modes(spec.get("accessModes", []), f"{path}.accessModes")
    found += validate_label_selector(spec.get("selector"), f"{path}.selector")
    storage = spec["resources"].get("requests", {}).get("storage")
    at = f"{path}.resources[storage]"
    if storage is None:
        found.append(required(at))
    elif parse(storage) <= 0:
        found.append(invalid(at, storage, "must be greater than zero"))
    for field in ("storageClassName", "volumeAttributesClassName"):
        if spec.get(field):
            found += invalid_all(f"{path}.{field}", spec[field], names.dns1123_subdomain(spec[field]))
    if "volumeMode" in spec:
        found += one_of(f"{path}.volumeMode", spec["volumeMode"], VOLUME_MODES)
    for field in ("dataSource", "dataSourceRef"):
        source = spec.get(field)
        if source is not None:
            found += [required(f"{path}.{field}.{name}") for name in ("name", "kind") if not source[name]]
            if not source.get("apiGroup") and source["kind"] and source["kind"] != "PersistentVolumeClaim":
                detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
                found.append(invalid(f"{path}.{field}", source["kind"], detail))
    return found


def _claim(claim: Object) -> Findings:
    return validate_claim_spec(claim["spec"], "spec")


def _claim_change(new: Object, old: Object) -> Findings:
    found = _claim(new)
    spec, before = dict(new["spec"]), old["spec"]
    bound = old.get("status", {}).get("phase") == "Bound"
    if not before.get("volumeName") and spec.get("volumeName"):
        spec.pop("volumeName")
    if "storageClassName" not in before:
        spec.pop("storageClassName", None)
    if bound:
        size = (spec["resources"]["requests"].get("storage"), before["resources"]["requests"].get("storage"))
        for field in ("volumeAttributesClassName",):
            if field in before:
                spec[field] = before[field]
            else:
                spec.pop(field, None)
        spec["resources"] = before["resources"]
        status = old.get("status", {})
        grown = parse(size[0]) >= parse(size[1]) or parse(size[0]) >= parse(
            status.get("capacity", {}).get("storage", size[1])
        )
        if not grown:
            detail = "field can not be less than status.capacity"
            found.append(forbidden("spec.resources.requests.storage", detail))
    if spec != before:
        found.append(forbidden("spec", _CLAIM_CHANGES))
    found += immutable("spec.volumeMode", new["spec"].get("volumeMode"), before.get("volumeMode"))
    return found


def _claim_status(new: Object, old: Object) -> Findings:
    found: Findings = []
    for name, amount in sorted(new.get("status", {}).get("capacity", {}).items()):
        if parse(amount) < 0:
            at = f"status.capacity[{name}]"
            found.append(invalid(at, amount, "must be greater than or equal to 0"))
    return found


def _volume(volume: Object) -> Findings:
    spec = volume["spec"]
    found = _access_modes(spec.get("accessModes", []), "spec.accessModes")
    capacity = spec.get("capacity", {})
    if not capacity:
        found.append(required("spec.capacity"))
    if list(capacity) != ["storage"]:
        found.append(not_supported("spec.capacity", capacity, ("storage",)))
    for name in sorted(capacity):
        at = f"spec.capacity[{name}]"
        found += validate_resource_name(name, at)
        if parse(capacity[name]) <= 0:
            found.append(invalid(at, capacity[name], "must be greater than zero"))
    if spec.get("persistentVolumeReclaimPolicy"):
        policy = spec["persistentVolumeReclaimPolicy"]
        found += one_of("spec.persistentVolumeReclaimPolicy", policy, _RECLAIM)
    node_affinity = spec.get("nodeAffinity")
    if node_affinity is not None:
        if "required" not in node_affinity:
            detail = "must specify required node constraints"
            found.append(required("spec.nodeAffinity.required", detail))
        else:
            found += validate_node_selector(node_affinity["required"], "spec.nodeAffinity.required")
    found += validate_source(spec, "spec", PERSISTENT_SOURCES)
    if "local" in spec and node_affinity is None:
        found.append(required("spec.nodeAffinity", "Local volume requires node affinity"))
    if "hostPath" in spec:
        path = spec["hostPath"]["path"]
        if path == "/" and spec.get("persistentVolumeReclaimPolicy") == "Recycle":
            detail = "may not be 'recycle' for a hostPath mount of '/'"
            found.append(forbidden("spec.persistentVolumeReclaimPolicy", detail))
    if spec.get("storageClassName"):
        name = spec["storageClassName"]
        found += invalid_all("spec.storageClassName", name, names.dns1123_subdomain(name))
    if "volumeMode" in spec:
        found += one_of("spec.volumeMode", spec["volumeMode"], VOLUME_MODES)
    return found


def _volume_change(new: Object, old: Object) -> Findings:
    found: Findings = []
    spec, before = new["spec"], old["spec"]
    sources = [kind for kind in PERSISTENT_SOURCES if kind in spec or kind in before]
    if any(spec.get(kind) != before.get(kind) for kind in sources):
        detail = "spec.persistentvolumesource is immutable after creation"
        found.append(forbidden("spec.persistentvolumesource", detail))
    found += immutable("spec.volumeMode", spec.get("volumeMode"), before.get("volumeMode"))
    if "nodeAffinity" in before:
        found += immutable("spec.nodeAffinity", spec.get("nodeAffinity"), before["nodeAffinity"])
    return found


RULES: dict[str, Rules] = {
    "v1 PersistentVolumeClaim": Rules(
        create=_claim, change=_claim_change, status=_claim_status, revalidates=False
    ),
    "v1 PersistentVolume": Rules(create=_volume, change=_volume_change),
}
