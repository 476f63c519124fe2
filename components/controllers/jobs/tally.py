"""What a Job's pods add up to, and what follows. All pure.

Counting is exact although no write covers two objects: a finished pod keeps a finalizer until its uid stands
in `status.uncountedTerminatedPods`; then the finalizer goes, and then the uid turns into one more of
`succeeded` or `failed`. Wherever this stops, the next sync finds what is left to do.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attrs import field, frozen

from understudy.components.controllers.conditions import find_condition
from understudy.components.controllers.jobs.indexes import format_indexes, parse_indexes
from understudy.components.controllers.jobs.pods import (
    has_failed,
    has_succeeded,
    index_of,
    is_indexed,
    is_tracked,
)
from understudy.components.controllers.pod_state import is_active, is_ready, is_terminal, is_terminating
from understudy.components.controllers.timestamps import seconds_since

Object = dict[str, Any]

UNCOUNTED_MAX = 500
"""Pods that are counted in one go."""
BACKOFF_INITIAL_SECONDS = 10.0
BACKOFF_MAX_SECONDS = 600.0


@frozen
class Tally:
    """A Job's pods, counted."""

    active: list[Object]
    """Neither finished nor being deleted."""
    terminating: int
    """Being deleted and not finished yet."""
    ready: int
    succeeded: int
    """All that ever succeeded: counted in the status, or found now."""
    failed: int
    succeeded_indexes: frozenset[int] = field(factory=frozenset)
    new_succeeded: tuple[Object, ...] = ()
    """Finished pods whose uids are not in the status yet."""
    new_failed: tuple[Object, ...] = ()
    restarts: int = 0
    """Restarts of the containers of active pods."""


def tally(job: Object, pods: Sequence[Object]) -> Tally:
    """Count the pods of a Job."""
    status = job.get("status") or {}
    uncounted = status.get("uncountedTerminatedPods") or {}
    known = {*(uncounted.get("succeeded") or ()), *(uncounted.get("failed") or ())}
    succeeded = status.get("succeeded", 0) + len(uncounted.get("succeeded") or ())
    failed = status.get("failed", 0) + len(uncounted.get("failed") or ())
    indexed = is_indexed(job)
    completions = job["spec"].get("completions") or 0
    indexes = parse_indexes(status.get("completedIndexes", ""), completions) if indexed else set()
    new_succeeded, new_failed = [], []
    for pod in pods:
        if not is_tracked(pod) or pod["metadata"]["uid"] in known:
            continue
        if has_succeeded(pod):
            index = index_of(pod)
            if indexed and (index is None or index >= completions):
                continue
            if indexed and index is not None:
                indexes.add(index)
            new_succeeded.append(pod)
        elif has_failed(job, pod):
            new_failed.append(pod)
    active = [pod for pod in pods if is_active(pod)]
    return Tally(
        active=active,
        terminating=sum(is_terminating(pod) and not is_terminal(pod) for pod in pods),
        ready=sum(is_ready(pod) for pod in active),
        succeeded=len(indexes) if indexed else succeeded + len(new_succeeded),
        failed=failed + len(new_failed),
        succeeded_indexes=frozenset(indexes),
        new_succeeded=tuple(new_succeeded),
        new_failed=tuple(new_failed),
        restarts=sum(map(_restarts, active)),
    )


def _restarts(pod: Object) -> int:
    status = pod.get("status") or {}
    statuses = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    return sum(entry.get("restartCount", 0) for entry in statuses)


@frozen
class Verdict:
    """Why a Job is over."""

    condition: str
    """The interim condition: SuccessCriteriaMet or FailureTarget."""
    final: str
    """Complete or Failed, once no pod runs any more."""
    reason: str
    message: str


COMPLETE = Verdict(
    "SuccessCriteriaMet", "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
)
TOO_MANY_FAILURES = Verdict(
    "FailureTarget", "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
)
TOO_LATE = Verdict(
    "FailureTarget", "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
)


def is_finished(job: Object) -> bool:
    """Whether it has its final condition."""
    return finished_at(job) is not None


def finished_at(job: Object) -> str | None:
    """When it got its final condition."""
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return str(condition.get("lastTransitionTime") or "")
    return None


def verdict(job: Object, count: Tally, now: datetime) -> Verdict | None:
    """Whether the Job is over, and why; what was once decided stays."""
    spec, status = job["spec"], job.get("status") or {}
    for kind in ("FailureTarget", "SuccessCriteriaMet"):
        decided = find_condition(status.get("conditions"), kind)
        if decided is not None and decided["status"] == "True":
            final = "Failed" if kind == "FailureTarget" else "Complete"
            return Verdict(kind, final, decided.get("reason", ""), decided.get("message", ""))
    limit = spec.get("backoffLimit", 6)
    restart_policy = (spec["template"].get("spec") or {}).get("restartPolicy")
    restarted = restart_policy == "OnFailure" and count.restarts > 0 and count.restarts >= max(limit, 1)
    if count.failed > limit or restarted:
        return TOO_MANY_FAILURES
    left = seconds_to_deadline(job, now)
    if left is not None and left <= 0:
        return TOO_LATE
    completions = spec.get("completions")
    if completions is None:
        return COMPLETE if count.succeeded > 0 and not count.active else None
    return COMPLETE if count.succeeded >= completions else None


def seconds_to_deadline(job: Object, now: datetime) -> float | None:
    """Seconds that the Job may still be active; None without a deadline or while it is suspended."""
    deadline = job["spec"].get("activeDeadlineSeconds")
    started = (job.get("status") or {}).get("startTime")
    if deadline is None or not started or job["spec"].get("suspend"):
        return None
    return float(deadline) - seconds_since(started, now)


def wanted_active(job: Object, count: Tally) -> int:
    """How many pods should run now."""
    spec = job["spec"]
    if spec.get("suspend"):
        return 0
    parallelism = int(spec.get("parallelism", 1))
    completions = spec.get("completions")
    if completions is None:
        # A work queue: the first success means that there is nothing left to start.
        return min(len(count.active), parallelism) if count.succeeded > 0 else parallelism
    return max(0, min(parallelism, int(completions) - count.succeeded))


def missing_indexes(job: Object, count: Tally, limit: int) -> list[int]:
    """The lowest completion indexes that nobody has or works on."""
    taken = {
        *count.succeeded_indexes,
        *(index for pod in count.active if (index := index_of(pod)) is not None),
    }
    free = (index for index in range(job["spec"].get("completions") or 0) if index not in taken)
    return [index for index, _ in zip(free, range(limit), strict=False)]


def duplicates(count: Tally) -> list[Object]:
    """Active pods that are not needed: a second one of an index, or one whose index is done."""
    seen = set(count.succeeded_indexes)
    surplus = []
    for pod in count.active:
        index = index_of(pod)
        if index is None or index in seen:
            surplus.append(pod)
        else:
            seen.add(index)
    return surplus


def with_new_uids(status: Object, count: Tally) -> Object:
    """The status with the uids of pods that finished since: at most 500 in one go."""
    uncounted = status.get("uncountedTerminatedPods") or {}
    room = UNCOUNTED_MAX - sum(len(uncounted.get(name) or ()) for name in ("succeeded", "failed"))
    taken = [("succeeded", pod) for pod in count.new_succeeded] + [
        ("failed", pod) for pod in count.new_failed
    ]
    lists = {name: list(uncounted.get(name) or ()) for name in ("succeeded", "failed")}
    for name, pod in taken[: max(0, room)]:
        lists[name].append(pod["metadata"]["uid"])
    return {**status, "uncountedTerminatedPods": {k: v for k, v in lists.items() if v}}


def with_counted(job: Object, status: Object, pods: Sequence[Object]) -> Object:
    """The status with every uid counted whose pod has lost its finalizer or is gone."""
    uncounted = status.get("uncountedTerminatedPods") or {}
    held = {pod["metadata"]["uid"]: pod for pod in pods if is_tracked(pod)}
    done = {name: [u for u in uncounted.get(name) or () if u not in held] for name in ("succeeded", "failed")}
    left = {name: [u for u in uncounted.get(name) or () if u in held] for name in ("succeeded", "failed")}
    counted = dict(status)
    for name, uids in done.items():
        total = status.get(name, 0) + len(uids)
        if total:
            counted[name] = total
    counted["uncountedTerminatedPods"] = {name: uids for name, uids in left.items() if uids}
    return counted


def with_indexes(job: Object, status: Object, count: Tally) -> Object:
    """The status of an indexed Job with its completed indexes; they are its successes."""
    if not is_indexed(job):
        return status
    indexes = count.succeeded_indexes
    return {**status, "completedIndexes": format_indexes(indexes)} if indexes else status


def backoff_seconds(job: Object, pods: Sequence[Object], count: Tally, now: datetime) -> float:
    """Seconds to wait before the next pod, after failures: 10 s, doubling up to 10 minutes.

    Failures since the last success count, by the pods that are still there.
    """
    finished = sorted(((_ended(pod), has_succeeded(pod)) for pod in pods if is_terminal(pod)), reverse=True)
    failures = 0
    for _, succeeded in finished:
        if succeeded:
            break
        failures += 1
    if failures == 0:
        return 0.0
    wait = min(BACKOFF_MAX_SECONDS, BACKOFF_INITIAL_SECONDS * 2.0 ** min(failures - 1, 20))
    last = finished[0][0]
    return max(0.0, wait - seconds_since(last, now)) if last else 0.0


def _ended(pod: Object) -> str:
    """When its last container ended; text that sorts like time."""
    times = [
        str(entry["state"]["terminated"].get("finishedAt") or "")
        for entry in (pod.get("status") or {}).get("containerStatuses") or ()
        if (entry.get("state") or {}).get("terminated")
    ]
    return max(times, default=str(pod["metadata"].get("creationTimestamp") or ""))
