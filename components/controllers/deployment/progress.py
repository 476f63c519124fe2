"""The status of a Deployment and its conditions. All pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from understudy.components.controllers.conditions import (
    find_condition,
    with_condition,
    without_condition,
)
from understudy.components.controllers.deployment.replica_sets import replicas_of
from understudy.components.controllers.deployment.scaling import max_unavailable
from understudy.components.controllers.timestamps import seconds_since

Object = dict[str, Any]

PROGRESSING = "Progressing"
AVAILABLE = "Available"
REPLICA_FAILURE = "ReplicaFailure"
NO_DEADLINE = 2**31 - 1


def has_progress_deadline(deployment: Object) -> bool:
    """Whether a rollout that does not move is reported."""
    return bool(deployment["spec"].get("progressDeadlineSeconds", NO_DEADLINE) != NO_DEADLINE)


def condition(kind: str, status: str, reason: str, message: str, now: datetime) -> Object:
    """A Deployment's condition that changed and was updated now."""
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": kind,
        "status": status,
        "lastUpdateTime": stamp,
        "lastTransitionTime": stamp,
        "reason": reason,
        "message": message,
    }


def _count(replica_sets: Sequence[Object], name: str) -> int:
    return sum((rs.get("status") or {}).get(name, 0) for rs in replica_sets)


def counted_status(
    deployment: Object, all_sets: Sequence[Object], new: Object | None, now: datetime
) -> Object:
    """The status as the ReplicaSets' statuses add up, with the Available condition."""
    old = deployment.get("status") or {}
    available = _count(all_sets, "availableReplicas")
    wanted_now = sum(map(replicas_of, all_sets))
    counts = {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "replicas": _count(all_sets, "replicas"),
        "updatedReplicas": _count([new], "replicas") if new is not None else 0,
        "readyReplicas": _count(all_sets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, wanted_now - available),
    }
    status: Object = {name: count for name, count in counts.items() if count}
    status["terminatingReplicas"] = _count(all_sets, "terminatingReplicas")
    if old.get("collisionCount") is not None:
        status["collisionCount"] = old["collisionCount"]
    if available >= replicas_of(deployment) - max_unavailable(deployment):
        verdict = condition(
            AVAILABLE, "True", "MinimumReplicasAvailable", "Deployment has minimum availability.", now
        )
    else:
        verdict = condition(
            AVAILABLE,
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
            now,
        )
    status["conditions"] = with_condition(old.get("conditions"), verdict)
    return status


def is_complete(deployment: Object, status: Object) -> bool:
    """Whether the rollout is done: all wanted replicas are new and available, and no other is left."""
    wanted = replicas_of(deployment)
    counts = ("updatedReplicas", "replicas", "availableReplicas")
    if any(status.get(name, 0) != wanted for name in counts):
        return False
    observed: int = status.get("observedGeneration", 0)
    return observed >= int(deployment["metadata"].get("generation", 0))


def is_progressing(old: Object, new: Object) -> bool:
    """Whether the rollout has moved from one status to the other."""

    def outdated(status: Object) -> int:
        return int(status.get("replicas", 0)) - int(status.get("updatedReplicas", 0))

    growing = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return outdated(new) < outdated(old) or any(new.get(name, 0) > old.get(name, 0) for name in growing)


def has_timed_out(deployment: Object, status: Object, now: datetime) -> bool:
    """Whether the rollout has not moved for longer than its deadline."""
    current = find_condition(status.get("conditions"), PROGRESSING)
    if current is None or current.get("reason") == "NewReplicaSetAvailable":
        return False
    if current.get("reason") == "ProgressDeadlineExceeded":
        return True
    deadline: int = deployment["spec"]["progressDeadlineSeconds"]
    return seconds_since(current["lastUpdateTime"], now) > deadline


def rollout_status(
    deployment: Object, all_sets: Sequence[Object], new: Object | None, now: datetime
) -> Object:
    """The status in the middle or at the end of a rollout, with all its conditions."""
    status = counted_status(deployment, all_sets, new, now)
    old = deployment.get("status") or {}
    current = find_condition(old.get("conditions"), PROGRESSING)
    if not has_progress_deadline(deployment):
        status["conditions"] = without_condition(status["conditions"], PROGRESSING)
    elif not (
        status.get("replicas", 0) == status.get("updatedReplicas", 0)
        and current is not None
        and current.get("reason") == "NewReplicaSetAvailable"
    ):
        status["conditions"] = _progress(deployment, old, status, current, new, now)
    failure = _replica_failure(all_sets, new, now)
    if failure is not None:
        status["conditions"] = with_condition(status["conditions"], failure)
    else:
        status["conditions"] = without_condition(status["conditions"], REPLICA_FAILURE)
    return status


def _progress(
    deployment: Object,
    old: Object,
    status: Object,
    current: Object | None,
    new: Object | None,
    now: datetime,
) -> list[Object]:
    conditions: list[Object] = status["conditions"]
    if new is not None:
        subject = f'ReplicaSet "{new["metadata"]["name"]}"'
    else:
        subject = f'Deployment "{deployment["metadata"]["name"]}"'
    if is_complete(deployment, status):
        done = f"{subject} has successfully progressed."
        verdict = condition(PROGRESSING, "True", "NewReplicaSetAvailable", done, now)
        return with_condition(conditions, verdict)
    if is_progressing(old, status):
        verdict = condition(PROGRESSING, "True", "ReplicaSetUpdated", f"{subject} is progressing.", now)
        if current is not None:
            # Every step forward renews the update time that the deadline counts from.
            if current.get("status") == "True":
                verdict["lastTransitionTime"] = current.get("lastTransitionTime")
            conditions = without_condition(conditions, PROGRESSING)
        return with_condition(conditions, verdict)
    if has_timed_out(deployment, status, now):
        late = f"{subject} has timed out progressing."
        verdict = condition(PROGRESSING, "False", "ProgressDeadlineExceeded", late, now)
        return with_condition(conditions, verdict)
    return conditions


def _replica_failure(all_sets: Sequence[Object], new: Object | None, now: datetime) -> Object | None:
    preferred = [new] if new is not None else []
    for replica_set in [*preferred, *all_sets]:
        found = find_condition((replica_set.get("status") or {}).get("conditions"), REPLICA_FAILURE)
        if found is not None and found.get("status") == "True":
            failure = condition(
                REPLICA_FAILURE, "True", found.get("reason", ""), found.get("message", ""), now
            )
            failure["lastTransitionTime"] = found.get("lastTransitionTime")
            failure["lastUpdateTime"] = found.get("lastTransitionTime")
            return failure
    return None


def pause_condition(deployment: Object, now: datetime) -> Object | None:
    """The Progressing condition that says that a rollout was paused or resumed; None if it is said already.

    A paused rollout makes no progress, and its deadline must not run.
    """
    if not has_progress_deadline(deployment):
        return None
    current = find_condition((deployment.get("status") or {}).get("conditions"), PROGRESSING)
    reason = current.get("reason") if current is not None else None
    if reason == "ProgressDeadlineExceeded":
        return None
    paused = bool(deployment["spec"].get("paused"))
    if paused and reason != "DeploymentPaused":
        return condition(PROGRESSING, "Unknown", "DeploymentPaused", "Deployment is paused", now)
    if not paused and reason == "DeploymentPaused":
        return condition(PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed", now)
    return None


def seconds_to_deadline(deployment: Object, status: Object, now: datetime) -> float | None:
    """Seconds until the rollout must be looked at again for its deadline; None when it need not."""
    current = find_condition(status.get("conditions"), PROGRESSING)
    if not has_progress_deadline(deployment) or current is None:
        return None
    # A finished rollout has no deadline any more, even when its pods fail later.
    if current.get("reason") in ("ProgressDeadlineExceeded", "NewReplicaSetAvailable"):
        return None
    if is_complete(deployment, status):
        return None
    left: int = deployment["spec"]["progressDeadlineSeconds"]
    return max(0.0, left - seconds_since(current["lastUpdateTime"], now)) + 1.0
