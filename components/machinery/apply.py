"""Server-side apply: a client states the fields it wants, and owns what it states.

The configuration is merged into the live object. What the same applier stated last time, states no more, and
nobody else owns, is removed. Changing a field of another owner is a conflict, unless forced.

Reference: "Server-Side Apply" in the API concepts; structured-merge-diff.
"""

from typing import Any, Final

import orjson

from understudy.components.machinery import field_set, managed_fields, typed_value
from understudy.components.machinery.errors import ApiError, Object, bad_request
from understudy.components.machinery.field_set import FieldSet
from understudy.components.machinery.managed_fields import (
    Changes,
    Converter,
    Identity,
    Managers,
    Ownership,
)
from understudy.components.machinery.schema import Schema

BEFORE_FIRST_APPLY: Final = "before-first-apply"
"""Owner of everything in an object that had no owners when it was first applied to."""
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_KUBECTL: Final = "kubectl"
_ANNOTATIONS_LIMIT_BYTES: Final = 256 * 1024


def apply(
    schema: Schema,
    live: Object | None,
    applied: Object,
    manager: str,
    *,
    force: bool = False,
    time: str,
    subresource: str = "",
    reset_fields: FieldSet | None = None,
    convert: Converter | None = None,
) -> Object:
    """The object after an apply, with its `managedFields`; not yet defaulted or validated.

    `live` None: the apply creates the object. `time`: now, RFC 3339 in seconds. `reset_fields`, `convert`:
    see `managed_fields.track_update`. Raises ApiError 409 with a cause for each contested field, 400 if the
    configuration carries `managedFields`, 500 (as the real server) if it does not fit the schema.
    """
    metadata = applied.get("metadata") or {}
    if metadata.get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")
    fresh: Object = orjson.loads(orjson.dumps(applied))
    return _Apply(schema, live, fresh, manager, time, subresource, reset_fields, convert).run(force)


class _Apply:
    def __init__(
        self,
        schema: Schema,
        live: Object | None,
        applied: Object,
        manager: str,
        time: str,
        subresource: str,
        reset_fields: FieldSet | None,
        convert: Converter | None,
    ) -> None:
        self._schema = schema
        self._applied = applied
        self._api_version: str = applied["apiVersion"]
        self._identity = Identity(manager, "Apply", "", subresource)
        self._time = time
        self._convert = convert
        if reset_fields is None:
            reset_fields = managed_fields.default_reset(applied.get("kind", ""), subresource)
        self._reset = reset_fields
        self._live: Object = orjson.loads(orjson.dumps(live or {}))
        stored = self._live.get("metadata", {}).pop("managedFields", None)
        self._managers = managed_fields.decode(stored)
        if not self._managers and live is not None:
            owner = Identity(BEFORE_FIRST_APPLY, "Update", self._api_version, subresource)
            self._managers = managed_fields.update_managers(
                schema, {}, self._live, {}, owner, time, self._reset, convert
            )

    def run(self, force: bool) -> Object:
        if found := typed_value.problems(self._schema, self._applied):
            raise self._misfit(found)
        merged, managers, conflicts = self._outcome()
        if conflicts and not force:
            if self._identity.manager == _KUBECTL:
                conflicts = self._unexplained_by_last_applied(conflicts)
            if conflicts:
                raise _conflict(conflicts)
        if merged == self._live:
            result, time = self._live, None
        else:
            result, time = merged, self._time
        own = managers.get(self._identity)
        if own is not None:
            before = self._managers.get(self._identity)
            shown = time or (before.time if before else None)
            managers[self._identity] = Ownership(own.fields, own.api_version, shown)
        if self._identity.manager == _KUBECTL:
            self._refresh_last_applied(result)
        metadata = result.setdefault("metadata", {})
        if entries := managed_fields.encode(managers):
            metadata["managedFields"] = entries
        return result

    def _outcome(self) -> tuple[Object, Managers, dict[Identity, FieldSet]]:
        """(object, owners if nobody objects, contested fields by owner)."""
        last = self._managers.get(self._identity)
        fields = field_set.recursive_difference(
            typed_value.field_set(self._schema, self._applied), self._reset
        )
        managers = dict(self._managers)
        managers[self._identity] = Ownership(fields, self._api_version, None)
        merged: Object = typed_value.merge(self._schema, self._live, self._applied)
        if last is not None and last.fields:
            merged = self._pruned(merged, managers, last)
        changes = Changes(self._schema, self._live, merged, self._api_version, self._reset, self._convert)
        conflicts = changes.conflicts(managers, self._identity)
        managers = changes.take_from_others(managers, self._identity)
        own = field_set.difference(fields, managed_fields.SERVER_OWNED)
        if own:
            managers[self._identity] = Ownership(own, self._api_version, None)
        else:
            del managers[self._identity]
        return merged, managers, conflicts

    def _pruned(self, merged: Object, managers: Managers, last: Ownership) -> Object:
        """`merged` without what the applier stated before and nobody owns now.

        Removing a container must not take what others own in it: first all of the last configuration goes,
        then what is owned comes back, then whatever was never stated by this applier.
        """
        schema = self._schema
        stated_before = typed_value.with_named_parents(schema, last.fields)
        owned: FieldSet = {}
        for ownership in managers.values():
            owned = field_set.union(owned, self._in_this_version(merged, ownership))
        owned = typed_value.with_named_parents(schema, owned)
        everything = self._all_fields(merged)
        left = self._all_fields(typed_value.remove(schema, merged, stated_before) or {})
        unowned = field_set.difference(everything, field_set.union(left, owned))
        left = self._all_fields(typed_value.remove(schema, merged, unowned) or {})
        dangling = field_set.intersection(field_set.difference(everything, left), stated_before)
        return typed_value.remove(schema, merged, dangling) or {}

    def _all_fields(self, obj: Object) -> FieldSet:
        return typed_value.with_named_parents(self._schema, typed_value.field_set(self._schema, obj))

    def _in_this_version(self, merged: Object, ownership: Ownership) -> FieldSet:
        """An owner's fields, in the paths of the request's version.

        A field of another version is kept if the paths agree, and else if removing it there changes it here.
        """
        if ownership.api_version == self._api_version or self._convert is None:
            return ownership.fields
        there = self._convert(merged, ownership.api_version)
        if there is None:
            return {}
        without = typed_value.remove(
            there[0], there[1], typed_value.with_named_parents(there[0], ownership.fields)
        )
        back = self._convert({**(without or {}), "apiVersion": ownership.api_version}, self._api_version)
        if back is None:
            return ownership.fields
        _, removed = typed_value.compare(self._schema, merged, back[1])
        changed, _ = typed_value.compare(self._schema, back[1], merged)
        return field_set.union(removed, changed)

    def _misfit(self, found: list[str]) -> ApiError:
        group, _, version = self._api_version.rpartition("/")
        metadata = self._applied.get("metadata") or {}
        name = f"{metadata.get('namespace') or ''}/{metadata.get('name') or ''}"
        words = found[0] if len(found) == 1 else "errors:\n" + "\n".join(f"  {problem}" for problem in found)
        return ApiError(
            500,
            "",
            f"failed to create typed patch object ({name}; {group}/{version}, "
            f"Kind={self._applied.get('kind') or ''}): {words}",
        )

    def _unexplained_by_last_applied(self, conflicts: dict[Identity, FieldSet]) -> dict[Identity, FieldSet]:
        """Conflicts with fields other than those that `kubectl apply` (client-side) set and still stand.

        So a user may move from client-side to server-side apply without forcing.
        """
        annotations = self._live.get("metadata", {}).get("annotations") or {}
        try:
            last: Any = orjson.loads(annotations.get(LAST_APPLIED) or "null")
        except orjson.JSONDecodeError:
            return conflicts
        if not isinstance(last, dict) or last.get("apiVersion") != self._api_version:
            return conflicts
        if typed_value.problems(self._schema, last):
            return conflicts
        standing = typed_value.field_set(self._schema, last)
        for different in typed_value.compare(self._schema, last, self._live):
            standing = field_set.difference(standing, different)
        left = {identity: field_set.difference(fields, standing) for identity, fields in conflicts.items()}
        return {identity: fields for identity, fields in left.items() if fields}

    def _refresh_last_applied(self, result: Object) -> None:
        """Keeps the annotation of client-side apply in step, so that the user may also move back."""
        annotations = result.get("metadata", {}).get("annotations") or {}
        if LAST_APPLIED not in annotations:
            return
        configuration = dict(self._applied)
        metadata = dict(configuration.get("metadata") or {})
        if stated := metadata.get("annotations"):
            kept = {name: value for name, value in stated.items() if name != LAST_APPLIED}
            metadata["annotations"] = kept
            if not kept:
                del metadata["annotations"]
        configuration["metadata"] = metadata
        text = orjson.dumps(configuration, option=orjson.OPT_SORT_KEYS).decode() + "\n"
        annotations[LAST_APPLIED] = text
        if (
            sum(len(name) + len(value.encode()) for name, value in annotations.items())
            > _ANNOTATIONS_LIMIT_BYTES
        ):
            del annotations[LAST_APPLIED]


def _conflict(conflicts: dict[Identity, FieldSet]) -> ApiError:
    causes = []
    by_owner: dict[str, list[str]] = {}
    for identity, fields in sorted(conflicts.items()):
        for path in field_set.paths(fields):
            owner = str(identity)
            by_owner.setdefault(owner, []).append(path)
            causes.append(
                {"reason": "FieldManagerConflict", "message": f"conflict with {owner}", "field": path}
            )
    if len(causes) == 1:
        message = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        lines = []
        for owner in sorted(by_owner):
            lines.append(f"conflicts with {owner}:")
            lines.extend(f"- {path}" for path in by_owner[owner])
        message = f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)
    return ApiError(409, "Conflict", message, {"causes": causes})
