"""The controllers at work in a simulated cluster: what users rely on, under other schedules and crashes."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from understudy.actors import Shuffled
from understudy.components.client import Client
from understudy.components.cluster import Cluster
from understudy.components.controllers.deployment.replica_sets import REVISION
from understudy.components.machinery.resources import (
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    DAEMON_SETS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    EVENTS,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    STATEFUL_SETS,
    Resource,
)

from ..simulation import deployment, ready, service, simulate

Object = dict[str, Any]
MANAGER = "/kube-controller-manager"


async def listed(client: Client, resource: Resource, namespace: str = "default") -> list[Object]:
    return (await client.list(resource, namespace)).items


async def until(client: Client, resource: Resource, done: Callable[[list[Object]], bool]) -> list[Object]:
    """Follow whole states until one is as wanted; `done` may also assert what must hold in all of them."""
    objects: dict[str, Object] = {}
    whole = False
    with client.world.deadline(300):
        async with client.watch(resource, send_initial_events=True) as events:
            async for event in events:
                metadata = event.object["metadata"]
                key = f"{metadata.get('namespace')}/{metadata.get('name')}"
                if event.type == "BOOKMARK":
                    whole = True
                elif event.type == "DELETED":
                    objects.pop(key, None)
                else:
                    objects[key] = event.object
                found = [objects[key] for key in sorted(objects)]
                if whole and done(found):
                    return found
    raise AssertionError("the watch ended")


async def settled(client: Client, resource: Resource, name: str, done: Callable[[Object], bool]) -> Object:
    """The object once it is as wanted."""
    found = await until(
        client, resource, lambda objects: any(o["metadata"]["name"] == name and done(o) for o in objects)
    )
    return next(o for o in found if o["metadata"]["name"] == name)


def rolled_out(obj: Object) -> bool:
    wanted, status = obj["spec"]["replicas"], obj.get("status", {})
    counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
    return counts == [wanted] * 3 and status["observedGeneration"] == obj["metadata"]["generation"]


def reasons(obj: Object) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c.get("reason", "")) for c in obj["status"].get("conditions", ())}


def image_patch(image: str) -> Object:
    return {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": image}]}}}}


# -- Deployments


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_a_rolling_update_keeps_its_bounds_at_every_moment(seed: int | None) -> None:
    wanted, surge = 4, 1

    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        app = deployment("app", wanted)
        app["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": 0}}
        await client.create(DEPLOYMENTS, app)
        await settled(client, DEPLOYMENTS, "app", rolled_out)
        await client.patch(DEPLOYMENTS, "app", image_patch("nginx:1.27"), "default", type="strategic")

        def within_bounds(pods: list[Object]) -> bool:
            living = [p for p in pods if "deletionTimestamp" not in p["metadata"]]
            assert len(living) <= wanted + surge
            assert len(ready(living)) >= wanted
            images = Counter(p["spec"]["containers"][0]["image"] for p in ready(living))
            return images == {"nginx:1.27": wanted} and len(pods) == wanted

        await until(client, PODS, within_bounds)
        done = await settled(client, DEPLOYMENTS, "app", rolled_out)
        assert reasons(done) == {
            "Available": ("True", "MinimumReplicasAvailable"),
            "Progressing": ("True", "NewReplicaSetAvailable"),
        }

    simulate(job, schedule=None if seed is None else Shuffled(seed))


def test_going_back_uses_the_old_replica_set_under_a_new_revision() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        await client.create(DEPLOYMENTS, deployment("app", 2))
        await settled(client, DEPLOYMENTS, "app", rolled_out)
        for image in ("nginx:1.27", "nginx"):
            await client.patch(DEPLOYMENTS, "app", image_patch(image), "default", type="strategic")
            await settled(
                client,
                DEPLOYMENTS,
                "app",
                lambda d, image=image: (
                    rolled_out(d) and d["spec"]["template"]["spec"]["containers"][0]["image"] == image
                ),  # type: ignore[misc]
            )
        app = await client.get(DEPLOYMENTS, "app", "default")
        sets = {rs["metadata"]["annotations"][REVISION]: rs for rs in await listed(client, REPLICA_SETS)}
        assert app["metadata"]["annotations"][REVISION] == "3"
        assert sorted(sets) == ["2", "3"]
        assert sets["3"]["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "1"
        assert [sets[r]["spec"]["replicas"] for r in ("2", "3")] == [0, 2]

    simulate(job)


def test_recreate_never_runs_two_templates_together() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        app = deployment("app", 3)
        app["spec"]["strategy"] = {"type": "Recreate"}
        await client.create(DEPLOYMENTS, app)
        await settled(client, DEPLOYMENTS, "app", rolled_out)
        await client.patch(DEPLOYMENTS, "app", image_patch("nginx:1.27"), "default", type="strategic")

        def only_one_template(pods: list[Object]) -> bool:
            images = {p["spec"]["containers"][0]["image"] for p in pods}
            assert len(images) <= 1, images
            return images == {"nginx:1.27"} and len(ready(pods)) == 3

        await until(client, PODS, only_one_template)

    simulate(job)


def test_history_is_cut_to_its_limit() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        app = deployment("app", 1)
        app["spec"]["revisionHistoryLimit"] = 1
        await client.create(DEPLOYMENTS, app)
        for number in range(4):
            image = f"nginx:1.{number}"
            await client.patch(DEPLOYMENTS, "app", image_patch(image), "default", type="strategic")
            await settled(client, DEPLOYMENTS, "app", rolled_out)
            await cluster.world.sleep(1)
        assert len(await listed(client, REPLICA_SETS)) == 2

    simulate(job)


def test_a_rollout_that_cannot_finish_says_so_and_a_paused_one_waits() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        app = deployment("app", 2, "understudy.dev/fake/pull-error:1")
        app["spec"]["progressDeadlineSeconds"] = 5
        await client.create(DEPLOYMENTS, app)
        await cluster.world.sleep(60)
        late = await client.get(DEPLOYMENTS, "app", "default")
        assert reasons(late)["Progressing"] == ("False", "ProgressDeadlineExceeded")
        await client.patch(DEPLOYMENTS, "app", {"spec": {"paused": True}}, "default")
        await client.patch(DEPLOYMENTS, "app", image_patch("nginx"), "default", type="strategic")
        await cluster.world.sleep(5)
        assert len(await listed(client, REPLICA_SETS)) == 1
        await client.patch(DEPLOYMENTS, "app", {"spec": {"paused": False}}, "default")
        await settled(client, DEPLOYMENTS, "app", rolled_out)

    simulate(job)


def test_an_orphaned_replica_set_is_adopted_by_its_next_deployment() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        await client.create(DEPLOYMENTS, deployment("app", 2))
        await settled(client, DEPLOYMENTS, "app", rolled_out)
        before = {p["metadata"]["uid"] for p in await listed(client, PODS)}
        await client.delete(DEPLOYMENTS, "app", "default", propagation_policy="Orphan")
        await until(client, DEPLOYMENTS, lambda found: not found)
        await cluster.world.sleep(5)
        (orphan,) = await listed(client, REPLICA_SETS)
        assert "ownerReferences" not in orphan["metadata"]
        await client.create(DEPLOYMENTS, deployment("app", 2))
        app = await settled(client, DEPLOYMENTS, "app", rolled_out)
        (adopted,) = await listed(client, REPLICA_SETS)
        assert adopted["metadata"]["ownerReferences"][0]["uid"] == app["metadata"]["uid"]
        assert {p["metadata"]["uid"] for p in await listed(client, PODS)} == before

    simulate(job)


def test_a_pod_that_loses_its_labels_is_released_and_replaced() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        await client.create(DEPLOYMENTS, deployment("app", 2))
        pods = await until(client, PODS, lambda pods: len(ready(pods)) == 2)
        name = pods[0]["metadata"]["name"]
        await client.patch(PODS, name, {"metadata": {"labels": {"app": "other"}}}, "default")
        found = await until(client, PODS, lambda pods: len(ready(pods)) == 3)
        stray = next(p for p in found if p["metadata"]["name"] == name)
        assert "ownerReferences" not in stray["metadata"]
        await client.patch(PODS, name, {"metadata": {"labels": {"app": "app"}}}, "default")
        await until(client, PODS, lambda pods: len(ready(pods)) == 2)

    simulate(job)


# -- deletion


def test_a_foreground_deletion_keeps_the_owner_until_its_dependents_are_gone() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        await client.create(DEPLOYMENTS, deployment("app", 2))
        await settled(client, DEPLOYMENTS, "app", rolled_out)
        await client.delete(DEPLOYMENTS, "app", "default", propagation_policy="Foreground")
        app = await client.get(DEPLOYMENTS, "app", "default")
        assert app["metadata"]["finalizers"] == ["foregroundDeletion"]
        await until(client, DEPLOYMENTS, lambda found: not found)
        assert not await listed(client, REPLICA_SETS)
        assert not await listed(client, PODS)

    simulate(job)


def owned(name: str, *owners: Object, blocks: bool = False) -> Object:
    references = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": blocks,
        }
        for owner in owners
    ]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default", "ownerReferences": references},
    }


def test_an_object_goes_with_the_last_of_its_owners() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        one = await client.create(CONFIG_MAPS, owned("one"))
        other = await client.create(CONFIG_MAPS, owned("other"))
        await client.create(CONFIG_MAPS, owned("child", one, other))
        await cluster.world.sleep(2)
        await client.delete(CONFIG_MAPS, "one", "default")
        await cluster.world.sleep(5)
        child = await client.get(CONFIG_MAPS, "child", "default")
        assert [r["name"] for r in child["metadata"]["ownerReferences"]] == ["other"]
        await client.delete(CONFIG_MAPS, "other", "default")
        await until(client, CONFIG_MAPS, lambda found: all(c["metadata"]["name"] != "child" for c in found))

    simulate(job)


def test_an_owner_that_never_was_takes_its_dependent_along() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        alive = await client.create(CONFIG_MAPS, owned("alive"))
        ghost = {"metadata": {"name": "alive", "uid": "00000000-0000-4000-8000-000000000000"}}
        await client.create(CONFIG_MAPS, owned("lost", ghost))
        await client.create(CONFIG_MAPS, owned("kept", alive))
        await until(client, CONFIG_MAPS, lambda found: all(c["metadata"]["name"] != "lost" for c in found))
        await cluster.world.sleep(30)
        assert await client.get(CONFIG_MAPS, "kept", "default")

    simulate(job)


def test_a_namespace_waits_for_finalizers_and_says_so() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}})
        await until(
            client, SERVICE_ACCOUNTS, lambda found: any(a["metadata"]["namespace"] == "ns" for a in found)
        )
        app = deployment("app", 2)
        app["metadata"]["namespace"] = "ns"
        await client.create(DEPLOYMENTS, app)
        held = owned("held")
        held["metadata"].update(namespace="ns", finalizers=["example.com/hold"])
        await client.create(CONFIG_MAPS, held)
        await until(client, PODS, lambda pods: len(ready(pods)) == 2)
        await client.delete(NAMESPACES, "ns")
        waiting = await settled(
            client,
            NAMESPACES,
            "ns",
            lambda n: reasons(n).get("NamespaceFinalizersRemaining") == ("True", "SomeFinalizersRemain"),
        )
        assert waiting["status"]["phase"] == "Terminating"
        await until(client, PODS, lambda pods: not pods)
        await client.patch(CONFIG_MAPS, "held", {"metadata": {"finalizers": None}}, "ns")
        await until(client, NAMESPACES, lambda found: all(n["metadata"]["name"] != "ns" for n in found))
        for resource in (PODS, REPLICA_SETS, DEPLOYMENTS, CONFIG_MAPS, SERVICE_ACCOUNTS, EVENTS):
            assert not await listed(client, resource, "ns")

    simulate(job)


def test_what_every_namespace_has_comes_back() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        await until(client, SERVICE_ACCOUNTS, lambda found: len(found) == 4)
        account = await client.get(SERVICE_ACCOUNTS, "default", "kube-system")
        await client.delete(SERVICE_ACCOUNTS, "default", "kube-system")
        await settled(
            client,
            SERVICE_ACCOUNTS,
            "default",
            lambda a: (
                a["metadata"]["namespace"] == "kube-system"
                and a["metadata"]["uid"] != account["metadata"]["uid"]
            ),
        )

    simulate(job)


# -- endpoints


def test_endpoints_follow_readiness_and_vanish_with_their_service() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        await client.create(DEPLOYMENTS, deployment("app", 3))
        await client.create(SERVICES, service("app"))
        await until(client, PODS, lambda pods: len(ready(pods)) == 3)

        def addresses(found: list[Object]) -> int:
            subsets = [s for e in found if e["metadata"]["name"] == "app" for s in e.get("subsets", ())]
            return sum(len(s.get("addresses", ())) for s in subsets)

        def serving(found: list[Object]) -> int:
            ours = [s for s in found if s["metadata"]["labels"].get("kubernetes.io/service-name") == "app"]
            return sum(e["conditions"]["ready"] for s in ours for e in s["endpoints"])

        await until(client, ENDPOINTS, lambda found: addresses(found) == 3)
        await until(client, ENDPOINT_SLICES, lambda found: serving(found) == 3)
        await client.patch(DEPLOYMENTS, "app", {"spec": {"replicas": 1}}, "default")
        await until(client, ENDPOINTS, lambda found: addresses(found) == 1)
        await until(client, ENDPOINT_SLICES, lambda found: serving(found) == 1)
        await client.delete(SERVICES, "app", "default")
        await until(client, ENDPOINTS, lambda found: all(e["metadata"]["name"] != "app" for e in found))
        await until(client, ENDPOINT_SLICES, lambda found: serving(found) == 0)

    simulate(job)


def test_endpoints_written_by_hand_reach_those_who_read_slices() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        outside = service("outside")
        del outside["spec"]["selector"]
        await client.create(SERVICES, outside)
        written = {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"name": "outside", "namespace": "default"},
            "subsets": [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 8080}]}],
        }
        await client.create(ENDPOINTS, written)

        def mirrored(found: list[Object]) -> bool:
            names = [s["metadata"]["labels"]["kubernetes.io/service-name"] for s in found]
            assert names.count("kubernetes") == 1, "the API server's own slice is not doubled"
            return names.count("outside") == 1

        await until(client, ENDPOINT_SLICES, mirrored)
        await client.delete(ENDPOINTS, "outside", "default")
        await until(client, ENDPOINT_SLICES, lambda found: not mirrored(found))

    simulate(job)


# -- Jobs, StatefulSets, DaemonSets


def job_object(name: str, image: str, **spec: Any) -> Object:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "template": {
                "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]}
            },
            **spec,
        },
    }


@pytest.mark.parametrize("mode", ["NonIndexed", "Indexed"])
@pytest.mark.parametrize("crash", [False, True])
def test_a_job_counts_its_completions_exactly(mode: str, crash: bool) -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        image = "understudy.dev/fake/completes-after-2s:1"
        wanted = job_object("work", image, completions=5, parallelism=2, completionMode=mode)
        await client.create(JOBS, wanted)
        for _ in range(6 if crash else 0):
            await cluster.world.sleep(1.1)
            cluster.system.crash(cluster.system.ref(f"{MANAGER}/job-controller"), RuntimeError("planted"))
        done = await settled(client, JOBS, "work", lambda j: "Complete" in reasons(j))
        assert done["status"]["succeeded"] == 5
        assert done["status"].get("failed", 0) == 0
        pods = await listed(client, PODS)
        assert len(pods) == 5
        await cluster.world.sleep(2)
        assert all("finalizers" not in p["metadata"] for p in await listed(client, PODS))
        if mode == "Indexed":
            assert done["status"]["completedIndexes"] == "0-4"

    simulate(job)


def test_a_job_gives_up_and_a_finished_one_is_cleaned_up() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        failing = job_object("fails", "understudy.dev/fake/exit-3:1", backoffLimit=2)
        await client.create(JOBS, failing)
        late = job_object("late", "nginx", activeDeadlineSeconds=5, ttlSecondsAfterFinished=10)
        await client.create(JOBS, late)
        given_up = await settled(client, JOBS, "late", lambda j: "Failed" in reasons(j))
        assert reasons(given_up)["Failed"] == ("True", "DeadlineExceeded")
        failed = await settled(client, JOBS, "fails", lambda j: "Failed" in reasons(j))
        assert reasons(failed)["Failed"] == ("True", "BackoffLimitExceeded")
        assert failed["status"]["failed"] == 3
        await until(client, JOBS, lambda jobs: [j["metadata"]["name"] for j in jobs] == ["fails"])

    simulate(job)


def stateful_set(replicas: int) -> Object:
    made = deployment("db", replicas)
    made["kind"] = "StatefulSet"
    made["spec"]["serviceName"] = "db"
    return made


@pytest.mark.parametrize("seed", [None, 7])
def test_a_stateful_set_comes_up_and_updates_in_order_and_one_of_each(seed: int | None) -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        await client.create(STATEFUL_SETS, stateful_set(3))
        started: list[str] = []

        def in_order(pods: list[Object]) -> bool:
            names = [p["metadata"]["name"] for p in pods]
            assert names == [f"db-{i}" for i in range(len(names))]
            assert len(ready(pods)) >= len(pods) - 1
            started.extend(name for name in names if name not in started)
            return len(ready(pods)) == 3

        await until(client, PODS, in_order)
        assert started == ["db-0", "db-1", "db-2"]
        await client.patch(STATEFUL_SETS, "db", image_patch("nginx:1.27"), "default", type="strategic")

        def from_the_top(pods: list[Object]) -> bool:
            updated = [p for p in pods if p["spec"]["containers"][0]["image"] == "nginx:1.27"]
            names = [p["metadata"]["name"] for p in updated]
            assert names == [f"db-{i}" for i in range(3 - len(names), 3)]
            assert len(ready(pods)) >= 2
            return len(ready(updated)) == 3

        await until(client, PODS, from_the_top)
        done = await settled(
            client,
            STATEFUL_SETS,
            "db",
            lambda s: s["status"]["currentRevision"] == s["status"]["updateRevision"],
        )
        assert done["status"]["updatedReplicas"] == 3
        assert len(await listed(client, CONTROLLER_REVISIONS)) == 2
        await client.patch(STATEFUL_SETS, "db", {"spec": {"replicas": 1}}, "default")
        await until(client, PODS, lambda pods: [p["metadata"]["name"] for p in pods] == ["db-0"])

    simulate(job, schedule=None if seed is None else Shuffled(seed))


def test_a_daemon_runs_on_every_node_that_fits() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        agent = deployment("agent")
        agent["kind"] = "DaemonSet"
        del agent["spec"]["replicas"]
        await client.create(DAEMON_SETS, agent)

        def nodes_of(pods: list[Object]) -> list[str]:
            return sorted(p["spec"].get("nodeName", "") for p in ready(pods))

        await until(client, PODS, lambda pods: nodes_of(pods) == ["node-1", "node-2", "node-3"])
        taint = {"key": "only", "value": "others", "effect": "NoExecute"}
        await client.patch(NODES, "node-2", {"spec": {"taints": [taint]}})
        await until(client, PODS, lambda pods: nodes_of(pods) == ["node-1", "node-3"] and len(pods) == 2)
        await client.patch(NODES, "node-2", {"spec": {"taints": None}})
        await until(client, PODS, lambda pods: nodes_of(pods) == ["node-1", "node-2", "node-3"])
        await client.patch(DAEMON_SETS, "agent", image_patch("nginx:1.27"), "default", type="strategic")

        def one_at_a_time(pods: list[Object]) -> bool:
            assert len(ready(pods)) >= 2
            return (
                all(p["spec"]["containers"][0]["image"] == "nginx:1.27" for p in pods)
                and len(ready(pods)) == 3
            )

        await until(client, PODS, one_at_a_time)
        done = await settled(
            client,
            DAEMON_SETS,
            "agent",
            lambda d: d["status"].get("updatedNumberScheduled") == d["status"].get("numberAvailable") == 3,
        )
        assert done["status"]["desiredNumberScheduled"] == 3

    simulate(job)


# -- nodes and pods that nobody looks after


def test_pods_of_a_node_that_is_deleted_are_collected() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        await client.create(DEPLOYMENTS, deployment("app", 3))
        pods = await until(client, PODS, lambda pods: len(ready(pods)) == 3)
        victim = pods[0]["spec"]["nodeName"]
        await cluster.system.stop(cluster.node(victim))
        await client.delete(NODES, victim)
        found = await until(
            client,
            PODS,
            lambda pods: len(ready(pods)) == 3 and all(p["spec"]["nodeName"] != victim for p in pods),
        )
        assert len(found) == 3

    simulate(job)


def test_pods_of_a_silent_node_leave_their_service_though_the_controller_crashes() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        await client.create(DEPLOYMENTS, deployment("app", 3))
        await client.create(SERVICES, service("app"))
        pods = await until(client, PODS, lambda pods: len(ready(pods)) == 3)
        victim = pods[0]["spec"]["nodeName"]
        await cluster.system.stop(cluster.node(victim))
        await settled(client, NODES, victim, lambda n: reasons(n)["Ready"][0] == "Unknown")
        lifecycle = cluster.system.ref(f"{MANAGER}/node-lifecycle-controller")
        cluster.system.crash(lifecycle, RuntimeError("planted"))
        lost = {p["metadata"]["name"] for p in pods if p["spec"]["nodeName"] == victim}

        def left(found: list[Object]) -> bool:
            ours = [s for s in found if s["metadata"]["labels"]["kubernetes.io/service-name"] == "app"]
            serving = {
                e["targetRef"]["name"] for s in ours for e in s["endpoints"] if e["conditions"]["ready"]
            }
            return not serving & lost

        await until(client, ENDPOINT_SLICES, left)

    simulate(job)


# -- crashes and quiet


@pytest.mark.parametrize(
    "controller", ["deployment-controller", "replicaset-controller", "endpointslice-controller", ""]
)
def test_a_controller_that_keeps_crashing_makes_nothing_twice(controller: str) -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        path = f"{MANAGER}/{controller}" if controller else MANAGER
        await client.create(DEPLOYMENTS, deployment("app", 6))
        await client.create(SERVICES, service("app"))
        most = 0

        def count(pods: list[Object]) -> bool:
            nonlocal most
            most = max(most, len(pods))
            return len(ready(pods)) == 6

        for pause in (0.001, 0.004, 0.01, 0.05):
            await cluster.world.sleep(pause)
            cluster.system.crash(cluster.system.ref(path), RuntimeError("planted"))
        await until(client, PODS, count)
        await cluster.world.sleep(30)
        assert most == 6
        assert len(await listed(client, PODS)) == 6
        assert len(await listed(client, REPLICA_SETS)) == 1
        ours = [s for s in await listed(client, ENDPOINT_SLICES) if s["metadata"]["name"].startswith("app-")]
        assert [len(s["endpoints"]) for s in ours] == [6]

    simulate(job)


def test_controllers_write_nothing_once_all_is_as_it_should_be() -> None:
    async def job(cluster: Cluster) -> None:
        client = cluster.client()
        await client.create(DEPLOYMENTS, deployment("app", 3))
        await client.create(SERVICES, service("app"))
        await client.create(STATEFUL_SETS, stateful_set(2))
        await client.create(JOBS, job_object("work", "understudy.dev/fake/completes:1", completions=2))
        await settled(client, JOBS, "work", lambda j: "Complete" in reasons(j))
        await until(client, PODS, lambda pods: len(ready(pods)) == 5)
        await cluster.world.sleep(30)
        written: list[str] = []
        others: list[str] = []

        def note(delivery: Any) -> None:
            request = delivery.message
            if getattr(request, "method", "GET") in ("GET", "HEAD"):
                return
            agent = dict(request.headers).get("user-agent", "")
            ours = agent.startswith("kube-controller-manager")
            (written if ours else others).append(f"{request.method} {request.path}")

        cluster.system.observers.append(note)
        await cluster.world.sleep(150)
        assert written == []
        assert others, "the kubelets' heartbeats show that writes are seen at all"

    simulate(job)
