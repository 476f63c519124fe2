"""The built-in resources: what is served under which path, by which verbs.

Taken from the discovery documents of a real server. Custom resources are `Resource` values too, made
from their definitions; whoever serves them keeps its own list.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from attrs import Factory, field, frozen

from understudy.components.machinery import facts


@frozen
class Resource:
    """One served resource in one version."""

    group: str
    """Empty for the core group."""
    version: str
    plural: str
    """The name in paths, e.g. `pods`."""
    kind: str
    singular: str
    namespaced: bool
    verbs: frozenset[str]
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    storage_version_hash: str = ""
    list_kind: str = field(default=Factory(lambda self: f"{self.kind}List", takes_self=True))

    @property
    def group_version(self) -> str:
        """`v1`, or `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def api_version(self) -> str:
        """What the objects say in `apiVersion`."""
        return self.group_version

    @property
    def group_resource(self) -> str:
        """`pods`, or `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


@frozen
class Subresource:
    """A path below an object of `parent`; `kind`, `group` and `version` are those of its bodies."""

    parent: Resource
    name: str
    """e.g. `status`, `scale`, `log`, `exec`, `binding`."""
    kind: str
    group: str
    version: str
    verbs: frozenset[str]

    @property
    def api_version(self) -> str:
        """What a body of this subresource says in `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version


@cache
def builtin_resources() -> tuple[Resource, ...]:
    """Every built-in resource, in the order of discovery (groups by priority, then versions, then names)."""
    return tuple(
        Resource(
            group=group["group"],
            version=version["version"],
            plural=row["resource"],
            kind=row["responseKind"]["kind"],
            singular=row["singularResource"],
            namespaced=row["scope"] == "Namespaced",
            verbs=frozenset(row["verbs"]),
            short_names=tuple(row.get("shortNames", ())),
            categories=tuple(row.get("categories", ())),
            storage_version_hash=row["storageVersionHash"],
        )
        for group in facts.document("discovery.json")
        for version in group["versions"]
        for row in version["resources"]
    )


@cache
def builtin_subresources() -> tuple[Subresource, ...]:
    """Every built-in subresource, in the order of discovery."""
    rows: list[dict[str, Any]] = [
        row
        for group in facts.document("discovery.json")
        for version in group["versions"]
        for row in version["resources"]
    ]
    return tuple(
        Subresource(
            parent=parent,
            name=entry["subresource"],
            kind=entry["responseKind"]["kind"],
            group=entry["responseKind"]["group"] or parent.group,
            version=entry["responseKind"]["version"] or parent.version,
            verbs=frozenset(entry["verbs"]),
        )
        for parent, row in zip(builtin_resources(), rows, strict=True)
        for entry in row.get("subresources", ())
    )


@cache
def _by_path() -> Mapping[tuple[str, str, str], Resource]:
    return {(r.group, r.version, r.plural): r for r in builtin_resources()}


@cache
def _by_kind() -> Mapping[tuple[str, str], Resource]:
    return {(r.group_version, r.kind): r for r in builtin_resources()}


@cache
def _subresources() -> Mapping[tuple[str, str, str, str], Subresource]:
    return {(s.parent.group, s.parent.version, s.parent.plural, s.name): s for s in builtin_subresources()}


def lookup(group: str, version: str, plural: str) -> Resource | None:
    """The built-in resource served at that path; None if there is none."""
    return _by_path().get((group, version, plural))


def for_kind(api_version: str, kind: str) -> Resource | None:
    """The built-in resource whose objects say so; None if there is none."""
    return _by_kind().get((api_version, kind))


def subresource(resource: Resource, name: str) -> Subresource | None:
    """A subresource of a built-in resource; None if it has none of that name."""
    return _subresources().get((resource.group, resource.version, resource.plural, name))


def subresources(resource: Resource) -> tuple[Subresource, ...]:
    """All subresources of a built-in resource, in the order of discovery."""
    return tuple(s for s in builtin_subresources() if s.parent == resource)


def _known(group: str, version: str, plural: str) -> Resource:
    return _by_path()[group, version, plural]


BINDINGS = _known("", "v1", "bindings")
COMPONENT_STATUSES = _known("", "v1", "componentstatuses")
CONFIG_MAPS = _known("", "v1", "configmaps")
ENDPOINTS = _known("", "v1", "endpoints")
EVENTS = _known("", "v1", "events")
LIMIT_RANGES = _known("", "v1", "limitranges")
NAMESPACES = _known("", "v1", "namespaces")
NODES = _known("", "v1", "nodes")
PERSISTENT_VOLUME_CLAIMS = _known("", "v1", "persistentvolumeclaims")
PERSISTENT_VOLUMES = _known("", "v1", "persistentvolumes")
PODS = _known("", "v1", "pods")
POD_TEMPLATES = _known("", "v1", "podtemplates")
REPLICATION_CONTROLLERS = _known("", "v1", "replicationcontrollers")
RESOURCE_QUOTAS = _known("", "v1", "resourcequotas")
SECRETS = _known("", "v1", "secrets")
SERVICE_ACCOUNTS = _known("", "v1", "serviceaccounts")
SERVICES = _known("", "v1", "services")
API_SERVICES = _known("apiregistration.k8s.io", "v1", "apiservices")
CONTROLLER_REVISIONS = _known("apps", "v1", "controllerrevisions")
DAEMON_SETS = _known("apps", "v1", "daemonsets")
DEPLOYMENTS = _known("apps", "v1", "deployments")
REPLICA_SETS = _known("apps", "v1", "replicasets")
STATEFUL_SETS = _known("apps", "v1", "statefulsets")
EVENTS_V1 = _known("events.k8s.io", "v1", "events")
SELF_SUBJECT_REVIEWS = _known("authentication.k8s.io", "v1", "selfsubjectreviews")
TOKEN_REVIEWS = _known("authentication.k8s.io", "v1", "tokenreviews")
LOCAL_SUBJECT_ACCESS_REVIEWS = _known("authorization.k8s.io", "v1", "localsubjectaccessreviews")
SELF_SUBJECT_ACCESS_REVIEWS = _known("authorization.k8s.io", "v1", "selfsubjectaccessreviews")
SELF_SUBJECT_RULES_REVIEWS = _known("authorization.k8s.io", "v1", "selfsubjectrulesreviews")
SUBJECT_ACCESS_REVIEWS = _known("authorization.k8s.io", "v1", "subjectaccessreviews")
HORIZONTAL_POD_AUTOSCALERS = _known("autoscaling", "v2", "horizontalpodautoscalers")
HORIZONTAL_POD_AUTOSCALERS_V1 = _known("autoscaling", "v1", "horizontalpodautoscalers")
CRON_JOBS = _known("batch", "v1", "cronjobs")
JOBS = _known("batch", "v1", "jobs")
CERTIFICATE_SIGNING_REQUESTS = _known("certificates.k8s.io", "v1", "certificatesigningrequests")
INGRESS_CLASSES = _known("networking.k8s.io", "v1", "ingressclasses")
INGRESSES = _known("networking.k8s.io", "v1", "ingresses")
IP_ADDRESSES = _known("networking.k8s.io", "v1", "ipaddresses")
NETWORK_POLICIES = _known("networking.k8s.io", "v1", "networkpolicies")
SERVICE_CIDRS = _known("networking.k8s.io", "v1", "servicecidrs")
POD_DISRUPTION_BUDGETS = _known("policy", "v1", "poddisruptionbudgets")
CLUSTER_ROLE_BINDINGS = _known("rbac.authorization.k8s.io", "v1", "clusterrolebindings")
CLUSTER_ROLES = _known("rbac.authorization.k8s.io", "v1", "clusterroles")
ROLE_BINDINGS = _known("rbac.authorization.k8s.io", "v1", "rolebindings")
ROLES = _known("rbac.authorization.k8s.io", "v1", "roles")
CSI_DRIVERS = _known("storage.k8s.io", "v1", "csidrivers")
CSI_NODES = _known("storage.k8s.io", "v1", "csinodes")
CSI_STORAGE_CAPACITIES = _known("storage.k8s.io", "v1", "csistoragecapacities")
STORAGE_CLASSES = _known("storage.k8s.io", "v1", "storageclasses")
VOLUME_ATTACHMENTS = _known("storage.k8s.io", "v1", "volumeattachments")
VOLUME_ATTRIBUTES_CLASSES = _known("storage.k8s.io", "v1", "volumeattributesclasses")
MUTATING_ADMISSION_POLICIES = _known("admissionregistration.k8s.io", "v1", "mutatingadmissionpolicies")
MUTATING_ADMISSION_POLICY_BINDINGS = _known(
    "admissionregistration.k8s.io", "v1", "mutatingadmissionpolicybindings"
)
MUTATING_WEBHOOK_CONFIGURATIONS = _known(
    "admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations"
)
VALIDATING_ADMISSION_POLICIES = _known("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies")
VALIDATING_ADMISSION_POLICY_BINDINGS = _known(
    "admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings"
)
VALIDATING_WEBHOOK_CONFIGURATIONS = _known(
    "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"
)
CUSTOM_RESOURCE_DEFINITIONS = _known("apiextensions.k8s.io", "v1", "customresourcedefinitions")
PRIORITY_CLASSES = _known("scheduling.k8s.io", "v1", "priorityclasses")
LEASES = _known("coordination.k8s.io", "v1", "leases")
RUNTIME_CLASSES = _known("node.k8s.io", "v1", "runtimeclasses")
ENDPOINT_SLICES = _known("discovery.k8s.io", "v1", "endpointslices")
DEVICE_CLASSES = _known("resource.k8s.io", "v1", "deviceclasses")
RESOURCE_CLAIMS = _known("resource.k8s.io", "v1", "resourceclaims")
RESOURCE_CLAIM_TEMPLATES = _known("resource.k8s.io", "v1", "resourceclaimtemplates")
RESOURCE_SLICES = _known("resource.k8s.io", "v1", "resourceslices")
FLOW_SCHEMAS = _known("flowcontrol.apiserver.k8s.io", "v1", "flowschemas")
PRIORITY_LEVEL_CONFIGURATIONS = _known("flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations")
