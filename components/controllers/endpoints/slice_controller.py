"""The EndpointSlice controller."""

from typing import Any

from understudy.components.client import Change
from understudy.components.controllers.controller import is_namespace_terminating
from understudy.components.controllers.endpoints.selection import selector_of
from understudy.components.controllers.endpoints.slice_writer import SERVICE_INDEX, SliceWriter, by_service
from understudy.components.controllers.endpoints.slices import MANAGER, ZONE_LABEL, plan_slices
from understudy.components.controllers.endpoints.watching import ServiceWatcher
from understudy.components.controllers.expectations import EXPECTATIONS_TIMEOUT_SECONDS
from understudy.components.controllers.ownership import key_of, labels_of
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import ENDPOINT_SLICES, NODES

Object = dict[str, Any]


class EndpointSliceController(ServiceWatcher):
    """Keeps the EndpointSlices of every Service that has a selector."""

    name = "endpointslice-controller"
    component = "endpoint-slice-controller"

    @property
    def workers(self) -> int:
        return self.options.concurrent_service_endpoint_syncs

    def register(self) -> None:
        self.batch_period = self.options.endpointslice_updates_batch_period
        slices = self.informer(ENDPOINT_SLICES, {SERVICE_INDEX: by_service})
        self.writer = SliceWriter(self.client, slices, MANAGER)
        self.watch(ENDPOINT_SLICES, self._on_slice)
        self.nodes = self.watch(NODES, self._on_node)
        self.watch_services_and_pods()

    def _on_slice(self, change: Change) -> None:
        for key in self.writer.concerned(change):
            self.queue.add(key)

    def _on_node(self, change: Change) -> None:
        """A node that moves to another zone moves its endpoints."""
        if change.old is not None and change.new is not None and _zone(change.old) != _zone(change.new):
            for service in self.services.list():
                self.queue.add(key_of(service))

    async def sync(self, key: str) -> None:
        service = self.services.get(key)
        if service is None:
            self.writer.forget(key)
            return  # the slices go with their owner
        if not selector_of(service) or service["metadata"].get("deletionTimestamp"):
            return
        if not self.writer.settled(key):
            self.queue.add_after(
                key, EXPECTATIONS_TIMEOUT_SECONDS
            )  # the awaited event wakes this key earlier
            return
        existing, pods = self.writer.existing(key), self.selected_pods(service)
        plan = plan_slices(service, pods, self._zones(), existing, self.options.max_endpoints_per_slice)
        try:
            await self.writer.carry_out(key, plan)
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

    def _zones(self) -> dict[str, str]:
        return {node["metadata"]["name"]: zone for node in self.nodes.list() if (zone := _zone(node))}


def _zone(node: Object) -> str:
    return labels_of(node).get(ZONE_LABEL, "")
