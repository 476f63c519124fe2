"""The node side of a kubelet: it registers the Node, keeps its status and its Lease fresh.

Readiness does not wait for a timer: when the node's pod CIDR changes, the status follows at once.
"""

import logging
from collections.abc import Callable

from attrs import frozen

from understudy.actors import Actor, Ref, handles
from understudy.components.boundary import cri
from understudy.components.client import Client, EventRecorder, Informer
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import LEASES, NODES
from understudy.mailbox import Message, Refusal, message

from .node_status import (
    LEASE_NAMESPACE,
    Machine,
    RuntimeFacts,
    changed,
    is_ready,
    new_lease,
    new_node,
    node_labels,
    node_status,
)
from .options import KubeletOptions
from .runtime_state import Object

log = logging.getLogger("understudy.kubelet")

REGISTER_BACKOFF_INITIAL_SECONDS = 0.1
REGISTER_BACKOFF_MAX_SECONDS = 7.0
"""Registration is tried again after 0.1 s, doubling up to 7 s."""

RUNTIME_TIMEOUT_SECONDS = 10.0


class NodeKeeping:
    """Protocol of the node agent."""


@message("kubelet.update_node_status")
@frozen
class UpdateNodeStatus(Message[NodeKeeping]):
    """Time to work out the node's status."""


@message("kubelet.renew_lease")
@frozen
class RenewLease(Message[NodeKeeping]):
    """Time to renew the lease."""


@message("kubelet.node_changed")
@frozen
class NodeChanged(Message[NodeKeeping]):
    """The Node object has changed on the server."""


class NodeAgent(Actor[NodeKeeping]):
    """Owns the Node's status and Lease."""

    def __init__(
        self,
        client: Client,
        machine: Machine,
        options: KubeletOptions,
        runtime: Ref[cri.ContainerRuntime],
        events: EventRecorder,
        network_configured: Callable[[], None],
    ) -> None:
        """`network_configured` is called when the runtime has been told another range of pod addresses."""
        self.network_configured = network_configured
        self.client = client
        self.machine = machine
        self.options = options
        self.runtime = runtime
        self.events = events
        self.node: Object = {}
        self.status: Object = {}
        """As this kubelet last sent it; others' conditions on the node are theirs."""
        self.sent_at = 0.0
        self.pod_cidr = ""
        self.lease: Object | None = None

    async def on_start(self) -> None:
        """Begin to register; messages follow once that is done."""
        self.context.start_soon(self._begin)

    async def _begin(self) -> None:
        await self._set_pod_cidr(self.options.pod_cidr)
        await self._register()
        self.events.event(self._reference(), "Normal", "Starting", "Starting kubelet.")
        if is_ready(self.status):
            self._say_ready()
        self.context.self.tell(RenewLease())
        self.context.self.tell(UpdateNodeStatus())
        watch = Informer(self.client, NODES, field_selector=f"metadata.name={self.machine.name}")
        watch.subscribe(lambda change: self._on_change(change.new))
        await watch.run()

    def _on_change(self, node: Object | None) -> None:
        if node is not None:
            self.node = node
            cidr = (node.get("spec") or {}).get("podCIDR") or ""
            if cidr and cidr != self.pod_cidr:
                self.context.self.tell(NodeChanged())

    async def _register(self) -> None:
        pause = REGISTER_BACKOFF_INITIAL_SECONDS
        while True:
            try:
                await self._register_once()
                return
            except ApiError as error:
                log.warning("node %s: unable to register: %s", self.machine.name, error)
            await self.world.sleep(pause, "register node")
            pause = min(pause * 2, REGISTER_BACKOFF_MAX_SECONDS)

    async def _register_once(self) -> None:
        status = node_status(
            self.machine, self.options, await self._runtime_facts(), {}, self.world.now_text()
        )
        try:
            self.node = await self.client.create(NODES, new_node(self.machine, self.options, status))
            self.status = status
        except ApiError as error:
            if error.code != 409:
                raise
            labels = node_labels(self.machine.name, self.options)
            self.node = await self.client.patch(
                NODES, self.machine.name, {"metadata": {"labels": labels}}, type="strategic"
            )
            self.status = dict(self.node.get("status") or {})
        self.sent_at = self.world.monotonic()

    async def _runtime_facts(self) -> RuntimeFacts:
        try:
            version = await self.runtime.ask(cri.Version(), RUNTIME_TIMEOUT_SECONDS)
            status = await self.runtime.ask(cri.Status(), RUNTIME_TIMEOUT_SECONDS)
            images = await self.runtime.ask(cri.ListImages(), RUNTIME_TIMEOUT_SECONDS)
        except Refusal as error:
            log.warning("node %s: the container runtime does not answer: %s", self.machine.name, error)
            return RuntimeFacts(None, None)
        return RuntimeFacts(version, status, images.images)

    async def _set_pod_cidr(self, cidr: str) -> None:
        if cidr:
            try:
                await self.runtime.ask(cri.UpdateRuntimeConfig(cidr), RUNTIME_TIMEOUT_SECONDS)
                if cidr != self.pod_cidr:
                    self.pod_cidr = cidr
                    self.network_configured()
            except Refusal as error:
                log.warning("node %s: the runtime did not take the pod CIDR: %s", self.machine.name, error)

    @handles(NodeChanged)
    async def node_changed(self, _: NodeChanged) -> None:
        await self._update_status()

    @handles(UpdateNodeStatus)
    async def update_node_status(self, _: UpdateNodeStatus) -> None:
        await self._update_status()
        self.context.set_timer("status", self.options.node_status_update_frequency, UpdateNodeStatus())

    async def _update_status(self) -> None:
        """Send the status if it changed, or was last sent long ago. A failure waits for the next time."""
        # Told each time: a runtime that was restarted has forgotten it.
        await self._set_pod_cidr((self.node.get("spec") or {}).get("podCIDR") or self.options.pod_cidr)
        facts = await self._runtime_facts()
        fresh = node_status(self.machine, self.options, facts, self.status, self.world.now_text())
        due = self.world.monotonic() - self.sent_at >= self.options.node_status_report_frequency
        if not changed(self.status, fresh) and not due:
            return
        was_ready = is_ready(self.status)
        sent = {name: value for name, value in fresh.items() if self.status.get(name) != value}
        try:
            await self.client.patch(
                NODES, self.machine.name, {"status": sent}, type="strategic", subresource="status"
            )
        except ApiError as error:
            log.warning("node %s: unable to update the status: %s", self.machine.name, error)
            return
        self.status = fresh
        self.sent_at = self.world.monotonic()
        if is_ready(fresh) and not was_ready:
            self._say_ready()

    def _say_ready(self) -> None:
        text = f"Node {self.machine.name} status is now: NodeReady"
        self.events.event(self._reference(), "Normal", "NodeReady", text)

    def _reference(self) -> Object:
        """What events are about: the kubelet uses the node's name as its UID here."""
        name = self.machine.name
        return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name}}

    @handles(RenewLease)
    async def renew_lease(self, _: RenewLease) -> None:
        pause = self.options.lease_renew_interval
        try:
            await self._renew()
        except ApiError as error:
            self.lease = None
            log.warning("node %s: unable to renew the lease: %s", self.machine.name, error)
            pause = min(pause, 1.0)
        self.context.set_timer("lease", pause, RenewLease())

    async def _renew(self) -> None:
        now = self.world.now_micro_text()
        name = self.machine.name
        if self.lease is None:
            try:
                self.lease = await self.client.get(LEASES, name, LEASE_NAMESPACE)
            except ApiError as error:
                if error.code != 404:
                    raise
                fresh = new_lease(
                    name, self.options.node_lease_duration_seconds, now, self.node["metadata"]["uid"]
                )
                self.lease = await self.client.create(LEASES, fresh)
                return
        spec = self.lease["spec"] | {
            "holderIdentity": name,
            "leaseDurationSeconds": self.options.node_lease_duration_seconds,
            "renewTime": now,
        }
        self.lease = await self.client.update(LEASES, self.lease | {"spec": spec})
