"""Defaults of the groups networking, discovery, rbac, storage, scheduling, flowcontrol, resource."""

from typing import Any

Object = dict[str, Any]

RBAC_GROUP = "rbac.authorization.k8s.io"


def default_ingress_class(ingress_class: Object) -> None:
    """Parameters are cluster-wide unless they say otherwise."""
    parameters = ingress_class["spec"].get("parameters")
    if parameters is not None:
        parameters.setdefault("scope", "Cluster")


def default_network_policy(policy: Object) -> None:
    """Ports are TCP; a policy is about incoming traffic, and about outgoing when it has rules for that."""
    spec = policy["spec"]
    for rule in (*spec.get("ingress", ()), *spec.get("egress", ())):
        for port in rule.get("ports", ()):
            port.setdefault("protocol", "TCP")
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def default_endpoint_slice(endpoint_slice: Object) -> None:
    """Ports are nameless and TCP."""
    for port in endpoint_slice["ports"] or () if "ports" in endpoint_slice else ():
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


def default_binding(binding: Object) -> None:
    """A role is of the RBAC group, and so are users and groups; service accounts are of the core group."""
    if not binding["roleRef"].get("apiGroup"):
        binding["roleRef"]["apiGroup"] = RBAC_GROUP
    for subject in binding.get("subjects", ()):
        if subject["kind"] in ("User", "Group"):
            subject.setdefault("apiGroup", RBAC_GROUP)


def default_storage_class(storage_class: Object) -> None:
    """Volumes go with their claims and are made at once."""
    storage_class.setdefault("reclaimPolicy", "Delete")
    storage_class.setdefault("volumeBindingMode", "Immediate")


def default_csi_driver(driver: Object) -> None:
    """A driver attaches its volumes and is told nothing of pods."""
    spec = driver["spec"]
    spec.setdefault("attachRequired", True)
    spec.setdefault("podInfoOnMount", False)
    spec.setdefault("storageCapacity", False)
    spec.setdefault("fsGroupPolicy", "ReadWriteOnceWithFSType")
    spec.setdefault("requiresRepublish", False)
    spec.setdefault("seLinuxMount", False)
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]


def default_priority_class(priority_class: Object) -> None:
    """A higher class may push out lower ones."""
    priority_class.setdefault("preemptionPolicy", "PreemptLowerPriority")


def default_flow_schema(schema: Object) -> None:
    """Where a flow schema stands in the order of matching."""
    schema["spec"].setdefault("matchingPrecedence", 1000)


def default_priority_level(level: Object) -> None:
    """Shares and queues of a priority level."""
    spec = level["spec"]
    if "exempt" in spec:
        spec["exempt"].setdefault("nominalConcurrencyShares", 0)
        spec["exempt"].setdefault("lendablePercent", 0)
    limited = spec.get("limited")
    if limited is not None:
        limited.setdefault("nominalConcurrencyShares", 30)
        limited.setdefault("lendablePercent", 0)
        queuing = limited["limitResponse"].get("queuing")
        if queuing is not None:
            for name, value in (("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)):
                if not queuing.get(name):
                    queuing[name] = value


def default_resource_claim(claim: Object) -> None:
    """How many devices each request is for."""
    _default_claim_spec(claim["spec"])


def default_resource_claim_template(template: Object) -> None:
    """The claim inside the template."""
    _default_claim_spec(template["spec"]["spec"])


def _default_claim_spec(spec: Object) -> None:
    for request in spec["devices"].get("requests", ()):
        choices = [request["exactly"]] if "exactly" in request else []
        for choice in (*choices, *request.get("firstAvailable", ())):
            mode = choice.setdefault("allocationMode", "ExactCount")
            if mode == "ExactCount":
                choice.setdefault("count", 1)
            for toleration in choice.get("tolerations", ()):
                toleration.setdefault("operator", "Equal")
