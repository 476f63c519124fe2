"""The Node authorizer: what a kubelet may do, which is what the pods bound to its node need.

A pod is related to its node, and what the pod refers to is related to it; a node may read related objects
only. Source: Kubernetes documentation, "Using Node Authorization".
"""

from collections.abc import Iterator

from attrs import define, field

from understudy.components.machinery.api import Object
from understudy.components.machinery.resources import (
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    RESOURCE_CLAIMS,
    VOLUME_ATTACHMENTS,
)

from .access import AccessAttributes, Decision
from .bootstrap_roles import NODE_RULES
from .cacher import Interest, Seen
from .context import UserInfo
from .encoding import Stored
from .rbac import rule_of
from .registry import Registry

NODES_GROUP = "system:nodes"
NODE_USER_PREFIX = "system:node:"

Reference = tuple[str, str, str]
"""Plural, namespace, name."""

_READ = frozenset(("get", "list", "watch"))
_RULES = tuple(rule_of(rule) for rule in NODE_RULES)


def node_of(user: UserInfo) -> str | None:
    """The node that the user is, or None."""
    if NODES_GROUP not in user.groups or not user.name.startswith(NODE_USER_PREFIX):
        return None
    return user.name[len(NODE_USER_PREFIX) :] or None


def references(pod: Object) -> Iterator[Reference]:
    """What a pod needs of its namespace: secrets, config maps, claims, its service account."""
    spec, namespace = pod["spec"], pod["metadata"]["namespace"]
    if spec.get("serviceAccountName"):
        yield "serviceaccounts", namespace, spec["serviceAccountName"]
    for secret in spec.get("imagePullSecrets") or ():
        if secret.get("name"):
            yield "secrets", namespace, secret["name"]
    for group in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(group) or ():
            for source in container.get("envFrom") or ():
                yield from _source(source, namespace, "secretRef", "configMapRef", "name")
            for variable in container.get("env") or ():
                chosen = variable.get("valueFrom") or {}
                yield from _source(chosen, namespace, "secretKeyRef", "configMapKeyRef", "name")
    for volume in spec.get("volumes") or ():
        yield from _source(volume, namespace, "secret", "configMap", "secretName")
        for source in (volume.get("projected") or {}).get("sources") or ():
            yield from _source(source, namespace, "secret", "configMap", "name")
        if claim := volume.get("persistentVolumeClaim"):
            yield "persistentvolumeclaims", namespace, claim["claimName"]
        if volume.get("ephemeral"):
            yield "persistentvolumeclaims", namespace, f"{pod['metadata']['name']}-{volume['name']}"
        for driver in ("csi", "azureFile", "cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"):
            if (detail := volume.get(driver)) is not None:
                for key in ("nodePublishSecretRef", "secretRef"):
                    if (detail.get(key) or {}).get("name"):
                        yield "secrets", namespace, detail[key]["name"]
                if detail.get("secretName"):
                    yield "secrets", namespace, detail["secretName"]
    for status in pod.get("status", {}).get("resourceClaimStatuses") or ():
        if status.get("resourceClaimName"):
            yield "resourceclaims", namespace, status["resourceClaimName"]
    for claim in spec.get("resourceClaims") or ():
        if claim.get("resourceClaimName"):
            yield "resourceclaims", namespace, claim["resourceClaimName"]


def _source(
    source: Object, namespace: str, secret: str, config_map: str, secret_name: str
) -> Iterator[Reference]:
    if (found := source.get(secret)) and found.get(secret_name):
        yield "secrets", namespace, found[secret_name]
    if (found := source.get(config_map)) and found.get("name"):
        yield "configmaps", namespace, found["name"]


@define(eq=False)
class NodeAuthorizer:
    """The pods of every node, and what they refer to."""

    registry: Registry
    _pods: dict[str, dict[tuple[str, str], Stored]] = field(factory=dict)
    """By node, then by (namespace, name)."""
    _references: dict[tuple[str, str], tuple[Stored, frozenset[Reference]]] = field(factory=dict)
    """Of pods that were asked about."""

    def __attrs_post_init__(self) -> None:
        cache = self.registry.cache(PODS)
        for entry in cache.objects.values():
            self._place(entry)
        cache.subscribe(Interest(), self._on_pod)

    def _on_pod(self, seen: Seen, revision: int) -> None:
        entry, old = seen.entry, seen.old
        key = (entry.namespace, entry.name)
        node = old.fields.get("spec.nodeName", "") if old is not None else ""
        if node:
            self._pods[node].pop(key, None)
        if seen.type == "DELETED":
            self._references.pop(key, None)
        else:
            self._place(entry)

    def _place(self, entry: Stored) -> None:
        node = entry.fields.get("spec.nodeName", "")
        if node:
            self._pods.setdefault(node, {})[entry.namespace, entry.name] = entry

    def _refers(self, entry: Stored, reference: Reference) -> bool:
        key = (entry.namespace, entry.name)
        known = self._references.get(key)
        if known is None or known[0] is not entry:
            known = (entry, frozenset(references(entry.parse())))
            self._references[key] = known
        return reference in known[1]

    def related(self, node: str, plural: str, namespace: str, name: str) -> bool:
        """Whether a pod that is bound to the node is, or refers to, that object."""
        pods = self._pods.get(node, {})
        if plural == "pods":
            return (namespace, name) in pods
        if plural == "persistentvolumes":
            return self._volume_is_claimed(node, name)
        reference = (plural, namespace, name)
        if any(self._refers(entry, reference) for entry in pods.values()):
            return True
        return plural == "secrets" and any(
            volume_secret == (namespace, name) for volume_secret in self._volume_secrets(node)
        )

    def _claimed_volumes(self, node: str) -> Iterator[str]:
        claims = self.registry.cache(PERSISTENT_VOLUME_CLAIMS)
        for entry in self._pods.get(node, {}).values():
            for plural, namespace, name in sorted(references(entry.parse())):
                claim = claims.get(namespace, name) if plural == "persistentvolumeclaims" else None
                if claim is not None and (volume := claim.parse()["spec"].get("volumeName")):
                    yield volume

    def _volume_is_claimed(self, node: str, name: str) -> bool:
        return any(volume == name for volume in self._claimed_volumes(node))

    def _volume_secrets(self, node: str) -> Iterator[tuple[str, str]]:
        from understudy.components.machinery.resources import PERSISTENT_VOLUMES

        for volume in self._claimed_volumes(node):
            entry = self.registry.cache(PERSISTENT_VOLUMES).get("", volume)
            csi = entry.parse()["spec"].get("csi") if entry is not None else None
            for key, secret in (csi or {}).items():
                if key.endswith("SecretRef") and isinstance(secret, dict):
                    yield secret.get("namespace", ""), secret.get("name", "")

    def authorize(self, asked: AccessAttributes) -> Decision:
        """Whether the node may; for users that are no nodes it has no opinion."""
        node = node_of(asked.user)
        if node is None:
            return NO_OPINION
        if not asked.is_resource:
            return NO_OPINION
        special = _SPECIAL.get((asked.group, asked.plural))
        if special is not None:
            return special(self, node, asked)
        for rule in _RULES:
            if rule.covers(asked.verb, asked.group, asked.plural, asked.subresource, asked.name):
                return _ALLOWED
        return NO_OPINION

    def _read_related(self, node: str, asked: AccessAttributes) -> Decision:
        """Objects that are read one by one, and only when a pod of the node needs them."""
        if asked.verb not in _READ or asked.subresource:
            return Decision(False, "can only read resources of this type")
        return self._related_only(node, asked)

    def _related_only(self, node: str, asked: AccessAttributes) -> Decision:
        if not asked.name:
            return Decision(False, "No Object name found")
        if self.related(node, asked.plural, asked.namespace, asked.name):
            return _ALLOWED
        return Decision(False, f"no relationship found between node '{node}' and this object")

    def _claim(self, node: str, asked: AccessAttributes) -> Decision:
        if asked.subresource == "status" and asked.verb in ("get", "update", "patch"):
            return self._related_only(node, asked)
        return self._read_related(node, asked)

    def _service_account(self, node: str, asked: AccessAttributes) -> Decision:
        if asked.subresource == "token":
            if asked.verb != "create":
                return Decision(False, "can only create tokens for individual service accounts")
            return self._related_only(node, asked)
        return self._read_related(node, asked)

    def _pod(self, node: str, asked: AccessAttributes) -> Decision:
        verb = asked.verb
        if asked.subresource == "":
            if verb == "get":
                return self._related_only(node, asked)
            if verb in ("list", "watch"):
                if asked.field_selector is None or ("spec.nodeName", node) in asked.field_selector:
                    return _ALLOWED
                if asked.name:
                    return self._related_only(node, asked)
                return Decision(False, "can only list/watch pods with spec.nodeName field selector")
            if verb in ("create", "delete"):
                return _ALLOWED  # NodeRestriction looks at the pod itself
        if (asked.subresource, verb) in (("status", "patch"), ("status", "update"), ("eviction", "create")):
            return _ALLOWED
        return NO_OPINION

    def _node(self, node: str, asked: AccessAttributes) -> Decision:
        verb = asked.verb
        if asked.subresource in ("", "status") and verb in ("create", "update", "patch"):
            return _ALLOWED  # NodeRestriction looks at which node it is
        if asked.subresource == "" and verb in _READ:
            if asked.name == node or (asked.field_selector is None and not asked.name):
                return _ALLOWED
            return Decision(False, f"node '{node}' cannot read all nodes, only its own Node object")
        return NO_OPINION

    def _own_lease(self, node: str, asked: AccessAttributes) -> Decision:
        if asked.verb not in ("get", "create", "update", "patch", "delete"):
            return Decision(False, "can only get, create, update, patch, or delete a node lease")
        if asked.namespace != "kube-node-lease":
            return Decision(False, 'can only access leases in the "kube-node-lease" system namespace')
        if asked.verb != "create" and asked.name != node:
            return Decision(False, "can only access node lease with the same name as the requesting node")
        return _ALLOWED

    def _own_csi_node(self, node: str, asked: AccessAttributes) -> Decision:
        if asked.verb not in ("get", "create", "update", "patch", "delete") or asked.subresource:
            return Decision(False, "can only get, create, update, patch, or delete a CSINode")
        if asked.verb != "create" and asked.name != node:
            return Decision(False, "can only access CSINode with the same name as the requesting node")
        return _ALLOWED

    def _own_slice(self, node: str, asked: AccessAttributes) -> Decision:
        if asked.verb in ("list", "watch", "deletecollection"):
            if asked.field_selector is None or ("spec.nodeName", node) in asked.field_selector:
                return _ALLOWED
            return Decision(False, "can only list/watch/deletecollection resourceslices with spec.nodeName")
        return _ALLOWED if asked.verb in ("get", "create", "update", "patch", "delete") else NO_OPINION

    def _attachment(self, node: str, asked: AccessAttributes) -> Decision:
        entry = self.registry.cache(VOLUME_ATTACHMENTS).get("", asked.name)
        if asked.verb == "get" and entry is not None and entry.parse()["spec"].get("nodeName") == node:
            return _ALLOWED
        return Decision(False, f"no relationship found between node '{node}' and this object")


NO_OPINION = Decision(False, "")
_ALLOWED = Decision(True, "")

_SPECIAL = {
    ("", "secrets"): NodeAuthorizer._read_related,
    ("", "configmaps"): NodeAuthorizer._read_related,
    ("", "persistentvolumeclaims"): NodeAuthorizer._claim,
    ("", "persistentvolumes"): NodeAuthorizer._read_related,
    ("", "serviceaccounts"): NodeAuthorizer._service_account,
    ("", "pods"): NodeAuthorizer._pod,
    ("", "nodes"): NodeAuthorizer._node,
    (RESOURCE_CLAIMS.group, "resourceclaims"): NodeAuthorizer._read_related,
    ("resource.k8s.io", "resourceslices"): NodeAuthorizer._own_slice,
    ("storage.k8s.io", "volumeattachments"): NodeAuthorizer._attachment,
    ("storage.k8s.io", "csinodes"): NodeAuthorizer._own_csi_node,
    ("coordination.k8s.io", "leases"): NodeAuthorizer._own_lease,
}
