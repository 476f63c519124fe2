"""What the tests of a simulated cluster share: a workload, and what is left of a state without chance."""

import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from understudy.actors import SimWorld
from understudy.actors.schedule import Schedule
from understudy.components.client import Client
from understudy.components.cluster import Cluster, ClusterOptions
from understudy.components.machinery.api import Object
from understudy.components.machinery.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from understudy.raftstore.storage import Status

T = TypeVar("T")

LOOKED_AT = (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    SERVICES,
)


def simulate(
    main: Callable[[Cluster], Awaitable[T]],
    *,
    nodes: int = 3,
    seed: int = 0,
    schedule: Schedule | None = None,
    options: ClusterOptions | None = None,
) -> tuple[T, SimWorld]:
    """Run `main` on a fresh simulated cluster; its result, and the world that it ran in."""
    world = SimWorld(seed, schedule)

    async def run(world: SimWorld) -> T:
        async with Cluster(nodes, None, world=world, options=options) as cluster:
            return await main(cluster)

    return world.run(run), world


def deployment(name: str, replicas: int = 2, image: str = "nginx") -> Object:
    """A web Deployment."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": image}]},
            },
        },
    }


def service(name: str) -> Object:
    """A Service for the Deployment of that name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
    }


async def until(client: Client, resource: Resource, done: Callable[[list[Object]], bool]) -> list[Object]:
    """Watch a resource until its objects are as wanted; the world's deadline is 120 s."""
    objects: dict[str, Object] = {}
    with client.world.deadline(120):
        async with client.watch(resource, send_initial_events=True) as events:
            async for event in events:
                metadata = event.object["metadata"]
                if event.type in ("ADDED", "MODIFIED"):
                    objects[f"{metadata.get('namespace')}/{metadata['name']}"] = event.object
                elif event.type == "DELETED":
                    objects.pop(f"{metadata.get('namespace')}/{metadata['name']}", None)
                if event.type == "BOOKMARK" or event.type != "BOOKMARK":
                    found = [objects[key] for key in sorted(objects)]
                    if done(found):
                        return found
    raise AssertionError("the watch ended")


def ready(pods: list[Object]) -> list[Object]:
    """Those pods that are ready and not on their way out."""
    return [
        pod
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
        and any(
            c["type"] == "Ready" and c["status"] == "True"
            for c in pod.get("status", {}).get("conditions", ())
        )
    ]


async def main_job(cluster: Cluster) -> list[Object]:
    """A Deployment to running pods behind a Service; the state once everything is quiet."""
    client = cluster.client()
    await client.create(DEPLOYMENTS, deployment("my-app"))
    await client.create(SERVICES, service("my-app"))
    pods = await until(client, PODS, lambda pods: len(ready(pods)) == 2)
    await until(
        client,
        ENDPOINT_SLICES,
        lambda slices: (
            sum(len(s.get("endpoints") or ()) for s in slices if "my-app" in s["metadata"]["name"]) == 2
        ),
    )
    await cluster.world.sleep(5)
    inside = await cluster.pod_client(pods[0]["metadata"]["name"])
    answers = {(await inside.get("http://my-app:80/")).body.decode().strip() for _ in range(8)}
    assert answers == {pod["metadata"]["name"] for pod in pods}
    return await whole_state(client)


async def whole_state(client: Client) -> list[Object]:
    """Every object that the tests look at."""
    return [obj for resource in LOOKED_AT for obj in (await client.list(resource)).items]


_CHANCE = [
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "TIME"),
    (re.compile(r"\b\d+\.\d+\.\d+\.\d+(/\d+)?\b"), "IP"),
    (re.compile(r"\bnode-\d+\b"), "NODE"),
    (re.compile(r"(?<=my-app-)([a-z0-9]{6,10}-)?[a-z0-9]{5}\b"), "SUFFIX"),
    (re.compile(r"(?<=kube-api-access-)[a-z0-9]{5}"), "SUFFIX"),
    (re.compile(r"[a-z-]+://[0-9a-f]{64}"), "CONTAINER"),
]
_NUMBERS = {"resourceVersion", "observedGeneration", "generation"}


def without_chance(value: Any, key: str = "") -> Any:
    """A state without UIDs, times, name suffixes, revisions, addresses and node assignment."""
    if isinstance(value, dict):
        return {
            without_chance(k): without_chance(v, k)
            for k, v in sorted(value.items())
            if k not in ("managedFields", *_NUMBERS) and not k.endswith("-trigger-time")
        }
    if isinstance(value, list):
        return sorted((without_chance(item) for item in value), key=repr)
    if isinstance(value, str):
        for pattern, word in _CHANCE:
            value = pattern.sub(word, value)
    return value


async def leader_of(cluster: Cluster) -> int:
    """The number of the store's member that leads."""
    status = await cluster.system.ref("/etcd").ask(Status())
    assert status.leader
    return int(status.leader)
