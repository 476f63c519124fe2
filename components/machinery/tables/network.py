"""Rows of services, endpoints, ingresses and the other kinds of the network."""

from typing import Any

from understudy.components.machinery.tables.printer import (
    AGE,
    NAME,
    NONE,
    UNSET,
    Object,
    age_of,
    format_labels,
    name_of,
    printer,
    selector_text,
    shorten,
    wide,
)

_SHOWN_MAX = 3


def _load_balancer_addresses(obj: Object) -> str:
    ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return ",".join(sorted({i.get("ip") or i.get("hostname") or "" for i in ingress} - {""}))


def _external_ip(obj: Object, spec: Object) -> str:
    external = spec.get("externalIPs") or []
    match spec.get("type"):
        case "ClusterIP" | "NodePort":
            return ",".join(external) or NONE
        case "LoadBalancer":
            balanced = _load_balancer_addresses(obj)
            return ",".join([*([balanced] if balanced else []), *external]) or "<pending>"
        case "ExternalName":
            return str(spec.get("externalName", ""))
        case _:
            return "<unknown>"


def _service_port(port: Object) -> str:
    protocol = port.get("protocol", "")
    if node_port := port.get("nodePort"):
        return f"{port['port']}:{node_port}/{protocol}"
    return f"{port['port']}/{protocol}"


def _service(obj: Object, now_us: int) -> list[Any]:
    spec = obj.get("spec") or {}
    cluster_ips = spec.get("clusterIPs")
    return [
        name_of(obj),
        spec.get("type", ""),
        cluster_ips[0] if cluster_ips else NONE,
        _external_ip(obj, spec),
        ",".join(map(_service_port, spec.get("ports") or ())) or NONE,
        age_of(obj, now_us),
        format_labels(spec.get("selector")),
    ]


def _join_host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _endpoint_addresses(subsets: list[Object]) -> str:
    if not subsets:
        return NONE
    shown: list[str] = []
    total = 0
    for subset in subsets:
        addresses, ports = subset.get("addresses") or (), subset.get("ports") or ()
        total += len(addresses) * max(1, len(ports))
        # A headless service may have no ports: then the addresses stand alone.
        for port in ports or (None,):
            shown += [
                _join_host_port(address["ip"], port["port"]) if port else address["ip"]
                for address in addresses[: max(0, _SHOWN_MAX - len(shown))]
            ]
    return shorten(shown, _SHOWN_MAX, total)


def _endpoints(obj: Object, now_us: int) -> list[Any]:
    return [name_of(obj), _endpoint_addresses(obj.get("subsets") or []), age_of(obj, now_us)]


def _slice_port(port: Object) -> str:
    number = port.get("port")
    if number is not None:
        return str(number)
    return "*" if port.get("name") is None else str(port["name"])


def _endpoint_slice(obj: Object, now_us: int) -> list[Any]:
    ports = [_slice_port(port) for port in obj.get("ports") or ()]
    addresses = [a for endpoint in obj.get("endpoints") or () for a in endpoint.get("addresses") or ()]
    return [
        name_of(obj),
        obj.get("addressType", ""),
        shorten(ports, _SHOWN_MAX, len(ports)) or UNSET,
        shorten(addresses, _SHOWN_MAX, len(addresses)) or UNSET,
        age_of(obj, now_us),
    ]


def _ingress_hosts(rules: list[Object]) -> str:
    # Only the first three rules are looked at, those without a host included in the count of the rest.
    hosts: list[str] = []
    for rule in rules:
        if len(hosts) == _SHOWN_MAX:
            return f"{','.join(hosts)} + {len(rules) - _SHOWN_MAX} more..."
        if host := rule.get("host"):
            hosts.append(host)
    return ",".join(hosts) or "*"


def _ingress(obj: Object, now_us: int) -> list[Any]:
    spec = obj.get("spec") or {}
    ingress_class = spec.get("ingressClassName")
    return [
        name_of(obj),
        NONE if ingress_class is None else ingress_class,
        _ingress_hosts(spec.get("rules") or []),
        _load_balancer_addresses(obj),
        "80, 443" if spec.get("tls") else "80",
        age_of(obj, now_us),
    ]


def _ingress_class(obj: Object, now_us: int) -> list[Any]:
    spec = obj.get("spec") or {}
    text = NONE
    if parameters := spec.get("parameters"):
        group = parameters.get("apiGroup")
        kind = parameters["kind"] if group is None else f"{parameters['kind']}.{group}"
        text = f"{kind}/{parameters['name']}"
    return [name_of(obj), spec.get("controller", ""), text, age_of(obj, now_us)]


def _network_policy(obj: Object, now_us: int) -> list[Any]:
    selector = (obj.get("spec") or {}).get("podSelector")
    return [name_of(obj), selector_text(selector) or NONE, age_of(obj, now_us)]


def _ip_address(obj: Object, now_us: int) -> list[Any]:
    text = NONE
    if parent := (obj.get("spec") or {}).get("parentRef"):
        group, resource = parent.get("group"), parent.get("resource", "")
        parts = [
            f"{resource}.{group}" if group else resource,
            parent.get("namespace"),
            parent.get("name", ""),
        ]
        text = "/".join(part for part in parts if part)
    # The real server has no column for the age and yet gives the cell.
    return [name_of(obj), text, age_of(obj, now_us)]


def _service_cidr(obj: Object, now_us: int) -> list[Any]:
    return [name_of(obj), ",".join((obj.get("spec") or {}).get("cidrs") or ()), age_of(obj, now_us)]


PRINTERS = {
    "v1/services": printer(
        _service, NAME, "Type", "Cluster-IP", "External-IP", "Port(s)", AGE, wide("Selector")
    ),
    "v1/endpoints": printer(_endpoints, NAME, "Endpoints", AGE),
    "discovery.k8s.io/v1/endpointslices": printer(
        _endpoint_slice, NAME, "AddressType", "Ports", "Endpoints", AGE
    ),
    "networking.k8s.io/v1/ingresses": printer(_ingress, NAME, "Class", "Hosts", "Address", "Ports", AGE),
    "networking.k8s.io/v1/ingressclasses": printer(_ingress_class, NAME, "Controller", "Parameters", AGE),
    "networking.k8s.io/v1/networkpolicies": printer(_network_policy, NAME, "Pod-Selector", AGE),
    "networking.k8s.io/v1/ipaddresses": printer(_ip_address, NAME, "ParentRef"),
    "networking.k8s.io/v1/servicecidrs": printer(_service_cidr, NAME, "CIDRs", AGE),
}
