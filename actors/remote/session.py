"""One connection's side of the protocol: handshake, stages, signs of life. A pure state machine.

The handshake takes four frames, so that two nodes that call each other at once end with one connection, and
neither believes in one that the other has refused:

    caller                     called
    HELLO  who I am        ->
                           <-  HELLO    who I am, and whether I know you from before
    BEGIN  do we resume    ->
                           <-  WELCOME

Bytes, frames and the time go in; frames and bytes come out. What a HELLO means (is this peer welcome?) is
the node's decision: it calls `answer`, `begin`, `welcome` or `goodbye`.
"""

from enum import Enum
from typing import Any

from attrs import define, field

from .framing import HELLO_BYTES_MAX, PREAMBLE, FrameDecoder, ProtocolError
from .protocol import VERSIONS, Farewell, Hello, Identity, Kind, Limits, Outgoing, pack, parse

BEATS_PER_SILENCE = 4
"""Signs of life within the longest silence that is borne."""


class Stage(Enum):
    """How far a connection is."""

    GREETING = "greeting"
    """Waiting for the other side's HELLO."""
    CALLED = "called"
    """Both have said HELLO; waiting for the caller's BEGIN."""
    CALLING = "calling"
    """BEGIN was sent; waiting for WELCOME."""
    ESTABLISHED = "established"
    CLOSED = "closed"
    """GOODBYE was said or heard: nothing more is read."""


_ALLOWED: dict[Stage, frozenset[int]] = {
    Stage.GREETING: frozenset({Kind.HELLO, Kind.GOODBYE}),
    Stage.CALLED: frozenset({Kind.BEGIN, Kind.GOODBYE}),
    Stage.CALLING: frozenset({Kind.WELCOME, Kind.GOODBYE}),
}
_HANDSHAKE = frozenset({Kind.HELLO, Kind.BEGIN, Kind.WELCOME})


@define(eq=False)
class Session:
    """The state of one connection."""

    me: Identity
    limits: Limits
    caller: bool
    """Whether this side called the other."""
    now: float
    """Seconds; when it began."""
    stage: Stage = field(default=Stage.GREETING, init=False)
    hello: Hello | None = field(default=None, init=False)
    """What the other side said of itself."""
    outgoing: Outgoing = field(factory=Outgoing, init=False)
    farewell: tuple[str, str] | None = field(default=None, init=False)
    """Code and text of the GOODBYE that was heard."""
    _decoder: FrameDecoder = field(factory=FrameDecoder, init=False)
    _began: float = field(init=False)
    _heard: float = field(init=False)
    _spoke: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._began = self._heard = self._spoke = self.now
        if self.caller:
            self._greet(known=False)

    def _greet(self, known: bool) -> None:
        limits = self.limits
        hello = Hello(
            VERSIONS, self.me, known, limits.frame_bytes_max, limits.window, limits.silence_seconds_max
        )
        self.outgoing.add(PREAMBLE)
        self.outgoing.add(hello.frame())

    @property
    def other(self) -> Identity:
        """Who the other side is; it has said HELLO."""
        assert self.hello is not None, "nothing was heard yet"
        return self.hello.identity

    @property
    def frame_bytes_max(self) -> int:
        """The largest body that the other side reads."""
        return HELLO_BYTES_MAX if self.hello is None else self.hello.frame_bytes_max

    # -- what comes in

    def feed(self, data: bytes, now: float) -> None:
        """Take in bytes of the stream."""
        self._heard = now
        self._decoder.feed(data)

    def next_frame(self) -> list[Any] | None:
        """The next frame, or None until more is fed. Signs of life are kept here.

        Raises:
            ProtocolError: what came is not what this stage allows.
        """
        while self.stage is not Stage.CLOSED:
            body = self._decoder.next_body()
            if body is None:
                return None
            frame = parse(body)
            kind = frame[0]
            if self.stage is Stage.ESTABLISHED:
                if kind == Kind.BEAT:
                    continue
                if kind in _HANDSHAKE:
                    raise ProtocolError(f"{Kind(kind).name} after the handshake")
            elif kind not in _ALLOWED[self.stage]:
                raise ProtocolError(f"{Kind(kind).name} while {self.stage.value}")
            self._note(kind, frame)
            return frame
        return None

    def _note(self, kind: int, frame: list[Any]) -> None:
        if kind == Kind.GOODBYE:
            self.farewell = (frame[1], frame[2])
            self.stage = Stage.CLOSED
        elif kind == Kind.HELLO:
            hello = Hello.read(frame)
            if max(hello.versions[0], VERSIONS[0]) > min(hello.versions[1], VERSIONS[1]):
                text = f"it speaks versions {hello.versions}, and here is spoken {VERSIONS}"
                self.goodbye(Farewell.VERSION, text)
                raise ProtocolError(text)
            self.hello = hello
        elif kind == Kind.WELCOME:
            self._establish()

    # -- what the node decides

    def answer(self, known: bool) -> None:
        """To a caller's HELLO: one's own, and whether there is state from earlier connections."""
        assert not self.caller and self.stage is Stage.GREETING and self.hello is not None, self.stage
        self._greet(known)
        self.stage = Stage.CALLED

    def begin(self, resume: bool) -> None:
        """As the caller: go on, with or without state from before."""
        assert self.caller and self.stage is Stage.GREETING and self.hello is not None, self.stage
        self.outgoing.add(pack(Kind.BEGIN, resume))
        self.stage = Stage.CALLING

    def welcome(self) -> None:
        """To a caller's BEGIN: the connection stands."""
        assert not self.caller and self.stage is Stage.CALLED, self.stage
        self.outgoing.add(pack(Kind.WELCOME))
        self._establish()

    def _establish(self) -> None:
        self.stage = Stage.ESTABLISHED
        self._decoder.frame_bytes_max = self.limits.frame_bytes_max

    def goodbye(self, code: str, text: str) -> None:
        """Close: the owner writes what is waiting, and then ends the connection."""
        if self.stage is not Stage.CLOSED:
            if self.stage is Stage.GREETING and not self.caller:
                self.outgoing.add(PREAMBLE)
            self.outgoing.add(pack(Kind.GOODBYE, code, text))
            self.stage = Stage.CLOSED

    # -- time

    def spoke(self, now: float) -> None:
        """Bytes were written."""
        self._spoke = now

    def tick_in(self, now: float) -> float:
        """Seconds until `tick` wants to be called."""
        if self.stage in (Stage.ESTABLISHED, Stage.CLOSED):
            return self._beat_seconds
        # The handshake's deadline is its own: silence may be permitted for much longer.
        return min(self._beat_seconds, max(0.0, self._handshake_until - now))

    @property
    def _handshake_until(self) -> float:
        return self._began + self.limits.handshake_seconds_max

    @property
    def _beat_seconds(self) -> float:
        bound = self.limits.silence_seconds_max
        if self.hello is not None:
            bound = min(bound, self.hello.silence_seconds_max)
        return bound / BEATS_PER_SILENCE

    def tick(self, now: float) -> str | None:
        """Send a sign of life when one is due; returns why the connection is lost, if it is."""
        limits = self.limits
        if self.stage is Stage.ESTABLISHED:
            if now - self._heard > limits.silence_seconds_max:
                return f"nothing was heard for {now - self._heard:.3g} s"
            if now - self._spoke >= self._beat_seconds * 0.9 and not self.outgoing:
                self.outgoing.add(pack(Kind.BEAT))
        elif now >= self._handshake_until:
            return f"no handshake within {limits.handshake_seconds_max:g} s"
        return None
