"""What names in the cluster stand for: the Kubernetes DNS specification, section by section."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.components.dns.zone import NXDOMAIN, Answer, Code, Srv, Zone, parse_name, reverse_name


def a_service(name: str, cluster_ip: str = "None", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"clusterIP": cluster_ip} | spec}


def endpoint(ip: str, ready: bool = True, **more: Any) -> dict[str, Any]:
    return {"addresses": [ip], "conditions": {"ready": ready}} | more


def a_slice(service: str, *endpoints: dict[str, Any], name: str = "", kind: str = "IPv4") -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": service}
    return {
        "metadata": {"name": name or f"{service}-1", "namespace": "default", "labels": labels},
        "addressType": kind,
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


@pytest.fixture
def zone() -> Zone:
    made = Zone()
    made.set_namespace("default")
    ports = [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    made.set_service(a_service("web", "10.96.0.7", ports=ports))
    made.set_service(a_service("dual", "10.96.0.8", clusterIPs=["10.96.0.8", "fd00::8"]))
    made.set_service(a_service("db"))
    made.set_slice(
        a_slice(
            "db", endpoint("10.0.0.1", hostname="db-0"), endpoint("10.0.0.2"), endpoint("10.0.0.3", False)
        )
    )
    made.set_service(a_service("empty"))
    made.set_service(a_service("out", "", type="ExternalName", externalName="example.org"))
    made.set_service(
        a_service("alias", "", type="ExternalName", externalName="web.default.svc.cluster.local")
    )
    made.set_service(
        a_service("loop", "", type="ExternalName", externalName="loop.default.svc.cluster.local")
    )
    return made


def ask(zone: Zone, name: str, rtype: str = "A") -> Answer:
    full = name if name.endswith(".") else f"{name}.cluster.local."
    found = zone.lookup(parse_name(full), rtype)
    assert found is not None
    return found


def data(found: Answer) -> list[Any]:
    assert found.code is Code.NOERROR
    return [".".join(r.data) if isinstance(r.data, tuple) else r.data for r in found.answers]


def test_a_service_with_a_cluster_ip(zone: Zone) -> None:
    assert data(ask(zone, "web.default.svc")) == ["10.96.0.7"]
    assert data(ask(zone, "web.default.svc", "AAAA")) == []
    assert data(ask(zone, "dual.default.svc", "AAAA")) == ["fd00::8"]
    assert data(ask(zone, "7.0.96.10.in-addr.arpa.", "PTR")) == ["web.default.svc.cluster.local"]


def test_service_ports(zone: Zone) -> None:
    found = ask(zone, "_http._tcp.web.default.svc", "SRV")
    target = parse_name("web.default.svc.cluster.local")
    assert data(found) == [Srv(80, target, 0, 100)]
    assert [r.data for r in found.additional] == ["10.96.0.7"]
    assert [srv.port for srv in data(ask(zone, "web.default.svc", "SRV"))] == [80, 53]
    assert ask(zone, "_http._udp.web.default.svc", "SRV") == NXDOMAIN
    assert data(ask(zone, "_http._tcp.web.default.svc", "A")) == []


def test_a_headless_service_names_its_ready_endpoints(zone: Zone) -> None:
    assert data(ask(zone, "db.default.svc")) == ["10.0.0.1", "10.0.0.2"]
    assert data(ask(zone, "db-0.db.default.svc")) == ["10.0.0.1"]
    assert data(ask(zone, "10-0-0-2.db.default.svc")) == ["10.0.0.2"]
    assert ask(zone, "10-0-0-3.db.default.svc") == NXDOMAIN
    assert data(ask(zone, "1.0.0.10.in-addr.arpa.", "PTR")) == ["db-0.db.default.svc.cluster.local"]
    services = data(ask(zone, "_http._tcp.db.default.svc", "SRV"))
    assert [(srv.port, srv.target[0], srv.weight) for srv in services] == [
        (8080, "db-0", 50),
        (8080, "10-0-0-2", 50),
    ]
    assert ask(zone, "empty.default.svc") == NXDOMAIN


def test_an_address_in_two_slices_keeps_its_name_when_one_goes(zone: Zone) -> None:
    zone.set_slice(a_slice("db", endpoint("10.0.0.1", hostname="db-0"), name="db-2"))
    zone.remove_slice("default", "db-1")
    assert data(ask(zone, "1.0.0.10.in-addr.arpa.", "PTR")) == ["db-0.db.default.svc.cluster.local"]
    zone.remove_slice("default", "db-2")
    assert zone.lookup(parse_name("1.0.0.10.in-addr.arpa"), "PTR") is None


def test_external_names_are_followed_inside_and_handed_on_outside(zone: Zone) -> None:
    outside = ask(zone, "out.default.svc")
    assert (data(outside), outside.outside) == (["example.org"], ("example", "org"))
    assert data(ask(zone, "alias.default.svc")) == ["web.default.svc.cluster.local", "10.96.0.7"]
    assert data(ask(zone, "alias.default.svc", "CNAME")) == ["web.default.svc.cluster.local"]
    assert len(data(ask(zone, "loop.default.svc"))) == 8


def test_pods_by_address(zone: Zone) -> None:
    assert data(ask(zone, "10-244-1-5.default.pod")) == ["10.244.1.5"]
    assert data(ask(zone, "fd00--5.default.pod", "AAAA")) == ["fd00::5"]
    assert ask(zone, "10-244-1-555.default.pod") == NXDOMAIN
    assert ask(zone, "10-244-1-5.nowhere.pod") == NXDOMAIN


@pytest.mark.parametrize("name", ["cluster.local.", "svc", "pod", "default.svc", "default.pod"])
def test_names_between_exist_without_records(zone: Zone, name: str) -> None:
    assert ask(zone, name) == Answer(Code.NOERROR)


@pytest.mark.parametrize("name", ["web.other.svc", "nope.default.svc", "x", "a.b.c.web.default.svc", "web"])
def test_names_that_do_not_exist(zone: Zone, name: str) -> None:
    assert ask(zone, name) == NXDOMAIN


def test_other_zones_are_not_answered_for(zone: Zone) -> None:
    assert zone.lookup(parse_name("example.org"), "A") is None
    assert zone.lookup(parse_name("9.9.9.9.in-addr.arpa"), "PTR") is None
    assert zone.lookup((), "NS") is None
    assert data(ask(zone, "dns-version", "TXT")) == ["1.1.0"]


@given(st.ip_addresses())
def test_reverse_names_go_back_to_their_address(address: Any) -> None:
    assert reverse_name(parse_name(address.reverse_pointer)) == str(address)


names = st.sampled_from(["web", "db"])
ips = st.sampled_from(["10.0.0.1", "10.0.0.2"])
steps = st.one_of(
    st.tuples(st.just("set_service"), st.builds(a_service, names, st.sampled_from(["None", "10.96.0.7"]))),
    st.tuples(st.just("remove_service"), names),
    st.tuples(
        st.just("set_slice"),
        st.builds(
            lambda service, ips, name: a_slice(service, *(endpoint(ip) for ip in ips), name=name),
            names,
            st.lists(ips, max_size=2),
            st.sampled_from(["s1", "s2"]),
        ),
    ),
    st.tuples(st.just("remove_slice"), st.sampled_from(["s1", "s2"])),
)


@settings(deadline=None)
@given(st.lists(steps, max_size=20))
def test_the_indexes_agree_with_a_zone_built_afresh(history: list[tuple[str, Any]]) -> None:
    def built(services: dict[str, Any], slices: dict[str, Any]) -> Zone:
        made = Zone()
        made.set_namespace("default")
        for service in services.values():
            made.set_service(service)
        for one in slices.values():
            made.set_slice(one)
        return made

    zone = built({}, {})
    services: dict[str, Any] = {}
    slices: dict[str, Any] = {}
    for operation, argument in history:
        kept = services if operation.endswith("service") else slices
        if operation.startswith("set"):
            getattr(zone, operation)(argument)
            # Services get distinct addresses from the allocator: the last one wins here too.
            kept.pop(argument["metadata"]["name"], None)
            kept[argument["metadata"]["name"]] = argument
        else:
            getattr(zone, operation)("default", argument)
            kept.pop(argument, None)
    if sum(s["spec"]["clusterIP"] != "None" for s in services.values()) > 1:
        return
    afresh = built(services, slices)
    questions = [("web.default.svc", "A"), ("db.default.svc", "A"), ("web.default.svc", "SRV")]
    for name, rtype in questions:
        assert ask(zone, name, rtype) == ask(afresh, name, rtype)
    for address in ("1.0.0.10", "2.0.0.10"):
        name = parse_name(f"{address}.in-addr.arpa")
        assert zone.lookup(name, "PTR") == afresh.lookup(name, "PTR")
