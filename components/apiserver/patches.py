"""PATCH: JSON, merge and strategic merge patches, and server-side apply."""

from collections.abc import Callable
from typing import Any

import orjson
from attrs import define, frozen

from understudy.components.machinery import apply as server_side_apply
from understudy.components.machinery.api import ApiResponse, Object
from understudy.components.machinery.conforming import conform
from understudy.components.machinery.errors import (
    ApiError,
    FieldError,
    bad_request,
    conflict,
    invalid,
    method_not_allowed,
    not_found,
)
from understudy.components.machinery.json_text import MalformedText, parse_json
from understudy.components.machinery.patch import invalid_patch, json_patch, merge_patch
from understudy.components.machinery.schema import Schema
from understudy.components.machinery.strategic_patch import strategic_merge_patch

from .bodies import check_type, judge, media_type
from .context import RequestContext
from .conversion import as_served, converter
from .encoding import Stored
from .reads import render_object, rendering_of
from .writes import Writes, check_identity

JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


@frozen
class Patch:
    """A decoded patch."""

    change: Callable[[Object, Any], Object]
    body: Any
    duplicates: tuple[str, ...]
    """Fields that the text of the patch holds twice."""
    strategic: bool

    def applied_to(
        self, context: RequestContext, live: Object, schema: Schema | None, api_version: str, kind: str
    ) -> Object:
        """The patched object, in the types of its schema. Raises 400 and 422."""
        new = self.change(live, self.body)
        findings = list(self.duplicates)
        try:
            check_type(new, api_version, kind)
            if schema is not None:
                new, unknown = conform(schema, new)
                findings += unknown
        except ApiError as error:
            shown = self.body if self.strategic else orjson.dumps(new).decode()
            raise invalid_patch(shown, error.message) from None
        judge(context, api_version, kind, findings)
        return new


def read_patch(context: RequestContext, schema: Schema | None) -> Patch:
    """The request's patch. Raises 400, 415 and 422."""
    media = media_type(context)
    kinds: dict[str, Callable[[Object, Any], Object]] = {JSON_PATCH: json_patch, MERGE_PATCH: merge_patch}
    if schema is not None:
        kinds[STRATEGIC_MERGE_PATCH] = lambda live, patch: strategic_merge_patch(schema, live, patch)
    change = kinds.get(media)
    if change is None:
        known = ", ".join([*kinds, APPLY_PATCH])
        raise ApiError(
            415, "UnsupportedMediaType", f"415: Unsupported Media Type: a patch may be one of {known}", {}
        )
    if context.request.parameter("force") is not None:
        finding = FieldError("FieldValueForbidden", "force", True, "may not be specified for non-apply patch")
        raise invalid("meta.k8s.io", "PatchOptions", "", [finding])
    try:
        patch, duplicates = parse_json(context.request.body)
    except MalformedText as error:
        raise bad_request(f"error decoding patch: {error}") from None
    return Patch(change, patch, tuple(duplicates), media == STRATEGIC_MERGE_PATCH)


@define
class Patches:
    """The handlers of PATCH."""

    writes: Writes

    async def patch(self, context: RequestContext) -> ApiResponse:
        """PATCH of an object, or of a subresource that has the object's own kind."""
        if media_type(context) == APPLY_PATCH:
            return await self._apply(context)
        rendering = rendering_of(context)
        resource, info = context.resource, context.info
        patch = read_patch(context, context.schema)
        manager, dry_run = context.field_manager(), context.dry_run()
        context.field_validation()
        said = len(context.warnings)

        async def change(current: Stored | None) -> Stored | None:
            if current is None:
                raise not_found(resource.group, resource.plural, info.name)
            del context.warnings[said:]
            live = as_served(resource, current.parse())
            new = patch.applied_to(context, live, context.schema, resource.api_version, resource.kind)
            check_identity(context, new)
            new["metadata"].setdefault("resourceVersion", live["metadata"]["resourceVersion"])
            return await self.writes.replace(context, current, new, manager, dry_run, old=live)

        entry = await self.writes.registry.attempt(resource, context.namespace, info.name, change)
        return render_object(context, rendering, entry)

    async def _apply(self, context: RequestContext) -> ApiResponse:
        rendering = rendering_of(context)
        resource, info = context.resource, context.info
        dry_run, force = context.dry_run(), context.force()
        manager = applier(context)
        if context.schema is None:
            raise method_not_allowed("server-side apply needs a schema, which this resource does not have")
        schema = context.schema
        config = read_configuration(context, resource.api_version, resource.kind)
        said = len(context.warnings)
        created = False

        async def change(current: Stored | None) -> Stored | None:
            nonlocal created
            del context.warnings[said:]
            created = current is None
            if current is None and info.subresource:
                raise not_found(resource.group, resource.plural, info.name)
            if current is None and config["metadata"].get("uid"):
                raise conflict(
                    resource.group,
                    resource.plural,
                    info.name,
                    f"uid mismatch: the provided object specified uid {config['metadata']['uid']}, and no"
                    " existing object was found",
                )
            live = None if current is None else as_served(resource, current.parse())
            merged = server_side_apply.apply(
                schema,
                live,
                config,
                manager,
                force=force,
                time=context.now,
                subresource=info.subresource,
                convert=converter(resource),
            )
            merged, _ = conform(schema, merged)  # a configuration may hold nulls
            check_identity(context, merged)
            if current is None:
                merged["metadata"].pop("resourceVersion", None)
                return await self.writes.create_object(context, merged, manager, dry_run, applied=True)
            return await self.writes.replace(
                context, current, merged, manager, dry_run, tracked=True, old=live
            )

        entry = await self.writes.registry.attempt(resource, context.namespace, info.name, change)
        return render_object(context, rendering, entry, 201 if created else 200)


def applier(context: RequestContext) -> str:
    """The manager of an apply, which has to be named. Raises 422."""
    manager = context.request.parameter("fieldManager") or ""
    if not manager:
        finding = FieldError("FieldValueRequired", "fieldManager", "", "is required for apply patch")
        raise invalid("meta.k8s.io", "PatchOptions", "", [finding])
    return context.field_manager()


def read_configuration(context: RequestContext, api_version: str, kind: str) -> Object:
    """The applied configuration as it was sent. Raises 400."""
    from understudy.components.machinery.yaml_text import parse_yaml  # PyYAML costs a start-up 20 ms

    try:
        config, duplicates = parse_yaml(context.request.body)
    except MalformedText as error:
        raise bad_request(f"error decoding YAML: {error}") from None
    if not isinstance(config, dict):
        raise bad_request("an applied configuration is an object")
    if duplicates:
        mode = context.field_validation()
        if mode == "Strict":
            raise bad_request("error decoding YAML: " + ", ".join(duplicates))
        if mode == "Warn":
            context.warnings += duplicates
    given_version, given_kind = config.get("apiVersion") or "", config.get("kind") or ""
    if (given_version, given_kind) != (api_version, kind):
        raise bad_request(f"invalid object type: {given_version or '/'}, Kind={given_kind}")
    metadata = config.get("metadata")
    if metadata is None:
        metadata = config["metadata"] = {}
    if not isinstance(metadata, dict):
        raise bad_request("metadata must be an object")
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if name and name != context.info.name:
        raise bad_request(
            f"the name of the object ({name}) does not match the name on the URL ({context.info.name})"
        )
    if context.resource.namespaced and namespace and namespace != context.namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    return config
