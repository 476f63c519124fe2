"""The DNS server's sockets, UDP and TCP on one port: a real adapter.

They are bound before the listening actor starts, so that a port in use is the user's error and no crash,
and outlive its restarts. Framing over TCP is RFC 1035 section 4.2.2; limits are RFC 7766's advice.
"""

from __future__ import annotations

import errno
import logging
import socket
from typing import Any

import trio

from understudy.actors import Actor, AskTimeout, Ref
from understudy.actors.ref import ActorFailed, ActorStopped
from understudy.actors.startup import StartError
from understudy.components.boundary.name_server import NameServer, Query

log = logging.getLogger("understudy.dns")

BACKLOG = 128
CONNECTIONS_MAX = 128
"""TCP clients at the same time; more wait in the backlog."""
DATAGRAMS_MAX = 512
"""UDP queries in flight; more are dropped, as a full socket buffer would."""
IDLE_SECONDS = 10.0
"""A TCP client that says nothing for so long is disconnected."""
QUERY_TIMEOUT_SECONDS = 6.0
PORT_TRIES = 16
"""For port 0: how often a port that is free for UDP may turn out to be taken for TCP."""


class BoundDns:
    """The two sockets. Close it when done."""

    def __init__(self, udp: trio.socket.SocketType, tcp: trio.socket.SocketType) -> None:
        self.udp = udp
        self.tcp = tcp
        self.address: str = udp.getsockname()[0]
        self.port: int = udp.getsockname()[1]
        assert tcp.getsockname()[1] == self.port

    def close(self) -> None:
        """Stop listening; harmless when done already."""
        self.udp.close()
        self.tcp.close()


async def bind_dns(host: str, port: int) -> BoundDns:
    """Bind both sockets to an address; port 0 picks a free one.

    Raises:
        StartError: the address is unknown, in use or not permitted.
    """
    for last in range(PORT_TRIES - 1, -1, -1):
        udp = await _bound(host, port, socket.SOCK_DGRAM)
        try:
            tcp = await _bound(host, port or udp.getsockname()[1], socket.SOCK_STREAM)
        except StartError:
            udp.close()
            if port or not last:
                raise
            continue
        tcp.listen(BACKLOG)
        return BoundDns(udp, tcp)
    raise AssertionError("unreachable: the last try raises")


async def _bound(host: str, port: int, kind: socket.SocketKind) -> trio.socket.SocketType:
    where = f"{host}:{port}"
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = trio.socket.socket(family, kind)
    except OSError as error:
        raise StartError(f"cannot make a DNS socket for {where}: {error.strerror}") from error
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await sock.bind((host, port))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise StartError(f"{where} is in use already", "choose another DNS port, or port 0") from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise StartError(f"binding to {where} is not permitted", "choose a port above 1023") from error
        raise StartError(f"cannot bind DNS to {where}: {error.strerror or error}") from error
    return sock


class Listening:
    """Protocol of the listening actor: it takes no messages."""


class DnsListener(Actor[Listening]):
    """Brings queries from sockets to the name server and its answers back."""

    def __init__(self, bound: BoundDns, server: Ref[NameServer]) -> None:
        self.bound = bound
        self.server = server
        self._datagrams = 0
        self.dropped = 0
        """Datagrams that came when too many were in flight."""

    async def on_start(self) -> None:
        self.context.start_soon(self._serve_udp, name="DNS over UDP")
        self.context.start_soon(self._serve_tcp, name="DNS over TCP")

    async def _ask(self, query: bytes, transport: str) -> bytes:
        try:
            return (await self.server.ask(Query(query, transport), QUERY_TIMEOUT_SECONDS)).answer
        except (AskTimeout, ActorStopped, ActorFailed) as error:
            # No answer at all: the client tries again, by then the server may be back.
            log.warning("no answer from the name server: %s", error)
            return b""

    async def _serve_udp(self) -> None:
        async with self.world.nursery() as nursery:
            while True:
                try:
                    query, client = await self.bound.udp.recvfrom(65535)
                except ConnectionError:
                    continue  # An ICMP error about an earlier answer: its client is gone.
                if self._datagrams >= DATAGRAMS_MAX:
                    self.dropped += 1
                    continue
                self._datagrams += 1
                nursery.start_soon(self._answer_datagram, query, client, name="DNS datagram")

    async def _answer_datagram(self, query: bytes, client: Any) -> None:
        try:
            answer = await self._ask(query, "udp")
            if answer:
                await self.bound.udp.sendto(answer, client)
        except OSError as error:
            log.debug("the answer to %s was not sent: %s", client, error)
        finally:
            self._datagrams -= 1

    async def _serve_tcp(self) -> None:
        room = trio.CapacityLimiter(CONNECTIONS_MAX)
        async with self.world.nursery() as nursery:
            while True:
                ticket = object()
                await room.acquire_on_behalf_of(ticket)
                try:
                    sock, _ = await self.bound.tcp.accept()
                except OSError as error:
                    room.release_on_behalf_of(ticket)
                    if error.errno not in _TRANSIENT:
                        raise
                    await self.world.sleep(0.1, "DNS accept back-off")
                    continue
                nursery.start_soon(self._connection, sock, room, ticket, name="DNS connection")

    async def _connection(
        self, sock: trio.socket.SocketType, room: trio.CapacityLimiter, ticket: object
    ) -> None:
        stream = trio.SocketStream(sock)
        try:
            async with stream:
                while (query := await self._read(stream)) is not None:
                    answer = await self._ask(query, "tcp")
                    if not answer:
                        break
                    with self.world.limit(IDLE_SECONDS) as scope:
                        await stream.send_all(len(answer).to_bytes(2, "big") + answer)
                    if scope.cancelled_caught:
                        break
        except trio.BrokenResourceError:
            log.debug("a DNS client went away")
        finally:
            room.release_on_behalf_of(ticket)

    async def _read(self, stream: trio.SocketStream) -> bytes | None:
        """The next query; None when the client ends, falls silent, or breaks off in the middle."""
        data = b""
        with self.world.limit(IDLE_SECONDS):
            while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
                # Never beyond the message: what follows it is the next one.
                wanted = 2 - len(data) if len(data) < 2 else 2 + int.from_bytes(data[:2], "big") - len(data)
                more = await stream.receive_some(wanted)
                if not more:
                    return None
                data += more
            return data[2:]
        return None


_TRANSIENT = (errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
