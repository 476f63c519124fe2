"""Stopping containers: preStop hook, stop signal, and the grace period over both."""

from attrs import define

from understudy.components.boundary import cri
from understudy.components.boundary.cri import ContainerStatus
from understudy.mailbox import Refusal

from .container_starter import RUNTIME_TIMEOUT_SECONDS, ContainerStarter
from .node_context import NodeContext
from .prober import run_hook
from .runtime_state import Object, PodRuntime, containers, host_network, init_containers, is_sidecar

GRACE_AFTER_HOOK_SECONDS = 2.0
"""What a container gets at least after its preStop hook used the grace period up."""


def grace_period(pod: Object) -> float:
    """The grace period of a deletion in progress, or else the pod's own."""
    metadata = pod["metadata"]
    if metadata.get("deletionGracePeriodSeconds") is not None:
        return float(metadata["deletionGracePeriodSeconds"])
    own = pod["spec"].get("terminationGracePeriodSeconds")
    return 30.0 if own is None else float(own)


@define(eq=False)
class PodStopper:
    """Stops containers and sandboxes of one pod."""

    context: NodeContext
    starter: ContainerStarter

    async def stop_container(
        self,
        pod: Object,
        container: Object | None,
        status: ContainerStatus,
        runtime: PodRuntime,
        grace: float,
        message: str,
    ) -> None:
        """Stop one container and wait for its end. `container` is None when the pod has it no longer."""
        if container is not None:
            self.starter.tell(pod, container, "Normal", "Killing", message)
        hook = ((container or {}).get("lifecycle") or {}).get("preStop")
        remaining = grace
        if hook and grace > 0 and container is not None:
            began = self.context.world.monotonic()
            ips = self.context.host_ips if host_network(pod) else runtime.ips
            with self.context.world.limit(grace):
                problem = await run_hook(
                    self.context, hook, container, status.id, ips[0] if ips else "", grace
                )
                if problem is not None:
                    text = f"PreStopHook failed: {problem}"
                    self.starter.tell(pod, container, "Warning", "FailedPreStopHook", text)
            used = self.context.world.monotonic() - began
            remaining = max(grace - used, GRACE_AFTER_HOOK_SECONDS)
        await self.context.runtime.ask(
            cri.StopContainer(status.id, remaining), remaining + RUNTIME_TIMEOUT_SECONDS
        )

    async def stop_all(self, pod: Object, runtime: PodRuntime, grace: float) -> None:
        """Stop every running container, sidecars last and in reverse order, then the sandboxes.

        Raises:
            Refusal: the runtime did not do it; what could be stopped has been.
        """
        specs = {c["name"]: c for c in (*init_containers(pod), *containers(pod))}
        sidecars = [c["name"] for c in init_containers(pod) if is_sidecar(c)]
        began = self.context.world.monotonic()
        problems: list[Refusal] = []

        async def stop_one(status: ContainerStatus) -> None:
            name = status.metadata.name
            text = f"Stopping container {name}"
            try:
                await self.stop_container(pod, specs.get(name), status, runtime, grace, text)
            except Refusal as error:
                problems.append(error)

        async with self.context.world.nursery() as nursery:
            for status in runtime.running:
                if status.metadata.name not in sidecars:
                    nursery.start_soon(stop_one, status)
        if problems:
            raise problems[0]
        for name in reversed(sidecars):
            newest = runtime.newest(name)
            if newest is not None and runtime.is_running(name):
                used = self.context.world.monotonic() - began
                remaining = max(grace - used, min(grace, GRACE_AFTER_HOOK_SECONDS))
                await self.stop_container(
                    pod, specs[name], newest, runtime, remaining, f"Stopping container {name}"
                )
        for sandbox in runtime.sandboxes:
            await self.context.runtime.ask(cri.StopPodSandbox(sandbox.id), RUNTIME_TIMEOUT_SECONDS)

    async def remove_all(self, runtime: PodRuntime) -> None:
        """Remove every sandbox, and with them the containers and their logs."""
        for sandbox in runtime.sandboxes:
            await self.context.runtime.ask(cri.RemovePodSandbox(sandbox.id), RUNTIME_TIMEOUT_SECONDS)
