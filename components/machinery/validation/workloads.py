"""Validation of the groups apps, batch, autoscaling, policy."""

import re
from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.validation.findings import (
    Findings,
    forbidden,
    immutable,
    invalid,
    invalid_all,
    non_negative,
    not_supported,
    one_of,
    required,
)
from understudy.components.machinery.validation.metadata import (
    selector_is_empty,
    selector_matches,
    validate_label_selector,
)
from understudy.components.machinery.validation.pods import validate_template
from understudy.components.machinery.validation.rules import Rules

Object = dict[str, Any]

_SELECTOR_MISMATCH = "`selector` does not match template `labels`"
_percent = re.compile(r"(\d+)%").fullmatch


def int_or_percent(value: int | str, path: str) -> Findings:
    """A number of things, or a share of them."""
    if isinstance(value, str):
        return invalid_all(path, value, names.percent(value))
    return non_negative(path, value)


def not_over_all(value: int | str, path: str) -> Findings:
    """A share is at most everything."""
    match = _percent(value) if isinstance(value, str) else None
    if match and int(match[1]) > 100:
        return [invalid(path, value, "must not be greater than 100%")]
    return []


def is_zero(value: int | str | None) -> bool:
    """Whether a number or share is nothing; absence is not."""
    if isinstance(value, str):
        match = _percent(value)
        return match is not None and int(match[1]) == 0
    return value == 0


def _selector(spec: Object, empty_detail: str) -> Findings:
    selector = spec.get("selector")
    if selector is None:
        return [required("spec.selector")]
    found = validate_label_selector(selector, "spec.selector")
    if selector_is_empty(selector):
        found.append(invalid("spec.selector", selector, empty_detail))
    return found


def _template(spec: Object, *, policies: tuple[str, ...] = ("Always",)) -> Findings:
    """The template of pods that are to be kept running, and that the selector must find."""
    template, selector = spec["template"], spec.get("selector")
    labels = template["metadata"].get("labels")
    found: Findings = []
    matches = selector_matches(selector or {}, labels or {})
    if matches is None:
        found.append(invalid("spec.selector", selector, "invalid label selector"))
        return found
    if selector is not None and selector_is_empty(selector):
        return found
    if not matches or selector is None:
        found.append(invalid("spec.template.metadata.labels", labels, _SELECTOR_MISMATCH))
    found += validate_template(template, "spec.template")
    found += one_of("spec.template.spec.restartPolicy", template["spec"].get("restartPolicy", ""), policies)
    if "activeDeadlineSeconds" in template["spec"]:
        detail = "activeDeadlineSeconds in ReplicaSet is not Supported"
        found.append(forbidden("spec.template.spec.activeDeadlineSeconds", detail))
    return found


def _deployment(deployment: Object) -> Findings:
    spec = deployment["spec"]
    found = non_negative("spec.replicas", spec["replicas"])
    found += _selector(spec, "empty selector is invalid for deployment")
    found += _template(spec)
    found += _deployment_strategy(spec["strategy"])
    found += non_negative("spec.minReadySeconds", spec.get("minReadySeconds", 0))
    if "revisionHistoryLimit" in spec:
        found += non_negative("spec.revisionHistoryLimit", spec["revisionHistoryLimit"])
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None:
        found += non_negative("spec.progressDeadlineSeconds", deadline)
        if deadline <= spec.get("minReadySeconds", 0):
            detail = "must be greater than minReadySeconds"
            found.append(invalid("spec.progressDeadlineSeconds", deadline, detail))
    return found


def _deployment_strategy(strategy: Object) -> Findings:
    kind, rolling = strategy.get("type", ""), strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            detail = "may not be specified when strategy `type` is 'Recreate'"
            return [forbidden("spec.strategy.rollingUpdate", detail)]
        return []
    if kind != "RollingUpdate":
        return [not_supported("spec.strategy.type", kind, ("Recreate", "RollingUpdate"))]
    path = "spec.strategy.rollingUpdate"
    if rolling is None:
        return [required(path, "this should be defaulted and never be nil")]
    found = int_or_percent(rolling["maxUnavailable"], f"{path}.maxUnavailable")
    found += int_or_percent(rolling["maxSurge"], f"{path}.maxSurge")
    if is_zero(rolling["maxUnavailable"]) and is_zero(rolling["maxSurge"]):
        detail = "may not be 0 when `maxSurge` is 0"
        found.append(invalid(f"{path}.maxUnavailable", rolling["maxUnavailable"], detail))
    return found + not_over_all(rolling["maxUnavailable"], f"{path}.maxUnavailable")


def _fixed_selector(new: Object, old: Object) -> Findings:
    return immutable("spec.selector", new["spec"].get("selector"), old["spec"].get("selector"))


def _replica_set(replica_set: Object) -> Findings:
    spec = replica_set["spec"]
    found = non_negative("spec.replicas", spec["replicas"])
    found += non_negative("spec.minReadySeconds", spec.get("minReadySeconds", 0))
    found += _selector(spec, "empty selector is invalid for deployment")
    return found + _template(spec)


_DAEMON_COUNTS = (
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
)


def _daemon_set(daemon_set: Object) -> Findings:
    spec = daemon_set["spec"]
    template, selector = spec["template"], spec.get("selector")
    found = validate_label_selector(selector, "spec.selector")
    labels = template["metadata"].get("labels")
    matches = selector_matches(selector or {}, labels or {}) if selector is not None else False
    if matches is False:
        found.append(invalid("spec.template.metadata.labels", labels, _SELECTOR_MISMATCH))
    if selector is not None and selector_is_empty(selector):
        detail = "empty selector is invalid for daemonset"
        found.append(invalid("spec.selector", selector, detail))
    found += validate_template(template, "spec.template")
    policy = template["spec"].get("restartPolicy", "")
    found += one_of("spec.template.spec.restartPolicy", policy, ("Always",))
    if "activeDeadlineSeconds" in template["spec"]:
        detail = "activeDeadlineSeconds in DaemonSet is not Supported"
        found.append(forbidden("spec.template.spec.activeDeadlineSeconds", detail))
    found += non_negative("spec.minReadySeconds", spec.get("minReadySeconds", 0))
    found += _daemon_strategy(spec["updateStrategy"])
    if "revisionHistoryLimit" in spec:
        found += non_negative("spec.revisionHistoryLimit", spec["revisionHistoryLimit"])
    return found


def _daemon_strategy(strategy: Object) -> Findings:
    kind, path = strategy.get("type", ""), "spec.updateStrategy"
    if kind == "OnDelete":
        return []
    if kind != "RollingUpdate":
        return [not_supported(path, strategy, ("OnDelete", "RollingUpdate"))]
    rolling = strategy.get("rollingUpdate")
    if rolling is None:
        return [required(f"{path}.rollingUpdate")]
    found: Findings = []
    unavailable, surge = rolling["maxUnavailable"], rolling["maxSurge"]
    at = f"{path}.rollingUpdate"
    if not is_zero(unavailable) and not is_zero(surge):
        detail = "may not be set when maxUnavailable is non-zero"
        found.append(invalid(f"{at}.maxSurge", surge, detail))
    if is_zero(unavailable) and is_zero(surge):
        detail = "cannot be 0 when maxSurge is 0"
        found.append(invalid(f"{at}.maxUnavailable", unavailable, detail))
    for field, value in (("maxUnavailable", unavailable), ("maxSurge", surge)):
        found += int_or_percent(value, f"{at}.{field}")
        found += not_over_all(value, f"{at}.{field}")
    return found


def _counts(new: Object, fields: tuple[str, ...]) -> Findings:
    found: Findings = []
    for field in fields:
        found += non_negative(f"status.{field}", new.get("status", {}).get(field, 0))
    return found


def _daemon_status(new: Object, old: Object) -> Findings:
    return _counts(new, _DAEMON_COUNTS)


_DEPLOYMENT_COUNTS = (
    "observedGeneration",
    "replicas",
    "updatedReplicas",
    "readyReplicas",
    "availableReplicas",
    "unavailableReplicas",
)
_REPLICA_COUNTS = (
    "replicas",
    "fullyLabeledReplicas",
    "readyReplicas",
    "availableReplicas",
    "observedGeneration",
)


def _replicas_within(new: Object, counts: tuple[str, ...]) -> Findings:
    found = _counts(new, counts)
    status = new.get("status", {})
    total = status.get("replicas", 0)
    for field in ("updatedReplicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"):
        if field in counts and status.get(field, 0) > total:
            found.append(
                invalid(f"status.{field}", status.get(field, 0), "cannot be greater than status.replicas")
            )
    if status.get("availableReplicas", 0) > status.get("readyReplicas", 0):
        detail = "cannot be greater than readyReplicas"
        found.append(invalid("status.availableReplicas", status.get("availableReplicas", 0), detail))
    return found


def _deployment_status(new: Object, old: Object) -> Findings:
    return _replicas_within(new, _DEPLOYMENT_COUNTS)


def _replica_set_status(new: Object, old: Object) -> Findings:
    return _replicas_within(new, _REPLICA_COUNTS)


_RETENTION = ("Retain", "Delete")
_STATEFUL_CHANGEABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
_STATEFUL_CHANGES = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)


def _stateful_set(stateful_set: Object) -> Findings:
    spec = stateful_set["spec"]
    found = one_of(
        "spec.podManagementPolicy", spec.get("podManagementPolicy", ""), ("OrderedReady", "Parallel")
    )
    strategy = spec["updateStrategy"]
    kind, rolling = strategy.get("type", ""), strategy.get("rollingUpdate")
    if kind == "OnDelete":
        if rolling is not None:
            detail = "only allowed for updateStrategy 'RollingUpdate'"
            found.append(invalid("spec.updateStrategy.rollingUpdate", rolling, detail))
    elif kind != "RollingUpdate":
        found.append(invalid("spec.updateStrategy", strategy, "must be 'RollingUpdate' or 'OnDelete'"))
    elif rolling is not None:
        path = "spec.updateStrategy.rollingUpdate"
        found += non_negative(f"{path}.partition", rolling.get("partition", 0))
        if "maxUnavailable" in rolling:
            found += int_or_percent(rolling["maxUnavailable"], f"{path}.maxUnavailable")
    retention = spec.get("persistentVolumeClaimRetentionPolicy", {})
    for field in ("whenDeleted", "whenScaled"):
        at = f"spec.persistentVolumeClaimRetentionPolicy.{field}"
        found += one_of(at, retention.get(field, ""), _RETENTION)
    found += non_negative("spec.replicas", spec["replicas"])
    found += non_negative("spec.minReadySeconds", spec.get("minReadySeconds", 0))
    if "ordinals" in spec:
        found += non_negative("spec.ordinals.start", spec["ordinals"].get("start", 0))
    found += _selector(spec, "empty selector is invalid for statefulset")
    return found + _template(spec)


def _stateful_change(new: Object, old: Object) -> Findings:
    fixed = {name: value for name, value in new["spec"].items() if name not in _STATEFUL_CHANGEABLE}
    before = {name: value for name, value in old["spec"].items() if name not in _STATEFUL_CHANGEABLE}
    return [] if fixed == before else [forbidden("spec", _STATEFUL_CHANGES)]


def _controller_revision(revision: Object) -> Findings:
    found = non_negative("revision", revision["revision"])
    if revision.get("data") is None:
        found.append(required("data", "data is mandatory"))
    return found


def _controller_revision_change(new: Object, old: Object) -> Findings:
    return immutable("data", new.get("data"), old.get("data"))


def _disruption_budget(budget: Object) -> Findings:
    spec = budget["spec"]
    found: Findings = []
    low, high = spec.get("minAvailable"), spec.get("maxUnavailable")
    if low is not None and high is not None:
        found.append(invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
    for field, value in (("minAvailable", low), ("maxUnavailable", high)):
        if value is not None:
            found += int_or_percent(value, f"spec.{field}")
            found += not_over_all(value, f"spec.{field}")
    found += validate_label_selector(spec.get("selector"), "spec.selector")
    if "unhealthyPodEvictionPolicy" in spec:
        policy = spec["unhealthyPodEvictionPolicy"]
        found += one_of("spec.unhealthyPodEvictionPolicy", policy, ("AlwaysAllow", "IfHealthyBudget"))
    return found


def _disruption_status(new: Object, old: Object) -> Findings:
    return _counts(new, ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"))


RULES: dict[str, Rules] = {
    "apps/v1 Deployment": Rules(
        create=_deployment, change=_fixed_selector, change_last=True, status=_deployment_status
    ),
    "apps/v1 ReplicaSet": Rules(
        create=_replica_set, change=_fixed_selector, change_last=True, status=_replica_set_status
    ),
    "apps/v1 DaemonSet": Rules(
        create=_daemon_set, change=_fixed_selector, change_last=True, status=_daemon_status
    ),
    "apps/v1 StatefulSet": Rules(create=_stateful_set, change=_stateful_change, change_last=True),
    "apps/v1 ControllerRevision": Rules(create=_controller_revision, change=_controller_revision_change),
    "policy/v1 PodDisruptionBudget": Rules(
        create=_disruption_budget, status=_disruption_status, validates_metadata=False
    ),
}
