"""A cluster in virtual time: an hour passes in seconds, and a run repeats exactly.

python examples/simulated.py
"""

from understudy.actors import Shuffled, SimWorld, World
from understudy.components.cluster import Cluster
from understudy.components.machinery.resources import DEPLOYMENTS

LABELS = {"app": "web"}
WEB = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "replicas": 3,
        "selector": {"matchLabels": LABELS},
        "template": {
            "metadata": {"labels": LABELS},
            "spec": {"containers": [{"name": "web", "image": "nginx"}]},
        },
    },
}


async def main(world: World) -> int:
    """Three replicas, and whether they are still there a minute later."""
    async with Cluster(nodes=3, world=world) as cluster:
        client = cluster.client()
        await client.create(DEPLOYMENTS, WEB)
        await world.sleep(60)
        status = (await client.get(DEPLOYMENTS, "web", "default"))["status"]
        return int(status["readyReplicas"])


if __name__ == "__main__":
    for schedule in (1, 1, 2):
        world = SimWorld(seed=7, schedule=Shuffled(schedule))
        replicas = world.run(main)
        print(
            f"schedule {schedule}: {replicas} replicas ready after {world.monotonic():.0f} s of virtual time,"
            f" {world.steps} turns, trace {world.trace_hash()}"
        )
