"""Strategic merge patch: a merge patch that knows, from the schema, how lists merge.

Lists with the `merge` strategy pair their elements by the merge key (scalars by value); all others are
replaced. Directives in the patch say what a plain merge cannot:

- `$patch: delete | replace` in an object or list element;
- `$deleteFromPrimitiveList/FIELD`: values to take out of a list of scalars;
- `$setElementOrder/FIELD`: the order in which the client wants the elements it knows;
- `$retainKeys`: the fields of an object that survive (for unions).

Order: elements that the patch names come in the patch's (or the directive's) order, elements only the server
has keep theirs, and the two are woven so that a server element stays ahead of a named one it preceded before.
Reference: the design "strategic-merge-patch" of sig-api-machinery.
"""

from collections.abc import Callable
from typing import Any, Final

import orjson

from understudy.components.machinery.errors import ApiError, Object, bad_request
from understudy.components.machinery.go_text import cannot_unmarshal, go_text
from understudy.components.machinery.schema import Schema

_DELETE_LIST: Final = "$deleteFromPrimitiveList/"
_ORDER: Final = "$setElementOrder/"
_RETAIN: Final = "$retainKeys"
_PATCH: Final = "$patch"


def strategic_merge_patch(schema: Schema, doc: Object, patch: Any) -> Object:
    """The document after a strategic merge patch; shares nothing with its arguments.

    Raises ApiError: 400 for a patch that is no object or whose directives have the wrong shape, 422 for lists
    of lists, and, like the real server, 500 without a reason for a directive that contradicts itself.
    """
    if not isinstance(patch, dict):
        raise bad_request(cannot_unmarshal(patch, "map[string]interface {}"))
    fresh_doc, fresh_patch = orjson.loads(orjson.dumps([doc, patch]))
    return _merge_object(schema, fresh_doc, fresh_patch)


def _failure(message: str) -> ApiError:
    return ApiError(500, "", message)


def _field(schema: Schema | None, key: str) -> Schema | None:
    if schema is None:
        return None
    if schema.type == "map":
        return schema.item
    return schema.fields.get(key)


def _merge_object(schema: Schema | None, original: Object, patch: Object) -> Object:
    """Merges `patch` into `original` (both are ours to change)."""
    if _PATCH in patch:
        directive = patch.pop(_PATCH)
        if directive == "replace":
            return _plain_object(patch)
        if directive == "delete":
            return {}
        raise _failure(f"unknown patch type: {directive} in map: {go_text({_PATCH: directive, **patch})}")
    _retain_keys(original, patch)
    _ordered_lists(schema, original, patch)
    for key, change in patch.items():
        deleting = key.startswith(_DELETE_LIST)
        if deleting:
            key = key[len(_DELETE_LIST) :]
        if change is None:
            original.pop(key, None)
            continue
        present = original.get(key)
        if isinstance(change, dict) and isinstance(present, dict) and not deleting:
            child = _field(schema, key)
            if child is not None and "replace" in child.patch_strategy:
                original[key] = _plain_object(change)
            else:
                original[key] = _merge_object(child, present, change)
        elif isinstance(change, list) and isinstance(present, list):
            original[key] = _merge_list(_field(schema, key), present, change, deleting)
        elif not deleting:
            original.pop(key, None)
            if (plain := _plain(change)) is not _DROPPED:
                original[key] = plain
    return original


def _retain_keys(original: Object, patch: Object) -> None:
    if _RETAIN not in patch:
        return
    kept = patch.pop(_RETAIN)
    if not isinstance(kept, list):
        raise bad_request("invalid patch format of retainKeys")
    for key, change in patch.items():
        if change is not None and key not in kept and not key.startswith((_DELETE_LIST, _ORDER)):
            raise bad_request("invalid patch format of retainKeys")
    for key in [key for key in original if key not in kept]:
        del original[key]


def _ordered_lists(schema: Schema | None, original: Object, patch: Object) -> None:
    """Applies each `$setElementOrder`, together with the list of the same field if the patch has it."""
    for directive in [key for key in patch if key.startswith(_ORDER)]:
        order = patch.pop(directive)
        key = directive[len(_ORDER) :]
        if not isinstance(order, list):
            raise bad_request("invalid patch format of setElementOrder list")
        child = _field(schema, key)
        merge_key = child.patch_merge_key if child is not None else None
        change, present = patch.pop(key, None), original.get(key)
        if not isinstance(change, list | None) or not isinstance(present, list | None):
            raise bad_request("invalid patch format of setElementOrder list")
        _check_order(change or [], order, merge_key)
        if present is None and change is None:
            continue
        if present is None:
            merged = _plain(change)
        elif change is None:
            merged = present
        else:
            merged = _merge_list(child, present, change, False)
        original[key] = _woven(merged, order, present or [], merge_key)


def _check_order(change: list[Any], order: list[Any], merge_key: str | None) -> None:
    """The patch's elements must come in the order of the directive, which must name them all."""
    identity = _identity(merge_key)
    wanted = [item for item in change if not (isinstance(item, dict) and item.get(_PATCH) == "delete")]
    if not wanted or not order:
        return
    listed = iter([identity(item) for item in order])
    for item in wanted:
        if not any(identity(item) == name for name in listed):
            raise _failure(
                f"The order in patch list:\n{go_text(change)}\n"
                f" doesn't match {_ORDER[:-1]} list:\n{go_text(order)}\n"
            )


def _merge_list(schema: Schema | None, original: list[Any], change: list[Any], deleting: bool) -> list[Any]:
    merges = schema is not None and "merge" in schema.patch_strategy
    if not merges and not deleting:
        replaced: list[Any] = _plain(change)
        return replaced
    if not original and not change:
        return original
    if _elements_are_objects(original, change):
        assert schema is not None or deleting
        merge_key = schema.patch_merge_key if schema is not None else None
        if merge_key is None:
            raise _failure("cannot merge lists without merge key")
        return _merge_elements(schema.item if schema else None, original, change, merge_key)
    if deleting:
        return [item for item in original if item not in change]
    merged = original + [item for item in change if item not in original]
    unique = [item for index, item in enumerate(merged) if item not in merged[:index]]
    return _woven(unique, change, original, None)


def _elements_are_objects(*lists: list[Any]) -> bool:
    kinds = {type(item) for items in lists for item in items}
    if list in kinds:
        raise ApiError(422, "Invalid", "the server rejected our request due to an error in our request", {})
    if len(kinds) > 1:
        raise _failure("list element types are not identical")
    return kinds == {dict}


def _merge_elements(
    schema: Schema | None, original: list[Any], change: list[Any], merge_key: str
) -> list[Any]:
    before = list(original)
    identity = _identity(merge_key)
    named: list[Object] = []
    replace = False
    for item in change:
        directive = item.get(_PATCH)
        if directive is None:
            named.append(item)
        elif directive == "delete":
            name = identity(item)
            original = [element for element in original if element.get(merge_key) != name]
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise _failure("merging lists cannot yet be specified in the patch")
        else:
            raise _failure(f"unknown patch type: {directive} in map: {go_text(item)}")
    if replace:
        return [_plain_object(item) for item in named]
    positions = {_hashable(element.get(merge_key)): index for index, element in enumerate(original)}
    for item in named:
        position = positions.get(_hashable(identity(item)))
        if position is None:
            positions[_hashable(item[merge_key])] = len(original)
            original.append(_plain_object(item))
        else:
            original[position] = _merge_object(schema, original[position], item)
    return _woven(original, named, before, merge_key)


def _identity(merge_key: str | None) -> Callable[[Any], Any]:
    if merge_key is None:
        return lambda item: item

    def named(item: Any) -> Any:
        if not isinstance(item, dict) or merge_key not in item:
            raise _failure(f"map: {go_text(item)} does not contain declared merge key: {merge_key}")
        return item[merge_key]

    return named


def _hashable(value: Any) -> Any:
    return orjson.dumps(value) if isinstance(value, (dict, list)) else value


def _woven(merged: list[Any], order: list[Any], before: list[Any], merge_key: str | None) -> list[Any]:
    """Elements named in `order` in that order; the others in the order of `before`, each ahead of the first
    named element that it preceded there, as far as that keeps both orders."""
    identity = _identity(merge_key)
    wanted = _positions(order, identity)
    served = _positions(before, identity)
    named = sorted(
        (item for item in merged if _hashable(identity(item)) in wanted),
        key=lambda item: wanted[_hashable(identity(item))],
    )
    rest = sorted(
        (item for item in merged if _hashable(identity(item)) not in wanted),
        key=lambda item: served.get(_hashable(identity(item)), len(before)),
    )
    woven: list[Any] = []
    left = 0
    for item in named:
        place = served.get(_hashable(identity(item)))
        while place is not None and left < len(rest):
            other = served.get(_hashable(identity(rest[left])))
            if other is None or other >= place:
                break
            woven.append(rest[left])
            left += 1
        woven.append(item)
    return woven + rest[left:]


def _positions(items: list[Any], identity: Callable[[Any], Any]) -> dict[Any, int]:
    positions: dict[Any, int] = {}
    for index, item in enumerate(items):
        positions.setdefault(_hashable(identity(item)), index)
    return positions


_DROPPED: Final = object()
"""Stands for a value that was only a directive."""


def _plain(value: Any) -> Any:
    """A patch value taken as it is, without directives and nulls.

    What carries `$patch` where there is nothing to patch goes altogether, as in the real server: replacing
    the labels of an object that has none leaves it without labels.
    """
    if isinstance(value, dict):
        return _DROPPED if _PATCH in value else _plain_object(value)
    if isinstance(value, list):
        return [plain for item in value if (plain := _plain(item)) is not _DROPPED]
    return value


def _plain_object(value: Object) -> Object:
    return {
        key: plain
        for key, member in value.items()
        if member is not None
        and key not in (_PATCH, _RETAIN)
        and not key.startswith((_DELETE_LIST, _ORDER))
        and (plain := _plain(member)) is not _DROPPED
    }
