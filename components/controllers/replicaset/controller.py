"""The ReplicaSet controller."""

from typing import Any

from understudy.components.client import Change
from understudy.components.controllers.claiming import claim_all
from understudy.components.controllers.controller import (
    Controller,
    ControllerContext,
    is_namespace_terminating,
)
from understudy.components.controllers.expectations import Expectations
from understudy.components.controllers.ownership import (
    CONTROLLER_INDEX,
    NAMESPACE_INDEX,
    by_controller,
    by_namespace,
    controller_of,
    controller_reference,
    key_of,
    labels_of,
    orphans_of,
)
from understudy.components.controllers.pod_control import create_pod, delete_pod, pod_from_template
from understudy.components.controllers.pod_state import is_active, is_ready, is_terminal, is_terminating
from understudy.components.controllers.replicaset.ranking import deletion_order
from understudy.components.controllers.replicaset.status import (
    replica_set_status,
    seconds_to_next_available,
    status_differs,
)
from understudy.components.controllers.slow_start import slow_start, together
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import PODS, REPLICA_SETS
from understudy.components.machinery.selectors import LabelSelector, label_selector_from_object

Object = dict[str, Any]

BURST_REPLICAS = 500
"""Pods created or deleted in one sync at most."""
SLOW_START_INITIAL_BATCH_SIZE = 1


class ReplicaSetController(Controller):
    """Keeps as many pods as each ReplicaSet asks for."""

    name = "replicaset-controller"

    def __init__(self, shared: ControllerContext) -> None:
        super().__init__(shared)
        self.expectations = Expectations()

    @property
    def workers(self) -> int:
        return self.options.concurrent_replicaset_syncs

    def register(self) -> None:
        self.replica_sets = self.watch(
            REPLICA_SETS,
            self._on_replica_set,
            {NAMESPACE_INDEX: by_namespace, CONTROLLER_INDEX: by_controller},
        )
        self.pods = self.watch(PODS, self._on_pod, {CONTROLLER_INDEX: by_controller})

    # -- what changes concern

    def _on_replica_set(self, change: Change) -> None:
        if change.type == "DELETED" or (
            change.old is not None
            and change.new is not None
            and change.old["metadata"]["uid"] != change.new["metadata"]["uid"]
        ):
            self.expectations.forget(change.key)
        self.queue.add(change.key)

    def _on_pod(self, change: Change) -> None:
        old, new = change.old, change.new
        if new is None:
            assert old is not None
            self._on_pod_deletion(old)
            return
        if is_terminating(new) and (old is None or not is_terminating(old)):
            # Its deletion has begun: that is when it stops to count, long before it is gone.
            self._on_pod_deletion(new)
        key = self._controller_key(new)
        if old is None and key is not None:
            self.expectations.creation_observed(key)
        old_key = self._controller_key(old) if old is not None else None
        if old_key is not None and old_key != key:
            self.queue.add(old_key)
        if key is not None:
            self.queue.add(key)
        elif controller_of(new) is None and (
            old is None or labels_of(old) != labels_of(new) or controller_of(old) is not None
        ):
            self._enqueue_those_that_select(new)

    def _on_pod_deletion(self, pod: Object) -> None:
        key = self._controller_key(pod)
        if key is not None:
            self.expectations.deletion_observed(key, key_of(pod))
            self.queue.add(key)

    def _controller_key(self, pod: Object) -> str | None:
        reference = controller_of(pod)
        if reference is None or reference["kind"] != "ReplicaSet":
            return None
        key = f"{pod['metadata']['namespace']}/{reference['name']}"
        replica_set = self.replica_sets.get(key)
        if replica_set is None or replica_set["metadata"]["uid"] != reference["uid"]:
            return None
        return key

    def _enqueue_those_that_select(self, pod: Object) -> None:
        for replica_set in self.replica_sets.by_index(NAMESPACE_INDEX, pod["metadata"]["namespace"]):
            selector = label_selector_from_object(replica_set["spec"].get("selector"))
            if not selector.empty and selector.matches(labels_of(pod)):
                self.queue.add(key_of(replica_set))

    # -- one ReplicaSet

    async def sync(self, key: str) -> None:
        replica_set = self.replica_sets.get(key)
        if replica_set is None:
            self.expectations.forget(key)
            return
        # Asked before the pods are read: what is observed in between must not make a stale list look new.
        settled = self.expectations.satisfied(key, self.world.monotonic())
        pods = await self._pods_of(replica_set)
        active = [pod for pod in pods if is_active(pod)]
        terminating = sum(is_terminating(pod) and not is_terminal(pod) for pod in pods)
        error: Exception | None = None
        if settled and not replica_set["metadata"].get("deletionTimestamp"):
            error = await self._manage(key, replica_set, active)
        now = self.world.now()
        failure = str(error) if error is not None else None
        status = replica_set_status(replica_set, active, terminating, failure, now)
        await self._write_status(replica_set, status)
        if error is not None:
            raise error
        self._come_back_when_available(key, replica_set, active)

    async def _pods_of(self, replica_set: Object) -> list[Object]:
        metadata = replica_set["metadata"]
        selector = self._selector(replica_set)
        owned = self.pods.by_index(CONTROLLER_INDEX, metadata["uid"])
        orphans = self.pods.by_index(CONTROLLER_INDEX, orphans_of(metadata["namespace"]))
        candidates = owned + [pod for pod in orphans if not is_terminal(pod)]
        return await claim_all(self.client, replica_set, REPLICA_SETS, selector, candidates, PODS)

    def _selector(self, replica_set: Object) -> LabelSelector:
        return label_selector_from_object(replica_set["spec"].get("selector"))

    async def _manage(self, key: str, replica_set: Object, active: list[Object]) -> Exception | None:
        wanted = replica_set["spec"].get("replicas", 1)
        missing = wanted - len(active)
        if missing > 0:
            return await self._create(key, replica_set, min(missing, BURST_REPLICAS))
        if missing < 0:
            return await self._delete(key, replica_set, active, min(-missing, BURST_REPLICAS))
        return None

    async def _create(self, key: str, replica_set: Object, count: int) -> Exception | None:
        reference = controller_reference(replica_set, REPLICA_SETS.api_version, REPLICA_SETS.kind)
        self.expectations.expect_creations(key, count, self.world.monotonic())
        terminating: list[ApiError] = []

        async def attempt() -> Exception | None:
            pod = pod_from_template(replica_set["spec"]["template"], replica_set, reference)
            error = await create_pod(self.client, self.recorder, replica_set, pod)
            if error is not None:
                self.expectations.creation_observed(key)
                if isinstance(error, ApiError) and is_namespace_terminating(error):
                    terminating.append(error)
            return error

        attempted, error = await slow_start(self.world, count, SLOW_START_INITIAL_BATCH_SIZE, attempt)
        self.expectations.creation_observed(key, count - attempted)
        return None if terminating else error

    async def _delete(
        self, key: str, replica_set: Object, active: list[Object], count: int
    ) -> Exception | None:
        chosen = active
        if count < len(active):
            chosen = deletion_order(active, self._related_pods(replica_set), self.world.now())[:count]
        self.expectations.expect_deletions(key, map(key_of, chosen), self.world.monotonic())

        async def attempt(pod: Object) -> Exception | None:
            error = await delete_pod(self.client, self.recorder, replica_set, pod)
            if error is not None:
                self.expectations.deletion_observed(key, key_of(pod))
            return error

        errors = await together(self.world, [lambda pod=pod: attempt(pod) for pod in chosen])  # type: ignore[misc]
        return next((error for error in errors if error is not None), None)

    def _related_pods(self, replica_set: Object) -> list[Object]:
        """The pods of all ReplicaSets of the same controller: those of a Deployment spread together."""
        owner = controller_of(replica_set)
        if owner is None:
            return self.pods.by_index(CONTROLLER_INDEX, replica_set["metadata"]["uid"])
        return [
            pod
            for sibling in self.replica_sets.by_index(CONTROLLER_INDEX, owner["uid"])
            for pod in self.pods.by_index(CONTROLLER_INDEX, sibling["metadata"]["uid"])
        ]

    async def _write_status(self, replica_set: Object, status: Object) -> None:
        """Write the status if it differs; on a conflict once more over what is there now."""
        if not status_differs(replica_set.get("status"), status):
            return
        metadata = replica_set["metadata"]
        try:
            await self.client.update_status(REPLICA_SETS, {**replica_set, "status": status})
        except ApiError as error:
            if error.code == 404:
                return
            if error.code != 409:
                raise
            fresh = await self.client.get(REPLICA_SETS, metadata["name"], metadata["namespace"])
            if fresh["metadata"]["uid"] == metadata["uid"]:
                await self.client.update_status(REPLICA_SETS, {**fresh, "status": status})

    def _come_back_when_available(self, key: str, replica_set: Object, active: list[Object]) -> None:
        min_ready = replica_set["spec"].get("minReadySeconds", 0)
        if min_ready > 0 and any(is_ready(pod) for pod in active):
            wait = seconds_to_next_available(active, min_ready, self.world.now())
            if wait is not None:
                self.queue.add_after(key, wait)
