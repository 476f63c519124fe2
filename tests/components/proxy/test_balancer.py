"""Which endpoint a new connection goes to."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.boundary.dataplane import (
    Action,
    Connect,
    Empty,
    Endpoint,
    Protocol,
    RuleSet,
    ServicePortName,
    ServiceRule,
    Verdict,
)
from understudy.components.proxy.balancer import Balancer

WEB = ServicePortName("ns", "web")


def rules(endpoints: int, affinity: int = 0, empty: Empty = Empty.REJECT) -> RuleSet:
    found = tuple(Endpoint(f"10.0.0.{i + 1}", 8080) for i in range(endpoints))
    rule = ServiceRule(
        WEB,
        Protocol.TCP,
        ("10.96.0.7",),
        80,
        node_port=30080,
        external_ips=("198.51.100.1",),
        session_affinity_seconds=affinity,
        cluster_endpoints=found,
        external_endpoints=found[:1],
        cluster_empty=empty,
    )
    return RuleSet((rule,), ("192.0.2.1",))


def loaded(rule_set: RuleSet, rng: random.Random | None = None) -> Balancer:
    balancer = Balancer(rng)
    assert balancer.replace(rule_set, 1) == 1
    return balancer


def to(ip: str = "10.96.0.7", port: int = 80, source: str = "10.0.9.9", protocol: str = "TCP") -> Connect:
    return Connect(source, ip, port, Protocol(protocol))


@given(st.integers(1, 7), st.integers(0, 40))
def test_turns_are_exactly_even(endpoints: int, connections: int) -> None:
    balancer = loaded(rules(endpoints))
    hits = Counter(balancer.connect(to(), 0.0).ip for _ in range(connections))
    counts = [hits[f"10.0.0.{i + 1}"] for i in range(endpoints)]
    assert max(counts) - min(counts) <= 1
    assert sum(counts) == connections


def test_draws_are_even_enough() -> None:
    balancer = loaded(rules(2), random.Random(1))
    hits = Counter(balancer.connect(to(), 0.0).ip for _ in range(1000))
    assert 440 < hits["10.0.0.1"] < 560


@pytest.mark.parametrize("ip_port", [("192.0.2.1", 30080), ("198.51.100.1", 80)])
def test_traffic_from_outside_has_its_own_endpoints(ip_port: tuple[str, int]) -> None:
    balancer = loaded(rules(3))
    assert {balancer.connect(to(*ip_port), 0.0).ip for _ in range(6)} == {"10.0.0.1"}


def test_what_is_not_a_service_passes_and_other_ports_of_a_cluster_ip_are_refused() -> None:
    balancer = loaded(rules(1))
    assert balancer.connect(to("10.0.0.1", 8080), 0.0) == Verdict(Action.PASS, "10.0.0.1", 8080)
    assert balancer.connect(to(port=81), 0.0).action is Action.REJECT
    assert balancer.connect(to(protocol="UDP"), 0.0).action is Action.REJECT


@pytest.mark.parametrize(("empty", "action"), [(Empty.REJECT, Action.REJECT), (Empty.DROP, Action.DROP)])
def test_nobody_there(empty: Empty, action: Action) -> None:
    assert loaded(rules(0, empty=empty)).connect(to(), 0.0) == Verdict(action, service=WEB)


def test_a_client_keeps_its_endpoint_until_the_time_out_or_until_it_is_gone() -> None:
    balancer = loaded(rules(3, affinity=10))
    first = balancer.connect(to(), 0.0).ip
    assert [balancer.connect(to(), now).ip for now in (9.0, 18.0, 27.9)] == [first] * 3
    assert balancer.connect(to(), 37.9).ip != first, "ten seconds without a connection"
    other = balancer.connect(to(source="10.0.9.10"), 38.0).ip
    balancer.replace(rules(3, affinity=10), 2)
    assert balancer.connect(to(source="10.0.9.10"), 38.0).ip == other, "a replacement keeps affinity"
    balancer.replace(rules(1, affinity=10), 3)
    assert balancer.connect(to(source="10.0.9.10"), 38.0).ip == "10.0.0.1"


def test_a_late_older_rule_set_is_not_applied() -> None:
    balancer = loaded(rules(2))
    assert balancer.replace(rules(0), 5) == 5
    assert balancer.replace(rules(2), 4) == 5
    assert balancer.connect(to(), 0.0).action is Action.REJECT
