"""The way to a Service: its name, its cluster IP, the rules, an endpoint; and DNS over real sockets."""

import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
import trio
from dnslib import RCODE, DNSRecord

from understudy.actors import Actor, ActorSystem, RealWorld, Ref, SimWorld, World, handles
from understudy.actors.startup import StartError
from understudy.actors.world import Signal
from understudy.components.boundary.dataplane import Action, Connect, Dataplane
from understudy.components.boundary.dns_upstream import (
    DnsUpstream,
    Exchange,
    Exchanged,
    UpstreamUnreachable,
)
from understudy.components.boundary.name_server import NameServer, Query
from understudy.components.client import Client, Transport
from understudy.components.client.transport import Headers
from understudy.components.client.transport import Query as Parameters
from understudy.components.dns.core_dns import CoreDns
from understudy.components.dns.listener import DnsListener, bind_dns
from understudy.components.machinery.api import ApiResponse
from understudy.components.proxy.kube_proxy import KubeProxy
from understudy.components.proxy.user_space import UserSpaceDataplane

SERVICES, SLICES = "/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices"
NODES, NAMESPACES = "/api/v1/nodes", "/api/v1/namespaces"


class ApiDouble(Transport):
    """Lists and watches of whatever was put."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.revision = 1
        self.objects: dict[str, dict[str, dict[str, Any]]] = {}
        self.watchers: list[tuple[str, deque[bytes], Signal]] = []

    def put(self, path: str, name: str, **parts: Any) -> None:
        self.revision += 1
        meta = {"name": name, "uid": name, "resourceVersion": str(self.revision)} | parts.pop("metadata", {})
        if path in (SERVICES, SLICES):
            meta["namespace"] = "default"
        known = self.objects.setdefault(path, {})
        kind = "MODIFIED" if name in known else "ADDED"
        known[name] = {"metadata": meta} | parts
        line = orjson.dumps({"type": kind, "object": known[name]}) + b"\n"
        for watched, lines, signal in self.watchers:
            if watched == path:
                lines.append(line)
                signal.set()

    def put_web(self, *ready: str, unready: str = "10.244.0.9") -> None:
        ports = [{"port": 80, "targetPort": 8080}]
        self.put(NAMESPACES, "default")
        self.put(SERVICES, "web", spec={"type": "ClusterIP", "clusterIP": "10.96.0.7", "ports": ports})
        endpoints = [{"addresses": [ip], "conditions": {"ready": True}} for ip in ready]
        endpoints.append({"addresses": [unready], "conditions": {"ready": False}})
        self.put(
            SLICES,
            "web-1",
            metadata={"labels": {"kubernetes.io/service-name": "web"}},
            addressType="IPv4",
            ports=[{"port": 8080}],
            endpoints=endpoints,
        )

    async def request(
        self, method: str, path: str, query: Parameters, headers: Headers, body: bytes, timeout_seconds: float
    ) -> ApiResponse:
        await self.world.sleep(0.001, "request")
        items = list(self.objects.get(path, {}).values())
        answer = {"metadata": {"resourceVersion": str(self.revision)}, "items": items}
        return ApiResponse(200, (), orjson.dumps(answer))

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, query: Parameters, headers: Headers
    ) -> AsyncIterator[tuple[ApiResponse, AsyncIterator[bytes]]]:
        lines: deque[bytes] = deque()
        signal = self.world.signal(f"watch {path}")
        self.watchers.append((path, lines, signal))

        async def chunks() -> AsyncIterator[bytes]:
            while True:
                while lines:
                    yield lines.popleft()
                await signal.wait()

        yield ApiResponse(200, (), b"", streaming=True), chunks()


async def lookup(dns: Ref[NameServer], name: str) -> DNSRecord:
    return DNSRecord.parse((await dns.ask(Query(DNSRecord.question(name).pack()))).answer)


async def connect(dataplane: Ref[Dataplane], ip: str) -> tuple[Action, str]:
    verdict = await dataplane.ask(Connect("10.244.0.5", ip, 80))
    return verdict.action, verdict.ip


def test_from_the_name_to_each_ready_endpoint_in_turn() -> None:
    async def main(world: World) -> None:
        api = ApiDouble(world)
        api.put(NODES, "here", status={"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]})
        api.put_web("10.244.0.1", "10.244.0.2")
        async with ActorSystem.open(world) as system:
            client = Client(api, "test", world)
            dns = system.spawn(lambda: CoreDns(client), "coredns")
            dataplane = system.spawn(UserSpaceDataplane, "dataplane")
            system.spawn(lambda: KubeProxy(client, "here", dataplane), "kube-proxy")
            address = str((await lookup(dns, "web.default.svc.cluster.local")).rr[0].rdata)
            await world.sleep(1.5)
            hits = [(await connect(dataplane, address))[1] for _ in range(6)]
            assert sorted(hits) == ["10.244.0.1"] * 3 + ["10.244.0.2"] * 3
            api.put_web("10.244.0.2")
            await world.sleep(1.5)
            assert {(await connect(dataplane, address))[1] for _ in range(4)} == {"10.244.0.2"}
            api.put_web()
            await world.sleep(1.5)
            assert (await connect(dataplane, address))[0] is Action.REJECT

    SimWorld(seed=3).run(main)


def test_a_new_dataplane_gets_the_rules_and_a_new_proxy_is_heard() -> None:
    async def main(world: World) -> None:
        api = ApiDouble(world)
        api.put(NODES, "here", status={})
        api.put_web("10.244.0.1")
        async with ActorSystem.open(world) as system:
            client = Client(api, "test", world)
            dataplane = system.spawn(UserSpaceDataplane, "dataplane")
            proxy = system.spawn(lambda: KubeProxy(client, "here", dataplane), "kube-proxy")
            await world.sleep(2.0)
            await system.stop(dataplane)
            again = system.spawn(UserSpaceDataplane, "dataplane")
            await world.sleep(35.0)
            assert await connect(again, "10.96.0.7") == (Action.FORWARD, "10.244.0.1")
            await system.stop(proxy)
            api.put_web("10.244.0.2")
            system.spawn(lambda: KubeProxy(client, "here", again), "kube-proxy-2")
            await world.sleep(5.0)
            assert await connect(again, "10.96.0.7") == (Action.FORWARD, "10.244.0.2")

    SimWorld(seed=4).run(main)


class OneName(Actor[DnsUpstream]):
    @handles(Exchange)
    def exchange(self, message: Exchange) -> Exchanged:
        asked = DNSRecord.parse(message.query)
        if str(asked.q.qname) != "example.org.":
            raise UpstreamUnreachable("silence")
        return Exchanged(asked.replyZone("example.org 60 A 192.0.2.7").pack())


def test_other_names_are_the_upstreams() -> None:
    async def main(world: World) -> None:
        api = ApiDouble(world)
        async with ActorSystem.open(world) as system:
            upstream = system.spawn(OneName, "upstream")
            client = Client(api, "test", world)
            dns = system.spawn(lambda: CoreDns(client, upstream=upstream), "coredns")
            assert str((await lookup(dns, "example.org")).rr[0].rdata) == "192.0.2.7"
            assert (await lookup(dns, "example.com")).header.rcode == RCODE.SERVFAIL
            assert (await lookup(dns, "x.cluster.local")).header.rcode == RCODE.NXDOMAIN

    SimWorld(seed=5).run(main)


async def test_queries_over_real_udp_and_tcp() -> None:
    async with RealWorld.open(seed=1) as world, ActorSystem.open(world) as system:
        api = ApiDouble(world)
        api.put_web("10.244.0.1")
        bound = await bind_dns("127.0.0.1", 0)
        try:
            dns = system.spawn(lambda: CoreDns(Client(api, "test", world)), "coredns")
            system.spawn(lambda: DnsListener(bound, dns), "dns-listener")
            question = DNSRecord.question("web.default.svc.cluster.local")
            with trio.fail_after(5):
                udp = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                with udp:
                    await udp.sendto(b"rubbish", ("127.0.0.1", bound.port))
                    await udp.sendto(question.pack(), ("127.0.0.1", bound.port))
                    reply = DNSRecord.parse((await udp.recvfrom(512))[0])
                assert (reply.header.id, str(reply.rr[0].rdata)) == (question.header.id, "10.96.0.7")
                tcp = await trio.open_tcp_stream("127.0.0.1", bound.port)
                framed = len(question.pack()).to_bytes(2, "big") + question.pack()
                async with tcp:
                    await tcp.send_all(framed + framed[:5])
                    first = await _framed(tcp)
                    await tcp.send_all(framed[5:])
                    second = await _framed(tcp)
                assert str(first.rr[0].rdata) == str(second.rr[0].rdata) == "10.96.0.7"
            with pytest.raises(StartError, match=r"127\.0\.0\.1:\d+ is in use already"):
                await bind_dns("127.0.0.1", bound.port)
        finally:
            bound.close()


async def _framed(stream: trio.SocketStream) -> DNSRecord:
    data = b""
    while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
        more = await stream.receive_some(4096)
        assert more
        data += more
    return DNSRecord.parse(data[2:])
