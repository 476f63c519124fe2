"""Fields that most of their owners never use: made at the first use.

There may be very many actors, and a dozen empty dicts and lists are an eighth of an idle one. (`__getattr__`
would do the same, and make every other attribute of the class slow.)
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class WhenNeeded(Generic[T]):
    """A field of a slotted class that has a slot `made: dict[str, Any] | None`, None at first."""

    def __init__(self, factory: Callable[[], T]) -> None:
        self._factory = factory
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> T:
        made = instance.made
        if made is None:
            made = instance.made = {}
        try:
            value: T = made[self._name]
        except KeyError:
            value = made[self._name] = self._factory()
        return value

    def __set__(self, instance: Any, value: T) -> None:
        if instance.made is None:
            instance.made = {}
        instance.made[self._name] = value
