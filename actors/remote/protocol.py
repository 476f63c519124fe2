"""What is said between two nodes: the kinds of frames, their fields, and how they are read and written.

A frame is a msgpack array: its kind, then its fields. Messages are inside as bytes of the codec, so that one
that cannot be read harms nothing but itself. Additional fields of a newer version are ignored. A message's
cause, which is told while causes are traced, is such a field: whoever does not know it does without.
"""

from enum import IntEnum
from itertools import product
from typing import Any

import msgpack
from attrs import define, field, frozen

from .framing import HELLO_BYTES_MAX, ProtocolError, framed

VERSIONS = (1, 1)
"""The oldest and the newest version of this protocol that is spoken here."""

NAME_CHARACTERS_MAX = 253

BATCH_BYTES_MAX = 64 << 10
"""Consecutive messages from one sender to one target travel in a frame together, up to this size."""


class Kind(IntEnum):
    """What a frame says; the numbers are the wire format."""

    HELLO = 1
    BEGIN = 2
    WELCOME = 3
    GOODBYE = 4
    BEAT = 5
    TELLS = 10
    ASK = 11
    ANSWER = 12
    FAILURE = 13
    CANCEL = 14
    CREDIT = 15
    WATCH = 20
    UNWATCH = 21
    DOWN = 22
    ITEM = 30
    FINISH = 31
    GRANT = 32
    STOP = 33
    RELIABLE = 40
    ACK = 41
    END = 42
    ENDED = 43


_OPTIONAL_BYTES = (bytes, type(None))

FIELDS: dict[int, tuple[type | tuple[type, ...], ...]] = {
    Kind.HELLO: (int, int, str, str, bool, int, int, float),
    Kind.BEGIN: (bool,),
    Kind.WELCOME: (),
    Kind.GOODBYE: (str, str),
    Kind.BEAT: (),
    # target, sender, runs of messages: wire name, how many, their fields, and again
    Kind.TELLS: (str, str, list),
    # number, target, sender, message
    Kind.ASK: (int, str, str, bytes),
    Kind.ANSWER: (int, bytes),
    # number, exception; nil where the asker had given up before
    Kind.FAILURE: (int, _OPTIONAL_BYTES),
    Kind.CANCEL: (int,),
    # target, messages
    Kind.CREDIT: (str, int),
    # number, target
    Kind.WATCH: (int, str),
    Kind.UNWATCH: (int,),
    # number, incarnation, reason, final
    Kind.DOWN: (int, int, (str, type(None)), bool),
    # channel, sequence number, item
    Kind.ITEM: (int, int, bytes),
    # channel, sequence number of the last item, exception
    Kind.FINISH: (int, int, _OPTIONAL_BYTES),
    # channel, items
    Kind.GRANT: (int, int),
    Kind.STOP: (int,),
    # stream, sequence number, target, sender, message
    Kind.RELIABLE: (int, int, str, str, bytes),
    # stream, sequence number up to which everything is done
    Kind.ACK: (int, int),
    # stream that nothing more is sent through, and the answer to that
    Kind.END: (int,),
    Kind.ENDED: (int,),
}
"""The types of each kind's fields."""

_RIGHT = {
    kind: frozenset(product((int,), *(t if isinstance(t, tuple) else (t,) for t in types)))
    for kind, types in FIELDS.items()
}
"""The types of each kind's whole frames, in all right combinations: one look says whether one is right."""


class Farewell:
    """Codes of GOODBYE: why a side closes the connection."""

    CLOSING = "closing"
    """The node ends, in order."""
    VERSION = "version"
    """No version in common."""
    DUPLICATE = "duplicate"
    """The two are connected already, or the other one's attempt goes first."""
    QUARANTINED = "quarantined"
    """State was lost since the two last spoke: whoever is told this will not be heard again."""
    REFUSED = "refused"
    """The name is not the certificate's, is one's own, or there are too many peers."""
    PROTOCOL = "protocol"
    """What was said is not allowed."""


@frozen(order=True)
class Identity:
    """Who a node is: a name that stays, and an id that is new whenever its state is."""

    name: str
    incarnation: str

    def __str__(self) -> str:
        return f"{self.name} ({self.incarnation[:8]})"


@frozen
class Limits:
    """What a node accepts and how long it waits."""

    frame_bytes_max: int = 16 << 20
    """The largest frame that is read."""
    window: int = 1024
    """Messages of one peer that one actor here may have waiting; as many more wait at the sender."""
    silence_seconds_max: float = 5.0
    """A peer of whom nothing was heard for so long is lost. Signs of life are sent four times as often."""
    handshake_seconds_max: float = 5.0
    """How long a new connection may take to say who it is."""
    outgoing_bytes_max: int = 64 << 20
    """What waits for one connection to be written: a sender beyond that is told that it is full."""
    backoff_initial_seconds: float = 0.05
    """Wait before the next attempt to connect; doubles with each failure, with up to 20 % jitter."""
    backoff_max_seconds: float = 5.0
    forget_seconds: float = 600.0
    """A peer that stays away longer is forgotten; if there was unfinished business, it is in quarantine."""
    peers_max: int = 1024
    """Peers, and connections that have not said yet who they are."""

    def __attrs_post_init__(self) -> None:
        if self.window < 1 or self.frame_bytes_max < HELLO_BYTES_MAX or self.silence_seconds_max <= 0:
            raise ValueError(
                f"a window is at least 1, a frame at least {HELLO_BYTES_MAX} bytes, silence above 0: {self}"
            )


@frozen
class Hello:
    """The first frame of each side."""

    versions: tuple[int, int]
    identity: Identity
    known: bool
    """Whether the speaker, as the one who was called, has met the caller before."""
    frame_bytes_max: int
    window: int
    silence_seconds_max: float

    def frame(self) -> bytes:
        """As it is sent."""
        return pack(
            Kind.HELLO,
            *self.versions,
            self.identity.name,
            self.identity.incarnation,
            self.known,
            self.frame_bytes_max,
            self.window,
            float(self.silence_seconds_max),
        )

    @classmethod
    def read(cls, fields: list[Any]) -> "Hello":
        """From a parsed frame. Raises ProtocolError when a value is out of its range."""
        oldest, newest, name, incarnation, known, frame_bytes_max, window, silence = fields[1:9]
        if not is_node_name(name):
            raise ProtocolError(f"its name is no node's name: {name[:300]!r}")
        if not 0 < len(incarnation) <= NAME_CHARACTERS_MAX or not incarnation.isprintable():
            raise ProtocolError("its incarnation is empty, too long or not printable")
        if frame_bytes_max < HELLO_BYTES_MAX or window < 1 or not 0.0 < silence < 1e9:
            raise ProtocolError(f"its limits make no sense: {frame_bytes_max}, {window}, {silence}")
        identity = Identity(name, incarnation)
        return cls((oldest, newest), identity, known, frame_bytes_max, window, silence)


def is_node_name(name: str) -> bool:
    """Whether a node may be called so: printable, not too long, and without : and /."""
    return 0 < len(name) <= NAME_CHARACTERS_MAX and name.isprintable() and not set(name) & {":", "/"}


_packer = msgpack.Packer(buf_size=BATCH_BYTES_MAX)


def pack(*fields: Any) -> bytes:
    """A frame as it is sent: its kind and its fields."""
    body = _packer.pack(fields)
    assert isinstance(body, bytes)
    return framed(body)


Cause = tuple[str, str]
"""The story that a message belongs to, and its own step in it; see `understudy.actors.observe.causes`."""

CAUSE_CHARACTERS_MAX = 200
"""Of either part: a longer one stays on its node."""


def pack_caused(cause: Cause, *fields: Any) -> bytes:
    """A frame of one message that tells its cause, too: the field behind all others."""
    if max(map(len, cause)) > CAUSE_CHARACTERS_MAX:
        return pack(*fields)
    return pack(*fields, cause)


def cause_of(frame: list[Any]) -> Cause | None:
    """The cause in a frame of one message; None when it tells none, or what is none here."""
    position = len(FIELDS[frame[0]]) + 1
    cause = frame[position] if len(frame) > position else None
    if type(cause) is not list or len(cause) != 2:
        return None
    story, step = cause
    if type(story) is not str or type(step) is not str or max(len(story), len(step)) > CAUSE_CHARACTERS_MAX:
        return None
    return story, step


def _no_extension(code: int, _: bytes) -> Any:
    raise ValueError(f"extension {code} outside a message")


def parse(body: bytes) -> list[Any]:
    """A frame's kind and fields.

    Raises:
        ProtocolError: it is no frame of this protocol; says what is wrong.
    """
    try:
        frame = msgpack.unpackb(body, raw=False, ext_hook=_no_extension)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException, RecursionError) as error:
        raise ProtocolError(f"a frame is not msgpack: {error}") from error
    if not isinstance(frame, list) or not frame or type(frame[0]) is not int:
        raise ProtocolError("a frame is no array that begins with its kind")
    expected = FIELDS.get(frame[0])
    if expected is None:
        raise ProtocolError(f"a frame of unknown kind {frame[0]}")
    if tuple(map(type, frame[: len(expected) + 1])) in _RIGHT[frame[0]]:
        return frame
    if len(frame) <= len(expected):
        raise ProtocolError(f"{Kind(frame[0]).name} lacks fields")
    for position, kinds in enumerate(expected, 1):
        value = frame[position]
        if not isinstance(value, kinds) or (type(value) is bool and kinds is int):
            raise ProtocolError(f"{Kind(frame[0]).name}: field {position} is {type(value).__name__}")
    raise AssertionError(f"neither right nor wrong: {frame!r}")


@define(eq=False)
class Outgoing:
    """What waits for a connection to be written, in order; consecutive tells of a pair become one frame."""

    waiting_bytes: int = field(default=0, init=False)
    """Size of what waits, without the heads of tells."""
    _items: list[bytes] = field(factory=list, init=False)
    _runs: list[tuple[str, list[bytes]]] = field(factory=list, init=False)
    """Of a TELLS frame that is not closed yet, which comes behind `_items`: wire names, and the fields of
    consecutive messages of that name."""
    _run: list[bytes] = field(factory=list, init=False)
    """The last of them."""
    _name: str = field(default="", init=False)
    """Its wire name; "" while there is none."""
    _target: str = field(default="", init=False)
    _sender: str = field(default="", init=False)
    _batch_bytes: int = field(default=0, init=False)

    def __bool__(self) -> bool:
        return bool(self._items or self._name)

    def add(self, frame: bytes) -> None:
        """Queue a whole frame."""
        if self._name:
            self._close_batch()
        self._items.append(frame)
        self.waiting_bytes += len(frame)

    def tell(self, target: str, sender: str, name: str, fields: bytes) -> None:
        """Queue a message."""
        size = len(fields)
        if (
            name != self._name
            or target != self._target
            or sender != self._sender
            or self._batch_bytes + size > BATCH_BYTES_MAX
        ):
            self._begin_run(target, sender, name, size)
        self._run.append(fields)
        self._batch_bytes += size
        self.waiting_bytes += size

    def _begin_run(self, target: str, sender: str, name: str, size: int) -> None:
        other = target != self._target or sender != self._sender
        if self._name and (other or self._batch_bytes + size > BATCH_BYTES_MAX):
            self._close_batch()
        self._target, self._sender, self._name = target, sender, name
        self._run = []
        self._runs.append((name, self._run))
        self._batch_bytes += len(name)

    def _close_batch(self) -> None:
        runs: list[Any] = []
        for name, messages in self._runs:
            runs += (name, len(messages), b"".join(messages))
        self._items.append(pack(Kind.TELLS, self._target, self._sender, runs))
        self._runs.clear()
        self._name = ""
        self._batch_bytes = 0

    def take(self) -> bytes:
        """Everything that waits, as bytes of the stream."""
        if self._name:
            self._close_batch()
        data = b"".join(self._items)
        self._items.clear()
        self.waiting_bytes = 0
        return data
