"""A container runtime that runs scripts instead of containers: the whole CRI of one node, in memory.

What an image does is data (`fake_images`). A container that only waits costs nothing while it does. The calls
about sandboxes and containers are in modules of their own; here are those about the runtime and its images,
and what comes over the network.
"""

from understudy.actors import handles

from . import cni, cri, podnet
from .cri import CriError, LogStream, PodSandboxState
from .fake_container import FakeContainer
from .fake_container_calls import ContainerCalls
from .fake_image_store import reference
from .fake_runtime import FakeSandbox
from .fake_sandbox_calls import SandboxCalls
from .fake_web import Exit, respond

RUNTIME_NAME = "understudy-fake"
RUNTIME_VERSION = "v1.0.0"


class FakeCri(SandboxCalls, ContainerCalls):
    """The runtime of one node. Speaks `cri.ContainerRuntime` and `podnet.Listener`."""

    async def on_start(self) -> None:
        """Nothing runs yet, whatever ran before: free its addresses."""
        await self.plugin.ask(cni.CollectGarbage())
        await self.network.ask(podnet.Listen(self.node_ip, self.node, self.context.self))

    # -- the runtime itself

    @handles(cri.Version)
    def version(self, message: cri.Version) -> cri.VersionReply:
        return cri.VersionReply("0.1.0", RUNTIME_NAME, RUNTIME_VERSION, cri.API_VERSION)

    @handles(cri.Status)
    def status(self, message: cri.Status) -> cri.StatusReply:
        network = cri.RuntimeCondition("NetworkReady", True)
        if not self.pod_cidr:
            network = cri.RuntimeCondition(
                "NetworkReady",
                False,
                "NetworkPluginNotReady",
                "Network plugin returns error: cni plugin not initialized",
            )
        return cri.StatusReply((cri.RuntimeCondition("RuntimeReady", True), network))

    @handles(cri.UpdateRuntimeConfig)
    def update_runtime_config(self, message: cri.UpdateRuntimeConfig) -> cri.Done:
        self.pod_cidr = message.pod_cidr
        return cri.Done()

    @handles(cri.GetContainerEvents)
    def get_container_events(self, message: cri.GetContainerEvents) -> cri.Done:
        self.context.adopt(message.to)
        self._subscribers.append(message.to)
        return cri.Done()

    # -- images

    @handles(cri.PullImage, concurrent=True)
    async def pull_image(self, message: cri.PullImage) -> cri.PullImageReply:
        name = message.image.image
        script = self.images.script(name)
        if script.pull_seconds:
            await self.world.sleep(script.pull_seconds, "fake pull")
        if script.pull_failure is not None:
            text = script.pull_failure.text.replace("{image}", str(reference(name)))
            raise CriError(script.pull_failure.code, text)
        return cri.PullImageReply(self.images.add(name).id)

    @handles(cri.GetImageStatus)
    def image_status(self, message: cri.GetImageStatus) -> cri.ImageStatusReply:
        return cri.ImageStatusReply(self.images.find(message.image.image))

    @handles(cri.ListImages)
    def list_images(self, message: cri.ListImages) -> cri.ListImagesReply:
        if message.image is not None:
            found = self.images.find(message.image.image)
            return cri.ListImagesReply(() if found is None else (found,))
        return cri.ListImagesReply(tuple(image for _, image in sorted(self.images.images.items())))

    @handles(cri.RemoveImage)
    def remove_image(self, message: cri.RemoveImage) -> cri.Done:
        self.images.remove(message.image.image)
        return cri.Done()

    # -- what comes over the network

    @handles(podnet.ServeHttp)
    def serve_http(self, message: podnet.ServeHttp) -> podnet.HttpAnswer:
        exchange = message.exchange
        container = self._listener(exchange.ip, exchange.port)
        healthy = container.healthy(self.world.monotonic())
        pod_name = container.sandbox_config.metadata.name
        answer = respond(exchange, pod_name, container.repository, healthy)
        if isinstance(answer, Exit):
            self._exit(container, answer.code)
            raise podnet.ConnectionRefused(exchange.ip, exchange.port)
        agent = dict(exchange.headers).get("user-agent", "-")
        stamp = self.world.now().strftime("%d/%b/%Y:%H:%M:%S +0000")
        line = (
            f'{exchange.source_ip or "-"} - - [{stamp}] "{exchange.method} {exchange.path} HTTP/1.1" '
            f'{answer.status} {len(answer.body)} "-" "{agent}" "-"\n'
        )
        container.log.write(self._now_ns(), LogStream.STDOUT, line.encode())
        return answer

    @handles(podnet.AcceptTcp)
    def accept_tcp(self, message: podnet.AcceptTcp) -> podnet.Connected:
        self._listener(message.ip, message.port)
        return podnet.Connected(message.ip, message.port)

    @handles(podnet.ServeGrpcHealth)
    def serve_grpc_health(self, message: podnet.ServeGrpcHealth) -> podnet.GrpcHealthAnswer:
        container = self._listener(message.check.ip, message.check.port)
        healthy = container.healthy(self.world.monotonic())
        return podnet.GrpcHealthAnswer("SERVING" if healthy else "NOT_SERVING")

    def _listener(self, ip: str, port: int) -> FakeContainer:
        """The container that listens there. Raises ConnectionRefused."""
        if ip == self.node_ip:
            for sandbox in self.sandboxes.values():
                if sandbox.state is PodSandboxState.READY:
                    if sandbox.config.network_namespace is cri.NamespaceMode.NODE:
                        found = self._in_sandbox(sandbox, port)
                    else:
                        mapped = [m for m in sandbox.config.port_mappings if port and m.host_port == port]
                        found = self._in_sandbox(sandbox, mapped[0].container_port) if mapped else None
                    if found is not None:
                        return found
        elif ip in self.by_ip:
            found = self._in_sandbox(self.by_ip[ip], port)
            if found is not None:
                return found
        raise podnet.ConnectionRefused(ip, port)

    def _in_sandbox(self, sandbox: FakeSandbox, port: int) -> FakeContainer | None:
        now = self.world.monotonic()
        for container in sandbox.containers.values():
            if port in container.ports and container.listening(now):
                return container
        return None
