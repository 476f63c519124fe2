"""Fields of a Service that depend on one another, on its type and on what was allocated to it.

The allocation of addresses and ports itself is the API server's; these are the rules around it.
"""

from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.errors import FieldError

Object = dict[str, Any]

NEEDS_CLUSTER_IP = ("ClusterIP", "NodePort", "LoadBalancer")
NEEDS_NODE_PORT = ("NodePort", "LoadBalancer")


def drop_type_dependent_fields(new: Object, old: Object) -> None:
    """Remove, in place, what only the former type needed and the caller left as it was."""
    spec, before = new["spec"], old["spec"]
    kind, former = spec["type"], before["type"]
    if former in NEEDS_CLUSTER_IP and kind not in NEEDS_CLUSTER_IP:
        if spec.get("clusterIPs") == before.get("clusterIPs"):
            spec.pop("clusterIP", None)
            spec.pop("clusterIPs", None)
        for name in ("ipFamilies", "ipFamilyPolicy"):
            if spec.get(name) == before.get(name):
                spec.pop(name, None)
        if spec.get("internalTrafficPolicy") == before.get("internalTrafficPolicy"):
            spec.pop("internalTrafficPolicy", None)
    if former in NEEDS_NODE_PORT and kind not in NEEDS_NODE_PORT:
        if _node_ports(spec) == _node_ports(before):
            for port in spec.get("ports", ()):
                port.pop("nodePort", None)
        if spec.get("externalTrafficPolicy") == before.get("externalTrafficPolicy"):
            spec.pop("externalTrafficPolicy", None)
    unasked = needs_health_check_port(before) and not needs_health_check_port(spec)
    if unasked and spec.get("healthCheckNodePort") == before.get("healthCheckNodePort"):
        spec.pop("healthCheckNodePort", None)
    if former == "LoadBalancer" and kind != "LoadBalancer":
        for name in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if spec.get(name) == before.get(name):
                spec.pop(name, None)
    if kind not in NEEDS_CLUSTER_IP and spec.get("internalTrafficPolicy") == before.get(
        "internalTrafficPolicy"
    ):
        spec.pop("internalTrafficPolicy", None)
    if (
        former == "ExternalName"
        and kind != "ExternalName"
        and spec.get("externalName") == before.get("externalName")
    ):
        spec.pop("externalName", None)


def needs_health_check_port(spec: Object) -> bool:
    """Whether a load balancer must ask each node if it has endpoints."""
    return spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _node_ports(spec: Object) -> list[int]:
    return [port.get("nodePort", 0) for port in spec.get("ports", ())]


def normalise_cluster_ips(new: Object, old: Object | None) -> None:
    """Make the single cluster IP and the list of them agree, in place, by what the caller changed."""
    spec = new["spec"]
    single, many = spec.get("clusterIP", ""), spec.get("clusterIPs", [])
    if old is None:
        if single and not many:
            spec["clusterIPs"] = [single]
        elif many and not single and old is None:
            pass
        return
    before = old["spec"].get("clusterIP", "")
    same_list = many == old["spec"].get("clusterIPs", [])
    if before and not single and same_list:
        spec.pop("clusterIPs", None)
    elif single and before != single and same_list:
        spec["clusterIPs"] = [single]


def keep_allocated(new: Object, old: Object) -> None:
    """Carry over, in place, addresses and ports that the caller left out of an update."""
    spec, before = new["spec"], old["spec"]
    both = spec["type"] in NEEDS_CLUSTER_IP and before["type"] in NEEDS_CLUSTER_IP
    if both and before.get("clusterIP") and not spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIP"] = before["clusterIP"]
        spec["clusterIPs"] = list(before.get("clusterIPs", [before["clusterIP"]]))
    if spec["type"] in NEEDS_NODE_PORT and before["type"] in NEEDS_NODE_PORT:
        held = {(p["protocol"], p["port"]): p["nodePort"] for p in before.get("ports", ()) if "nodePort" in p}
        taken = {port["nodePort"] for port in spec.get("ports", ()) if "nodePort" in port}
        for port in spec.get("ports", ()):
            number = held.get((port["protocol"], port["port"]))
            if "nodePort" not in port and number is not None and number not in taken:
                port["nodePort"] = number
                taken.add(number)
    both = needs_health_check_port(spec) and needs_health_check_port(before)
    if both and not spec.get("healthCheckNodePort") and "healthCheckNodePort" in before:
        spec["healthCheckNodePort"] = before["healthCheckNodePort"]


def default_ip_families(
    new: Object, old: Object | None, families: tuple[str, ...] = ("IPv4",)
) -> list[FieldError]:
    """Fill in `ipFamilies` and `ipFamilyPolicy`, in place; `families` are those of the cluster, the first
    preferred. Returns findings when the cluster cannot give what is asked."""
    spec = new["spec"]
    if spec["type"] == "ExternalName":
        return []
    policy = spec.get("ipFamilyPolicy")
    wanted = list(spec.get("ipFamilies", ()))
    addresses = spec.get("clusterIPs", [])
    headless = addresses[:1] == ["None"] or spec.get("clusterIP") == "None"
    findings = _contradictions(spec, old, wanted, addresses, families, headless)
    if findings:
        return findings
    if headless and not spec.get("selector"):
        if policy is None:
            policy = "SingleStack" if len(wanted) == 1 else "RequireDualStack"
        wanted = wanted or [families[0]]
        if policy != "SingleStack" and len(wanted) == 1:
            wanted.append("IPv6" if wanted[0] == "IPv4" else "IPv4")
    else:
        if policy is None:
            policy = "RequireDualStack" if max(len(wanted), len(addresses)) == 2 else "SingleStack"
        if not wanted:
            wanted = [family_of(address) for address in addresses if address != "None"]
        if not wanted:
            wanted = [families[0]]
        if len(wanted) == 1 and policy != "SingleStack" and len(families) > 1:
            wanted.append("IPv6" if wanted[0] == "IPv4" else "IPv4")
    spec["ipFamilies"], spec["ipFamilyPolicy"] = wanted, policy
    return []


def _contradictions(
    spec: Object,
    old: Object | None,
    wanted: list[str],
    addresses: list[str],
    families: tuple[str, ...],
    headless: bool,
) -> list[FieldError]:
    findings = []
    selectorless = headless and not spec.get("selector")
    if spec.get("ipFamilyPolicy") == "RequireDualStack" and not selectorless and len(families) < 2:
        detail = "this cluster is not configured for dual-stack services"
        findings.append(
            FieldError("FieldValueInvalid", "spec.ipFamilyPolicy", spec["ipFamilyPolicy"], detail)
        )
    for index, family in enumerate(wanted):
        if family not in families and not selectorless:
            detail = "not configured on this cluster"
            findings.append(FieldError("FieldValueInvalid", f"spec.ipFamilies[{index}]", family, detail))
    if not wanted:
        for index, address in enumerate(addresses):
            if address != "None" and family_of(address) not in families:
                detail = f"{family_of(address)} is not configured on this cluster"
                findings.append(
                    FieldError("FieldValueInvalid", f"spec.clusterIPs[{index}]", addresses, detail)
                )
    return findings


def family_of(address: str) -> str:
    """`IPv4` or `IPv6`."""
    parsed = names.parse_address(address)
    return "IPv6" if parsed is not None and parsed.version == 6 else "IPv4"
