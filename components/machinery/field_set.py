"""Sets of field paths, in the form that `managedFields[].fieldsV1` has.

A set is a tree of dicts. A key is one step of a path: `f:NAME` a field or map key, `k:{"name":"c"}` an
element of a list by its keys, `v:"x"` an element of a set by its value. An empty dict is a path in the set;
a dict with `"."` is a path in the set that others in the set go through; any other dict only leads to
longer paths. So a set is read from and written to an object as it stands. Operations share structure and
never change their arguments.

Semantics: fieldpath.Set of structured-merge-diff.
"""

from collections.abc import Iterator
from typing import Any, Final

import orjson

FieldSet = dict[str, Any]

SELF: Final = "."
_MEMBER: Final[FieldSet] = {}


def has(node: FieldSet) -> bool:
    """Is the path that leads to this node itself in the set?"""
    return not node or SELF in node


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    """The paths in either."""
    if not right:
        return left
    if not left:
        return right
    result = dict(left)
    for step, theirs in right.items():
        if step == SELF:
            continue
        ours = result.get(step)
        if ours is None:
            result[step] = theirs
        elif ours is not theirs:
            result[step] = _node(has(ours) or has(theirs), union(_inner(ours), _inner(theirs)))
    return result


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    """The paths in both."""
    result: FieldSet = {}
    for step, ours in left.items():
        theirs = right.get(step)
        if theirs is None or step == SELF:
            continue
        inner = intersection(_inner(ours), _inner(theirs))
        member = has(ours) and has(theirs)
        if member or inner:
            result[step] = _node(member, inner)
    return result


def difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """The paths in `left` that are not in `right`; longer paths stay."""
    if not right:
        return left
    result: FieldSet = {}
    for step, ours in left.items():
        if step == SELF:
            continue
        theirs = right.get(step)
        if theirs is None:
            result[step] = ours
            continue
        inner = difference(_inner(ours), _inner(theirs))
        member = has(ours) and not has(theirs)
        if member or inner:
            result[step] = _node(member, inner)
    return result


def recursive_difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """The paths in `left` that are neither in `right` nor below a path in `right`."""
    if not right:
        return left
    result: FieldSet = {}
    for step, ours in left.items():
        if step == SELF:
            continue
        theirs = right.get(step)
        if theirs is None:
            result[step] = ours
        elif not has(theirs):
            inner = recursive_difference(_inner(ours), theirs)
            member = has(ours)
            if member or inner:
                result[step] = _node(member, inner)
    return result


def paths(tree: FieldSet, prefix: str = "") -> Iterator[str]:
    """Every path as the server writes it in a conflict: `.spec.containers[name="c"].image`."""
    for step in sorted(tree):
        if step == SELF:
            continue
        path = prefix + _written(step)
        if has(tree[step]):
            yield path
        yield from paths(tree[step], path)


def of_paths(*dotted: str) -> FieldSet:
    """A set of plain fields, each named by its dotted path: `of_paths("status", "metadata.labels")`."""
    result: FieldSet = {}
    for path in dotted:
        node: FieldSet = {}
        for step in reversed(path.split(".")):
            node = {f"f:{step}": node}
        result = union(result, node)
    return result


def _written(step: str) -> str:
    kind, text = step[0], step[2:]
    if kind == "f":
        return f".{text}"
    if kind == "k":
        keys = orjson.loads(text)
        return "[" + ",".join(f"{key}={orjson.dumps(keys[key]).decode()}" for key in sorted(keys)) + "]"
    return f"[={text}]" if kind == "v" else f"[{text}]"


def _inner(node: FieldSet) -> FieldSet:
    """The node without the mark that its own path is in the set."""
    if SELF in node:
        return {step: child for step, child in node.items() if step != SELF}
    return node


def _node(member: bool, inner: FieldSet) -> FieldSet:
    if member and inner:
        return {SELF: _MEMBER, **inner}
    return inner
