"""Plugins about storage: the default class, protection of volumes in use, growth of claims.

Source: Kubernetes documentation, "Storage Classes" and "Persistent Volumes".
"""

from understudy.components.apiserver.admission import Attributes
from understudy.components.apiserver.cacher import Interest
from understudy.components.apiserver.registry import Registry
from understudy.components.machinery.api import Object
from understudy.components.machinery.quantity import parse
from understudy.components.machinery.resources import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    STORAGE_CLASSES,
    VOLUME_ATTRIBUTES_CLASSES,
    Resource,
)

from .plugin import AdmissionPlugin, refusal

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_BETA_DEFAULT_CLASS = "storageclass.beta.kubernetes.io/is-default-class"
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_FINALIZERS = {
    PERSISTENT_VOLUME_CLAIMS.plural: "kubernetes.io/pvc-protection",
    PERSISTENT_VOLUMES.plural: "kubernetes.io/pv-protection",
    VOLUME_ATTRIBUTES_CLASSES.plural: "kubernetes.io/vac-protection",
}


class DefaultStorageClass(AdmissionPlugin):
    """A claim that names no class gets the default one."""

    async def admit(self, attributes: Attributes, registry: Registry) -> None:
        if attributes.resource is not PERSISTENT_VOLUME_CLAIMS or attributes.operation != "CREATE":
            return
        claim = attributes.obj
        if attributes.subresource or claim is None:
            return
        if "storageClassName" in claim["spec"]:
            return
        if _BETA_CLASS in (claim["metadata"].get("annotations") or {}):
            return
        chosen = newest_default(registry, STORAGE_CLASSES, (DEFAULT_CLASS, _BETA_DEFAULT_CLASS))
        if chosen is not None:
            claim["spec"]["storageClassName"] = chosen["metadata"]["name"]


def newest_default(registry: Registry, resource: Resource, annotations: tuple[str, ...]) -> Object | None:
    """The newest object that an annotation marks as the default, by name where two are as new."""
    marked = []
    for entry in registry.cache(resource).list(Interest()):
        obj = entry.parse()
        found = obj["metadata"].get("annotations") or {}
        if any(found.get(annotation) == "true" for annotation in annotations):
            marked.append(obj)
    if not marked:
        return None
    newest = max(obj["metadata"]["creationTimestamp"] for obj in marked)
    as_new = [obj for obj in marked if obj["metadata"]["creationTimestamp"] == newest]
    return min(as_new, key=lambda obj: str(obj["metadata"]["name"]))


class StorageObjectInUseProtection(AdmissionPlugin):
    """Volumes and claims wait with their end until nobody uses them."""

    async def admit(self, attributes: Attributes, registry: Registry) -> None:
        finalizer = _FINALIZERS.get(attributes.resource.plural)
        if finalizer is None or attributes.operation != "CREATE" or attributes.subresource:
            return
        assert attributes.obj is not None
        metadata = attributes.obj["metadata"]
        finalizers = metadata.get("finalizers") or []
        if finalizer not in finalizers:
            metadata["finalizers"] = [*finalizers, finalizer]


class PersistentVolumeClaimResize(AdmissionPlugin):
    """A bound claim grows only where its class says that volumes can."""

    async def validate(self, attributes: Attributes, registry: Registry) -> None:
        new, old = attributes.obj, attributes.old
        if attributes.resource is not PERSISTENT_VOLUME_CLAIMS or attributes.operation != "UPDATE":
            return
        if attributes.subresource or new is None or old is None:
            return
        wanted, had = _requested(new), _requested(old)
        if wanted is None or (had is not None and parse(wanted) <= parse(had)):
            return
        if (old.get("status") or {}).get("phase") != "Bound":
            raise refusal(attributes, "Only bound persistent volume claims can be expanded")
        name = new["spec"].get("storageClassName") or ""
        entry = registry.cache(STORAGE_CLASSES).get("", name)
        if entry is None or not entry.parse().get("allowVolumeExpansion"):
            raise refusal(
                attributes,
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc"
                " must support resize",
            )


def _requested(claim: Object) -> str | None:
    requests = (claim["spec"].get("resources") or {}).get("requests") or {}
    return requests.get("storage")
