"""Defaults of volumes, shared by pods and persistent volumes."""

from collections.abc import Callable
from typing import Any

from understudy.components.machinery.defaults.images import default_pull_policy

Object = dict[str, Any]

FILE_MODE = 0o644
TOKEN_SECONDS = 3600
CERTIFICATE_SECONDS = 86400


def default_claim_spec(spec: Object) -> None:
    """A claim is for a file system unless it says otherwise."""
    spec.setdefault("volumeMode", "Filesystem")


def _file_mode(source: Object) -> None:
    source.setdefault("defaultMode", FILE_MODE)


def default_field_references(items: list[Object]) -> None:
    """References to fields of the pod are of version v1; amounts of resources are counted in ones."""
    for item in items:
        if "fieldRef" in item:
            item["fieldRef"].setdefault("apiVersion", "v1")
        if "resourceFieldRef" in item:
            item["resourceFieldRef"].setdefault("divisor", "0")


def _downward(source: Object) -> None:
    _file_mode(source)
    default_field_references(source.get("items", []))


def _projected(source: Object) -> None:
    _file_mode(source)
    for projection in source.get("sources") or []:
        if "serviceAccountToken" in projection:
            projection["serviceAccountToken"].setdefault("expirationSeconds", TOKEN_SECONDS)
        if "downwardAPI" in projection:
            default_field_references(projection["downwardAPI"].get("items", []))
        if "podCertificate" in projection:
            projection["podCertificate"].setdefault("maxExpirationSeconds", CERTIFICATE_SECONDS)


def _host_path(source: Object) -> None:
    source.setdefault("type", "")


def _iscsi(source: Object) -> None:
    source.setdefault("iscsiInterface", "default")


def _rbd(source: Object) -> None:
    source.setdefault("pool", "rbd")
    source.setdefault("user", "admin")
    source.setdefault("keyring", "/etc/ceph/keyring")


def _azure_disk(source: Object) -> None:
    source.setdefault("cachingMode", "ReadWrite")
    source.setdefault("kind", "Shared")
    source.setdefault("fsType", "ext4")
    source.setdefault("readOnly", False)


def _scale_io(source: Object) -> None:
    source.setdefault("storageMode", "ThinProvisioned")
    source.setdefault("fsType", "xfs")


def _ephemeral(source: Object) -> None:
    if "volumeClaimTemplate" in source:
        default_claim_spec(source["volumeClaimTemplate"]["spec"])


def _image(source: Object) -> None:
    source.setdefault("pullPolicy", default_pull_policy(source.get("reference", "")))


_SOURCES: dict[str, Callable[[Object], None]] = {
    "secret": _file_mode,
    "configMap": _file_mode,
    "downwardAPI": _downward,
    "projected": _projected,
    "hostPath": _host_path,
    "iscsi": _iscsi,
    "rbd": _rbd,
    "azureDisk": _azure_disk,
    "scaleIO": _scale_io,
    "ephemeral": _ephemeral,
    "image": _image,
}


def default_volume_source(source: Object) -> None:
    """Defaults of the one volume source that the object holds."""
    for name in source:
        apply = _SOURCES.get(name)
        if apply is not None:
            apply(source[name])


def default_volume(volume: Object) -> None:
    """A pod's volume; one without a source is an empty directory."""
    if len(volume) == (1 if "name" in volume else 0):
        volume["emptyDir"] = {}
        return
    default_volume_source(volume)
