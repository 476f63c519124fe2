"""The Job controller."""

from typing import Any

from understudy.components.client import Change, mutable
from understudy.components.controllers.claiming import claim_all
from understudy.components.controllers.conditions import find_condition, is_true, with_condition
from understudy.components.controllers.controller import (
    Controller,
    ControllerContext,
    is_namespace_terminating,
)
from understudy.components.controllers.equality import semantically_equal
from understudy.components.controllers.expectations import Expectations
from understudy.components.controllers.jobs.pods import (
    TRACKING_FINALIZER,
    is_indexed,
    is_tracked,
    make_pod,
    waits_for_failure,
)
from understudy.components.controllers.jobs.tally import (
    COMPLETE,
    Tally,
    Verdict,
    backoff_seconds,
    duplicates,
    is_finished,
    missing_indexes,
    seconds_to_deadline,
    tally,
    verdict,
    wanted_active,
    with_counted,
    with_indexes,
    with_new_uids,
)
from understudy.components.controllers.ownership import (
    CONTROLLER_INDEX,
    by_controller,
    controller_of,
    key_of,
    orphans_of,
)
from understudy.components.controllers.pod_control import create_pod, delete_pod
from understudy.components.controllers.pod_state import is_terminating
from understudy.components.controllers.replicaset.ranking import deletion_order
from understudy.components.controllers.slow_start import slow_start, together
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import JOBS, PODS
from understudy.components.machinery.selectors import label_selector_from_object

Object = dict[str, Any]

CREATIONS_MAX = 500
_NOT_DONE = ("podFailurePolicy", "successPolicy", "backoffLimitPerIndex")


class JobController(Controller):
    """Runs the pods of each Job until enough of them have succeeded, or too many failed."""

    name = "job-controller"

    def __init__(self, shared: ControllerContext) -> None:
        super().__init__(shared)
        self.expectations = Expectations()

    @property
    def workers(self) -> int:
        return self.options.concurrent_job_syncs

    def register(self) -> None:
        self.jobs = self.watch(JOBS, self.enqueue)
        self.pods = self.watch(PODS, self._on_pod, {CONTROLLER_INDEX: by_controller})

    def _on_pod(self, change: Change) -> None:
        for pod in (change.old, change.new):
            reference = controller_of(pod) if pod is not None else None
            if pod is None or reference is None or reference["kind"] != "Job":
                continue
            key = f"{pod['metadata']['namespace']}/{reference['name']}"
            if change.type == "ADDED":
                self.expectations.creation_observed(key)
            if change.new is None or is_terminating(change.new):
                self.expectations.deletion_observed(key, change.key)
            self.queue.add(key)
            job = self.jobs.get(key)
            if change.new is not None and (job is None or job["metadata"]["uid"] != reference["uid"]):
                self.queue.add(_RELEASE + change.key)

    async def sync(self, key: str) -> None:
        if key.startswith(_RELEASE):
            await self._release_stray(key.removeprefix(_RELEASE))
            return
        cached = self.jobs.get(key)
        if cached is None:
            self.expectations.forget(key)
            return
        job = mutable(cached)
        if job["spec"].get("managedBy") not in (None, "kubernetes.io/job-controller"):
            return
        missing = next((name for name in _NOT_DONE if job["spec"].get(name) is not None), None)
        if missing is not None:
            text = f"this controller does not know spec.{missing}: remove it from the Job"
            self.recorder.event(job, "Warning", "Unsupported", text)
            return
        settled = self.expectations.satisfied(key, self.world.monotonic())
        pods = await self._pods_of(job)
        if is_finished(job):
            await self._release([pod for pod in pods if is_tracked(pod)])
            return
        await self._advance(key, job, pods, settled)

    async def _pods_of(self, job: Object) -> list[Object]:
        metadata = job["metadata"]
        candidates = self.pods.by_index(CONTROLLER_INDEX, metadata["uid"])
        candidates += self.pods.by_index(CONTROLLER_INDEX, orphans_of(metadata["namespace"]))
        selector = label_selector_from_object(job["spec"].get("selector"))
        return await claim_all(self.client, job, JOBS, selector, candidates, PODS)

    # -- one round

    async def _advance(self, key: str, job: Object, pods: list[Object], settled: bool) -> None:
        now = self.world.now()
        job.setdefault("status", {})
        if not job["status"].get("startTime") and not job["spec"].get("suspend"):
            job["status"]["startTime"] = self.world.now_text()
        count = tally(job, pods)
        outcome = verdict(job, count, now)
        error: Exception | None = None
        if outcome is not None:
            error = await self._delete(key, job, count.active)
        elif settled and not job["metadata"].get("deletionTimestamp"):
            error = await self._manage(key, job, pods, count)
        status = self._status(job, count, outcome)
        written = await self._write(job, with_indexes(job, with_new_uids(status, count), count))
        counted = await self._count(written, pods)
        if outcome is not None:
            await self._conclude(counted, pods, count, outcome)
        left = seconds_to_deadline(counted, now)
        if left is not None and not is_finished(counted):
            self.queue.add_after(key, max(left, 0.0) + 0.001)
        if error is not None:
            raise error

    def _status(self, job: Object, count: Tally, outcome: Verdict | None) -> Object:
        status = dict(job["status"])
        conditions = status.get("conditions")
        if outcome is not None:
            conditions = with_condition(conditions, self._condition(outcome.condition, outcome))
        conditions = self._suspension(job, conditions)
        if conditions:
            status["conditions"] = conditions
        status["active"] = len(count.active) if outcome is None else 0
        status["ready"] = count.ready if outcome is None else 0
        status["terminating"] = count.terminating
        return {k: v for k, v in status.items() if v or k in _ALWAYS_SHOWN}

    def _suspension(self, job: Object, conditions: list[Object] | None) -> list[Object] | None:
        now = self.world.now_text()
        suspended = bool(job["spec"].get("suspend"))
        if suspended == is_true(job, "Suspended"):
            return conditions
        if not suspended and find_condition(conditions, "Suspended") is None:
            return conditions
        word = "suspended" if suspended else "resumed"
        self.recorder.event(job, "Normal", "Suspended" if suspended else "Resumed", f"Job {word}")
        if suspended:
            job["status"].pop("startTime", None)
        else:
            job["status"]["startTime"] = now
        reason = "JobSuspended" if suspended else "JobResumed"
        condition = {
            "type": "Suspended",
            "status": "True" if suspended else "False",
            "lastProbeTime": now,
            "lastTransitionTime": now,
            "reason": reason,
            "message": f"Job {word}",
        }
        return with_condition(conditions, condition)

    def _condition(self, kind: str, outcome: Verdict) -> Object:
        now = self.world.now_text()
        return {
            "type": kind,
            "status": "True",
            "lastProbeTime": now,
            "lastTransitionTime": now,
            "reason": outcome.reason,
            "message": outcome.message,
        }

    async def _count(self, job: Object, pods: list[Object]) -> Object:
        """Release the pods whose uids stand in the status, then count them."""
        uncounted = job["status"].get("uncountedTerminatedPods") or {}
        known = {*(uncounted.get("succeeded") or ()), *(uncounted.get("failed") or ())}
        if not known:
            return job
        held = [pod for pod in pods if pod["metadata"]["uid"] in known and is_tracked(pod)]
        await self._release(held)
        released = {pod["metadata"]["uid"] for pod in held}
        rest = [pod for pod in pods if pod["metadata"]["uid"] not in released]
        return await self._write(job, with_counted(job, job["status"], rest))

    async def _conclude(self, job: Object, pods: list[Object], count: Tally, outcome: Verdict) -> None:
        """The final condition comes when nothing runs and nothing is left to count."""
        if count.active or count.terminating or job["status"].get("uncountedTerminatedPods"):
            return
        if any(is_tracked(pod) for pod in [*count.new_succeeded, *count.new_failed][500:]):
            return
        status = dict(job["status"])
        final = self._condition(outcome.final, outcome)
        status["conditions"] = with_condition(status.get("conditions"), final)
        if outcome.final == "Complete":
            status["completionTime"] = self.world.now_text()
        await self._write(job, status)
        if outcome.condition == COMPLETE.condition:
            self.recorder.event(job, "Normal", "Completed", "Job completed")
        else:
            self.recorder.event(job, "Warning", outcome.reason, outcome.message)

    async def _write(self, job: Object, status: Object) -> Object:
        if semantically_equal(_plain(job["status"]), _plain(status)) and job["status"].keys() >= {"ready"}:
            return job
        return await self.client.update_status(JOBS, {**job, "status": status})

    # -- pods

    async def _manage(self, key: str, job: Object, pods: list[Object], count: Tally) -> Exception | None:
        wanted = wanted_active(job, count)
        surplus = duplicates(count) if is_indexed(job) else []
        if len(count.active) - len(surplus) > wanted:
            spare = [pod for pod in count.active if pod not in surplus]
            ordered = deletion_order(spare, spare, self.world.now())
            surplus += ordered[: len(spare) - wanted]
        if surplus:
            return await self._delete(key, job, surplus)
        room = wanted - len(count.active) - (count.terminating if waits_for_failure(job) else 0)
        if room <= 0:
            return None
        wait = backoff_seconds(job, pods, count, self.world.now())
        if wait > 0:
            self.queue.add_after(key, wait)
            return None
        return await self._create(key, job, count, min(room, CREATIONS_MAX))

    async def _create(self, key: str, job: Object, count: Tally, number: int) -> Exception | None:
        indexes: list[int | None] = [None] * number
        if is_indexed(job):
            indexes = list(missing_indexes(job, count, number))
        self.expectations.expect_creations(key, len(indexes), self.world.monotonic())
        waiting = iter(indexes)
        quiet = []

        async def attempt() -> Exception | None:
            error = await create_pod(self.client, self.recorder, job, make_pod(job, next(waiting)))
            if error is not None:
                self.expectations.creation_observed(key)
                if isinstance(error, ApiError) and is_namespace_terminating(error):
                    quiet.append(error)
            return error

        attempted, error = await slow_start(self.world, len(indexes), 1, attempt)
        self.expectations.creation_observed(key, len(indexes) - attempted)
        return None if quiet else error

    async def _delete(self, key: str, job: Object, pods: list[Object]) -> Exception | None:
        if not pods:
            return None
        self.expectations.expect_deletions(key, map(key_of, pods), self.world.monotonic())

        async def attempt(pod: Object) -> Exception | None:
            error = await delete_pod(self.client, self.recorder, job, pod)
            if error is not None:
                self.expectations.deletion_observed(key, key_of(pod))
            return error

        errors = await together(self.world, [lambda pod=pod: attempt(pod) for pod in pods])  # type: ignore[misc]
        return next((error for error in errors if error is not None), None)

    async def _release(self, pods: list[Object]) -> None:
        """Remove the tracking finalizer."""
        if not pods:
            return

        async def attempt(pod: Object) -> Exception | None:
            metadata = pod["metadata"]
            patch = {
                "metadata": {
                    "uid": metadata["uid"],
                    "$deleteFromPrimitiveList/finalizers": [TRACKING_FINALIZER],
                }
            }
            try:
                await self.client.patch(
                    PODS, metadata["name"], patch, metadata["namespace"], type="strategic"
                )
            except ApiError as error:
                return None if error.code == 404 else error
            return None

        errors = await together(self.world, [lambda pod=pod: attempt(pod) for pod in pods])  # type: ignore[misc]
        for error in errors:
            if error is not None:
                raise error

    async def _release_stray(self, key: str) -> None:
        """A pod whose Job is gone will never be counted: it must not wait for it."""
        pod = self.pods.get(key)
        if pod is None or not is_tracked(pod):
            return
        reference = controller_of(pod)
        if reference is not None and reference["kind"] == "Job":
            job = self.jobs.get(f"{pod['metadata']['namespace']}/{reference['name']}")
            if job is not None and job["metadata"]["uid"] == reference["uid"]:
                return
        await self._release([pod])


_RELEASE = "release "
_ALWAYS_SHOWN = frozenset({"ready", "terminating", "uncountedTerminatedPods"})


def _plain(status: Object) -> Object:
    return {key: value for key, value in status.items() if value != 0}
