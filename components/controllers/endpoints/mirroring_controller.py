"""The EndpointSlice mirroring controller."""

from typing import Any

from understudy.components.client import Change
from understudy.components.controllers.controller import Controller, is_namespace_terminating
from understudy.components.controllers.endpoints.mirroring import MANAGER, is_mirrored, plan_mirror
from understudy.components.controllers.endpoints.packing import SlicePlan
from understudy.components.controllers.endpoints.slice_writer import SERVICE_INDEX, SliceWriter, by_service
from understudy.components.controllers.expectations import EXPECTATIONS_TIMEOUT_SECONDS
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import ENDPOINT_SLICES, ENDPOINTS, SERVICES

Object = dict[str, Any]


class EndpointSliceMirroringController(Controller):
    """Mirrors Endpoints of Services without a selector, so that whoever reads slices alone sees them."""

    name = "endpointslice-mirroring-controller"
    component = "endpoint-slice-mirroring-controller"

    @property
    def workers(self) -> int:
        return self.options.mirroring_concurrent_service_endpoint_syncs

    def register(self) -> None:
        slices = self.informer(ENDPOINT_SLICES, {SERVICE_INDEX: by_service})
        self.writer = SliceWriter(self.client, slices, MANAGER)
        self.watch(ENDPOINT_SLICES, self._on_slice)
        self.endpoints = self.watch(ENDPOINTS, self.enqueue)
        self.services = self.watch(SERVICES, self.enqueue)

    def _on_slice(self, change: Change) -> None:
        for key in self.writer.concerned(change):
            self.queue.add(key)

    async def sync(self, key: str) -> None:
        endpoints = self.endpoints.get(key)
        if not self.writer.settled(key):
            self.queue.add_after(
                key, EXPECTATIONS_TIMEOUT_SECONDS
            )  # the awaited event wakes this key earlier
            return
        existing = self.writer.existing(key)
        if endpoints is None:
            self.writer.forget(key)
            return  # the slices go with their owner
        if is_mirrored(endpoints, self.services.get(key)):
            capacity = self.options.mirroring_max_endpoints_per_subset
            plan = plan_mirror(endpoints, existing, capacity)
        else:
            plan = SlicePlan(delete=tuple(existing))
        try:
            await self.writer.carry_out(key, plan)
        except ApiError as error:
            if not is_namespace_terminating(error):
                raise
