"""A peer: another node, as seen from here; where remote refs send their messages.

It outlives connections. When the other node comes back as another incarnation its state is lost, and the
peer is in quarantine: what was sent to the old one must not reach the new one by accident.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field, frozen

from understudy.actors.incarnation import Incarnation
from understudy.actors.ref import ASK_TIMEOUT_SECONDS, ActorFailed, Ref
from understudy.actors.system import ActorSystem, DeadLetter
from understudy.actors.world import Event, World
from understudy.mailbox import (
    CodecError,
    Envelope,
    Message,
    Refusal,
    Request,
    label,
)
from understudy.mailbox.codec import Codec

from .channels import Channels
from .connection import Connection
from .framing import ProtocolError
from .inbound import Inbound
from .names import PeerResolver, split_wire_path, wire_path
from .outbound import Outbound
from .protocol import Cause, Identity, Kind, Limits
from .refusals import PeerLost, PeerQuarantined
from .streams import ReliableRef, Streams
from .watching import Watching

if TYPE_CHECKING:
    from .node import Remote

P = TypeVar("P")
R = TypeVar("R")

HEAD_BYTES_MAX = 2048
"""What a frame holds beside its message, at most: paths are expected to be shorter."""


@frozen
class PeerStatus:
    """A peer at one moment."""

    name: str
    incarnation: str
    connected: bool
    connections: int
    """How many there were, the present one included."""
    absence: str
    """Why there is no connection, or why the last one was lost; empty while the first one stands."""
    quarantine: str | None
    waiting_bytes: int
    """What waits to be written."""
    asks: int
    """Asks from here that are not answered."""


@define(eq=False)
class Peer:
    """Another node. Get one from `Remote.connect` or `Remote.peers`."""

    node: Remote = field(repr=False)
    identity: Identity
    connection: Connection | None = field(default=None, init=False, repr=False)
    connections: int = field(default=0, init=False)
    """How many there were so far, the present one included."""
    absence: str = field(default="it is no peer of this node: connect to it", init=False)
    quarantine: str | None = field(default=None, init=False)
    """Why nothing is exchanged with it any more, if that is so."""
    caller: bool = field(default=False, init=False)
    """Whether the present connection was made from here."""
    system: ActorSystem = field(init=False, repr=False)
    world: World = field(init=False, repr=False)
    host: str = field(init=False, repr=False)
    limits: Limits = field(init=False, repr=False)
    inbound: Inbound = field(init=False, repr=False)
    outbound: Outbound = field(init=False, repr=False)
    tell: Callable[[Ref[Any], Any], None] = field(init=False, repr=False)
    """See `Outbound.tell`."""
    watching: Watching = field(init=False, repr=False)
    channels: Channels = field(init=False, repr=False)
    streams: Streams = field(init=False, repr=False)
    message_bytes_max: int = field(default=0, init=False, repr=False)
    """The largest message that the peer reads."""
    _encode: Callable[[Any], bytes] = field(init=False, repr=False)
    decode: Callable[[bytes], Any] = field(init=False, repr=False)
    """The message in bytes from the peer; raises CodecError, whatever the bytes are."""
    encode_fields: Callable[[Any], tuple[str, bytes]] = field(init=False, repr=False)
    """A message's wire name and its fields' bytes, of whatever size; see `Codec.encode_fields`."""
    decode_run: Callable[[str, int, bytes], list[Any]] = field(init=False, repr=False)
    """Messages of one wire name in bytes from the peer; see `Codec.decode_run`."""
    _handlers: dict[int, Callable[[list[Any]], None]] = field(init=False, repr=False)
    _changed: Event = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        node = self.node
        self.system, self.world, self.host, self.limits = node.system, node.world, node.host, node.limits
        self.inbound = Inbound(self)
        self.outbound = Outbound(self)
        self.tell = self.outbound.tell
        self.watching = Watching(self)
        self.channels = Channels(self)
        self.streams = Streams(self)
        codec = Codec(PeerResolver(self))
        self._encode, self.decode = codec.encode, codec.decode
        self.encode_fields, self.decode_run = codec.encode_fields, codec.decode_run
        self.message_bytes_max = self.limits.frame_bytes_max - HEAD_BYTES_MAX
        self._changed = self.world.event(f"change of {self.name}")
        inbound, outbound, watching, channels = self.inbound, self.outbound, self.watching, self.channels
        self._handlers = {
            Kind.TELLS: inbound.tells,
            Kind.ASK: inbound.ask,
            Kind.CANCEL: inbound.cancel,
            Kind.RELIABLE: inbound.reliable,
            Kind.END: inbound.end,
            Kind.ANSWER: outbound.answered,
            Kind.FAILURE: outbound.failed,
            Kind.CREDIT: outbound.granted,
            Kind.WATCH: lambda frame: node.watched.watch(self, frame),
            Kind.UNWATCH: lambda frame: node.watched.unwatch(self, frame),
            Kind.DOWN: watching.down,
            Kind.ITEM: channels.item,
            Kind.FINISH: channels.finish,
            Kind.GRANT: channels.grant,
            Kind.STOP: channels.stop,
            Kind.ACK: self.streams.acknowledged,
            Kind.ENDED: self.streams.ended,
        }

    # -- for authors

    @property
    def name(self) -> str:
        """The node's name."""
        return self.identity.name

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self.connection is not None

    def ref(self, path: str, protocol: type[P]) -> Ref[P]:
        """A ref to whatever actor is, or will be, at that path of the node."""
        split_wire_path(path)
        return self.make_ref(path, None)

    def reliable(self, ref: Ref[P], capacity: int = 1024) -> ReliableRef[P]:
        """A stream of messages to an actor of the node that outlives lost connections.

        `capacity` is how many messages may be unfinished; the node's window bounds it, too.
        """
        return self.streams.open(
            ref, wire_path(self.path_there(ref), ref.incarnation), min(capacity, self.outbound.window)
        )

    async def wait(self, connected: bool) -> None:
        """Return once there is a connection, or there is none, as asked for.

        Raises:
            PeerQuarantined: there will never be one again.
        """
        while self.connected is not connected:
            if connected and self.quarantine is not None:
                raise PeerQuarantined(self.name, self.quarantine)
            await self._changed.wait()

    def status(self) -> PeerStatus:
        """This moment's figures."""
        connection = self.connection
        return PeerStatus(
            self.name,
            self.identity.incarnation,
            self.connected,
            self.connections,
            "" if self.connected and self.connections == 1 else self.absence,
            self.quarantine,
            0 if connection is None else connection.outgoing.waiting_bytes,
            len(self.outbound.asks),
        )

    # -- names

    def make_ref(self, path: str, pin: int | None) -> Ref[Any]:
        """A ref to an actor of the node."""
        return Ref(f"{self.identity.name}:{path}", self, pin)

    def path_there(self, ref: Ref[Any]) -> str:
        """What the node itself calls the path of a ref that `make_ref` made."""
        prefix = f"{self.identity.name}:"
        if not ref.path.startswith(prefix):
            raise ValueError(f"{ref!r} is no actor of {self.name}")
        return ref.path[len(prefix) :]

    def local_ref(self, name: str) -> Ref[Any]:
        """The actor here that the node calls `name`."""
        path, pin = split_wire_path(name)
        return Ref(path, self.system, pin)

    def third_ref(self, node: str, incarnation: str, path: str, pin: int | None) -> Ref[Any]:
        """An actor of some node that this peer knows; messages get there if it is a peer here, too."""
        identity = Identity(node, incarnation)
        if identity == self.node.identity:
            return Ref(path, self.system, pin)
        return self.node.peer_or_stranger(identity).make_ref(path, pin)

    # -- what remote refs do

    def ask(
        self, target: Ref[P], message: Request[P, R], timeout_seconds: float = ASK_TIMEOUT_SECONDS
    ) -> Coroutine[Any, Any, R]:
        """See `Outbound.ask`."""
        return self.outbound.ask(target, message, timeout_seconds)

    async def _send(self, target: Ref[P], message: Message[P], timeout_seconds: float) -> None:
        await self.outbound.send(target, message, timeout_seconds)

    def _watch(self, watcher: Incarnation, target: Ref[Any]) -> None:
        self.watching.watch(watcher, target, wire_path(self.path_there(target), target.incarnation))

    def _unwatch(self, watcher: Incarnation, path: str) -> None:
        self.watching.unwatch(watcher, path)

    # -- what the peer says

    def _received(self, connection: Connection, frame: list[Any]) -> None:
        if connection is self.connection:
            handler = self._handlers.get(frame[0])
            if handler is not None:
                handler(frame)
            else:
                self.node.heard_goodbye(connection)

    # -- for the parts of this peer

    def encode(self, value: Any) -> bytes:
        """The bytes of a message. Raises CodecError when it has none, or too many."""
        data = self._encode(value)
        if len(data) > self.message_bytes_max:
            raise self.too_large(value, data)
        return data

    def noted(self, target: Ref[Any], message: Any, sender: str) -> Cause | None:
        """Show a message that is sent to the system's instruments; the cause that one of them gave it."""
        envelope = Envelope(message, sender, None, target.incarnation)
        for probe in self.system.probes:
            probe.sent(target.path, envelope)
        return envelope.cause

    def too_large(self, value: Any, data: bytes) -> CodecError:
        """What whoever sends such a message is told."""
        return CodecError(
            f"{label(value)} has {len(data)} bytes, and {self.name} reads up to {self.message_bytes_max}"
        )

    def encode_error(self, error: Exception, path: str) -> bytes:
        """The bytes of an exception; of `ActorFailed` when it has none."""
        try:
            return self.encode(error)
        except CodecError:
            return self.encode(ActorFailed(path, repr(error)[:HEAD_BYTES_MAX]))

    def decode_error(self, data: bytes, path: str) -> Exception:
        """The exception in bytes from the peer."""
        try:
            error = self.decode(data)
        except CodecError as unreadable:
            return ActorFailed(path, f"its answer cannot be read: {unreadable}")
        if not isinstance(error, Exception):
            raise ProtocolError(f"an exception was to come, and {type(error).__name__} came")
        return error

    def say(self, frame: bytes) -> None:
        """Queue a frame; without a connection there is nobody to send it to."""
        if self.connection is not None:
            self.connection.send(frame)

    def say_urgently(self, frame: bytes) -> None:
        """Queue a frame that somebody waits for."""
        if self.connection is not None:
            self.connection.send_urgently(frame)

    def dead_letter(self, path: str, message: Any, sender: str, reason: str, detail: str = "") -> None:
        """A message that nobody handles; `reason` is one of few phrases, since reasons are counted."""
        self.system.lose(DeadLetter(path, sender, message, reason, detail))

    def gone(self) -> Refusal:
        """What an asker is told who cannot reach the node."""
        if self.quarantine is not None:
            return PeerQuarantined(self.name, self.quarantine)
        return PeerLost(self.name, self.absence)

    # -- connections

    @property
    def has_state(self) -> bool:
        """Whether there is something that a new incarnation of either node would not know of."""
        return bool(self.inbound.inboxes or self.streams.senders)

    def attach(self, connection: Connection, caller: bool) -> None:
        """A connection stands."""
        assert self.connection is None and self.quarantine is None, f"{self} has a connection"
        hello = connection.session.hello
        assert hello is not None
        self.connections += 1
        self.connection, self.caller = connection, caller
        self.message_bytes_max = hello.frame_bytes_max - HEAD_BYTES_MAX
        self.outbound.connected(hello.window)
        connection.receive = self._received
        connection.on_tick = self._tick
        self.streams.connected()
        self._change()

    def detach(self, connection: Connection, reason: str) -> None:
        """A connection is lost; harmless when it is another one."""
        if self.connection is not connection:
            return
        self.connection = None
        self.absence = f"connection lost: {reason}"
        self.outbound.disconnected()
        self.inbound.disconnected()
        self.node.watched.disconnected(self)
        self.watching.disconnected()
        self.channels.disconnected()
        self._change()

    def end(self, reason: str) -> None:
        """Into quarantine: nothing is exchanged with this incarnation any more."""
        if self.quarantine is None:
            self.quarantine = reason
            connection = self.connection
            if connection is not None:
                self.detach(connection, reason)
            self.absence = f"in quarantine: {reason}"
            self.streams.fail()
            self.inbound.inboxes.clear()
            self._change()

    def _change(self) -> None:
        changed, self._changed = self._changed, self.world.event(f"change of {self.name}")
        changed.set()

    def _tick(self) -> None:
        self.inbound.tick()
        self.outbound.tick()
