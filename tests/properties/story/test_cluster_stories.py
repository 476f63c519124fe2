"""The two stories that matter, of a Pod and of a Service, as a simulated cluster lives them."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import orjson
import pytest
import yaml

from understudy.actors import SimWorld, World
from understudy.actors.system import Delivery
from understudy.components.cluster import Cluster
from understudy.components.machinery.resources import PODS
from understudy.properties.story import Step, story
from understudy.properties.story.lanes import component, nodes_of
from understudy.properties.story.page import render_page
from understudy.properties.story.running import Outcome, documents, run_manifest
from understudy.properties.story.text import WIDTH, render_text

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
Condition = Callable[[Step], bool]


def tell(manifest: str, nodes: int = 3, seed: int = 1) -> tuple[Step, ...]:
    deliveries: list[Delivery] = []

    async def main(world: World) -> Outcome:
        async with Cluster(nodes, None, world=world, observers=(deliveries.append,)) as cluster:
            return await run_manifest(cluster, documents(list(yaml.safe_load_all(manifest))), 60.0)

    outcome = SimWorld(seed).run(main)
    assert outcome.settled
    return story(deliveries, outcome.began)


@cache
def example(name: str) -> tuple[Step, ...]:
    return tell((EXAMPLES / name).read_text(encoding="utf-8"))


def step(kind: str, source: str, pattern: str, target: str = "") -> Condition:
    """Whether a step is of that kind, from that actor, about that, to (among others) that target."""

    def fits(candidate: Step) -> bool:
        return (
            candidate.kind == kind
            and re.fullmatch(source, candidate.source) is not None
            and re.search(pattern, candidate.text) is not None
            and (not target or any(re.fullmatch(target, each) for each in candidate.targets))
        )

    fits.__name__ = f"{kind} of {source}: {pattern} {target}"
    return fits


def in_order(steps: tuple[Step, ...], *wanted: Condition) -> list[Step]:
    """The steps that meet the conditions, each after the one before it. Fails when there are none."""
    found: list[Step] = []
    position = 0
    for condition in wanted:
        while position < len(steps) and not condition(steps[position]):
            position += 1
        before = found[-1].text if found else "the beginning"
        assert position < len(steps), f"no {condition.__name__} after {before!r}"
        found.append(steps[position])
        position += 1
    return found


def test_the_story_of_a_pod() -> None:
    steps = example("pod.yaml")
    found = in_order(
        steps,
        step("request", "you", "^create pod/hello$", "kube-apiserver"),
        step(
            "admit", "kube-apiserver", "admits and validates pod/hello for kubernetes-admin; adds .*=default"
        ),
        step("store", "kube-apiserver", r"put pod/hello \(new\)", "etcd"),
        step("watch", "kube-apiserver", "pod/hello is new", "kube-scheduler"),
        step("decide", "kube-scheduler", "pod/hello runs: node-., of 3 that can run it"),
        step("request", "kube-scheduler", "bind pod/hello to node-", "kube-apiserver"),
        step("store", "kube-apiserver", r"put pod/hello \(over revision", "etcd"),
        step("watch", "kube-apiserver", "pod/hello comes into view: nodeName=node-", "node-./kubelet"),
        step("runtime", "node-./kubelet.*", "RunPodSandbox for hello", "node-./cri"),
        step("network", "node-./cri", "CNI ADD eth0 for hello", "node-./cni"),
        step("runtime", "node-./kubelet.*", "PullImage nginx:1.27", "node-./cri"),
        step("runtime", "node-./kubelet.*", "CreateContainer web", "node-./cri"),
        step("runtime", "node-./kubelet.*", "StartContainer web", "node-./cri"),
        step("request", "node-./kubelet.*", "report status of pod/hello: .*phase=Running", "kube-apiserver"),
        step("store", "kube-apiserver", r"put pod/hello \(over revision", "etcd"),
        step("watch", "kube-apiserver", "phase=Running", "node-./kubelet"),
    )
    (decided,) = [each for each in steps if each.kind == "decide"]
    node = re.search(r"runs: (node-\d)", decided.text)
    assert node is not None
    on_nodes = {each.source.split("/")[0] for each in steps if each.source.startswith("node-")}
    assert on_nodes == {node[1]}, "only the node that was chosen does anything"
    address = next(each.outcome for each in found if each.kind == "network").partition("/")[0]
    reported = next(each for each in found if "phase=Running" in each.text)
    assert f"podIP={address}" in reported.text
    assert 25 <= len(steps) <= 60


def test_the_store_agrees_before_it_answers() -> None:
    steps = example("pod.yaml")
    stored = [each for each in steps if each.kind == "store"]
    assert len(stored) >= 4
    for each in stored:
        raft = in_order(
            each.children,
            step("raft", "etcd", "propose it to the leader"),
            step("raft", "etcd/member-.", "append entry"),
            step("raft", "etcd/member-.", "2 of 3 have it, it is committed"),
            step("raft", "etcd/member-.", "is applied", "etcd"),
        )
        assert each.outcome_ms is not None
        assert raft[-1].seconds <= each.seconds + each.outcome_ms / 1000.0
        assert sum(child.text.startswith("append entry") for child in each.children) == 2


def test_the_story_of_a_service() -> None:
    steps = example("web.yaml")
    created, admitted, *_ = in_order(
        steps,
        step("request", "you", "^create service/my-app$"),
        step("admit", "kube-apiserver", "service/my-app .*clusterIP="),
        step("store", "kube-apiserver", r"put service/my-app \(new\)", "etcd"),
        step("watch", "kube-apiserver", "service/my-app is new", "coredns"),
        step("request", "kube-controller-manager/endpointslice-controller", "create endpointslice/my-app-"),
        step("dataplane", "node-./kube-proxy", "rules: .*:80/TCP to "),
        step("dns", "you", "my-app.default.svc.cluster.local A", "coredns"),
        step("network", "you", "connect to .*:80 from", "network"),
        step("dataplane", "network", "where does .*:80 go", "node-./dataplane"),
        step("network", "network", "accept the connection", "node-./cri"),
    )
    found = re.search(r"clusterIP=([\d.]+)", admitted.text)
    assert found is not None
    cluster_ip = found[1]
    assert cluster_ip not in str(orjson.dumps(dict(created.content)["request body"])), "it was allocated"
    pods = {re.sub("/.*", "", each.outcome) for each in steps if each.text.startswith("CNI ADD")}
    assert len(pods) == 2
    last_rules = {
        each.source: each for each in steps if each.kind == "dataplane" and each.text.startswith("rules:")
    }
    assert set(last_rules) == {f"node-{number}/kube-proxy" for number in (1, 2, 3)}
    for each in last_rules.values():
        assert each.text == f"rules: {cluster_ip}:80/TCP to {', '.join(f'{ip}:80' for ip in sorted(pods))}"
    (answered,) = [each for each in steps if each.kind == "dns"]
    assert answered.outcome == cluster_ip
    (verdict,) = [each for each in steps if each.text == f"where does {cluster_ip}:80 go?"]
    assert verdict.outcome in {f"forward to {ip}:80" for ip in pods}


def test_the_story_of_a_deployment_goes_from_owner_to_owned() -> None:
    in_order(
        example("web.yaml"),
        step("request", "you", "^create deployment/my-app$"),
        step("watch", "kube-apiserver", "deployment/my-app is new", "kube-controller-manager"),
        step("request", ".*/deployment-controller", "create replicaset/my-app-.* for deployment/my-app"),
        step("watch", "kube-apiserver", "replicaset/my-app-.* is new", "kube-controller-manager"),
        step("request", ".*/replicaset-controller", "create pod/my-app-.* for replicaset/my-app-"),
        step("watch", "kube-apiserver", "pod/my-app-.* is new", "kube-scheduler"),
        step("request", "node-./kubelet.*", "phase=Running"),
        step("request", ".*/replicaset-controller", "report status of replicaset.*readyReplicas=2"),
        step("request", ".*/deployment-controller", "report status of deployment/my-app:.*Available=True"),
    )


@pytest.mark.parametrize("name", ["pod.yaml", "web.yaml"])
def test_nobody_acts_before_being_told(name: str) -> None:
    steps = example(name)
    nodes = nodes_of(each.source for each in steps)
    informed = {"you"}
    for each in steps:
        actor = component(each.source, nodes)
        if each.kind in ("request", "event", "decide") or (each.kind, each.text[:6]) == (
            "dataplane",
            "rules:",
        ):
            assert actor in informed, each
        informed |= {component(target, nodes) for target in each.targets}
        if each.kind == "admit":
            assert "kube-apiserver" in informed


@pytest.mark.parametrize("name", ["pod.yaml", "web.yaml"])
def test_time_only_goes_on_and_nothing_else_is_told(name: str) -> None:
    steps = example(name)
    assert [each.seconds for each in steps] == sorted(each.seconds for each in steps)
    kinds = {found.kind for each in steps for found in each.objects}
    assert kinds <= {"Pod", "Service", "Deployment", "ReplicaSet", "Endpoints", "EndpointSlice", "Event"}
    assert not any(each.kind == "other" for each in steps), [each for each in steps if each.kind == "other"]
    assert not any(each.failed for each in steps if each.source == "you")


def test_the_same_seed_tells_the_same_story() -> None:
    manifest = (EXAMPLES / "pod.yaml").read_text(encoding="utf-8")
    assert render_text(tell(manifest), details=True) == render_text(example("pod.yaml"), details=True)


def test_a_pod_that_fits_nowhere_and_an_image_that_there_is_not() -> None:
    pod = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, image: IMAGE}]}}"
    (decided,) = [each for each in tell(pod, nodes=0) if each.kind == "decide"]
    assert decided.text == "decides where pod/a runs: nowhere: no nodes available to schedule pods"
    missing = tell(pod.replace("IMAGE", "understudy.dev/fake/pull-not-found"), nodes=1)
    (pull,) = [each for each in missing if each.text.startswith("PullImage")][:1]
    assert pull.failed
    assert "NotFound" in pull.outcome
    in_order(missing, step("request", "node-1/kubelet.*", "c.reason=ErrImagePull"))


def test_the_story_of_a_deletion() -> None:
    deliveries: list[Delivery] = []
    manifest = documents(list(yaml.safe_load_all((EXAMPLES / "pod.yaml").read_text(encoding="utf-8"))))

    async def main(world: World) -> float:
        async with Cluster(1, None, world=world, observers=(deliveries.append,)) as cluster:
            await run_manifest(cluster, manifest, 60.0)
            began = world.monotonic()
            await cluster.client().delete(PODS, "hello", "default")
            await world.sleep(5.0)
            return began

    began = SimWorld(1).run(main)
    in_order(
        story(deliveries, began),
        step("request", "you", "delete pod/hello"),
        step("watch", "kube-apiserver", "pod/hello is changed", "node-1/kubelet"),
        step("runtime", "node-1/kubelet.*", "StopContainer web", "node-1/cri"),
        step("network", "node-1/cri", "CNI DEL eth0 for hello", "node-1/cni"),
        step("watch", "kube-apiserver", "pod/hello goes out of view: phase=Succeeded", "kube-scheduler"),
        step("request", "node-1/kubelet.*", "delete pod/hello"),
        step("store", "kube-apiserver", "delete pod/hello"),
        step("watch", "kube-apiserver", "pod/hello is gone", "kube-controller-manager"),
    )


def test_what_a_namespace_brings_with_it_belongs_to_its_story() -> None:
    manifest = """
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop}
spec: {containers: [{name: c, image: nginx}]}
"""
    in_order(
        tell(manifest, nodes=1),
        step("request", "you", "create namespace/shop"),
        step("watch", "kube-apiserver", "namespace/shop is new", "kube-controller-manager"),
        step("request", ".*/serviceaccount-controller", "create serviceaccount/shop/default"),
        step("request", "you", "create pod/shop/a"),
        step("request", "node-1/kubelet.*", "report status of pod/shop/a: phase=Running"),
    )


@pytest.mark.parametrize("name", ["pod.yaml", "web.yaml"])
def test_the_text_fits_and_tells_every_step(name: str) -> None:
    steps = example(name)
    text = render_text(steps)
    assert max(map(len, text.splitlines())) <= WIDTH
    times = re.findall(r"^ *(\d+\.\d) ", text, re.MULTILINE)
    assert len(times) == len(steps)
    longer = render_text(steps, details=True)
    assert max(map(len, longer.splitlines())) <= WIDTH
    assert len(longer) > len(text)


def test_the_page_holds_the_story_and_needs_nothing_else() -> None:
    steps = example("web.yaml")
    page = render_page(steps, "</script><b>&.yaml")
    assert "<b>&" not in page
    assert not re.search(
        r"(?:src|href)\s*=|@import|url\(|fetch\(|XMLHttpRequest|WebSocket", page.split('id="data"')[0]
    )
    embedded = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert embedded is not None
    data = orjson.loads(embedded[1])
    assert [each["text"] for each in data["steps"]] == [each.text for each in steps]
    assert data["steps"][0]["ms"] == 0
    shown = data["steps"][0]["content"][1]
    assert shown[0] == "request body"
    assert yaml.safe_load(data["texts"][shown[1]])["kind"] == "Deployment"
    assert "create deployment/my-app" in page.split("<noscript>")[1].split("</noscript>")[0]
