"""The StatefulSet controller."""

from typing import Any

from understudy.components.client import Change, mutable
from understudy.components.controllers.claiming import claim_all
from understudy.components.controllers.controller import Controller, is_namespace_terminating
from understudy.components.controllers.equality import semantically_equal
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
from understudy.components.controllers.revisions import RevisionKeeper
from understudy.components.controllers.statefulsets.identity import make_claims, ordinal_of, revision_name_of
from understudy.components.controllers.statefulsets.plan import Plan, Situation, plan, set_status
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import (
    CONTROLLER_REVISIONS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    STATEFUL_SETS,
)
from understudy.components.machinery.selectors import label_selector_from_object

Object = dict[str, Any]


class StatefulSetController(Controller):
    """Keeps the pods of each StatefulSet, one identity at a time."""

    name = "statefulset-controller"

    @property
    def workers(self) -> int:
        return self.options.concurrent_statefulset_syncs

    def register(self) -> None:
        self.keeper = RevisionKeeper(self.client, STATEFUL_SETS)
        self.sets = self.watch(STATEFUL_SETS, self.enqueue, {NAMESPACE_INDEX: by_namespace})
        self.revisions = self.informer(CONTROLLER_REVISIONS, {CONTROLLER_INDEX: by_controller})
        self.pods = self.watch(PODS, self._on_pod, {CONTROLLER_INDEX: by_controller})

    def _on_pod(self, change: Change) -> None:
        for pod in (change.old, change.new):
            if pod is None:
                continue
            reference = controller_of(pod)
            namespace = pod["metadata"]["namespace"]
            if reference is not None and reference["kind"] == "StatefulSet":
                self.queue.add(f"{namespace}/{reference['name']}")
            elif reference is None and pod is change.new:
                for owner in self.sets.by_index(NAMESPACE_INDEX, namespace):
                    selector = label_selector_from_object(owner["spec"].get("selector"))
                    if selector.matches(labels_of(pod)) and ordinal_of(owner, pod) is not None:
                        self.queue.add(key_of(owner))

    async def sync(self, key: str) -> None:
        cached = self.sets.get(key)
        if cached is None:
            return
        stateful_set = mutable(cached)
        selector = label_selector_from_object(stateful_set["spec"].get("selector"))
        metadata = stateful_set["metadata"]
        candidates = self.pods.by_index(CONTROLLER_INDEX, metadata["uid"])
        candidates += [
            pod
            for pod in self.pods.by_index(CONTROLLER_INDEX, orphans_of(metadata["namespace"]))
            if ordinal_of(stateful_set, pod) is not None
        ]
        pods = await claim_all(self.client, stateful_set, STATEFUL_SETS, selector, candidates, PODS)
        revisions = self.revisions.by_index(CONTROLLER_INDEX, metadata["uid"])
        update = await self.keeper.update_revision(stateful_set, revisions)
        known = {r["metadata"]["name"]: r for r in revisions}
        current_name = (stateful_set.get("status") or {}).get("currentRevision", "")
        current = known.get(current_name, update)
        situation = Situation(stateful_set, current, update, tuple(pods), self.world.now())
        step = plan(situation)
        # The status first: which revision a new pod gets hangs on it, and the plan was made with the old one.
        await self._write_status(stateful_set, situation)
        await self._carry_out(stateful_set, step)
        if step.look_again_seconds is not None:
            self.queue.add_after(key, step.look_again_seconds)
        live = {current["metadata"]["name"], update["metadata"]["name"], *map(revision_name_of, pods)}
        await self.keeper.truncate(revisions, live, stateful_set["spec"].get("revisionHistoryLimit", 10))

    async def _write_status(self, stateful_set: Object, situation: Situation) -> None:
        old = stateful_set.get("status") or {}
        status = set_status(situation, old.get("collisionCount", 0))
        if not semantically_equal(old, status):
            await self.client.update_status(STATEFUL_SETS, {**stateful_set, "status": status})

    async def _carry_out(self, stateful_set: Object, step: Plan) -> None:
        name = stateful_set["metadata"]["name"]
        for ordinal, pod in step.create:
            await self._make_claims(stateful_set, ordinal, pod)
            text = f"create Pod {pod['metadata']['name']} in StatefulSet {name}"
            try:
                await self.client.create(PODS, pod)
            except ApiError as error:
                if is_namespace_terminating(error):
                    return
                if error.reason != "AlreadyExists":
                    self.recorder.event(
                        stateful_set, "Warning", "FailedCreate", f"{text} failed error: {error.message}"
                    )
                raise
            self.recorder.event(stateful_set, "Normal", "SuccessfulCreate", f"{text} successful")
        for pod in step.delete:
            metadata = pod["metadata"]
            text = f"delete Pod {metadata['name']} in StatefulSet {name}"
            try:
                # With its uid: the next pod of this identity has the same name.
                await self.client.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
            except ApiError as error:
                if error.code in (404, 409):
                    continue  # gone already, or succeeded by a pod of the same name
                self.recorder.event(
                    stateful_set, "Warning", "FailedDelete", f"{text} failed error: {error.message}"
                )
                raise
            self.recorder.event(stateful_set, "Normal", "SuccessfulDelete", f"{text} successful")

    async def _make_claims(self, stateful_set: Object, ordinal: int, pod: Object) -> None:
        name = stateful_set["metadata"]["name"]
        for claim in make_claims(stateful_set, ordinal):
            identity = f"Claim {claim['metadata']['name']} Pod {pod['metadata']['name']}"
            text = f"create {identity} in StatefulSet {name}"
            try:
                await self.client.create(PERSISTENT_VOLUME_CLAIMS, claim)
            except ApiError as error:
                if error.reason == "AlreadyExists":
                    continue
                self.recorder.event(
                    stateful_set, "Warning", "FailedCreate", f"{text} failed error: {error.message}"
                )
                raise
            self.recorder.event(stateful_set, "Normal", "SuccessfulCreate", f"{text} success")
