"""A peer: another node, as seen from here; where remote refs send their messages.

It outlives connections. When the other node comes back as another incarnation its state is lost, and the
peer is in quarantine: what was sent to the old one must not reach the new one by accident.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field, frozen

from understudy.actors.asking import Ask
from understudy.actors.incarnation import Incarnation, current_cell
from understudy.actors.ref import ASK_TIMEOUT_SECONDS, ActorFailed, Ref, SendTimeout
from understudy.actors.system import ActorSystem, DeadLetter, Delivery
from understudy.actors.world import Event, World
from understudy.mailbox import (
    CodecError,
    MailboxFull,
    Message,
    Refusal,
    Request,
    label,
)
from understudy.mailbox.codec import Codec

from .channels import Channels
from .connection import Connection
from .credit import SendWindow
from .framing import ProtocolError
from .inbound import Inbound
from .names import PeerResolver, split_wire_path, wire_path
from .protocol import Identity, Kind, Limits, pack
from .refusals import PeerLost, PeerQuarantined
from .streams import ReliableRef, Streams
from .watching import Watching

if TYPE_CHECKING:
    from .node import Remote

P = TypeVar("P")
R = TypeVar("R")

HEAD_BYTES_MAX = 2048
"""What a frame holds beside its message, at most: paths are expected to be shorter."""


NO_CONNECTION = "no connection to its node"


@define(eq=False, init=False)
class _Ask(Ask):
    """An ask whose answer has not come."""

    peer: Peer = field(init=False)
    target: _Target = field(init=False)
    frame: bytes = field(init=False)
    sent: bool = field(init=False)

    def __init__(
        self, peer: Peer, target: _Target, sender: str, message: Any, seconds: float, number: int, data: bytes
    ) -> None:
        super().__init__(peer.world.dispatcher, sender, target.path, message, seconds, number)
        self.peer = peer
        self.target = target
        self.frame = pack(Kind.ASK, number, target.name, sender, data)
        self.sent = False

    def abandon(self) -> None:
        self.done = True
        if self.sent:
            # It stays known until the other side has said that it has stopped: that gives its credit back.
            self.peer.say(pack(Kind.CANCEL, self.number))
        else:
            self.target.window.waiting.remove(self)


_Tell = tuple[str, str, bytes, Any]
"""A message that waits for credit: its sender, its wire name, its fields' bytes, and itself."""


@define(eq=False)
class _Target:
    """An actor of the peer, as messages are sent to it."""

    name: str
    """As the wire calls it."""
    path: str
    """As it is called here."""
    window: SendWindow[_Ask | _Tell]
    room: Event | None = None
    """Set when a sender that waits for room should look again."""

    def look_again(self) -> None:
        room, self.room = self.room, None
        if room is not None:
            room.set()


@frozen
class PeerStatus:
    """A peer at one moment."""

    name: str
    incarnation: str
    connected: bool
    connections: int
    """How many there were, the present one included."""
    absence: str
    """Why there is no connection, or why the last one was lost."""
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
    absence: str = field(default="no connection", init=False)
    quarantine: str | None = field(default=None, init=False)
    """Why nothing is exchanged with it any more, if that is so."""
    caller: bool = field(default=False, init=False)
    """Whether the present connection was made from here."""
    system: ActorSystem = field(init=False, repr=False)
    world: World = field(init=False, repr=False)
    host: str = field(init=False, repr=False)
    limits: Limits = field(init=False, repr=False)
    inbound: Inbound = field(init=False, repr=False)
    watching: Watching = field(init=False, repr=False)
    channels: Channels = field(init=False, repr=False)
    streams: Streams = field(init=False, repr=False)
    _window: int = field(default=1, init=False, repr=False)
    _message_bytes_max: int = field(default=0, init=False, repr=False)
    _targets: dict[str, _Target] = field(factory=dict, init=False, repr=False)
    _asks: dict[int, _Ask] = field(factory=dict, init=False, repr=False)
    _encode: Callable[[Any], bytes] = field(init=False, repr=False)
    decode: Callable[[bytes], Any] = field(init=False, repr=False)
    """The message in bytes from the peer; raises CodecError, whatever the bytes are."""
    _encode_fields: Callable[[Any], tuple[str, bytes]] = field(init=False, repr=False)
    decode_run: Callable[[str, int, bytes], list[Any]] = field(init=False, repr=False)
    """Messages of one wire name in bytes from the peer; see `Codec.decode_run`."""
    _handlers: dict[int, Callable[[list[Any]], None]] = field(init=False, repr=False)
    _changed: Event = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        node = self.node
        self.system, self.world, self.host, self.limits = node.system, node.world, node.host, node.limits
        self.inbound = Inbound(self)
        self.watching = Watching(self)
        self.channels = Channels(self)
        self.streams = Streams(self)
        codec = Codec(PeerResolver(self))
        self._encode, self.decode = codec.encode, codec.decode
        self._encode_fields, self.decode_run = codec.encode_fields, codec.decode_run
        self._message_bytes_max = self.limits.frame_bytes_max - HEAD_BYTES_MAX
        self._changed = self.world.event(f"change of {self.name}")
        inbound, watching, channels = self.inbound, self.watching, self.channels
        self._handlers = {
            Kind.TELLS: inbound.tells,
            Kind.ASK: inbound.ask,
            Kind.CANCEL: inbound.cancel,
            Kind.RELIABLE: inbound.reliable,
            Kind.END: inbound.end,
            Kind.ANSWER: self._answered,
            Kind.FAILURE: self._failed,
            Kind.CREDIT: self._granted,
            Kind.WATCH: lambda frame: node.watched.watch(self, frame),
            Kind.UNWATCH: lambda frame: node.watched.unwatch(self, frame),
            Kind.DOWN: watching.down,
            Kind.ITEM: channels.item,
            Kind.FINISH: channels.finish,
            Kind.GRANT: channels.grant,
            Kind.STOP: channels.stop,
            Kind.ACK: self.streams.acknowledged,
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
            ref, wire_path(self.path_there(ref), ref.incarnation), min(capacity, self._window)
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
            self.absence,
            self.quarantine,
            0 if connection is None else connection.outgoing.waiting_bytes,
            len(self._asks),
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

    def tell(self, target: Ref[P], message: Message[P]) -> None:
        """See `Ref.tell`. Without a connection the message is a dead letter.

        Raises:
            MailboxFull: a window of messages to this actor waits here already, or the connection is choked.
            CodecError: the message has no wire form, or is too large.
        """
        cell = current_cell.get()
        sender = "" if cell is None else cell.path
        connection = self.connection
        if connection is None:
            self.dead_letter(target.path, message, sender, NO_CONNECTION, self.absence)
            return
        there = self._targets.get(target.path) if target.incarnation is None else None
        if there is None:
            there = self._target(target)
        window = there.window
        if window.full or connection.outgoing.waiting_bytes > self.limits.outgoing_bytes_max:
            raise MailboxFull(window.window)
        name, fields = self._encode_fields(message)
        if len(fields) > self._message_bytes_max:
            raise self._too_large(message, fields)
        if window.spend():
            connection.tell(there.name, sender, name, fields)
        else:
            window.wait((sender, name, fields, message))

    async def ask(
        self, target: Ref[P], message: Request[P, R], timeout_seconds: float = ASK_TIMEOUT_SECONDS
    ) -> R:
        """See `Ref.ask`.

        Raises:
            PeerLost: there is no connection, or it was lost before the answer came.
            PeerQuarantined: that incarnation of the node is gone.
        """
        cell = current_cell.get()
        sender = "" if cell is None else cell.path
        system, dispatcher = self.system, self.world.dispatcher
        connection = self.connection
        there = self._target(target)
        window = there.window
        refusal: Exception | None = None
        if connection is None:
            refusal = self.gone()
        elif window.full or connection.outgoing.waiting_bytes > self.limits.outgoing_bytes_max:
            refusal = MailboxFull(window.window)
        if refusal is not None:
            # A caller that tries again in a loop must let others run all the same.
            await dispatcher.turn("refused ask")
            raise refusal
        data = self.encode(message)
        ask = _Ask(self, there, sender, message, timeout_seconds, next(system._ask_numbers), data)
        if window.spend():
            self._send_ask(ask)
        else:
            window.wait(ask)
        if ask.done:
            await dispatcher.turn(ask.label)
        else:
            timer = dispatcher.expire_later(ask, timeout_seconds)
            ask.parked = True
            try:
                await dispatcher.park(ask, ask.abandon)
            finally:
                timer.cancel()
        if system.observers:
            answer = ask.value if ask.error is None else ask.error
            system._observe(
                Delivery(self.world.monotonic(), target.path, sender, answer, ask.number, answer=True)
            )
        if ask.error is not None:
            raise ask.error
        return ask.value  # type: ignore[no-any-return]

    async def _send(self, target: Ref[P], message: Message[P], timeout_seconds: float) -> None:
        """See `Ref.send`: waits as long as a window of messages to the actor waits here.

        Raises:
            PeerLost: there is no connection, or it was lost meanwhile.
            PeerQuarantined: that incarnation of the node is gone.
        """
        with self.world.limit(timeout_seconds) as scope:
            while True:
                if self.connection is None:
                    # As with an ask: a caller that tries again in a loop must let others run all the same.
                    await self.world.dispatcher.turn("refused send")
                    raise self.gone()
                try:
                    self.tell(target, message)
                    return
                except MailboxFull:
                    there = self._target(target)
                    if there.room is None:
                        there.room = self.world.event(f"room for messages to {target.path}")
                await there.room.wait()
        if scope.cancelled_caught:
            raise SendTimeout(target.path, label(message), timeout_seconds)

    def _send_ask(self, ask: _Ask) -> None:
        ask.sent = True
        self._asks[ask.number] = ask
        self.say_urgently(ask.frame)

    def _watch(self, watcher: Incarnation, target: Ref[Any]) -> None:
        self.watching.watch(watcher, target, wire_path(self.path_there(target), target.incarnation))

    def _unwatch(self, watcher: Incarnation, path: str) -> None:
        self.watching.unwatch(watcher, path)

    def _target(self, ref: Ref[Any]) -> _Target:
        key = wire_path(ref.path, ref.incarnation)
        target = self._targets.get(key)
        if target is None:
            name = wire_path(self.path_there(ref), ref.incarnation)
            target = self._targets[key] = _Target(name, ref.path, SendWindow(self._window))
        return target

    # -- what the peer says

    def _received(self, connection: Connection, frame: list[Any]) -> None:
        if connection is self.connection:
            handler = self._handlers.get(frame[0])
            if handler is not None:
                handler(frame)
            else:
                self.node.heard_goodbye(connection)

    def _answer_of(self, frame: list[Any]) -> _Ask:
        ask = self._asks.pop(frame[1], None)
        if ask is None:
            raise ProtocolError(f"{Kind(frame[0]).name}: nothing was asked under number {frame[1]}")
        self._release(ask.target, 1)
        return ask

    def _answered(self, frame: list[Any]) -> None:
        ask = self._answer_of(frame)
        if not ask.done:
            try:
                ask.answer(self.decode(frame[2]))
            except CodecError as error:
                ask.fail(ActorFailed(ask.path, f"its answer cannot be read: {error}"))

    def _failed(self, frame: list[Any]) -> None:
        ask = self._answer_of(frame)
        if not ask.done:
            if frame[2] is None:
                raise ProtocolError("FAILURE without a reason of an ask that was not cancelled")
            ask.fail(self.decode_error(frame[2], ask.path))

    def _granted(self, frame: list[Any]) -> None:
        _, name, credits = frame[:3]
        target = self._targets.get(f"{self.identity.name}:{name}")
        if target is None:
            raise ProtocolError(f"CREDIT: nothing was sent to {name[:300]!r}")
        self._release(target, credits)

    def _release(self, target: _Target, credits: int) -> None:
        connection = self.connection
        for item in target.window.grant(credits):
            if type(item) is not tuple:
                # Not `isinstance(item, _Ask)`: a look at a protocol's class costs more than all the rest.
                self._send_ask(item)  # type: ignore[arg-type]
            elif connection is not None:
                connection.tell(target.name, item[0], item[1], item[2])
        if target.room is not None:
            target.look_again()

    # -- for the parts of this peer

    def encode(self, value: Any) -> bytes:
        """The bytes of a message. Raises CodecError when it has none, or too many."""
        data = self._encode(value)
        if len(data) > self._message_bytes_max:
            raise self._too_large(value, data)
        return data

    def _too_large(self, value: Any, data: bytes) -> CodecError:
        return CodecError(
            f"{label(value)} has {len(data)} bytes, and {self.name} reads up to {self._message_bytes_max}"
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
        self._window = hello.window
        self._message_bytes_max = hello.frame_bytes_max - HEAD_BYTES_MAX
        self._targets.clear()
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
        targets, self._targets = self._targets, {}
        for target in targets.values():
            for item in target.window.waiting:
                if isinstance(item, _Ask):
                    item.fail(self.gone())
                else:
                    sender, _, _, message = item
                    self.dead_letter(target.path, message, sender, NO_CONNECTION, self.absence)
            target.look_again()
        asks, self._asks = self._asks, {}
        for ask in asks.values():
            ask.fail(self.gone())
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
        for key in [key for key, target in self._targets.items() if target.window.idle]:
            if self._targets[key].room is None:
                del self._targets[key]
        for target in list(self._targets.values()):
            target.look_again()
