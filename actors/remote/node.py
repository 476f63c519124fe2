"""A node: this actor system among others. Listens, calls, and decides who is a peer.

Who is called by somebody it is calling itself has two connections coming; the one that the smaller identity
makes stays, and a peer that calls again is believed: its old connection is replaced.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

from attrs import define

from understudy.actors.system import LOCAL, ActorSystem
from understudy.actors.world import DeadlineExceeded, Event, Nursery, World

from .connection import FLUSH_SECONDS, Connection
from .link import Link, LinkLost, Listener, Transport
from .network import Network, Tls
from .peer import Peer
from .protocol import Farewell, Identity, Kind, Limits, is_node_name
from .refusals import ConnectFailed
from .session import Session, Stage
from .watching import WatchAgent, Watched

log = logging.getLogger("understudy.remote")

QUARANTINED_MAX = 10_000
"""Incarnations that are remembered as never to be heard again."""


@define(eq=False)
class _Call:
    """The standing intent to be connected with whoever is at an address."""

    address: str
    changed: Event
    peer: Peer | None = None
    """Whom was met there last."""
    error: str = "not tried yet"
    """What the last attempt met."""
    final: bool = False
    """No further attempt is made."""
    waiting: int = 0


class Remote:
    """This process's node. Use :meth:`listen`."""

    def __init__(
        self,
        system: ActorSystem,
        identity: Identity,
        limits: Limits,
        transport: Transport,
        listener: Listener,
        nursery: Nursery,
        host: str,
    ) -> None:
        self.system = system
        self.world: World = system.world
        self.identity = identity
        self.limits = limits
        self.host = host
        """The host, of those of the actor system, whose actors peers reach without another hop."""
        self.address = listener.address
        """Where others reach this node."""
        self.watched = Watched()
        self._transport = transport
        self._listener = listener
        self._nursery = nursery
        self._peers: dict[str, Peer] = {}
        self._strangers: WeakValueDictionary[Identity, Peer] = WeakValueDictionary()
        """Nodes that are no peers, or not yet, and of whose actors there are refs here."""
        self._quarantined: dict[str, str] = {}
        """By incarnation: why."""
        self._calls: dict[str, _Call] = {}
        self._connections: dict[Connection, _Call | None] = {}
        """All that have not ended, and what those made from here are for."""
        self._closing = False
        self._all_ended: Event | None = None

    @classmethod
    @asynccontextmanager
    async def listen(
        cls,
        system: ActorSystem,
        address: str,
        *,
        name: str,
        tls: Tls | None = None,
        limits: Limits | None = None,
        transport: Transport | None = None,
        host: str = LOCAL,
    ) -> AsyncIterator[Remote]:
        """Be a node for as long as the block lasts; then say goodbye to every peer.

        `address` is `tcp://HOST:PORT` (port 0: any) or `unix:PATH`. `name` is what peers call this node; it
        stays the same over restarts, and no two nodes that meet may share it. In simulation the `transport`
        is a `SimNetwork`'s; in the real world it is the machine's network, with mutual TLS if `tls` is given.

        Raises:
            AddressError: nothing can listen there.
            ValueError: that is no name of a node.
        """
        if not is_node_name(name):
            raise ValueError(f"a node's name is printable, without : and /, and not too long: {name!r}")
        world = system.world
        if transport is None:
            if world.simulated:
                raise ValueError("no sockets in a simulation: give the transport of a SimNetwork")
            transport = Network(tls)
        identity = Identity(name, world.uuid(f"remote {name}"))
        listener = await transport.listen(address)
        try:
            async with world.nursery() as nursery:
                node = cls(system, identity, limits or Limits(), transport, listener, nursery, host)
                agent = system.spawn(lambda: WatchAgent(node.watched), f"remote-{name}", host=host)
                nursery.start_soon(node._accept, name=f"{name} accepts")
                try:
                    yield node
                finally:
                    with world.limit(3 * FLUSH_SECONDS, shield=True):
                        await node._close()
                        await system.stop(agent)
                    nursery.cancel()
        finally:
            listener.close()

    # -- for authors

    def peers(self) -> list[Peer]:
        """Every node that is known and not in quarantine, by name."""
        return [peer for _, peer in sorted(self._peers.items())]

    async def connect(self, address: str, timeout_seconds: float = 10.0) -> Peer:
        """Be connected with the node at an address, from now on: a lost connection is made again.

        Raises:
            ConnectFailed: there was none in time, or the node there refuses; nothing more is tried then,
                unless it was connected before.
        """
        call = self._calls.get(address)
        if call is None or call.final:
            call = self._calls[address] = _Call(address, self.world.event(f"call of {address}"))
            self._nursery.start_soon(self._keep_calling, call, name=f"{self.identity.name} calls {address}")
        call.waiting += 1
        try:
            with self.world.deadline(timeout_seconds):
                while not call.final:
                    if call.peer is not None and call.peer.connected:
                        return call.peer
                    await call.changed.wait()
        except DeadlineExceeded:
            pass
        finally:
            call.waiting -= 1
            if call.peer is None and not call.waiting:
                call.final = True
        raise ConnectFailed(f"no connection to {address}: {call.error}")

    def peer_or_stranger(self, identity: Identity) -> Peer:
        """The peer of that identity, or one that has no connection: somebody spoke of it."""
        peer = self._peers.get(identity.name)
        if peer is not None and peer.identity == identity:
            return peer
        stranger = self._strangers.get(identity)
        if stranger is None:
            stranger = self._strangers[identity] = Peer(self, identity)
            quarantine = self._quarantined.get(identity.incarnation)
            if quarantine is not None:
                stranger.end(quarantine)
        return stranger

    # -- connections

    async def _accept(self) -> None:
        while True:
            try:
                link = await self._listener.accept()
            except LinkLost as error:
                if self._closing:
                    return
                log.info("a connection was lost before it stood: %s", error)
                continue
            if len(self._connections) >= 2 * self.limits.peers_max:
                log.warning("over %d connections: another one is closed", 2 * self.limits.peers_max)
                link.close()
                continue
            connection = self._connection(link, None)
            self._nursery.start_soon(self._serve, connection, name=f"{self.identity.name} is called")

    def _connection(self, link: Link, call: _Call | None) -> Connection:
        session = Session(self.identity, self.limits, call is not None, self.world.monotonic())
        connection = Connection(self.world, link, session, self._handshake)
        self._connections[connection] = call
        return connection

    async def _serve(self, connection: Connection) -> None:
        try:
            if self._closing:
                connection.close(Farewell.CLOSING, "the node ends")
            await connection.run()
        except Exception:
            # Whatever a peer can bring about, it harms its own connection only.
            log.exception("a fault in a connection; it is closed")
            connection.reason = "a fault"
        finally:
            del self._connections[connection]
            for peer in list(self._peers.values()):
                if peer.connection is connection:
                    self._lost(peer, connection)
            if not self._connections and self._all_ended is not None:
                self._all_ended.set()

    def _lost(self, peer: Peer, connection: Connection) -> None:
        log.info("%s lost %s: %s", self.identity.name, peer.identity, connection.reason)
        peer.detach(connection, connection.reason)
        count = peer.connections

        def forget() -> None:
            if not peer.connected and peer.connections == count and self._peers.get(peer.name) is peer:
                if peer.has_state:
                    self._end(peer, f"it stayed away for {self.limits.forget_seconds:g} s")
                else:
                    self._strangers[peer.identity] = self._peers.pop(peer.name)

        self.world.call_later(self.limits.forget_seconds, forget, "remote peer forgotten")

    async def _keep_calling(self, call: _Call) -> None:
        limits, failures = self.limits, 0
        jitter = self.world.rng(f"remote {self.identity.name} back-off")
        while not self._closing and not call.final:
            if call.peer is not None and call.peer.connected:
                failures = 0
                await call.peer.wait(connected=False)
                continue
            count = 0 if call.peer is None else call.peer.connections
            await self._try(call)
            if call.peer is not None and call.peer.connections > count:
                failures = 0
            failures += 1
            self._changed(call)
            wait = min(limits.backoff_max_seconds, limits.backoff_initial_seconds * 2.0 ** min(failures, 30))
            await self.world.sleep(wait * (0.5 + 0.1 * jitter.random()), "remote back-off")
        self._changed(call)
        if self._calls.get(call.address) is call:
            del self._calls[call.address]

    async def _try(self, call: _Call) -> None:
        try:
            with self.world.deadline(self.limits.handshake_seconds_max):
                link = await self._transport.connect(call.address)
        except DeadlineExceeded:
            call.error = f"no connection within {self.limits.handshake_seconds_max:g} s"
            return
        except LinkLost as error:
            call.error = str(error)
            return
        connection = self._connection(link, call)
        await self._serve(connection)
        if not call.final:
            call.error = connection.reason

    def _changed(self, call: _Call) -> None:
        changed, call.changed = call.changed, self.world.event(f"call of {call.address}")
        changed.set()

    # -- handshake

    def _handshake(self, connection: Connection, frame: list[Any]) -> None:
        kind = frame[0]
        if kind == Kind.GOODBYE:
            self.heard_goodbye(connection)
        elif kind == Kind.HELLO:
            self._heard_hello(connection)
        elif kind == Kind.BEGIN:
            self._heard_begin(connection, frame[1])
        else:
            assert kind == Kind.WELCOME, frame
            self._establish(connection, True)

    def _heard_hello(self, connection: Connection) -> None:
        session = connection.session
        other = session.other
        refusal = self._refusal(connection, other)
        if refusal is not None:
            connection.close(*refusal)
            self._stop_calling(connection, refusal[1])
            return
        peer = self._peers.get(other.name)
        met = peer is not None and peer.identity == other
        if not session.caller:
            session.answer(met)
            connection.flush()
            return
        assert session.hello is not None
        if peer is not None and met and peer.connected:
            self._meet(connection, peer)
            connection.close(Farewell.DUPLICATE, "connected already")
            return
        resume = peer is not None and met and peer.has_state
        if resume and not session.hello.known:
            assert peer is not None
            text = "it does not know what was begun before"
            self._end(peer, text)
            connection.close(Farewell.QUARANTINED, text)
            return
        session.begin(resume)
        connection.flush()

    def _refusal(self, connection: Connection, other: Identity) -> tuple[str, str] | None:
        names = connection.link.certificate_names
        if names is not None and other.name not in names:
            return Farewell.REFUSED, f"its certificate is not for {other.name}, but for {sorted(names)}"
        if other.name == self.identity.name:
            return Farewell.REFUSED, f"the name {other.name} is this node's own"
        quarantine = self._quarantined.get(other.incarnation)
        if quarantine is not None:
            return Farewell.QUARANTINED, quarantine
        if other.name not in self._peers and len(self._peers) >= self.limits.peers_max:
            return Farewell.REFUSED, f"there are {len(self._peers)} peers"
        return None

    def _heard_begin(self, connection: Connection, resume: bool) -> None:
        other = connection.session.other
        # Much may have happened since HELLO.
        refusal = self._refusal(connection, other)
        peer = self._peers.get(other.name)
        met = peer is not None and peer.identity == other
        if refusal is None and resume and not met:
            refusal = (Farewell.QUARANTINED, "what was begun before is not known here")
        if refusal is not None:
            connection.close(*refusal)
            return
        own = [
            c
            for c in self._connections
            if c.session.caller and c.session.stage is Stage.CALLING and c.session.other == other
        ]
        if peer is not None and met and peer.connection is not None and peer.caller:
            own.append(peer.connection)
        if own and self.identity < other:
            connection.close(Farewell.DUPLICATE, "the connection made from here stays")
            return
        for redundant in own:
            redundant.close(Farewell.DUPLICATE, "the connection made from there stays")
        connection.session.welcome()
        connection.flush()
        self._establish(connection, False)

    def _establish(self, connection: Connection, caller: bool) -> None:
        other = connection.session.other
        peer = self._peers.get(other.name)
        if peer is not None and peer.identity != other:
            self._end(peer, f"it came back as another incarnation, {other}")
            peer = None
        if peer is None:
            peer = self._peers[other.name] = self.peer_or_stranger(other)
            self._strangers.pop(other, None)
        replaced = peer.connection
        if replaced is not None:
            peer.detach(replaced, "replaced by another connection")
            replaced.close(Farewell.DUPLICATE, "replaced by another connection")
        log.info("%s is connected with %s", self.identity.name, other)
        peer.attach(connection, caller)
        self._meet(connection, peer)

    def _meet(self, connection: Connection, peer: Peer) -> None:
        call = self._connections[connection]
        if call is not None:
            call.peer = peer
            self._changed(call)

    def heard_goodbye(self, connection: Connection) -> None:
        """The other side closes the connection, and says why."""
        session = connection.session
        assert session.farewell is not None
        code, text = session.farewell
        if code in (Farewell.REFUSED, Farewell.VERSION):
            self._stop_calling(connection, f"refused: {text}")
        elif code == Farewell.QUARANTINED and session.hello is not None:
            peer = self._peers.get(session.other.name)
            if peer is not None and peer.identity == session.other:
                self._end(peer, f"it says: {text}")
            self._stop_calling(connection, f"in quarantine there: {text}")

    def _stop_calling(self, connection: Connection, why: str) -> None:
        call = self._connections[connection]
        if call is not None:
            log.warning("%s stops calling %s: %s", self.identity.name, call.address, why)
            call.error, call.final = why, True

    def _end(self, peer: Peer, reason: str) -> None:
        log.warning("%s puts %s in quarantine: %s", self.identity.name, peer.identity, reason)
        connection = peer.connection
        peer.end(reason)
        if connection is not None:
            connection.close(Farewell.QUARANTINED, reason)
        if self._peers.get(peer.name) is peer:
            del self._peers[peer.name]
        self._quarantined[peer.identity.incarnation] = reason
        while len(self._quarantined) > QUARANTINED_MAX:
            del self._quarantined[next(iter(self._quarantined))]

    async def _close(self) -> None:
        self._closing = True
        self._listener.close()
        if self._connections:
            self._all_ended = self.world.event("all connections have ended")
            for connection in list(self._connections):
                connection.close(Farewell.CLOSING, "the node ends")
            await self._all_ended.wait()
