"""Delete and delete-collection: preconditions, grace periods, finalizers and propagation.

An object goes when nothing keeps it: its grace period is over and no finalizer is left. Until then it stays
with a deletionTimestamp, which is never taken back.

Source: Kubernetes API concepts, "Resource deletion"; API conventions, "Finalizers".
"""

from attrs import define, frozen

from understudy.components.machinery.api import ApiResponse, Object
from understudy.components.machinery.deletion import begin_deletion, mark_deleted
from understudy.components.machinery.errors import (
    ApiError,
    FieldError,
    bad_request,
    conflict,
    invalid,
    not_found,
)
from understudy.components.machinery.schema import schema_for

from .admission import Admission, Attributes
from .bodies import conformed, decode_body
from .context import RequestContext
from .conversion import as_served
from .encoding import Stored, encode_object, stored
from .reads import read_page, render_list, render_value, rendering_of
from .registry import Registry
from .routing import go_bool
from .services import ServiceAllocation

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
_POLICIES = ("Background", "Foreground", "Orphan")


@frozen
class DeleteOptions:
    """How to delete, from the body or the query."""

    grace_period_seconds: int | None = None
    propagation_policy: str | None = None
    orphan_dependents: bool | None = None
    uid: str | None = None
    resource_version: str | None = None
    dry_run: bool = False


def read_options(context: RequestContext) -> DeleteOptions:
    """The options of a deletion. Raises 400 and 422."""
    request = context.request
    body: Object = {}
    if request.body:
        body, found = decode_body(context, "DeleteOptions")
        if body.get("kind") not in (None, "", "DeleteOptions"):
            raise bad_request(f"a deletion takes DeleteOptions, not {body.get('kind')}")
        body = conformed(context, body, found, schema_for("v1", "DeleteOptions"), "Ignore")
    else:
        for name in ("gracePeriodSeconds", "propagationPolicy"):
            value = request.parameter(name)
            if value is not None:
                body[name] = value
        if request.parameter("orphanDependents") is not None:
            body["orphanDependents"] = go_bool(request.parameter("orphanDependents"))
        if "gracePeriodSeconds" in body:
            try:
                body["gracePeriodSeconds"] = int(body["gracePeriodSeconds"])
            except ValueError:
                raise bad_request("gracePeriodSeconds must be a whole number") from None
    policy = body.get("propagationPolicy")
    findings = []
    if policy is not None and body.get("orphanDependents") is not None:
        findings.append(
            FieldError(
                "FieldValueInvalid",
                "propagationPolicy",
                policy,
                "orphanDependents and deletionPropagation cannot be both set",
            )
        )
    elif policy is not None and policy not in _POLICIES:
        findings.append(
            FieldError(
                "FieldValueNotSupported",
                "propagationPolicy",
                policy,
                'supported values: "Background", "Foreground", "Orphan"',
            )
        )
    if findings:
        raise invalid("meta.k8s.io", "DeleteOptions", "", findings)
    preconditions = body.get("preconditions") or {}
    return DeleteOptions(
        body.get("gracePeriodSeconds"),
        policy,
        body.get("orphanDependents"),
        preconditions.get("uid"),
        preconditions.get("resourceVersion"),
        context.dry_run(body.get("dryRun")),
    )


@define
class Deletes:
    """The delete path of the API server."""

    registry: Registry
    admission: Admission
    allocation: ServiceAllocation

    async def delete(self, context: RequestContext) -> ApiResponse:
        """DELETE of one object."""
        rendering = rendering_of(context)
        options = read_options(context)
        obj, gone = await self.delete_object(context, context.namespace, context.info.name, options)
        resource = context.resource
        if gone and not context.strategy.returns_deleted_object:
            details = {"name": context.info.name, "kind": resource.plural, "uid": obj["metadata"]["uid"]}
            if resource.group:
                details["group"] = resource.group
            status: Object = {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Success",
                "details": details,
            }
            return render_value(context, rendering, status)
        return render_value(context, rendering, as_served(resource, obj))

    async def delete_collection(self, context: RequestContext) -> ApiResponse:
        """DELETE of everything that a list with the same selectors shows."""
        rendering = rendering_of(context, frozenset({"Table", "PartialObjectMetadataList"}))
        options = read_options(context)
        page = await read_page(self.registry, context)
        for entry in page.entries:
            try:
                await self.delete_object(context, entry.namespace, entry.name, options)
            except ApiError as error:
                if error.code != 404:
                    raise
        return render_list(context, rendering, page)

    async def delete_object(
        self, context: RequestContext, namespace: str, name: str, options: DeleteOptions
    ) -> tuple[Object, bool]:
        """Delete, or begin to; the object in its last state, and whether it is gone."""
        resource = context.resource
        gone = False

        async def change(current: Stored | None) -> Stored | None:
            nonlocal gone
            if current is None:
                raise not_found(resource.group, resource.plural, name)
            old = current.parse()
            self._check_preconditions(context, old, options)
            await self._admit(context, namespace, name, old, options)
            new, gone = self._marked(context, current.parse(), options)
            if options.dry_run:
                return stored(current.resource, encode_object(new), current.revision)
            if not gone:
                return await self.registry.replace(current, new)
            result = await self.registry.remove(current, self.allocation.beside_removal(old))
            if result is None:
                return None
            self.allocation.release(old)
            return stored(result.resource, encode_object(new), result.revision)

        entry = await self.registry.attempt(resource, namespace, name, change)
        return entry.parse(), gone

    async def _admit(
        self, context: RequestContext, namespace: str, name: str, old: Object, options: DeleteOptions
    ) -> None:
        attributes = Attributes(
            "DELETE",
            context.resource,
            "",
            namespace,
            name,
            None,
            old,
            context.user,
            options.dry_run,
            context.warnings,
        )
        await self.admission.admit(attributes)
        await self.admission.validate(attributes)

    def _check_preconditions(self, context: RequestContext, old: Object, options: DeleteOptions) -> None:
        resource, metadata = context.resource, old["metadata"]
        for what, wanted, live in (
            ("UID", options.uid, metadata["uid"]),
            ("ResourceVersion", options.resource_version, metadata["resourceVersion"]),
        ):
            if wanted is not None and wanted != live:
                raise conflict(
                    resource.group,
                    resource.plural,
                    metadata["name"],
                    f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {live}",
                )

    def _marked(self, context: RequestContext, obj: Object, options: DeleteOptions) -> tuple[Object, bool]:
        """The object in its last state or as it waits for its end, and whether nothing keeps it."""
        deletion = begin_deletion(context.strategy, obj, options.grace_period_seconds, context.now)
        finalizers = self._finalizers(context, obj, options)
        kept = bool(finalizers or _namespace_finalizers(obj))
        marked = deletion.obj
        if kept and not deletion.waits:
            marked = mark_deleted(marked, context.now)
        marked = {**marked, "metadata": {**marked["metadata"]}}
        metadata = marked["metadata"]
        if finalizers:
            metadata["finalizers"] = finalizers
        else:
            metadata.pop("finalizers", None)
        if obj["kind"] == "Namespace" and kept:
            metadata.pop("deletionGracePeriodSeconds", None)
            marked["status"] = {**marked.get("status", {}), "phase": "Terminating"}
        return marked, not kept and not deletion.waits

    def _finalizers(self, context: RequestContext, obj: Object, options: DeleteOptions) -> list[str]:
        """The finalizers with which the garbage collector is told what to do with dependents."""
        current = list(obj["metadata"].get("finalizers") or ())
        policy = options.propagation_policy
        if policy is None and options.orphan_dependents is not None:
            policy = "Orphan" if options.orphan_dependents else "Background"
        if policy is None:
            if ORPHAN in current:
                policy = "Orphan"
            elif FOREGROUND in current:
                policy = "Foreground"
            else:
                policy = context.strategy.default_propagation
        wanted = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(policy)
        kept = [name for name in current if name not in (FOREGROUND, ORPHAN) or name == wanted]
        if wanted and wanted not in kept:
            kept.append(wanted)
        return kept


def _namespace_finalizers(obj: Object) -> bool:
    return obj["kind"] == "Namespace" and bool(obj.get("spec", {}).get("finalizers"))
