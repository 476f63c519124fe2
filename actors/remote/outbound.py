"""Messages from here on their way to actors of a peer: credit, what waits for it, and the answers.

The sending twin of `inbound`. Nobody who sends waits for a socket: a message is written in the sender's own
step, or waits here for credit, and at most a window of them an actor.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field

from understudy.actors.asking import Ask
from understudy.actors.delivery import Delivery
from understudy.actors.incarnation import current_cell
from understudy.actors.ref import ActorFailed, Ref, SendTimeout
from understudy.actors.world import Signal
from understudy.mailbox import CodecError, MailboxFull, Message, Request, label

from .credit import SendWindow
from .framing import ProtocolError
from .names import wire_path
from .protocol import Cause, Kind, pack, pack_caused

if TYPE_CHECKING:
    from .peer import Peer

P = TypeVar("P")
R = TypeVar("R")

NO_CONNECTION = "no connection to its node"
"""Why a message that was told is a dead letter here."""


@define(eq=False, init=False)
class _Ask(Ask):
    """An ask whose answer has not come."""

    peer: Peer = field(init=False)
    target: _Target = field(init=False)
    frame: bytes = field(init=False)
    sent: bool = field(init=False)

    def __init__(
        self,
        peer: Peer,
        target: _Target,
        sender: str,
        message: Any,
        seconds: float,
        number: int,
        data: bytes,
        cause: Cause | None,
    ) -> None:
        super().__init__(peer.world.dispatcher, sender, target.path, message, seconds, number)
        self.peer = peer
        self.target = target
        if cause is None:
            self.frame = pack(Kind.ASK, number, target.name, sender, data)
        else:
            self.frame = pack_caused(cause, Kind.ASK, number, target.name, sender, data)
        self.sent = False

    def abandon(self) -> None:
        self.done = True
        if self.sent:
            # It stays known until the other side has said that it has stopped: that gives its credit back.
            self.peer.say(pack(Kind.CANCEL, self.number))
        else:
            self.target.window.waiting.remove(self)


_Tell = tuple[str, str, bytes, Cause | None, Any]
"""A message that waits for credit: its sender, its wire name, its fields' bytes, its cause and itself."""


@define(eq=False)
class _Target:
    """An actor of the peer, as messages are sent to it."""

    name: str
    """As the wire calls it."""
    path: str
    """As it is called here."""
    window: SendWindow[_Ask | _Tell]
    line: deque[Signal] = field(factory=deque, init=False)
    """Senders that wait for room, in order; the first is told when to look again."""

    def look_again(self) -> None:
        if self.line:
            self.line[0].set()

    def leave(self, place: Signal) -> None:
        """That sender no longer waits: whoever is first now looks for itself."""
        self.line.remove(place)
        self.look_again()


@define(eq=False)
class Outbound:
    """Everything that is on its way to actors of one peer."""

    peer: Peer
    window: int = field(default=1, init=False)
    """Messages that the peer lets one actor of its have waiting."""
    asks: dict[int, _Ask] = field(factory=dict, init=False)
    """Those that are not answered, by number."""
    _targets: dict[str, _Target] = field(factory=dict, init=False)

    # -- what remote refs do

    def tell(self, target: Ref[P], message: Message[P]) -> None:
        """See `Ref.tell`. Without a connection the message is a dead letter.

        Raises:
            MailboxFull: a window of messages to this actor waits here already, or the connection is choked.
            CodecError: the message has no wire form, or is too large.
        """
        cell = current_cell.get()
        sender = "" if cell is None else cell.path
        peer = self.peer
        connection = peer.connection
        if connection is None:
            peer.dead_letter(target.path, message, sender, NO_CONNECTION, peer.absence)
            return
        there = self._targets.get(target.path) if target.incarnation is None else None
        if there is None:
            there = self._target(target)
        window = there.window
        # As `window.full`, `spend` and `wait`: most messages pass here, and each call would count.
        credits = window.credits
        if not credits and len(window.waiting) >= window.window:
            raise MailboxFull(window.window)
        if connection.outgoing.waiting_bytes > peer.limits.outgoing_bytes_max:
            raise MailboxFull(window.window)
        name, fields = peer.encode_fields(message)
        if len(fields) > peer.message_bytes_max:
            raise peer.too_large(message, fields)
        cause = peer.noted(target, message, sender) if peer.system.probes else None
        if not credits:
            window.waiting.append((sender, name, fields, cause, message))
            return
        window.credits = credits - 1
        if cause is None:
            connection.tell(there.name, sender, name, fields)
        else:
            self._tell_caused(there, sender, name, fields, cause)

    def _tell_caused(self, target: _Target, sender: str, name: str, fields: bytes, cause: Cause) -> None:
        # In a frame of its own: each message has another cause.
        self.peer.say(pack_caused(cause, Kind.TELLS, target.name, sender, [name, 1, fields]))

    async def ask(self, target: Ref[P], message: Request[P, R], timeout_seconds: float) -> R:
        """See `Ref.ask`.

        Raises:
            PeerLost: there is no connection, or it was lost before the answer came.
            PeerQuarantined: that incarnation of the node is gone.
        """
        cell = current_cell.get()
        sender = "" if cell is None else cell.path
        peer = self.peer
        system, dispatcher = peer.system, peer.world.dispatcher
        connection = peer.connection
        there = self._target(target)
        window = there.window
        refusal: Exception | None = None
        if connection is None:
            refusal = peer.gone()
        elif window.full or connection.outgoing.waiting_bytes > peer.limits.outgoing_bytes_max:
            refusal = MailboxFull(window.window)
        if refusal is not None:
            # A caller that tries again in a loop must let others run all the same.
            await dispatcher.turn("refused ask")
            raise refusal
        data = peer.encode(message)
        cause = peer.noted(target, message, sender) if system.probes else None
        ask = _Ask(peer, there, sender, message, timeout_seconds, next(system._ask_numbers), data, cause)
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
                Delivery(peer.world.monotonic(), target.path, sender, answer, ask.number, answer=True)
            )
        if ask.error is not None:
            raise ask.error
        return ask.value  # type: ignore[no-any-return]

    async def send(self, target: Ref[P], message: Message[P], timeout_seconds: float) -> None:
        """See `Ref.send`: waits as long as a window of messages to the actor waits here.

        Raises:
            PeerLost: there is no connection, or it was lost meanwhile.
            PeerQuarantined: that incarnation of the node is gone.
        """
        with self.peer.world.limit(timeout_seconds) as scope:
            while not await self._send_or_wait(target, message):
                pass
            return
        if scope.cancelled_caught:
            raise SendTimeout(target.path, label(message), timeout_seconds)

    async def _send_or_wait(self, target: Ref[P], message: Message[P]) -> bool:
        """Whether it was sent; if not, its target has changed with the connection."""
        peer, place = self.peer, None
        there = self._target(target)
        try:
            while True:
                if peer.connection is None:
                    # As with an ask: a caller that tries again in a loop must let others run all the same.
                    await peer.world.dispatcher.turn("refused send")
                    raise peer.gone()
                if self._target(target) is not there:
                    return False
                if not there.line or there.line[0] is place:
                    try:
                        self.tell(target, message)
                        return True
                    except MailboxFull:
                        pass
                if place is None:
                    place = peer.world.signal(f"room for messages to {target.path}")
                    there.line.append(place)
                await place.wait()
        finally:
            if place is not None:
                there.leave(place)

    def _send_ask(self, ask: _Ask) -> None:
        ask.sent = True
        self.asks[ask.number] = ask
        self.peer.say_urgently(ask.frame)

    def _target(self, ref: Ref[Any]) -> _Target:
        key = wire_path(ref.path, ref.incarnation)
        target = self._targets.get(key)
        if target is None:
            name = wire_path(self.peer.path_there(ref), ref.incarnation)
            target = self._targets[key] = _Target(name, ref.path, SendWindow(self.window))
        return target

    # -- what the peer says

    def _answer_of(self, frame: list[Any]) -> _Ask:
        ask = self.asks.pop(frame[1], None)
        if ask is None:
            raise ProtocolError(f"{Kind(frame[0]).name}: nothing was asked under number {frame[1]}")
        self._release(ask.target, 1)
        return ask

    def answered(self, frame: list[Any]) -> None:
        """ANSWER"""
        ask = self._answer_of(frame)
        if not ask.done:
            try:
                ask.answer(self.peer.decode(frame[2]))
            except CodecError as error:
                ask.fail(ActorFailed(ask.path, f"its answer cannot be read: {error}"))

    def failed(self, frame: list[Any]) -> None:
        """FAILURE"""
        ask = self._answer_of(frame)
        if not ask.done:
            if frame[2] is None:
                raise ProtocolError("FAILURE without a reason of an ask that was not cancelled")
            ask.fail(self.peer.decode_error(frame[2], ask.path))

    def granted(self, frame: list[Any]) -> None:
        """CREDIT"""
        _, name, credits = frame[:3]
        target = self._targets.get(f"{self.peer.name}:{name}")
        if target is None:
            raise ProtocolError(f"CREDIT: nothing was sent to {name[:300]!r}")
        self._release(target, credits)

    def _release(self, target: _Target, credits: int) -> None:
        connection = self.peer.connection
        for item in target.window.grant(credits):
            if type(item) is not tuple:
                # Not `isinstance(item, _Ask)`: a look at a protocol's class costs more than all the rest.
                self._send_ask(item)  # type: ignore[arg-type]
            elif item[3] is not None:
                self._tell_caused(target, item[0], item[1], item[2], item[3])
            elif connection is not None:
                connection.tell(target.name, item[0], item[1], item[2])
        if target.line:
            target.look_again()

    # -- connections

    def connected(self, window: int) -> None:
        """A connection stands; credits count anew."""
        self.window = window
        self._targets.clear()

    def disconnected(self) -> None:
        """The connection is lost: nothing that waits here gets there, and no answer comes."""
        peer = self.peer
        targets, self._targets = self._targets, {}
        for target in targets.values():
            for item in target.window.waiting:
                if isinstance(item, _Ask):
                    item.fail(peer.gone())
                else:
                    peer.dead_letter(target.path, item[4], item[0], NO_CONNECTION, peer.absence)
            target.look_again()
        asks, self.asks = self.asks, {}
        for ask in asks.values():
            ask.fail(peer.gone())

    def tick(self) -> None:
        """Forget the targets that have nothing on their way."""
        for key, target in list(self._targets.items()):
            if target.window.idle and not target.line:
                del self._targets[key]
            else:
                target.look_again()
