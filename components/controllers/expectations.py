"""Expectations: what a controller has asked for and not yet seen in its cache.

Without them a controller that reads a cache behind its own writes would create or delete twice. Creations
are counted; deletions are remembered by key, since a deletion may be seen more than once.
"""

from collections.abc import Iterable

from attrs import define, field

EXPECTATIONS_TIMEOUT_SECONDS = 300.0
"""After so long the cache is believed again: an event was lost, or the write never happened."""


@define
class _Expectation:
    creations: int = 0
    deletions: set[str] = field(factory=set)
    since: float = 0.0


@define
class Expectations:
    """Pending creations and deletions by controller key."""

    _pending: dict[str, _Expectation] = field(factory=dict)

    def expect_creations(self, key: str, count: int, now: float) -> None:
        """`count` creations have been asked for at `now` (monotonic seconds)."""
        self._pending[key] = _Expectation(creations=count, since=now)

    def expect_deletions(self, key: str, keys: Iterable[str], now: float) -> None:
        """The deletion of these objects has been asked for at `now` (monotonic seconds)."""
        self._pending[key] = _Expectation(deletions=set(keys), since=now)

    def expect(self, key: str, creations: int, deletions: Iterable[str], now: float) -> None:
        """Both at once."""
        self._pending[key] = _Expectation(creations, set(deletions), now)

    def creation_observed(self, key: str, count: int = 1) -> None:
        """An expected object has appeared, or its creation failed."""
        pending = self._pending.get(key)
        if pending is not None:
            pending.creations = max(0, pending.creations - count)

    def deletion_observed(self, key: str, deleted: str) -> None:
        """An expected deletion has been seen, or failed; others are ignored."""
        pending = self._pending.get(key)
        if pending is not None:
            pending.deletions.discard(deleted)

    def satisfied(self, key: str, now: float) -> bool:
        """Whether the cache is as new as this controller's own writes, as far as it can be known."""
        pending = self._pending.get(key)
        if pending is None or (pending.creations == 0 and not pending.deletions):
            return True
        return now - pending.since > EXPECTATIONS_TIMEOUT_SECONDS

    def forget(self, key: str) -> None:
        """The controller object is gone."""
        self._pending.pop(key, None)
