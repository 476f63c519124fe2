"""One stored object, several served versions.

Objects are stored in one version a resource; what another path serves is converted on the way out, and what
it takes is converted on the way in. Events are stored as core/v1 and autoscalers as autoscaling/v2.

Source: the conversions of the real server, seen from outside: the same object read through both paths.
"""

from collections.abc import Callable

import orjson

from understudy.components.machinery.api import Object
from understudy.components.machinery.defaults.shape import message_for, normalise
from understudy.components.machinery.managed_fields import Converter
from understudy.components.machinery.resources import (
    EVENTS,
    EVENTS_V1,
    HORIZONTAL_POD_AUTOSCALERS,
    HORIZONTAL_POD_AUTOSCALERS_V1,
    Resource,
    for_kind,
)
from understudy.components.machinery.schema import Schema, schema_for

from .encoding import Stored

STORED_AS: dict[tuple[str, str], Resource] = {
    (EVENTS_V1.group, EVENTS_V1.plural): EVENTS,
    (HORIZONTAL_POD_AUTOSCALERS_V1.group, HORIZONTAL_POD_AUTOSCALERS_V1.plural): HORIZONTAL_POD_AUTOSCALERS,
}
"""Resources that are another view of what is stored elsewhere, by (group, plural)."""


def as_served(resource: Resource, obj: Object) -> Object:
    """A stored object in the version of `resource`; changes `obj`."""
    if obj["apiVersion"] == resource.api_version:
        return obj
    return _shaped(_TO[resource.api_version, resource.kind](obj))


def as_stored(storage: Resource, obj: Object) -> Object:
    """An object that came in through another version, in the version that is stored; changes `obj`."""
    if obj["apiVersion"] == storage.api_version:
        return obj
    return _shaped(_FROM[obj["apiVersion"], storage.kind](obj))


def _shaped(obj: Object) -> Object:
    """A converted object in the written form of its version."""
    message = message_for(obj["apiVersion"], obj["kind"])
    assert message is not None, obj["kind"]
    normalise(obj, message)
    return obj


def converter(resource: Resource) -> Converter | None:
    """How managed fields find an object of a resource in its other version; None when there is only one."""
    storage = STORED_AS.get((resource.group, resource.plural), resource)
    return _convert if storage in STORED_AS.values() else None


def _convert(obj: Object, api_version: str) -> tuple[Schema, Object] | None:
    kind = obj["kind"]
    schema, target = schema_for(api_version, kind), for_kind(api_version, kind)
    if schema is None or target is None:
        return None
    if obj["apiVersion"] != api_version:
        storage = STORED_AS.get((target.group, target.plural), target)
        obj = as_served(target, as_stored(storage, obj))
    return schema, obj


def as_served_entry(resource: Resource, entry: Stored) -> bytes:
    """The served bytes of a stored object in the version of `resource`."""
    if entry.resource.api_version == resource.api_version:
        return entry.wire
    served = as_served(resource, entry.parse())
    head = {"kind": served["kind"], "apiVersion": served["apiVersion"], "metadata": served["metadata"]}
    return orjson.dumps(head | served)


_EVENT_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
"""Fields of a core Event by their names in events.k8s.io/v1."""


def _event_to_v1(obj: Object) -> Object:
    served = {_EVENT_NAMES.get(key, key): value for key, value in obj.items()}
    return {**served, "apiVersion": EVENTS_V1.api_version}


def _event_from_v1(obj: Object) -> Object:
    back = {new: old for old, new in _EVENT_NAMES.items()}
    kept = {back.get(key, key): value for key, value in obj.items()}
    return {**kept, "apiVersion": EVENTS.api_version}


_AUTOSCALER_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_AUTOSCALER_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
_AUTOSCALER_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_AUTOSCALER_CURRENT = "autoscaling.alpha.kubernetes.io/current-metrics"


def _is_cpu_utilization(metric: Object, side: str) -> bool:
    resource = metric.get("resource") or {}
    values = resource.get(side) or {}
    return bool(
        metric.get("type") == "Resource"
        and resource.get("name") == "cpu"
        and values.get("averageUtilization") is not None
    )


def _autoscaler_to_v1(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    metadata = dict(obj.get("metadata") or {})
    annotations = dict(metadata.get("annotations") or {})
    for metric in spec.pop("metrics", None) or []:
        if _is_cpu_utilization(metric, "target") and "targetCPUUtilizationPercentage" not in spec:
            spec["targetCPUUtilizationPercentage"] = metric["resource"]["target"]["averageUtilization"]
        else:
            rest = orjson.loads(annotations.get(_AUTOSCALER_METRICS, "[]"))
            annotations[_AUTOSCALER_METRICS] = orjson.dumps([*rest, metric]).decode()
    if behavior := spec.pop("behavior", None):
        annotations[_AUTOSCALER_BEHAVIOR] = orjson.dumps(behavior).decode()
    for metric in status.pop("currentMetrics", None) or []:
        if _is_cpu_utilization(metric, "current"):
            status["currentCPUUtilizationPercentage"] = metric["resource"]["current"]["averageUtilization"]
        else:
            rest = orjson.loads(annotations.get(_AUTOSCALER_CURRENT, "[]"))
            annotations[_AUTOSCALER_CURRENT] = orjson.dumps([*rest, metric]).decode()
    if conditions := status.pop("conditions", None):
        annotations[_AUTOSCALER_CONDITIONS] = orjson.dumps(conditions).decode()
    if annotations:
        metadata["annotations"] = annotations
    return {**obj, "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status}


def _autoscaler_from_v1(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    metadata = dict(obj.get("metadata") or {})
    annotations = dict(metadata.get("annotations") or {})
    percentage = spec.pop("targetCPUUtilizationPercentage", None)
    metrics = orjson.loads(annotations.pop(_AUTOSCALER_METRICS, "[]"))
    if percentage is not None:
        target = {"type": "Utilization", "averageUtilization": percentage}
        metrics.insert(0, {"type": "Resource", "resource": {"name": "cpu", "target": target}})
    if metrics:
        spec["metrics"] = metrics
    if behavior := annotations.pop(_AUTOSCALER_BEHAVIOR, None):
        spec["behavior"] = orjson.loads(behavior)
    current = orjson.loads(annotations.pop(_AUTOSCALER_CURRENT, "[]"))
    percentage = status.pop("currentCPUUtilizationPercentage", None)
    if percentage is not None:
        usage = {"averageUtilization": percentage, "averageValue": "0"}
        current.insert(0, {"type": "Resource", "resource": {"name": "cpu", "current": usage}})
    if current:
        status["currentMetrics"] = current
    if conditions := annotations.pop(_AUTOSCALER_CONDITIONS, None):
        status["conditions"] = orjson.loads(conditions)
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    return {**obj, "apiVersion": "autoscaling/v2", "metadata": metadata, "spec": spec, "status": status}


_TO: dict[tuple[str, str], Callable[[Object], Object]] = {
    (EVENTS_V1.api_version, "Event"): _event_to_v1,
    ("autoscaling/v1", "HorizontalPodAutoscaler"): _autoscaler_to_v1,
}
_FROM: dict[tuple[str, str], Callable[[Object], Object]] = {
    (EVENTS_V1.api_version, "Event"): _event_from_v1,
    ("autoscaling/v1", "HorizontalPodAutoscaler"): _autoscaler_from_v1,
}
