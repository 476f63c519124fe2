"""Validation of the groups networking, discovery, coordination."""

from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.validation.containers import PROTOCOLS, port_number_or_name
from understudy.components.machinery.validation.findings import (
    Findings,
    duplicate,
    forbidden,
    immutable,
    invalid,
    invalid_all,
    non_negative,
    not_supported,
    one_of,
    required,
)
from understudy.components.machinery.validation.metadata import validate_label_selector
from understudy.components.machinery.validation.rules import Rules
from understudy.components.machinery.validation.services import load_balancer_status, special_address

Object = dict[str, Any]

_PATH_TYPES = ("Exact", "Prefix", "ImplementationSpecific")
_FORBIDDEN_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_FORBIDDEN_ENDINGS = ("/..", "/.")
_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_ADDRESSES_MAX = 100
_ENDPOINTS_MAX = 1000
_PORTS_MAX = 20000


def _ingress(ingress: Object) -> Findings:
    spec = ingress["spec"]
    found: Findings = []
    rules, backend = spec.get("rules", []), spec.get("defaultBackend")
    if not rules and backend is None:
        detail = "either `defaultBackend` or `rules` must be specified"
        found.append(invalid("spec", None, detail))
    for index, tls in enumerate(spec.get("tls", ())):
        for number, host in enumerate(tls.get("hosts", ())):
            found += _host(host, f"spec.tls[{index}].hosts[{number}]")
        if tls.get("secretName"):
            name = tls["secretName"]
            found += invalid_all(f"spec.tls[{index}].secretName", name, names.dns1123_subdomain(name))
    for index, rule in enumerate(rules):
        found += _ingress_rule(rule, f"spec.rules[{index}]")
    if backend is not None:
        found += _backend(backend, "spec.defaultBackend")
    if spec.get("ingressClassName") is not None:
        name = spec["ingressClassName"]
        found += invalid_all("spec.ingressClassName", name, names.dns1123_subdomain(name))
    return found


def _host(host: str, path: str) -> Findings:
    problems = names.wildcard_subdomain(host) if "*" in host else names.dns1123_subdomain(host)
    return invalid_all(path, host, problems)


def _ingress_rule(rule: Object, path: str) -> Findings:
    found: Findings = []
    host = rule.get("host")
    if host:
        if names.parse_address(host) is not None:
            found.append(invalid(f"{path}.host", host, "must be a DNS name, not an IP address"))
        found += _host(host, f"{path}.host")
    if "http" not in rule:
        return found
    paths = rule["http"].get("paths") or []
    if not paths:
        found.append(required(f"{path}.http.paths"))
    for index, item in enumerate(paths):
        found += _http_path(item, f"{path}.http.paths[{index}]")
    return found


def _http_path(item: Object, path: str) -> Findings:
    kind, text = item.get("pathType"), item.get("path", "")
    if kind is None:
        return [required(f"{path}.pathType", "pathType must be specified")]
    found: Findings = []
    at = f"{path}.path"
    if kind in ("Exact", "Prefix"):
        if not text.startswith("/"):
            found.append(invalid(at, text, "must be an absolute path"))
        if text:
            found += [
                invalid(at, text, f"must not contain '{mark}'")
                for mark in _FORBIDDEN_SEQUENCES
                if mark in text
            ]
            found += [
                invalid(at, text, f"cannot end with '{mark}'")
                for mark in _FORBIDDEN_ENDINGS
                if text.endswith(mark)
            ]
    elif kind == "ImplementationSpecific":
        if text and not text.startswith("/"):
            found.append(invalid(at, text, "must be an absolute path"))
    else:
        found.append(not_supported(f"{path}.pathType", kind, _PATH_TYPES))
    return found + _backend(item["backend"], f"{path}.backend")


def _backend(backend: Object, path: str) -> Findings:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        return [invalid(path, "", "cannot set both resource and service backends")]
    if resource is not None:
        return [required(f"{path}.resource.{field}") for field in ("kind", "name") if not resource[field]]
    if service is None:
        return [required(path, "either resource or service backend must be specified")]
    found: Findings = []
    if not service["name"]:
        found.append(required(f"{path}.service.name"))
    else:
        found += invalid_all(f"{path}.service.name", service["name"], names.dns1123_label(service["name"]))
    port = service.get("port", {})
    name, number = port.get("name", ""), port.get("number", 0)
    if name and number:
        found.append(invalid(path, "", "cannot set both port name & port number"))
    elif name:
        found += invalid_all(f"{path}.service.port.name", name, names.port_name(name))
    elif number:
        found += invalid_all(f"{path}.service.port.number", number, names.port_number(number))
    else:
        found.append(required(path, "port name or number is required"))
    return found


def _ingress_status(new: Object, old: Object) -> Findings:
    return load_balancer_status(new["status"])


def _ingress_class(ingress_class: Object) -> Findings:
    spec = ingress_class["spec"]
    controller = spec.get("controller", "")
    found: Findings = []
    if len(controller) > 250:
        found.append(invalid("spec.controller", controller, "must be no more than 250 characters"))
    found += invalid_all("spec.controller", controller, names.domain_prefixed_path(controller))
    parameters = spec.get("parameters")
    if parameters is None:
        return found
    path = "spec.parameters"
    if parameters.get("apiGroup") is not None:
        group = parameters["apiGroup"]
        found += invalid_all(f"{path}.apiGroup", group, names.dns1123_subdomain(group))
    for field in ("kind", "name"):
        if not parameters[field]:
            found.append(required(f"{path}.{field}"))
        else:
            found += invalid_all(f"{path}.{field}", parameters[field], names.path_segment(parameters[field]))
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    if scope is None:
        found.append(required(f"{path}.scope"))
        return found
    found += one_of(f"{path}.scope", scope, ("Cluster", "Namespace"))
    if scope == "Namespace":
        if namespace is None:
            found.append(required(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'"))
        else:
            found += invalid_all(f"{path}.namespace", namespace, names.dns1123_label(namespace))
    elif namespace is not None:
        found.append(forbidden(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'"))
    return found


def _ingress_class_change(new: Object, old: Object) -> Findings:
    return immutable("spec.controller", new["spec"].get("controller"), old["spec"].get("controller"))


def _network_policy(policy: Object) -> Findings:
    spec = policy["spec"]
    found = validate_label_selector(spec["podSelector"], "spec.podSelector")
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction, ())):
            at = f"spec.{direction}[{index}]"
            for number, port in enumerate(rule.get("ports", ())):
                found += _policy_port(port, f"{at}.ports[{number}]")
            for number, peer in enumerate(rule.get(side, ())):
                found += _peer(peer, f"{at}.{side}[{number}]")
    types = spec.get("policyTypes", [])
    if len(types) > 2:
        found.append(invalid("spec.policyTypes", types, "may not specify more than two policyTypes"))
        return found
    for index, kind in enumerate(types):
        found += one_of(f"spec.policyTypes[{index}]", kind, ("Egress", "Ingress"))
    return found


def _policy_port(port: Object, path: str) -> Findings:
    found: Findings = []
    if "protocol" in port:
        found += one_of(f"{path}.protocol", port["protocol"], PROTOCOLS)
    number, end = port.get("port"), port.get("endPort")
    if number is not None:
        found += port_number_or_name(number, f"{path}.port")
        if isinstance(number, int):
            if end is not None:
                if end < number:
                    detail = "must be greater than or equal to `port`"
                    found.append(invalid(f"{path}.endPort", number, detail))
                found += invalid_all(f"{path}.endPort", end, names.port_number(end))
        elif end is not None:
            detail = "may not be specified when `port` is non-numeric"
            found.append(invalid(f"{path}.endPort", end, detail))
    elif end is not None:
        found.append(invalid(f"{path}.endPort", end, "may not be specified when `port` is not specified"))
    return found


def _peer(peer: Object, path: str) -> Findings:
    found: Findings = []
    count = 0
    for field in ("podSelector", "namespaceSelector"):
        if field in peer:
            count += 1
            found += validate_label_selector(peer[field], f"{path}.{field}")
    block = peer.get("ipBlock")
    if block is not None:
        count += 1
        found += _ip_block(block, f"{path}.ipBlock")
    if count == 0:
        found.append(required(path, "must specify a peer"))
    elif count > 1 and block is not None:
        found.append(forbidden(path, "may not specify both ipBlock and another peer"))
    return found


def _ip_block(block: Object, path: str) -> Findings:
    if not block["cidr"]:
        return [required(f"{path}.cidr")]
    problems = names.cidr(block["cidr"])
    if problems:
        return invalid_all(f"{path}.cidr", block["cidr"], problems)
    outer = names.parse_network(block["cidr"])
    found: Findings = []
    for index, text in enumerate(block.get("except", ())):
        at = f"{path}.except[{index}]"
        found += invalid_all(at, text, names.cidr(text))
        inner = names.parse_network(text)
        if inner is None or outer is None:
            continue
        inside = (
            inner.version == outer.version
            and inner.prefixlen > outer.prefixlen
            and inner.network_address in outer
        )
        if not inside:
            found.append(invalid(at, text, "must be a strict subset of `cidr`"))
    return found


def _endpoint_slice(endpoint_slice: Object) -> Findings:
    kind = endpoint_slice["addressType"]
    if not kind:
        return [required("addressType")]
    if kind not in _ADDRESS_TYPES:
        return [not_supported("addressType", kind, _ADDRESS_TYPES)]
    found: Findings = []
    endpoints = endpoint_slice.get("endpoints") or []
    if len(endpoints) > _ENDPOINTS_MAX:
        found.append(invalid("endpoints", len(endpoints), f"must have at most {_ENDPOINTS_MAX} items"))
        return found
    for index, endpoint in enumerate(endpoints):
        found += _endpoint(endpoint, kind, f"endpoints[{index}]")
    return found + _slice_ports(endpoint_slice.get("ports") or [])


def _endpoint(endpoint: Object, kind: str, path: str) -> Findings:
    found: Findings = []
    addresses = endpoint["addresses"] or []
    if not addresses:
        found.append(required(f"{path}.addresses", "must contain at least 1 address"))
    elif len(addresses) > _ADDRESSES_MAX:
        detail = f"must have at most {_ADDRESSES_MAX} items"
        found.append(invalid(f"{path}.addresses", len(addresses), detail))
    for index, text in enumerate(addresses):
        at = f"{path}.addresses[{index}]"
        if kind == "FQDN":
            found += invalid_all(at, text, names.fully_qualified_domain(text, 2))
            continue
        address = names.parse_address(text)
        if address is None:
            found += invalid_all(at, text, names.ip_address(text))
            continue
        if kind != f"IPv{address.version}":
            found.append(invalid(f"{path}.addresses", text, f"must be an {kind} address"))
        found += special_address(text, at)
    node, host = endpoint.get("nodeName"), endpoint.get("hostname")
    if node is not None:
        found += invalid_all(f"{path}.nodeName", node, names.dns1123_subdomain(node))
    if host is not None:
        found += invalid_all(f"{path}.hostname", host, names.dns1123_label(host))
    return found


def _slice_ports(ports: list[Object]) -> Findings:
    found: Findings = []
    if len(ports) > _PORTS_MAX:
        return [invalid("ports", len(ports), f"must have at most {_PORTS_MAX} items")]
    seen: list[str] = []
    for index, port in enumerate(ports):
        at, name = f"ports[{index}]", port.get("name", "")
        if name:
            found += invalid_all(f"{at}.name", name, names.dns1123_label(name))
        if name in seen:
            found.append(duplicate(f"{at}.name", name))
        seen.append(name)
        protocol = port.get("protocol")
        found += one_of(f"{at}.protocol", protocol, PROTOCOLS) if protocol else [required(f"{at}.protocol")]
        if "appProtocol" in port:
            value = port["appProtocol"]
            found += invalid_all(f"{at}.appProtocol", value, names.qualified_name(value))
    return found


def _endpoint_slice_change(new: Object, old: Object) -> Findings:
    return immutable("addressType", new["addressType"], old["addressType"])


def _ip_name(text: str) -> list[str]:
    problems = names.ip_address(text)
    address = names.parse_address(text)
    if address is not None and str(address) != text:
        problems.append("must be in canonical form")
    return problems


def _ip(address: Object) -> Findings:
    parent = address["spec"].get("parentRef")
    if parent is None:
        return [required("spec.parentRef")]
    found: Findings = []
    for field in ("resource", "name"):
        if not parent.get(field):
            found.append(required(f"spec.parentRef.{field}"))
        else:
            problems = names.path_segment(parent[field])
            found += invalid_all(f"spec.parentRef.{field}", parent[field], problems)
    for field, check in (("group", names.dns1123_subdomain), ("namespace", names.path_segment)):
        if parent.get(field):
            found += invalid_all(f"spec.parentRef.{field}", parent[field], check(parent[field]))
    return found


def _ip_change(new: Object, old: Object) -> Findings:
    return immutable("spec.parentRef", new["spec"].get("parentRef"), old["spec"].get("parentRef"))


def _service_cidr(ranges: Object) -> Findings:
    networks = ranges["spec"].get("cidrs", [])
    if not networks:
        return [required("spec.cidrs", "at least one CIDR required")]
    found: Findings = []
    if len(networks) > 2:
        found.append(invalid("spec", ranges["spec"], "may only hold up to 2 values"))
    for index, network in enumerate(networks):
        found += invalid_all(f"spec.cidrs[{index}]", network, names.cidr(network))
    return found


def _service_cidr_change(new: Object, old: Object) -> Findings:
    networks, before = new["spec"].get("cidrs", []), old["spec"].get("cidrs", [])
    return (
        []
        if networks[: len(before)] == before
        else [invalid("spec.cidrs[0]", networks, "field is immutable")]
    )


def _lease(lease: Object) -> Findings:
    spec = lease.get("spec", {})
    found: Findings = []
    seconds = spec.get("leaseDurationSeconds")
    if seconds is not None and seconds <= 0:
        found.append(invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    if spec.get("leaseTransitions") is not None:
        found += non_negative("spec.leaseTransitions", spec["leaseTransitions"])
    return found


RULES: dict[str, Rules] = {
    "networking.k8s.io/v1 Ingress": Rules(create=_ingress, status=_ingress_status),
    "networking.k8s.io/v1 IngressClass": Rules(create=_ingress_class, change=_ingress_class_change),
    "networking.k8s.io/v1 NetworkPolicy": Rules(create=_network_policy),
    "networking.k8s.io/v1 IPAddress": Rules(name=_ip_name, create=_ip, change=_ip_change),
    "networking.k8s.io/v1 ServiceCIDR": Rules(create=_service_cidr, change=_service_cidr_change),
    "discovery.k8s.io/v1 EndpointSlice": Rules(create=_endpoint_slice, change=_endpoint_slice_change),
    "coordination.k8s.io/v1 Lease": Rules(create=_lease),
}
