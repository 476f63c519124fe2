"""The DaemonSet controller."""

from typing import Any

from understudy.components.client import Change, mutable
from understudy.components.controllers.claiming import claim_all
from understudy.components.controllers.controller import (
    Controller,
    ControllerContext,
    is_namespace_terminating,
)
from understudy.components.controllers.daemonsets.placement import make_pod
from understudy.components.controllers.daemonsets.plan import Plan, Situation, daemon_status, place, roll
from understudy.components.controllers.equality import semantically_equal
from understudy.components.controllers.expectations import Expectations
from understudy.components.controllers.nodes.taints import taints_of
from understudy.components.controllers.ownership import (
    CONTROLLER_INDEX,
    NAMESPACE_INDEX,
    by_controller,
    by_namespace,
    controller_of,
    key_of,
    labels_of,
    orphans_of,
)
from understudy.components.controllers.pod_control import create_pod, delete_pod
from understudy.components.controllers.pod_state import is_terminating, seconds_to_available
from understudy.components.controllers.revisions import POD_LABEL, RevisionKeeper, hash_of
from understudy.components.controllers.slow_start import slow_start, together
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS
from understudy.components.machinery.selectors import label_selector_from_object

Object = dict[str, Any]

BURST_REPLICAS = 250
FAILED_PODS_BACKOFF_INITIAL_SECONDS = 1.0
FAILED_PODS_BACKOFF_MAX_SECONDS = 900.0


class DaemonSetController(Controller):
    """Keeps one pod of each DaemonSet on every node that fits."""

    name = "daemonset-controller"

    def __init__(self, shared: ControllerContext) -> None:
        super().__init__(shared)
        self.expectations = Expectations()
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}
        """By DaemonSet and node: failures in a row, and when the next failed pod may be deleted."""

    @property
    def workers(self) -> int:
        return self.options.concurrent_daemonset_syncs

    def register(self) -> None:
        self.keeper = RevisionKeeper(self.client, DAEMON_SETS)
        self.sets = self.watch(DAEMON_SETS, self.enqueue, {NAMESPACE_INDEX: by_namespace})
        self.revisions = self.informer(CONTROLLER_REVISIONS, {CONTROLLER_INDEX: by_controller})
        self.nodes = self.watch(NODES, self._on_node)
        self.pods = self.watch(PODS, self._on_pod, {CONTROLLER_INDEX: by_controller})

    def _on_node(self, change: Change) -> None:
        old, new = change.old, change.new
        same = old is not None and new is not None
        if same and _placing(old) == _placing(new):
            return
        for daemon_set in self.sets.list():
            self.queue.add(key_of(daemon_set))

    def _on_pod(self, change: Change) -> None:
        for pod in (change.old, change.new):
            if pod is None:
                continue
            reference = controller_of(pod)
            namespace = pod["metadata"]["namespace"]
            if reference is not None and reference["kind"] == "DaemonSet":
                key = f"{namespace}/{reference['name']}"
                if change.type == "ADDED":
                    self.expectations.creation_observed(key)
                if change.new is None or is_terminating(change.new):
                    self.expectations.deletion_observed(key, change.key)
                self.queue.add(key)
            elif reference is None and pod is change.new:
                for owner in self.sets.by_index(NAMESPACE_INDEX, namespace):
                    if label_selector_from_object(owner["spec"].get("selector")).matches(labels_of(pod)):
                        self.queue.add(key_of(owner))

    async def sync(self, key: str) -> None:
        cached = self.sets.get(key)
        if cached is None:
            self.expectations.forget(key)
            self._failures = {k: v for k, v in self._failures.items() if k[0] != key}
            return
        daemon_set = mutable(cached)
        metadata = daemon_set["metadata"]
        if metadata.get("deletionTimestamp"):
            return
        settled = self.expectations.satisfied(key, self.world.monotonic())
        pods = await self._pods_of(daemon_set)
        revisions = self.revisions.by_index(CONTROLLER_INDEX, metadata["uid"])
        update = await self.keeper.update_revision(daemon_set, revisions)
        situation = Situation(daemon_set, self.nodes.list(), pods, hash_of(update), self.world.now())
        error: Exception | None = None
        if settled:
            error = await self._step(key, situation)
        await self._write_status(daemon_set, situation)
        if error is not None:
            raise error
        self._come_back(key, situation)
        hashes = {(pod["metadata"].get("labels") or {}).get(POD_LABEL) for pod in pods}
        live = {r["metadata"]["name"] for r in revisions if hash_of(r) in hashes}
        live.add(update["metadata"]["name"])
        await self.keeper.truncate(revisions, live, daemon_set["spec"].get("revisionHistoryLimit", 10))

    async def _pods_of(self, daemon_set: Object) -> list[Object]:
        metadata = daemon_set["metadata"]
        selector = label_selector_from_object(daemon_set["spec"].get("selector"))
        candidates = self.pods.by_index(CONTROLLER_INDEX, metadata["uid"])
        candidates += self.pods.by_index(CONTROLLER_INDEX, orphans_of(metadata["namespace"]))
        return await claim_all(self.client, daemon_set, DAEMON_SETS, selector, candidates, PODS)

    async def _step(self, key: str, situation: Situation) -> Exception | None:
        step = place(situation)
        if not (step.create or step.delete or step.failed):
            step = roll(situation)
        return await self._carry_out(key, situation, step)

    async def _carry_out(self, key: str, situation: Situation, step: Plan) -> Exception | None:
        daemon_set = situation.daemon_set
        delete = [*step.delete, *self._ripe(key, daemon_set, step.failed)][:BURST_REPLICAS]
        nodes = list(step.create)[:BURST_REPLICAS]
        if not delete and not nodes:
            return None
        now = self.world.monotonic()
        self.expectations.expect(key, len(nodes), map(key_of, delete), now)
        waiting = iter(nodes)
        quiet = []

        async def create() -> Exception | None:
            pod = make_pod(daemon_set, next(waiting), situation.revision_hash)
            error = await create_pod(self.client, self.recorder, daemon_set, pod)
            if error is not None:
                self.expectations.creation_observed(key)
                if isinstance(error, ApiError) and is_namespace_terminating(error):
                    quiet.append(error)
            return error

        async def remove(pod: Object) -> Exception | None:
            error = await delete_pod(self.client, self.recorder, daemon_set, pod)
            if error is not None:
                self.expectations.deletion_observed(key, key_of(pod))
            return error

        attempted, error = await slow_start(self.world, len(nodes), 1, create)
        self.expectations.creation_observed(key, len(nodes) - attempted)
        errors = await together(self.world, [lambda pod=pod: remove(pod) for pod in delete])  # type: ignore[misc]
        first = next((e for e in errors if e is not None), None)
        return first or (None if quiet else error)

    def _ripe(self, key: str, daemon_set: Object, failed: tuple[Object, ...]) -> list[Object]:
        """The failed pods that may be deleted now: a pod that always fails must not spin."""
        now, ripe = self.world.monotonic(), []
        for pod in failed:
            slot = (key, (pod.get("spec") or {}).get("nodeName", ""))
            count, not_before = self._failures.get(slot, (0, 0.0))
            if now < not_before:
                self.queue.add_after(key, not_before - now)
                continue
            wait = min(FAILED_PODS_BACKOFF_MAX_SECONDS, FAILED_PODS_BACKOFF_INITIAL_SECONDS * 2.0**count)
            self._failures[slot] = (min(count + 1, 20), now + wait)
            text = f"Found failed daemon pod {key_of(pod)} on node {slot[1]}, will try to kill it"
            self.recorder.event(daemon_set, "Warning", "FailedDaemonPod", text)
            ripe.append(pod)
        return ripe

    async def _write_status(self, daemon_set: Object, situation: Situation) -> None:
        status = daemon_status(situation)
        if not semantically_equal(daemon_set.get("status") or {}, status):
            try:
                await self.client.update_status(DAEMON_SETS, {**daemon_set, "status": status})
            except ApiError as error:
                if error.code != 404:
                    raise

    def _come_back(self, key: str, situation: Situation) -> None:
        min_ready = int(situation.daemon_set["spec"].get("minReadySeconds", 0))
        waits = [seconds_to_available(pod, min_ready, situation.now) for pod in situation.pods]
        coming = [wait for wait in waits if wait]
        if coming:
            self.queue.add_after(key, min(coming))


def _placing(node: Object | None) -> Any:
    """What of a node decides about its pods."""
    return None if node is None else (labels_of(node), taints_of(node))
