"""The namespace controller."""

from typing import Any

import orjson

from understudy.components.client import Change, mutable
from understudy.components.client.client import error_from, resource_path
from understudy.components.controllers.controller import Controller
from understudy.components.controllers.equality import semantically_equal
from understudy.components.controllers.namespaces.deletion import (
    KUBERNETES_FINALIZER,
    Remains,
    deletion_conditions,
)
from understudy.components.controllers.ownership import NAMESPACE_INDEX, by_namespace
from understudy.components.controllers.served import served_resources
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    NAMESPACES,
    PODS,
    Resource,
)

Object = dict[str, Any]

FINALIZER_POLL_SECONDS = 15.0
"""How often a namespace is looked at again that waits for finalizers of others."""


class NamespaceController(Controller):
    """Deletes everything in a terminating namespace, pods first, then removes its finalizer."""

    name = "namespace-controller"

    @property
    def workers(self) -> int:
        return self.options.concurrent_namespace_syncs

    def register(self) -> None:
        self.namespaces = self.watch(NAMESPACES, self._on_namespace)
        self.definitions = self.informer(CUSTOM_RESOURCE_DEFINITIONS)
        self.pods = self.watch(PODS, self._on_pod, {NAMESPACE_INDEX: by_namespace})

    def _on_namespace(self, change: Change) -> None:
        if change.new is not None and change.new["metadata"].get("deletionTimestamp"):
            self.queue.add(change.key)

    def _on_pod(self, change: Change) -> None:
        """The last pod of a terminating namespace is gone: go on at once, not at the next poll."""
        if change.type != "DELETED" or change.old is None:
            return
        name = change.old["metadata"]["namespace"]
        namespace = self.namespaces.get(name)
        if namespace is None or not namespace["metadata"].get("deletionTimestamp"):
            return
        if not self.pods.by_index(NAMESPACE_INDEX, name):
            self.queue.add(name)

    async def sync(self, key: str) -> None:
        cached = self.namespaces.get(key)
        if cached is None or not cached["metadata"].get("deletionTimestamp"):
            return
        if KUBERNETES_FINALIZER not in ((cached.get("spec") or {}).get("finalizers") or ()):
            return
        namespace = mutable(cached)
        if (namespace.get("status") or {}).get("phase") != "Terminating":
            status = {**(namespace.get("status") or {}), "phase": "Terminating"}
            namespace = await self.client.update_status(NAMESPACES, {**namespace, "status": status})
        remains = await self._empty(key)
        if not remains.empty or (namespace.get("status") or {}).get("conditions"):
            namespace = await self._tell(namespace, remains)
        if remains.errors:
            raise ApiError(500, "InternalError", "; ".join(remains.errors))
        if remains.counts:
            # Pods end by themselves within their grace period; a finalizer may take for ever.
            wait = remains.grace_seconds / 2 + 1 if remains.grace_seconds else FINALIZER_POLL_SECONDS
            self.queue.add_after(key, min(wait, FINALIZER_POLL_SECONDS))
            return
        await self._finalize(namespace)

    async def _empty(self, name: str) -> Remains:
        """Delete what there is; pods go first, since what they need must not vanish under them."""
        remains = Remains()
        await self._delete_all(PODS, name, remains)
        if not remains.empty:
            return remains
        for resource in served_resources(self.definitions.list()):
            if resource.namespaced and resource != PODS:
                await self._delete_all(resource, name, remains)
        return remains

    async def _delete_all(self, resource: Resource, namespace: str, remains: Remains) -> None:
        try:
            found = (await self.client.list(resource, namespace)).items
            if not found:
                return
            if "deletecollection" in resource.verbs:
                await self.client.delete_collection(resource, namespace)
            else:
                for obj in found:
                    await self._delete_one(resource, obj, namespace)
            remains.add(resource, (await self.client.list(resource, namespace)).items)
        except ApiError as error:
            if error.code in (404, 405):
                return  # not served (any more)
            remains.errors.append(f"{resource.group_resource}: {error.message}")

    async def _delete_one(self, resource: Resource, obj: Object, namespace: str) -> None:
        try:
            await self.client.delete(resource, obj["metadata"]["name"], namespace)
        except ApiError as error:
            if error.code != 404:
                raise

    async def _tell(self, namespace: Object, remains: Remains) -> Object:
        old = (namespace.get("status") or {}).get("conditions")
        conditions = deletion_conditions(old, remains, self.world.now_text())
        if semantically_equal(old, conditions):
            return namespace
        status = {**(namespace.get("status") or {}), "conditions": conditions}
        return await self.client.update_status(NAMESPACES, {**namespace, "status": status})

    async def _finalize(self, namespace: Object) -> None:
        finalizers = [f for f in namespace["spec"]["finalizers"] if f != KUBERNETES_FINALIZER]
        body = {**namespace, "spec": {**namespace["spec"], "finalizers": finalizers}}
        path = resource_path(NAMESPACES, "", namespace["metadata"]["name"], "finalize")
        headers = (("accept", "application/json"), ("content-type", "application/json"))
        response = await self.client.request("PUT", path, (), orjson.dumps(body), headers)
        if response.status >= 400 and response.status != 404:
            raise error_from(response)
