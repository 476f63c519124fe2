"""The `scale` subresource: the replicas of a workload, apart from everything else in it.

Writes are tracked on the Scale and translated into the workload's managed fields, so that a scaler owns
`spec.replicas` and nothing more.
"""

from collections.abc import Callable
from typing import Any

from attrs import define

from understudy.components.machinery import apply as server_side_apply
from understudy.components.machinery.api import ApiResponse, Object
from understudy.components.machinery.errors import FieldError, bad_request, invalid, not_found
from understudy.components.machinery.managed_fields import track_update
from understudy.components.machinery.scale_ownership import object_owners, scale_owners
from understudy.components.machinery.schema import Schema, schema_for
from understudy.components.machinery.selectors import label_selector_from_object
from understudy.components.machinery.tables import SCALE_PRINTER, print_table

from .bodies import check_type, conformed, decode_body, media_type
from .context import RequestContext
from .encoding import Stored
from .patches import APPLY_PATCH, applier, read_configuration, read_patch
from .reads import headers, now_of, read_object, render_value, rendering_of
from .registry import Registry
from .writes import Writes, check_identity, copied

SCALE = "autoscaling/v1"

_Change = Callable[[Object], Object]
"""From the live Scale, with its owners, to the one that is asked for, with its owners; keeps the argument."""


@define
class Scales:
    """The handlers of `scale`."""

    registry: Registry
    writes: Writes

    async def serve(self, context: RequestContext) -> ApiResponse:
        """GET, PUT and PATCH."""
        rendering = rendering_of(context)
        if context.info.verb == "get":
            entry = await read_object(self.registry, context)
        else:
            entry = await self._write(context)
        scale = scale_of(entry.parse())
        if rendering.shape == "table":
            value = print_table(
                SCALE_PRINTER, [scale], now_of(context), api_version=rendering.shape_api_version
            )
            return ApiResponse(200, headers(context, rendering), rendering.encode(value))
        return render_value(context, rendering, scale)

    async def _write(self, context: RequestContext) -> Stored:
        resource, name = context.resource, context.info.name
        schema = schema_for(SCALE, "Scale")
        assert schema is not None, "Scale has a schema"
        dry_run = context.dry_run()
        if context.info.verb == "update":
            scaled = self._by_put(context, schema)
        elif media_type(context) == APPLY_PATCH:
            scaled = self._by_apply(context, schema)
        else:
            scaled = self._by_patch(context, schema)
        paths = {resource.api_version: "spec.replicas"}

        async def change(current: Stored | None) -> Stored | None:
            if current is None:
                raise not_found(resource.group, resource.plural, name)
            obj = current.parse()
            owners = obj["metadata"].get("managedFields") or []
            live = scale_of(obj)
            live["metadata"]["managedFields"] = scale_owners(owners, paths)
            scale = scaled(live)
            metadata = scale["metadata"]
            replicas = (scale.get("spec") or {}).get("replicas", 0)
            if replicas < 0:
                finding = FieldError(
                    "FieldValueInvalid", "spec.replicas", replicas, "must be greater than or equal to 0"
                )
                raise invalid("autoscaling", "Scale", name, [finding])
            obj["metadata"]["resourceVersion"] = metadata.get("resourceVersion", "")
            obj["spec"]["replicas"] = replicas
            entries = object_owners(owners, metadata.get("managedFields") or [], resource.api_version, paths)
            if entries:
                obj["metadata"]["managedFields"] = entries
            else:
                obj["metadata"].pop("managedFields", None)
            return await self.writes.replace(context, current, obj, "", dry_run, tracked=True)

        return await self.registry.attempt(resource, context.namespace, name, change)

    def _by_put(self, context: RequestContext, schema: Schema) -> _Change:
        manager = context.field_manager()
        sent, found = decode_body(context, "Scale")
        check_type(sent, SCALE, "Scale")
        sent = conformed(context, sent, found, schema)
        check_identity(context, sent)

        def change(live: Object) -> Object:
            new: Object = copied(sent)
            new.setdefault("spec", {}).setdefault("replicas", 0)
            return _tracked(context, schema, live, new, manager)

        return change

    def _by_patch(self, context: RequestContext, schema: Schema) -> _Change:
        manager = context.field_manager()
        patch = read_patch(context, schema)
        context.field_validation()
        said = len(context.warnings)

        def change(live: Object) -> Object:
            del context.warnings[said:]
            new = patch.applied_to(context, live, schema, SCALE, "Scale")
            check_identity(context, new)
            return _tracked(context, schema, live, new, manager)

        return change

    def _by_apply(self, context: RequestContext, schema: Schema) -> _Change:
        manager, force = applier(context), context.force()
        config = read_configuration(context, SCALE, "Scale")

        def change(live: Object) -> Object:
            new = server_side_apply.apply(
                schema, live, config, manager, force=force, time=context.now, subresource="scale"
            )
            check_identity(context, new)
            if not isinstance((new.get("spec") or {}).get("replicas", 0), int):
                raise bad_request("spec.replicas must be a whole number")
            return new

        return change


def _tracked(context: RequestContext, schema: Schema, live: Object, new: Object, manager: str) -> Object:
    """A Scale that was sent, with its owners."""
    metadata = new["metadata"]
    metadata["managedFields"] = track_update(
        schema, live, new, manager, time=context.now, api_version=SCALE, subresource="scale"
    )
    return new


def scale_of(obj: Object) -> Object:
    """The Scale of a scalable object."""
    metadata, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    selector: Any = spec.get("selector")
    if obj["kind"] == "ReplicationController":
        text = ",".join(f"{k}={v}" for k, v in sorted((selector or {}).items()))
    else:
        text = str(label_selector_from_object(selector))
    shown: Object = {"replicas": status.get("replicas", 0)}
    if text:
        shown["selector"] = text
    return {
        "kind": "Scale",
        "apiVersion": SCALE,
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"replicas": spec["replicas"]} if spec.get("replicas") else {},
        "status": shown,
    }
