"""Starting one container of a pod: environment, image, creation, start, postStart hook."""

from attrs import define

from understudy.components.boundary import cri
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import CONFIG_MAPS, SECRETS
from understudy.mailbox import Refusal

from .container_config import container_config, sandbox_config
from .container_status import next_restart_count
from .environment import ConfigError, Source, needed, resolve, service_variables
from .images import StartError
from .node_context import NodeContext
from .prober import run_hook
from .runtime_state import Object, PodRuntime, host_network, init_containers

RUNTIME_TIMEOUT_SECONDS = 120.0
"""`runtimeRequestTimeout`: what a runtime call other than a pull may take."""

_HOOK_SECONDS = 600.0


@define(eq=False)
class ContainerStarter:
    """Starts containers of one pod."""

    context: NodeContext

    def tell(self, pod: Object, container: Object | None, type: str, reason: str, message: str) -> None:
        """An event about a pod, or about one of its containers."""
        path = "" if container is None else container_path(pod, container)
        self.context.events.event(pod, type, reason, message, field_path=path)

    async def start(self, pod: Object, container: Object, runtime: PodRuntime, before: Object | None) -> None:
        """Bring a container up in the pod's sandbox; `before` is its status before.

        Raises:
            StartError: it could not be; the events have been told.
        """
        context = self.context
        sandbox = runtime.ready_sandbox
        assert sandbox is not None, pod["metadata"]["name"]
        known = runtime.all(container["name"])
        try:
            image_id = await context.images.ensure(
                pod["metadata"]["uid"],
                container["image"],
                container.get("imagePullPolicy") or "",
                lambda type, reason, message: self.tell(pod, container, type, reason, message),
            )
        except StartError as error:
            self.tell(pod, container, "Warning", "Failed", f"Error: {error.reason}")
            raise
        try:
            environment = await self._environment(pod, container, runtime)
        except (ConfigError, ApiError) as error:
            self.tell(pod, container, "Warning", "Failed", f"Error: {error}")
            raise StartError("CreateContainerConfigError", str(error)) from error
        attempt = known[0].metadata.attempt + 1 if known else next_restart_count(before)
        config = container_config(pod, container, image_id, environment, attempt)
        for old in known[1:]:
            await context.runtime.ask(cri.RemoveContainer(old.id), RUNTIME_TIMEOUT_SECONDS)
        create = cri.CreateContainer(
            sandbox.id, config, sandbox_config(pod, sandbox.metadata.attempt, context.options)
        )
        try:
            container_id = (await context.runtime.ask(create, RUNTIME_TIMEOUT_SECONDS)).container_id
        except Refusal as error:
            text = str(error) or type(error).__name__
            self.tell(pod, container, "Warning", "Failed", f"Error: {text}")
            raise StartError("CreateContainerError", text) from error
        self.tell(pod, container, "Normal", "Created", f"Created container: {container['name']}")
        try:
            await context.runtime.ask(cri.StartContainer(container_id), RUNTIME_TIMEOUT_SECONDS)
        except Refusal as error:
            text = str(error) or type(error).__name__
            self.tell(pod, container, "Warning", "Failed", f"Error: {text}")
            raise StartError("RunContainerError", text) from error
        self.tell(pod, container, "Normal", "Started", f"Started container {container['name']}")
        await self._post_start(pod, container, container_id, runtime)

    async def _post_start(
        self, pod: Object, container: Object, container_id: str, runtime: PodRuntime
    ) -> None:
        hook = (container.get("lifecycle") or {}).get("postStart")
        if not hook:
            return
        ip = self._pod_ips(pod, runtime)[0]
        problem = await run_hook(self.context, hook, container, container_id, ip, _HOOK_SECONDS)
        if problem is None:
            return
        self.tell(pod, container, "Warning", "FailedPostStartHook", f"PostStartHook failed: {problem}")
        name = container["name"]
        self.tell(pod, container, "Normal", "Killing", f"FailedPostStartHook: killing container {name}")
        grace = float(pod["spec"].get("terminationGracePeriodSeconds") or 0)
        stop = cri.StopContainer(container_id, grace)
        await self.context.runtime.ask(stop, grace + RUNTIME_TIMEOUT_SECONDS)
        raise StartError("PostStartHookError", problem)

    def _pod_ips(self, pod: Object, runtime: PodRuntime) -> tuple[str, ...]:
        return self.context.host_ips if host_network(pod) else runtime.ips

    async def _environment(self, pod: Object, container: Object, runtime: PodRuntime) -> dict[str, str]:
        namespace = pod["metadata"]["namespace"]
        fetched = {source: await self.fetch(source, namespace) for source in needed(container)}
        ips = self._pod_ips(pod, runtime)
        hosts = self.context.host_ips
        facts = {
            "status.podIP": ips[0] if ips else "",
            "status.podIPs": ",".join(ips),
            "status.hostIP": hosts[0],
            "status.hostIPs": ",".join(hosts),
        }
        links = pod["spec"].get("enableServiceLinks", True)
        services = service_variables(self.context.services(), namespace, links=links)
        return resolve(pod, container, fetched, facts, services, self.context.allocatable)

    async def fetch(self, source: Source, namespace: str) -> Object | None:
        """A ConfigMap or Secret, or None when there is none. Raises ApiError."""
        resource = CONFIG_MAPS if source.kind == "ConfigMap" else SECRETS
        try:
            return await self.context.client.get(resource, source.name, namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            return None


def container_path(pod: Object, container: Object) -> str:
    """The field path of a container, as events name it."""
    is_init = any(c["name"] == container["name"] for c in init_containers(pod))
    return f"spec.{'initContainers' if is_init else 'containers'}{{{container['name']}}}"
