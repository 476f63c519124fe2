"""Create and update: how an object that was sent becomes one that is stored.

The order of a write is the real server's: decode, default, field management (the managed fields describe what
the caller sent), mutating admission, what the storage fills in (names, addresses), preparation by the kind's
strategy, validation, validating admission, store. An update is computed against the stored object and stored
only in place of exactly that one; nothing is ever half-written.
"""

from collections.abc import Sequence
from typing import Any

import orjson
from attrs import define

from understudy.components.machinery.api import ApiResponse, Object
from understudy.components.machinery.defaults import apply_defaults
from understudy.components.machinery.errors import (
    ApiError,
    FieldError,
    already_exists,
    bad_request,
    conflict,
    invalid,
    not_found,
)
from understudy.components.machinery.managed_fields import keep_times_if_unchanged, track_update
from understudy.components.machinery.names import generate_name
from understudy.components.machinery.validation import (
    validate_create,
    validate_subresource_update,
    validate_update,
)
from understudy.components.machinery.warnings import creation_warnings, update_warnings

from .admission import Admission, Attributes, Operation
from .bodies import check_type, conformed, decode_body
from .context import RequestContext
from .conversion import as_served, as_stored, converter
from .encoding import Stored, encode_object, stored
from .reads import render_object, rendering_of
from .registry import Registry
from .services import ServiceAllocation

NAME_ATTEMPTS_MAX = 8
"""How often a generated name is drawn again because it is taken."""

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


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
        """Store a decoded object, which is changed; `applied`: its managed fields are those of an apply."""
        metadata = _fresh_metadata(context, obj)
        default_and_track(context, None, obj, manager, tracked=applied)
        attributes = _attributes("CREATE", context, obj, None, dry_run)
        await self.admission.admit(attributes)
        metadata["uid"] = self.registry.world.uuid("uids")
        metadata["creationTimestamp"] = context.now
        if metadata.get("name") or not metadata.get("generateName"):
            return await self._create_once(context, attributes, obj, dry_run)
        names = self.registry.world.rng("generated names")
        unnamed = orjson.dumps(obj)
        for attempt in range(NAME_ATTEMPTS_MAX):
            named: Object = orjson.loads(unnamed) if attempt else obj
            named["metadata"]["name"] = generate_name(metadata["generateName"], names)
            attributes.obj = named
            try:
                return await self._create_once(context, attributes, named, dry_run)
            except ApiError as error:
                if error.reason != "AlreadyExists" or attempt == NAME_ATTEMPTS_MAX - 1:
                    raise
        raise AssertionError("unreachable")

    async def _create_once(
        self, context: RequestContext, attributes: Attributes, obj: Object, dry_run: bool
    ) -> Stored:
        resource = context.resource
        self.allocation.prepare(obj, None)
        context.strategy.prepare_for_create(obj, context.writer)
        findings = validate_create(obj)
        if findings:
            raise self._invalid(context, obj["metadata"].get("name", ""), findings)
        await self.admission.validate(attributes)
        context.warnings += creation_warnings(obj)
        storage = self.registry.storage_version(resource)
        with self.allocation.reserve(obj, None) as allocation:
            kept = as_stored(storage, allocation.obj)
            if dry_run:
                name = obj["metadata"]["name"]
                if await self.registry.live(resource, context.namespace, name) is not None:
                    raise already_exists(resource.group, resource.plural, name)
                return stored(storage, encode_object(kept), 0)
            entry = await self.registry.create(storage, kept, allocation.beside)
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
        check_identity(context, obj)
        metadata = obj["metadata"]
        allow_create = context.strategy.allow_create_on_update and not info.subresource
        created = False

        async def change(current: Stored | None) -> Stored | None:
            nonlocal created
            if current is None:
                if not allow_create:
                    raise not_found(resource.group, resource.plural, info.name)
                created = True
                fresh = copied(obj)
                fresh["metadata"].pop("resourceVersion", None)
                return await self.create_object(context, fresh, manager, dry_run)
            created = False
            if metadata.get("uid") and metadata["uid"] != current.uid:
                raise conflict(
                    resource.group,
                    resource.plural,
                    info.name,
                    f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta:"
                    f" {current.uid}",
                )
            return await self.replace(context, current, copied(obj), manager, dry_run)

        entry = await self.registry.attempt(resource, context.namespace, info.name, change)
        return render_object(context, rendering, entry, 201 if created else 200)

    async def replace(
        self,
        context: RequestContext,
        current: Stored,
        new: Object,
        manager: str,
        dry_run: bool,
        *,
        tracked: bool = False,
        old: Object | None = None,
    ) -> Stored | None:
        """Store `new`, in the request's version, in place of `current`; None when that has changed.

        `new` is changed. `tracked`: its managed fields are already as they have to be. `old`: the parsed
        `current`, if it is at hand; `new` shares nothing with it.
        """
        resource, info = context.resource, context.info
        if old is None:
            old = as_served(resource, current.parse())
        self._check_version(context, old, new)
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        default_and_track(context, old, new, manager, tracked=tracked)
        attributes = _attributes("UPDATE", context, new, old, dry_run)
        await self.admission.admit(attributes)
        partial = info.subresource and info.subresource != "scale"
        if partial:
            context.strategy.prepare_for_subresource_update(info.subresource, new, old, context.writer)
            findings = validate_subresource_update(info.subresource, new, old)
        else:
            self.allocation.prepare(new, old)
            context.strategy.prepare_for_update(new, old, context.writer)
            findings = validate_update(new, old)
        if findings:
            raise self._invalid(context, info.name, findings)
        await self.admission.validate(attributes)
        if not partial:
            context.warnings += update_warnings(new, old)
        with self.allocation.reserve(new, old) as allocation:
            made = keep_times_if_unchanged(old, allocation.obj)
            if dry_run:
                return stored(
                    current.resource, encode_object(as_stored(current.resource, made)), current.revision
                )
            if _released(made):
                return await self._remove(current, as_stored(current.resource, made), old)
            if made == old:
                return current
            kept = as_stored(current.resource, made)
            result = await self.registry.replace(current, kept, allocation.beside)
            if result is not None:
                allocation.keep()
            return result

    async def _remove(self, current: Stored, last: Object, old: Object) -> Stored | None:
        """Delete an object with the write that took away what kept it."""
        gone = await self.registry.remove(current, self.allocation.beside_removal(old))
        if gone is None:
            return None
        self.allocation.release(old)
        return stored(current.resource, encode_object(last), current.revision)

    def _invalid(self, context: RequestContext, name: str, findings: Sequence[FieldError]) -> ApiError:
        """The 422 of an object, which is named as it is stored whatever version was sent."""
        group = self.registry.storage_version(context.resource).group
        return invalid(group, context.resource.kind, name, findings)

    def _check_version(self, context: RequestContext, old: Object, new: Object) -> None:
        """Whether the update knows the state that it replaces. Raises 409, 422 and 500."""
        resource, name = context.resource, context.info.name
        version = new["metadata"].get("resourceVersion") or ""
        if version in ("", "0"):
            if context.strategy.allow_unconditional_update:
                return
            finding = FieldError(
                "FieldValueInvalid", "metadata.resourceVersion", 0, "must be specified for an update"
            )
            # The real server names the resource here, not its kind.
            raise invalid(resource.group, resource.plural, name, [finding])
        if not version.isascii() or not version.isdigit():
            # The real server answers 500 without a reason here.
            raise ApiError(500, "", f"metadata.resourceVersion: {version!r} is not a whole number")
        if version != old["metadata"]["resourceVersion"]:
            raise conflict(resource.group, resource.plural, name, MODIFIED)


def check_identity(context: RequestContext, obj: Object) -> None:
    """Name and namespace are those of the path; the namespace is filled in. Raises 400."""
    metadata = obj.setdefault("metadata", {})
    name, wanted = metadata.get("name", ""), context.info.name
    if not name:
        raise bad_request(
            f"the name of the object ({wanted} based on URL) was undeterminable: name must be provided"
        )
    if name != wanted:
        raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({wanted})")
    _check_namespace(context, metadata)


def _check_namespace(context: RequestContext, metadata: Object) -> None:
    if not context.resource.namespaced:
        metadata.pop("namespace", None)
        return
    given = metadata.get("namespace") or context.namespace
    if given != context.namespace:
        raise bad_request(
            f"the namespace of the provided object ({given}) does not match the namespace sent on the"
            f" request ({context.namespace})"
        )
    metadata["namespace"] = context.namespace


def _fresh_metadata(context: RequestContext, obj: Object) -> Object:
    """A new object's metadata without what only the server sets. Raises 400, and 500 as the real server."""
    metadata: Object = obj.setdefault("metadata", {})
    _check_namespace(context, metadata)
    if metadata.pop("resourceVersion", None):
        raise ApiError(500, "", "resourceVersion should not be set on objects to be created")
    for name in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
        metadata.pop(name, None)
    return metadata


def default_and_track(
    context: RequestContext, old: Object | None, new: Object, manager: str, *, tracked: bool
) -> None:
    """Default an object in place and set its managed fields, unless they are already as they have to be.

    Defaulting takes away empty lists, of which tracking has to know.
    """
    metadata = new["metadata"]
    owners = metadata.get("managedFields")
    places = [new, spec] if isinstance(spec := new.get("spec"), dict) else [new]
    empty = [(place, key) for place in places for key, value in place.items() if value == []]
    apply_defaults(new)
    if tracked or context.schema is None:
        return
    if owners is not None:
        metadata["managedFields"] = owners
    emptied = [(place, key) for place, key in empty if place.get(key, 0) is None]
    for place, key in emptied:
        place[key] = []
    if new["kind"] == "DaemonSet":
        # The server writes this annotation before it tracks, so that the client owns it.
        metadata.setdefault("annotations", {}).setdefault("deprecated.daemonset.template.generation", "0")
    managed = track_update(
        context.schema,
        old,
        new,
        manager,
        time=context.now,
        api_version=context.resource.api_version,
        subresource=context.info.subresource,
        convert=converter(context.resource),
    )
    if managed:
        metadata["managedFields"] = managed
    else:
        metadata.pop("managedFields", None)
    for place, key in emptied:
        place[key] = None


def _attributes(
    operation: Operation, context: RequestContext, obj: Object, old: Object | None, dry_run: bool
) -> Attributes:
    return Attributes(
        operation,
        context.resource,
        context.info.subresource,
        context.namespace,
        context.info.name or obj["metadata"].get("name", ""),
        obj,
        old,
        context.user,
        dry_run,
        context.warnings,
    )


def copied(value: Any) -> Any:
    """The same JSON value, sharing nothing."""
    return orjson.loads(orjson.dumps(value))


def _released(obj: Object) -> bool:
    """Whether the last thing that kept a deleted object has gone with this write."""
    metadata = obj["metadata"]
    return bool(
        metadata.get("deletionTimestamp")
        and not metadata.get("finalizers")
        and not metadata.get("deletionGracePeriodSeconds")
        and not (obj["kind"] == "Namespace" and obj.get("spec", {}).get("finalizers"))
    )
