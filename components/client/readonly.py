"""Objects that cannot be changed: what informer caches hand out."""

from copy import deepcopy
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class ReadOnlyError(TypeError):
    """A cached object was about to be changed: take `mutable(obj)` first."""


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise ReadOnlyError("this object is shared by everybody who reads the cache: change mutable(obj) instead")


class ReadOnlyDict(dict[str, Any]):
    """A dict that raises on every change."""

    __slots__ = ()
    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _refuse

    def __deepcopy__(self, memo: Any) -> dict[str, Any]:
        return {key: deepcopy(value) for key, value in self.items()}


class ReadOnlyList(list[Any]):
    """A list that raises on every change."""

    __slots__ = ()
    __setitem__ = __delitem__ = append = clear = extend = insert = pop = remove = _refuse
    reverse = sort = __iadd__ = __imul__ = _refuse

    def __deepcopy__(self, memo: Any) -> list[Any]:
        return [deepcopy(value) for value in self]


def read_only(value: T) -> T:
    """A read-only copy of plain JSON values."""
    if isinstance(value, dict):
        return ReadOnlyDict({key: read_only(item) for key, item in value.items()})  # type: ignore[return-value]
    if isinstance(value, list):
        return ReadOnlyList([read_only(item) for item in value])  # type: ignore[return-value]
    return value


def mutable(value: T) -> T:
    """A plain copy, free to be changed."""
    if isinstance(value, dict):
        return {key: mutable(item) for key, item in value.items()}  # type: ignore[return-value]
    if isinstance(value, list):
        return [mutable(item) for item in value]  # type: ignore[return-value]
    return value
