"""The Endpoints controller."""

from typing import Any

from understudy.components.client import Change
from understudy.components.controllers.endpoints.selection import selector_of
from understudy.components.controllers.endpoints.subsets import (
    MANAGED_BY_LABEL,
    MANAGER,
    endpoints_differ,
    endpoints_for,
)
from understudy.components.controllers.endpoints.watching import ServiceWatcher
from understudy.components.controllers.ownership import labels_of, split_key
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import ENDPOINTS

Object = dict[str, Any]


class EndpointsController(ServiceWatcher):
    """Keeps the Endpoints of every Service that has a selector."""

    name = "endpoints-controller"
    component = "endpoint-controller"

    @property
    def workers(self) -> int:
        return self.options.concurrent_endpoint_syncs

    def register(self) -> None:
        self.batch_period = self.options.endpoint_updates_batch_period
        self.endpoints = self.watch(ENDPOINTS, self._on_endpoints)
        self.watch_services_and_pods()

    def _on_endpoints(self, change: Change) -> None:
        """Only what nobody should have done: somebody deleted or changed what this controller manages."""
        obj = change.new or change.old
        assert obj is not None
        if labels_of(obj).get(MANAGED_BY_LABEL) == MANAGER or change.type == "DELETED":
            self.queue.add(change.key)

    async def sync(self, key: str) -> None:
        namespace, name = split_key(key)
        service = self.services.get(key)
        existing = self.endpoints.get(key)
        if service is None:
            if existing is not None and labels_of(existing).get(MANAGED_BY_LABEL) == MANAGER:
                await self._delete(name, namespace, existing)
            return
        if not selector_of(service) or service["metadata"].get("deletionTimestamp"):
            return
        wanted = endpoints_for(service, self.selected_pods(service), existing)
        if existing is not None and not endpoints_differ(existing, wanted):
            return
        try:
            if existing is None:
                await self.client.create(ENDPOINTS, wanted)
            else:
                await self.client.update(ENDPOINTS, wanted)
        except ApiError as error:
            if existing is None and error.code == 403:
                return  # the namespace is terminating, or creation is forbidden: nothing to repair here
            verb, reason = (
                ("create", "FailedToCreateEndpoint")
                if existing is None
                else ("update", "FailedToUpdateEndpoint")
            )
            if error.code != 409:
                self.recorder.event(
                    {"apiVersion": "v1", "kind": "Endpoints", **wanted},
                    "Warning",
                    reason,
                    f"Failed to {verb} endpoint {key}: {error.message}",
                )
            raise

    async def _delete(self, name: str, namespace: str, existing: Object) -> None:
        try:
            await self.client.delete(ENDPOINTS, name, namespace, uid=existing["metadata"]["uid"])
        except ApiError as error:
            if error.code not in (404, 409):
                raise
