"""Rows of what scales: horizontal pod autoscalers, each metric as current/target, and scale subresources.

autoscaling/v1 has one field for CPU and keeps every other metric in annotations (JSON, with other field names
than v2), so a v1 object is first read as the v2 metrics that it stands for.
"""

from typing import Any

import orjson

from understudy.components.machinery.tables.ages import UNKNOWN
from understudy.components.machinery.tables.printer import (
    AGE,
    NAME,
    NONE,
    UNSET,
    Column,
    Object,
    age_of,
    integer,
    name_of,
    printer,
)

_SHOWN_MAX = 2
_SPECS_ANNOTATION = "autoscaling.alpha.kubernetes.io/metrics"
_STATUSES_ANNOTATION = "autoscaling.alpha.kubernetes.io/current-metrics"

# Per metric type, the member that holds it.
_MEMBERS = {
    "External": "external",
    "Pods": "pods",
    "Object": "object",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}


def _autoscaler_v2(obj: Object, now_us: int) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return _cells(obj, spec.get("metrics") or [], status.get("currentMetrics") or [], now_us)


def _autoscaler_v1(obj: Object, now_us: int) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    annotations = obj["metadata"].get("annotations") or {}
    metrics = _cpu_metric("target", spec.get("targetCPUUtilizationPercentage"))
    metrics += [_from_v1(entry, "target") for entry in _annotated(annotations, _SPECS_ANNOTATION)]
    # The annotation repeats the CPU status with more detail, so it replaces the field.
    current = [_from_v1(entry, "current") for entry in _annotated(annotations, _STATUSES_ANNOTATION)]
    current = current or _cpu_metric("current", status.get("currentCPUUtilizationPercentage"))
    return _cells(obj, metrics, current, now_us)


def _annotated(annotations: Object, key: str) -> list[Object]:
    """The metrics of an annotation. A user may write anything there: what is no list of metrics is none."""
    try:
        entries = orjson.loads(annotations.get(key, "[]"))
    except orjson.JSONDecodeError:
        return []
    return [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []


def _cpu_metric(side: str, percentage: int | None) -> list[Object]:
    if percentage is None:
        return []
    return [{"type": "Resource", "resource": {"name": "cpu", side: {"averageUtilization": percentage}}}]


def _from_v1(entry: Object, side: str) -> Object:
    """A metric of the v1 annotations as v2 writes it; `side` is target (spec) or current (status)."""
    member = _MEMBERS.get(entry.get("type", ""))
    if member is None or not isinstance(entry.get(member), dict):
        return {}
    source = entry[member]
    average = source.get(f"{side}AverageValue")
    if member == "object":
        average = source.get("averageValue")
    values = {
        "averageValue": average,
        "averageUtilization": source.get(f"{side}AverageUtilization"),
        "value": source.get(f"{side}Value"),
    }
    metric = {
        "name": source.get("name", ""),
        side: {key: value for key, value in values.items() if value is not None},
    }
    return {"type": entry["type"], member: metric}


def _cells(obj: Object, metrics: list[Object], current: list[Object], now_us: int) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    target, minimum = spec.get("scaleTargetRef") or {}, spec.get("minReplicas")
    return [
        name_of(obj),
        f"{target.get('kind', '')}/{target.get('name', '')}",
        _targets(metrics, current),
        UNSET if minimum is None else str(minimum),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        age_of(obj, now_us),
    ]


def _targets(metrics: list[Object], current: list[Object]) -> str:
    if not metrics:
        return NONE
    texts = [
        _target(metric, current[index] if index < len(current) else {})
        for index, metric in enumerate(metrics[:_SHOWN_MAX])
    ]
    text = ", ".join(texts)
    more = len(metrics) - _SHOWN_MAX
    return f"{text} + {more} more..." if more > 0 else text


def _target(metric: Object, status: Object) -> str:
    kind = metric.get("type", "")
    member = _MEMBERS.get(kind)
    if member is None:
        return "<unknown type>"
    spec = metric.get(member) or {}
    target = spec.get("target") or {}
    current = (status.get(member) or {}).get("current") or {}
    average = target.get("averageValue")
    if member in ("resource", "containerResource"):
        if average is not None:
            return f"{spec.get('name', '')}: {current.get('averageValue', UNKNOWN)}/{average}"
        wanted = target.get("averageUtilization")
        used = current.get("averageUtilization")
        shown = UNKNOWN if used is None else f"{used}%"
        return f"{spec.get('name', '')}: {shown}/{'<auto>' if wanted is None else f'{wanted}%'}"
    if member == "pods":
        return f"{current.get('averageValue', UNKNOWN)}/{average if average is not None else '0'}"
    if average is not None:
        return f"{current.get('averageValue', UNKNOWN)}/{average} (avg)"
    return f"{current.get('value', UNKNOWN)}/{target.get('value', '0')}"


def _scale(obj: Object, now_us: int) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [name_of(obj), spec.get("replicas", 0), status.get("replicas", 0), age_of(obj, now_us)]


# No format on the name: the real server's column has none here either.
SCALE_PRINTER = printer(
    _scale, Column(NAME.name, description=NAME.description), integer("Desired"), integer("Available"), AGE
)
"""For the `scale` subresource of any resource (`kubectl get --subresource=scale`)."""

_COLUMNS = (NAME, "Reference", "Targets", "MinPods", "MaxPods", "Replicas", AGE)

PRINTERS = {
    "autoscaling/v1/horizontalpodautoscalers": printer(_autoscaler_v1, *_COLUMNS),
    "autoscaling/v2/horizontalpodautoscalers": printer(_autoscaler_v2, *_COLUMNS),
}
