"""The kubelet of one node: it follows the pods that are bound to its node, and has a worker for each.

State is rebuilt from the API and from the runtime's lists whenever the actor starts: workers find what runs
already, and what belongs to no pod is removed.
"""

import logging

from attrs import evolve, frozen

from understudy.actors import (
    Actor,
    ChannelReader,
    ChannelWriter,
    EndOfChannel,
    Ref,
    Restart,
    Supervision,
    handles,
)
from understudy.components.boundary import cri
from understudy.components.boundary.kubelet_api import (
    GetContainerLogs,
    KubeletError,
    OpenSession,
    StreamOpened,
)
from understudy.components.boundary.podnet import PodNetwork
from understudy.components.client import Change, Client, EventRecorder, Informer
from understudy.components.machinery.resources import PODS, SERVICES
from understudy.mailbox import ChannelClosed, Message, Refusal, message

from .admission import admit
from .container_starter import RUNTIME_TIMEOUT_SECONDS
from .images import ImagePuller
from .logs import LogFormatter, find_container_id, since_nanoseconds
from .node_agent import NodeAgent
from .node_context import NodeContext
from .node_status import Machine, allocatable
from .options import KubeletOptions
from .pod_status import Decision
from .pod_worker import EndPod, PodEnded, PodLifecycle, PodWorker, PodWorking, RuntimeChanged, SyncPod
from .runtime_state import POD_UID_LABEL, Object
from .status_manager import StatusManager

log = logging.getLogger("understudy.kubelet")

EVENTS_CAPACITY = 1024
RESUBSCRIBE_SECONDS = 1.0
FOLLOW_CHECK_SECONDS = 10.0
"""How often a followed log that says nothing is checked for whether its reader has gone."""


WORKER_SUPERVISION = Supervision(
    Restart.TRANSIENT,
    restarts_max=1_000_000,
    within_seconds=600.0,
    backoff_initial_seconds=1.0,
    backoff_max_seconds=60.0,
)
"""A pod whose worker keeps crashing is tried again, less and less often: it must not take the node down."""


@message("kubelet.relist")
@frozen
class Relist(Message[PodLifecycle]):
    """Time to compare the runtime's lists with what is known."""


@message("kubelet.stop_worker")
@frozen
class StopWorker(Message[PodLifecycle]):
    """The pod has ended and is gone from the API: its worker can go too."""

    uid: str


class Kubelet(Actor[PodLifecycle]):
    """One node's kubelet. Also answers `kubelet_api.KubeletServing`."""

    def __init__(
        self,
        client: Client,
        machine: Machine,
        options: KubeletOptions,
        runtime: Ref[cri.ContainerRuntime],
        network: Ref[PodNetwork],
    ) -> None:
        self.client = client
        self.options = options
        self.machine = machine
        self.node_name = machine.name
        self.runtime = runtime
        self.network = network
        self.pods: dict[str, Object] = {}
        """The newest state of each pod that has a worker, by UID."""
        self.workers: dict[str, Ref[PodWorking]] = {}
        self.decisions: dict[str, Decision | None] = {}
        self.gone: set[str] = set()
        """UIDs of pods that are gone from the API."""
        self.over: set[str] = set()
        """UIDs of pods of which nothing is left on the node."""
        self._fingerprints: dict[str, tuple[tuple[str, int], ...]] = {}

    async def on_start(self) -> None:
        """Start the node agent and everything that follows the API and the runtime."""
        world = self.world
        events = EventRecorder(self.client, "kubelet", self.node_name)
        services = Informer(self.client, SERVICES)
        self.statuses = StatusManager(self.client)
        self.node = NodeContext(
            world,
            self.client,
            self.options,
            self.node_name,
            self.machine.addresses,
            self.runtime,
            self.network,
            events,
            self.statuses,
            ImagePuller.of(
                world,
                self.runtime,
                self.options.image_pull_backoff_initial,
                self.options.image_pull_backoff_max,
            ),
            services.list,
            allocatable(self.options),
        )
        machine = evolve(
            self.machine,
            machine_id=self.machine.machine_id or world.uuid(f"machine {self.node_name}").replace("-", ""),
            boot_id=self.machine.boot_id or world.uuid(f"boot {self.node_name}"),
        )
        self.context.spawn(
            lambda: NodeAgent(
                self.client, machine, self.options, self.runtime, events, self._network_configured
            ),
            "node",
        )
        self.context.start_soon(events.run)
        self.context.start_soon(self.statuses.run)
        self.context.start_soon(services.run)
        self.context.start_soon(self._follow, services)

    async def _follow(self, services: Informer) -> None:
        subscription = await self._subscribe()
        await self._learn_runtime_name()
        # Containers get variables for the Services that exist when they start.
        await services.synced()
        self.informer = Informer(self.client, PODS, field_selector=f"spec.nodeName={self.node_name}")
        self.informer.subscribe(self._on_pod)
        self.context.start_soon(self.informer.run)
        self.context.start_soon(self._follow_runtime, subscription)
        await self.informer.synced()
        await self._relist()
        self.context.set_timer(
            "relist", self.options.relist_period, Relist(), every_seconds=self.options.relist_period
        )

    async def _learn_runtime_name(self) -> None:
        while True:
            try:
                version = await self.runtime.ask(cri.Version(), RUNTIME_TIMEOUT_SECONDS)
                self.node.runtime_name = version.runtime_name
                return
            except Refusal as error:
                log.warning("node %s: the container runtime does not answer: %s", self.node_name, error)
            await self.world.sleep(RESUBSCRIBE_SECONDS, "runtime version")

    # -- pods from the API

    def _on_pod(self, change: Change) -> None:
        old_uid = change.old["metadata"]["uid"] if change.old is not None else ""
        new_uid = change.new["metadata"]["uid"] if change.new is not None else ""
        if old_uid and old_uid != new_uid:
            self._pod_gone(old_uid, change.old)
        if change.new is not None:
            self._pod_is(change.new)

    def _pod_is(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        known = uid in self.workers
        self.pods[uid] = pod
        if known:
            self.workers[uid].tell(SyncPod(pod))
            return
        self.gone.discard(uid)
        self.decisions[uid] = self._admission(pod)
        metadata = pod["metadata"]
        self.workers[uid] = self.context.spawn(
            lambda: PodWorker(self.node, self.pods[uid], self.context.self, self.decisions[uid]),
            f"{metadata['namespace']}_{metadata['name']}_{uid}",
            WORKER_SUPERVISION,
        )

    def _admission(self, pod: Object) -> Decision | None:
        """A pod that is new here is looked at; one that has been started before stays."""
        status = pod.get("status") or {}
        if status.get("startTime") or pod["metadata"].get("deletionTimestamp"):
            return None
        uid = pod["metadata"]["uid"]
        others = [
            other
            for other_uid, other in self.pods.items()
            if other_uid != uid
            and other_uid not in self.over
            and self.decisions.get(other_uid) is None
            and (other.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        ]
        decision = admit(pod, others, self.node.allocatable)
        if decision is not None:
            self.node.events.event(pod, "Warning", decision.reason, decision.message)
        return decision

    def _pod_gone(self, uid: str, last: Object | None) -> None:
        if uid not in self.workers:
            return
        self.gone.add(uid)
        self.statuses.forget(uid)
        if uid in self.over:
            self.context.self.tell(StopWorker(uid))
            return
        if last is not None:
            self.pods[uid] = last
        self.workers[uid].tell(EndPod())

    @handles(PodEnded)
    def pod_ended(self, message: PodEnded) -> None:
        self.over.add(message.uid)
        if message.uid in self.gone:
            self.context.self.tell(StopWorker(message.uid))

    @handles(StopWorker)
    async def stop_worker(self, message: StopWorker) -> None:
        uid = message.uid
        worker = self.workers.pop(uid, None)
        if worker is None:
            return
        await self.context.stop(worker)
        for known in (self.pods, self.decisions, self._fingerprints):
            known.pop(uid, None)
        self.gone.discard(uid)
        self.over.discard(uid)
        self.statuses.forget(uid)

    # -- the runtime

    async def _subscribe(self) -> ChannelReader[cri.ContainerEvent]:
        warned = False
        while True:
            writer, reader = self.context.channel("runtime events", EVENTS_CAPACITY)
            try:
                await self.runtime.ask(cri.GetContainerEvents(writer), RUNTIME_TIMEOUT_SECONDS)
                return reader
            except Refusal as error:
                reader.cancel()
                if not warned:
                    log.warning("node %s: no events from the runtime: %s", self.node_name, error)
                    warned = True
            await self.world.sleep(RESUBSCRIBE_SECONDS, "subscribe to the runtime")

    async def _follow_runtime(self, reader: ChannelReader[cri.ContainerEvent]) -> None:
        while True:
            try:
                while True:
                    event = await reader.receive()
                    worker = self.workers.get(event.pod_uid)
                    if worker is not None:
                        worker.tell(RuntimeChanged())
            except (Refusal, EndOfChannel) as error:
                log.warning("node %s: the runtime's events ended: %r", self.node_name, error)
            reader = await self._subscribe()
            self._fingerprints.clear()
            await self._relist()

    def _network_configured(self) -> None:
        """Pods that were here before the network was may start now."""
        for worker in self.workers.values():
            worker.tell(RuntimeChanged())

    @handles(Relist)
    async def relist(self, _: Relist) -> None:
        await self._relist()

    async def _relist(self) -> None:
        """Tell workers whose part of the lists changed, and remove what belongs to no pod."""
        try:
            listed = await self.runtime.ask(cri.ListPodSandbox(), RUNTIME_TIMEOUT_SECONDS)
            containers = await self.runtime.ask(cri.ListContainers(), RUNTIME_TIMEOUT_SECONDS)
        except Refusal as error:
            log.warning("node %s: unable to list the runtime: %s", self.node_name, error)
            return
        found: dict[str, list[tuple[str, int]]] = {uid: [] for uid in self.workers}
        for sandbox in listed.items:
            uid = sandbox.labels.get(POD_UID_LABEL, "")
            if uid in self.workers:
                found[uid].append((sandbox.id, int(sandbox.state)))
            else:
                await self._remove_orphan(sandbox)
        for container in containers.containers:
            uid = container.labels.get(POD_UID_LABEL, "")
            if uid in found:
                found[uid].append((container.id, int(container.state)))
        for uid, parts in found.items():
            fingerprint = tuple(sorted(parts))
            if self._fingerprints.get(uid) != fingerprint and uid in self.workers:
                self._fingerprints[uid] = fingerprint
                self.workers[uid].tell(RuntimeChanged())

    async def _remove_orphan(self, sandbox: cri.PodSandbox) -> None:
        log.info("node %s: removing sandbox %s, which belongs to no pod", self.node_name, sandbox.id)
        try:
            await self.runtime.ask(cri.StopPodSandbox(sandbox.id), RUNTIME_TIMEOUT_SECONDS)
            await self.runtime.ask(cri.RemovePodSandbox(sandbox.id), RUNTIME_TIMEOUT_SECONDS)
        except Refusal as error:
            log.warning("node %s: unable to remove sandbox %s: %s", self.node_name, sandbox.id, error)

    # -- what the API server asks

    @handles(GetContainerLogs, concurrent=True)
    async def get_container_logs(self, request: GetContainerLogs) -> StreamOpened:
        pod = self._find(request.namespace, request.pod)
        container = request.container or pod["spec"]["containers"][0]["name"]
        status = self.statuses.get(pod["metadata"]["uid"]) or pod.get("status") or {}
        container_id = find_container_id(request.pod, status, container, previous=request.previous)
        since = since_nanoseconds(request.since_seconds, request.since_time, self.world.now())
        writer, reader = self.context.channel("container log")
        ask = cri.StreamContainerLog(container_id, writer, request.follow, request.tail_lines, since)
        try:
            await self.runtime.ask(ask, RUNTIME_TIMEOUT_SECONDS)
        except Refusal as error:
            reader.cancel()
            text = f"unable to retrieve container logs for {self.node.runtime_name}://{container_id}: {error}"
            raise KubeletError(400, text) from error
        self.context.adopt(request.stream)
        formatter = LogFormatter(request.timestamps, request.limit_bytes)
        self.context.start_soon(self._relay_log, reader, request.stream, formatter)
        return StreamOpened()

    def _find(self, namespace: str, name: str) -> Object:
        for pod in self.pods.values():
            metadata = pod["metadata"]
            here = (metadata["namespace"], metadata["name"]) == (namespace, name)
            if here and metadata["uid"] not in self.gone:
                return pod
        raise KubeletError(404, f'pod "{name}" not found')

    async def _relay_log(
        self, reader: ChannelReader[cri.LogLine], stream: ChannelWriter[bytes], formatter: LogFormatter
    ) -> None:
        try:
            while not formatter.exhausted and not stream.finished:
                line: cri.LogLine | None = None
                with self.world.limit(FOLLOW_CHECK_SECONDS):
                    line = await reader.receive()
                if line is not None:
                    await stream.send(formatter.format(line))
            stream.close()
        except EndOfChannel:
            stream.close()
        except ChannelClosed:
            pass  # the client has seen enough
        except Refusal as error:
            stream.close(error)
        finally:
            reader.cancel()

    @handles(OpenSession)
    def open_session(self, request: OpenSession) -> StreamOpened:
        self._find(request.namespace, request.pod)
        what = {"exec": "exec", "attach": "attach", "portforward": "port-forward"}[request.kind.value]
        raise KubeletError(501, f"{what} is not supported by the containers of this node")
