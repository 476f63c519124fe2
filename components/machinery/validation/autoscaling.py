"""Validation of the group autoscaling."""

from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.quantity import parse
from understudy.components.machinery.validation.findings import (
    Findings,
    forbidden,
    invalid,
    invalid_all,
    non_negative,
    not_supported,
    one_of,
    required,
)
from understudy.components.machinery.validation.metadata import validate_label_selector
from understudy.components.machinery.validation.rules import Rules

Object = dict[str, Any]

_METRICS = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
_TARGETS = ("Utilization", "Value", "AverageValue")
_WINDOW_MAX = 3600
_PERIOD_MAX = 1800


def _autoscaler(autoscaler: Object) -> Findings:
    spec = autoscaler["spec"]
    found: Findings = []
    low, high = spec.get("minReplicas"), spec["maxReplicas"]
    if low is not None and low < 1:
        found.append(invalid("spec.minReplicas", low, "must be greater than or equal to 1"))
    if high < 1:
        found.append(invalid("spec.maxReplicas", high, "must be greater than 0"))
    if low is not None and high < low:
        detail = "must be greater than or equal to `minReplicas`"
        found.append(invalid("spec.maxReplicas", high, detail))
    found += reference(spec["scaleTargetRef"], "spec.scaleTargetRef")
    for index, metric in enumerate(spec.get("metrics", ())):
        found += _metric(metric, f"spec.metrics[{index}]")
    for direction, rules in sorted(spec.get("behavior", {}).items()):
        found += _rules(rules, f"spec.behavior.{direction}")
    return found


def reference(target: Object, path: str) -> Findings:
    """What is scaled, or measured."""
    found: Findings = []
    for field in ("kind", "name"):
        if not target[field]:
            found.append(required(f"{path}.{field}"))
        else:
            found += invalid_all(f"{path}.{field}", target[field], names.path_segment(target[field]))
    version = target.get("apiVersion", "")
    if "/" not in version and version != "v1":
        found.append(invalid(f"{path}.apiVersion", version, "apiVersion must specify API group"))
    return found


def _metric(metric: Object, path: str) -> Findings:
    kind = metric["type"]
    if not kind:
        return [required(f"{path}.type", "must specify a metric source type")]
    if kind not in _METRICS:
        return [not_supported(f"{path}.type", kind, sorted(_METRICS))]
    given = [field for field in sorted(_METRICS.values()) if field in metric]
    field = _METRICS[kind]
    found: Findings = []
    if field not in given:
        detail = "must populate information for the given metric source"
        found.append(required(f"{path}.{field}", detail))
    for other in given:
        if other != field:
            detail = "must populate the given metric source only"
            found.append(forbidden(f"{path}.{other}", detail))
    if field in given:
        found += _source(kind, metric[field], f"{path}.{field}")
    return found


def _source(kind: str, source: Object, path: str) -> Findings:
    found: Findings = []
    target = source["target"]
    if kind in ("Resource", "ContainerResource"):
        if not source["name"]:
            found.append(required(f"{path}.name", "must specify a resource name"))
        if kind == "ContainerResource" and not source["container"]:
            found.append(required(f"{path}.container", "must specify a container"))
    else:
        metric = source["metric"]
        if not metric["name"]:
            found.append(required(f"{path}.metric.name", "must specify a metric name"))
        found += validate_label_selector(metric.get("selector"), f"{path}.metric.selector")
        if kind == "Object":
            found += reference(source["describedObject"], f"{path}.describedObject")
    found += _target(target, f"{path}.target")
    value, average, share = (target.get(f) for f in ("value", "averageValue", "averageUtilization"))
    if kind in ("Resource", "ContainerResource"):
        if share is None and average is None:
            detail = "must set either a target raw value or a target utilization"
            found.append(required(f"{path}.target.averageUtilization", detail))
        if share is not None and average is not None:
            detail = "may not set both a target raw value and a target utilization"
            found.append(forbidden(f"{path}.target.averageValue", detail))
    elif kind == "Pods":
        if average is None:
            detail = "must specify a positive target averageValue"
            found.append(required(f"{path}.target.averageValue", detail))
    elif value is None and average is None:
        detail = "must set either a target value or averageValue"
        found.append(required(f"{path}.target.averageValue", detail))
    return found


def _target(target: Object, path: str) -> Findings:
    found: Findings = []
    if not target["type"]:
        found.append(required(f"{path}.type", "must specify a metric target type"))
    elif target["type"] not in _TARGETS:
        found.append(
            invalid(f"{path}.type", target["type"], "must be either Utilization, Value, or AverageValue")
        )
    for field in ("value", "averageValue"):
        if field in target and parse(target[field]) <= 0:
            found.append(invalid(f"{path}.{field}", target[field], "must be positive"))
    share = target.get("averageUtilization")
    if share is not None and share < 1:
        found.append(invalid(f"{path}.averageUtilization", share, "must be greater than 0"))
    return found


def _rules(rules: Object, path: str) -> Findings:
    found: Findings = []
    window = rules.get("stabilizationWindowSeconds")
    if window is not None:
        found += non_negative(f"{path}.stabilizationWindowSeconds", window)
        if window > _WINDOW_MAX:
            detail = f"must be less than or equal to {_WINDOW_MAX}"
            found.append(invalid(f"{path}.stabilizationWindowSeconds", window, detail))
    if rules.get("selectPolicy") is not None:
        found += one_of(f"{path}.selectPolicy", rules["selectPolicy"], ("Disabled", "Max", "Min"))
    if not rules.get("policies"):
        found.append(required(f"{path}.policies", "must specify at least one Policy"))
    for index, policy in enumerate(rules.get("policies", ())):
        at = f"{path}.policies[{index}]"
        found += one_of(f"{at}.type", policy["type"], ("Percent", "Pods"))
        if policy["value"] <= 0:
            found.append(invalid(f"{at}.value", policy["value"], "must be greater than zero"))
        period = policy["periodSeconds"]
        if period <= 0:
            found.append(invalid(f"{at}.periodSeconds", period, "must be greater than zero"))
        elif period > _PERIOD_MAX:
            detail = f"must be less than or equal to {_PERIOD_MAX}"
            found.append(invalid(f"{at}.periodSeconds", period, detail))
    return found


RULES: dict[str, Rules] = {"autoscaling/v2 HorizontalPodAutoscaler": Rules(create=_autoscaler)}
