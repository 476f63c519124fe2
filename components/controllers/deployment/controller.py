"""The Deployment controller."""

from typing import Any

from understudy.components.client import Change, mutable
from understudy.components.controllers.claiming import claim_all
from understudy.components.controllers.conditions import find_condition, with_condition
from understudy.components.controllers.controller import Controller, is_namespace_terminating
from understudy.components.controllers.deployment import progress
from understudy.components.controllers.deployment.replica_sets import (
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    REVISION,
    active_only,
    annotation,
    find_new,
    find_old,
    make_new,
    new_annotations,
    next_revision,
    replicas_of,
    superfluous,
    without_hash,
)
from understudy.components.controllers.deployment.scaling import (
    Scale,
    is_rolling,
    is_scaling_event,
    max_surge,
    new_replicas,
    old_scales,
    proportional_scales,
)
from understudy.components.controllers.equality import semantically_equal
from understudy.components.controllers.ownership import (
    CONTROLLER_INDEX,
    NAMESPACE_INDEX,
    by_controller,
    by_namespace,
    controller_of,
    is_controlled_by,
    key_of,
    labels_of,
    orphans_of,
)
from understudy.components.controllers.pod_state import is_terminal
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import DEPLOYMENTS, PODS, REPLICA_SETS
from understudy.components.machinery.selectors import label_selector_from_object

Object = dict[str, Any]


class DeploymentController(Controller):
    """Rolls each Deployment's ReplicaSets from one pod template to the next."""

    name = "deployment-controller"

    @property
    def workers(self) -> int:
        return self.options.concurrent_deployment_syncs

    def register(self) -> None:
        self.deployments = self.watch(DEPLOYMENTS, self.enqueue, {NAMESPACE_INDEX: by_namespace})
        self.replica_sets = self.watch(
            REPLICA_SETS,
            self._on_replica_set,
            {NAMESPACE_INDEX: by_namespace, CONTROLLER_INDEX: by_controller},
        )
        self.pods = self.watch(PODS, self._on_pod, {CONTROLLER_INDEX: by_controller})

    # -- what changes concern

    def _on_replica_set(self, change: Change) -> None:
        owners = [self._owner_key(rs) for rs in (change.old, change.new) if rs is not None]
        for key in owners:
            if key is not None:
                self.queue.add(key)
        new, old = change.new, change.old
        if new is not None and controller_of(new) is None:
            if old is not None and labels_of(old) == labels_of(new) and controller_of(old) is None:
                return
            for deployment in self.deployments.by_index(NAMESPACE_INDEX, new["metadata"]["namespace"]):
                selector = label_selector_from_object(deployment["spec"].get("selector"))
                if not selector.empty and selector.matches(labels_of(new)):
                    self.queue.add(key_of(deployment))

    def _owner_key(self, replica_set: Object) -> str | None:
        reference = controller_of(replica_set)
        if reference is None or reference["kind"] != "Deployment":
            return None
        key = f"{replica_set['metadata']['namespace']}/{reference['name']}"
        deployment = self.deployments.get(key)
        if deployment is None or deployment["metadata"]["uid"] != reference["uid"]:
            return None
        return key

    def _on_pod(self, change: Change) -> None:
        """Recreate waits until the last old pod is gone."""
        if change.type != "DELETED" or change.old is None:
            return
        reference = controller_of(change.old)
        if reference is None or reference["kind"] != "ReplicaSet":
            return
        replica_set = self.replica_sets.get(f"{change.old['metadata']['namespace']}/{reference['name']}")
        if replica_set is None or replica_set["metadata"]["uid"] != reference["uid"]:
            return
        key = self._owner_key(replica_set)
        deployment = self.deployments.get(key) if key is not None else None
        if key is not None and deployment is not None and not is_rolling(deployment):
            self.queue.add(key)

    # -- one Deployment

    async def sync(self, key: str) -> None:
        cached = self.deployments.get(key)
        if cached is None:
            return
        deployment = mutable(cached)
        selector = label_selector_from_object(deployment["spec"].get("selector"))
        if selector.empty:
            self.recorder.event(
                deployment,
                "Warning",
                "SelectingAll",
                "This deployment is selecting all pods. A non-empty selector is required.",
            )
            await self._write_status(
                deployment,
                {
                    **(deployment.get("status") or {}),
                    "observedGeneration": deployment["metadata"].get("generation", 0),
                },
            )
            return
        metadata = deployment["metadata"]
        candidates = self.replica_sets.by_index(CONTROLLER_INDEX, metadata["uid"])
        candidates += self.replica_sets.by_index(CONTROLLER_INDEX, orphans_of(metadata["namespace"]))
        sets = await claim_all(self.client, deployment, DEPLOYMENTS, selector, candidates, REPLICA_SETS)
        if metadata.get("deletionTimestamp"):
            await self._sync_status(deployment, find_new(deployment, sets), sets)
            return
        await self._note_pause(deployment)
        if deployment["spec"].get("paused") or is_scaling_event(deployment, sets):
            await self._resize(deployment, sets)
        elif is_rolling(deployment):
            await self._roll(deployment, sets)
        else:
            await self._recreate(deployment, sets)

    async def _note_pause(self, deployment: Object) -> None:
        verdict = progress.pause_condition(deployment, self.world.now())
        if verdict is None:
            return
        status = dict(deployment.get("status") or {})
        status["conditions"] = with_condition(status.get("conditions"), verdict)
        await self._write_status(deployment, status)

    async def _resize(self, deployment: Object, sets: list[Object]) -> None:
        """Paused, or scaled in the middle of whatever: sizes change, templates do not."""
        new, old = await self._revise(deployment, sets, create=False)
        changed = await self._apply(deployment, proportional_scales(deployment, new, old))
        new, old = _replaced(new, changed), [_replaced(rs, changed) or rs for rs in old]
        if deployment["spec"].get("paused"):
            await self._clean_up(deployment, old)
        await self._sync_status(deployment, new, [*old, new] if new is not None else old)

    async def _roll(self, deployment: Object, sets: list[Object]) -> None:
        new, old = await self._revise(deployment, sets, create=True)
        assert new is not None, f"no new ReplicaSet of {key_of(deployment)}"
        size = new_replicas(deployment, [*old, new], replicas_of(new))
        scales = [Scale(new, size)] if size != replicas_of(new) else []
        if not scales:
            scales = old_scales(deployment, new, old)
        changed = await self._apply(deployment, scales)
        new, old = _replaced(new, changed) or new, [_replaced(rs, changed) or rs for rs in old]
        if not scales and progress.is_complete(deployment, deployment.get("status") or {}):
            await self._clean_up(deployment, old)
        await self._sync_rollout(deployment, new, [*old, new])

    async def _recreate(self, deployment: Object, sets: list[Object]) -> None:
        new, old = await self._revise(deployment, sets, create=False)
        active = active_only(old)
        if active:
            changed = await self._apply(deployment, [Scale(rs, 0) for rs in active])
            old = [_replaced(rs, changed) or rs for rs in old]
        elif not self._old_pods_running(new, old):
            if new is None:
                new, old = await self._revise(deployment, sets, create=True)
                assert new is not None, f"no new ReplicaSet of {key_of(deployment)}"
            if replicas_of(new) != replicas_of(deployment):
                changed = await self._apply(deployment, [Scale(new, replicas_of(deployment))])
                new = _replaced(new, changed)
            if progress.is_complete(deployment, deployment.get("status") or {}):
                await self._clean_up(deployment, old)
        await self._sync_rollout(deployment, new, [*old, new] if new is not None else old)

    def _old_pods_running(self, new: Object | None, old: list[Object]) -> bool:
        if any((rs.get("status") or {}).get("replicas", 0) for rs in old):
            return True
        return any(
            not is_terminal(pod)
            for rs in old
            for pod in self.pods.by_index(CONTROLLER_INDEX, rs["metadata"]["uid"])
        )

    # -- revisions

    async def _revise(
        self, deployment: Object, sets: list[Object], *, create: bool
    ) -> tuple[Object | None, list[Object]]:
        """The new ReplicaSet, made if `create` says so, and the old ones; their revisions are in order.

        Changes the annotations and the status of `deployment`, which is the caller's own, along with the
        server's.
        """
        new = find_new(deployment, sets)
        old = find_old(sets, new)
        revision = next_revision(old)
        if new is not None:
            return await self._refresh(deployment, new, revision), old
        if not create:
            return None, old
        return await self._create(deployment, old, revision), old

    async def _refresh(self, deployment: Object, new: Object, revision: int) -> Object:
        annotations = new_annotations(deployment, new, revision)
        min_ready = deployment["spec"].get("minReadySeconds", 0)
        if (
            annotations != (new["metadata"].get("annotations") or {})
            or new["spec"].get("minReadySeconds", 0) != min_ready
        ):
            changed = mutable(new)
            changed["metadata"]["annotations"] = annotations
            changed["spec"]["minReadySeconds"] = min_ready
            new = await self.client.update(REPLICA_SETS, changed)
        found = None
        if progress.has_progress_deadline(deployment) and (
            find_condition((deployment.get("status") or {}).get("conditions"), progress.PROGRESSING) is None
        ):
            found = progress.condition(
                progress.PROGRESSING,
                "True",
                "FoundNewReplicaSet",
                f'Found new replica set "{new["metadata"]["name"]}"',
                self.world.now(),
            )
        await self._record_revision(deployment, annotation(new, REVISION), found)
        return new

    async def _create(self, deployment: Object, old: list[Object], revision: int) -> Object:
        size = new_replicas(deployment, old, 0)
        wanted = make_new(deployment, size, revision, replicas_of(deployment) + max_surge(deployment))
        name = wanted["metadata"]["name"]
        existed = False
        try:
            new = await self.client.create(REPLICA_SETS, wanted)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                await self._note_failed_creation(deployment, name, error)
                raise
            new = await self.client.get(REPLICA_SETS, name, deployment["metadata"]["namespace"])
            ours = is_controlled_by(new, deployment) and semantically_equal(
                without_hash(new["spec"]["template"]), without_hash(deployment["spec"]["template"])
            )
            if not ours:
                # The name is taken by another template of the same hash: the count changes the hash.
                status = dict(deployment.get("status") or {})
                status["collisionCount"] = status.get("collisionCount", 0) + 1
                await self._write_status(deployment, status)
                raise
            existed = True
        if not existed and size > 0:
            self.recorder.event(
                deployment,
                "Normal",
                "ScalingReplicaSet",
                f"Scaled up replica set {name} from 0 to {size}",
            )
        created = None
        if not existed and progress.has_progress_deadline(deployment):
            created = progress.condition(
                progress.PROGRESSING,
                "True",
                "NewReplicaSetCreated",
                f'Created new replica set "{name}"',
                self.world.now(),
            )
        await self._record_revision(deployment, annotation(new, REVISION), created)
        return new

    async def _note_failed_creation(self, deployment: Object, name: str, error: ApiError) -> None:
        if is_namespace_terminating(error):
            return
        message = f'Failed to create new replica set "{name}": {error.message}'
        if progress.has_progress_deadline(deployment):
            status = dict(deployment.get("status") or {})
            verdict = progress.condition(
                progress.PROGRESSING, "False", "ReplicaSetCreateError", message, self.world.now()
            )
            status["conditions"] = with_condition(status.get("conditions"), verdict)
            await self._write_status(deployment, status)
        self.recorder.event(deployment, "Warning", "ReplicaSetCreateError", message)

    async def _record_revision(self, deployment: Object, revision: str, verdict: Object | None) -> None:
        """Write the revision and a condition in one go; the status subresource takes annotations too."""
        if annotation(deployment, REVISION) == revision and verdict is None:
            return
        deployment["metadata"].setdefault("annotations", {})[REVISION] = revision
        status = dict(deployment.get("status") or {})
        if verdict is not None:
            status["conditions"] = with_condition(status.get("conditions"), verdict)
        await self._put_status(deployment, status)

    # -- writing

    async def _apply(self, deployment: Object, scales: list[Scale]) -> dict[str, Object]:
        """Set sizes and the annotations that remember what they were made for; by name what changed."""
        changed: dict[str, Object] = {}
        desired = str(replicas_of(deployment))
        most = str(replicas_of(deployment) + max_surge(deployment))
        for scale in scales:
            before, name = replicas_of(scale.replica_set), scale.replica_set["metadata"]["name"]
            kept = annotation(scale.replica_set, DESIRED_REPLICAS) == desired
            kept = kept and annotation(scale.replica_set, MAX_REPLICAS) == most
            if scale.replicas == before and kept:
                continue
            resized = mutable(scale.replica_set)
            resized["spec"]["replicas"] = scale.replicas
            annotations = resized["metadata"].setdefault("annotations", {})
            annotations[DESIRED_REPLICAS], annotations[MAX_REPLICAS] = desired, most
            changed[name] = await self.client.update(REPLICA_SETS, resized)
            if scale.replicas != before:
                direction = "up" if scale.replicas > before else "down"
                self.recorder.event(
                    deployment,
                    "Normal",
                    "ScalingReplicaSet",
                    f"Scaled {direction} replica set {name} from {before} to {scale.replicas}",
                )
        return changed

    async def _clean_up(self, deployment: Object, old: list[Object]) -> None:
        for replica_set in superfluous(old, deployment["spec"].get("revisionHistoryLimit")):
            metadata = replica_set["metadata"]
            try:
                await self.client.delete(
                    REPLICA_SETS, metadata["name"], metadata["namespace"], propagation_policy="Background"
                )
            except ApiError as error:
                if error.code != 404:
                    raise

    async def _sync_status(self, deployment: Object, new: Object | None, sets: list[Object]) -> None:
        await self._write_status(deployment, progress.counted_status(deployment, sets, new, self.world.now()))

    async def _sync_rollout(self, deployment: Object, new: Object | None, sets: list[Object]) -> None:
        now = self.world.now()
        status = progress.rollout_status(deployment, sets, new, now)
        await self._write_status(deployment, status)
        wait = progress.seconds_to_deadline(deployment, status, now)
        if wait is not None:
            self.queue.add_after(key_of(deployment), wait)

    async def _write_status(self, deployment: Object, status: Object) -> None:
        if not semantically_equal(_without_zeros(deployment.get("status") or {}), _without_zeros(status)):
            await self._put_status(deployment, status)

    async def _put_status(self, deployment: Object, status: Object) -> None:
        """Write the status, and go on with what the server made of it."""
        written = await self.client.update_status(DEPLOYMENTS, {**deployment, "status": status})
        deployment["metadata"] = written["metadata"]
        deployment["status"] = written.get("status") or {}


def _without_zeros(status: Object) -> Object:
    return {key: value for key, value in status.items() if value != 0}


def _replaced(replica_set: Object | None, changed: dict[str, Object]) -> Object | None:
    if replica_set is None:
        return None
    return changed.get(replica_set["metadata"]["name"], replica_set)
