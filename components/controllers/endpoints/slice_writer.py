"""Carrying out slice plans, and knowing which of the own writes the cache has shown."""

from typing import Any

from attrs import define, field

from understudy.components.client import Change, Client, Informer
from understudy.components.controllers.endpoints.packing import SlicePlan
from understudy.components.controllers.endpoints.slices import MANAGED_BY_LABEL, SERVICE_NAME_LABEL
from understudy.components.controllers.ownership import labels_of
from understudy.components.controllers.pending_writes import PendingWrites
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import ENDPOINT_SLICES

Object = dict[str, Any]

SERVICE_INDEX = "service"


def by_service(piece: Object) -> list[str]:
    """Index function: the manager and the key of the Service that a slice is for."""
    labels = labels_of(piece)
    name, manager = labels.get(SERVICE_NAME_LABEL), labels.get(MANAGED_BY_LABEL)
    return [f"{manager} {piece['metadata']['namespace']}/{name}"] if name and manager else []


@define
class SliceWriter:
    """The slices that one manager keeps, by the key of their Service."""

    client: Client
    slices: Informer
    manager: str
    _pending: PendingWrites = field(factory=PendingWrites)

    def existing(self, key: str) -> list[Object]:
        """The manager's slices of a Service that are not being deleted."""
        found = self.slices.by_index(SERVICE_INDEX, f"{self.manager} {key}")
        return [piece for piece in found if not piece["metadata"].get("deletionTimestamp")]

    def concerned(self, change: Change) -> list[str]:
        """The keys that a change of a slice concerns; notes what the cache has shown."""
        keys: dict[str, None] = {}
        for piece in (change.old, change.new):
            for value in by_service(piece) if piece is not None else ():
                manager, _, key = value.partition(" ")
                if manager == self.manager:
                    keys[key] = None
        for key in keys:
            if change.new is not None:
                metadata = change.new["metadata"]
                self._pending.seen(key, metadata["name"], metadata["resourceVersion"])
            elif change.old is not None:
                self._pending.gone(key, change.old["metadata"]["name"])
        return list(keys)

    def settled(self, key: str) -> bool:
        """Whether the cache shows all own writes: planning from an older one would double them."""
        return self._pending.settled(key, self.client.world.monotonic())

    def forget(self, key: str) -> None:
        """The Service is gone."""
        self._pending.forget(key)

    async def carry_out(self, key: str, plan: SlicePlan) -> None:
        """Write what the plan says. Raises ApiError."""
        for piece in plan.create:
            self._wrote(key, await self.client.create(ENDPOINT_SLICES, piece))
        for piece in plan.update:
            self._wrote(key, await self.client.update(ENDPOINT_SLICES, piece))
        for piece in plan.delete:
            await self._delete(piece)

    def _wrote(self, key: str, piece: Object) -> None:
        metadata = piece["metadata"]
        cached = self.slices.get(f"{metadata['namespace']}/{metadata['name']}")
        now = self.client.world.monotonic()
        self._pending.wrote(key, metadata["name"], metadata["resourceVersion"], now)
        if cached is not None:  # the event may have overtaken the answer
            self._pending.seen(key, metadata["name"], cached["metadata"]["resourceVersion"])

    async def _delete(self, piece: Object) -> None:
        metadata = piece["metadata"]
        try:
            await self.client.delete(
                ENDPOINT_SLICES, metadata["name"], metadata["namespace"], uid=metadata["uid"]
            )
        except ApiError as error:
            if error.code != 404:
                raise
