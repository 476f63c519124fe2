"""kube-proxy of one node as an actor: Services and EndpointSlices in, one rule set to the dataplane out."""

from __future__ import annotations

import logging
from typing import Any

from attrs import frozen

from understudy.actors import Actor, AskTimeout, Ref, Terminated, handles
from understudy.actors.ref import ActorFailed, ActorStopped
from understudy.components.boundary.dataplane import Dataplane, ReplaceRules, RuleSet
from understudy.components.client import Change, Client, Informer
from understudy.components.machinery.resources import ENDPOINT_SLICES, NODES, SERVICES
from understudy.components.proxy.rules import HEADLESS_LABEL, PROXY_NAME_LABEL, NodeView, RulePlanner

log = logging.getLogger("understudy.proxy")

ZONE_LABEL = "topology.kubernetes.io/zone"


class Proxying:
    """Protocol of kube-proxy: it takes no messages but notices."""


@frozen
class KubeProxyOptions:
    """What KubeProxyConfiguration states, in seconds."""

    min_sync_period: float = 1.0
    """At least this long between two rule sets, so that a burst of changes is one."""
    sync_period: float = 30.0
    """The rules are sent again after this long even if nothing changed."""


class KubeProxy(Actor[Proxying]):
    """Keeps one node's dataplane as the API says. `client` has the identity `system:kube-proxy`."""

    def __init__(
        self,
        client: Client,
        node_name: str,
        dataplane: Ref[Dataplane],
        options: KubeProxyOptions | None = None,
    ) -> None:
        self.client = client
        self.dataplane = dataplane
        self.options = options or KubeProxyOptions()
        self.node_name = node_name
        self.planner = RulePlanner(NodeView(node_name))
        self.generation = 0
        self._sent: RuleSet | None = None

    async def on_start(self) -> None:
        self._changed = self.world.signal(f"{self.node_name} proxy rules")
        self.context.watch(self.dataplane)
        others = f"!{PROXY_NAME_LABEL},!{HEADLESS_LABEL}"
        informers = [
            Informer(self.client, SERVICES, label_selector=others),
            Informer(self.client, ENDPOINT_SLICES, label_selector=others),
            Informer(self.client, NODES, field_selector=f"metadata.name={self.node_name}"),
        ]
        for informer, handler in zip(
            informers, (self._on_service, self._on_slice, self._on_node), strict=True
        ):
            informer.subscribe(handler)
            self.context.start_soon(informer.run, name=f"kube-proxy {informer.resource.plural} informer")
        self.context.start_soon(self._run, informers, name="kube-proxy sync")

    @handles(Terminated)
    def dataplane_ended(self, notice: Terminated) -> None:
        """Its next incarnation knows no rules."""
        self._sent = None
        self._changed.set()

    async def _run(self, informers: list[Informer]) -> None:
        for informer in informers:
            await informer.synced()
        while True:
            await self._sync()
            await self.world.sleep(self.options.min_sync_period, "kube-proxy min sync period")
            await self._wait(max(0.0, self.options.sync_period - self.options.min_sync_period))

    async def _wait(self, seconds: float) -> None:
        """For a change, or until it is time to send the rules again."""

        def again() -> None:
            self._sent = None
            self._changed.set()

        timer = self.world.call_later(seconds, again, "kube-proxy sync period")
        try:
            await self._changed.wait()
        finally:
            timer.cancel()

    async def _sync(self) -> None:
        rules = self.planner.rules()
        if rules is self._sent:
            return
        self.generation += 1
        try:
            applied = await self.dataplane.ask(ReplaceRules(rules, self.generation))
        except (AskTimeout, ActorStopped, ActorFailed) as error:
            log.warning("%s: the rules were not applied, trying again: %s", self.node_name, error)
            self._changed.set()
            return
        if applied.generation > self.generation:
            # An earlier incarnation of this proxy had counted further.
            self.generation = applied.generation
            self._changed.set()
            return
        self._sent = rules

    # -- what changes

    def _on_service(self, change: Change) -> None:
        if change.new is None:
            self.planner.remove_service(*change.key.split("/"))
        else:
            self.planner.set_service(change.new)
        self._changed.set()

    def _on_slice(self, change: Change) -> None:
        if change.new is None:
            self.planner.remove_slice(*change.key.split("/"))
        else:
            self.planner.set_slice(change.new)
        self._changed.set()

    def _on_node(self, change: Change) -> None:
        if change.new is not None:
            view = _view(self.node_name, change.new)
            if view != self.planner.node:
                self.planner.set_node(view)
                self._changed.set()


def _view(name: str, node: dict[str, Any]) -> NodeView:
    addresses = (node.get("status") or {}).get("addresses") or ()
    ips = tuple(a["address"] for a in addresses if a["type"] == "InternalIP")
    return NodeView(name, ips, (node["metadata"].get("labels") or {}).get(ZONE_LABEL) or "")
