"""The roles that a cluster has from the start, as data.

Source: Kubernetes documentation, "Using RBAC Authorization", "Default roles and role bindings", and the
objects of a new cluster. A rule is written `(verbs, API groups, resources[, names])` with spaces between the
items and `core` for the group without a name, or `(verbs, paths)` for paths that are no resources.
"""

from collections.abc import Iterable

from understudy.components.machinery.api import Object

Line = tuple[str, str] | tuple[str, str, str] | tuple[str, str, str, str]

READ = "get list watch"
_WRITE = "create delete deletecollection patch update"
_ALL = "create delete deletecollection get list patch update watch"
EVENTS: Line = ("create patch update", "core events.k8s.io", "events")


def rules(lines: Iterable[Line]) -> list[Object]:
    """Rules as they stand in a role."""
    found: list[Object] = []
    for line in lines:
        verbs = line[0].split()
        if len(line) == 2:
            found.append({"verbs": verbs, "nonResourceURLs": line[1].split()})
            continue
        groups = ["" if group == "core" else group for group in line[1].split()]
        rule: Object = {"verbs": verbs, "apiGroups": groups, "resources": line[2].split()}
        if len(line) == 4:
            rule["resourceNames"] = line[3].split()
        found.append(rule)
    return found


NODE: tuple[Line, ...] = (
    ("create", "authentication.k8s.io", "tokenreviews"),
    ("create", "authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews"),
    (READ, "core", "services"),
    ("create get list watch", "core", "nodes"),
    ("patch update", "core", "nodes/status"),
    ("patch update", "core", "nodes"),
    EVENTS,
    (READ, "core", "pods"),
    ("create delete", "core", "pods"),
    ("patch update", "core", "pods/status"),
    ("create", "core", "pods/eviction"),
    (READ, "core", "configmaps secrets"),
    ("get", "core", "persistentvolumeclaims persistentvolumes"),
    ("get", "core", "endpoints"),
    ("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
    ("create delete get patch update", "coordination.k8s.io", "leases"),
    ("get", "storage.k8s.io", "volumeattachments"),
    ("create", "core", "serviceaccounts/token"),
    ("get patch update", "core", "persistentvolumeclaims/status"),
    (READ, "storage.k8s.io", "csidrivers"),
    ("create delete get patch update", "storage.k8s.io", "csinodes"),
    (READ, "node.k8s.io", "runtimeclasses"),
    ("get", "resource.k8s.io", "resourceclaims"),
    ("deletecollection create delete get list patch update watch", "resource.k8s.io", "resourceslices"),
)
NODE_RULES = rules(NODE)
"""What the Node authorizer lets any node do, where it does not look closer."""

_VIEW_KINDS: tuple[Line, ...] = (
    (
        READ,
        "core",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods"
        " replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status",
    ),
    (
        READ,
        "core",
        "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status"
        " resourcequotas resourcequotas/status",
    ),
    (READ, "core", "namespaces"),
    (READ, "discovery.k8s.io", "endpointslices"),
    (
        READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status"
        " replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale"
        " statefulsets/status",
    ),
    (READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    (READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    (
        READ,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses"
        " ingresses/status networkpolicies replicasets replicasets/scale replicasets/status"
        " replicationcontrollers/scale",
    ),
    (READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    (READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
)

_EDIT_KINDS: tuple[Line, ...] = (
    (READ, "core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    ("impersonate", "core", "serviceaccounts"),
    (_WRITE, "core", "pods pods/attach pods/exec pods/portforward pods/proxy"),
    ("create", "core", "pods/eviction"),
    (
        _WRITE,
        "core",
        "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets"
        " serviceaccounts services services/proxy",
    ),
    ("create", "core", "serviceaccounts/token"),
    (
        _WRITE,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale"
        " statefulsets statefulsets/scale",
    ),
    (_WRITE, "autoscaling", "horizontalpodautoscalers"),
    (_WRITE, "batch", "cronjobs jobs"),
    (
        _WRITE,
        "extensions",
        "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets"
        " replicasets/scale replicationcontrollers/scale",
    ),
    (_WRITE, "policy", "poddisruptionbudgets"),
    (_WRITE, "networking.k8s.io", "ingresses networkpolicies"),
    (_ALL, "coordination.k8s.io", "leases"),
)

_ADMIN_KINDS: tuple[Line, ...] = (
    ("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    (_ALL, "rbac.authorization.k8s.io", "rolebindings roles"),
)

AGGREGATED: dict[str, tuple[str, tuple[Line, ...]]] = {
    "system:aggregate-to-admin": ("admin", _ADMIN_KINDS),
    "system:aggregate-to-edit": ("edit", _EDIT_KINDS),
    "system:aggregate-to-view": ("view", _VIEW_KINDS),
}
"""Roles that are parts of others: the role they go into, and their rules."""

AGGREGATING: dict[str, tuple[str, tuple[Line, ...], str | None]] = {
    "admin": ("admin", (*_ADMIN_KINDS, *_EDIT_KINDS, *_VIEW_KINDS), None),
    "edit": ("edit", (*_EDIT_KINDS, *_VIEW_KINDS), "admin"),
    "view": ("view", _VIEW_KINDS, "edit"),
}
"""Roles that are made of others: their label, the sum of rules, and the role they are part of in turn."""

CLUSTER_ROLES: dict[str, tuple[Line, ...]] = {
    "cluster-admin": (("*", "*", "*"), ("*", "*")),
    "system:discovery": (
        ("get", "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/"),
    ),
    "system:monitoring": (
        ("get", "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*"),
    ),
    "system:basic-user": (
        ("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
        ("create", "authentication.k8s.io", "selfsubjectreviews"),
    ),
    "system:public-info-viewer": (("get", "/healthz /livez /readyz /version /version/"),),
    "system:heapster": (
        (READ, "core", "events namespaces nodes pods"),
        (READ, "extensions", "deployments"),
    ),
    "system:node": NODE,
    "system:node-problem-detector": (
        ("get", "core", "nodes"),
        ("patch", "core", "nodes/status"),
        EVENTS,
    ),
    "system:node-proxier": (
        ("list watch", "core", "endpoints services"),
        (READ, "core", "nodes"),
        EVENTS,
        ("list watch", "discovery.k8s.io", "endpointslices"),
        ("list watch", "networking.k8s.io", "servicecidrs"),
    ),
    "system:kubelet-api-admin": (
        (READ, "core", "nodes"),
        ("proxy", "core", "nodes"),
        (
            "*",
            "core",
            "nodes/checkpoint nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy"
            " nodes/stats",
        ),
    ),
    "system:node-bootstrapper": (
        ("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
    ),
    "system:auth-delegator": (
        ("create", "authentication.k8s.io", "tokenreviews"),
        ("create", "authorization.k8s.io", "subjectaccessreviews"),
    ),
    "system:kube-aggregator": ((READ, "core", "endpoints services"),),
    "system:kube-controller-manager": (
        EVENTS,
        ("create", "coordination.k8s.io", "leases"),
        ("get update", "coordination.k8s.io", "leases", "kube-controller-manager"),
        ("create", "core", "secrets serviceaccounts"),
        ("delete", "core", "secrets"),
        ("get", "core", "configmaps namespaces secrets serviceaccounts"),
        ("update", "core", "secrets serviceaccounts"),
        ("create", "authentication.k8s.io", "tokenreviews"),
        ("create", "authorization.k8s.io", "subjectaccessreviews"),
        ("list watch", "*", "*"),
        ("create", "core", "serviceaccounts/token"),
    ),
    "system:kube-dns": (("list watch", "core", "endpoints services"),),
    "system:coredns": (
        ("list watch", "core", "endpoints namespaces pods services"),
        ("list watch", "discovery.k8s.io", "endpointslices"),
        ("get", "core", "nodes"),
    ),
    "system:persistent-volume-provisioner": (
        ("create delete get list watch", "core", "persistentvolumes"),
        ("get list update watch", "core", "persistentvolumeclaims"),
        (READ, "storage.k8s.io", "storageclasses"),
        ("watch", "core", "events"),
        EVENTS,
    ),
    "system:volume-scheduler": (
        ("get list patch update watch", "core", "persistentvolumes"),
        (READ, "storage.k8s.io", "storageclasses"),
        ("get list patch update watch", "core", "persistentvolumeclaims"),
    ),
    "system:kube-scheduler": (
        EVENTS,
        ("create get list watch", "coordination.k8s.io", "leases"),
        ("get update", "coordination.k8s.io", "leases", "kube-scheduler"),
        (READ, "core", "nodes"),
        ("delete get list watch", "core", "pods"),
        ("create", "core", "bindings pods/binding"),
        ("patch update", "core", "pods/status"),
        (READ, "core", "replicationcontrollers services"),
        (READ, "apps extensions", "replicasets"),
        (READ, "apps", "statefulsets"),
        (READ, "policy", "poddisruptionbudgets"),
        (READ, "core", "persistentvolumeclaims persistentvolumes"),
        ("create", "authentication.k8s.io", "tokenreviews"),
        ("create", "authorization.k8s.io", "subjectaccessreviews"),
        (READ, "storage.k8s.io", "csinodes"),
        (READ, "core", "namespaces"),
        (READ, "storage.k8s.io", "csidrivers csistoragecapacities volumeattachments"),
        (READ, "resource.k8s.io", "deviceclasses resourceslices"),
        ("get list patch update watch", "resource.k8s.io", "resourceclaims"),
        ("patch update", "resource.k8s.io", "resourceclaims/status"),
    ),
    "system:certificates.k8s.io:certificatesigningrequests:nodeclient": (
        ("create", "certificates.k8s.io", "certificatesigningrequests/nodeclient"),
    ),
    "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient": (
        ("create", "certificates.k8s.io", "certificatesigningrequests/selfnodeclient"),
    ),
    "system:certificates.k8s.io:kube-apiserver-client-approver": (
        ("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client"),
    ),
    "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver": (
        ("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
    ),
    "system:certificates.k8s.io:kubelet-serving-approver": (
        ("approve", "certificates.k8s.io", "signers", "kubernetes.io/kubelet-serving"),
    ),
    "system:certificates.k8s.io:legacy-unknown-approver": (
        ("approve", "certificates.k8s.io", "signers", "kubernetes.io/legacy-unknown"),
    ),
    "system:service-account-issuer-discovery": (
        ("get", "/.well-known/openid-configuration /openid/v1/jwks"),
    ),
}

BINDINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "cluster-admin": ("cluster-admin", ("Group system:masters",)),
    "system:monitoring": ("system:monitoring", ("Group system:monitoring",)),
    "system:discovery": ("system:discovery", ("Group system:authenticated",)),
    "system:basic-user": ("system:basic-user", ("Group system:authenticated",)),
    "system:public-info-viewer": (
        "system:public-info-viewer",
        ("Group system:authenticated", "Group system:unauthenticated"),
    ),
    "system:node-proxier": ("system:node-proxier", ("User system:kube-proxy",)),
    "system:kube-controller-manager": (
        "system:kube-controller-manager",
        ("User system:kube-controller-manager",),
    ),
    "system:kube-dns": ("system:kube-dns", ("ServiceAccount kube-system/kube-dns",)),
    "system:coredns": ("system:coredns", ("ServiceAccount kube-system/coredns", "User system:coredns")),
    "system:kube-scheduler": ("system:kube-scheduler", ("User system:kube-scheduler",)),
    "system:volume-scheduler": ("system:volume-scheduler", ("User system:kube-scheduler",)),
    "system:node": ("system:node", ()),
    "system:service-account-issuer-discovery": (
        "system:service-account-issuer-discovery",
        ("Group system:serviceaccounts",),
    ),
    "understudy:controllers": ("understudy:controllers", ("User system:kube-controller-manager",)),
}
"""Cluster role bindings: the role and the subjects."""

ROLES: dict[tuple[str, str], tuple[Line, ...]] = {
    ("kube-system", "extension-apiserver-authentication-reader"): (
        (READ, "core", "configmaps", "extension-apiserver-authentication"),
    ),
    ("kube-system", "system:controller:bootstrap-signer"): ((READ, "core", "secrets"),),
    ("kube-system", "system:controller:token-cleaner"): (
        ("delete get list watch", "core", "secrets"),
        EVENTS,
    ),
    ("kube-system", "system::leader-locking-kube-controller-manager"): (
        ("watch", "core", "configmaps"),
        ("get update", "core", "configmaps", "kube-controller-manager"),
    ),
    ("kube-system", "system::leader-locking-kube-scheduler"): (
        ("watch", "core", "configmaps"),
        ("get update", "core", "configmaps", "kube-scheduler"),
    ),
    ("kube-public", "system:controller:bootstrap-signer"): (
        (READ, "core", "configmaps"),
        ("update", "core", "configmaps", "cluster-info"),
        EVENTS,
    ),
}

ROLE_BINDINGS: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("kube-system", "system::extension-apiserver-authentication-reader"): (
        "extension-apiserver-authentication-reader",
        ("User system:kube-controller-manager", "User system:kube-scheduler"),
    ),
    ("kube-system", "system:controller:bootstrap-signer"): (
        "system:controller:bootstrap-signer",
        ("ServiceAccount kube-system/bootstrap-signer",),
    ),
    ("kube-system", "system:controller:token-cleaner"): (
        "system:controller:token-cleaner",
        ("ServiceAccount kube-system/token-cleaner",),
    ),
    ("kube-system", "system::leader-locking-kube-controller-manager"): (
        "system::leader-locking-kube-controller-manager",
        ("User system:kube-controller-manager", "ServiceAccount kube-system/kube-controller-manager"),
    ),
    ("kube-system", "system::leader-locking-kube-scheduler"): (
        "system::leader-locking-kube-scheduler",
        ("User system:kube-scheduler", "ServiceAccount kube-system/kube-scheduler"),
    ),
    ("kube-public", "system:controller:bootstrap-signer"): (
        "system:controller:bootstrap-signer",
        ("ServiceAccount kube-system/bootstrap-signer",),
    ),
}
