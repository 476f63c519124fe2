"""Conflation: what a writer keeps while its reader is behind, of each key the newest item only.

Each key keeps the place of its first unsent item, so that a key that changes all the time does not hold up
the others and is not held up by them. Nothing that was sent is changed. The number of keys is bounded; the
reader sees each key's newest value, and not how often it changed before.
"""

from collections.abc import Hashable
from typing import Any

from attrs import define, field

CONFLATED_KEYS_MAX = 1024
"""How many keys may wait for credit unless told otherwise."""


@define
class Conflation:
    """The unsent items of one writer."""

    conflated: int = field(default=0, init=False)
    """Items that were replaced before they were sent."""
    _items: dict[Hashable, Any] = field(factory=dict, init=False)
    """In order of the keys' first unsent items."""

    def __len__(self) -> int:
        return len(self._items)

    def put(self, key: Hashable, item: Any, keys_max: int) -> bool:
        """Keep the item, in place of the one with the same key; False: it is new, and there is no room."""
        if key in self._items:
            self.conflated += 1
        elif len(self._items) >= keys_max:
            return False
        self._items[key] = item
        return True

    def pop(self) -> Any:
        """Take out the item that is to be sent next."""
        return self._items.pop(next(iter(self._items)))

    def clear(self) -> None:
        """Nothing of it will be sent."""
        self._items.clear()
