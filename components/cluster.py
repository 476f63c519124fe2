"""The whole troupe: every component of a cluster, assembled and started in order.

Start order: store, network, API server, its HTTPS front, DNS, controllers, scheduler, nodes. Each component
is an actor (or a tree of them) on a host of its own; in simulation hosts are apart and everything between
them is encoded. Stopping is the reverse, each within its deadline.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from understudy.actors import Actor, ActorSystem, RealWorld, Ref, World
from understudy.actors.startup import StartError
from understudy.actors.system import Delivery
from understudy.components.apiserver.server import ApiServer, ApiServerOptions
from understudy.components.boundary import podnet
from understudy.components.boundary.fake_images import Catalogue
from understudy.components.boundary.fake_podnet import FakePodNetwork
from understudy.components.boundary.kubelet_api import KubeletServing
from understudy.components.client import ActorTransport, Client
from understudy.components.controllers.manager import ControllerManager
from understudy.components.controllers.options import ControllerManagerOptions
from understudy.components.dns.core_dns import CoreDns, CoreDnsOptions
from understudy.components.machinery.api import ApiServing, PeerIdentity
from understudy.components.machinery.resources import NODES, PODS
from understudy.components.node import Node, NodeOptions
from understudy.components.pod_client import PodClient
from understudy.components.scheduler.scheduler import Scheduler, SchedulerOptions
from understudy.mailbox import Refusal
from understudy.raftstore.group import raft_group
from understudy.raftstore.options import GroupOptions
from understudy.raftstore.storage import Status, Storage
from understudy.raftstore.wal.logs import DiskLogs

if TYPE_CHECKING:
    from understudy.components.front import Front

ADMIN = PeerIdentity("kubernetes-admin", ("system:masters",))
CLUSTER_TOKEN = "kubernetes"
"""Names the store's group in its folders."""
READY_TIMEOUT_SECONDS = 30.0
"""How long a start may take before it counts as failed."""

Progress = Callable[[str, str], None]


@frozen
class ClusterOptions:
    """The options of every component, by their own names."""

    etcd: GroupOptions = field(factory=GroupOptions)
    disk_logs: DiskLogs | None = None
    """Where the members of that group keep their logs; None: in memory, or in the cluster's `data_dir`."""
    store: Callable[[], Actor[Storage]] | None = None
    """A factory for another store than a Raft group of `etcd`: a real etcd, for instance."""
    store_name: str = ""
    """What that store is called in messages to the user."""
    store_advice: str = "is it running there?"
    """What the user may look at when it does not answer."""
    api_server: ApiServerOptions = field(factory=ApiServerOptions)
    controller_manager: ControllerManagerOptions = field(factory=ControllerManagerOptions)
    scheduler: SchedulerOptions = field(factory=SchedulerOptions)
    dns: CoreDnsOptions = field(factory=CoreDnsOptions)
    node: NodeOptions = field(factory=NodeOptions)
    images: Catalogue | None = None
    """The scripted images of the fake runtime; None: the built-in catalogue."""


class Cluster:
    """A cluster in this process: `async with Cluster(nodes=3) as cluster`.

    In the real world it serves HTTPS on `bind` (port 0 picks a free one; None serves messages only) and DNS
    on a free port of the same address. In a `SimWorld` it serves messages only.

    With a `data_dir`, which is made if need be, everything that was acknowledged is there again for the next
    cluster with that folder, however this one ends; certificates and tokens stay good. Nodes' containers are
    not kept: kubelets start the pods' anew.

    Raises (on entering):
        StartError: what the user can put right: an address in use, for instance.
    """

    def __init__(
        self,
        nodes: int = 3,
        bind: str | None = "127.0.0.1:0",
        seed: int | None = None,
        *,
        dns_port: int = 0,
        options: ClusterOptions | None = None,
        on_progress: Progress | None = None,
        observers: Sequence[Callable[[Delivery], None]] = (),
        world: World | None = None,
        data_dir: Path | None = None,
    ) -> None:
        if data_dir is not None and world is not None:
            raise ValueError("data_dir is for a world of the cluster's own: open yours with a disk instead")
        self.options = options or ClusterOptions()
        if data_dir is not None and self.options.disk_logs is None:
            self.options = evolve(self.options, disk_logs=DiskLogs(folder="", token=CLUSTER_TOKEN))
        self.node_names = [f"node-{number}" for number in range(1, nodes + 1)]
        self.url = ""
        """Where the API is served over HTTPS, or "" when it is not."""
        self.kubeconfig = ""
        """A kubeconfig for the administrator, as YAML text, or ""."""
        self.dns_address: tuple[str, int] | None = None
        """Host and port of the cluster's DNS server, UDP and TCP, or None."""
        self.ready_seconds = 0.0
        """How long the start took."""
        self._bind = bind
        self._dns_port = dns_port
        self._seed = seed
        self._world = world
        self._data_dir = data_dir
        self._observers = observers
        self._progress = on_progress or (lambda component, detail: None)
        self._stack = AsyncExitStack()
        self._system: ActorSystem | None = None
        self._server: Ref[ApiServing] | None = None

    # -- what a user asks of it

    @property
    def system(self) -> ActorSystem:
        """The actor system, to look at and to break."""
        assert self._system is not None, "the cluster is not running: use `async with`"
        return self._system

    @property
    def world(self) -> World:
        """Time, randomness and ids of this cluster."""
        return self.system.world

    def client(
        self, user: str = ADMIN.user, groups: tuple[str, ...] = ADMIN.groups, user_agent: str = "understudy"
    ) -> Client:
        """A client in this process, with any identity; the administrator's by default."""
        assert self._server is not None, "the cluster is not running: use `async with`"
        transport = ActorTransport(self.system, self._server, PeerIdentity(user, groups))
        return Client(transport, user_agent, self.world)

    async def pod_client(self, name: str, namespace: str = "default") -> PodClient:
        """A client inside a running pod: DNS, ClusterIPs and the node's rules as the pod sees them.

        Raises:
            ApiError: there is no such pod.
            ValueError: it has no address yet.
        """
        pod = await self.client().get(PODS, name, namespace)
        ip = (pod.get("status") or {}).get("podIP")
        if not ip:
            raise ValueError(f"pod {namespace}/{name} has no address yet: wait until it runs")
        return PodClient(namespace, ip, self.system.ref("/coredns"), self.system.ref("/network"))

    def store_member(self, number: int) -> Ref[Any]:
        """The store's member of that number, from 1: stop it to see the others go on."""
        return self.system.ref(f"/etcd/member-{number}")

    def node(self, name: str) -> Ref[Any]:
        """The agent of a node: stop it and the node dies."""
        return self.system.ref(f"/{name}")

    # -- starting and stopping

    async def __aenter__(self) -> Cluster:
        async with AsyncExitStack() as stack:
            if self._world is None:
                try:
                    opening = RealWorld.open(self._seed, self._data_dir)
                    self._world = await stack.enter_async_context(opening)
                except OSError as error:
                    raise StartError(
                        f"cannot use the folder {self._data_dir}: {error.strerror}",
                        "name another one, or one in which this user may write",
                    ) from error
            world = self._world
            began = world.monotonic()
            front = await self._open_front(stack, world)
            self._system = await stack.enter_async_context(ActorSystem.open(world))
            self._system.observers.extend(self._observers)
            with world.deadline(READY_TIMEOUT_SECONDS):
                await self._start(self._system, front)
            self.ready_seconds = world.monotonic() - began
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, trace)

    async def _open_front(self, stack: AsyncExitStack, world: World) -> Front | None:
        """Bind the sockets, if there are to be any."""
        if self._bind is None or world.simulated:
            return None
        from understudy.components.front import Front

        front = await stack.enter_async_context(Front.open(world, self._bind, self._dns_port))
        self.url, self.kubeconfig, self.dns_address = front.url, front.kubeconfig, front.dns_address
        return front

    async def _start(self, system: ActorSystem, front: Front | None) -> None:
        say = self._progress
        options = self.options

        store = await self._start_store(system)
        where = f" in {self._data_dir}" if self._data_dir is not None else ""
        say("etcd", options.store_name or f"{options.etcd.members} members{where}")
        network = system.spawn(FakePodNetwork, "network", host="network")

        api_options = options.api_server
        if front is not None:
            api_options = evolve(api_options, advertise_host=front.host, advertise_port=front.port)
        server = system.spawn(
            _api_server(system, store, api_options, network), "kube-apiserver", host="control-plane"
        )
        self._server = server
        admin = self.client(user_agent="understudy-start")
        await _answering(admin)
        say("kube-apiserver", self.url or "messages only")
        if front is not None:
            system.spawn(front.https(server), "https")

        dns = system.spawn(
            lambda: CoreDns(self.client("system:coredns", (), "coredns"), options.dns), "coredns", host="dns"
        )
        for address in options.node.kubelet.cluster_dns:
            await network.ask(podnet.JoinNameServer(address, dns))
        if front is not None:
            system.spawn(front.dns(dns), "dns")
            say("coredns", f"{front.dns_address[0]}:{front.dns_address[1]}")

        manager_options = options.controller_manager
        if front is not None:
            manager_options = evolve(manager_options, root_ca=front.certificate_authority)
        system.spawn(
            lambda: ControllerManager(
                self.client("system:kube-controller-manager", (), "kube-controller-manager"), manager_options
            ),
            "kube-controller-manager",
            host="controller-manager",
        )
        say("kube-controller-manager", "")
        system.spawn(
            lambda: Scheduler(self.client("system:kube-scheduler", (), "kube-scheduler"), options.scheduler),
            "kube-scheduler",
            host="scheduler",
        )
        say("kube-scheduler", "")
        for number, name in enumerate(self.node_names, 1):
            system.spawn(self._node_agent(name, number, network), name, host=name)
            say(name, "kubelet, kube-proxy, container runtime, pod network")
        await self._nodes_ready(admin)

    async def _start_store(self, system: ActorSystem) -> Ref[Storage]:
        options = self.options
        if options.store is None:
            hosts = [f"etcd-{member}" for member in range(1, options.etcd.members + 1)]
            group = raft_group(options.etcd, hosts, options.disk_logs)
            store: Ref[Storage] = system.spawn(group, "etcd", host="control-plane")
            if options.disk_logs is None:
                return store
            where = f" in {self._data_dir}" if self._data_dir is not None else ""
            what, hint = (
                f"the store{where} does not start",
                "`understudy store verify` looks through its folder",
            )
        else:
            store = system.spawn(options.store, "etcd", host="control-plane")
            what, hint = f"the store {options.store_name} does not answer", options.store_advice
        try:
            await store.ask(Status())
        except Refusal as refusal:
            raise StartError(f"{what}: {refusal}", hint) from refusal
        return store

    def _node_agent(self, name: str, number: int, network: Ref[Any]) -> Callable[[], Actor[Any]]:
        def factory() -> Actor[Any]:
            return Node(
                name,
                node_ip(number),
                self.client(f"system:node:{name}", ("system:nodes",), "kubelet"),
                self.client("system:kube-proxy", (), "kube-proxy"),
                network,
                self.options.node,
                self.options.images,
            )

        return factory

    async def _nodes_ready(self, admin: Client) -> None:
        """Give every node its role, which no kubelet may do for itself, and return once all are Ready."""
        waiting = set(self.node_names)
        unlabelled = set(waiting)
        role = {f"node-role.kubernetes.io/{self.options.node.role}": ""}
        if not waiting:
            return
        async with admin.watch(NODES, send_initial_events=True) as events:
            async for event in events:
                name = event.object["metadata"].get("name", "")
                if name in unlabelled:
                    unlabelled.discard(name)
                    await admin.patch(NODES, name, {"metadata": {"labels": role}})
                status = event.object.get("status") or {}
                for condition in status.get("conditions") or ():
                    if condition["type"] == "Ready" and condition["status"] == "True":
                        waiting.discard(name)
                if not waiting:
                    return


def node_ip(number: int) -> str:
    """The address of the node of that number, from 1, in 172.18.0.0/16."""
    host = number + 1
    return f"172.18.{host >> 8}.{host & 255}"


def _api_server(
    system: ActorSystem, store: Ref[Storage], options: ApiServerOptions, network: Ref[Any]
) -> Callable[[], Actor[ApiServing]]:
    def kubelet_of(node: str) -> Ref[KubeletServing]:
        return system.ref(f"/{node}/kubelet")

    return lambda: ApiServer(store, options, kubelet_of, network)


async def _answering(client: Client) -> None:
    """Return once the API server answers requests."""
    await client.request("GET", "/readyz")


@asynccontextmanager
async def simulated_cluster(world: World, nodes: int = 3, **arguments: Any) -> AsyncIterator[Cluster]:
    """A cluster in a simulated world, messages only."""
    async with Cluster(nodes, None, world=world, **arguments) as cluster:
        yield cluster
