"""What a cluster holds from the start: namespaces, roles and bindings, priority classes, its own Service.

Components in this process are the users that those roles know: `system:kube-scheduler`,
`system:kube-controller-manager` (with all its controllers), `system:node:NAME` in `system:nodes`,
`system:kube-proxy`, `system:coredns`. As one identity runs all controllers here, it is bound to
`understudy:controllers`, the sum of their roles; the roles one by one are there too, bound to the service
accounts that a real cluster's controllers have.
"""

from collections.abc import Iterator
from typing import Any

from understudy.actors import World
from understudy.components.machinery.api import Object

from . import bootstrap_roles as policy
from .bootstrap_controller_roles import CONTROLLERS

RBAC_GROUP = "rbac.authorization.k8s.io"
_RBAC = f"{RBAC_GROUP}/v1"
_BOOTSTRAPPING = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_AUTO_UPDATE = {"rbac.authorization.kubernetes.io/autoupdate": "true"}

NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
PRIORITY_CLASSES = {
    "system-cluster-critical": (
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if"
        " necessary.",
    ),
    "system-node-critical": (
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
}
SERVICE_NAME = "kubernetes"
"""The Service in `default` through which pods reach the API server."""


def initial_objects(
    world: World,
    advertise_host: str = "127.0.0.1",
    advertise_port: int = 6443,
    service_address: str = "10.96.0.1",
) -> list[Object]:
    """The objects of a new cluster, without uid, time and defaults; nothing of it is drawn from the world.

    `service_address`: the cluster IP of the `kubernetes` Service, the first of the service range.
    """
    return [
        *(_namespace(name) for name in NAMESPACES),
        *(_priority_class(name, *found) for name, found in PRIORITY_CLASSES.items()),
        *_own_service(advertise_host, advertise_port, service_address),
        *_cluster_roles(),
        *_cluster_role_bindings(),
        *_roles(),
    ]


def _object(api_version: str, kind: str, metadata: Object, **fields: Any) -> Object:
    return {"kind": kind, "apiVersion": api_version, "metadata": metadata, **fields}


def _namespace(name: str) -> Object:
    labels = {"kubernetes.io/metadata.name": name}
    return _object("v1", "Namespace", {"name": name, "labels": labels}, spec={}, status={"phase": "Active"})


def _priority_class(name: str, value: int, description: str) -> Object:
    return _object(
        "scheduling.k8s.io/v1",
        "PriorityClass",
        {"name": name},
        value=value,
        description=description,
        preemptionPolicy="PreemptLowerPriority",
    )


def _own_service(host: str, port: int, service_address: str) -> Iterator[Object]:
    where = {"name": SERVICE_NAME, "namespace": "default"}
    yield _object(
        "v1",
        "Service",
        {**where, "labels": {"component": "apiserver", "provider": "kubernetes"}},
        spec={
            "type": "ClusterIP",
            "clusterIP": service_address,
            "clusterIPs": [service_address],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
        status={"loadBalancer": {}},
    )
    yield _object(
        "v1",
        "Endpoints",
        {**where, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        subsets=[
            {"addresses": [{"ip": host}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]},
        ],
    )
    yield _object(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        {**where, "labels": {"kubernetes.io/service-name": SERVICE_NAME}},
        addressType="IPv4",
        endpoints=[{"addresses": [host], "conditions": {"ready": True}}],
        ports=[{"name": "https", "port": port, "protocol": "TCP"}],
    )


def _metadata(name: str, namespace: str = "", **labels: str) -> Object:
    metadata: Object = {
        "name": name,
        "labels": {**_BOOTSTRAPPING, **labels},
        "annotations": dict(_AUTO_UPDATE),
    }
    if namespace:
        metadata["namespace"] = namespace
    return metadata


def _aggregation_label(role: str) -> str:
    return f"rbac.authorization.k8s.io/aggregate-to-{role}"


def _cluster_roles() -> Iterator[Object]:
    for name, lines in policy.CLUSTER_ROLES.items():
        yield _object(_RBAC, "ClusterRole", _metadata(name), rules=policy.rules(lines))
    for name, (into, lines) in policy.AGGREGATED.items():
        metadata = _metadata(name)
        metadata["labels"][_aggregation_label(into)] = "true"
        yield _object(_RBAC, "ClusterRole", metadata, rules=policy.rules(lines))
    for name, (label, lines, into_role) in policy.AGGREGATING.items():
        metadata = _metadata(name)
        if into_role is not None:
            metadata["labels"][_aggregation_label(into_role)] = "true"
        selector = {"matchLabels": {_aggregation_label(label): "true"}}
        yield _object(
            _RBAC,
            "ClusterRole",
            metadata,
            aggregationRule={"clusterRoleSelectors": [selector]},
            rules=policy.rules(lines),
        )
    total: list[Object] = []
    for name, lines in CONTROLLERS.items():
        found = policy.rules(lines)
        total += [rule for rule in found if rule not in total]
        yield _object(_RBAC, "ClusterRole", _metadata(f"system:controller:{name}"), rules=found)
    yield _object(_RBAC, "ClusterRole", _metadata("understudy:controllers"), rules=total)


def _cluster_role_bindings() -> Iterator[Object]:
    for name, (role, subjects) in policy.BINDINGS.items():
        yield _binding("ClusterRoleBinding", name, "", "ClusterRole", role, subjects)
    for controller in CONTROLLERS:
        name = f"system:controller:{controller}"
        subjects = (f"ServiceAccount kube-system/{controller}",)
        yield _binding("ClusterRoleBinding", name, "", "ClusterRole", name, subjects)


def _roles() -> Iterator[Object]:
    for (namespace, name), lines in policy.ROLES.items():
        yield _object(_RBAC, "Role", _metadata(name, namespace), rules=policy.rules(lines))
    for (namespace, name), (role, subjects) in policy.ROLE_BINDINGS.items():
        yield _binding("RoleBinding", name, namespace, "Role", role, subjects)


def _binding(
    kind: str, name: str, namespace: str, role_kind: str, role: str, subjects: tuple[str, ...]
) -> Object:
    binding = _object(
        _RBAC,
        kind,
        _metadata(name, namespace),
        roleRef={"apiGroup": RBAC_GROUP, "kind": role_kind, "name": role},
    )
    if subjects:
        binding["subjects"] = [_subject(text) for text in subjects]
    return binding


def _subject(text: str) -> Object:
    kind, name = text.split(" ", 1)
    if kind == "ServiceAccount":
        namespace, name = name.split("/", 1)
        return {"kind": kind, "name": name, "namespace": namespace}
    return {"apiGroup": RBAC_GROUP, "kind": kind, "name": name}
