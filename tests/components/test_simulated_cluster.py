"""The whole cluster in virtual time: the main job, its determinism, and what happens when parts of it die."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from understudy.actors import Shuffled
from understudy.components.boundary.podnet import ConnectionRefused
from understudy.components.cluster import Cluster, ClusterOptions
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICES,
)
from understudy.raftstore.membership import StartMember
from understudy.raftstore.options import GroupOptions, MemberOptions, RaftOptions

from . import simulation
from .simulation import deployment, main_job, ready, service, simulate, until, without_chance

PLAN = """
import sys
sys.path.insert(0, sys.argv[1])
from components import simulation
from understudy.actors import Shuffled
_, world = simulation.simulate(simulation.main_job, seed=5, schedule=Shuffled(3))
print(world.trace_hash(), world.steps)
"""


def comparable(state: list[dict[str, object]]) -> list[str]:
    return sorted(json.dumps(without_chance(obj), sort_keys=True) for obj in state)


def test_the_same_plan_gives_the_same_trace_in_any_process() -> None:
    tests = Path(simulation.__file__).parent.parent
    runs = {
        subprocess.run(
            [sys.executable, "-c", PLAN, str(tests)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for hash_seed in ("0", "1", "4242")
    }
    assert len(runs) == 1, runs


def test_other_schedules_give_other_traces_and_the_same_end() -> None:
    state, world = simulate(main_job)
    expected = comparable(state)
    traces = {world.trace_hash()}
    for seed in range(20):
        state, world = simulate(main_job, schedule=Shuffled(seed))
        assert comparable(state) == expected, f"schedule {seed} ends differently"
        traces.add(world.trace_hash())
    assert len(traces) == 21


def test_an_idle_hour_passes_and_nothing_is_written_but_heartbeats() -> None:
    # A heartbeat a second instead of ten: nothing fails in this hour, and nobody waits for an election.
    slow = RaftOptions(heartbeat_ms=1000, election_timeout_min_ms=4000, election_timeout_max_ms=7000)
    options = ClusterOptions(etcd=GroupOptions(member=MemberOptions(raft=slow)))

    async def idle(cluster: Cluster) -> tuple[list[str], int]:
        client = cluster.client()
        await client.create(DEPLOYMENTS, deployment("my-app"))
        pods = await until(client, PODS, lambda pods: len(ready(pods)) == 2)
        await cluster.world.sleep(60)
        quiet = {obj["metadata"]["uid"]: obj for obj in await simulation.whole_state(client)}
        began = cluster.world.monotonic()
        await cluster.world.sleep(3600)
        assert cluster.world.monotonic() - began == pytest.approx(3600)
        changed = [
            obj["kind"]
            for obj in await simulation.whole_state(client)
            if quiet[obj["metadata"]["uid"]]["metadata"]["resourceVersion"]
            != obj["metadata"]["resourceVersion"]
        ]
        nodes = (await client.list(NODES)).items
        conditions = [c["status"] for n in nodes for c in n["status"]["conditions"] if c["type"] == "Ready"]
        assert conditions == ["True"] * 3
        assert len(ready((await client.list(PODS)).items)) == len(pods)
        return changed, len(nodes)

    (changed, nodes), world = simulate(idle, options=options)
    assert set(changed) <= {"Node"}, "steady state writes nothing but the nodes' status reports"
    assert len(changed) <= nodes
    assert world.steps < 500_000


def test_a_request_in_the_pod_network_is_balanced_over_ready_pods_only() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        await client.create(DEPLOYMENTS, deployment("my-app"))
        await client.create(SERVICES, service("my-app"))
        late = deployment("late", 1, "understudy.dev/fake/never-ready")
        late["spec"]["template"]["metadata"]["labels"]["app"] = "my-app"
        late["spec"]["template"]["metadata"]["labels"]["late"] = "yes"
        late["spec"]["selector"]["matchLabels"] = {"late": "yes"}
        late["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"port": 80}}
        await client.create(DEPLOYMENTS, late)
        pods = await until(
            client,
            PODS,
            lambda pods: (
                len(ready(pods)) == 2
                and [p for p in pods if p.get("status", {}).get("phase") == "Running"] == pods
                and len(pods) == 3
            ),
        )
        await cluster.world.sleep(3)
        names = {p["metadata"]["name"] for p in ready(pods)}
        for pod in ready(pods):
            inside = await cluster.pod_client(pod["metadata"]["name"])
            answers = Counter(
                [(await inside.get("http://my-app:80/")).body.decode().strip() for _ in range(40)]
            )
            assert {name.strip() for name in answers} == names
            assert max(answers.values()) - min(answers.values()) <= 2

        await client.patch(DEPLOYMENTS, "my-app", {"spec": {"replicas": 0}}, "default")
        await until(client, PODS, lambda pods: len(pods) == 1)
        await cluster.world.sleep(3)
        outside = await cluster.pod_client(next(p for p in pods if p not in ready(pods))["metadata"]["name"])
        with pytest.raises(ConnectionRefused):
            await outside.get("http://my-app:80/")

    simulate(job)


def test_writes_go_on_within_a_second_of_the_leaders_death() -> None:
    async def job(cluster: Cluster) -> float:
        client = cluster.client()
        for number in range(3):
            await client.create(CONFIG_MAPS, _config_map(f"before-{number}"))
        leader = await simulation.leader_of(cluster)
        began = cluster.world.monotonic()
        await cluster.system.stop(cluster.store_member(leader))
        await client.create(CONFIG_MAPS, _config_map("after"))
        took = cluster.world.monotonic() - began
        names = {c["metadata"]["name"] for c in (await client.list(CONFIG_MAPS, "default")).items}
        assert {"before-0", "before-1", "before-2", "after"} <= names
        return took

    for seed in range(5):
        took, _ = simulate(job, nodes=0, seed=seed)
        assert took < 1.0, f"seed {seed}"


def test_without_a_majority_writes_are_refused_until_one_returns() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        await client.create(CONFIG_MAPS, _config_map("before"))
        for member in (1, 2):
            await cluster.system.stop(cluster.store_member(member))
        with pytest.raises(ApiError) as refused:
            await client.create(CONFIG_MAPS, _config_map("lost"))
        assert refused.value.code == 503
        assert "no majority" in refused.value.message
        cluster.system.ref("/etcd").tell(StartMember(1))
        await cluster.world.sleep(2)
        await client.create(CONFIG_MAPS, _config_map("after"))
        names = {c["metadata"]["name"] for c in (await client.list(CONFIG_MAPS, "default")).items}
        assert {"before", "after"} <= names

    simulate(job, nodes=0)


def _config_map(name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}


def test_a_dead_node_turns_not_ready_and_its_pods_are_replaced() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        await client.create(DEPLOYMENTS, deployment("my-app", 3))
        pods = await until(client, PODS, lambda pods: len(ready(pods)) == 3)
        victim = pods[0]["spec"]["nodeName"]
        lost = {p["metadata"]["uid"] for p in pods if p["spec"]["nodeName"] == victim}
        died = cluster.world.monotonic()
        await cluster.system.stop(cluster.node(victim))
        with cluster.world.deadline(600):
            while True:
                await cluster.world.sleep(1)
                node = await client.get(NODES, victim)
                state = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
                if state["status"] == "Unknown":
                    break
        assert 40 <= cluster.world.monotonic() - died <= 65, "node-monitor-grace-period and one period"
        keys = {t["key"] for t in node["spec"]["taints"]}
        assert "node.kubernetes.io/unreachable" in keys
        with cluster.world.deadline(600):
            while True:
                await cluster.world.sleep(5)
                now = (await client.list(PODS)).items
                alive = [p for p in ready(now) if p["spec"]["nodeName"] != victim]
                if len(alive) == 3:
                    break
        assert 300 <= cluster.world.monotonic() - died <= 420, "tolerated for 300 s, then evicted"
        assert lost.isdisjoint(p["metadata"]["uid"] for p in alive)

    simulate(job)


def test_a_pod_that_fits_nowhere_is_tried_again_when_something_changes() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        big = deployment("big", 1)
        big["spec"]["template"]["spec"]["nodeSelector"] = {"disk": "fast"}
        await client.create(DEPLOYMENTS, big)
        pods = await until(
            client, PODS, lambda pods: bool(pods and pods[0].get("status", {}).get("conditions"))
        )
        condition = pods[0]["status"]["conditions"][0]
        assert (condition["type"], condition["status"], condition["reason"]) == (
            "PodScheduled",
            "False",
            "Unschedulable",
        )
        assert condition["message"].startswith("0/3 nodes are available")
        await cluster.world.sleep(1)
        reasons = {e["reason"] for e in (await client.list(EVENTS, "default")).items}
        assert "FailedScheduling" in reasons
        began = cluster.world.monotonic()
        await client.patch(NODES, "node-2", {"metadata": {"labels": {"disk": "fast"}}})
        pods = await until(client, PODS, lambda pods: len(ready(pods)) == 1)
        assert pods[0]["spec"]["nodeName"] == "node-2"
        assert cluster.world.monotonic() - began < 15

    simulate(job)


def test_deleting_a_deployment_takes_everything_below_it() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        await client.create(DEPLOYMENTS, deployment("my-app", 2))
        await until(client, PODS, lambda pods: len(ready(pods)) == 2)
        await client.delete(DEPLOYMENTS, "my-app", "default", propagation_policy="Background")
        await until(client, PODS, lambda pods: not pods)
        assert (await client.list(REPLICA_SETS)).items == []

    simulate(job)


@pytest.mark.parametrize(
    "component",
    ["/kube-apiserver", "/kube-controller-manager", "/kube-scheduler", "/node-1/kubelet", "/coredns"],
)
def test_a_component_that_crashes_comes_back_and_the_job_is_done(component: str) -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        await client.create(DEPLOYMENTS, deployment("my-app", 2))
        await cluster.world.sleep(0.02)
        cluster.system.crash(cluster.system.ref(component), RuntimeError("planted"))
        pods = await until(client, PODS, lambda pods: len(ready(pods)) == 2)
        assert len(pods) == 2

    simulate(job)
