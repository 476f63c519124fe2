"""Rows of nodes, namespaces, events, configuration, quotas, leases and priorities."""

from typing import Any

from understudy.components.machinery.tables.ages import UNKNOWN, age
from understudy.components.machinery.tables.printer import (
    AGE,
    NAME,
    NONE,
    Column,
    Object,
    age_of,
    boolean,
    condition,
    integer,
    name_of,
    printer,
    wide,
)

_ROLE_PREFIX = "node-role.kubernetes.io/"
_ROLE_LABEL = "kubernetes.io/role"


def _node_status(obj: Object) -> str:
    ready = condition(obj, "Ready")
    text = "Unknown"
    if ready is not None:
        text = "Ready" if ready.get("status") == "True" else "NotReady"
    return f"{text},SchedulingDisabled" if (obj.get("spec") or {}).get("unschedulable") else text


def _node_roles(obj: Object) -> str:
    roles = set()
    for key, value in (obj["metadata"].get("labels") or {}).items():
        if key.startswith(_ROLE_PREFIX):
            roles.add(key.removeprefix(_ROLE_PREFIX))
        elif key == _ROLE_LABEL:
            roles.add(value)
    return ",".join(sorted(roles - {""})) or NONE


def _node_address(status: Object, kind: str) -> str:
    for entry in status.get("addresses") or ():
        if entry["type"] == kind:
            return str(entry["address"])
    return NONE


def _node_kernel(info: Object) -> str:
    kernel, architecture = info.get("kernelVersion"), info.get("architecture")
    if not kernel:
        return UNKNOWN
    return f"{kernel} ({architecture})" if architecture else str(kernel)


def _node(obj: Object, now_us: int) -> list[Any]:
    status = obj.get("status") or {}
    info = status.get("nodeInfo") or {}
    return [
        name_of(obj),
        _node_status(obj),
        _node_roles(obj),
        age_of(obj, now_us),
        info.get("kubeletVersion", ""),
        _node_address(status, "InternalIP"),
        _node_address(status, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        _node_kernel(info),
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _namespace(obj: Object, now_us: int) -> list[Any]:
    return [name_of(obj), (obj.get("status") or {}).get("phase", ""), age_of(obj, now_us)]


def _component_status(obj: Object, now_us: int) -> list[Any]:
    status, message, error = "Unknown", "", ""
    for entry in obj.get("conditions") or ():
        if entry["type"] == "Healthy":
            status = "Healthy" if entry["status"] == "True" else "Unhealthy"
            message, error = entry.get("message", ""), entry.get("error", "")
            break
    return [name_of(obj), status, message, error]


def _config_map(obj: Object, now_us: int) -> list[Any]:
    return [name_of(obj), len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), age_of(obj, now_us)]


def _secret(obj: Object, now_us: int) -> list[Any]:
    return [name_of(obj), obj.get("type", ""), len(obj.get("data") or ()), age_of(obj, now_us)]


def _name_and_age(obj: Object, now_us: int) -> list[Any]:
    return [name_of(obj), age_of(obj, now_us)]


def _resource_quota(obj: Object, now_us: int) -> list[Any]:
    status = obj.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for resource in sorted(hard):
        column = limits if resource.startswith("limits") else requests
        column.append(f"{resource}: {used.get(resource, '0')}/{hard[resource]}")
    return [name_of(obj), ", ".join(requests), ", ".join(limits), age_of(obj, now_us)]


def _core_event(obj: Object, now_us: int) -> list[Any]:
    return _event(
        obj,
        now_us,
        first=obj.get("firstTimestamp"),
        last=obj.get("lastTimestamp"),
        count=obj.get("count"),
        about=obj.get("involvedObject") or {},
        source=obj.get("source") or {},
        controller=obj.get("reportingComponent"),
        message=obj.get("message"),
    )


def _events_event(obj: Object, now_us: int) -> list[Any]:
    return _event(
        obj,
        now_us,
        first=obj.get("deprecatedFirstTimestamp"),
        last=obj.get("deprecatedLastTimestamp"),
        count=obj.get("deprecatedCount"),
        about=obj.get("regarding") or {},
        source=obj.get("deprecatedSource") or {},
        controller=obj.get("reportingController"),
        message=obj.get("note"),
    )


def _event(
    obj: Object,
    now_us: int,
    *,
    first: str | None,
    last: str | None,
    count: int | None,
    about: Object,
    source: Object,
    controller: str | None,
    message: str | None,
) -> list[Any]:
    """The cells of an event; v1 and events.k8s.io/v1 name the same fields differently."""
    first_seen = age(first or obj.get("eventTime"), now_us)
    last_seen = age(last, now_us) if last else first_seen
    if series := obj.get("series"):
        last_seen, count = age(series.get("lastObservedTime"), now_us), series.get("count", 0)
    elif not count:
        count = 1
    kind, name = about.get("kind", "").lower(), about.get("name")
    component = source.get("component") or controller or ""
    instance = source.get("host") or obj.get("reportingInstance")
    return [
        last_seen,
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{kind}/{name}" if name else kind,
        about.get("fieldPath", ""),
        f"{component}, {instance}" if instance else component,
        (message or "").strip(),
        first_seen,
        count,
        name_of(obj),
    ]


def _lease(obj: Object, now_us: int) -> list[Any]:
    return [name_of(obj), (obj.get("spec") or {}).get("holderIdentity") or "", age_of(obj, now_us)]


def _runtime_class(obj: Object, now_us: int) -> list[Any]:
    return [name_of(obj), obj.get("handler", ""), age_of(obj, now_us)]


def _priority_class(obj: Object, now_us: int) -> list[Any]:
    return [
        name_of(obj),
        obj.get("value", 0),
        bool(obj.get("globalDefault")),
        age_of(obj, now_us),
        obj.get("preemptionPolicy") or "",
    ]


def _disruption_budget(obj: Object, now_us: int) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    minimum, maximum = spec.get("minAvailable"), spec.get("maxUnavailable")
    return [
        name_of(obj),
        "N/A" if minimum is None else str(minimum),
        "N/A" if maximum is None else str(maximum),
        status.get("disruptionsAllowed", 0),
        age_of(obj, now_us),
    ]


_EVENT_COLUMNS = (
    Column("Last Seen", description="Time since the event was last seen."),
    "Type",
    "Reason",
    Column("Object", description="Kind and name of the object that the event is about."),
    wide("Subobject", "The part of the object that the event is about."),
    wide("Source", "Who reported the event, and from which host."),
    "Message",
    wide("First Seen", "Time since the event was first seen."),
    wide("Count", "How often the event was seen."),
    Column(NAME.name, format=NAME.format, priority=1, description=NAME.description),
)

PRINTERS = {
    "v1/nodes": printer(
        _node,
        NAME,
        "Status",
        "Roles",
        AGE,
        "Version",
        wide("Internal-IP"),
        wide("External-IP"),
        wide("OS-Image"),
        wide("Kernel-Version"),
        wide("Container-Runtime"),
    ),
    "v1/namespaces": printer(_namespace, NAME, "Status", AGE),
    "v1/componentstatuses": printer(_component_status, NAME, "Status", "Message", "Error"),
    "v1/configmaps": printer(_config_map, NAME, "Data", AGE),
    "v1/secrets": printer(_secret, NAME, "Type", "Data", AGE),
    "v1/serviceaccounts": printer(_name_and_age, NAME, AGE),
    "v1/resourcequotas": printer(_resource_quota, NAME, "Request", "Limit", AGE),
    "v1/events": printer(_core_event, *_EVENT_COLUMNS),
    "events.k8s.io/v1/events": printer(_events_event, *_EVENT_COLUMNS),
    "coordination.k8s.io/v1/leases": printer(_lease, NAME, "Holder", AGE),
    "node.k8s.io/v1/runtimeclasses": printer(_runtime_class, NAME, "Handler", AGE),
    "scheduling.k8s.io/v1/priorityclasses": printer(
        _priority_class, NAME, integer("Value"), boolean("Global-Default"), AGE, "PreemptionPolicy"
    ),
    "policy/v1/poddisruptionbudgets": printer(
        _disruption_budget, NAME, "Min Available", "Max Unavailable", integer("Allowed Disruptions"), AGE
    ),
}
