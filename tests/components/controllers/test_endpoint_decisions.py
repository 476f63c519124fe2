"""What Endpoints and EndpointSlices say of a Service and its pods."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from understudy.components.controllers.endpoints.mirroring import is_mirrored, plan_mirror
from understudy.components.controllers.endpoints.packing import SlicePlan
from understudy.components.controllers.endpoints.selection import endpoint_ports, selects
from understudy.components.controllers.endpoints.slices import plan_slices
from understudy.components.controllers.endpoints.subsets import endpoints_differ, endpoints_for

Object = dict[str, Any]


def service(**spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default", "uid": "svc", "labels": {"team": "x"}},
        "spec": {
            "clusterIP": "10.96.0.9",
            "selector": {"app": "a"},
            "ports": [{"port": 80, "targetPort": "http", "protocol": "TCP"}],
            **spec,
        },
    }


def pod(
    index: int, *, ready: bool = True, port: int = 8080, terminating: bool = False, **status: Any
) -> Object:
    metadata: Object = {
        "name": f"p{index}",
        "namespace": "default",
        "uid": f"u{index}",
        "labels": {"app": "a"},
    }
    if terminating:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {
        "metadata": metadata,
        "spec": {
            "nodeName": f"n{index % 3}",
            "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}],
        },
        "status": {
            "phase": "Running",
            "podIP": f"10.244.{index // 250}.{index % 250 + 1}",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            **status,
        },
    }


def test_ready_and_waiting_pods_are_told_apart_and_finished_ones_left_out() -> None:
    pods = [
        pod(1),
        pod(2, ready=False),
        pod(3, terminating=True),
        pod(4, phase="Succeeded"),
        pod(5, podIP=""),
    ]
    made = endpoints_for(service(), pods, None)
    assert made["metadata"] == {
        "name": "web",
        "namespace": "default",
        "labels": {"team": "x", "endpoints.kubernetes.io/managed-by": "endpoint-controller"},
    }
    assert made["subsets"] == [
        {
            "addresses": [
                {
                    "ip": "10.244.0.2",
                    "nodeName": "n1",
                    "targetRef": {"kind": "Pod", "namespace": "default", "name": "p1", "uid": "u1"},
                }
            ],
            "notReadyAddresses": [
                {
                    "ip": "10.244.0.3",
                    "nodeName": "n2",
                    "targetRef": {"kind": "Pod", "namespace": "default", "name": "p2", "uid": "u2"},
                }
            ],
            "ports": [{"port": 8080, "protocol": "TCP"}],
        }
    ]
    assert not endpoints_differ(made, endpoints_for(service(), reversed(pods), made))
    assert endpoints_differ(made, endpoints_for(service(), pods[1:], made))


def test_pods_with_other_ports_are_another_subset() -> None:
    made = endpoints_for(service(), [pod(1), pod(2, port=9090)], None)
    assert [subset["ports"][0]["port"] for subset in made["subsets"]] == [8080, 9090]


def test_who_publishes_not_ready_addresses_publishes_terminating_ones_too() -> None:
    made = endpoints_for(
        service(publishNotReadyAddresses=True), [pod(1, ready=False), pod(2, terminating=True)], None
    )
    assert len(made["subsets"][0]["addresses"]) == 2


def test_a_headless_service_is_marked_and_needs_no_ports() -> None:
    headless = service(clusterIP="None", ports=[])
    made = endpoints_for(headless, [pod(1)], None)
    assert made["metadata"]["labels"]["service.kubernetes.io/headless"] == ""
    assert "ports" not in made["subsets"][0]


def test_over_a_thousand_addresses_are_cut_and_it_says_so() -> None:
    made = endpoints_for(service(), [pod(i) for i in range(1001)], None)
    assert len(made["subsets"][0]["addresses"]) == 1000
    assert made["metadata"]["annotations"] == {"endpoints.kubernetes.io/over-capacity": "truncated"}
    assert "annotations" not in endpoints_for(service(), [pod(1)], made)["metadata"]


def test_named_ports_are_those_of_the_pod_and_missing_ones_are_left_out() -> None:
    owner = service(
        ports=[
            {"name": "web", "port": 80, "targetPort": "http"},
            {"name": "dns", "port": 53, "targetPort": "http", "protocol": "UDP"},
            {"name": "raw", "port": 90},
        ]
    )
    assert endpoint_ports(owner, pod(1)) == [
        {"name": "web", "port": 8080, "protocol": "TCP"},
        {"name": "raw", "port": 90, "protocol": "TCP"},
    ]


def test_a_service_without_selector_selects_nothing() -> None:
    assert selects(service(), pod(1))
    assert not selects(service(selector={}), pod(1))
    assert not selects(service(type="ExternalName"), pod(1))


# -- slices, against the simplest store that there can be


class Store:
    def __init__(self) -> None:
        self.slices: dict[str, Object] = {}
        self.made = 0
        self.writes = 0

    def apply(self, plan: SlicePlan) -> None:
        for piece in plan.create:
            self.made += 1
            name = f"web-{self.made:03}"
            self.slices[name] = {**piece, "metadata": {**piece["metadata"], "name": name}}
        for piece in plan.update:
            assert piece["metadata"]["name"] in self.slices
            self.slices[piece["metadata"]["name"]] = piece
        for piece in plan.delete:
            del self.slices[piece["metadata"]["name"]]
        self.writes += len(plan.create) + len(plan.update) + len(plan.delete)

    def listed(self) -> list[Object]:
        return [self.slices[name] for name in sorted(self.slices)]

    def endpoints(self) -> list[tuple[str, int, bool]]:
        return sorted(
            (endpoint["targetRef"]["name"], piece["ports"][0]["port"], endpoint["conditions"]["ready"])
            for piece in self.slices.values()
            for endpoint in piece["endpoints"]
        )


STATES = st.lists(
    st.dictionaries(st.integers(0, 30), st.tuples(st.booleans(), st.sampled_from([80, 81]), st.booleans())),
    min_size=1,
    max_size=6,
)


@given(STATES, st.integers(1, 7))
def test_slices_always_name_exactly_the_pods_that_serve(
    states: list[dict[int, tuple[bool, int, bool]]], capacity: int
) -> None:
    store = Store()
    for state in states:
        pods = [pod(i, ready=r, port=p, terminating=t) for i, (r, p, t) in state.items()]
        store.apply(plan_slices(service(), pods, {}, store.listed(), capacity))
        wanted = sorted((f"p{i}", p, r and not t) for i, (r, p, t) in state.items())
        assert store.endpoints() == wanted
        assert all(len(piece["endpoints"]) <= capacity for piece in store.slices.values())
        assert store.slices, "even a service without pods has a slice"
        assert plan_slices(service(), pods, {}, store.listed(), capacity) == SlicePlan()


def test_one_more_pod_is_one_write() -> None:
    store = Store()
    pods = [pod(i) for i in range(250)]
    store.apply(plan_slices(service(), pods, {}, [], 100))
    assert sorted(len(s["endpoints"]) for s in store.slices.values()) == [50, 100, 100]
    store.writes = 0
    store.apply(plan_slices(service(), [*pods, pod(999)], {}, store.listed(), 100))
    assert (store.writes, len(store.slices)) == (1, 3)


def test_a_slice_says_whose_it_is_and_where_its_endpoints_are() -> None:
    plan = plan_slices(service(), [pod(1, terminating=True)], {"n1": "z"}, [], 100)
    (piece,) = plan.create
    assert piece["metadata"] == {
        "generateName": "web-",
        "namespace": "default",
        "labels": {
            "team": "x",
            "kubernetes.io/service-name": "web",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        },
        "ownerReferences": [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "name": "web",
                "uid": "svc",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    assert piece["addressType"] == "IPv4"
    assert piece["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
    assert piece["endpoints"] == [
        {
            "addresses": ["10.244.0.2"],
            "conditions": {"ready": False, "serving": True, "terminating": True},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "p1", "uid": "u1"},
            "nodeName": "n1",
            "zone": "z",
        }
    ]


def test_a_service_whose_pods_are_gone_keeps_one_empty_slice() -> None:
    store = Store()
    store.apply(plan_slices(service(), [pod(1), pod(2, port=9)], {}, [], 100))
    store.apply(plan_slices(service(), [], {}, store.listed(), 100))
    assert [(s["endpoints"], s["ports"]) for s in store.slices.values()] == [([], [])]


def test_hand_written_endpoints_are_mirrored_for_services_without_a_selector() -> None:
    owner = service(selector={})
    written: Object = {
        "metadata": {"name": "web", "namespace": "default", "uid": "e", "labels": {"a": "b"}},
        "subsets": [
            {
                "addresses": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}],
                "notReadyAddresses": [{"ip": "192.0.2.2", "hostname": "x"}],
                "ports": [{"port": 80}],
            }
        ],
    }
    assert is_mirrored(written, owner)
    assert not is_mirrored(written, service())
    assert not is_mirrored(written, None)
    skipped = {"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}}
    assert not is_mirrored(skipped, owner)
    store = Store()
    store.apply(plan_mirror(written, [], 1000))
    found = {
        piece["addressType"]: [(e["addresses"][0], e["conditions"]["ready"]) for e in piece["endpoints"]]
        for piece in store.listed()
    }
    assert found == {"IPv4": [("192.0.2.1", True), ("192.0.2.2", False)], "IPv6": [("2001:db8::1", True)]}
    assert store.listed()[0]["metadata"]["labels"] == {
        "a": "b",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
    }
    assert plan_mirror(written, store.listed(), 1000) == SlicePlan()
    store.apply(plan_mirror({**written, "subsets": []}, store.listed(), 1000))
    assert not store.slices
