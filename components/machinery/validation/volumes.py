"""Validation of volume sources, of pods and of persistent volumes."""

from collections.abc import Callable
from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.quantity import parse
from understudy.components.machinery.validation.containers import local_descending_path
from understudy.components.machinery.validation.environment import (
    VOLUME_FIELDS,
    validate_field_selector,
    validate_resource_field,
)
from understudy.components.machinery.validation.findings import (
    Findings,
    duplicate,
    forbidden,
    invalid,
    invalid_all,
    one_of,
    required,
)

Object = dict[str, Any]
Check = Callable[[Object, str], Findings]

_MODE_DETAIL = "must be a number between 0 and 0777 (octal), both inclusive"
_HOST_PATH_TYPES = (
    "",
    "DirectoryOrCreate",
    "Directory",
    "FileOrCreate",
    "File",
    "Socket",
    "CharDevice",
    "BlockDevice",
)
_TOKEN_SECONDS_MIN = 600
_TOKEN_SECONDS_MAX = 1 << 32


def validate_volumes(volumes: list[Object], path: str) -> tuple[dict[str, Object], Findings]:
    """A pod's volumes. Returns the valid ones by name, which mounts may use, and the findings."""
    found: Findings = []
    valid: dict[str, Object] = {}
    for index, volume in enumerate(volumes):
        at, name = f"{path}[{index}]", volume["name"]
        own = validate_source(volume, at, VOLUME_SOURCES, exclude=("name",))
        if name:
            own += invalid_all(f"{at}.name", name, names.dns1123_label(name))
            if name in valid:
                own.append(duplicate(f"{at}.name", name))
        else:
            own.append(required(f"{at}.name"))
        if own:
            found += own
        else:
            valid[name] = volume
    return valid, found


def validate_source(
    holder: Object, path: str, sources: dict[str, Check], exclude: tuple[str, ...] = ()
) -> Findings:
    """The holder has exactly one of the sources, and a valid one."""
    found: Findings = []
    first = True
    for kind in sources:
        if kind in holder and kind not in exclude:
            if first:
                found += sources[kind](holder[kind], f"{path}.{kind}")
                first = False
            else:
                found.append(forbidden(f"{path}.{kind}", "may not specify more than 1 volume type"))
    if first:
        found.append(required(path, "must specify a volume type"))
    return found


def _needs(*fields: str) -> Check:
    def check(source: Object, path: str) -> Findings:
        return [required(f"{path}.{field}") for field in fields if not source.get(field)]

    return check


def _empty_dir(source: Object, path: str) -> Findings:
    if "sizeLimit" in source and parse(source["sizeLimit"]) < 0:
        return [forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")]
    return []


def host_path(source: Object, path: str) -> Findings:
    """A path on the node."""
    if not source["path"]:
        return [required(f"{path}.path")]
    found: Findings = []
    if ".." in source["path"].split("/"):
        found.append(invalid(f"{path}.path", source["path"], "must not contain '..'"))
    return found + one_of(f"{path}.type", source.get("type", ""), _HOST_PATH_TYPES)


def _nfs(source: Object, path: str) -> Findings:
    found = _needs("server", "path")(source, path)
    if not source["path"].startswith("/"):
        found.append(invalid(f"{path}.path", source["path"], "must be an absolute path"))
    return found


def _mode(mode: int | None, path: str) -> Findings:
    if mode is None or 0 <= mode <= 0o777:
        return []
    return [invalid(path, mode, _MODE_DETAIL)]


def _file_path(text: str, path: str) -> Findings:
    found = local_descending_path(text, path)
    if text.startswith("..") and not text.startswith("../") and text != "..":
        found.append(invalid(path, text, "must not start with '..'"))
    return found


def _items(items: list[Object], path: str) -> Findings:
    found: Findings = []
    for index, item in enumerate(items):
        at = f"{path}[{index}]"
        found += [required(f"{at}.{field}") for field in ("key", "path") if not item[field]]
        if item["path"]:
            found += _file_path(item["path"], f"{at}.path")
        found += _mode(item.get("mode"), f"{at}.mode")
    return found


def _secret(source: Object, path: str) -> Findings:
    found = _needs("secretName")(source, path)
    found += _mode(source.get("defaultMode"), f"{path}.defaultMode")
    return found + _items(source.get("items", []), f"{path}.items")


def _config_map(source: Object, path: str) -> Findings:
    found = _needs("name")(source, path)
    found += _mode(source.get("defaultMode"), f"{path}.defaultMode")
    return found + _items(source.get("items", []), f"{path}.items")


def _downward_items(items: list[Object], path: str) -> Findings:
    found: Findings = []
    for index, item in enumerate(items):
        at = f"{path}[{index}]"
        if not item["path"]:
            found.append(required(f"{at}.path"))
        else:
            found += _file_path(item["path"], f"{at}.path")
        if "fieldRef" in item:
            found += validate_field_selector(item["fieldRef"], f"{at}.fieldRef", VOLUME_FIELDS)
            if "resourceFieldRef" in item:
                detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
                found.append(invalid(at, "resource", detail))
        elif "resourceFieldRef" in item:
            found += validate_resource_field(item["resourceFieldRef"], f"{at}.resourceFieldRef", True)
        else:
            found.append(required(at, "one of fieldRef and resourceFieldRef is required"))
        found += _mode(item.get("mode"), f"{at}.mode")
    return found


def _downward(source: Object, path: str) -> Findings:
    found = _mode(source.get("defaultMode"), f"{path}.defaultMode")
    return found + _downward_items(source.get("items", []), f"{path}.items")


_PROJECTIONS = (
    "secret",
    "configMap",
    "downwardAPI",
    "serviceAccountToken",
    "clusterTrustBundle",
    "podCertificate",
)


def _projected(source: Object, path: str) -> Findings:
    found = _mode(source.get("defaultMode"), f"{path}.defaultMode")
    seen: list[str] = []
    for index, projection in enumerate(source.get("sources") or ()):
        at = f"{path}.sources[{index}]"
        given = [kind for kind in _PROJECTIONS if kind in projection]
        if not given:
            found.append(required(at, "must specify a projection type"))
            continue
        found += [forbidden(f"{at}.{kind}", "may not specify more than 1 volume type") for kind in given[1:]]
        found += _projection(given[0], projection[given[0]], f"{at}.{given[0]}")
        for where in _projected_paths(given[0], projection[given[0]]):
            if where in seen:
                found.append(invalid(at, where, "conflicting duplicate paths"))
            elif where:
                seen.append(where)
    return found


def _projection(kind: str, value: Object, path: str) -> Findings:
    if kind in ("secret", "configMap"):
        return _needs("name")(value, path) + _items(value.get("items", []), f"{path}.items")
    if kind == "downwardAPI":
        return _downward_items(value.get("items", []), f"{path}.items")
    if kind != "serviceAccountToken":
        return []
    found: Findings = []
    seconds = value.get("expirationSeconds", 3600)
    if seconds < _TOKEN_SECONDS_MIN:
        found.append(
            invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
        )
    if seconds > _TOKEN_SECONDS_MAX:
        detail = "may not specify a duration larger than 2^32 seconds"
        found.append(invalid(f"{path}.expirationSeconds", seconds, detail))
    if not value["path"]:
        found.append(required(f"{path}.path"))
    else:
        found += _file_path(value["path"], f"{path}.path")
    return found


def _projected_paths(kind: str, value: Object) -> list[str]:
    if kind == "serviceAccountToken":
        return [value["path"]]
    return [item["path"] for item in value.get("items", ())]


def _iscsi(source: Object, path: str) -> Findings:
    found = _needs("targetPortal", "iqn")(source, path)
    iqn = source["iqn"]
    if iqn and not iqn.startswith(("iqn", "eui", "naa")):
        found.append(invalid(f"{path}.iqn", iqn, "must be valid format starting with iqn, eui, or naa"))
    if not 0 <= source["lun"] <= 255:
        found.append(invalid(f"{path}.lun", source["lun"], "must be between 0 and 255, inclusive"))
    return found


def _csi_inline(source: Object, path: str) -> Findings:
    found = validate_csi_driver_name(source["driver"], f"{path}.driver")
    if "nodePublishSecretRef" in source and not source["nodePublishSecretRef"].get("name"):
        found.append(required(f"{path}.nodePublishSecretRef.name"))
    return found


def _csi_persistent(source: Object, path: str) -> Findings:
    found = validate_csi_driver_name(source["driver"], f"{path}.driver")
    if not source["volumeHandle"]:
        found.append(required(f"{path}.volumeHandle"))
    for field in (
        "controllerPublishSecretRef",
        "nodePublishSecretRef",
        "controllerExpandSecretRef",
        "nodeExpandSecretRef",
        "nodeStageSecretRef",
    ):
        if field in source:
            found += _needs("name", "namespace")(source[field], f"{path}.{field}")
    return found


def validate_csi_driver_name(name: str, path: str) -> Findings:
    """The name of a storage driver: a domain of at most 63 characters."""
    if not name:
        return [required(path)]
    found: Findings = []
    if len(name) > 63:
        found.append(invalid(path, name, "must be no more than 63 characters"))
    return found + invalid_all(path, name, names.dns1123_subdomain(name.lower()))


def _local(source: Object, path: str) -> Findings:
    if not source["path"]:
        return [required(f"{path}.path")]
    if ".." in source["path"].split("/"):
        return [invalid(f"{path}.path", source["path"], "must not contain '..'")]
    return []


def _ephemeral(source: Object, path: str) -> Findings:
    # claims are validated with the persistent volumes, whose sources stand here
    from understudy.components.machinery.validation.storage_claims import validate_claim_spec

    template = source.get("volumeClaimTemplate")
    if template is None:
        return [required(f"{path}.volumeClaimTemplate")]
    return validate_claim_spec(template["spec"], f"{path}.volumeClaimTemplate.spec")


def _fc(source: Object, path: str) -> Findings:
    names_given, ids = source.get("targetWWNs"), source.get("wwids")
    if not names_given and not ids:
        detail = "must specify either targetWWNs or wwids, but not both"
        return [required(f"{path}.targetWWNs", detail)]
    if names_given and ids:
        detail = "targetWWNs and wwids can not be specified simultaneously"
        return [invalid(f"{path}.targetWWNs", names_given, detail)]
    if names_given and "lun" not in source:
        return [required(f"{path}.lun", "lun is required if targetWWNs is specified")]
    return []


_COMMON: dict[str, Check] = {
    "hostPath": host_path,
    "gcePersistentDisk": _needs("pdName"),
    "awsElasticBlockStore": _needs("volumeID"),
    "nfs": _nfs,
    "iscsi": _iscsi,
    "glusterfs": _needs("endpoints", "path"),
    "flocker": _needs(),
    "rbd": _needs("monitors", "image"),
    "cinder": _needs("volumeID"),
    "cephfs": _needs("monitors"),
    "quobyte": _needs("registry", "volume"),
    "fc": _fc,
    "flexVolume": _needs("driver"),
    "azureFile": _needs("secretName", "shareName"),
    "vsphereVolume": _needs("volumePath"),
    "photonPersistentDisk": _needs("pdID"),
    "portworxVolume": _needs("volumeID"),
    "azureDisk": _needs("diskName", "diskURI"),
    "storageos": _needs("volumeName"),
    "scaleIO": _needs("gateway", "system", "volumeName"),
}

VOLUME_SOURCES: dict[str, Check] = {
    "emptyDir": _empty_dir,
    **_COMMON,
    "gitRepo": _needs("repository"),
    "secret": _secret,
    "persistentVolumeClaim": _needs("claimName"),
    "downwardAPI": _downward,
    "configMap": _config_map,
    "projected": _projected,
    "csi": _csi_inline,
    "ephemeral": _ephemeral,
    "image": _needs("reference"),
}
"""What a pod's volume can be, in the order in which a second one is found to be too many."""

PERSISTENT_SOURCES: dict[str, Check] = {**_COMMON, "local": _local, "csi": _csi_persistent}
"""What a persistent volume can be."""
