"""The TTL-after-finished controller: deletes Jobs some time after they have finished."""

from typing import Any

from understudy.components.client import Change
from understudy.components.controllers.controller import Controller
from understudy.components.controllers.jobs.tally import finished_at
from understudy.components.controllers.ownership import split_key
from understudy.components.controllers.timestamps import seconds_since
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import JOBS

Object = dict[str, Any]


class TtlAfterFinishedController(Controller):
    """Works off finished Jobs that have a time to live."""

    name = "ttl-after-finished-controller"

    @property
    def workers(self) -> int:
        return self.options.concurrent_ttl_after_finished_syncs

    def register(self) -> None:
        self.jobs = self.watch(JOBS, self._on_job)

    def _on_job(self, change: Change) -> None:
        if change.new is not None and self._left(change.new) is not None:
            self.queue.add(change.key)

    def _left(self, job: Object) -> float | None:
        ttl, finished = job["spec"].get("ttlSecondsAfterFinished"), finished_at(job)
        if ttl is None or not finished or job["metadata"].get("deletionTimestamp"):
            return None
        return float(ttl) - seconds_since(finished, self.world.now())

    async def sync(self, key: str) -> None:
        job = self.jobs.get(key)
        left = self._left(job) if job is not None else None
        if job is None or left is None:
            return
        if left > 0:
            self.queue.add_after(key, left)
            return
        namespace, name = split_key(key)
        try:
            # The resourceVersion keeps a Job whose time was lengthened just now.
            await self.client.delete(
                JOBS,
                name,
                namespace,
                uid=job["metadata"]["uid"],
                resource_version=job["metadata"]["resourceVersion"],
                propagation_policy="Foreground",
            )
        except ApiError as error:
            if error.code != 404:
                raise
