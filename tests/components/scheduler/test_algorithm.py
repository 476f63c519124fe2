"""What the scheduler decides, and how it words why a pod fits nowhere."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.components.scheduler.algorithm import schedule
from understudy.components.scheduler.cache import Cache
from understudy.components.scheduler.decision import Decision
from understudy.components.scheduler.plugins import default_profile
from understudy.components.scheduler.pod_info import pod_info

PROFILE = default_profile()
HOSTNAME = "kubernetes.io/hostname"


def node(name: str, cpu: str = "4", memory: str = "8Gi", pods: str = "110", **more: Any) -> dict[str, Any]:
    labels = {HOSTNAME: name} | more.pop("labels", {})
    status = {"allocatable": {"cpu": cpu, "memory": memory, "pods": pods}, **more.pop("status", {})}
    return {"kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": more, "status": status}


def pod(name: str, cpu: str | None = None, memory: str | None = None, **spec: Any) -> dict[str, Any]:
    requests = {k: v for k, v in (("cpu", cpu), ("memory", memory)) if v is not None}
    labels = spec.pop("labels", {"app": "web"})
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}", "labels": labels}
    container = {"name": "c", "image": "nginx", "resources": {"requests": requests}}
    return {"metadata": meta, "spec": {"containers": [container], **spec}}


def cluster(*nodes: dict[str, Any], pods: tuple[tuple[dict[str, Any], str], ...] = ()) -> Cache:
    cache = Cache()
    for one in nodes:
        cache.set_node(one)
    for one_pod, name in pods:
        cache.set_pod(one_pod | {"spec": one_pod["spec"] | {"nodeName": name}})
    return cache


def decide(cache: Cache, wanted: dict[str, Any], seed: int = 0) -> Decision:
    return schedule(pod_info(wanted), cache, PROFILE, random.Random(seed))


def feasible(cache: Cache, wanted: dict[str, Any]) -> list[str]:
    return [v.node for v in decide(cache, wanted).verdicts if v.failure is None]


def refusals(decision: Decision) -> dict[str, str]:
    return {v.node: v.plugin for v in decision.verdicts if v.failure is not None}


GPU_TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}


def test_no_nodes() -> None:
    decision = decide(Cache(), pod("p"))
    assert (decision.node, decision.message) == (None, "no nodes available to schedule pods")


def test_the_message_counts_reasons_and_says_what_preemption_found() -> None:
    cache = cluster(
        node("a", cpu="1"),
        node("b", taints=[GPU_TAINT]),
        node("c", taints=[GPU_TAINT]),
        pods=((pod("busy", "800m"), "a"),),
    )
    assert decide(cache, pod("p", "500m")).message == (
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s). "
        "no new claims to deallocate, preemption: 0/3 nodes are available: "
        "1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
    )


def test_more_than_the_whole_node_is_not_helped_by_preemption() -> None:
    cache = cluster(node("a", cpu="1", memory="1Gi", pods="0"))
    message = decide(cache, pod("p", "2", "2Gi", priority=10)).message
    assert message == (
        "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 Too many pods. "
        "no new claims to deallocate, preemption: 0/1 nodes are available: "
        "1 Preemption is not helpful for scheduling."
    )


@pytest.mark.parametrize(
    ("bad_node", "wanted", "plugin"),
    [
        (node("bad", unschedulable=True), pod("p"), "NodeUnschedulable"),
        (node("bad", taints=[GPU_TAINT]), pod("p"), "TaintToleration"),
        (node("bad"), pod("p", nodeSelector={"disk": "ssd"}), "NodeAffinity"),
        (node("bad", pods="0"), pod("p"), "NodeResourcesFit"),
        (node("bad", cpu="0"), pod("p", "1m"), "NodeResourcesFit"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_filter_refuses_its_node_only(
    bad_node: dict[str, Any], wanted: dict[str, Any], plugin: str
) -> None:
    decision = decide(cluster(bad_node, node("good", labels={"disk": "ssd"})), wanted)
    assert decision.node == "good"
    assert refusals(decision) == {"bad": plugin}


def test_host_ports_clash_by_address_and_protocol() -> None:
    def with_port(name: str, **port: Any) -> dict[str, Any]:
        made = pod(name)
        made["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 80, **port}]
        return made

    cache = cluster(node("a"), pods=((with_port("held", hostIP="10.0.0.1"), "a"),))
    assert refusals(decide(cache, with_port("p"))) == {"a": "NodePorts"}
    assert refusals(decide(cache, with_port("p", hostIP="10.0.0.1"))) == {"a": "NodePorts"}
    assert decide(cache, with_port("p", hostIP="10.0.0.2")).node == "a"
    assert decide(cache, with_port("p", protocol="UDP")).node == "a"
    assert decide(cache, with_port("p", hostPort=81)).node == "a"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ({"key": "size", "operator": "In", "values": ["3", "9"]}, ["a"]),
        ({"key": "size", "operator": "NotIn", "values": ["3"]}, ["b", "c"]),
        ({"key": "size", "operator": "Exists"}, ["a", "b"]),
        ({"key": "size", "operator": "DoesNotExist"}, ["c"]),
        ({"key": "size", "operator": "Gt", "values": ["3"]}, ["b"]),
        ({"key": "size", "operator": "Lt", "values": ["7"]}, ["a"]),
    ],
    ids=lambda value: value["operator"] if isinstance(value, dict) else "",
)
def test_required_node_affinity(expression: dict[str, Any], expected: list[str]) -> None:
    cache = cluster(node("a", labels={"size": "3"}), node("b", labels={"size": "7"}), node("c"))
    terms = [{"matchExpressions": [expression]}]
    affinity = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    }
    assert feasible(cache, pod("p", affinity=affinity)) == expected


def test_preferred_node_affinity_and_soft_taints_tip_the_scale() -> None:
    soft = [{"key": "slow", "effect": "PreferNoSchedule"}]
    assert decide(cluster(node("a", taints=soft), node("b")), pod("p")).node == "b"
    preference = {"weight": 5, "preference": {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}}
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preference]}}
    cache = cluster(node("a"), node("b", labels={"zone": "z"}))
    decision = decide(cache, pod("p", affinity=affinity))
    assert decision.node == "b"
    assert decision.verdicts[1].scores["NodeAffinity"] == 200


def test_the_emptier_and_the_better_balanced_node_wins() -> None:
    cache = cluster(node("a"), node("b"), pods=((pod("busy", "2", "4Gi", labels={}), "a"),))
    decision = decide(cache, pod("p", "1", "2Gi"))
    assert decision.node == "b"
    scores = {v.node: v.scores for v in decision.verdicts}
    # a: 3 of 4 cores and 6 of 8 GiB taken; b: 1 of 4 and 2 of 8.
    assert (scores["a"]["NodeResourcesFit"], scores["b"]["NodeResourcesFit"]) == (25, 75)
    assert scores["a"]["NodeResourcesBalancedAllocation"] == 100
    lopsided = cluster(node("a", memory="64Gi"))
    lopsided.set_node(node("b"))
    balanced = decide(lopsided, pod("p", "4", "8Gi")).verdicts
    assert [v.scores["NodeResourcesBalancedAllocation"] for v in balanced] == [56, 100]


def test_an_image_that_is_there_draws_the_pod() -> None:
    images = {"images": [{"names": ["nginx:latest"], "sizeBytes": 2_000_000_000}]}
    cache = cluster(node("a"), node("b", status=images), node("c"))
    assert decide(cache, pod("p")).node == "b"


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 24), st.integers(0, 2**32))
def test_replicas_of_one_owner_are_spread_evenly(nodes: int, replicas: int, seed: int) -> None:
    cache = cluster(*(node(f"n{i}") for i in range(nodes)))
    selector = {"matchLabels": {"app": "web"}}
    meta = {"name": "rs", "namespace": "default"}
    cache.set_owner({"kind": "ReplicaSet", "metadata": meta, "spec": {"selector": selector}})
    rng, placed = random.Random(seed), Counter[str]()
    for index in range(replicas):
        wanted = pod(f"web-{index}")
        wanted["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": "rs", "controller": True}]
        info = pod_info(wanted)
        decision = schedule(info, cache, PROFILE, rng)
        assert decision.node is not None
        cache.assume(info, decision.node)
        placed[decision.node] += 1
    counts = [placed[f"n{i}"] for i in range(nodes)]
    assert max(counts) - min(counts) <= 1


def test_equal_nodes_are_drawn_from_by_the_rng() -> None:
    cache = cluster(*(node(f"n{i}") for i in range(4)))
    assert {decide(cache, pod("p"), seed).node for seed in range(40)} == {"n0", "n1", "n2", "n3"}
    assert decide(cache, pod("p"), 7) == decide(cache, pod("p"), 7)


def test_required_topology_spread() -> None:
    constraint = {
        "topologyKey": "zone",
        "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
    wanted = pod("p", topologySpreadConstraints=[constraint])
    nodes = (node("a", labels={"zone": "x"}), node("b", labels={"zone": "y"}), node("c"))
    cache = cluster(*nodes, pods=((pod("1"), "a"),))
    assert feasible(cache, wanted) == ["b"]
    reasons = [v.failure.reasons[0] for v in decide(cache, wanted).verdicts if v.failure]
    assert reasons == [
        "node(s) didn't match pod topology spread constraints",
        "node(s) didn't match pod topology spread constraints (missing required label)",
    ]
    # A pod that is being deleted no longer counts, and two domains are not the three that are asked for.
    leaving = pod("1")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert feasible(cluster(*nodes, pods=((leaving, "a"),)), wanted) == ["a", "b"]
    three = pod("p", topologySpreadConstraints=[constraint | {"minDomains": 3}])
    both = ((pod("1"), "a"), (pod("2"), "b"))
    assert feasible(cluster(*nodes, pods=both), wanted) == ["a", "b"]
    assert feasible(cluster(*nodes, pods=both), three) == []


def affinity_to(app: str, kind: str) -> dict[str, Any]:
    term = {"topologyKey": HOSTNAME, "labelSelector": {"matchLabels": {"app": app}}}
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def test_inter_pod_affinity_near_and_far_and_mutual() -> None:
    loner = pod("loner", affinity=affinity_to("web", "podAntiAffinity"), labels={"app": "web"})
    cache = cluster(node("a"), node("b"), pods=((loner, "a"),))
    assert feasible(cache, pod("p", affinity=affinity_to("web", "podAffinity"), labels={"app": "x"})) == ["a"]
    assert feasible(cache, pod("p", affinity=affinity_to("web", "podAntiAffinity"))) == ["b"]
    refused = decide(cache, pod("p", labels={"app": "web"})).verdicts[0]
    assert refused.failure is not None
    assert refused.failure.reasons == ("node(s) didn't satisfy existing pods anti-affinity rules",)
    # Nobody is near to the first of a kind, unless it is near to itself.
    assert feasible(cluster(node("a")), pod("p", affinity=affinity_to("web", "podAffinity"))) == ["a"]
    assert feasible(cluster(node("a")), pod("p", affinity=affinity_to("db", "podAffinity"))) == []


def test_preferred_inter_pod_affinity() -> None:
    term = {"topologyKey": HOSTNAME, "labelSelector": {"matchLabels": {"app": "cache"}}}
    weighted = [{"weight": 100, "podAffinityTerm": term}]
    near = {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": weighted}}
    far = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": weighted}}
    cache = cluster(node("a"), node("b"), pods=((pod("c", labels={"app": "cache"}), "a"),))
    assert decide(cache, pod("p", affinity=near)).node == "a"
    assert decide(cache, pod("p", affinity=far)).node == "b"


def test_init_containers_sidecars_and_overhead_count() -> None:
    def container(cpu: str, **more: Any) -> dict[str, Any]:
        return {"name": cpu, "resources": {"requests": {"cpu": cpu}}, **more}

    wanted = pod("p", overhead={"cpu": "100m"})
    wanted["spec"]["containers"] = [container("1"), container("500m")]
    assert pod_info(wanted).requests == {"cpu": 1600}
    wanted["spec"]["initContainers"] = [container("3")]
    assert pod_info(wanted).requests == {"cpu": 3100}
    wanted["spec"]["initContainers"] = [container("2", restartPolicy="Always"), container("3")]
    assert pod_info(wanted).requests == {"cpu": 5100}
    wanted["spec"]["initContainers"] = [container("3"), container("2", restartPolicy="Always")]
    assert pod_info(wanted).requests == {"cpu": 3600}


def test_preemption_takes_the_fewest_and_least_important() -> None:
    cache = cluster(
        node("a", cpu="2"),
        node("b", cpu="2"),
        pods=(
            (pod("a1", "2", priority=5), "a"),
            (pod("b1", "1", priority=5), "b"),
            (pod("b2", "1", priority=1), "b"),
        ),
    )
    decision = decide(cache, pod("p", "1", priority=10))
    assert (decision.node, decision.nominated_node) == (None, "b")
    assert [str(victim) for victim in decision.victims] == ["default/b2"]
    assert decision.message == "0/2 nodes are available: 2 Insufficient cpu."
    never = decide(cache, pod("p", "1", priority=10, preemptionPolicy="Never"))
    assert never.nominated_node is None
    assert never.message.endswith("preemption: not eligible due to preemptionPolicy=Never.")


def test_preemption_spares_the_pod_that_runs_longer() -> None:
    def started(name: str, at: str) -> dict[str, Any]:
        return pod(name, "2", priority=1) | {"status": {"startTime": at}}

    older, newer = started("older", "2026-01-01T00:00:00Z"), started("newer", "2026-01-01T00:00:09Z")
    cache = cluster(node("a", cpu="2"), node("b", cpu="2"), pods=((older, "a"), (newer, "b")))
    assert decide(cache, pod("p", "2", priority=10)).nominated_node == "b"


def test_room_made_for_a_pod_is_not_given_to_a_lesser_one() -> None:
    cache = cluster(node("a", cpu="2"))
    cache.nominate(pod_info(pod("vip", "2", priority=10)), "a")
    assert decide(cache, pod("p", "1", priority=1)).node is None
    assert decide(cache, pod("boss", "1", priority=11)).node == "a"
    assert decide(cache, pod("vip", "2", priority=10)).node == "a"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 8), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), max_size=14),
    st.integers(0, 2**32),
)
def test_no_node_is_ever_overcommitted_and_pending_means_full(
    capacities: list[int], wanted: list[tuple[int, int]], seed: int
) -> None:
    cache = cluster(*(node(f"n{i}", cpu=str(cpu)) for i, cpu in enumerate(capacities)))
    rng, free = random.Random(seed), {f"n{i}": cpu for i, cpu in enumerate(capacities)}
    for index, (cpu, priority) in enumerate(wanted):
        info = pod_info(pod(f"p{index}", str(cpu), priority=priority))
        decision = schedule(info, cache, PROFILE, rng)
        if decision.node is None:
            assert max(free.values()) < cpu
            if decision.nominated_node is not None:
                freed = sum(victim.requests["cpu"] for victim in decision.victims) // 1000
                assert free[decision.nominated_node] + freed >= cpu
                assert all(victim.priority < priority for victim in decision.victims)
        else:
            free[decision.node] -= cpu
            assert free[decision.node] >= 0
            cache.assume(info, decision.node)
