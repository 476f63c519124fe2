"""The `eviction` subresource: a deletion of a pod that disruption budgets may forbid.

Source: Kubernetes documentation, "API-initiated eviction" and "Specifying a disruption budget"; KEP-3017 for
pods that are not healthy.
"""

from attrs import define

from understudy.components.machinery.api import ApiResponse, Object
from understudy.components.machinery.errors import ApiError, bad_request, forbidden, not_found
from understudy.components.machinery.managed_fields import track_update
from understudy.components.machinery.resources import POD_DISRUPTION_BUDGETS, PODS
from understudy.components.machinery.schema import schema_for
from understudy.components.machinery.selectors import label_selector_from_object

from .bodies import check_type, conformed, decode_body
from .cacher import Interest
from .context import RequestContext
from .deletes import DeleteOptions, Deletes
from .encoding import Stored
from .reads import read_object, render_value, rendering_of
from .registry import Registry

DISRUPTED_PODS_MAX = 2000
"""Pods of a budget that may be on their way out without the disruption controller having seen them go."""

RETRY_AFTER_SECONDS = 10

SUCCESS: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


@define
class Evictions:
    """The handler of `pods/NAME/eviction`."""

    registry: Registry
    deletes: Deletes

    async def serve(self, context: RequestContext) -> ApiResponse:
        """POST of an Eviction."""
        rendering = rendering_of(context)
        eviction, found = decode_body(context, "Eviction")
        check_type(eviction, "policy/v1", "Eviction")
        eviction = conformed(context, eviction, found, schema_for("policy/v1", "Eviction"))
        if (eviction.get("metadata") or {}).get("name", context.info.name) != context.info.name:
            raise bad_request("name in URL does not match name in Eviction object")
        asked = eviction.get("deleteOptions") or {}
        preconditions = asked.get("preconditions") or {}
        options = DeleteOptions(
            asked.get("gracePeriodSeconds"),
            asked.get("propagationPolicy"),
            None,
            preconditions.get("uid"),
            preconditions.get("resourceVersion"),
            context.dry_run(asked.get("dryRun")),
        )
        entry = await read_object(self.registry, context)
        pod = entry.parse()
        if not _is_past_protection(pod):
            budget = self._budget_of(context, entry)
            if budget is not None and not _may_go_unhealthy(pod, budget.parse()):
                await self._take(context, budget, options.dry_run)
        await self._say_why(context, options)
        await self.deletes.delete_object(context, context.namespace, context.info.name, options)
        return render_value(context, rendering, SUCCESS, 201)

    def _budget_of(self, context: RequestContext, pod: Stored) -> Stored | None:
        """The disruption budget of a pod. Raises 500 when it has several, as the real server."""
        found = []
        for entry in self.registry.cache(POD_DISRUPTION_BUDGETS).list(Interest(context.namespace)):
            selector = entry.parse()["spec"].get("selector")
            if label_selector_from_object(selector).matches(pod.labels):
                found.append(entry)
        if len(found) > 1:
            raise ApiError(
                500,
                "InternalError",
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not"
                " support.",
            )
        return found[0] if found else None

    async def _take(self, context: RequestContext, budget: Stored, dry_run: bool) -> None:
        """Take one disruption out of a budget. Raises 429 when there is none left."""
        pod = context.info.name

        async def change(current: Stored | None) -> Stored | None:
            if current is None:
                raise not_found("policy", "poddisruptionbudgets", budget.name)
            obj = current.parse()
            status = obj.setdefault("status", {})
            if status.get("observedGeneration", 0) < obj["metadata"].get("generation", 0):
                raise _refused(
                    f"The disruption budget {budget.name} is still being processed by the server.",
                    retry_after_seconds=RETRY_AFTER_SECONDS,
                )
            disrupted = status.setdefault("disruptedPods", {})
            allowed = status.get("disruptionsAllowed", 0)
            if allowed < 0:
                raise forbidden(
                    "policy", "poddisruptionbudgets", budget.name, "pdb disruptions allowed is negative"
                )
            if len(disrupted) > DISRUPTED_PODS_MAX:
                raise forbidden(
                    "policy",
                    "poddisruptionbudgets",
                    budget.name,
                    "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
                )
            if allowed == 0:
                wanted, healthy = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
                budget_name = f"The disruption budget {budget.name}"
                raise _refused(f"{budget_name} needs {wanted} healthy pods and has {healthy} currently")
            status["disruptionsAllowed"] = allowed - 1
            disrupted[pod] = context.now
            if allowed == 1:
                _mark_exhausted(obj, context.now)
            _own(obj, current.parse(), context.now)
            return current if dry_run else await self.registry.replace(current, obj)

        await self.registry.attempt(POD_DISRUPTION_BUDGETS, context.namespace, budget.name, change)

    async def _say_why(self, context: RequestContext, options: DeleteOptions) -> None:
        """Put the condition into the pod that tells its owner why it goes."""
        if options.dry_run:
            return
        name = context.info.name

        async def change(current: Stored | None) -> Stored | None:
            if current is None:
                raise not_found("", "pods", name)
            pod = current.parse()
            if options.resource_version not in (None, pod["metadata"]["resourceVersion"]):
                return current  # the deletion will refuse
            if options.uid not in (None, current.uid):
                return current
            conditions = pod.setdefault("status", {}).setdefault("conditions", [])
            set_condition(
                conditions,
                {
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "EvictionByEvictionAPI",
                    "message": "Eviction API: evicting",
                    "lastProbeTime": None,
                    "lastTransitionTime": context.now,
                },
            )
            return await self.registry.replace(current, pod)

        await self.registry.attempt(PODS, context.namespace, name, change)


def set_condition(conditions: list[Object], condition: Object) -> None:
    """Put a condition in the place of the one of its type; its time stays when its status does."""
    for index, present in enumerate(conditions):
        if present["type"] == condition["type"]:
            if present["status"] == condition["status"]:
                condition = {**condition, "lastTransitionTime": present.get("lastTransitionTime")}
            conditions[index] = condition
            return
    conditions.append(condition)


def _is_past_protection(pod: Object) -> bool:
    """Whether no budget counts this pod: it is done, has not begun, or is being deleted."""
    phase = (pod.get("status") or {}).get("phase")
    return phase in ("Succeeded", "Failed", "Pending") or "deletionTimestamp" in pod["metadata"]


def _may_go_unhealthy(pod: Object, budget: Object) -> bool:
    """Whether a pod may go without being counted, because it is not healthy anyway."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    if any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions):
        return False
    if budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    desired = status.get("desiredHealthy", 0)
    return bool(desired > 0 and status.get("currentHealthy", 0) >= desired)


def _mark_exhausted(budget: Object, now: str) -> None:
    set_condition(
        budget["status"].setdefault("conditions", []),
        {
            "type": "DisruptionAllowed",
            "status": "False",
            "reason": "InsufficientPods",
            "message": "",
            "lastTransitionTime": now,
            "observedGeneration": budget["status"].get("observedGeneration", 0),
        },
    )


def _own(new: Object, old: Object, now: str) -> None:
    """The API server itself is the manager of what it writes into a budget's status."""
    schema = schema_for("policy/v1", "PodDisruptionBudget")
    assert schema is not None, "disruption budgets have a schema"
    managed = track_update(schema, old, new, "kube-apiserver", time=now, subresource="status")
    if managed:
        new["metadata"]["managedFields"] = managed


def _refused(why: str, retry_after_seconds: int = 0) -> ApiError:
    details: Object = {"causes": [{"reason": "DisruptionBudget", "message": why}]}
    headers = []
    if retry_after_seconds:
        details["retryAfterSeconds"] = retry_after_seconds
        headers.append(("Retry-After", str(retry_after_seconds)))
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    return ApiError(429, "TooManyRequests", message, details, headers)
