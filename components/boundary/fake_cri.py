"""A container runtime that runs scripts instead of containers: the whole CRI of one node, in memory.

What an image does is data (`fake_images`). A container that only waits costs nothing while it does.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from attrs import define, evolve, field

from understudy.actors import Actor, ChannelWriter, Ref, handles
from understudy.mailbox import ChannelClosed, ChannelFull, Refusal

from . import cni, cri, podnet
from .cri import ContainerEventType, ContainerState, CriCode, CriError, LogStream, PodSandboxState
from .fake_container import SIGKILL_EXIT_CODE, SIGTERM_EXIT_CODE, FakeContainer
from .fake_image_store import FakeImageStore, reference
from .fake_images import Catalogue
from .fake_shell import FOREVER, Effects, Output, Sleep
from .fake_web import Exit, respond

RUNTIME_NAME = "understudy-fake"
RUNTIME_VERSION = "v1.0.0"

CLEAN_UP_SECONDS = 5.0
"""How long the undoing of a sandbox that failed may take."""

_T = TypeVar("_T")


@define(eq=False)
class _Sandbox:
    id: str
    config: cri.PodSandboxConfig
    runtime_handler: str
    created_at: int
    state: PodSandboxState = PodSandboxState.READY
    network: cni.Result | None = None
    containers: dict[str, FakeContainer] = field(factory=dict)

    @property
    def ips(self) -> tuple[str, ...]:
        return () if self.network is None else tuple(ip.address.partition("/")[0] for ip in self.network.ips)


class FakeCri(Actor[Any]):
    """The runtime of one node. Speaks `cri.ContainerRuntime` and `podnet.Listener`."""

    def __init__(
        self,
        node: str,
        node_ip: str,
        plugin: Ref[cni.NetworkPlugin],
        network: Ref[podnet.PodNetwork],
        catalogue: Catalogue | None = None,
        pod_cidr: str = "",
    ) -> None:
        self.node = node
        self.node_ip = node_ip
        self.plugin = plugin
        self.network = network
        self.pod_cidr = pod_cidr
        self.images = FakeImageStore(catalogue or Catalogue())
        self.sandboxes: dict[str, _Sandbox] = {}
        self.containers: dict[str, FakeContainer] = {}
        self.by_ip: dict[str, _Sandbox] = {}
        self._names: dict[cri.PodSandboxMetadata, None] = {}
        self._subscribers: list[ChannelWriter[cri.ContainerEvent]] = []

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

    def _emit(self, type: ContainerEventType, sandbox: _Sandbox, container_id: str) -> None:
        event = cri.ContainerEvent(
            container_id, sandbox.id, sandbox.config.metadata.uid, type, self._now_ns()
        )
        kept: list[ChannelWriter[cri.ContainerEvent]] = []
        for subscriber in self._subscribers:
            try:
                subscriber.try_send(event)
            except ChannelFull:
                subscriber.close(cri.EventsLost())
            except ChannelClosed:
                pass  # its reader has gone
            else:
                kept.append(subscriber)
        self._subscribers = kept

    def _now_ns(self) -> int:
        return int(self.world.now().timestamp() * 1e6) * 1000

    def _new_id(self) -> str:
        return f"{self.world.rng(f'cri {self.node}').getrandbits(256):064x}"

    # -- pod sandboxes

    @handles(cri.RunPodSandbox, concurrent=True)
    async def run_pod_sandbox(self, message: cri.RunPodSandbox) -> cri.RunPodSandboxReply:
        config = message.config
        metadata = config.metadata
        if metadata in self._names:
            raise CriError(
                CriCode.UNKNOWN,
                f'failed to reserve sandbox name "{metadata.name}_{metadata.namespace}_{metadata.uid}_'
                f'{metadata.attempt}": name is reserved',
            )
        self._names[metadata] = None
        sandbox = _Sandbox(self._new_id(), config, message.runtime_handler, self._now_ns())
        try:
            if config.network_namespace is not cri.NamespaceMode.NODE:
                await self._attach(sandbox)
        except BaseException:
            del self._names[metadata]
            # Also when the asker has given up meanwhile: no address may leak.
            with self.world.limit(CLEAN_UP_SECONDS, shield=True):
                await self._detach(sandbox)
            raise
        self.sandboxes[sandbox.id] = sandbox
        self._emit(ContainerEventType.CREATED, sandbox, sandbox.id)
        self._emit(ContainerEventType.STARTED, sandbox, sandbox.id)
        return cri.RunPodSandboxReply(sandbox.id)

    async def _attach(self, sandbox: _Sandbox) -> None:
        config = sandbox.config
        try:
            if not self.pod_cidr:
                raise CriError(CriCode.UNKNOWN, "cni plugin not initialized")
            sandbox.network = await self.plugin.ask(
                cni.Add(_attachment(sandbox), cni.NetworkConfig(subnet=self.pod_cidr))
            )
            for ip in sandbox.ips:
                await self.network.ask(podnet.Listen(ip, self.node, self.context.self))
                self.by_ip[ip] = sandbox
        except CriError:
            raise
        except Refusal as error:
            raise CriError(
                CriCode.UNKNOWN,
                f'failed to setup network for sandbox "{sandbox.id}": plugin type="understudy" '
                f'name="understudy" failed (add): {error or type(error).__name__} '
                f"({config.metadata.namespace}/{config.metadata.name})",
            ) from error

    async def _detach(self, sandbox: _Sandbox) -> None:
        for ip in sandbox.ips:
            if self.by_ip.get(ip) is sandbox:
                del self.by_ip[ip]
                await self.network.ask(podnet.Unlisten(ip, self.node))
        if sandbox.config.network_namespace is not cri.NamespaceMode.NODE:
            await self.plugin.ask(cni.Del(_attachment(sandbox), sandbox.network))
        sandbox.network = None

    @handles(cri.StopPodSandbox, concurrent=True)
    async def stop_pod_sandbox(self, message: cri.StopPodSandbox) -> cri.Done:
        sandbox = self.sandboxes.get(message.pod_sandbox_id)
        if sandbox is not None:
            await self._stop_sandbox(sandbox)
        return cri.Done()

    async def _stop_sandbox(self, sandbox: _Sandbox) -> None:
        for container in list(sandbox.containers.values()):
            self._exit(container, SIGKILL_EXIT_CODE)
        if sandbox.state is PodSandboxState.READY:
            try:
                await self._detach(sandbox)
            except cni.CniError as error:
                raise CriError(CriCode.UNKNOWN, f"failed to destroy network for sandbox: {error}") from error
            if sandbox.state is PodSandboxState.READY:
                sandbox.state = PodSandboxState.NOT_READY
                self._emit(ContainerEventType.STOPPED, sandbox, sandbox.id)

    @handles(cri.RemovePodSandbox, concurrent=True)
    async def remove_pod_sandbox(self, message: cri.RemovePodSandbox) -> cri.Done:
        sandbox = self.sandboxes.get(message.pod_sandbox_id)
        if sandbox is not None:
            await self._stop_sandbox(sandbox)
            for container in list(sandbox.containers.values()):
                self._remove(container)
            if self.sandboxes.pop(sandbox.id, None) is not None:
                del self._names[sandbox.config.metadata]
                self._emit(ContainerEventType.DELETED, sandbox, sandbox.id)
        return cri.Done()

    @handles(cri.GetPodSandboxStatus)
    def get_pod_sandbox_status(self, message: cri.GetPodSandboxStatus) -> cri.PodSandboxStatusReply:
        sandbox = _known(self.sandboxes, message.pod_sandbox_id, "sandbox")
        config = sandbox.config
        status = cri.PodSandboxStatus(
            sandbox.id,
            config.metadata,
            sandbox.state,
            sandbox.created_at,
            sandbox.ips,
            config.network_namespace,
            config.labels,
            config.annotations,
            sandbox.runtime_handler,
        )
        return cri.PodSandboxStatusReply(status, tuple(c.status() for c in sandbox.containers.values()))

    @handles(cri.ListPodSandbox)
    def list_pod_sandbox(self, message: cri.ListPodSandbox) -> cri.ListPodSandboxReply:
        return cri.ListPodSandboxReply(
            tuple(
                cri.PodSandbox(
                    s.id,
                    s.config.metadata,
                    s.state,
                    s.created_at,
                    s.config.labels,
                    s.config.annotations,
                    s.runtime_handler,
                )
                for s in self.sandboxes.values()
                if message.id in (None, s.id)
                and message.state in (None, s.state)
                and _selected(message.label_selector, s.config.labels)
            )
        )

    # -- containers

    @handles(cri.CreateContainer)
    def create_container(self, message: cri.CreateContainer) -> cri.CreateContainerReply:
        sandbox = _known(self.sandboxes, message.pod_sandbox_id, "sandbox")
        if sandbox.state is not PodSandboxState.READY:
            raise CriError(CriCode.UNKNOWN, f"sandbox container {sandbox.id!r} is not running")
        config = message.config
        image = self.images.find(config.image.image)
        if image is None:
            raise CriError(
                CriCode.NOT_FOUND,
                f'failed to get image from containerd "{config.image.image}": image '
                f'"{reference(config.image.image)}": not found',
            )
        if any(c.config.metadata == config.metadata for c in sandbox.containers.values()):
            raise CriError(
                CriCode.UNKNOWN,
                f'failed to reserve container name "{config.metadata.name}_{config.metadata.attempt}": '
                "name is reserved",
            )
        name = config.image.user_specified_image or config.image.image
        container = FakeContainer(
            self._new_id(),
            sandbox.id,
            config,
            sandbox.config,
            image.repo_digests[0],
            str(reference(name)),
            reference(name).repository,
            self.images.script(name),
            self._now_ns(),
            self.world.event("container exited"),
        )
        self.containers[container.id] = sandbox.containers[container.id] = container
        self._emit(ContainerEventType.CREATED, sandbox, container.id)
        return cri.CreateContainerReply(container.id)

    @handles(cri.StartContainer)
    def start_container(self, message: cri.StartContainer) -> cri.Done:
        container = _known(self.containers, message.container_id, "container")
        if container.state is not ContainerState.CREATED:
            raise CriError(
                CriCode.UNKNOWN,
                f'container "{container.id}" is in CONTAINER_{container.state.name} state',
            )
        container.started_at = self._now_ns()
        container.started_monotonic = self.world.monotonic()
        if container.script.start_error:
            container.message = container.script.start_error
            self._exit(container, 128, "StartError")
            raise CriError(CriCode.UNKNOWN, container.script.start_error)
        container.state = ContainerState.RUNNING
        self._emit(ContainerEventType.STARTED, self.sandboxes[container.pod_sandbox_id], container.id)
        self._go_on(container, container.program(self.world.now_text))
        return cri.Done()

    def _go_on(self, container: FakeContainer, effects: Effects) -> None:
        """Perform effects up to the first that takes time; a task performs the rest, if there is one."""
        seconds = self._step(container, effects)
        if seconds is not None and seconds != FOREVER:
            container.cancel = self.context.start_soon(self._drive, container, effects, seconds)

    def _step(self, container: FakeContainer, effects: Effects) -> float | None:
        """Perform effects until one takes time: its seconds; None when the command has ended."""
        while container.state is ContainerState.RUNNING:
            try:
                effect = next(effects)
            except StopIteration as stop:
                self._exit(container, int(stop.value))
                return None
            if isinstance(effect, Sleep):
                if effect.seconds > 0:
                    return effect.seconds
            else:
                stream = LogStream.STDERR if effect.error else LogStream.STDOUT
                container.log.write(self._now_ns(), stream, effect.data)
        return None

    async def _drive(self, container: FakeContainer, effects: Effects, seconds: float) -> None:
        pause: float | None = seconds
        while pause is not None and pause != FOREVER:
            await self.world.sleep(pause, "fake container")
            pause = self._step(container, effects)

    def _exit(self, container: FakeContainer, exit_code: int, reason: str = "") -> None:
        """The container has ended; harmless when it had before."""
        if container.state is ContainerState.EXITED:
            return
        container.state = ContainerState.EXITED
        container.finished_at = self._now_ns()
        container.exit_code = exit_code
        container.reason = reason or ("Completed" if exit_code == 0 else "Error")
        container.log.end(container.finished_at)
        cancel, container.cancel = container.cancel, None
        container.exited.set()
        self._emit(ContainerEventType.STOPPED, self.sandboxes[container.pod_sandbox_id], container.id)
        if cancel is not None:
            cancel()

    @handles(cri.StopContainer, concurrent=True)
    async def stop_container(self, message: cri.StopContainer) -> cri.Done:
        container = self.containers.get(message.container_id)
        if container is None or container.state is not ContainerState.RUNNING:
            return cri.Done()
        patience = message.timeout_seconds
        trap = container.shell.traps.get("TERM") if container.shell is not None else None
        if patience > 0:
            if trap:
                self._trapped(container, trap)
                await self._ended_within(container, patience)
            elif trap == "" or container.script.stops_after > patience:
                await self._ended_within(container, patience)
            else:
                await self._ended_within(container, container.script.stops_after)
                own = container.shell is None
                self._exit(container, container.script.stop_exit_code if own else SIGTERM_EXIT_CODE)
        self._exit(container, SIGKILL_EXIT_CODE)
        return cri.Done()

    def _trapped(self, container: FakeContainer, trap: str) -> None:
        assert container.shell is not None
        if container.cancel is not None:
            container.cancel()
            container.cancel = None
        self._go_on(container, container.shell.run(("sh", "-c", trap)))

    async def _ended_within(self, container: FakeContainer, seconds: float) -> None:
        if seconds > 0 and container.state is ContainerState.RUNNING:
            with self.world.limit(seconds):
                await container.exited.wait()

    @handles(cri.RemoveContainer)
    def remove_container(self, message: cri.RemoveContainer) -> cri.Done:
        container = self.containers.get(message.container_id)
        if container is not None:
            self._remove(container)
        return cri.Done()

    def _remove(self, container: FakeContainer) -> None:
        self._exit(container, SIGKILL_EXIT_CODE)
        sandbox = self.sandboxes[container.pod_sandbox_id]
        if self.containers.pop(container.id, None) is not None:
            del sandbox.containers[container.id]
            self._emit(ContainerEventType.DELETED, sandbox, container.id)

    @handles(cri.ListContainers)
    def list_containers(self, message: cri.ListContainers) -> cri.ListContainersReply:
        return cri.ListContainersReply(
            tuple(
                c.listed()
                for c in self.containers.values()
                if message.id in (None, c.id)
                and message.pod_sandbox_id in (None, c.pod_sandbox_id)
                and message.state in (None, c.state)
                and _selected(message.label_selector, c.config.labels)
            )
        )

    @handles(cri.GetContainerStatus)
    def get_container_status(self, message: cri.GetContainerStatus) -> cri.ContainerStatusReply:
        return cri.ContainerStatusReply(_known(self.containers, message.container_id, "container").status())

    @handles(cri.UpdateContainerResources)
    def update_container_resources(self, message: cri.UpdateContainerResources) -> cri.Done:
        container = _known(self.containers, message.container_id, "container")
        container.config = evolve(container.config, resources=message.resources)
        return cri.Done()

    @handles(cri.ExecSync, concurrent=True)
    async def exec_sync(self, message: cri.ExecSync) -> cri.ExecSyncReply:
        container = self._running(message.container_id)
        healthy = container.healthy(self.world.monotonic())
        shell = container.new_shell(self.world.now_text, container.probe_program(healthy))
        effects = shell.run(message.cmd)
        out: list[bytes] = []
        error: list[bytes] = []
        with self.world.limit(message.timeout_seconds or 1e9) as scope:
            while True:
                try:
                    effect = next(effects)
                except StopIteration as stop:
                    return cri.ExecSyncReply(b"".join(out), b"".join(error), int(stop.value))
                if isinstance(effect, Output):
                    (error if effect.error else out).append(effect.data)
                elif effect.seconds > 0:
                    with self.world.limit(min(effect.seconds, 1e9)):
                        await container.exited.wait()
                    self._running(message.container_id)
        assert scope.cancelled_caught
        raise CriError(
            CriCode.DEADLINE_EXCEEDED,
            f"failed to exec in container: timeout {message.timeout_seconds:g}s exceeded: "
            "context deadline exceeded",
        )

    def _running(self, container_id: str) -> FakeContainer:
        container = _known(self.containers, container_id, "container")
        if container.state is not ContainerState.RUNNING:
            raise CriError(
                CriCode.UNKNOWN,
                f"failed to exec in container: container is in CONTAINER_{container.state.name} state",
            )
        return container

    # -- logs

    @handles(cri.StreamContainerLog)
    def stream_container_log(self, message: cri.StreamContainerLog) -> cri.Done:
        container = _known(self.containers, message.container_id, "container")
        self.context.adopt(message.to)
        self.context.start_soon(self._send_log, container, message)
        return cri.Done()

    async def _send_log(self, container: FakeContainer, message: cri.StreamContainerLog) -> None:
        log = container.log
        more = self.world.signal("fake container log")
        forget: Callable[[], None] = log.subscribe(more.set)
        try:
            number = log.start(message.tail_lines, message.since)
            end = log.next_number
            while message.follow or number < end:
                line, number = log.read(number)
                if line is not None:
                    await message.to.send(line)
                elif log.ended or not message.follow:
                    break
                else:
                    await more.wait()
                    if message.to.finished:
                        return
            message.to.close()
        except ChannelClosed:
            pass  # the reader has seen enough
        finally:
            forget()

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

    def _in_sandbox(self, sandbox: _Sandbox, port: int) -> FakeContainer | None:
        now = self.world.monotonic()
        for container in sandbox.containers.values():
            if port in container.ports and container.listening(now):
                return container
        return None


def _attachment(sandbox: _Sandbox) -> cni.Attachment:
    metadata = sandbox.config.metadata
    return cni.Attachment(
        sandbox.id,
        f"/var/run/netns/cni-{sandbox.id[:12]}",
        metadata.namespace,
        metadata.name,
        metadata.uid,
        port_mappings=tuple(
            cni.PortMapping(m.host_port, m.container_port, m.protocol.lower(), m.host_ip)
            for m in sandbox.config.port_mappings
            if m.host_port
        ),
    )


def _known(things: Mapping[str, _T], id: str, what: str) -> _T:
    if id not in things:
        raise CriError(CriCode.NOT_FOUND, f'an error occurred when try to find {what} "{id}": not found')
    return things[id]


def _selected(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in selector.items())
