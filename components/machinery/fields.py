"""Selectable fields: what a field selector may ask of each kind, and the values it compares with.

Every kind has `metadata.name` and `metadata.namespace`; a few have more ("Field Selectors" in the API
concepts). Custom resources add the JSON paths of their `selectableFields`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import frozen

from understudy.components.machinery.errors import Object, bad_request
from understudy.components.machinery.resources import Resource
from understudy.components.machinery.selectors import FieldSelector

_METADATA: Final = ("metadata.name", "metadata.namespace")


@frozen
class _Selectable:
    """The fields that a kind adds to the two of every kind."""

    fields: Mapping[str, Callable[[Object], str]]
    aliases: Mapping[str, str] = {}
    """Older spellings that clients still send."""
    namespaced: bool = True


def selectable_fields(
    resource: Resource, obj: Object, json_paths: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The values a field selector sees of an object, all as text; absent fields are empty.

    `json_paths`: for custom resources, the dotted path of each selectable field by its selector name
    (both without the leading dot).
    """
    metadata = obj.get("metadata") or {}
    found = {
        "metadata.name": metadata.get("name") or "",
        "metadata.namespace": metadata.get("namespace") or "",
    }
    kind = _KINDS.get((resource.group, resource.plural))
    if kind is not None:
        for name, read in kind.fields.items():
            found[name] = read(obj)
    for name, path in (json_paths or {}).items():
        found[name] = _text(_at(obj, path))
    return found


def check_field_selector(
    resource: Resource, selector: FieldSelector, json_paths: Mapping[str, str] | None = None
) -> FieldSelector:
    """The selector with aliases resolved; raises 400 BadRequest for a field that cannot be asked for."""
    kind = _KINDS.get((resource.group, resource.plural))
    terms = []
    for term in selector.terms:
        name = term.field
        if kind is None:
            if name not in _METADATA and name not in (json_paths or {}):
                raise bad_request(
                    f'"{name}" is not a known field selector: only "metadata.name", "metadata.namespace"'
                    + "".join(f', "{known}"' for known in sorted(json_paths or {}))
                )
        else:
            name = kind.aliases.get(name, name)
            allowed = name == "metadata.name" or (name == "metadata.namespace" and kind.namespaced)
            if not allowed and name not in kind.fields:
                raise bad_request(f"field label not supported: {term.field}")
        terms.append(term if name == term.field else type(term)(name, term.value, term.negated))
    return FieldSelector(tuple(terms))


def _at(obj: Object, path: str) -> Any:
    value: Any = obj
    for step in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _path(path: str, default: str = "") -> Callable[[Object], str]:
    steps = tuple(path.split("."))

    def read(obj: Object) -> str:
        value: Any = obj
        for step in steps:
            value = value.get(step) if isinstance(value, dict) else None
        return default if value is None else _text(value)

    return read


def _paths(*paths: str, **defaults: str) -> dict[str, Callable[[Object], str]]:
    return {path: _path(path, defaults.get(path.replace(".", "_"), "")) for path in paths}


def _pod_ip(obj: Object) -> str:
    status = obj.get("status") or {}
    for entry in status.get("podIPs") or ():
        return entry.get("ip") or ""
    return status.get("podIP") or ""


def _event_source(obj: Object) -> str:
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    return source.get("component") or _event_controller(obj)


def _event_controller(obj: Object) -> str:
    return obj.get("reportingComponent") or obj.get("reportingController") or ""


_REFERENCE_FIELDS: Final = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")

_KINDS: Final[Mapping[tuple[str, str], _Selectable]] = {
    ("", "pods"): _Selectable(
        {
            **_paths(
                "spec.nodeName",
                "spec.restartPolicy",
                "spec.schedulerName",
                "spec.serviceAccountName",
                "spec.hostNetwork",
                "status.phase",
                "status.nominatedNodeName",
                spec_hostNetwork="false",
            ),
            "status.podIP": _pod_ip,
            "status.podIPs": lambda obj: "",
        },
        {"spec.host": "spec.nodeName"},
    ),
    ("", "nodes"): _Selectable(_paths("spec.unschedulable", spec_unschedulable="false"), namespaced=False),
    ("", "namespaces"): _Selectable(_paths("status.phase"), namespaced=False),
    ("", "secrets"): _Selectable(_paths("type")),
    ("", "services"): _Selectable(_paths("spec.clusterIP", "spec.type")),
    ("", "replicationcontrollers"): _Selectable(_paths("status.replicas", status_replicas="0")),
    ("", "events"): _Selectable(
        {
            **_paths(*(f"involvedObject.{name}" for name in _REFERENCE_FIELDS), "reason", "type"),
            "reportingComponent": _event_controller,
            "source": _event_source,
        }
    ),
    ("events.k8s.io", "events"): _Selectable(
        {
            **_paths(*(f"regarding.{name}" for name in _REFERENCE_FIELDS), "reason", "type"),
            "reportingController": _event_controller,
        }
    ),
    ("batch", "jobs"): _Selectable({"status.successful": _path("status.succeeded", "0")}),
    ("certificates.k8s.io", "certificatesigningrequests"): _Selectable(
        _paths("spec.signerName"), namespaced=False
    ),
    ("certificates.k8s.io", "clustertrustbundles"): _Selectable(_paths("spec.signerName"), namespaced=False),
    ("resource.k8s.io", "resourceslices"): _Selectable(
        _paths("spec.nodeName", "spec.driver"), namespaced=False
    ),
}
