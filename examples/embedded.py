"""A whole cluster inside a Trio program, reached by messages and over HTTPS alike.

python examples/embedded.py
"""

import trio

import understudy
from understudy.components.machinery.resources import NODES, PODS

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "hello", "namespace": "default"},
    "spec": {"containers": [{"name": "web", "image": "nginx"}]},
}


async def main() -> None:
    """Start, look around, run a pod, ask it something from inside the pod network."""
    async with understudy.Cluster(nodes=2) as cluster:
        client = cluster.client()
        nodes = await client.list(NODES)
        print("nodes:", ", ".join(node["metadata"]["name"] for node in nodes.items))
        print("the API is served at", cluster.url)
        async with client.watch(PODS, "default", send_initial_events=True) as events:
            await client.create(PODS, POD)
            async for event in events:
                if event.object.get("status", {}).get("phase") == "Running":
                    break
        pod = await client.get(PODS, "hello", "default")
        inside = await cluster.pod_client("hello")
        answer = await inside.get(f"http://{pod['status']['podIP']}/")
        print("the pod answers:", answer.body.decode().strip())


if __name__ == "__main__":
    trio.run(main)
