"""The network between fake nodes: it knows who answers for which address, and asks the rules on the way.

What leaves a node or a pod passes the dataplane of that node once, as packets pass the node's rules; what
comes from outside of every node does not.
"""

from typing import TypeVar

from attrs import define, evolve

from understudy.actors import Actor, ActorStopped, Ref, handles
from understudy.mailbox import Request

from .dataplane import Action, Connect, Dataplane, Protocol
from .name_server import NameServer, Query
from .podnet import (
    AcceptTcp,
    Connected,
    ConnectionRefused,
    Datagram,
    DatagramExchange,
    Done,
    GrpcHealthAnswer,
    GrpcHealthCheck,
    HttpAnswer,
    HttpExchange,
    JoinNameServer,
    JoinNode,
    Listen,
    Listener,
    PodNetwork,
    ServeGrpcHealth,
    ServeHttp,
    TcpConnect,
    TimedOut,
    Unlisten,
)

_R = TypeVar("_R")

DNS_PORT = 53

TIMEOUT_SECONDS = 60.0
"""How long a connection is tried where nobody answers; most askers have shorter deadlines of their own."""


@define(eq=False)
class _Address:
    node: str
    listener: Ref[Listener] | None = None


class FakePodNetwork(Actor[PodNetwork]):
    """The one network of a cluster."""

    def __init__(self) -> None:
        self.addresses: dict[str, _Address] = {}
        self.dataplanes: dict[str, Ref[Dataplane]] = {}
        self.name_servers: dict[str, Ref[NameServer]] = {}

    @handles(JoinNode)
    def join_node(self, message: JoinNode) -> Done:
        self.dataplanes[message.node] = message.dataplane
        for ip in message.ips:
            self.addresses.setdefault(ip, _Address(message.node))
        return Done()

    @handles(Listen)
    def listen(self, message: Listen) -> Done:
        self.addresses[message.ip] = _Address(message.node, message.listener)
        return Done()

    @handles(Unlisten)
    def unlisten(self, message: Unlisten) -> Done:
        known = self.addresses.get(message.ip)
        if known is not None and known.node == message.node:
            del self.addresses[message.ip]
        return Done()

    @handles(HttpExchange, concurrent=True)
    async def http_exchange(self, message: HttpExchange) -> HttpAnswer:
        ip, port = await self._destination(message.source_ip, message.ip, message.port)
        listener = await self._listener(ip, port)
        return await self._ask(listener, ip, port, ServeHttp(evolve(message, ip=ip, port=port)))

    @handles(TcpConnect, concurrent=True)
    async def tcp_connect(self, message: TcpConnect) -> Connected:
        ip, port = await self._destination(message.source_ip, message.ip, message.port)
        listener = await self._listener(ip, port)
        return await self._ask(listener, ip, port, AcceptTcp(ip, port, message.source_ip))

    @handles(GrpcHealthCheck, concurrent=True)
    async def grpc_health_check(self, message: GrpcHealthCheck) -> GrpcHealthAnswer:
        ip, port = await self._destination(message.source_ip, message.ip, message.port)
        listener = await self._listener(ip, port)
        return await self._ask(listener, ip, port, ServeGrpcHealth(evolve(message, ip=ip, port=port)))

    @handles(JoinNameServer)
    def join_name_server(self, message: JoinNameServer) -> Done:
        self.name_servers[message.ip] = message.server
        return Done()

    @handles(DatagramExchange, concurrent=True)
    async def datagram_exchange(self, message: DatagramExchange) -> Datagram:
        source, ip, port = message.source_ip, message.ip, message.port
        ip, port = await self._destination(source, ip, port, Protocol.UDP)
        server = self.name_servers.get(ip) if port == DNS_PORT else None
        if server is None:
            raise await self._silence(ip, port)
        answered = await server.ask(Query(message.data), TIMEOUT_SECONDS)
        if not answered.answer:
            raise await self._silence(ip, port)
        return Datagram(answered.answer)

    async def _destination(
        self, source_ip: str, ip: str, port: int, protocol: Protocol = Protocol.TCP
    ) -> tuple[str, int]:
        """Where a connection really goes. Raises ConnectionRefused; waits where a rule drops."""
        source = self.addresses.get(source_ip)
        dataplane = self.dataplanes.get(source.node) if source is not None else None
        if dataplane is None:
            return ip, port
        verdict = await dataplane.ask(Connect(source_ip, ip, port, protocol))
        if verdict.action is Action.REJECT:
            raise ConnectionRefused(ip, port)
        if verdict.action is Action.DROP:
            raise await self._silence(ip, port)
        return verdict.ip, verdict.port

    async def _listener(self, ip: str, port: int) -> Ref[Listener]:
        address = self.addresses.get(ip)
        if address is None:
            raise await self._silence(ip, port)
        if address.listener is None:
            raise ConnectionRefused(ip, port)
        return address.listener

    async def _ask(self, listener: Ref[Listener], ip: str, port: int, message: Request[Listener, _R]) -> _R:
        try:
            return await listener.ask(message, TIMEOUT_SECONDS)
        except ActorStopped:
            raise await self._silence(ip, port) from None

    async def _silence(self, ip: str, port: int) -> TimedOut:
        """Nobody answers. Most askers give up before this returns."""
        await self.world.sleep(TIMEOUT_SECONDS, "silence")
        return TimedOut(ip, port)
