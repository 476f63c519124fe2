"""Semantic equality of API objects: absent, null and empty are the same."""

from typing import Any


def _empty(value: Any) -> bool:
    """Null, an empty list, or a map with nothing but empty values."""
    if isinstance(value, dict):
        return all(map(_empty, value.values()))
    return value is None or (isinstance(value, list) and not value)


def semantically_equal(left: Any, right: Any) -> bool:
    """Whether two JSON values mean the same: a field that is null or an empty map or list is as if absent."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in left.keys() | right.keys():  # only membership matters here, not order
            one, other = left.get(key), right.get(key)
            if one is not other and not semantically_equal(one, other):
                return False
        return True
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(semantically_equal, left, right))
    if _empty(left) and _empty(right):
        return True
    return (type(left) is type(right) and bool(left == right)) or _same_number(left, right)


def _same_number(left: Any, right: Any) -> bool:
    numbers = (int, float)
    if isinstance(left, bool) or isinstance(right, bool):
        return False
    if isinstance(left, str) and isinstance(right, str):
        return left == right
    return isinstance(left, numbers) and isinstance(right, numbers) and left == right


def without_empty(value: Any) -> Any:
    """The value without null or empty fields: one form for all values that are semantically equal."""
    if isinstance(value, dict):
        kept = {key: without_empty(value[key]) for key in sorted(value)}
        return {key: item for key, item in kept.items() if not _empty(item)}
    if isinstance(value, list):
        return [without_empty(item) for item in value]
    return value
