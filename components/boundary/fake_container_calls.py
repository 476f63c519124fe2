"""The container calls of the fake runtime: life, exec, logs."""

from collections.abc import Callable

from attrs import evolve

from understudy.actors import handles
from understudy.mailbox import ChannelClosed

from . import cri
from .cri import ContainerEventType, ContainerState, CriCode, CriError, LogStream, PodSandboxState
from .fake_container import SIGKILL_EXIT_CODE, SIGTERM_EXIT_CODE, FakeContainer
from .fake_effects import Effects, Fetch, Lookup, Output, Sleep
from .fake_image_store import reference
from .fake_pod_client import PodResolver, fetch
from .fake_runtime import FakeRuntime, known, selected
from .fake_shell import FOREVER

LONGEST_SECONDS = 1e9
"""Stands for no limit: some thirty years."""


class ContainerCalls(FakeRuntime):
    """CreateContainer to ContainerStatus, ExecSync, and the container's log."""

    @handles(cri.CreateContainer)
    def create_container(self, message: cri.CreateContainer) -> cri.CreateContainerReply:
        sandbox = known(self.sandboxes, message.pod_sandbox_id, "sandbox")
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
        container = known(self.containers, message.container_id, "container")
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
        pending = self._step(container, effects, None)
        if pending is not None and pending != Sleep(FOREVER):
            container.cancel = self.context.start_soon(self._drive, container, effects, pending)

    def _step(
        self, container: FakeContainer, effects: Effects, answer: object
    ) -> Sleep | Lookup | Fetch | None:
        """Perform effects until one takes time, and return that; None when the command has ended."""
        while container.state is ContainerState.RUNNING:
            try:
                effect = effects.send(answer)
            except StopIteration as stop:
                self._exit(container, int(stop.value))
                return None
            answer = None
            if isinstance(effect, Output):
                stream = LogStream.STDERR if effect.error else LogStream.STDOUT
                container.log.write(self._now_ns(), stream, effect.data)
            elif not isinstance(effect, Sleep) or effect.seconds > 0:
                return effect
        return None

    async def _drive(
        self, container: FakeContainer, effects: Effects, pending: Sleep | Lookup | Fetch | None
    ) -> None:
        while pending is not None and pending != Sleep(FOREVER):
            answer = await self._perform(container, pending)
            pending = self._step(container, effects, answer)

    async def _perform(self, container: FakeContainer, effect: Sleep | Lookup | Fetch) -> object:
        """What a command waits for: time, a name, an answer over the pod's network."""
        if isinstance(effect, Sleep):
            await self.world.sleep(effect.seconds, "fake container")
            return None
        ips = self.sandboxes[container.pod_sandbox_id].ips
        resolver = PodResolver(
            self.network, ips[0] if ips else self.node_ip, container.sandbox_config.dns_config
        )
        if isinstance(effect, Lookup):
            return await resolver.resolve(effect.name)
        return await fetch(resolver, effect)

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

    @handles(cri.ListContainers)
    def list_containers(self, message: cri.ListContainers) -> cri.ListContainersReply:
        return cri.ListContainersReply(
            tuple(
                c.listed()
                for c in self.containers.values()
                if message.id in (None, c.id)
                and message.pod_sandbox_id in (None, c.pod_sandbox_id)
                and message.state in (None, c.state)
                and selected(message.label_selector, c.config.labels)
            )
        )

    @handles(cri.GetContainerStatus)
    def get_container_status(self, message: cri.GetContainerStatus) -> cri.ContainerStatusReply:
        return cri.ContainerStatusReply(known(self.containers, message.container_id, "container").status())

    @handles(cri.UpdateContainerResources)
    def update_container_resources(self, message: cri.UpdateContainerResources) -> cri.Done:
        container = known(self.containers, message.container_id, "container")
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
        answer: object = None
        with self.world.limit(message.timeout_seconds or LONGEST_SECONDS) as scope:
            while True:
                try:
                    effect = effects.send(answer)
                except StopIteration as stop:
                    return cri.ExecSyncReply(b"".join(out), b"".join(error), int(stop.value))
                answer = None
                if isinstance(effect, Output):
                    (error if effect.error else out).append(effect.data)
                elif not isinstance(effect, Sleep):
                    answer = await self._perform(container, effect)
                elif effect.seconds > 0:
                    with self.world.limit(min(effect.seconds, LONGEST_SECONDS)):
                        await container.exited.wait()
                    self._running(message.container_id)
        assert scope.cancelled_caught
        raise CriError(
            CriCode.DEADLINE_EXCEEDED,
            f"failed to exec in container: timeout {message.timeout_seconds:g}s exceeded: "
            "context deadline exceeded",
        )

    def _running(self, container_id: str) -> FakeContainer:
        container = known(self.containers, container_id, "container")
        if container.state is not ContainerState.RUNNING:
            raise CriError(
                CriCode.UNKNOWN,
                f"failed to exec in container: container is in CONTAINER_{container.state.name} state",
            )
        return container

    # -- logs

    @handles(cri.StreamContainerLog)
    def stream_container_log(self, message: cri.StreamContainerLog) -> cri.Done:
        container = known(self.containers, message.container_id, "container")
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
