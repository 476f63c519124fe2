"""Defaults of the groups apps, batch, autoscaling."""

import copy
from typing import Any

from understudy.components.machinery.defaults.pods import default_template
from understudy.components.machinery.defaults.volumes import default_claim_spec

Object = dict[str, Any]

_UNLIMITED = 2**31 - 1


def default_deployment(deployment: Object) -> None:
    """A Deployment replaces its pods by a quarter at a time."""
    spec = deployment["spec"]
    spec.setdefault("replicas", 1)
    strategy = spec["strategy"]
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    default_template(spec["template"])


def default_replica_set(replica_set: Object) -> None:
    """One replica."""
    replica_set["spec"].setdefault("replicas", 1)
    default_template(replica_set["spec"]["template"])


def default_daemon_set(daemon_set: Object) -> None:
    """A DaemonSet replaces one pod at a time."""
    spec = daemon_set["spec"]
    strategy = spec["updateStrategy"]
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", 1)
        rolling.setdefault("maxSurge", 0)
    spec.setdefault("revisionHistoryLimit", 10)
    default_template(spec["template"])


def default_stateful_set(stateful_set: Object) -> None:
    """A StatefulSet starts in order, keeps its claims, and has typed claim templates."""
    spec = stateful_set["spec"]
    spec.setdefault("podManagementPolicy", "OrderedReady")
    strategy = spec["updateStrategy"]
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
    retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    retention.setdefault("whenDeleted", "Retain")
    retention.setdefault("whenScaled", "Retain")
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    default_template(spec["template"])
    for claim in spec.get("volumeClaimTemplates", ()):
        claim.setdefault("apiVersion", "v1")
        claim.setdefault("kind", "PersistentVolumeClaim")
        default_claim_spec(claim["spec"])
        claim["status"].setdefault("phase", "Pending")


def default_job(job: Object) -> None:
    """A Job runs one pod to completion and tries six times more."""
    spec = job["spec"]
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", _UNLIMITED if "backoffLimitPerIndex" in spec else 6)
    labels = spec["template"]["metadata"].get("labels")
    if labels and not job["metadata"].get("labels"):
        job["metadata"]["labels"] = dict(labels)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("podReplacementPolicy", "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
    spec.setdefault("manualSelector", False)
    _default_job_spec(spec)


def _default_job_spec(spec: Object) -> None:
    for rule in (spec.get("podFailurePolicy", {}).get("rules")) or ():
        for pattern in rule.get("onPodConditions", ()):
            if not pattern.get("status"):
                pattern["status"] = "True"
    default_template(spec["template"])


def default_cron_job(cron_job: Object) -> None:
    """A CronJob may overlap with itself; it keeps three successes and one failure."""
    spec = cron_job["spec"]
    spec.setdefault("concurrencyPolicy", "Allow")
    spec.setdefault("suspend", False)
    spec.setdefault("successfulJobsHistoryLimit", 3)
    spec.setdefault("failedJobsHistoryLimit", 1)
    _default_job_spec(spec["jobTemplate"]["spec"])


_SCALE_UP: Object = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
_SCALE_DOWN: Object = {
    "selectPolicy": "Max",
    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
}


def default_autoscaler(autoscaler: Object) -> None:
    """An autoscaler without metrics keeps the CPU at 80%."""
    spec = autoscaler["spec"]
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    if "behavior" in spec:
        for direction, rules in (("scaleUp", _SCALE_UP), ("scaleDown", _SCALE_DOWN)):
            given = spec["behavior"].setdefault(direction, {})
            for name, value in rules.items():
                given.setdefault(name, copy.deepcopy(value))


def default_autoscaler_v1(autoscaler: Object) -> None:
    """The older version, which knows the CPU only."""
    autoscaler["spec"].setdefault("minReplicas", 1)
    autoscaler["spec"].setdefault("targetCPUUtilizationPercentage", 80)
