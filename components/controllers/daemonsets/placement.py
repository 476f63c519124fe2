"""Which nodes the pods of a DaemonSet belong on. All pure.

The scheduler binds the pods; each is tied to its node by an affinity to the node's name. What is judged here
is only whether the node should have one: its name, labels and taints against the template.
"""

from collections.abc import Mapping
from typing import Any

from understudy.components.client import mutable
from understudy.components.controllers.nodes.taints import NO_EXECUTE, NO_SCHEDULE, taints_of, tolerates
from understudy.components.controllers.ownership import controller_reference, labels_of
from understudy.components.controllers.pod_control import pod_from_template
from understudy.components.controllers.pod_state import node_of
from understudy.components.controllers.revisions import POD_LABEL

Object = dict[str, Any]

GENERATION_ANNOTATION = "deprecated.daemonset.template.generation"
GENERATION_LABEL = "pod-template-generation"
_PRESSURES = ("disk-pressure", "memory-pressure", "pid-pressure", "unschedulable")


def daemon_tolerations(template: Object) -> list[Object]:
    """The template's tolerations and those that every daemon pod has: it stays when its node is ill."""
    spec = template.get("spec") or {}
    listed = list(spec.get("tolerations") or ())
    added = [("not-ready", NO_EXECUTE), ("unreachable", NO_EXECUTE)]
    added += [(name, NO_SCHEDULE) for name in _PRESSURES]
    if spec.get("hostNetwork"):
        added.append(("network-unavailable", NO_SCHEDULE))
    for name, effect in added:
        toleration = {"key": f"node.kubernetes.io/{name}", "operator": "Exists", "effect": effect}
        if toleration not in listed:
            listed.append(toleration)
    return listed


def should_run(daemon_set: Object, node: Object) -> tuple[bool, bool]:
    """(should a pod be started on the node, may one that is there stay)."""
    template = daemon_set["spec"]["template"]
    spec = template.get("spec") or {}
    if spec.get("nodeName") and spec["nodeName"] != node["metadata"]["name"]:
        return False, False
    if not _fits(spec, node):
        return False, False
    tolerations = daemon_tolerations(template)

    def borne(*effects: str) -> bool:
        taints = [taint for taint in taints_of(node) if taint["effect"] in effects]
        return all(any(tolerates(t, taint) for t in tolerations) for taint in taints)

    return borne(NO_SCHEDULE, NO_EXECUTE), borne(NO_EXECUTE)


def _fits(spec: Object, node: Object) -> bool:
    labels = labels_of(node)
    if any(labels.get(name) != value for name, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(_matches(term, labels, fields) for term in required.get("nodeSelectorTerms") or ())


def _matches(term: Object, labels: Mapping[str, str], fields: Mapping[str, str]) -> bool:
    expressions, matches = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not matches:
        return False  # an empty term selects nothing
    return all(_holds(e, labels) for e in expressions) and all(_holds(e, fields) for e in matches)


def _holds(expression: Object, values: Mapping[str, str]) -> bool:
    value, operands = values.get(expression["key"]), list(expression.get("values") or ())
    match expression["operator"]:
        case "In":
            return value is not None and value in operands
        case "NotIn":
            return value is None or value not in operands
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            try:
                left, right = int(value or ""), int(operands[0])
            except ValueError:
                return False
            return left > right if operator == "Gt" else left < right
    raise AssertionError(f"validation let an operator through: {expression}")


def make_pod(daemon_set: Object, node_name: str, revision_hash: str) -> Object:
    """The pod of a node."""
    template = daemon_set["spec"]["template"]
    pod = pod_from_template(template, daemon_set, controller_reference(daemon_set, "apps/v1", "DaemonSet"))
    labels = pod["metadata"].setdefault("labels", {})
    labels[POD_LABEL] = revision_hash
    generation = (daemon_set["metadata"].get("annotations") or {}).get(GENERATION_ANNOTATION)
    if generation:
        labels[GENERATION_LABEL] = generation
    spec = pod["spec"]
    spec["tolerations"] = daemon_tolerations(template)
    spec["affinity"] = _tied(mutable(spec.get("affinity") or {}), node_name)
    return pod


def _tied(affinity: Object, node_name: str) -> Object:
    """The affinity with its node terms replaced: they were judged already, and only this node is meant."""
    field = {"key": "metadata.name", "operator": "In", "values": [node_name]}
    node_affinity = {**(affinity.get("nodeAffinity") or {})}
    node_affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {
        "nodeSelectorTerms": [{"matchFields": [field]}]
    }
    return {**affinity, "nodeAffinity": node_affinity}


def target_node(pod: Object) -> str:
    """The node that a pod is bound to, or waits for."""
    if node_of(pod):
        return node_of(pod)
    affinity = ((pod.get("spec") or {}).get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for expression in term.get("matchFields") or ():
            if expression.get("key") == "metadata.name" and len(expression.get("values") or ()) == 1:
                return str(expression["values"][0])
    return ""
