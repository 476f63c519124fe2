"""CoreDNS as an actor: informers keep the zone, queries come as messages."""

from attrs import frozen

from understudy.actors import Actor, AskTimeout, Ref, handles
from understudy.actors.ref import ActorFailed, ActorStopped
from understudy.components.boundary.dns_upstream import DnsUpstream, Exchange, UpstreamUnreachable
from understudy.components.boundary.name_server import Answered, NameServer, Query
from understudy.components.client import Change, Client, Informer
from understudy.components.dns.server import Forward, Server, Transport
from understudy.components.dns.zone import Zone, parse_name
from understudy.components.machinery.resources import ENDPOINT_SLICES, NAMESPACES, SERVICES

UPSTREAM_TIMEOUT_SECONDS = 5.0
"""As CoreDNS's forward plugin gives an upstream."""


@frozen
class CoreDnsOptions:
    """What the Corefile of kubeadm states."""

    cluster_domain: str = "cluster.local"
    ttl_seconds: int = 30


class CoreDns(Actor[NameServer]):
    """Answers the names of the cluster, and has the upstream, if there is one, answer all others."""

    def __init__(
        self,
        client: Client,
        options: CoreDnsOptions | None = None,
        upstream: Ref[DnsUpstream] | None = None,
    ) -> None:
        self.client = client
        self.upstream = upstream
        options = options or CoreDnsOptions()
        self.zone = Zone(parse_name(options.cluster_domain))
        self.server = Server(self.zone, options.ttl_seconds, has_upstream=upstream is not None)

    async def on_start(self) -> None:
        self._ready = self.world.event("DNS zone filled")
        informers = []
        for resource, handler in (
            (NAMESPACES, self._on_namespace),
            (SERVICES, self._on_service),
            (ENDPOINT_SLICES, self._on_slice),
        ):
            informer = Informer(self.client, resource)
            informer.subscribe(handler)
            informers.append(informer)
            self.context.start_soon(informer.run, name=f"CoreDNS {resource.plural} informer")
        self.context.start_soon(self._fill, informers, name="CoreDNS zone")

    async def _fill(self, informers: list[Informer]) -> None:
        for informer in informers:
            await informer.synced()
        self._ready.set()

    def _touch(self) -> None:
        # The zone's serial is the time of its last change, so that it grows over restarts too.
        self.server.serial = int(self.world.now().timestamp())

    def _on_namespace(self, change: Change) -> None:
        if change.new is None:
            self.zone.remove_namespace(change.key)
        else:
            self.zone.set_namespace(change.key)
        self._touch()

    def _on_service(self, change: Change) -> None:
        if change.new is None:
            self.zone.remove_service(*change.key.split("/"))
        else:
            self.zone.set_service(change.new)
        self._touch()

    def _on_slice(self, change: Change) -> None:
        if change.new is None:
            self.zone.remove_slice(*change.key.split("/"))
        else:
            self.zone.set_slice(change.new)
        self._touch()

    @handles(Query, concurrent=True)
    async def query(self, message: Query) -> Answered:
        """Answer a query; one that comes before the zone is filled waits for it."""
        if not self._ready.is_set():
            await self._ready.wait()
        transport: Transport = "tcp" if message.transport == "tcp" else "udp"
        found = self.server.answer(message.query, transport)
        if isinstance(found, Forward):
            found = await self._forward(found, transport)
        return Answered(found or b"")

    async def _forward(self, forward: Forward, transport: Transport) -> bytes:
        assert self.upstream is not None
        try:
            exchange = Exchange(forward.query, transport)
            answered = await self.upstream.ask(exchange, UPSTREAM_TIMEOUT_SECONDS)
        except (UpstreamUnreachable, AskTimeout, ActorStopped, ActorFailed):
            return self.server.failed(forward, transport)
        return self.server.forwarded(forward, answered.answer, transport)
