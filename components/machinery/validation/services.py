"""Validation of Services."""

from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.service_fields import family_of, needs_health_check_port
from understudy.components.machinery.validation.containers import PROTOCOLS, port_number_or_name
from understudy.components.machinery.validation.findings import (
    Findings,
    duplicate,
    forbidden,
    invalid,
    invalid_all,
    not_supported,
    one_of,
    required,
)
from understudy.components.machinery.validation.metadata import validate_labels
from understudy.components.machinery.validation.rules import Rules

Object = dict[str, Any]

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
FAMILIES = ("IPv4", "IPv6")
FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
TRAFFIC_POLICIES = ("Cluster", "Local")
DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_KUBELET_PORT = 10250
_AFFINITY_SECONDS_MAX = 86400


def _headless(spec: Object) -> bool:
    return bool(spec.get("clusterIPs", [])[:1] == ["None"])


def validate_service(service: Object) -> Findings:
    """A Service; its cluster IPs must have been brought in line (`normalise_cluster_ips`)."""
    spec = service["spec"]
    kind, ports, headless = spec["type"], spec.get("ports", []), _headless(spec)
    found: Findings = []
    if not ports and not headless and kind != "ExternalName":
        found.append(required("spec.ports"))
    if kind == "LoadBalancer":
        for index, port in enumerate(ports):
            if port["port"] == _KUBELET_PORT:
                detail = f"may not expose port {_KUBELET_PORT} externally since it is used by kubelet"
                found.append(invalid(f"spec.ports[{index}]", port["port"], detail))
    if kind in ("LoadBalancer", "NodePort") and headless:
        detail = f"may not be set to 'None' for {kind} services"
        found.append(invalid("spec.clusterIPs[0]", "None", detail))
    if kind == "ExternalName":
        found += _external_name(spec)
    found += _ports(ports, headless)
    found += validate_labels(spec.get("selector"), "spec.selector")
    found += _affinity(spec)
    found += validate_cluster_ips(service)
    for index, address in enumerate(spec.get("externalIPs", ())):
        at = f"spec.externalIPs[{index}]"
        problems = names.ip_address(address)
        found += invalid_all(at, address, problems)
        if not problems:
            found += special_address(address, at)
    found += one_of("spec.type", kind, TYPES)
    found += _port_conflicts(spec)
    for index, network in enumerate(spec.get("loadBalancerSourceRanges", ())):
        at = f"spec.loadBalancerSourceRanges[{index}]"
        if kind != "LoadBalancer":
            found.append(
                forbidden("spec.LoadBalancerSourceRanges", "may only be used when `type` is 'LoadBalancer'")
            )
            break
        found += invalid_all(at, network, names.cidr(network.strip()))
    found += _load_balancer(spec)
    found += _traffic(spec)
    return found


def _external_name(spec: Object) -> Findings:
    found: Findings = []
    for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(field):
            found.append(forbidden(f"spec.{field}", "may not be set for ExternalName services"))
    name = spec.get("externalName", "").removesuffix(".")
    if not name:
        found.append(required("spec.externalName"))
    return found + (invalid_all("spec.externalName", name, names.dns1123_subdomain(name)) if name else [])


def _ports(ports: list[Object], headless: bool) -> Findings:
    found: Findings = []
    seen: list[str] = []
    for index, port in enumerate(ports):
        at, name = f"spec.ports[{index}]", port.get("name", "")
        if not name:
            if len(ports) > 1:
                found.append(required(f"{at}.name"))
        else:
            found += invalid_all(f"{at}.name", name, names.dns1123_label(name))
            if name in seen:
                found.append(duplicate(f"{at}.name", name))
            seen.append(name)
        found += invalid_all(f"{at}.port", port["port"], names.port_number(port["port"]))
        found += one_of(f"{at}.protocol", port.get("protocol", ""), PROTOCOLS)
        found += port_number_or_name(port.get("targetPort"), f"{at}.targetPort")
        if "appProtocol" in port:
            problems = names.qualified_name(port["appProtocol"])
            found += invalid_all(f"{at}.appProtocol", port["appProtocol"], problems)
    return found


def _affinity(spec: Object) -> Findings:
    affinity = spec.get("sessionAffinity", "")
    found = one_of("spec.sessionAffinity", affinity, ("ClientIP", "None"))
    path = "spec.sessionAffinityConfig"
    config = spec.get("sessionAffinityConfig")
    if affinity == "ClientIP":
        seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
        if seconds is None:
            found.append(required(path, "when session affinity type is ClientIP"))
        elif not 0 < seconds <= _AFFINITY_SECONDS_MAX:
            detail = f"must be greater than 0 and less than {_AFFINITY_SECONDS_MAX}"
            found.append(invalid(f"{path}.clientIP.timeoutSeconds", seconds, detail))
    elif affinity == "None" and config is not None:
        found.append(forbidden(path, "must not be set when session affinity is None"))
    return found


def validate_cluster_ips(service: Object) -> Findings:
    """Cluster IPs and families agree with each other. Also run before addresses are allocated."""
    spec = service["spec"]
    if spec["type"] == "ExternalName":
        return []
    found: Findings = []
    single, many = spec.get("clusterIP", ""), spec.get("clusterIPs", [])
    families = spec.get("ipFamilies", [])
    if single and not many:
        found.append(required("spec.clusterIPs"))
    elif many and not single:
        found.append(required("spec.clusterIP"))
    elif many and many[0] != single:
        found.append(invalid("spec.clusterIPs", many, "first value must match `clusterIP`"))
    policy = spec.get("ipFamilyPolicy")
    for index, family in enumerate(families):
        if family not in FAMILIES:
            found.append(not_supported(f"spec.ipFamilies[{index}]", family, FAMILIES))
        elif family in families[:index]:
            found.append(duplicate(f"spec.ipFamilies[{index}]", family))
    if policy is not None:
        found += one_of("spec.ipFamilyPolicy", policy, FAMILY_POLICIES)
    for index, address in enumerate(many):
        at = f"spec.clusterIPs[{index}]"
        if address == "None":
            if len(many) > 1:
                found.append(invalid(at, address, "'None' must be the first and only value"))
            continue
        problems = names.ip_address(address)
        found += invalid_all(at, address, problems)
        if not problems and index < len(families) and family_of(address) != families[index]:
            detail = f"expected an {families[index]} value as indicated by `ipFamilies[{index}]`"
            found.append(invalid(at, address, detail))
    if len(many) > 2:
        found.append(invalid("spec.clusterIPs", many, "may only hold up to 2 values"))
    return found


def _port_conflicts(spec: Object) -> Findings:
    found: Findings = []
    ports = spec.get("ports", [])
    node_ports: list[tuple[str, int]] = []
    for index, port in enumerate(ports):
        number, at = port.get("nodePort", 0), f"spec.ports[{index}].nodePort"
        if not number:
            continue
        if spec["type"] == "ClusterIP":
            found.append(forbidden(at, "may not be used when `type` is 'ClusterIP'"))
        elif (port["protocol"], number) in node_ports:
            found.append(duplicate(at, number))
        node_ports.append((port["protocol"], number))
    seen: list[tuple[str, int]] = []
    for index, port in enumerate(ports):
        key = (port["protocol"], port["port"])
        if key in seen:
            found.append(
                duplicate(f"spec.ports[{index}]", {"port": port["port"], "protocol": port["protocol"]})
            )
        seen.append(key)
    return found


def _load_balancer(spec: Object) -> Findings:
    found: Findings = []
    if spec["type"] != "LoadBalancer":
        return [
            forbidden(f"spec.{field}", "may only be used when `type` is 'LoadBalancer'")
            for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass")
            if field in spec
        ]
    if "loadBalancerClass" in spec:
        value = spec["loadBalancerClass"]
        found += invalid_all("spec.loadBalancerClass", value, names.qualified_name(value))
    return found


def _traffic(spec: Object) -> Findings:
    found: Findings = []
    external = spec["type"] in ("NodePort", "LoadBalancer") or (
        spec["type"] == "ClusterIP" and spec.get("externalIPs")
    )
    policy, at = spec.get("externalTrafficPolicy", ""), "spec.externalTrafficPolicy"
    if not external:
        if policy:
            detail = "may only be set for externally-accessible services"
            found.append(invalid(at, policy, detail))
    elif not policy:
        found.append(required(at, "for externally-accessible services"))
    else:
        found += one_of(at, policy, TRAFFIC_POLICIES)
    port = spec.get("healthCheckNodePort", 0)
    if not needs_health_check_port(spec):
        if port:
            detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
            found.append(invalid("spec.healthCheckNodePort", port, detail))
    elif port:
        found += invalid_all("spec.healthCheckNodePort", port, names.port_number(port))
    internal = spec.get("internalTrafficPolicy")
    if internal is None:
        if spec["type"] in ("ClusterIP", "NodePort", "LoadBalancer"):
            found.append(required("spec.internalTrafficPolicy"))
    else:
        found += one_of("spec.internalTrafficPolicy", internal, TRAFFIC_POLICIES)
    if "trafficDistribution" in spec:
        found += one_of("spec.trafficDistribution", spec["trafficDistribution"], DISTRIBUTIONS)
    return found


def special_address(text: str, path: str) -> Findings:
    """Addresses that no other host can reach are no endpoints."""
    address = names.parse_address(text)
    assert address is not None, text
    if address.is_unspecified:
        return [invalid(path, text, f"may not be unspecified ({text})")]
    if address.is_loopback:
        return [invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)")]
    if address.is_link_local:
        return [invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")]
    if address.is_multicast and (str(address).startswith("224.0.0.") or str(address).startswith("ff02:")):
        return [invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")]
    return []


def _change(new: Object, old: Object) -> Findings:
    spec, before = new["spec"], old["spec"]
    found: Findings = []
    named = "ExternalName" in (spec["type"], before["type"])
    if not named and not (_headless(spec) and _headless(before)):
        for index, (address, earlier) in enumerate(
            zip(spec.get("clusterIPs", []), before.get("clusterIPs", []), strict=False)
        ):
            if address != earlier:
                found.append(invalid(f"spec.clusterIPs[{index}]", address, "may not change once set"))
        for index, (family, earlier) in enumerate(
            zip(spec.get("ipFamilies", []), before.get("ipFamilies", []), strict=False)
        ):
            if family != earlier:
                found.append(invalid(f"spec.ipFamilies[{index}]", family, "may not change once set"))
    if spec["type"] == before["type"] == "LoadBalancer":
        new_class, old_class = spec.get("loadBalancerClass"), before.get("loadBalancerClass")
        if old_class is not None and new_class != old_class:
            found.append(invalid("spec.loadBalancerClass", new_class, "may not change once set"))
    if needs_health_check_port(spec) and needs_health_check_port(before):
        ports = (spec.get("healthCheckNodePort"), before.get("healthCheckNodePort"))
        if ports[0] != ports[1]:
            found.append(forbidden("spec.healthCheckNodePort", "field is immutable"))
    return found


def _status(new: Object, old: Object) -> Findings:
    return load_balancer_status(new["status"], new["spec"]["type"] == "LoadBalancer")


def load_balancer_status(status: Object, allowed: bool = True) -> Findings:
    """Where a load balancer can be reached."""
    found: Findings = []
    ingress = status["loadBalancer"].get("ingress", [])
    if ingress and not allowed:
        detail = 'may only be used when `spec.type` is "LoadBalancer"'
        return [forbidden("status.loadBalancer.ingress", detail)]
    for index, item in enumerate(ingress):
        at = f"status.loadBalancer.ingress[{index}]"
        if item.get("ip"):
            found += invalid_all(f"{at}.ip", item["ip"], names.ip_address(item["ip"]))
        mode = item.get("ipMode")
        if mode is not None:
            if not item.get("ip"):
                found.append(forbidden(f"{at}.ipMode", "may not be specified when `ip` is not set"))
            found += one_of(f"{at}.ipMode", mode, ("Proxy", "VIP"))
        if item.get("hostname"):
            host = item["hostname"]
            found += invalid_all(f"{at}.hostname", host, names.dns1123_subdomain(host))
            if names.parse_address(host) is not None:
                found.append(invalid(f"{at}.hostname", host, "must be a DNS name, not an IP address"))
    return found


RULES: dict[str, Rules] = {
    "v1 Service": Rules(name=names.dns1123_label, create=validate_service, change=_change, status=_status),
}
