"""From Services and EndpointSlices to the desired rule set of one node.

The rules are kube-proxy's: headless and ExternalName Services have none; a Service without ready
endpoints falls back to those that still serve while they terminate (KEP-1669); `Local` traffic policies
keep to the node's own endpoints; topology hints narrow the choice when every endpoint has one (KEP-2433,
KEP-3015). `publishNotReadyAddresses` needs nothing here: the slices already call such endpoints ready.
"""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from attrs import Factory, define, frozen

from understudy.components.boundary.dataplane import (
    Empty,
    Endpoint,
    Protocol,
    RuleSet,
    ServicePortName,
    ServiceRule,
)
from understudy.components.machinery.endpoint_slices import SliceEndpoint, SliceInfo, slice_info

Object = dict[str, Any]

PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
"""Objects with either label are left to somebody else."""
DEFAULT_AFFINITY_SECONDS = 10800


@frozen
class NodeView:
    """What of the node itself decides its rules."""

    name: str
    ips: tuple[str, ...] = ()
    zone: str = ""


def is_proxied(service: Mapping[str, Any]) -> bool:
    """Whether the Service has a cluster IP that this proxy looks after."""
    labels, spec = service["metadata"].get("labels") or {}, service.get("spec") or {}
    if PROXY_NAME_LABEL in labels or HEADLESS_LABEL in labels or spec.get("type") == "ExternalName":
        return False
    return (spec.get("clusterIP") or "None") != "None"


def service_rules(
    service: Mapping[str, Any], slices: Iterable[SliceInfo], node: NodeView
) -> tuple[ServiceRule, ...]:
    """The rules of one Service on one node: one for each port and address family."""
    if not is_proxied(service):
        return ()
    meta, spec = service["metadata"], service["spec"]
    own = [s for s in slices if PROXY_NAME_LABEL not in s.labels and HEADLESS_LABEL not in s.labels]
    rules = []
    for family, cluster_ips in sorted(_by_family(spec.get("clusterIPs") or [spec["clusterIP"]]).items()):
        of_family = [s for s in own if s.address_type == f"IPv{family}"]
        for port in spec.get("ports") or ():
            name = port.get("name") or ""
            found = _endpoints(of_family, name, port.get("protocol") or "TCP", node)
            rules.append(
                _rule(
                    ServicePortName(meta.get("namespace") or "default", meta["name"], name),
                    service,
                    port,
                    cluster_ips,
                    tuple(_by_family(_external_ips(service)).get(family, ())),
                    found,
                    node,
                )
            )
    return tuple(rules)


def _by_family(addresses: Iterable[str]) -> dict[int, tuple[str, ...]]:
    families: dict[int, list[str]] = {}
    for address in addresses:
        families.setdefault(ip_address(address).version, []).append(address)
    return {family: tuple(members) for family, members in families.items()}


def _external_ips(service: Mapping[str, Any]) -> list[str]:
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    balanced = [entry["ip"] for entry in ingress if entry.get("ip") and entry.get("ipMode", "VIP") == "VIP"]
    return list(dict.fromkeys([*(service["spec"].get("externalIPs") or ()), *balanced]))


Found = tuple[Endpoint, SliceEndpoint]


def _endpoints(slices: Sequence[SliceInfo], port_name: str, protocol: str, node: NodeView) -> list[Found]:
    """Endpoints of a port by address; one that two slices name counts once, the better one."""
    found: dict[tuple[str, int], Found] = {}
    for one in slices:
        for port in one.ports:
            if port.name != port_name or port.protocol != protocol:
                continue
            for endpoint in one.endpoints:
                made = Endpoint(
                    endpoint.addresses[0],
                    port.port,
                    endpoint.ready,
                    endpoint.serving,
                    endpoint.terminating,
                    endpoint.node_name == node.name,
                )
                known = found.get((made.ip, made.port))
                if known is None or (made.ready, made.serving) > (known[0].ready, known[0].serving):
                    found[made.ip, made.port] = (made, endpoint)
    return [found[key] for key in sorted(found)]


def _usable(found: Sequence[Found]) -> list[Found]:
    """Ready ones; without any, those that still serve while they terminate."""
    ready = [pair for pair in found if pair[0].ready]
    return ready or [pair for pair in found if pair[0].serving and pair[0].terminating]


def _near(found: list[Found], node: NodeView) -> list[Found]:
    """Narrowed by topology hints: to this node, else to this zone; a missing hint disables them."""
    if found and all(hints.hinted_nodes is not None for _, hints in found):
        here = [pair for pair in found if node.name in (pair[1].hinted_nodes or ())]
        if here:
            return here
    if node.zone and found and all(hints.hinted_zones is not None for _, hints in found):
        close = [pair for pair in found if node.zone in (pair[1].hinted_zones or ())]
        if close:
            return close
    return found


def _chosen(found: Sequence[Found], local: bool, node: NodeView) -> tuple[Endpoint, ...]:
    usable = _usable([pair for pair in found if pair[0].is_local or not local])
    chosen = usable if local else _near(usable, node)
    return tuple(endpoint for endpoint, _ in chosen)


def _rule(
    name: ServicePortName,
    service: Mapping[str, Any],
    port: Mapping[str, Any],
    cluster_ips: tuple[str, ...],
    external_ips: tuple[str, ...],
    found: Sequence[Found],
    node: NodeView,
) -> ServiceRule:
    spec = service["spec"]
    inside = spec.get("internalTrafficPolicy") == "Local"
    outside = spec.get("externalTrafficPolicy") == "Local"
    node_port = port.get("nodePort") or 0
    anywhere = bool(_usable(found))
    exposed = bool(node_port or external_ips)
    return ServiceRule(
        service=name,
        protocol=Protocol(port.get("protocol") or "TCP"),
        cluster_ips=cluster_ips,
        port=port["port"],
        node_port=node_port,
        external_ips=external_ips,
        session_affinity_seconds=_affinity_seconds(spec),
        cluster_endpoints=_chosen(found, inside, node),
        external_endpoints=_chosen(found, outside, node) if exposed else (),
        cluster_empty=Empty.DROP if inside and anywhere else Empty.REJECT,
        external_empty=Empty.DROP if outside and anywhere else Empty.REJECT,
    )


def _affinity_seconds(spec: Mapping[str, Any]) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    client_ip = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    seconds: int = client_ip.get("timeoutSeconds") or DEFAULT_AFFINITY_SECONDS
    return seconds


def _order(rule: ServiceRule) -> tuple[ServicePortName, str, tuple[str, ...]]:
    return rule.service, rule.protocol.value, rule.cluster_ips


@define(eq=False)
class RulePlanner:
    """Keeps the rule set up to date: only Services that changed are planned again."""

    node: NodeView
    _services: dict[tuple[str, str], Object] = Factory(dict)
    _slices: dict[tuple[str, str], dict[str, SliceInfo]] = Factory(dict)
    """By (namespace, Service), then by slice name."""
    _owner: dict[tuple[str, str], str] = Factory(dict)
    """(namespace, slice name) to the Service's name."""
    _planned: dict[tuple[str, str], tuple[ServiceRule, ...]] = Factory(dict)
    _dirty: dict[tuple[str, str], None] = Factory(dict)
    _rules: RuleSet | None = None

    def set_node(self, node: NodeView) -> None:
        """The node's zone or addresses changed: plan everything again."""
        if node != self.node:
            self.node = node
            self._dirty |= dict.fromkeys(self._services)
            self._rules = None

    def set_service(self, service: Object) -> None:
        key = service["metadata"].get("namespace") or "default", service["metadata"]["name"]
        self._services[key] = service
        self._dirty[key] = None

    def remove_service(self, namespace: str, name: str) -> None:
        self._services.pop((namespace, name), None)
        self._dirty[namespace, name] = None

    def set_slice(self, endpoint_slice: Object) -> None:
        info = slice_info(endpoint_slice)
        if self._owner.get((info.namespace, info.name), info.service) != info.service:
            self.remove_slice(info.namespace, info.name)
        if info.service:
            self._owner[info.namespace, info.name] = info.service
            self._slices.setdefault((info.namespace, info.service), {})[info.name] = info
            self._dirty[info.namespace, info.service] = None

    def remove_slice(self, namespace: str, name: str) -> None:
        service = self._owner.pop((namespace, name), None)
        if service is not None:
            of_service = self._slices[namespace, service]
            del of_service[name]
            if not of_service:
                del self._slices[namespace, service]
            self._dirty[namespace, service] = None

    def rules(self) -> RuleSet:
        """The desired rule set now; the same object as before when nothing about it changed."""
        changed = self._rules is None
        for key in self._dirty:
            service = self._services.get(key)
            slices = self._slices.get(key, {})
            planned = (
                ()
                if service is None
                else service_rules(service, [slices[n] for n in sorted(slices)], self.node)
            )
            if planned != self._planned.get(key, ()):
                changed = True
                self._planned[key] = planned
            if not planned:
                self._planned.pop(key, None)
        self._dirty.clear()
        if changed or self._rules is None:
            ordered = sorted((rule for rules in self._planned.values() for rule in rules), key=_order)
            self._rules = RuleSet(tuple(ordered), self.node.ips)
        return self._rules
