"""What happens to an object of each kind on its way into the store.

A strategy says how a kind's objects are prepared for create, update and updates through subresources (the
status, which fields belong to whom, when the generation grows), and which ways of writing and deleting the
kind allows. The table `_STRATEGIES` is the whole difference between kinds; what is special stands in
`preparation`. The order of a write is: decode, `apply_defaults`, mutating admission, field management
(managed fields describe what the caller sent), `prepare_for_*`, validation, store.

All `prepare_for_*` functions change `new` in place and may put parts of `old` into it.
"""

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from understudy.components.machinery import preparation
from understudy.components.machinery.defaults import zero_status
from understudy.components.machinery.preparation import OnCreate, OnUpdate, Writer
from understudy.components.machinery.resources import Resource

Object = dict[str, Any]
Path = tuple[str, ...]

SPEC: Path = ("spec",)
STATUS: Path = ("status",)


@frozen
class Strategy:
    """How objects of one kind are written and deleted."""

    api_version: str = ""
    kind: str = ""
    namespaced: bool = True
    has_status: bool = False
    """The status is written through its own subresource only, and starts empty."""
    generation: tuple[Path, ...] = ()
    """What, when changed, makes the generation grow; empty when the API server keeps no generation."""
    allow_create_on_update: bool = False
    """A PUT to a name that does not exist creates the object."""
    allow_unconditional_update: bool = True
    """A PUT without resourceVersion replaces whatever is there."""
    graceful_deletion: bool = False
    """A deletion first marks the object and waits for its grace period (pods)."""
    returns_deleted_object: bool = False
    """A DELETE that took effect at once answers with the object, else with a Status."""
    default_propagation: str = "Background"
    """What happens to dependents when the caller does not say: Background or Orphan."""
    on_create: OnCreate | None = None
    on_update: OnUpdate | None = None
    on_subresource: Mapping[str, OnUpdate] = field(factory=dict)
    status_also_keeps: tuple[Path, ...] = ()
    """What a status update leaves as it was, besides the spec."""

    def prepare_for_create(self, obj: Object, writer: Writer = preparation.NOBODY) -> None:
        """Make a defaulted object ready to be created; `metadata.uid` and the name must be set before."""
        metadata = obj["metadata"]
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            metadata.pop(name, None)
        if self.generation:
            metadata["generation"] = 1
        if self.has_status:
            obj["status"] = zero_status(self.api_version, self.kind) or {}
        if self.on_create is not None:
            self.on_create(obj, writer)

    def prepare_for_update(self, new: Object, old: Object, writer: Writer = preparation.NOBODY) -> None:
        """Make a defaulted object ready to replace the stored one."""
        _keep_metadata(new, old)
        if self.has_status:
            preparation.keep(new, old, STATUS)
        if self.on_update is not None:
            self.on_update(new, old, writer)
        if any(_changed(new, old, path) for path in self.generation):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    def prepare_for_status_update(
        self, new: Object, old: Object, writer: Writer = preparation.NOBODY
    ) -> None:
        """Make an object ready whose status alone is to be stored."""
        self.prepare_for_subresource_update("status", new, old, writer)

    def prepare_for_subresource_update(
        self, subresource: str, new: Object, old: Object, writer: Writer = preparation.NOBODY
    ) -> None:
        """Make an object ready that was written through `status`, `finalize`, `approval`,
        `ephemeralcontainers` or `resize`: only that subresource's part of it changes."""
        _keep_metadata(new, old)
        special = self.on_subresource.get(subresource)
        if subresource == "status":
            for path in (SPEC, *self.status_also_keeps):
                preparation.keep(new, old, path)
        if special is not None:
            special(new, old, writer)
        if subresource != "status" and any(_changed(new, old, path) for path in self.generation):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    def reset_fields(self, subresource: str = "") -> tuple[Path, ...]:
        """What a write through that path cannot set, so that it owns none of it either."""
        if subresource == "status":
            return (SPEC, *self.status_also_keeps)
        if subresource:
            return ()
        return (STATUS,) if self.has_status else ()

    def grace_period(self, obj: Object, asked: int | None) -> int | None:
        """Seconds that a deletion of the object waits; None when the kind does not wait.

        `asked` is the caller's wish. A pod that runs nowhere or is done has nothing to wait for.
        """
        if not self.graceful_deletion:
            return None
        spec, phase = obj["spec"], obj.get("status", {}).get("phase")
        period = asked if asked is not None else spec.get("terminationGracePeriodSeconds", 30)
        if not spec.get("nodeName") or phase in ("Failed", "Succeeded"):
            period = 0
        return period if period >= 0 else 1


def _keep_metadata(new: Object, old: Object) -> None:
    """Server-owned metadata is as it was, whatever the caller sent."""
    metadata, before = new["metadata"], old["metadata"]
    metadata.pop("selfLink", None)
    for name in ("generation", "creationTimestamp"):
        if name in before:
            metadata[name] = before[name]
        else:
            metadata.pop(name, None)
    if not metadata.get("uid") and "uid" in before:
        metadata["uid"] = before["uid"]
    if before.get("deletionTimestamp"):
        metadata["deletionTimestamp"] = before["deletionTimestamp"]
    if before.get("deletionGracePeriodSeconds") is not None:
        metadata.setdefault("deletionGracePeriodSeconds", before["deletionGracePeriodSeconds"])


def _changed(new: Object, old: Object, path: Path) -> bool:
    return bool(preparation.at(new, path) != preparation.at(old, path))


_GENERATED: Mapping[str, Any] = {"generation": (SPEC,)}
_WORKLOAD: Mapping[str, Any] = {"generation": (SPEC,), "has_status": True}
_WITH_STATUS: Mapping[str, Any] = {"has_status": True}
_CONDITIONAL: Mapping[str, Any] = {"allow_unconditional_update": False}
_CREATED_BY_PUT: Mapping[str, Any] = {"allow_create_on_update": True}
_RETURNED: Mapping[str, Any] = {"returns_deleted_object": True}

_STRATEGIES: dict[str, Mapping[str, Any]] = {
    "Pod": {
        **_WORKLOAD,
        **_RETURNED,
        "graceful_deletion": True,
        "on_create": preparation.create_pod,
        "on_subresource": {
            "status": preparation.update_pod_status,
            "ephemeralcontainers": preparation.update_ephemeral_containers,
            "resize": preparation.resize_pod,
        },
        "status_also_keeps": (("metadata", "ownerReferences"),),
    },
    "Namespace": {
        **_WITH_STATUS,
        "on_create": preparation.create_namespace,
        "on_update": preparation.update_namespace,
        "on_subresource": {"finalize": preparation.finalize_namespace, "status": preparation.label_namespace},
    },
    "Node": {"on_update": preparation.update_node},
    "Service": {
        **_WITH_STATUS,
        **_RETURNED,
        **_CREATED_BY_PUT,
        "on_update": preparation.update_service,
    },
    "ServiceAccount": {
        **_RETURNED,
        "on_create": preparation.create_service_account,
        "on_update": preparation.update_service_account,
    },
    "Endpoints": _CREATED_BY_PUT,
    "Event": _CREATED_BY_PUT,
    "LimitRange": _CREATED_BY_PUT,
    "PodTemplate": {**_RETURNED, **_CREATED_BY_PUT, "generation": (("template",),)},
    "ReplicationController": {**_WORKLOAD, "default_propagation": "Orphan"},
    "ResourceQuota": {**_WITH_STATUS, **_RETURNED},
    "PersistentVolume": {
        **_WITH_STATUS,
        **_RETURNED,
        "on_create": preparation.create_persistent_volume,
        "on_subresource": {"status": preparation.update_persistent_volume_status},
    },
    "PersistentVolumeClaim": {**_WITH_STATUS, **_RETURNED, "on_create": preparation.create_claim},
    "Deployment": {
        **_WORKLOAD,
        "generation": (SPEC, ("metadata", "annotations")),
        "status_also_keeps": (("metadata", "labels"),),
    },
    "ReplicaSet": _WORKLOAD,
    "StatefulSet": _WORKLOAD,
    "DaemonSet": {
        **_WORKLOAD,
        "on_create": preparation.create_daemon_set,
        "on_update": preparation.update_daemon_set,
    },
    "Job": {**_WORKLOAD, "default_propagation": "Orphan", "on_create": preparation.create_job},
    "CronJob": _WORKLOAD,
    "HorizontalPodAutoscaler": _WITH_STATUS,
    "PodDisruptionBudget": {**_WORKLOAD, **_CONDITIONAL},
    "Ingress": _WORKLOAD,
    "IngressClass": _GENERATED,
    "NetworkPolicy": _GENERATED,
    "ServiceCIDR": _WITH_STATUS,
    "EndpointSlice": {
        "generation": (("endpoints",), ("ports",), ("addressType",), ("metadata", "labels")),
    },
    "Lease": {**_CREATED_BY_PUT, **_CONDITIONAL},
    "Role": _CREATED_BY_PUT,
    "RoleBinding": _CREATED_BY_PUT,
    "ClusterRole": _CREATED_BY_PUT,
    "ClusterRoleBinding": _CREATED_BY_PUT,
    "PriorityClass": {"generation": (("never changes",),)},
    "RuntimeClass": _CONDITIONAL,
    "StorageClass": _RETURNED,
    "VolumeAttributesClass": _RETURNED,
    "VolumeAttachment": {**_WITH_STATUS, **_RETURNED, **_CONDITIONAL},
    "CSIDriver": {**_RETURNED, **_CONDITIONAL},
    "CSINode": {**_RETURNED, **_CONDITIONAL},
    "FlowSchema": _WORKLOAD,
    "PriorityLevelConfiguration": _WORKLOAD,
    "CertificateSigningRequest": {
        **_WITH_STATUS,
        "on_create": preparation.create_signing_request,
        "on_update": preparation.keep_spec,
        "on_subresource": {
            "approval": preparation.approve_signing_request,
            "status": preparation.update_signing_request_status,
        },
    },
    "ResourceClaim": {**_WITH_STATUS, **_RETURNED},
    "ResourceClaimTemplate": _RETURNED,
    "DeviceClass": {**_GENERATED, **_RETURNED},
    "ResourceSlice": {**_GENERATED, **_RETURNED},
    "ValidatingWebhookConfiguration": {**_CONDITIONAL, "generation": (("webhooks",),)},
    "MutatingWebhookConfiguration": {**_CONDITIONAL, "generation": (("webhooks",),)},
    "ValidatingAdmissionPolicy": {**_WORKLOAD, **_CONDITIONAL},
    "ValidatingAdmissionPolicyBinding": {**_GENERATED, **_CONDITIONAL},
    "MutatingAdmissionPolicy": {**_GENERATED, **_CONDITIONAL},
    "MutatingAdmissionPolicyBinding": {**_GENERATED, **_CONDITIONAL},
    "CustomResourceDefinition": {
        **_WORKLOAD,
        **_CONDITIONAL,
        "on_create": preparation.store_versions,
        "on_update": preparation.store_versions_again,
    },
    "APIService": {**_WITH_STATUS, **_CONDITIONAL},
}

_cache: dict[tuple[str, str, bool], Strategy] = {}


def strategy_for(resource: Resource) -> Strategy:
    """The strategy of a built-in resource; a plain one for built-in kinds that need nothing special.

    Custom resources have strategies of their own, made from their definition (`custom_strategy`).
    """
    key = (resource.api_version, resource.kind, resource.namespaced)
    strategy = _cache.get(key)
    if strategy is None:
        strategy = _cache[key] = Strategy(
            api_version=resource.api_version,
            kind=resource.kind,
            namespaced=resource.namespaced,
            **_STRATEGIES.get(resource.kind, {}),
        )
    return strategy


def custom_strategy(resource: Resource, *, status_subresource: bool) -> Strategy:
    """The strategy of a custom resource: its generation grows with any change outside metadata and status.

    Without a status subresource the status is an ordinary field, and counts for the generation too.
    """
    return Strategy(
        api_version=resource.api_version,
        kind=resource.kind,
        namespaced=resource.namespaced,
        allow_unconditional_update=False,
        on_create=preparation.create_custom if status_subresource else preparation.create_custom_plain,
        on_update=preparation.update_custom if status_subresource else preparation.update_custom_plain,
        on_subresource={"status": preparation.update_custom_status},
    )
