"""Objects seen through their schema: what they own, how two differ, how one is merged into another.

These are the four operations on which ownership of fields rests (structured-merge-diff's typed values).
Where the schema calls a list or map *atomic* it is one field; a *granular* map has a field for each key, a
list of type *map* or *set* one for each element, named by its keys or its value.

Objects are in served-version form. The server holds them as structs, so that some members are always there,
if only with their zero value (`Schema.zero`; a few lists as null): absent and zero are the same here.
"""

from collections import Counter
from typing import Any, Final

import orjson

from understudy.components.machinery.errors import Object
from understudy.components.machinery.field_set import SELF, FieldSet, has
from understudy.components.machinery.schema import Schema

_ABSENT: Final = object()
_UNDECLARED: Final = Schema(type="any", preserve_unknown=True)
"""The schema of what nobody declared: maps merge, lists and scalars do not."""
_EMPTY: Final[Object] = {}
_WRITTEN_AS_NULL: Final = {
    ("io.k8s.api.core.v1.PodSpec", "containers"),
    ("io.k8s.api.storage.v1.CSINodeSpec", "drivers"),
}
"""Granular lists that the server writes as null when they are not there, so that they never appear as a
field of their own. OpenAPI does not tell them from lists that are left out; these are all that an object
can have."""


def field_set(schema: Schema, obj: Object) -> FieldSet:
    """The fields that an applied configuration states: its leaves, its map keys, its list elements."""
    return _stated(schema, obj)


def compare(schema: Schema, old: Object, new: Object) -> tuple[FieldSet, FieldSet]:
    """(added or modified, removed): the fields by which `new` differs from `old`.

    A container that appears is a field of its own beside its members. `old` empty: the fields of a creation.
    """
    changed: FieldSet = {}
    removed: FieldSet = {}
    _compare_members(schema, old, new, changed, removed)
    return changed, removed


def merge(schema: Schema, live: Any, applied: Any) -> Any:
    """`applied` laid over `live`: its leaves win, granular lists are joined in an order that honours both."""
    if isinstance(applied, dict) and isinstance(live, dict) and _granular_map(schema):
        merged = dict(live)
        for key, value in applied.items():
            merged[key] = merge(_member(schema, key), live[key], value) if key in live else value
        return merged
    if isinstance(applied, list) and isinstance(live, list) and _granular_list(schema):
        return _merge_elements(schema, live, applied)
    return applied


def remove(schema: Schema, value: Any, unwanted: FieldSet) -> Any:
    """`value` without the fields in a set; a container that loses all its members is None."""
    if isinstance(value, dict):
        kept = {}
        for key, member in value.items():
            node = unwanted.get(f"f:{key}")
            if node is None:
                kept[key] = member
            elif not has(node) and (rest := remove(_member(schema, key), member, node)) is not None:
                kept[key] = rest
        return kept or None
    if isinstance(value, list) and _granular_list(schema):
        items = []
        for item in value:
            node = unwanted.get(step_of(schema, item))
            if node is None:
                items.append(item)
            elif not has(node):
                items.append(remove(schema.item or _UNDECLARED, item, node))
        return items or None
    return value


def with_named_parents(schema: Schema, tree: FieldSet) -> FieldSet:
    """The set with every declared field on the way to a path in it (not map keys, not list elements)."""
    result: FieldSet = {}
    for step, node in tree.items():
        if step == SELF or not node:
            result[step] = node
            continue
        inner = with_named_parents(_below(schema, step), node)
        declared = step[0] == "f" and schema.type == "object" and step[2:] in schema.fields
        result[step] = {SELF: {}, **inner} if declared and SELF not in inner else inner
    return result


def problems(schema: Schema, value: Any, path: str = "") -> list[str]:
    """What in an applied configuration does not fit the schema: `.data.a: expected string, got ...`."""
    if value is None:
        return []
    match schema.type:
        case "any":
            return []
        case "object" | "map":
            if not isinstance(value, dict):
                return [f"{path}: expected map, got &{{{_go_value(value)}}}"]
            found = []
            for key, member in value.items():
                if schema.type == "object" and key not in schema.fields and not schema.preserve_unknown:
                    found.append(f"{path}.{key}: field not declared in schema")
                else:
                    found += problems(_member(schema, key), member, f"{path}.{key}")
            return found
        case "list":
            if not isinstance(value, list):
                return [f"{path}: expected list, got &{{{_go_value(value)}}}"]
            return _element_problems(schema, value, path)
        case "quantity" | "int-or-string" | "time" | "micro-time":
            fits, wanted = not isinstance(value, (dict, list)), "scalar"
        case "integer" | "number":
            fits = isinstance(value, (int, float)) and not isinstance(value, bool)
            wanted = "numeric (int or float)"
        case "boolean":
            fits, wanted = isinstance(value, bool), "boolean"
        case _:
            fits, wanted = isinstance(value, str), "string"
    if fits:
        return []
    return [f"{path}: expected {wanted}, got &value.valueUnstructured{{Value:{_go_value(value)}}}"]


def _element_problems(schema: Schema, items: list[Any], path: str) -> list[str]:
    found: list[str] = []
    seen: set[str] = set()
    for index, item in enumerate(items):
        where = f"{path}[{index}]"
        if _granular_list(schema):
            if schema.list_type == "map" and not isinstance(item, dict):
                found.append(f"{path}: element {index}: associative list may not have non-map elements")
                continue
            if schema.list_type == "map" and (key := _nameless(schema, item)) is not None:
                omitted = "associative list with keys has an element that omits key field"
                found.append(f'{path}: element {index}: {omitted} "{key}" (and doesn\'t have default value)')
                continue
            step = step_of(schema, item)
            if step in seen:
                shown = _shown_keys(step)
                found.append(f"{path}: duplicate entries for key {shown}")
                continue
            seen.add(step)
            where = path + (_shown_keys(step))
        found += problems(schema.item or _UNDECLARED, item, where)
    return found


def _nameless(schema: Schema, item: Object) -> str | None:
    """The first key that an element lacks and that has no default."""
    fields = (schema.item or _UNDECLARED).fields
    for key in schema.list_map_keys:
        if item.get(key) is None and (key not in fields or fields[key].zero is None):
            return key
    return None


def _shown_keys(step: str) -> str:
    if step[0] == "v":
        return f"[={step[2:]}]"
    keys = orjson.loads(step[2:])
    return "[" + ",".join(f"{key}={orjson.dumps(keys[key]).decode()}" for key in sorted(keys)) + "]"


def _go_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def step_of(schema: Schema, item: Any) -> str:
    """The path step that names an element of a granular list."""
    if schema.list_type == "set":
        return "v:" + orjson.dumps(item).decode()
    element = schema.item or _UNDECLARED
    keys = {}
    for key in schema.list_map_keys:
        value = item.get(key) if isinstance(item, dict) else None
        if value is None and key in element.fields:
            value = element.fields[key].zero
        if value is not None:
            keys[key] = value
    if len(keys) > 1:
        keys = dict(sorted(keys.items()))
    return "k:" + orjson.dumps(keys).decode()


def _granular_map(schema: Schema) -> bool:
    if schema.type == "any":
        return schema.preserve_unknown
    return schema.type in ("object", "map") and schema.map_type == "granular"


def _granular_list(schema: Schema) -> bool:
    return schema.type == "list" and schema.list_type != "atomic"


def _member(schema: Schema, key: str) -> Schema:
    """The schema of one member of an object or map."""
    if schema.type == "map":
        return schema.item or _UNDECLARED
    return schema.fields.get(key) or _UNDECLARED


def _below(schema: Schema, step: str) -> Schema:
    if step[0] == "f":
        return _member(schema, step[2:])
    return schema.item or _UNDECLARED


def _stated(schema: Schema, value: Any) -> FieldSet:
    """The tree below a value; empty for a leaf (and for an empty list, which states nothing)."""
    result: FieldSet = {}
    if isinstance(value, dict) and _granular_map(schema):
        for key, member in value.items():
            child = _member(schema, key)
            inner = _stated(child, member)
            declared = schema.type == "object" and key in schema.fields
            if inner:
                result[f"f:{key}"] = inner if declared else {SELF: {}, **inner}
            elif not declared or not _has_members(child, member):
                result[f"f:{key}"] = inner
    elif isinstance(value, list) and _granular_list(schema):
        item_schema = schema.item or _UNDECLARED
        for item in value:
            inner = _stated(item_schema, item)
            result[step_of(schema, item)] = {SELF: {}, **inner} if inner else inner
    return result


def _has_members(schema: Schema, value: Any) -> bool:
    """Has a value fields of its own below it, so that it is none itself?"""
    if isinstance(value, dict):
        return _granular_map(schema) and bool(value)
    return isinstance(value, list) and _granular_list(schema)


def _compare_members(schema: Schema, old: Object, new: Object, changed: FieldSet, removed: FieldSet) -> None:
    """Compares two objects or maps that are both there; fills the two sets."""
    fields = schema.fields
    declared = schema.type == "object"
    for key, value in new.items():
        before = old.get(key, _ABSENT)
        if before == value:
            continue
        child = _member(schema, key)
        if declared and key in fields:
            if value is None:
                value = _ABSENT
            if before is _ABSENT or before is None:
                before = _zero(schema, key, child)
            if value is _ABSENT:
                value = _zero(schema, key, child)
            if before is value:
                continue
        _compare(child, f"f:{key}", before, value, changed, removed)
    if len(old) and old.keys() - new.keys():
        for key, before in old.items():
            if key in new or before is None:
                continue
            child = _member(schema, key)
            after = _zero(schema, key, child) if declared and key in fields else _ABSENT
            _compare(child, f"f:{key}", before, after, changed, removed)


def _zero(schema: Schema, key: str, child: Schema) -> Any:
    """What stands for a declared member that is not written: its zero value, null, or nothing."""
    zero = child.zero
    if zero is not None and not zero:
        return zero
    return None if (schema.name, key) in _WRITTEN_AS_NULL else _ABSENT


def _compare(schema: Schema, step: str, old: Any, new: Any, changed: FieldSet, removed: FieldSet) -> None:
    """Compares two values, either of which may be absent, that are reached by `step`."""
    if old is _ABSENT and new is _ABSENT:
        return
    some = new if old is _ABSENT or old is None else old
    is_map = isinstance(some, dict) and _granular_map(schema)
    is_list = not is_map and isinstance(some, list) and _granular_list(schema)
    empty = (old is _ABSENT or not old) and (new is _ABSENT or not new)
    if empty or not (is_map or is_list):
        if new is _ABSENT:
            removed[step] = {}
        elif old is _ABSENT or old != new:
            changed[step] = {}
        return
    inner_changed: FieldSet = {}
    inner_removed: FieldSet = {}
    if old is _ABSENT:
        inner_changed[SELF] = {}
    elif new is _ABSENT:
        inner_removed[SELF] = {}
    before: Any = old if isinstance(old, (dict, list)) else _EMPTY
    after: Any = new if isinstance(new, (dict, list)) else _EMPTY
    if is_list:
        _compare_elements(schema, before, after, inner_changed, inner_removed)
    elif not isinstance(old, dict):
        for key, value in after.items():
            _compare(_member(schema, key), f"f:{key}", _ABSENT, value, inner_changed, inner_removed)
    elif not isinstance(new, dict):
        for key, value in before.items():
            _compare(_member(schema, key), f"f:{key}", value, _ABSENT, inner_changed, inner_removed)
    else:
        _compare_members(schema, old, new, inner_changed, inner_removed)
    if inner_changed:
        changed[step] = inner_changed if len(inner_changed) > 1 or SELF not in inner_changed else {}
    if inner_removed:
        removed[step] = inner_removed if len(inner_removed) > 1 or SELF not in inner_removed else {}


def _compare_elements(schema: Schema, old: Any, new: Any, changed: FieldSet, removed: FieldSet) -> None:
    item_schema = schema.item or _UNDECLARED
    before = _by_step(schema, old)
    after = _by_step(schema, new)
    for step, items in after.items():
        others = before.get(step)
        if others == items:
            continue
        if len(items) == 1 and (others is None or len(others) == 1):
            _compare(item_schema, step, others[0] if others else _ABSENT, items[0], changed, removed)
        else:
            changed[step] = {}
    for step, items in before.items():
        if step not in after:
            if len(items) == 1:
                _compare(item_schema, step, items[0], _ABSENT, changed, removed)
            else:
                removed[step] = {}


def _by_step(schema: Schema, items: Any) -> dict[str, list[Any]]:
    """Elements by name. Stored lists may hold several of one name; an applied one may not."""
    result: dict[str, list[Any]] = {}
    for item in items:
        result.setdefault(step_of(schema, item), []).append(item)
    return result


def _merge_elements(schema: Schema, live: list[Any], applied: list[Any]) -> list[Any]:
    """Shared elements come in the applied order; the live ones between them keep their neighbours."""
    item_schema = schema.item or _UNDECLARED
    ours = [step_of(schema, item) for item in live]
    theirs = [step_of(schema, item) for item in applied]
    times = Counter(ours)
    by_ours = {step: item for step, item in zip(ours, live, strict=True) if times[step] == 1}
    by_theirs = dict(zip(theirs, applied, strict=True))
    known = set(ours)
    shared = iter([step for step in theirs if step in known])
    awaited = next(shared, None)
    merged: list[Any] = []
    done: set[str] = set()

    def take(step: str) -> None:
        done.add(step)
        item = by_theirs[step]
        merged.append(merge(item_schema, by_ours[step], item) if step in by_ours else item)

    left = right = 0
    while left < len(ours) or right < len(theirs):
        if left < len(ours) and right < len(theirs):
            if ours[left] == theirs[right]:
                take(ours[left])
                left, right = left + 1, right + 1
                awaited = next(shared, None)
                continue
            if ours[left] in by_theirs and awaited is not None and awaited != ours[left]:
                left += 1
                continue
        if left < len(ours):
            if ours[left] not in by_theirs:
                merged.append(live[left])
                left += 1
                continue
            if ours[left] in done:
                left += 1
        if right < len(theirs):
            take(theirs[right])
            if awaited == theirs[right]:
                awaited = next(shared, None)
            right += 1
    return merged
