"""Rows of volumes, claims, storage classes and the CSI kinds."""

from collections.abc import Iterable
from typing import Any

from understudy.components.machinery.tables.printer import (
    AGE,
    NAME,
    NONE,
    UNSET,
    Column,
    Object,
    age_of,
    boolean,
    integer,
    name_of,
    printer,
    wide,
)

_ACCESS_MODES = (
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
)
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_CLASS_ANNOTATIONS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_DEFAULT_ATTRIBUTES_CLASS_ANNOTATION = "volumeattributesclass.alpha.kubernetes.io/is-default-class"


def _access_modes(modes: Iterable[str] | None) -> str:
    given = list(modes or ())
    return ",".join(short for mode, short in _ACCESS_MODES if mode in given)


def _annotations(obj: Object) -> Object:
    return obj["metadata"].get("annotations") or {}


def _phase(obj: Object) -> str:
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return str((obj.get("status") or {}).get("phase", ""))


def _storage_class(obj: Object) -> str:
    # The annotation came first and still wins over the field.
    named = _annotations(obj).get(_CLASS_ANNOTATION)
    if named is not None:
        return str(named)
    return (obj.get("spec") or {}).get("storageClassName") or ""


def _unset(value: str | None) -> str:
    return UNSET if value is None else value


def _volume(obj: Object, now_us: int) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    claim = spec.get("claimRef")
    return [
        name_of(obj),
        (spec.get("capacity") or {}).get("storage", "0"),
        _access_modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        _phase(obj),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _storage_class(obj),
        _unset(spec.get("volumeAttributesClassName")),
        status.get("reason", ""),
        age_of(obj, now_us),
        _unset(spec.get("volumeMode")),
    ]


def _claim(obj: Object, now_us: int) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    volume = spec.get("volumeName") or ""
    return [
        name_of(obj),
        _phase(obj),
        volume,
        (status.get("capacity") or {}).get("storage", "0") if volume else "",
        _access_modes(status.get("accessModes")) if volume else "",
        _storage_class(obj),
        _unset(spec.get("volumeAttributesClassName")),
        age_of(obj, now_us),
        _unset(spec.get("volumeMode")),
    ]


def _class(obj: Object, now_us: int) -> list[Any]:
    default = any(_annotations(obj).get(key) == "true" for key in _DEFAULT_CLASS_ANNOTATIONS)
    return [
        f"{name_of(obj)} (default)" if default else name_of(obj),
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        age_of(obj, now_us),
    ]


def _attributes_class(obj: Object, now_us: int) -> list[Any]:
    default = _annotations(obj).get(_DEFAULT_ATTRIBUTES_CLASS_ANNOTATION) == "true"
    name = f"{name_of(obj)} (default)" if default else name_of(obj)
    return [name, obj.get("driverName", ""), age_of(obj, now_us)]


def _attachment(obj: Object, now_us: int) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [
        name_of(obj),
        spec.get("attacher", ""),
        (spec.get("source") or {}).get("persistentVolumeName") or "",
        spec.get("nodeName", ""),
        bool(status.get("attached")),
        age_of(obj, now_us),
    ]


def _driver(obj: Object, now_us: int) -> list[Any]:
    spec = obj.get("spec") or {}
    requests = spec.get("tokenRequests")
    attach_required = spec.get("attachRequired")
    return [
        name_of(obj),
        True if attach_required is None else attach_required,
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        UNSET if requests is None else ",".join(request.get("audience", "") for request in requests),
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or ()) or NONE,
        age_of(obj, now_us),
    ]


def _csi_node(obj: Object, now_us: int) -> list[Any]:
    return [name_of(obj), len((obj.get("spec") or {}).get("drivers") or ()), age_of(obj, now_us)]


_VOLUME_MODE = wide("VolumeMode", "Whether the volume is a file system or a raw block device.")

PRINTERS = {
    "v1/persistentvolumes": printer(
        _volume,
        NAME,
        "Capacity",
        "Access Modes",
        "Reclaim Policy",
        "Status",
        "Claim",
        "StorageClass",
        "VolumeAttributesClass",
        "Reason",
        AGE,
        _VOLUME_MODE,
    ),
    "v1/persistentvolumeclaims": printer(
        _claim,
        NAME,
        "Status",
        "Volume",
        "Capacity",
        "Access Modes",
        "StorageClass",
        "VolumeAttributesClass",
        AGE,
        _VOLUME_MODE,
    ),
    "storage.k8s.io/v1/storageclasses": printer(
        _class, NAME, "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", AGE
    ),
    "storage.k8s.io/v1/volumeattributesclasses": printer(_attributes_class, NAME, "DriverName", AGE),
    "storage.k8s.io/v1/volumeattachments": printer(
        _attachment, NAME, Column("Attacher", format="name"), "PV", "Node", boolean("Attached"), AGE
    ),
    "storage.k8s.io/v1/csidrivers": printer(
        _driver,
        NAME,
        boolean("AttachRequired"),
        boolean("PodInfoOnMount"),
        boolean("StorageCapacity"),
        "TokenRequests",
        boolean("RequiresRepublish"),
        "Modes",
        AGE,
    ),
    "storage.k8s.io/v1/csinodes": printer(_csi_node, NAME, integer("Drivers"), AGE),
}
