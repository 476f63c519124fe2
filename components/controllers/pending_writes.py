"""Own writes that the cache has not shown yet, for controllers that plan from several cached objects."""

from attrs import define, field, frozen

from understudy.components.controllers.expectations import EXPECTATIONS_TIMEOUT_SECONDS


@frozen
class _Write:
    version: int
    since: float


@define
class PendingWrites:
    """By group (what a sync plans for) and name: the resourceVersion that the cache must reach.

    resourceVersions of one resource compare as integers (API concepts, "Resource versions", from 1.35 on).
    """

    _writes: dict[str, dict[str, _Write]] = field(factory=dict)

    def wrote(self, group: str, name: str, resource_version: str, now: float) -> None:
        """The server answered a write with this resourceVersion, at `now` (monotonic seconds)."""
        self._writes.setdefault(group, {})[name] = _Write(int(resource_version), now)

    def seen(self, group: str, name: str, resource_version: str) -> None:
        """The cache has shown the object at this resourceVersion."""
        write = self._writes.get(group, {}).get(name)
        if write is not None and int(resource_version) >= write.version:
            self.gone(group, name)

    def gone(self, group: str, name: str) -> None:
        """The object was deleted: nothing of it is awaited any more."""
        pending = self._writes.get(group)
        if pending is not None:
            pending.pop(name, None)
            if not pending:
                del self._writes[group]

    def settled(self, group: str, now: float) -> bool:
        """Whether the cache shows all own writes; after a time-out it is believed anyhow."""
        pending = self._writes.get(group, {})
        return all(now - write.since > EXPECTATIONS_TIMEOUT_SECONDS for write in pending.values())

    def forget(self, group: str) -> None:
        """The group is gone."""
        self._writes.pop(group, None)
