"""The discovery documents: which groups, versions and resources are served.

Two forms. The legacy one is a document for each of /api, /apis, /apis/GROUP and /apis/GROUP/VERSION. The
aggregated one (`apidiscovery.k8s.io`, v2 and v2beta1) says everything at /api and /apis, and only to
clients that name its exact type in Accept: an older client that is sent the newer one finds no resources.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence

from attrs import frozen

from understudy.components.machinery.errors import Object, not_acceptable
from understudy.components.machinery.media_types import parse_accept
from understudy.components.machinery.resources import (
    Resource,
    Subresource,
    builtin_resources,
    builtin_subresources,
)

OFFERED = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_AGGREGATED_GROUP = "apidiscovery.k8s.io"
_AGGREGATED_VERSIONS = ("v2", "v2beta1")

_CUSTOM_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
"""The order in which the server lists the verbs of a custom resource; those of others are sorted."""


@frozen
class Served:
    """A resource with what is below it, as discovery shows it."""

    resource: Resource
    subresources: tuple[Subresource, ...] = ()
    custom: bool = True
    """Defined by a CustomResourceDefinition."""


def builtin_served() -> tuple[Served, ...]:
    """All built-in resources, in the order of discovery."""
    below: dict[tuple[str, str], list[Subresource]] = {}
    for entry in builtin_subresources():
        below.setdefault((entry.parent.group_version, entry.parent.plural), []).append(entry)
    return tuple(
        Served(r, tuple(below.get((r.group_version, r.plural), ())), custom=False)
        for r in builtin_resources()
    )


def storage_version_hash(group: str, version: str, kind: str) -> str:
    """What discovery says of the version in which objects are stored."""
    digest = hashlib.sha256(f"{group}/{version}/{kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Sort key: v2, v1, v2beta1, v1beta2, v1beta1, v1alpha1, then other names alphabetically."""
    match = re.fullmatch(r"v([1-9][0-9]*)(?:(alpha|beta)([1-9][0-9]*))?", version, re.ASCII)
    if match is None:
        return (3, 0, 0, version)
    stage = {None: 0, "beta": 1, "alpha": 2}[match[2]]
    return (stage, -int(match[1]), -int(match[3] or 0), "")


def discovery(
    path: str,
    accept: str,
    custom: Sequence[Served] = (),
    server_address: str = "",
) -> tuple[str, Object] | None:
    """The content type and the document of a discovery path; None if there is nothing at the path.

    `custom` are the established custom resources, in any order. `server_address` (host:port) goes into /api.
    The content type is one of `OFFERED` or the JSON type of the aggregated form. Raises 406.
    """
    parts = path.strip("/").split("/")
    root = parts[0]
    if root not in ("api", "apis") or len(parts) > (2 if root == "api" else 3):
        return None
    content_type, version = _negotiate(accept, aggregable=len(parts) == 1)
    served = [entry for entry in _ordered(custom) if (root == "api") == (not entry.resource.group)]
    if version is not None:
        return content_type, _aggregated(served, version)
    if root == "api":
        if len(parts) == 1:
            addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}]
            return content_type, {
                "kind": "APIVersions",
                "versions": list(_versions(served)),
                "serverAddressByClientCIDRs": addresses,
            }
        document = _resource_list(served, "", parts[1])
    elif len(parts) == 1:
        groups = [_group(served, name) for name in _groups(served)]
        return content_type, {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    elif len(parts) == 2:
        if parts[1] not in _groups(served):
            return None
        return content_type, {"kind": "APIGroup", "apiVersion": "v1", **_group(served, parts[1])}
    else:
        document = _resource_list(served, parts[1], parts[2])
    return None if document is None else (content_type, document)


def _negotiate(accept: str, *, aggregable: bool) -> tuple[str, str | None]:
    """The content type, and the version of the aggregated form if that is what the client likes best."""
    for clause in parse_accept(accept):
        target = clause.parameters.get("as")
        if target is None:
            for media_type in OFFERED:
                if clause.matches(media_type):
                    return media_type, None
        elif (
            aggregable
            and clause.matches("application/json")
            and target == "APIGroupDiscoveryList"
            and clause.parameters.get("g") == _AGGREGATED_GROUP
            and clause.parameters.get("v") in _AGGREGATED_VERSIONS
        ):
            version = clause.parameters["v"]
            return f"application/json;g={_AGGREGATED_GROUP};v={version};as=APIGroupDiscoveryList", version
    raise not_acceptable("only the following media types are accepted: " + ", ".join(OFFERED))


def _ordered(custom: Iterable[Served]) -> list[Served]:
    """Built-in resources as recorded, then custom ones by group, version priority and name."""

    def key(entry: Served) -> tuple[str, tuple[int, int, int, str], str]:
        return entry.resource.group, version_priority(entry.resource.version), entry.resource.plural

    return [*builtin_served(), *sorted(custom, key=key)]


def _groups(served: Iterable[Served]) -> dict[str, None]:
    return dict.fromkeys(entry.resource.group for entry in served)


def _versions(served: Iterable[Served], group: str = "") -> dict[str, None]:
    return dict.fromkeys(entry.resource.version for entry in served if entry.resource.group == group)


def _group(served: Sequence[Served], name: str) -> Object:
    versions = [{"groupVersion": f"{name}/{v}", "version": v} for v in _versions(served, name)]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _verbs(entry: Served) -> list[str]:
    verbs = entry.resource.verbs
    return [verb for verb in _CUSTOM_VERBS if verb in verbs] if entry.custom else sorted(verbs)


def _resource_list(served: Sequence[Served], group: str, version: str) -> Object | None:
    rows: list[Object] = []
    for entry in served:
        resource = entry.resource
        if (resource.group, resource.version) != (group, version):
            continue
        row: Object = {
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": _verbs(entry),
        }
        if resource.short_names:
            row["shortNames"] = list(resource.short_names)
        if resource.categories:
            row["categories"] = list(resource.categories)
        if resource.storage_version_hash:
            row["storageVersionHash"] = resource.storage_version_hash
        rows.append(row)
        for below in entry.subresources:
            row = {
                "name": f"{resource.plural}/{below.name}",
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": below.kind,
                "verbs": sorted(below.verbs),
            }
            if (below.group, below.version) != (resource.group, resource.version):
                row |= {"group": below.group, "version": below.version}
            rows.append(row)
    if not rows:
        return None
    group_version = f"{group}/{version}" if group else version
    made: Object = {"kind": "APIResourceList", "groupVersion": group_version, "resources": rows}
    # The core group's list has no apiVersion: the oldest clients were written before there was one.
    return {"apiVersion": "v1", **made} if group else made


def _aggregated(served: Sequence[Served], version: str) -> Object:
    items: dict[str, dict[str, list[Object]]] = {}
    for entry in served:
        versions = items.setdefault(entry.resource.group, {})
        versions.setdefault(entry.resource.version, []).append(_aggregated_resource(entry))
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"{_AGGREGATED_GROUP}/{version}",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": group} if group else {},
                "versions": [
                    {"version": name, "resources": rows, "freshness": "Current"}
                    for name, rows in versions.items()
                ],
            }
            for group, versions in items.items()
        ],
    }


def _aggregated_resource(entry: Served) -> Object:
    resource = entry.resource
    row: Object = {
        "resource": resource.plural,
        "responseKind": _response_kind(entry, resource.group, resource.version, resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": _verbs(entry),
    }
    if resource.short_names:
        row["shortNames"] = list(resource.short_names)
    if resource.categories:
        row["categories"] = list(resource.categories)
    if entry.subresources:
        row["subresources"] = [
            {
                "subresource": below.name,
                "responseKind": _response_kind(entry, below.group, below.version, below.kind),
                "verbs": sorted(below.verbs),
            }
            for below in entry.subresources
        ]
    return row


def _response_kind(entry: Served, group: str, version: str, kind: str) -> Object:
    """Built-in resources leave group and version empty where they are those of the resource."""
    if not entry.custom and (group, version) == (entry.resource.group, entry.resource.version):
        group = version = ""
    return {"group": group, "version": version, "kind": kind}
