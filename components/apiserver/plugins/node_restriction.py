"""NodeRestriction: a kubelet changes its own node and the pods bound to it, and of these not everything.

Source: Kubernetes documentation, "Admission Controllers", NodeRestriction.
"""

from understudy.components.apiserver.admission import Attributes
from understudy.components.apiserver.node_authorizer import node_of, references
from understudy.components.apiserver.registry import Registry
from understudy.components.machinery.api import Object
from understudy.components.machinery.errors import not_found
from understudy.components.machinery.resources import (
    CSI_NODES,
    LEASES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SERVICE_ACCOUNTS,
)

from .plugin import AdmissionPlugin, refusal
from .service_account import MIRROR_ANNOTATION

_RESTRICTED = "node-restriction.kubernetes.io"
_KUBELET_LABELS = frozenset(
    (
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.kubernetes.io/region",
        "failure-domain.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/instance-type",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    )
)
_KUBELET_LABEL_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")


class NodeRestriction(AdmissionPlugin):
    """Holds node users to their node."""

    async def admit(self, attributes: Attributes, registry: Registry) -> None:
        user = attributes.user
        if not user.name.startswith("system:node:"):
            return
        node = node_of(user)
        if node is None:
            return
        resource = attributes.resource
        if resource is PODS:
            await _admit_pod(attributes, registry, node)
        elif resource is NODES:
            _admit_node(attributes, node)
        elif resource is LEASES:
            if attributes.namespace != "kube-node-lease":
                raise refusal(attributes, 'can only access leases in the "kube-node-lease" system namespace')
            if attributes.name != node:
                raise refusal(
                    attributes, "can only access node lease with the same name as the requesting node"
                )
        elif resource is CSI_NODES:
            if attributes.name != node:
                raise refusal(attributes, "can only access CSINode with the same name as the requesting node")
        elif resource is PERSISTENT_VOLUME_CLAIMS:
            if attributes.subresource != "status" or attributes.operation != "UPDATE":
                raise refusal(attributes, f"may only update PVC status, not {attributes.operation}")
        elif resource is SERVICE_ACCOUNTS and attributes.subresource == "token":
            _admit_token(attributes, registry, node)


async def _admit_pod(attributes: Attributes, registry: Registry, node: str) -> None:
    operation, subresource = attributes.operation, attributes.subresource
    if subresource == "" and operation == "CREATE":
        _admit_new_pod(attributes, node)
    elif subresource == "" and operation == "DELETE":
        await _require_own(attributes, registry, node)
    elif subresource == "status" and operation == "UPDATE":
        await _require_own(attributes, registry, node)
        assert attributes.obj is not None and attributes.old is not None
        new, old = attributes.obj["metadata"], attributes.old["metadata"]
        if (new.get("labels") or {}) != (old.get("labels") or {}):
            raise refusal(attributes, f'node "{node}" cannot update labels through pod status')
    elif subresource == "eviction" and operation == "CREATE":
        await _require_own(attributes, registry, node)
    else:
        raise refusal(
            attributes, f'unexpected operation "{operation}" of node "{node}" on pods/{subresource or "pod"}'
        )


async def _require_own(attributes: Attributes, registry: Registry, node: str) -> None:
    entry = registry.cache(PODS).get(attributes.namespace, attributes.name)
    if entry is None or entry.fields.get("spec.nodeName") != node:
        entry = await registry.live(PODS, attributes.namespace, attributes.name)
    if entry is None:
        raise not_found("", "pods", attributes.name)
    if entry.fields.get("spec.nodeName") != node:
        raise refusal(attributes, f'node "{node}" can only access pods with spec.nodeName set to itself')


def _admit_new_pod(attributes: Attributes, node: str) -> None:
    pod = attributes.obj
    assert pod is not None
    if MIRROR_ANNOTATION not in (pod["metadata"].get("annotations") or {}):
        raise refusal(
            attributes,
            f'pod does not have "{MIRROR_ANNOTATION}" annotation, node "{node}" can only create mirror pods',
        )
    spec = pod["spec"]
    if spec.get("nodeName") != node:
        raise refusal(attributes, f'node "{node}" can only create pods with spec.nodeName set to itself')
    owners = pod["metadata"].get("ownerReferences") or ()
    for owner in owners:
        if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
            raise refusal(attributes, f'node "{node}" can only create pods with itself as owner')
    # The service account itself is the ServiceAccount plugin's to refuse; it runs before this one.
    for plural, _, name in references({**pod, "metadata": {**pod["metadata"], "namespace": ""}}):
        raise refusal(attributes, f'node "{node}" can not create pods that reference {plural} ("{name}")')


def _admit_node(attributes: Attributes, node: str) -> None:
    if attributes.name != node:
        raise refusal(attributes, f'node "{node}" is not allowed to modify node "{attributes.name}"')
    new, old = attributes.obj, attributes.old
    if new is None:
        return
    labels = new["metadata"].get("labels") or {}
    if attributes.operation == "CREATE":
        if new.get("spec", {}).get("configSource"):
            raise refusal(
                attributes, f'node "{node}" is not allowed to create pods with a non-nil configSource'
            )
        forbidden = [label for label in sorted(labels) if not _may_set(label)]
        if forbidden:
            raise refusal(
                attributes,
                f'node "{node}" is not allowed to set the following labels: {", ".join(forbidden)}',
            )
        return
    if attributes.operation != "UPDATE" or old is None:
        return
    if _taints(new) != _taints(old):
        raise refusal(attributes, f'node "{node}" is not allowed to modify taints')
    if (new["metadata"].get("ownerReferences") or []) != (old["metadata"].get("ownerReferences") or []):
        raise refusal(attributes, f'node "{node}" is not allowed to modify ownerReferences')
    before = old["metadata"].get("labels") or {}
    changed = sorted(key for key in {**labels, **before} if labels.get(key) != before.get(key))
    forbidden = [label for label in changed if not _may_set(label)]
    if forbidden:
        raise refusal(attributes, f"is not allowed to modify labels: {', '.join(forbidden)}")


def _taints(node: Object) -> list[Object]:
    return (node.get("spec") or {}).get("taints") or []


def _within(domain: str, parents: tuple[str, ...]) -> bool:
    return any(domain == parent or domain.endswith("." + parent) for parent in parents)


def _may_set(label: str) -> bool:
    """Whether kubelets set that label of their node themselves."""
    domain, separator, _ = label.partition("/")
    if not separator:
        return True
    if _within(domain, (_RESTRICTED,)):
        return False
    if not _within(domain, ("kubernetes.io", "k8s.io")):
        return True
    return label in _KUBELET_LABELS or _within(domain, _KUBELET_LABEL_DOMAINS)


def _admit_token(attributes: Attributes, registry: Registry, node: str) -> None:
    reference = ((attributes.obj or {}).get("spec") or {}).get("boundObjectRef")
    if not reference or reference.get("kind") != "Pod" or not reference.get("uid"):
        raise refusal(attributes, f'node "{node}" can only request tokens bound to a pod, by name and uid')
    entry = registry.cache(PODS).get(attributes.namespace, reference.get("name", ""))
    if entry is None or entry.uid != reference["uid"] or entry.fields.get("spec.nodeName") != node:
        raise refusal(attributes, f'node "{node}" can only request tokens for pods running on it')
