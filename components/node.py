"""One node: its container runtime, pod network plugin, service dataplane, kubelet and kube-proxy.

The assembly only: they meet through the API server and the boundary protocols, and live and die with the
node's actor. Stopping it is pulling the plug of the machine.
"""

from typing import Any

from attrs import field, frozen

from understudy.actors import Actor, Ref
from understudy.components.boundary import podnet
from understudy.components.boundary.fake_cni import FakeCni
from understudy.components.boundary.fake_cri import FakeCri
from understudy.components.boundary.fake_images import Catalogue
from understudy.components.client import Client
from understudy.components.kubelet.kubelet import Kubelet
from understudy.components.kubelet.node_status import Machine
from understudy.components.kubelet.options import KubeletOptions
from understudy.components.proxy.kube_proxy import KubeProxy, KubeProxyOptions
from understudy.components.proxy.user_space import UserSpaceDataplane


@frozen
class NodeOptions:
    """The options of what runs on every node."""

    kubelet: KubeletOptions = field(factory=KubeletOptions)
    kube_proxy: KubeProxyOptions = field(factory=KubeProxyOptions)
    role: str = "worker"
    """Shown under ROLES: the label node-role.kubernetes.io/ROLE."""


class NodeRunning:
    """Protocol of a node; it takes no messages of its own."""


class Node(Actor[NodeRunning]):
    """A machine of the cluster."""

    def __init__(
        self,
        name: str,
        ip: str,
        kubelet_client: Client,
        proxy_client: Client,
        network: Ref[podnet.PodNetwork],
        options: NodeOptions,
        images: Catalogue | None,
    ) -> None:
        self.name = name
        self.ip = ip
        self.kubelet_client = kubelet_client
        self.proxy_client = proxy_client
        self.network = network
        self.options = options
        self.images = images

    async def on_start(self) -> None:
        context, options = self.context, self.options
        plugin = context.spawn(FakeCni, "cni")
        runtime: Ref[Any] = context.spawn(
            lambda: FakeCri(self.name, self.ip, plugin, self.network, self.images), "cri"
        )
        dataplane = context.spawn(UserSpaceDataplane, "dataplane")
        await self.network.ask(podnet.JoinNode(self.name, (self.ip,), dataplane))
        context.spawn(
            lambda: Kubelet(
                self.kubelet_client, Machine(self.name, self.ip), options.kubelet, runtime, self.network
            ),
            "kubelet",
        )
        context.spawn(
            lambda: KubeProxy(self.proxy_client, self.name, dataplane, options.kube_proxy), "kube-proxy"
        )
