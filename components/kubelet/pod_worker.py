"""One pod on one node: an actor that brings the runtime to what the pod's specification says.

It is level-triggered. Whatever happens (the pod changed, the runtime told an event, a probe or a timer spoke)
only makes it look again: observe the runtime, compute the actions, perform them. A pod that is as it should
be costs nothing. Deletion cancels whatever is under way; from then on the pod only ends.
"""

import logging
from datetime import datetime
from typing import Any

from attrs import frozen

from understudy.actors import Actor, Event, Ref, handles
from understudy.components.boundary import cri
from understudy.components.boundary.cri import ContainerState, ContainerStatus
from understudy.components.machinery.durations import format_duration
from understudy.components.machinery.errors import ApiError
from understudy.mailbox import Message, Refusal, message

from .backoff import Backoff
from .container_config import sandbox_config
from .container_starter import RUNTIME_TIMEOUT_SECONDS, ContainerStarter
from .container_status import Findings
from .images import StartError
from .node_context import NodeContext
from .node_status import runtime_problem
from .pod_actions import Actions, compute_actions, is_finished
from .pod_status import Circumstances, Decision, compute_status
from .pod_stopper import PodStopper, grace_period
from .prober import probe
from .probing import Probing, probe_key
from .runtime_state import (
    POD_UID_LABEL,
    Object,
    PodRuntime,
    containers,
    host_network,
    init_containers,
    pod_label,
)
from .volumes import mount_problem, volume_sources

log = logging.getLogger("understudy.kubelet")

END_RETRY_SECONDS = 2.0
"""After which time a stop that the runtime refused is tried again."""


class PodWorking:
    """Protocol of a pod's worker."""


@message("kubelet.sync_pod")
@frozen
class SyncPod(Message[PodWorking]):
    """The pod, as the API has it now."""

    pod: dict[str, Any]


@message("kubelet.runtime_changed")
@frozen
class RuntimeChanged(Message[PodWorking]):
    """Something happened to the pod's containers or sandbox."""


@message("kubelet.look_again")
@frozen
class LookAgain(Message[PodWorking]):
    """A wait is over: a back-off, a retry, a deadline."""


@message("kubelet.probe_due")
@frozen
class ProbeDue(Message[PodWorking]):
    """Time to perform a probe."""

    container: str
    container_id: str
    kind: str


@message("kubelet.end_pod")
@frozen
class EndPod(Message[PodWorking]):
    """The pod is gone from the API: end it, and tell nobody but the kubelet."""


class PodLifecycle:
    """Protocol of the kubelet, as its workers see it."""


@message("kubelet.pod_ended")
@frozen
class PodEnded(Message[PodLifecycle]):
    """Nothing is left of the pod on the node."""

    uid: str


class PodWorker(Actor[PodWorking]):
    """The worker of one pod, named by its UID."""

    def __init__(
        self, node: NodeContext, pod: Object, kubelet: Ref[PodLifecycle], decision: Decision | None = None
    ) -> None:
        self.node = node
        self.pod = pod
        self.kubelet = kubelet
        self.decision = decision
        """Set once the pod has come to its end by decision."""
        self.uid: str = pod["metadata"]["uid"]
        self.runtime = PodRuntime()
        self.starter = ContainerStarter(node)
        self.stopper = PodStopper(node, self.starter)
        self.probing = Probing()
        self.waiting: dict[str, tuple[str, str]] = {}
        """Why a container could not be started: reason and message, by name."""
        self.retry_at: dict[str, float] = {}
        """Before which (monotonic) time a container that could not be started is not tried again."""
        self.backoff = Backoff(node.options.container_backoff_initial, node.options.max_container_backoff)
        self.ended = False
        self.ending = False
        """Deletion has begun: the pod only ends from now on."""
        self.removed = False
        """Gone from the API."""
        self._dirty = False
        self._sync_ended: Event | None = None
        self._cancel_sync: Any = None
        self._grace = 0.0
        self._mount_pause = 0.5

    async def on_start(self) -> None:
        """Look at what is there: after a restart of the kubelet the pod may run already."""
        self.start_time = (self.pod.get("status") or {}).get("startTime") or self.world.now_text()
        self._arm_deadline()
        self._take(self.pod)

    # -- what happens to the pod

    @handles(SyncPod)
    def sync_pod(self, message: SyncPod) -> None:
        self._take(message.pod)

    def _take(self, pod: Object) -> None:
        if pod["spec"] != self.pod["spec"]:
            self.retry_at.clear()
        self.pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            self._end(grace_period(pod))
        else:
            self._look()

    @handles(EndPod)
    def end_pod(self, _: EndPod) -> None:
        self.removed = True
        deleted = self.pod["metadata"].get("deletionGracePeriodSeconds")
        self._end(float(deleted) if deleted is not None else 0.0)

    @handles(RuntimeChanged)
    def runtime_changed(self, _: RuntimeChanged) -> None:
        self._look()

    @handles(LookAgain)
    def look_again(self, _: LookAgain) -> None:
        self._look()

    def _look(self) -> None:
        """Look again as soon as possible; at most one look is under way."""
        self._dirty = True
        if self._sync_ended is None and not self.ending:
            self._sync_ended = self.world.event(f"{self.context.path} sync")
            self._cancel_sync = self.context.start_soon(self._sync_until_clean)

    async def _sync_until_clean(self) -> None:
        assert self._sync_ended is not None
        try:
            while self._dirty and not self.ending:
                self._dirty = False
                try:
                    await self._sync()
                except (Refusal, ApiError) as error:
                    log.warning("pod %s: %s; trying again", pod_label(self.pod), error)
                    self.context.set_timer("retry", self.node.options.sync_retry, LookAgain())
        finally:
            self._sync_ended.set()
            self._sync_ended = None

    # -- one round

    async def _sync(self) -> None:
        self.runtime = await self._observe()
        if self.ended:
            self._publish()
            return
        self._check_deadline()
        if self.decision is not None or self._is_terminal() or is_finished(self.pod, self.runtime):
            await self._wind_down()
            return
        self._arm_probes()
        self._publish()
        actions = compute_actions(self.pod, self.runtime, self.probing.verdicts(self.pod))
        if not actions.nothing:
            await self._perform(actions)

    async def _observe(self) -> PodRuntime:
        runtime = self.node.runtime
        listed = await runtime.ask(
            cri.ListPodSandbox(label_selector={POD_UID_LABEL: self.uid}), RUNTIME_TIMEOUT_SECONDS
        )
        replies: list[cri.PodSandboxStatusReply] = []
        for sandbox in listed.items:
            try:
                request = cri.GetPodSandboxStatus(sandbox.id)
                replies.append(await runtime.ask(request, RUNTIME_TIMEOUT_SECONDS))
            except cri.CriError as error:
                if error.code != cri.CriCode.NOT_FOUND:
                    raise
        return PodRuntime.of(replies)

    async def _wind_down(self) -> None:
        """Every container has ended, or must: stop what is left, and keep the rest for its logs."""
        self._publish()
        if self.runtime.running or self.runtime.ready_sandbox is not None:
            await self.stopper.stop_all(self.pod, self.runtime, grace_period(self.pod))
            self.runtime = await self._observe()
        self.ended = True
        self._arm_probes()
        self._publish()

    async def _perform(self, actions: Actions) -> None:
        if actions.kill_pod:
            if actions.create_sandbox:
                text = "Pod sandbox changed, it will be killed and re-created."
                self.starter.tell(self.pod, None, "Normal", "SandboxChanged", text)
            await self.stopper.stop_all(self.pod, self.runtime, grace_period(self.pod))
            self.runtime = await self._observe()
            self._dirty = True
        if actions.create_sandbox and not await self._create_sandbox(actions.attempt):
            return
        if actions.kill_pod and not actions.create_sandbox:
            return
        for kill in actions.kill:
            status = next(s for s in self.runtime.containers if s.id == kill.container_id)
            spec = self._spec(kill.name)
            grace = self._probe_grace(spec, kill.container_id)
            await self.stopper.stop_container(self.pod, spec, status, self.runtime, grace, kill.message)
            self.runtime = await self._observe()
            self._dirty = True
        for name in actions.start:
            if await self._start(self._spec(name)):
                self._dirty = True
            self.runtime = await self._observe()
            if self.ending:
                return
        self._arm_probes()
        self._publish()

    async def _create_sandbox(self, attempt: int) -> bool:
        if not await self._volumes_ready() or not await self._network_ready():
            return False
        config = sandbox_config(self.pod, attempt, self.node.options)
        handler = self.pod["spec"].get("runtimeClassName") or ""
        try:
            await self.node.runtime.ask(cri.RunPodSandbox(config, handler), RUNTIME_TIMEOUT_SECONDS)
        except Refusal as error:
            text = f"Failed to create pod sandbox: {str(error) or type(error).__name__}"
            self.starter.tell(self.pod, None, "Warning", "FailedCreatePodSandBox", text)
            self.context.set_timer("retry", self.node.options.sync_retry, LookAgain())
            return False
        self.runtime = await self._observe()
        return self.runtime.ready_sandbox is not None

    async def _network_ready(self) -> bool:
        if self.pod["spec"].get("hostNetwork"):
            return True
        try:
            status = await self.node.runtime.ask(cri.Status(), RUNTIME_TIMEOUT_SECONDS)
        except Refusal:
            return True  # What ails the runtime shows when it is asked for the sandbox.
        problem = runtime_problem(status, "NetworkReady")
        if not problem:
            return True
        self.starter.tell(self.pod, None, "Warning", "NetworkNotReady", f"network is not ready: {problem}")
        self.context.set_timer("retry", self.node.options.transient_error_retry, LookAgain())
        return False

    async def _volumes_ready(self) -> bool:
        namespace = self.pod["metadata"]["namespace"]
        for volume, source, keys in volume_sources(self.pod):
            obj = await self.starter.fetch(source, namespace)
            problem = mount_problem(volume, source, keys, obj)
            if problem is not None:
                self.starter.tell(self.pod, None, "Warning", "FailedMount", problem)
                self.context.set_timer("retry", self._mount_pause, LookAgain())
                self._mount_pause = min(self._mount_pause * 2, 122.0)
                return False
        return True

    async def _start(self, container: Object) -> bool:
        """Start a container unless its back-off lasts; returns whether it was tried with success."""
        name = container["name"]
        if self.world.monotonic() < self.retry_at.get(name, 0.0):
            return False
        newest = self.runtime.newest(name)
        if newest is not None and newest.state == ContainerState.EXITED:
            now = self.world.now().timestamp()
            finished = newest.finished_at / 1e9
            remaining = self.backoff.remaining_since(name, finished, now)
            if remaining > 0:
                self._back_off(container, remaining)
                return False
            self.backoff.next(name, finished, now)
        try:
            await self.starter.start(self.pod, container, self.runtime, self._before().get(name))
        except StartError as error:
            self.waiting[name] = (error.reason, error.message)
            pause = self.node.options.sync_retry if error.retry_after is None else error.retry_after
            self.retry_at[name] = self.world.monotonic() + pause
            self.context.set_timer(f"start {name}", pause, LookAgain())
            return False
        self.waiting.pop(name, None)
        return True

    def _back_off(self, container: Object, remaining: float) -> None:
        name = container["name"]
        delay = format_duration(round(self.backoff.delay(name) * 1e9))
        label = pod_label(self.pod)
        why = ("CrashLoopBackOff", f"back-off {delay} restarting failed container={name} pod={label}")
        if self.waiting.get(name) != why:
            self.waiting[name] = why
            text = f"Back-off restarting failed container {name} in pod {label}"
            self.starter.tell(self.pod, container, "Warning", "BackOff", text)
        self.context.set_timer(f"start {name}", remaining, LookAgain())

    def _spec(self, name: str) -> Object:
        every = (*containers(self.pod), *init_containers(self.pod))
        return next(container for container in every if container["name"] == name)

    def _probe_grace(self, container: Object, container_id: str) -> float:
        """A failed probe may have a grace period of its own."""
        kind = self.probing.verdicts(self.pod).failed(container_id)
        own = container[f"{kind}Probe"].get("terminationGracePeriodSeconds") if kind else None
        return grace_period(self.pod) if own is None else float(own)

    # -- deadlines

    def _arm_deadline(self) -> None:
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        if seconds is not None:
            self.context.set_timer("deadline", max(0.0, self._deadline_remaining()), LookAgain())

    def _deadline_remaining(self) -> float:
        began = datetime.fromisoformat(self.start_time).timestamp()
        seconds = float(self.pod["spec"]["activeDeadlineSeconds"])
        return began + seconds - self.world.now().timestamp()

    def _check_deadline(self) -> None:
        if self.decision is not None or self.pod["spec"].get("activeDeadlineSeconds") is None:
            return
        remaining = self._deadline_remaining()
        if remaining > 0:
            self.context.set_timer("deadline", remaining, LookAgain())
        elif not is_finished(self.pod, self.runtime):
            text = "Pod was active on the node longer than the specified deadline"
            self.decision = Decision("DeadlineExceeded", text)
            self.starter.tell(self.pod, None, "Normal", "DeadlineExceeded", text)

    # -- probes

    def _arm_probes(self) -> None:
        due, gone = self.probing.arm(self.pod, self.runtime, int(self.world.now().timestamp() * 1e9))
        for key in gone:
            self.context.cancel_timer(key)
        for item in due:
            self.context.set_timer(
                item.key, item.delay, ProbeDue(item.container, item.container_id, item.kind)
            )

    @handles(ProbeDue, concurrent=True)
    async def probe_due(self, message: ProbeDue) -> None:
        state = self.probing.find(message.container_id, message.kind)
        if state is None or state.held:
            return
        container = self._spec(message.container)
        ips = self.node.host_ips if host_network(self.pod) else self.runtime.ips
        passed, text = await probe(
            self.node, state.spec, container, message.container_id, ips[0] if ips else "", state.timeout
        )
        if self.probing.find(message.container_id, message.kind) is not state or self.ended:
            return
        if not passed and not (self.ending and message.kind != "readiness"):
            title = message.kind.capitalize()
            self.starter.tell(self.pod, container, "Warning", "Unhealthy", f"{title} probe failed: {text}")
        changed = state.observe(passed)
        if not state.held:
            self.context.set_timer(probe_key(message.container_id, message.kind), state.period, message)
        if changed:
            self._publish()
            if message.kind != "readiness":
                self._look()

    # -- status

    def _publish(self) -> None:
        """Let the status manager know what the status is now."""
        if self.removed or (self._is_terminal() and not self.runtime.containers):
            # A pod that had come to its end keeps its last status when the runtime has forgotten it.
            return
        findings = Findings(
            lambda status: self.probing.started(self.pod, status),
            lambda status: self.probing.ready(self.pod, status),
            self.waiting,
            self.node.runtime_name,
            self._before(),
        )
        circumstances = Circumstances(
            self.world.now_text(), self.node.host_ips, self.start_time, self.ended, self.decision
        )
        status = compute_status(self.pod, self.runtime, findings, circumstances, self._previous())
        self.node.statuses.set(self.pod, status)

    def _is_terminal(self) -> bool:
        return self._previous().get("phase") in ("Succeeded", "Failed")

    def _before(self) -> dict[str, Object]:
        previous = self._previous()
        every = (
            *(previous.get("containerStatuses") or ()),
            *(previous.get("initContainerStatuses") or ()),
        )
        return {status["name"]: status for status in every}

    def _previous(self) -> Object:
        """The status before: the kubelet's own part as last said, others' part as the API has it."""
        from_api: Object = self.pod.get("status") or {}
        own = self.node.statuses.get(self.uid)
        if own is None:
            return from_api
        types = {condition["type"] for condition in own.get("conditions") or ()}
        foreign = [c for c in from_api.get("conditions") or () if c["type"] not in _OWN]
        kept = [c for c in own.get("conditions") or () if c["type"] in _OWN or c["type"] == "PodScheduled"]
        kept = [c for c in kept if c["type"] not in {f["type"] for f in foreign}]
        assert types >= {c["type"] for c in kept}
        return own | {"conditions": [*kept, *foreign]}

    # -- the end

    def _end(self, grace: float) -> None:
        """The pod is to end; again with a shorter grace period to hurry."""
        if self.ending:
            if grace < self._grace:
                self._grace = grace
                for status in self.runtime.running:
                    self.context.start_soon(self._hurry, status, grace)
            return
        self.ending = True
        self._grace = grace
        if self._cancel_sync is not None:
            self._cancel_sync()
        self.context.start_soon(self._terminate)

    async def _hurry(self, status: ContainerStatus, grace: float) -> None:
        try:
            await self.node.runtime.ask(cri.StopContainer(status.id, grace), grace + RUNTIME_TIMEOUT_SECONDS)
        except Refusal as error:
            log.warning("pod %s: unable to stop sooner: %s", pod_label(self.pod), error)

    async def _terminate(self) -> None:
        if self._sync_ended is not None:
            await self._sync_ended.wait()
        while True:
            try:
                self.runtime = await self._observe()
                if not self.ended:
                    self._publish()
                    await self.stopper.stop_all(self.pod, self.runtime, self._grace)
                    self.runtime = await self._observe()
                    self.ended = True
                self._arm_probes()
                self._publish()
                await self.stopper.remove_all(self.runtime)
                break
            except Refusal as error:
                log.warning("pod %s: unable to stop: %s; trying again", pod_label(self.pod), error)
            await self.world.sleep(END_RETRY_SECONDS, "stop pod again")
        self.node.images.forget(self.uid)
        if not self.removed:
            self.node.statuses.finish(self.pod)
        self.kubelet.tell(PodEnded(self.uid))


_OWN = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")
