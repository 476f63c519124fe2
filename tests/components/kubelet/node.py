"""One node with its kubelet on a fake runtime, behind a real API server on a store in memory."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from understudy.actors import ActorSystem, RealWorld, Ref, SimWorld, World
from understudy.components.apiserver.server import ApiServer, ApiServerOptions
from understudy.components.boundary import cri
from understudy.components.boundary.fake_cni import FakeCni
from understudy.components.boundary.fake_cri import FakeCri
from understudy.components.boundary.fake_images import Catalogue
from understudy.components.boundary.fake_podnet import FakePodNetwork
from understudy.components.boundary.kubelet_api import GetContainerLogs
from understudy.components.client import ActorTransport, Client
from understudy.components.kubelet.kubelet import Kubelet
from understudy.components.kubelet.node_status import Machine
from understudy.components.kubelet.options import KubeletOptions
from understudy.components.machinery.api import PeerIdentity
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import EVENTS, NODES, PODS, SERVICE_ACCOUNTS
from understudy.raftstore.memory import memory_store

Object = dict[str, Any]
ADMIN = PeerIdentity("admin", ("system:masters",))


class Stage:
    """What a test sees and does."""

    def __init__(self, world: World, system: ActorSystem, catalogue: Catalogue, options: KubeletOptions):
        self.world = world
        self.system = system
        self.options = options
        self.store = system.spawn(memory_store(), "store", host="control-plane")
        self.network: Ref[Any] = system.spawn(FakePodNetwork, "network", host="network")
        self.server = system.spawn(
            lambda: ApiServer(self.store, ApiServerOptions(), lambda _: self.kubelet, self.network),
            "api",
            host="control-plane",
        )
        self.plugin: Ref[Any] = system.spawn(FakeCni, "cni", host="node-1")
        self.catalogue = catalogue
        self.runtime: Ref[Any] = self.spawn_runtime()
        transport = ActorTransport(system, self.server, ADMIN)
        self.client = Client(transport, "test", world)
        self.kubelet: Ref[Any] = self.spawn_kubelet()

    def spawn_runtime(self) -> Ref[Any]:
        return self.system.spawn(
            lambda: FakeCri("node-1", "172.18.0.2", self.plugin, self.network, self.catalogue),
            "cri",
            host="node-1",
        )

    def spawn_kubelet(self) -> Ref[Any]:
        transport = ActorTransport(self.system, self.server, ADMIN)
        client = Client(transport, "kubelet", self.world)
        machine = Machine("node-1", "172.18.0.2")
        return self.system.spawn(
            lambda: Kubelet(client, machine, self.options, self.runtime, self.network),
            "kubelet",
            host="node-1",
        )

    async def until(self, say: Callable[[], Awaitable[Any]], seconds: float = 60) -> Any:
        """What `say` answers once it is true."""
        ends = self.world.monotonic() + seconds
        while True:
            answer = await say()
            if answer:
                return answer
            assert self.world.monotonic() < ends, f"not within {seconds} s of virtual time"
            await self.world.sleep(0.05)

    async def create(self, name: str, *containers: Object, **spec: Any) -> Object:
        """A pod bound to the node."""
        main = {"name": "main", "image": "nginx", "imagePullPolicy": "IfNotPresent"}
        return await self.client.create(
            PODS,
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {
                    "nodeName": "node-1",
                    "automountServiceAccountToken": False,
                    "containers": [main | container for container in containers] or [main],
                    **spec,
                },
            },
        )

    async def pod(self, name: str) -> Object:
        return await self.client.get(PODS, name, "default")

    async def exists(self, name: str) -> bool:
        try:
            await self.pod(name)
        except ApiError as error:
            assert error.code == 404, error
            return False
        return True

    async def phase(self, name: str, wanted: str, seconds: float = 60) -> Object:
        """The pod, once it is in that phase."""

        async def there() -> Object | None:
            pod = await self.pod(name)
            return pod if pod["status"].get("phase") == wanted else None

        found: Object = await self.until(there, seconds)
        return found

    async def waiting(self, name: str, reason: str, seconds: float = 60) -> Object:
        """The status of the pod's first container, once it waits for that reason."""

        async def there() -> Object | None:
            statuses = (await self.pod(name))["status"].get("containerStatuses") or [{"state": {}}]
            state = statuses[0]["state"]
            return statuses[0] if state.get("waiting", {}).get("reason") == reason else None

        found: Object = await self.until(there, seconds)
        return found

    async def node(self) -> Object:
        return await self.client.get(NODES, "node-1")

    async def reasons(self, name: str) -> list[str]:
        """The reasons of the events about an object, in their order."""
        await self.world.sleep(0.5)
        events = (await self.client.list(EVENTS, "default")).items
        about = [e for e in events if e["involvedObject"]["name"] == name]
        return [e["reason"] for e in sorted(about, key=lambda e: str(e["metadata"]["name"]))]

    async def logs(self, pod: str, **options: Any) -> bytes:
        writer, reader = self.system.channel("test log")
        await self.kubelet.ask(GetContainerLogs("default", pod, "", writer, **options))
        return b"".join([chunk async for chunk in reader])

    async def sandboxes(self) -> list[str]:
        listed = await self.runtime.ask(cri.ListPodSandbox())
        return [sandbox.metadata.name for sandbox in listed.items]


@asynccontextmanager
async def stage(
    world: World, catalogue: Catalogue | None = None, options: KubeletOptions | None = None
) -> AsyncIterator[Stage]:
    async with ActorSystem.open(world) as system:
        ready = options or KubeletOptions(pod_cidr="10.244.0.0/24")
        found = Stage(world, system, catalogue or Catalogue(), ready)
        await found.client.request("GET", "/readyz")
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        await found.client.create(SERVICE_ACCOUNTS, account, "default")
        yield found


def perform(main: Callable[[Stage], Awaitable[None]], **arguments: Any) -> None:
    """Run a test on a stage in the real world."""

    async def run() -> None:
        async with RealWorld.open(seed=1) as world:
            with world.deadline(20):
                async with stage(world, **arguments) as found:
                    await main(found)

    trio.run(run)


def simulate(main: Callable[[Stage], Awaitable[None]], **arguments: Any) -> None:
    """Run a test on a stage in a simulated world."""

    async def run(world: World) -> None:
        async with stage(world, **arguments) as found:
            await main(found)

    SimWorld(seed=1).run(run)
