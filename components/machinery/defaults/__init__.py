"""Defaulting: what the API server fills in before it looks any closer.

`apply_defaults` first brings an object into its written form (`shape`), then adds the defaults of its kind.
The rules per kind stand in one module a family; the table below says which kind has which.
"""

from collections.abc import Callable
from typing import Any

from understudy.components.machinery.defaults import core, extensions, pods, policies, workloads
from understudy.components.machinery.defaults.shape import field_message, message_for, normalise, zero

Object = dict[str, Any]

_DEFAULTS: dict[str, Callable[[Object], None]] = {
    "v1 Pod": pods.default_pod,
    "v1 Service": core.default_service,
    "v1 Namespace": core.default_namespace,
    "v1 Secret": core.default_secret,
    "v1 Endpoints": core.default_endpoints,
    "v1 ReplicationController": core.default_replication_controller,
    "v1 PodTemplate": core.default_pod_template,
    "v1 PersistentVolumeClaim": core.default_claim,
    "v1 PersistentVolume": core.default_persistent_volume,
    "v1 LimitRange": core.default_limit_range,
    "v1 Node": core.default_node,
    "apps/v1 Deployment": workloads.default_deployment,
    "apps/v1 ReplicaSet": workloads.default_replica_set,
    "apps/v1 DaemonSet": workloads.default_daemon_set,
    "apps/v1 StatefulSet": workloads.default_stateful_set,
    "batch/v1 Job": workloads.default_job,
    "batch/v1 CronJob": workloads.default_cron_job,
    "autoscaling/v1 HorizontalPodAutoscaler": workloads.default_autoscaler_v1,
    "autoscaling/v2 HorizontalPodAutoscaler": workloads.default_autoscaler,
    "networking.k8s.io/v1 IngressClass": policies.default_ingress_class,
    "networking.k8s.io/v1 NetworkPolicy": policies.default_network_policy,
    "discovery.k8s.io/v1 EndpointSlice": policies.default_endpoint_slice,
    "rbac.authorization.k8s.io/v1 RoleBinding": policies.default_binding,
    "rbac.authorization.k8s.io/v1 ClusterRoleBinding": policies.default_binding,
    "storage.k8s.io/v1 StorageClass": policies.default_storage_class,
    "storage.k8s.io/v1 CSIDriver": policies.default_csi_driver,
    "scheduling.k8s.io/v1 PriorityClass": policies.default_priority_class,
    "flowcontrol.apiserver.k8s.io/v1 FlowSchema": policies.default_flow_schema,
    "flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration": policies.default_priority_level,
    "resource.k8s.io/v1 ResourceClaim": policies.default_resource_claim,
    "resource.k8s.io/v1 ResourceClaimTemplate": policies.default_resource_claim_template,
    "admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration": extensions.default_validating_webhooks,
    "admissionregistration.k8s.io/v1 MutatingWebhookConfiguration": extensions.default_mutating_webhooks,
    "admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy": extensions.default_admission_policy,
    "admissionregistration.k8s.io/v1 MutatingAdmissionPolicy": extensions.default_admission_policy,
    "admissionregistration.k8s.io/v1 ValidatingAdmissionPolicyBinding": (
        extensions.default_admission_policy_binding
    ),
    "admissionregistration.k8s.io/v1 MutatingAdmissionPolicyBinding": (
        extensions.default_admission_policy_binding
    ),
    "apiextensions.k8s.io/v1 CustomResourceDefinition": extensions.default_custom_resource_definition,
    "apiregistration.k8s.io/v1 APIService": extensions.default_api_service,
    "authentication.k8s.io/v1 TokenRequest": extensions.default_token_request,
}


def apply_defaults(obj: Object) -> None:
    """Bring a decoded object of a built-in kind into its written form and add its defaults, in place.

    The object has `apiVersion` and `kind`, no unknown fields, and the types of the API. Objects of other
    kinds (custom resources, whose defaults stand in their definition's schema) are left as they are.
    Applying it twice is the same as applying it once.
    """
    api_version, kind = obj["apiVersion"], obj["kind"]
    message = message_for(api_version, kind)
    if message is None:
        return
    normalise(obj, message)
    apply = _DEFAULTS.get(f"{api_version} {kind}")
    if apply is not None:
        apply(obj)


def zero_status(api_version: str, kind: str) -> Object | None:
    """The written form of an unset status; None for a kind that has no status that is always written."""
    message = message_for(api_version, kind)
    child = field_message(message, "status") if message else None
    return zero(child) if child else None


__all__ = ["apply_defaults", "zero_status"]
