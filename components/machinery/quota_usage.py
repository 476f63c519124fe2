"""What an object counts for in a ResourceQuota, and which scopes it is in.

Source: Kubernetes documentation, "Resource Quotas"; the API reference of ResourceQuotaSpec.
"""

from collections.abc import Callable
from fractions import Fraction

from understudy.components.machinery.api import Object
from understudy.components.machinery.pod_resources import Amounts, pod_amounts
from understudy.components.machinery.quality_of_service import quality_of_service
from understudy.components.machinery.quantity import parse
from understudy.components.machinery.resources import Resource

ONE = Fraction(1)
_PLAIN_COUNTS = frozenset(("configmaps", "replicationcontrollers", "resourcequotas", "secrets", "services"))
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_MUST_BE_SET = frozenset(("cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"))
_CLASS_SUFFIX = ".storageclass.storage.k8s.io/"


def usage(resource: Resource, obj: Object) -> Amounts:
    """What the object uses, by the names that quotas know."""
    count = f"count/{resource.group_resource}"
    used: Amounts = {count: ONE}
    special = _SPECIAL.get(resource.group_resource)
    if special is not None:
        used |= special(obj)
    elif resource.group_resource in _PLAIN_COUNTS:
        used[resource.plural] = ONE
    return used


def _pod(pod: Object) -> Amounts:
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return {}
    used: Amounts = {"pods": ONE}
    for name, value in pod_amounts(pod["spec"], "requests").items():
        if name in _COMPUTE or name.startswith("hugepages-"):
            used[name] = used[f"requests.{name}"] = value
        elif "/" in name and not name.split("/")[0].endswith("kubernetes.io"):
            used[f"requests.{name}"] = value
    for name, value in pod_amounts(pod["spec"], "limits").items():
        if name in _COMPUTE:
            used[f"limits.{name}"] = value
    return used


def _service(service: Object) -> Amounts:
    spec = service["spec"]
    kind, ports = spec.get("type", "ClusterIP"), spec.get("ports") or ()
    used: Amounts = {
        "services": ONE,
        "services.loadbalancers": Fraction(0),
        "services.nodeports": Fraction(0),
    }
    if kind == "NodePort":
        used["services.nodeports"] = Fraction(len(ports))
    elif kind == "LoadBalancer":
        used["services.loadbalancers"] = ONE
        if spec.get("allocateLoadBalancerNodePorts") is False:
            used["services.nodeports"] = Fraction(sum(1 for port in ports if port.get("nodePort")))
        else:
            used["services.nodeports"] = Fraction(len(ports))
    return used


def _claim(claim: Object) -> Amounts:
    spec = claim["spec"]
    used: Amounts = {"persistentvolumeclaims": ONE}
    kind = (claim["metadata"].get("annotations") or {}).get(
        "volume.beta.kubernetes.io/storage-class", spec.get("storageClassName", "")
    )
    if kind:
        used[f"{kind}{_CLASS_SUFFIX}persistentvolumeclaims"] = ONE
    requested = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if requested is not None:
        allocated = ((claim.get("status") or {}).get("allocatedResources") or {}).get("storage", "0")
        value = max(parse(requested), parse(allocated))
        used["requests.storage"] = value
        if kind:
            used[f"{kind}{_CLASS_SUFFIX}requests.storage"] = value
    return used


_SPECIAL: dict[str, Callable[[Object], Amounts]] = {
    "pods": _pod,
    "services": _service,
    "persistentvolumeclaims": _claim,
}


def unset(pod: Object, hard: Object) -> list[str]:
    """Amounts that a quota limits and a container of the pod leaves open: `limits.cpu for: a,b`."""
    spec = pod["spec"]
    found: dict[str, list[str]] = {}
    whole = spec.get("resources") or {}
    for name in sorted(hard):
        if name not in _MUST_BE_SET:
            continue
        side, _, plain = name.rpartition(".")
        if (whole.get(side or "requests") or {}).get(plain) is not None:
            continue
        for group in ("containers", "initContainers"):
            for container in spec.get(group) or ():
                resources = container.get("resources") or {}
                if (resources.get(side or "requests") or {}).get(plain) is None:
                    found.setdefault(name, []).append(container["name"])
    return [f"{name} for: {','.join(sorted(names))}" for name, names in found.items()]


def in_scopes(quota: Object, resource: Resource, obj: Object) -> bool:
    """Whether the object is within all scopes of the quota."""
    spec = quota["spec"]
    terms = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    terms += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    if not terms:
        return True
    if resource.group_resource == "pods":
        return all(_pod_is_in(term, obj) for term in terms)
    if resource.group_resource == "persistentvolumeclaims":
        return all(_claim_is_in(term, obj) for term in terms)
    return False


def _pod_is_in(term: Object, pod: Object) -> bool:
    spec, scope = pod["spec"], term["scopeName"]
    if scope == "Terminating":
        return spec.get("activeDeadlineSeconds") is not None
    if scope == "NotTerminating":
        return spec.get("activeDeadlineSeconds") is None
    if scope in ("BestEffort", "NotBestEffort"):
        return (quality_of_service(spec) == "BestEffort") is (scope == "BestEffort")
    if scope == "PriorityClass":
        return _value_matches(term, spec.get("priorityClassName") or "")
    return bool(scope == "CrossNamespacePodAffinity") and _reaches_other_namespaces(spec)


def _claim_is_in(term: Object, claim: Object) -> bool:
    if term["scopeName"] != "VolumeAttributesClass":
        return False
    return _value_matches(term, claim["spec"].get("volumeAttributesClassName") or "")


def _value_matches(term: Object, value: str) -> bool:
    operator, values = term.get("operator", "Exists"), term.get("values") or ()
    if operator == "Exists":
        return bool(value)
    if operator == "DoesNotExist":
        return not value
    return (value in values) is (operator == "In")


def _reaches_other_namespaces(spec: Object) -> bool:
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        terms = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        terms += [
            item["podAffinityTerm"]
            for item in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False
