"""The root CA publisher: the certificates that pods verify the API server with, in every namespace."""

from typing import Any

from understudy.components.client import Change, mutable
from understudy.components.controllers.controller import Controller, is_namespace_terminating
from understudy.components.controllers.ownership import split_key
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import CONFIG_MAPS, NAMESPACES

Object = dict[str, Any]

CONFIG_MAP = "kube-root-ca.crt"
DESCRIPTION_ANNOTATION = "kubernetes.io/description"
DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as"
    " the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions"
    " of Kubernetes clusters."
)


class RootCaPublisher(Controller):
    """Works off namespaces; does nothing when the options name no certificates."""

    name = "root-ca-certificate-publisher-controller"

    @property
    def workers(self) -> int:
        return 5

    def register(self) -> None:
        if not self.options.root_ca:
            return
        self.namespaces = self.watch(NAMESPACES, self.enqueue)
        self.config_maps = self.watch(CONFIG_MAPS, self._on_config_map)

    def _on_config_map(self, change: Change) -> None:
        namespace, name = split_key(change.key)
        if name == CONFIG_MAP and change.type != "ADDED":
            self.queue.add(namespace)

    async def sync(self, key: str) -> None:
        namespace = self.namespaces.get(key)
        if namespace is None or namespace["metadata"].get("deletionTimestamp"):
            return
        data = {"ca.crt": self.options.root_ca}
        existing = self.config_maps.get(f"{key}/{CONFIG_MAP}")
        if existing is None:
            await self._create(key, data)
            return
        annotations = existing["metadata"].get("annotations") or {}
        if existing.get("data") == data and annotations.get(DESCRIPTION_ANNOTATION):
            return
        changed = mutable(existing)
        changed["data"] = data
        changed["metadata"].setdefault("annotations", {})[DESCRIPTION_ANNOTATION] = DESCRIPTION
        await self.client.update(CONFIG_MAPS, changed)

    async def _create(self, namespace: str, data: dict[str, str]) -> None:
        config_map = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": CONFIG_MAP,
                "namespace": namespace,
                "annotations": {DESCRIPTION_ANNOTATION: DESCRIPTION},
            },
            "data": data,
        }
        try:
            await self.client.create(CONFIG_MAPS, config_map)
        except ApiError as error:
            if error.reason != "AlreadyExists" and not is_namespace_terminating(error):
                raise
