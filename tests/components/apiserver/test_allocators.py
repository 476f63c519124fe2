"""Cluster IPs and node ports: explicit requests, draws, conflicts, and what comes back."""

import random
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.components.apiserver.allocators import (
    AddressRange,
    PortRange,
    RangeAllocator,
    RangeFull,
    Reservation,
    ServiceAllocators,
    Unallocatable,
    cluster_ips,
    node_ports,
)
from understudy.components.machinery.errors import ApiError


def a_service(kind: str = "ClusterIP", *ports: dict[str, Any], **spec: Any) -> dict[str, Any]:
    stated = [{"port": 80, "protocol": "TCP"} | port for port in ports or ({},)]
    return {
        "metadata": {"name": "s"},
        "spec": {"type": kind, "ipFamilies": ["IPv4"], "ports": stated} | spec,
    }


def create(allocators: ServiceAllocators, service: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    reservation = allocators.allocate(service, None, random.Random(seed))
    reservation.keep()
    return reservation.service


def refusal(allocators: ServiceAllocators, service: dict[str, Any]) -> tuple[str, Any, str]:
    with pytest.raises(Unallocatable) as caught:
        allocators.allocate(service, None, random.Random(0))
    (finding,) = caught.value.findings
    return finding.field, finding.value, finding.detail


def test_an_address_is_drawn_above_the_static_band() -> None:
    allocators, asked = ServiceAllocators(), a_service()
    address = create(allocators, asked)["spec"]["clusterIP"]
    assert ip_address(address) in ip_network("10.96.0.0/16")
    assert ip_address(address) > ip_address("10.96.1.0"), "the first 256 are for explicit requests"
    assert "clusterIP" not in asked["spec"], "the request is left as it was"
    assert create(ServiceAllocators(), a_service())["spec"]["clusterIPs"] == [address], "same seed, same draw"


def test_explicit_addresses() -> None:
    allocators = ServiceAllocators()
    taken = create(allocators, a_service(clusterIP="10.96.0.10", clusterIPs=["10.96.0.10"]))
    assert refusal(allocators, a_service(clusterIP="10.96.0.10")) == (
        "spec.clusterIPs",
        ["10.96.0.10"],
        "failed to allocate IP 10.96.0.10: provided IP is already allocated",
    )
    for outside in ("10.96.0.0", "10.96.255.255", "10.97.0.1"):
        assert refusal(allocators, a_service(clusterIP=outside))[2] == (
            f"failed to allocate IP {outside}: the provided network does not match the current range"
        )
    allocators.release(taken)
    create(allocators, a_service(clusterIP="10.96.0.10"))


@pytest.mark.parametrize(
    "service",
    [a_service(clusterIP="None"), a_service("ExternalName", externalName="x")],
    ids=["headless", "alias"],
)
def test_who_needs_no_address(service: dict[str, Any]) -> None:
    assert create(ServiceAllocators(), service) == service


def test_node_ports_are_drawn_asked_for_and_shared_by_protocols() -> None:
    allocators = ServiceAllocators()
    both = create(allocators, a_service("NodePort", {"port": 53}, {"port": 53, "protocol": "UDP"}))
    first, second = (port["nodePort"] for port in both["spec"]["ports"])
    assert first == second >= 30086
    create(allocators, a_service("NodePort", {"nodePort": 30001}, {"nodePort": 30001, "protocol": "UDP"}))
    assert refusal(allocators, a_service("NodePort", {"nodePort": 30001})) == (
        "spec.ports[0].nodePort",
        30001,
        "provided port is already allocated",
    )
    assert refusal(allocators, a_service("NodePort", {"nodePort": 80}))[2] == (
        "provided port is not in the valid range. The range of valid ports is 30000-32767"
    )


def test_a_refusal_leaves_nothing_taken() -> None:
    allocators = ServiceAllocators()
    create(allocators, a_service("NodePort", {"nodePort": 30001}))
    free = allocators.addresses["IPv4"].numbers.free, allocators.ports.numbers.free
    refusal(allocators, a_service("NodePort", {"nodePort": 30002}, {"port": 81, "nodePort": 30001}))
    dry = allocators.allocate(a_service("NodePort"), None, random.Random(1))
    dry.give_back()
    assert (allocators.addresses["IPv4"].numbers.free, allocators.ports.numbers.free) == free
    with pytest.raises(AssertionError, match="once"):
        dry.keep()


def test_load_balancers_may_do_without_node_ports_and_may_need_a_health_check() -> None:
    allocators = ServiceAllocators()
    bare = create(allocators, a_service("LoadBalancer", allocateLoadBalancerNodePorts=False))
    assert node_ports(bare["spec"]) == []
    local = create(allocators, a_service("LoadBalancer", externalTrafficPolicy="Local"))
    assert len(node_ports(local["spec"])) == 2
    assert local["spec"]["healthCheckNodePort"] != local["spec"]["ports"][0]["nodePort"]


def test_an_update_keeps_what_it_has_and_frees_what_it_drops() -> None:
    allocators = ServiceAllocators()
    old = create(allocators, a_service("NodePort", {"nodePort": 30005}))
    changed = old | {"spec": old["spec"] | {"ports": [{"port": 80, "protocol": "TCP", "nodePort": 30006}]}}
    reservation = allocators.allocate(changed, old, random.Random(0))
    assert reservation.service["spec"]["clusterIP"] == old["spec"]["clusterIP"]
    assert refusal(allocators, a_service("NodePort", {"nodePort": 30005}))[0] == "spec.ports[0].nodePort"
    reservation.keep()
    create(allocators, a_service("NodePort", {"nodePort": 30005}))
    external = {"metadata": {"name": "s"}, "spec": {"type": "ExternalName", "externalName": "x", "ports": []}}
    allocators.allocate(external, changed, random.Random(0)).keep()
    create(allocators, a_service("NodePort", {"nodePort": 30006}, clusterIP=old["spec"]["clusterIP"]))


def test_full_ranges() -> None:
    allocators = ServiceAllocators({"IPv4": AddressRange("10.0.0.0/30")}, PortRange(30000, 30000))
    assert create(allocators, a_service("NodePort"))["spec"]["ports"][0]["nodePort"] == 30000
    with pytest.raises(ApiError, match="failed to allocate a nodePort: range is full"):
        allocators.allocate(a_service("NodePort"), None, random.Random(0))
    create(allocators, a_service())
    with pytest.raises(ApiError, match="range is full") as caught:
        allocators.allocate(a_service(), None, random.Random(0))
    assert caught.value.code == 500


def test_dual_stack_draws_one_of_each_in_order() -> None:
    ranges = {"IPv4": AddressRange("10.96.0.0/16"), "IPv6": AddressRange("fd00::/108")}
    service = create(ServiceAllocators(ranges), a_service(ipFamilies=["IPv6", "IPv4"]))
    six, four = service["spec"]["clusterIPs"]
    assert (":" in six, service["spec"]["clusterIP"]) == (True, six)
    assert four.startswith("10.96.")
    single = create(ServiceAllocators(), a_service(ipFamilies=["IPv4", "IPv6"]))
    assert len(single["spec"]["clusterIPs"]) == 1


@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 2**32))
def test_every_number_is_drawn_once_the_upper_band_first(size: int, static: int, seed: int) -> None:
    static = min(static, size)
    numbers, rng = RangeAllocator(size, static), random.Random(seed)
    drawn = [numbers.draw(rng) for _ in range(size)]
    assert sorted(drawn) == list(range(size))
    assert sorted(drawn[: size - static]) == list(range(static, size))
    with pytest.raises(RangeFull):
        numbers.draw(rng)


kinds = st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"])
explicit_ips = st.sampled_from([None, "10.0.0.1", "10.0.0.2", "None"])
explicit_ports = st.lists(st.sampled_from([0, 30000, 30001]), max_size=2)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            kinds,
            explicit_ips,
            explicit_ports,
            st.sampled_from(["keep", "give_back", "delete"]),
        ),
        max_size=20,
    )
)
def test_what_is_taken_is_what_the_stored_services_have(steps: list[tuple[Any, ...]]) -> None:
    def make() -> ServiceAllocators:
        return ServiceAllocators({"IPv4": AddressRange("10.0.0.0/29")}, PortRange(30000, 30005))

    allocators, stored, rng = make(), {}, random.Random(7)
    for name, kind, ip, ports, outcome in steps:
        if outcome == "delete":
            if name in stored:
                allocators.release(stored.pop(name))
            continue
        wanted = a_service(kind, *({"port": 80 + i, "nodePort": port} for i, port in enumerate(ports)))
        if ip is not None and not (ip == "None" and kind != "ClusterIP"):
            wanted["spec"] |= {"clusterIP": ip, "clusterIPs": [ip]}
        try:
            reservation: Reservation = allocators.allocate(wanted, stored.get(name), rng)
        except (Unallocatable, ApiError):
            continue
        if outcome == "keep":
            reservation.keep()
            stored[name] = reservation.service
        else:
            reservation.give_back()
    afresh = make()
    for service in stored.values():
        assert afresh.hold(service) == []
    for number in range(6):
        for side in ("addresses", "ports"):
            ours = allocators.addresses["IPv4"].numbers if side == "addresses" else allocators.ports.numbers
            theirs = afresh.addresses["IPv4"].numbers if side == "addresses" else afresh.ports.numbers
            assert ours.is_taken(number) == theirs.is_taken(number), (side, number)
    held = [ip for service in stored.values() for ip in cluster_ips(service["spec"])]
    assert len(held) == len(set(held))
