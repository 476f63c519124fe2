"""The rule set that a node should have, from Services and EndpointSlices."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.components.boundary.dataplane import Empty, Protocol, RuleSet, ServiceRule
from understudy.components.proxy.rules import NodeView, RulePlanner

HERE = NodeView("here", ("192.0.2.1",), "zone-a")


def a_service(name: str = "web", **spec: Any) -> dict[str, Any]:
    ports = [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]
    return {
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.7", "ports": ports} | spec,
    }


def endpoint(ip: str, node: str = "there", **conditions: Any) -> dict[str, Any]:
    return {"addresses": [ip], "nodeName": node, "conditions": {"ready": True} | conditions}


DRAINING = {"ready": False, "serving": True, "terminating": True}


def a_slice(
    *endpoints: dict[str, Any], service: str = "web", name: str = "s1", **more: Any
) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": service}
    return {
        "metadata": {"name": name, "namespace": "ns", "labels": labels},
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
    } | more


def rules(service: dict[str, Any], *slices: dict[str, Any]) -> tuple[ServiceRule, ...]:
    planner = RulePlanner(HERE)
    planner.set_service(service)
    for one in slices:
        planner.set_slice(one)
    return planner.rules().services


def inside(service: dict[str, Any], *slices: dict[str, Any]) -> list[str]:
    (rule,) = rules(service, *slices)
    return [e.ip for e in rule.cluster_endpoints]


def test_a_cluster_ip_with_its_ready_endpoints() -> None:
    (rule,) = rules(
        a_service(), a_slice(endpoint("10.0.0.2"), endpoint("10.0.0.1"), endpoint("10.0.0.3", ready=False))
    )
    assert (str(rule.service), rule.protocol, rule.cluster_ips, rule.port) == (
        "ns/web",
        Protocol.TCP,
        ("10.96.0.7",),
        80,
    )
    assert [(e.ip, e.port) for e in rule.cluster_endpoints] == [("10.0.0.1", 8080), ("10.0.0.2", 8080)]
    assert rule.external_endpoints == ()


@pytest.mark.parametrize(
    "service",
    [
        a_service(clusterIP="None"),
        a_service(clusterIP=""),
        a_service(type="ExternalName", externalName="example.org", clusterIP=""),
        a_service()
        | {"metadata": {"name": "web", "labels": {"service.kubernetes.io/service-proxy-name": "x"}}},
    ],
    ids=["headless", "without an IP yet", "ExternalName", "another proxy's"],
)
def test_services_that_are_not_proxied(service: dict[str, Any]) -> None:
    assert rules(service, a_slice(endpoint("10.0.0.1"))) == ()


def test_endpoints_that_terminate_serve_only_when_nobody_else_does() -> None:
    draining = endpoint("10.0.0.1", **DRAINING)
    assert inside(a_service(), a_slice(draining, endpoint("10.0.0.2"))) == ["10.0.0.2"]
    assert inside(a_service(), a_slice(draining, endpoint("10.0.0.2", ready=False))) == ["10.0.0.1"]
    (rule,) = rules(a_service(), a_slice(endpoint("10.0.0.2", ready=False)))
    assert (rule.cluster_endpoints, rule.cluster_empty) == ((), Empty.REJECT)


def test_an_endpoint_without_conditions_is_ready() -> None:
    bare = {"addresses": ["10.0.0.1"]}
    assert inside(a_service(), a_slice(bare)) == ["10.0.0.1"]


def test_local_policies_keep_to_the_node_and_drop_rather_than_reject() -> None:
    ports = [{"port": 80, "nodePort": 30080}]
    service = a_service(
        type="NodePort", ports=ports, internalTrafficPolicy="Local", externalTrafficPolicy="Local"
    )
    far, near = endpoint("10.0.0.1"), endpoint("10.0.0.2", "here")
    (rule,) = rules(service, a_slice(far, near))
    assert [e.ip for e in rule.cluster_endpoints] == [e.ip for e in rule.external_endpoints] == ["10.0.0.2"]
    (rule,) = rules(service, a_slice(far))
    assert (rule.cluster_empty, rule.external_empty) == (Empty.DROP, Empty.DROP)
    (rule,) = rules(service)
    assert (rule.cluster_empty, rule.external_empty) == (Empty.REJECT, Empty.REJECT)
    (rule,) = rules(a_service(type="NodePort", ports=ports), a_slice(far, near))
    assert [e.ip for e in rule.external_endpoints] == ["10.0.0.1", "10.0.0.2"]


def test_ports_are_matched_by_name_and_protocol() -> None:
    ports = [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    named = [{"name": "http", "port": 8080}, {"name": "dns", "port": 5353, "protocol": "UDP"}]
    found = rules(a_service(ports=ports), a_slice(endpoint("10.0.0.1"), ports=named))
    assert [(str(r.service), r.protocol.value, r.cluster_endpoints[0].port) for r in found] == [
        ("ns/web:dns", "UDP", 5353),
        ("ns/web:http", "TCP", 8080),
    ]


def test_affinity_external_addresses_and_families() -> None:
    service = a_service(
        clusterIPs=["10.96.0.7", "fd00::7"],
        sessionAffinity="ClientIP",
        externalIPs=["198.51.100.1"],
        sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}},
    )
    service["status"] = {"loadBalancer": {"ingress": [{"ip": "198.51.100.2"}, {"hostname": "x"}]}}
    six = a_slice(endpoint("fd01::1"), name="s6", addressType="IPv6")
    v4, v6 = rules(service, a_slice(endpoint("10.0.0.1")), six)
    assert (v4.cluster_ips, v4.external_ips) == (("10.96.0.7",), ("198.51.100.1", "198.51.100.2"))
    assert (v4.session_affinity_seconds, [e.ip for e in v4.external_endpoints]) == (60, ["10.0.0.1"])
    assert (v6.cluster_ips, [e.ip for e in v6.cluster_endpoints]) == (("fd00::7",), ["fd01::1"])
    (rule,) = rules(a_service(sessionAffinity="ClientIP"))
    assert rule.session_affinity_seconds == 10800


def test_hints_narrow_the_choice_when_all_have_one() -> None:
    def hinted(ip: str, zone: str) -> dict[str, Any]:
        return endpoint(ip) | {"hints": {"forZones": [{"name": zone}]}}

    both = a_slice(hinted("10.0.0.1", "zone-a"), hinted("10.0.0.2", "zone-b"))
    assert inside(a_service(), both) == ["10.0.0.1"]
    assert inside(a_service(), a_slice(hinted("10.0.0.1", "zone-a"), endpoint("10.0.0.2"))) == [
        "10.0.0.1",
        "10.0.0.2",
    ]
    assert inside(a_service(), a_slice(hinted("10.0.0.2", "zone-b"))) == ["10.0.0.2"]


def test_the_rule_set_stays_the_same_object_until_it_changes() -> None:
    planner = RulePlanner(HERE)
    planner.set_service(a_service())
    planner.set_slice(a_slice(endpoint("10.0.0.1")))
    first = planner.rules()
    planner.set_slice(a_slice(endpoint("10.0.0.1"), endpoint("10.0.0.9", ready=False)))
    assert planner.rules() is first
    planner.set_slice(a_slice(endpoint("10.0.0.2")))
    assert planner.rules() is not first
    planner.remove_service("ns", "web")
    assert planner.rules() == RuleSet((), ("192.0.2.1",))


names = st.sampled_from(["web", "db"])
endpoints = st.builds(
    endpoint,
    st.sampled_from(["10.0.0.1", "10.0.0.2"]),
    st.sampled_from(["here", "there"]),
    ready=st.booleans(),
    terminating=st.booleans(),
)
steps = st.one_of(
    st.tuples(
        st.just("set_service"), st.builds(a_service, names, clusterIP=st.sampled_from(["10.96.0.7", "None"]))
    ),
    st.tuples(st.just("remove_service"), names),
    st.tuples(
        st.just("set_slice"),
        st.builds(
            lambda found, service, name: a_slice(*found, service=service, name=name),
            st.lists(endpoints, max_size=2),
            names,
            st.sampled_from(["s1", "s2"]),
        ),
    ),
    st.tuples(st.just("remove_slice"), st.sampled_from(["s1", "s2"])),
    st.tuples(st.just("rules"), st.none()),
)


@settings(deadline=None)
@given(st.lists(steps, max_size=20))
def test_incremental_planning_equals_planning_from_scratch(history: list[tuple[str, Any]]) -> None:
    planner, services, slices = RulePlanner(HERE), {}, {}
    for operation, argument in history:
        if operation == "rules":
            planner.rules()
        elif operation.startswith("set"):
            getattr(planner, operation)(argument)
            (services if operation == "set_service" else slices)[argument["metadata"]["name"]] = argument
        else:
            getattr(planner, operation)("ns", argument)
            (services if operation == "remove_service" else slices).pop(argument, None)
    afresh = RulePlanner(HERE)
    for service in services.values():
        afresh.set_service(service)
    for one in slices.values():
        afresh.set_slice(one)
    assert planner.rules() == afresh.rules()
