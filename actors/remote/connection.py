"""A connection at work: one task that reads, one that writes and alone owns the stream's sending side.

Whoever has something to say only queues it, without waiting, so a cancelled sender cannot cut a frame.
The reader hands each frame to a synchronous receiver, so no mailbox can hold it up.
"""

import logging
from collections.abc import Callable
from typing import Any

import trio
from attrs import define, field

from understudy.actors.dispatch import Timer
from understudy.actors.world import Nursery, Signal, World

from .framing import ProtocolError
from .link import Link, LinkLost
from .protocol import Farewell, Outgoing
from .session import Session, Stage

SEND_NOW_BYTES = 8 << 10
"""So much is written in the middle of a burst, so that the other side works on it meanwhile."""

log = logging.getLogger("understudy.remote")

FLUSH_SECONDS = 1.0
"""How long a connection that is closed in order may take to write what waits."""


@define(eq=False)
class Connection:
    """One stream to another node, from its first byte to its last."""

    world: World
    link: Link
    session: Session
    receive: Callable[["Connection", list[Any]], None]
    """Called with every frame; the node's during the handshake, then the peer's."""
    on_tick: Callable[[], None] | None = field(default=None, init=False)
    """Called as often as signs of life are due."""
    reason: str = field(default="", init=False)
    """Why it ended."""
    outgoing: Outgoing = field(init=False)
    _signal: Signal = field(init=False)
    _writing: bool = field(default=True, init=False)
    """The writer will look again by itself. So it is until the link is open."""
    _sending: bool = field(default=True, init=False)
    """Nobody but the writer may send: it is at it, or has to wait before. So it is until the link is open."""
    at_once: bool = field(default=True, init=False)
    """The next ask may be handled, and the next urgent frame sent, within the reader's step: once for every
    chunk that was read, so that one is answered at once, and many are shared out and written together."""
    _nursery: Nursery | None = field(default=None, init=False)
    _timer: Timer | None = field(default=None, init=False)
    _flush_timer: Timer | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.outgoing = self.session.outgoing
        self._signal = self.world.signal("remote writer")

    def send(self, frame: bytes) -> None:
        """Queue a frame."""
        self.outgoing.add(frame)
        self.flush()

    def flush(self) -> None:
        """Have written what waits."""
        if not self._writing:
            self._writing = True
            self._signal.set()

    def send_urgently(self, frame: bytes) -> None:
        """Queue a frame that somebody waits for."""
        self.outgoing.add(frame)
        if self.at_once and not self._sending:
            self.at_once = False
            self._send_now()
        else:
            self.flush()

    def tell(self, target: str, sender: str, name: str, fields: bytes) -> None:
        """Queue a message."""
        outgoing = self.outgoing
        outgoing.tell(target, sender, name, fields)
        if outgoing.waiting_bytes >= SEND_NOW_BYTES and not self._sending:
            self._send_now()
        elif not self._writing:
            self.flush()

    def _send_now(self) -> None:
        """Write as much as the stream takes without waiting; the writer is not at it."""
        outgoing = self.outgoing
        data = outgoing.take()
        try:
            sent = self.link.send_now(data)
        except LinkLost as error:
            self.lose(str(error))
            return
        # Not noted as speech: a sign of life too many costs less than a look at the clock every time.
        if sent < len(data):
            outgoing.add(data[sent:])
            # The stream is full: only the writer can wait for it.
            self._sending = True
            self.flush()

    def close(self, code: str, text: str) -> None:
        """Say goodbye, write what waits, and end."""
        if not self.reason:
            self.reason = text
            self.session.goodbye(code, text)
            self.flush()
            self._flush_timer = self.world.call_later(FLUSH_SECONDS, self._end, "remote flush")

    def lose(self, reason: str) -> None:
        """End at once."""
        if not self.reason:
            self.reason = reason
        self._end()

    def _end(self) -> None:
        if self._nursery is not None:
            self._nursery.cancel()

    async def run(self) -> None:
        """Read and write until it ends; `reason` says why."""
        try:
            async with self.world.nursery() as self._nursery:
                self._nursery.start_soon(self._read, name="remote reader")
                self._arm()
        finally:
            self._nursery = None
            self.reason = self.reason or "cancelled"
            for timer in (self._timer, self._flush_timer):
                if timer is not None:
                    timer.cancel()
            self.link.close()

    def _arm(self) -> None:
        seconds = self.session.tick_in(self.world.monotonic())
        self._timer = self.world.call_later(seconds, self._tick, "remote tick")

    def _tick(self) -> None:
        lost = self.session.tick(self.world.monotonic())
        if lost is not None:
            if self.session.stage is not Stage.ESTABLISHED:
                log.warning("a connection that does not say who it is is closed: %s", lost)
            self.lose(lost)
            return
        if self.on_tick is not None:
            self.on_tick()
        if self.outgoing:
            self.flush()
        self._arm()

    @trio.lowlevel.enable_ki_protection
    async def _read(self) -> None:
        session, link, world = self.session, self.link, self.world
        try:
            await link.open()
            assert self._nursery is not None
            self._nursery.start_soon(self._write, name="remote writer")
            while session.stage is not Stage.CLOSED:
                data = await link.receive()
                if not data:
                    self.lose("the other side closed the stream")
                    return
                self.at_once = True
                session.feed(data, world.monotonic())
                while (frame := session.next_frame()) is not None:
                    self.receive(self, frame)
        except LinkLost as error:
            self.lose(str(error))
        except ProtocolError as error:
            log.warning("a connection from outside the protocol is closed: %s", error)
            self.reason = self.reason or f"outside the protocol: {error}"
            session.goodbye(Farewell.PROTOCOL, str(error))
            self.flush()
            self._flush_timer = self._flush_timer or world.call_later(
                FLUSH_SECONDS, self._end, "remote flush"
            )
        else:
            if session.farewell is not None:
                self.lose(": ".join(session.farewell))

    async def _write(self) -> None:
        session, outgoing = self.session, self.outgoing
        try:
            while True:
                if outgoing:
                    self._sending = True
                    await self.link.send(outgoing.take())
                    session.spoke(self.world.monotonic())
                self._sending = False
                if outgoing:
                    continue
                if session.stage is Stage.CLOSED:
                    self._end()
                    return
                self._writing = False
                await self._signal.wait()
        except LinkLost as error:
            self.lose(str(error))
