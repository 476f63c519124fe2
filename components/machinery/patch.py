"""JSON patch (RFC 6902) and JSON merge patch (RFC 7396), as the API server does them.

Why not the `jsonpatch` package: the real server's patch differs from the RFC where clients can see it.
`replace` of a missing map key adds it, `copy` of a missing one writes null, indices count from the end when
negative, the whole document cannot be addressed, and numbers compare as written. And each failure has its own
status: 400 for a patch that is not a list of operations, 413 for too many, 422 without causes for one that
does not apply.

Strategic merge patch is in `strategic_patch.py`.
"""

from typing import Any, Final

import orjson

from understudy.components.machinery.errors import ApiError, FieldError, Object, bad_request, invalid
from understudy.components.machinery.go_text import cannot_unmarshal, go_text
from understudy.components.machinery.strategic_patch import strategic_merge_patch

__all__ = [
    "MAX_COPIED_BYTES",
    "MAX_OPERATIONS",
    "invalid_patch",
    "json_patch",
    "merge_patch",
    "strategic_merge_patch",
]

MAX_OPERATIONS: Final = 10_000
"""Operations in one JSON patch; more are refused with 413."""
MAX_COPIED_BYTES: Final = 3 * 1024 * 1024
"""What the `copy` operations of one patch may add, as JSON: without it, a few dozen could fill the memory."""


class _DoesNotApply(Exception):
    pass


def json_patch(doc: Object, operations: Any) -> Object:
    """The document after a JSON patch; shares nothing with its arguments.

    `operations` is the decoded body. Raises ApiError 400 (not a list of operations), 413 (too many of them),
    422 (an operation that does not apply).
    """
    operations = [] if operations is None else operations
    if not isinstance(operations, list):
        raise bad_request(cannot_unmarshal(operations, "[]handlers.jsonPatchOp"))
    if len(operations) > MAX_OPERATIONS:
        message = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        raise ApiError(413, "RequestEntityTooLarge", f"Request entity too large: {message}")
    result: Object = _copied(doc)
    copied_bytes = 0
    for operation in operations:
        if not isinstance(operation, dict):
            raise bad_request(cannot_unmarshal(operation, "handlers.jsonPatchOp"))
        for name in ("op", "path", "from"):
            if operation.get(name) is not None and not isinstance(operation[name], str):
                raise bad_request(cannot_unmarshal(operation[name], "string"))
        try:
            copied_bytes += _perform(result, operation)
            if copied_bytes > MAX_COPIED_BYTES:
                raise _DoesNotApply
        except _DoesNotApply:
            raise ApiError(
                422, "Invalid", "the server rejected our request due to an error in our request", {}
            ) from None
    return result


def merge_patch(doc: Object, patch: Any) -> Object:
    """The document after a JSON merge patch; shares nothing with its arguments. Raises ApiError 400."""
    if not isinstance(patch, dict):
        raise bad_request(cannot_unmarshal(patch, "map[string]interface {}"))
    return _merged(_copied(doc), _copied(patch))


def invalid_patch(shown: Any, message: str) -> ApiError:
    """422 for a patch whose outcome is no object of the kind (`message` says why).

    `shown`: the patched document for JSON and merge patches, the patch itself for strategic ones.
    """
    text = shown if isinstance(shown, str) else go_text(shown)
    return invalid("", "", "", [FieldError("FieldValueInvalid", "patch", text, message)])


def _copied(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


def _merged(target: Object, patch: Object) -> Object:
    for key, change in patch.items():
        if change is None:
            target.pop(key, None)
        elif isinstance(change, dict) and isinstance(target.get(key), dict):
            target[key] = _merged(target[key], change)
        else:
            target[key] = _without_nulls(change)
    return target


def _without_nulls(value: Any) -> Any:
    """Null members go, also in lists of objects (where RFC 7396 would keep them; the server does not)."""
    if isinstance(value, dict):
        return {key: _without_nulls(member) for key, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _perform(doc: Object, operation: Object) -> int:
    """Does one operation; returns the bytes of JSON it copied."""
    copied = b""
    path = operation.get("path")
    if path is None:
        raise _DoesNotApply
    match operation.get("op"):
        case "add":
            container, key = _locate(doc, path)
            _add(container, key, _copied(operation.get("value")))
        case "remove":
            container, key = _locate(doc, path)
            _remove(container, key)
        case "replace":
            container, key = _locate(doc, path)
            if isinstance(container, list):
                container[_index(container, key)] = _copied(operation.get("value"))
            else:
                container[key] = _copied(operation.get("value"))
        case "move":
            container, key = _locate(doc, operation.get("from"))
            value = _get(container, key)
            _remove(container, key)
            container, key = _locate(doc, path)
            _add(container, key, value)
        case "copy":
            container, key = _locate(doc, operation.get("from"))
            copied = orjson.dumps(_get(container, key))
            container, key = _locate(doc, path)
            _add(container, key, orjson.loads(copied))
        case "test":
            container, key = _locate(doc, path)
            if not _same(_get(container, key), operation.get("value")):
                raise _DoesNotApply
        case _:
            raise _DoesNotApply
    return len(copied)


def _locate(doc: Object, pointer: str | None) -> tuple[Any, str]:
    """The container that a JSON pointer's last step is in, and that step."""
    if pointer is None:
        raise _DoesNotApply
    steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")]
    if len(steps) < 2:
        raise _DoesNotApply
    container: Any = doc
    for step in steps[1:-1]:
        container = _get(container, step)
        if not isinstance(container, (dict, list)):
            raise _DoesNotApply
    return container, steps[-1]


def _get(container: Any, key: str) -> Any:
    """The value there; None for a key that a map lacks."""
    return container[_index(container, key)] if isinstance(container, list) else container.get(key)


def _index(items: list[Any], key: str, extra: int = 0) -> int:
    """Position in a list of `extra` more places than it has items; negative counts from the end."""
    digits = key[1:] if key[:1] in ("+", "-") else key
    if not digits.isascii() or not digits.isdigit():
        raise _DoesNotApply
    index, size = int(key), len(items) + extra
    if not -size <= index < size:
        raise _DoesNotApply
    return index if index >= 0 else index + size


def _add(container: Any, key: str, value: Any) -> None:
    if not isinstance(container, list):
        container[key] = value
    elif key == "-":
        container.append(value)
    else:
        container.insert(_index(container, key, extra=1), value)


def _remove(container: Any, key: str) -> None:
    if isinstance(container, list):
        del container[_index(container, key)]
    elif key in container:
        del container[key]
    else:
        raise _DoesNotApply


def _same(left: Any, right: Any) -> bool:
    """Equality of JSON values as written: 1, 1.0 and true are three values."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return type(left) is type(right) and bool(left == right)
