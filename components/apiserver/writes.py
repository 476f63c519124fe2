"""Create, update, patch and apply.

The order of a write: decode, default, mutating admission, field management (the managed fields describe what
the caller sent), preparation by the kind's strategy, validation, validating admission, store. An update is
computed against the stored object and stored only in place of exactly that one; nothing is ever half-written.
"""

from collections.abc import Callable
from typing import Any

from attrs import define

from understudy.components.machinery import apply as server_side_apply
from understudy.components.machinery.api import ApiResponse, Object
from understudy.components.machinery.defaults import apply_defaults
from understudy.components.machinery.errors import (
    ApiError,
    FieldError,
    already_exists,
    bad_request,
    conflict,
    invalid,
    method_not_allowed,
    not_found,
    unsupported_media_type,
)
from understudy.components.machinery.json_text import MalformedText, parse_json
from understudy.components.machinery.managed_fields import keep_times_if_unchanged, track_update
from understudy.components.machinery.names import generate_name
from understudy.components.machinery.patch import json_patch, merge_patch
from understudy.components.machinery.schema import Schema
from understudy.components.machinery.strategic_patch import strategic_merge_patch
from understudy.components.machinery.validation import (
    validate_create,
    validate_subresource_update,
    validate_update,
)
from understudy.components.machinery.yaml_text import parse_yaml

from .admission import Admission, Attributes, Operation
from .bodies import check_type, conformed, decode_body, media_type
from .context import RequestContext
from .conversion import as_served, as_stored
from .encoding import Stored, encode_object, stored
from .reads import render_object, rendering_of
from .registry import Registry
from .services import ServiceAllocation

NAME_ATTEMPTS_MAX = 8
"""How often a generated name is drawn again because it is taken."""


@define
class Writes:
    """The write path of the API server."""

    registry: Registry
    admission: Admission
    allocation: ServiceAllocation

    # -- create

    async def create(self, context: RequestContext) -> ApiResponse:
        """POST of a collection."""
        rendering = rendering_of(context)
        resource = context.resource
        manager = context.field_manager()
        dry_run = context.dry_run()
        obj, found = decode_body(context, resource.kind)
        check_type(obj, resource.api_version, resource.kind)
        obj = conformed(context, obj, found, context.schema)
        entry = await self.create_object(context, obj, manager, dry_run)
        return render_object(context, rendering, entry, 201)

    async def create_object(
        self, context: RequestContext, obj: Object, manager: str, dry_run: bool, *, applied: bool = False
    ) -> Stored:
        """Store a decoded object; `applied`: its managed fields are those of an apply already."""
        metadata = self._own_metadata(context, obj)
        for attempt in range(NAME_ATTEMPTS_MAX):
            if metadata.get("generateName") and (not metadata.get("name") or attempt):
                metadata["name"] = generate_name(
                    metadata["generateName"], self.registry.world.rng("generated names")
                )
            fresh = _copied(obj)
            try:
                return await self._create_once(context, fresh, manager, dry_run, applied)
            except ApiError as error:
                generated = metadata.get("generateName") and error.reason == "AlreadyExists"
                if not generated or attempt == NAME_ATTEMPTS_MAX - 1:
                    raise
        raise AssertionError("unreachable")

    def _own_metadata(self, context: RequestContext, obj: Object) -> Object:
        """The parts of a new object's metadata that the server sets. Raises 400."""
        metadata: Object = obj.setdefault("metadata", {})
        if context.resource.namespaced:
            given = metadata.get("namespace") or context.namespace
            if given != context.namespace:
                raise bad_request(
                    f"the namespace of the provided object ({given}) does not match the namespace sent on the"
                    f" request ({context.namespace})"
                )
            metadata["namespace"] = context.namespace
        else:
            metadata.pop("namespace", None)
        if metadata.get("resourceVersion"):
            raise ApiError(500, "", "resourceVersion should not be set on objects to be created")
        metadata.pop("resourceVersion", None)
        metadata["uid"] = self.registry.world.uuid("uids")
        metadata["creationTimestamp"] = context.now
        return metadata

    async def _create_once(
        self, context: RequestContext, obj: Object, manager: str, dry_run: bool, applied: bool
    ) -> Stored:
        resource, strategy = context.resource, context.strategy
        apply_defaults(obj)
        attributes = self._attributes("CREATE", context, obj, None, dry_run)
        await self.admission.admit(attributes)
        if context.schema is not None and not applied:
            managed = track_update(
                context.schema, None, obj, manager, time=context.now, api_version=resource.api_version
            )
            _set_managed_fields(obj, managed)
        strategy.prepare_for_create(obj, context.writer)
        findings = validate_create(obj)
        if findings:
            raise invalid(resource.group, resource.kind, obj["metadata"].get("name", ""), findings)
        await self.admission.validate(attributes)
        storage = self.registry.storage_version(resource)
        with self.allocation.reserve(obj, None) as allocation:
            kept = as_stored(storage, allocation.obj)
            if dry_run:
                name = obj["metadata"]["name"]
                if self.registry.cache(resource).get(context.namespace, name):
                    raise already_exists(resource.group, resource.plural, name)
                return stored(storage, encode_object(kept), 0)
            entry = await self.registry.create(storage, kept)
            allocation.keep()
            return entry

    # -- update

    async def update(self, context: RequestContext) -> ApiResponse:
        """PUT of an object, or of a subresource that has the object's own kind."""
        rendering = rendering_of(context)
        resource, info = context.resource, context.info
        manager, dry_run = context.field_manager(), context.dry_run()
        obj, found = decode_body(context, resource.kind)
        check_type(obj, resource.api_version, resource.kind)
        obj = conformed(context, obj, found, context.schema)
        metadata = obj.setdefault("metadata", {})
        if metadata.get("name", "") != info.name:
            raise bad_request(
                f"the name of the object ({metadata.get('name', '')}) does not match the name on the URL"
                f" ({info.name})"
            )
        if resource.namespaced:
            if metadata.setdefault("namespace", context.namespace) != context.namespace:
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
        else:
            metadata.pop("namespace", None)
        allow_create = context.strategy.allow_create_on_update and not info.subresource
        created = False

        async def change(current: Stored | None) -> Stored | None:
            nonlocal created
            if current is None:
                if not allow_create:
                    raise not_found(resource.group, resource.plural, info.name)
                created = True
                metadata.pop("resourceVersion", None)
                return await self.create_object(context, _copied(obj), manager, dry_run)
            created = False
            return await self._replace(context, current, _copied(obj), manager, dry_run)

        entry = await self.registry.attempt(resource, context.namespace, info.name, change)
        return render_object(context, rendering, entry, 201 if created else 200)

    async def _replace(
        self,
        context: RequestContext,
        current: Stored,
        new: Object,
        manager: str,
        dry_run: bool,
        *,
        applied: bool = False,
    ) -> Stored | None:
        """Store `new`, in the request's version, in place of `current`; None when that has changed."""
        resource, info = context.resource, context.info
        old = as_served(resource, current.parse())
        self._check_preconditions(context, old, new)
        apply_defaults(new)
        attributes = self._attributes("UPDATE", context, new, old, dry_run)
        await self.admission.admit(attributes)
        if context.schema is not None and not applied:
            managed = track_update(
                context.schema,
                old,
                new,
                manager,
                time=context.now,
                api_version=resource.api_version,
                subresource=info.subresource,
            )
            _set_managed_fields(new, managed)
        if info.subresource and info.subresource != "scale":
            context.strategy.prepare_for_subresource_update(info.subresource, new, old, context.writer)
        else:
            context.strategy.prepare_for_update(new, old, context.writer)
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        new = keep_times_if_unchanged(old, new)
        if info.subresource and info.subresource != "scale":
            findings = validate_subresource_update(info.subresource, new, old)
        else:
            findings = validate_update(new, old)
        if findings:
            raise invalid(resource.group, resource.kind, info.name, findings)
        await self.admission.validate(attributes)
        with self.allocation.reserve(new, old) as allocation:
            kept = as_stored(current.resource, allocation.obj)
            if dry_run:
                return stored(current.resource, encode_object(kept), current.revision)
            if _released(kept):
                gone = await self.registry.remove(current)
                if gone is not None:
                    self.allocation.release(old)
                    return stored(gone.resource, encode_object(kept), gone.revision)
                return None
            result = await self.registry.replace(current, kept)
            if result is not None:
                allocation.keep()
            return result

    def _check_preconditions(self, context: RequestContext, old: Object, new: Object) -> None:
        """What an update says about the object that it replaces. Raises 409 or 422."""
        resource, name = context.resource, context.info.name
        sent, live = new["metadata"], old["metadata"]
        if sent.get("uid") and sent["uid"] != live["uid"]:
            raise conflict(
                resource.group,
                resource.plural,
                name,
                f"Precondition failed: UID in precondition: {sent['uid']}, UID in object meta: {live['uid']}",
            )
        version = sent.get("resourceVersion") or ""
        if version in ("", "0"):
            if context.strategy.allow_unconditional_update:
                return
            raise invalid(
                resource.group,
                resource.kind,
                name,
                [
                    FieldError(
                        "FieldValueInvalid",
                        "metadata.resourceVersion",
                        0,
                        "must be specified for an update",
                    )
                ],
            )
        if not version.isdigit():
            raise invalid(
                resource.group,
                resource.kind,
                name,
                [FieldError("FieldValueInvalid", "metadata.resourceVersion", version, "must be a number")],
            )
        if version != live["resourceVersion"]:
            raise conflict(
                resource.group,
                resource.plural,
                name,
                "the object has been modified; please apply your changes to the latest version and try again",
            )

    # -- patch

    async def patch(self, context: RequestContext) -> ApiResponse:
        """PATCH of an object, or of a subresource that has the object's own kind."""
        media = media_type(context)
        if media in ("application/apply-patch+yaml", "application/apply-patch+cbor"):
            return await self._apply(context)
        rendering = rendering_of(context)
        manager, dry_run = context.field_manager(), context.dry_run()
        if context.request.parameter("force") is not None:
            raise invalid(
                "meta.k8s.io",
                "PatchOptions",
                "",
                [
                    FieldError(
                        "FieldValueForbidden", "force", True, "may not be specified for non-apply patch"
                    )
                ],
            )
        patch_object = self.patcher(context, media, context.schema)
        validation = context.field_validation()

        def patched(live: Object) -> Object:
            new, duplicates = patch_object(live)
            check_type(new, context.resource.api_version, context.resource.kind)
            context.warnings.clear()
            return conformed(context, new, duplicates, context.schema, validation)

        entry = await self.modify(context, patched, manager, dry_run)
        return render_object(context, rendering, entry)

    def patcher(
        self, context: RequestContext, media: str, schema: Schema | None
    ) -> Callable[[Object], tuple[Object, list[str]]]:
        """How the request's patch changes an object, and its duplicate fields. Raises 400 and 415."""
        kinds: dict[str, Callable[[Object, Any], Object]] = {
            "application/json-patch+json": json_patch,
            "application/merge-patch+json": merge_patch,
        }
        if schema is not None:
            kinds["application/strategic-merge-patch+json"] = lambda obj, patch: strategic_merge_patch(
                schema, obj, patch
            )
        change = kinds.get(media)
        if change is None:
            raise unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: "
                + ", ".join(kinds)
            )
        try:
            patch, duplicates = parse_json(context.request.body)
        except MalformedText as error:
            raise bad_request(f"error decoding patch: {error}") from None
        return lambda live: (change(live, patch), list(duplicates))

    async def modify(
        self, context: RequestContext, patched: Callable[[Object], Object], manager: str, dry_run: bool
    ) -> Stored:
        """Compute an object from the live one and store it."""
        resource, info = context.resource, context.info

        async def change(current: Stored | None) -> Stored | None:
            if current is None:
                raise not_found(resource.group, resource.plural, info.name)
            live = as_served(resource, current.parse())
            new = patched(live)
            metadata = new.setdefault("metadata", {})
            if metadata.get("name") != info.name:
                raise bad_request(
                    f"the name of the object ({metadata.get('name', '')}) does not match the name on the URL"
                    f" ({info.name})"
                )
            metadata.setdefault("resourceVersion", live["metadata"]["resourceVersion"])
            return await self._replace(context, current, new, manager, dry_run)

        return await self.registry.attempt(resource, context.namespace, info.name, change)

    # -- apply

    async def _apply(self, context: RequestContext) -> ApiResponse:
        rendering = rendering_of(context)
        resource, info = context.resource, context.info
        dry_run, force = context.dry_run(), context.force()
        manager = context.request.parameter("fieldManager") or ""
        if not manager:
            raise invalid(
                "meta.k8s.io",
                "PatchOptions",
                "",
                [FieldError("FieldValueRequired", "fieldManager", "", "is required for apply patch")],
            )
        context.field_manager()
        if context.schema is None:
            raise method_not_allowed("server-side apply needs a schema, which this resource does not have")
        schema = context.schema
        config = self._configuration(context)
        created = False

        async def change(current: Stored | None) -> Stored | None:
            nonlocal created
            created = current is None
            live = None if current is None else as_served(resource, current.parse())
            if live is None and info.subresource:
                raise not_found(resource.group, resource.plural, info.name)
            if live is not None:
                uid = (config.get("metadata") or {}).get("uid")
                if uid and uid != live["metadata"]["uid"]:
                    raise conflict(resource.group, resource.plural, info.name, f"uid mismatch: {uid}")
            elif (config.get("metadata") or {}).get("uid"):
                raise conflict(
                    resource.group, resource.plural, info.name, "uid given, but the object does not exist"
                )
            merged = server_side_apply.apply(
                schema,
                live,
                config,
                manager,
                force=force,
                time=context.now,
                subresource=info.subresource,
            )
            if current is None:
                return await self.create_object(context, merged, manager, dry_run, applied=True)
            assert live is not None
            merged["metadata"].setdefault("resourceVersion", live["metadata"]["resourceVersion"])
            return await self._replace(context, current, merged, manager, dry_run, applied=True)

        entry = await self.registry.attempt(resource, context.namespace, info.name, change)
        return render_object(context, rendering, entry, 201 if created else 200)

    def _configuration(self, context: RequestContext) -> Object:
        """The applied configuration. Raises 400."""
        resource, info = context.resource, context.info
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
        check_type(config, resource.api_version, resource.kind)
        metadata = config.setdefault("metadata", {})
        if metadata.setdefault("name", info.name) != info.name:
            raise bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL"
                f" ({info.name})"
            )
        if resource.namespaced and metadata.setdefault("namespace", context.namespace) != context.namespace:
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        return config

    def _attributes(
        self,
        operation: Operation,
        context: RequestContext,
        obj: Object | None,
        old: Object | None,
        dry_run: bool,
    ) -> Attributes:
        name = context.info.name or (obj or {}).get("metadata", {}).get("name", "")
        return Attributes(
            operation,
            context.resource,
            context.info.subresource,
            context.namespace,
            name,
            obj,
            old,
            context.user,
            dry_run,
            context.warnings,
        )


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value


def _set_managed_fields(obj: Object, managed: list[Object]) -> None:
    if managed:
        obj["metadata"]["managedFields"] = managed
    else:
        obj["metadata"].pop("managedFields", None)


def _released(obj: Object) -> bool:
    """Whether the last thing that kept a deleted object has gone with this write."""
    metadata = obj["metadata"]
    return bool(
        metadata.get("deletionTimestamp")
        and not metadata.get("finalizers")
        and not metadata.get("deletionGracePeriodSeconds")
        and not (obj["kind"] == "Namespace" and obj.get("spec", {}).get("finalizers"))
    )
