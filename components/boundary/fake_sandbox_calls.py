"""The sandbox calls of the fake runtime, and the network that comes with a sandbox."""

import logging

from understudy.actors import handles
from understudy.mailbox import Refusal

from . import cni, cri, podnet
from .cri import ContainerEventType, CriCode, CriError, PodSandboxState
from .fake_container import SIGKILL_EXIT_CODE
from .fake_runtime import FakeRuntime, FakeSandbox, known, selected

log = logging.getLogger("understudy.fake_cri")

CLEAN_UP_SECONDS = 5.0
"""How long the undoing of a sandbox that failed may take."""


class SandboxCalls(FakeRuntime):
    """RunPodSandbox, StopPodSandbox, RemovePodSandbox, PodSandboxStatus, ListPodSandbox."""

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
        sandbox = FakeSandbox(self._new_id(), config, message.runtime_handler, self._now_ns())
        try:
            if config.network_namespace is not cri.NamespaceMode.NODE:
                await self._attach(sandbox)
        except BaseException:
            del self._names[metadata]
            # Also when the asker has given up meanwhile: no address may leak.
            with self.world.limit(CLEAN_UP_SECONDS, shield=True):
                try:
                    await self._detach(sandbox)
                except Refusal as error:
                    # The next start of this runtime collects what is left: see `on_start`.
                    log.warning("node %s: the address of sandbox %s leaks: %s", self.node, sandbox.id, error)
            raise
        self.sandboxes[sandbox.id] = sandbox
        self._emit(ContainerEventType.CREATED, sandbox, sandbox.id)
        self._emit(ContainerEventType.STARTED, sandbox, sandbox.id)
        return cri.RunPodSandboxReply(sandbox.id)

    async def _attach(self, sandbox: FakeSandbox) -> None:
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

    async def _detach(self, sandbox: FakeSandbox) -> None:
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

    async def _stop_sandbox(self, sandbox: FakeSandbox) -> None:
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
        sandbox = known(self.sandboxes, message.pod_sandbox_id, "sandbox")
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
                and selected(message.label_selector, s.config.labels)
            )
        )


def _attachment(sandbox: FakeSandbox) -> cni.Attachment:
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
