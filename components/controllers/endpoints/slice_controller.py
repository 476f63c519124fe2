"""The EndpointSlice controller."""

from typing import Any

from understudy.components.client import Change
from understudy.components.controllers.controller import is_namespace_terminating
from understudy.components.controllers.endpoints.selection import selector_of
from understudy.components.controllers.endpoints.slices import (
    MANAGED_BY_LABEL,
    MANAGER,
    SERVICE_NAME_LABEL,
    ZONE_LABEL,
    plan_slices,
)
from understudy.components.controllers.endpoints.watching import ServiceWatcher
from understudy.components.controllers.expectations import EXPECTATIONS_TIMEOUT_SECONDS
from understudy.components.controllers.ownership import labels_of
from understudy.components.controllers.pending_writes import PendingWrites
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import ENDPOINT_SLICES, NODES

Object = dict[str, Any]

SERVICE_INDEX = "service"


def _by_service(piece: Object) -> list[str]:
    labels = labels_of(piece)
    if labels.get(MANAGED_BY_LABEL) != MANAGER or not labels.get(SERVICE_NAME_LABEL):
        return []
    return [f"{piece['metadata']['namespace']}/{labels[SERVICE_NAME_LABEL]}"]


class EndpointSliceController(ServiceWatcher):
    """Keeps the EndpointSlices of every Service that has a selector."""

    name = "endpointslice-controller"
    component = "endpoint-slice-controller"

    @property
    def workers(self) -> int:
        return self.options.concurrent_service_endpoint_syncs

    def register(self) -> None:
        self.batch_period = self.options.endpointslice_updates_batch_period
        self.pending = PendingWrites()
        self.slices = self.watch(ENDPOINT_SLICES, self._on_slice, {SERVICE_INDEX: _by_service})
        self.nodes = self.watch(NODES, self._on_node)
        self.watch_services_and_pods()

    def _on_slice(self, change: Change) -> None:
        for piece in (change.old, change.new):
            for key in _by_service(piece) if piece is not None else ():
                self.queue.add(key)
        if change.new is not None:
            for key in _by_service(change.new):
                metadata = change.new["metadata"]
                self.pending.seen(key, metadata["name"], metadata["resourceVersion"])
        elif change.old is not None:
            for key in _by_service(change.old):
                self.pending.gone(key, change.old["metadata"]["name"])

    def _on_node(self, change: Change) -> None:
        """A node that moves to another zone moves its endpoints."""
        if change.old is not None and change.new is not None and _zone(change.old) != _zone(change.new):
            for service in self.services.list():
                metadata = service["metadata"]
                self.queue.add(f"{metadata['namespace']}/{metadata['name']}")

    async def sync(self, key: str) -> None:
        service = self.services.get(key)
        if service is None:
            self.pending.forget(key)
            return  # the slices go with their owner
        if not selector_of(service) or service["metadata"].get("deletionTimestamp"):
            return
        existing = self.slices.by_index(SERVICE_INDEX, key)
        if not self.pending.settled(key, self.world.monotonic()):
            # Planning from a cache behind the own writes would double them; the cache's event wakes this key.
            self.queue.add_after(key, EXPECTATIONS_TIMEOUT_SECONDS)
            return
        existing = [piece for piece in existing if not piece["metadata"].get("deletionTimestamp")]
        pods = self.selected_pods(service)
        plan = plan_slices(service, pods, self._zones(), existing, self.options.max_endpoints_per_slice)
        try:
            for piece in plan.create:
                self._wrote(key, await self.client.create(ENDPOINT_SLICES, piece))
            for piece in plan.update:
                self._wrote(key, await self.client.update(ENDPOINT_SLICES, piece))
            for piece in plan.delete:
                await self._delete(piece)
        except ApiError as error:
            if is_namespace_terminating(error):
                return
            if error.code != 409:
                self.recorder.event(
                    service,
                    "Warning",
                    "FailedToUpdateEndpointSlices",
                    f"Error updating Endpoint Slices for Service {key}: {error.message}",
                )
            raise

    def _wrote(self, key: str, piece: Object) -> None:
        metadata = piece["metadata"]
        cached = self.slices.get(f"{metadata['namespace']}/{metadata['name']}")
        self.pending.wrote(key, metadata["name"], metadata["resourceVersion"], self.world.monotonic())
        if cached is not None:  # the event may have overtaken the answer
            self.pending.seen(key, metadata["name"], cached["metadata"]["resourceVersion"])

    async def _delete(self, piece: Object) -> None:
        metadata = piece["metadata"]
        try:
            await self.client.delete(
                ENDPOINT_SLICES, metadata["name"], metadata["namespace"], uid=metadata["uid"]
            )
        except ApiError as error:
            if error.code != 404:
                raise

    def _zones(self) -> dict[str, str]:
        return {node["metadata"]["name"]: zone for node in self.nodes.list() if (zone := _zone(node))}


def _zone(node: Object) -> str:
    return labels_of(node).get(ZONE_LABEL, "")
