"""Validation of nodes."""

from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.quantity import parse
from understudy.components.machinery.validation.findings import (
    Findings,
    duplicate,
    forbidden,
    invalid,
    invalid_all,
)
from understudy.components.machinery.validation.placement import validate_taints
from understudy.components.machinery.validation.rules import Rules

Object = dict[str, Any]


def _node(node: Object) -> Findings:
    spec = node["spec"]
    found: Findings = []
    if spec.get("taints"):
        found += validate_taints(spec["taints"], "metadata.taints")
    found += _amounts(node.get("status", {}))
    networks = spec.get("podCIDRs", [])
    for index, network in enumerate(networks):
        found += invalid_all(f"spec.podCIDRs[{index}]", network, names.cidr(network))
    if len(networks) > 1:
        families = [net.version for net in map(names.parse_network, networks) if net is not None]
        if len(networks) > 2 or len(set(families)) != len(families):
            detail = "may specify no more than one CIDR for each IP family"
            found.append(invalid("spec.podCIDRs", networks, detail))
    return found


def _amounts(status: Object) -> Findings:
    return [
        invalid(f"status.{field}[{name}]", amount, "must be greater than or equal to 0")
        for field in ("capacity", "allocatable")
        for name, amount in sorted(status.get(field, {}).items())
        if parse(amount) < 0
    ]


def _change(new: Object, old: Object) -> Findings:
    spec, before = new["spec"], old["spec"]
    found: Findings = []
    networks, earlier = spec.get("podCIDRs", []), before.get("podCIDRs", [])
    if earlier and networks != earlier:
        detail = 'node updates may not change podCIDR except from "" to valid'
        found.append(forbidden("spec.podCIDRs", detail))
    provider, former = spec.get("providerID", ""), before.get("providerID", "")
    if former and provider != former:
        detail = 'node updates may not change providerID except from "" to valid'
        found.append(forbidden("spec.providerID", detail))
    return found


def _status(new: Object, old: Object) -> Findings:
    found: Findings = []
    seen: list[Object] = []
    for index, address in enumerate(new.get("status", {}).get("addresses", ())):
        if address in seen:
            found.append(duplicate(f"status.addresses[{index}]", address))
        seen.append(address)
    return found + _amounts(new.get("status", {}))


RULES: dict[str, Rules] = {"v1 Node": Rules(create=_node, change=_change, status=_status)}
