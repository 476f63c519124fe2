"""Following a source that may break: what a supervised channel knows, and what it does next.

A *source* has a history of items and hands it out from any position that it still remembers. Whoever follows
it keeps one *position*: everything up to there was consumed. A position is opaque; its order is the source's.

    RESTARTING --restarted--> CONNECTING --opened--> LIVE --arrived--> LIVE
        ^                         |                   |
        |                         +------ broke ------+
        |                                  |
        +------ waited --- BACKING_OFF <---+        (or at once, or ENDED)
                              |
        CONNECTING <-- waited +

- *Resume*: a connection that ended is opened again from the position. An item whose position does not come
  after it was consumed before, or says nothing new: it is skipped. So each item is consumed once and in
  order, as long as the source hands out everything behind the position it was asked for.
- *Restart*: the source no longer remembers the position (or there is none yet). A snapshot takes the place of
  what was missed, and the consumer is told: between two notices nothing is missing.
- *Back-off*: what fails is tried again after a wait that doubles up to a limit. A connection that moved the
  position, or lived for a while, was good: the next failure is the first one, and if it was closed as planned
  it is resumed at once. A restart is made at once if the position has moved since the last one. So no source,
  however it behaves, makes its follower spin.

The order of the calls that a driver makes is checked; times are its own, in seconds on a forward clock.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen

from .message import Refusal, message
from .overflow import MailboxFull

P = TypeVar("P")


class Phase(Enum):
    """What a follower does."""

    RESTARTING = "restarting"
    """Asks for a snapshot."""
    CONNECTING = "connecting"
    """Opens the source at its position."""
    LIVE = "live"
    """Takes items."""
    BACKING_OFF = "backing off"
    """Waits before it tries again."""
    ENDED = "ended"


class Verdict(Enum):
    """What follows from the end of a connection, or from a failure to open it or to get a snapshot."""

    RESUME = "resume"
    """The source may come back: go on from the position."""
    RESTART = "restart"
    """The source no longer remembers the position: a snapshot is needed."""
    END = "end"
    """Nothing can be done about it here."""


@message("channel.position_gone")
@frozen
class PositionGone(Refusal):
    """A source no longer remembers what comes after the position that was asked for."""

    position: str
    """As it was asked for, in words."""

    def __str__(self) -> str:
        return f"what comes after {self.position} is no longer known"


@message("channel.source_silent")
@frozen
class SourceSilent(Refusal):
    """A source did not answer, or did not send what it promised to send, in time: it counts as dead."""

    label: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.label}: nothing came for {self.seconds:g} s"


def verdict_on(error: Exception) -> Verdict:
    """The usual one: refusals and full mailboxes pass, a position is gone when the source says so.

    Anything else (an item that cannot be decoded, a mistake in the source's adapter) ends the following.
    """
    if isinstance(error, PositionGone):
        return Verdict.RESTART
    return Verdict.RESUME if isinstance(error, Refusal | MailboxFull) else Verdict.END


def is_greater(position: Any, than: Any) -> bool:
    """The order of positions that are numbers."""
    return bool(position > than)


@frozen
class Patience:
    """How long a follower waits for what."""

    open_seconds: float = 10.0
    """For a connection to be opened."""
    snapshot_seconds: float = 60.0
    silence_seconds: float | None = None
    """For the next item, where the source promises one so often (a heartbeat, a bookmark); None: for ever."""
    settled_seconds: float = 1.0
    """A connection that lived so long was good, even if nothing came."""
    backoff_initial_seconds: float = 0.05
    backoff_max_seconds: float = 5.0
    backoff_jitter: float = 0.2
    """A wait is drawn between its length and this part more."""

    def backoff_seconds(self, failures: int, jitter: float) -> float:
        """The wait after so many failures in a row; `jitter` is drawn in [0, 1)."""
        assert failures >= 1, failures
        base = min(self.backoff_max_seconds, self.backoff_initial_seconds * 2.0 ** min(failures - 1, 30))
        return base * (1.0 + self.backoff_jitter * jitter)


@frozen
class FollowingStatistics(Generic[P]):
    """What a follower has been through."""

    phase: Phase
    position: P | None
    """Everything up to here was consumed; None: nothing yet."""
    items: int
    """Handed to the consumer."""
    skipped: int
    """Not handed on: their position did not come after the present one."""
    resumes: int
    """Connections that went on from where another one had ended."""
    restarts: int
    """Snapshots, the first one included."""
    failures: int
    """In a row, up to now."""
    cause: Exception | None
    """Why the last connection or attempt ended; None: as planned, or none has."""


@define(eq=False)
class Following(Generic[P]):
    """The state of one follower. A driver does what `phase` says and reports how that went."""

    patience: Patience
    position: P | None = None
    """Where to begin; None: with a snapshot."""
    is_after: Callable[[P, P], bool] | None = is_greater
    """Whether the first position comes after the second; None: they cannot be compared, nothing is skipped,
    and the consumer knows an item that comes again."""
    phase: Phase = field(init=False)
    wait_seconds: float = field(default=0.0, init=False)
    """While backing off: for how long."""
    cause: Exception | None = field(default=None, init=False)
    """Why the last connection or attempt ended."""
    forgotten: Exception | None = field(default=None, init=False)
    """While restarting: what the source said; None: this is the beginning."""
    failures: int = field(default=0, init=False)
    items: int = field(default=0, init=False)
    skipped: int = field(default=0, init=False)
    resumes: int = field(default=0, init=False)
    restarts: int = field(default=0, init=False)
    _next: Phase = field(default=Phase.ENDED, init=False)
    """What follows the wait."""
    _fresh: bool = field(default=True, init=False)
    """No connection was opened since the beginning, or since the last restart."""
    _in_vain: bool = field(default=False, init=False)
    """The position has not moved since the last restart."""
    _good: bool = field(default=False, init=False)
    """This connection has moved it."""
    _opened_at_seconds: float | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.phase = Phase.RESTARTING if self.position is None else Phase.CONNECTING

    def restarted(self, position: P) -> None:
        """A snapshot has come, which holds everything up to `position`."""
        assert self.phase is Phase.RESTARTING, self.phase
        self.position = position
        self.restarts += 1
        self.forgotten = None
        self._fresh = self._in_vain = True
        self.phase = Phase.CONNECTING

    def opened(self, now_seconds: float) -> None:
        """The source sends what comes after the position."""
        assert self.phase is Phase.CONNECTING, self.phase
        if not self._fresh:
            self.resumes += 1
        self._fresh = self._good = False
        self._opened_at_seconds = now_seconds
        self.phase = Phase.LIVE

    def arrived(self, position: P | None) -> bool:
        """An item has come; whether it is to be handed on.

        Everything up to `position` is consumed with it; None: with this item nothing is complete yet.
        """
        assert self.phase is Phase.LIVE, self.phase
        before = self.position
        assert before is not None, "opened without a position"
        if position is not None:
            if self.is_after is not None and not self.is_after(position, before):
                self.skipped += 1
                return False
            if position != before:
                self.position = position
                self._good, self._in_vain, self.failures = True, False, 0
        self.items += 1
        return True

    def broke(self, error: Exception | None, verdict: Verdict, now_seconds: float, jitter: float) -> None:
        """The connection has ended, or what was tried has failed; None: the source closed it as planned.

        `jitter` is drawn in [0, 1). Then `phase` says what follows.
        """
        assert self.phase not in (Phase.BACKING_OFF, Phase.ENDED), self.phase
        was, self.cause = self.phase, error
        opened_at, self._opened_at_seconds = self._opened_at_seconds, None
        if verdict is Verdict.END:
            self.phase = Phase.ENDED
            return
        good = opened_at is not None and (
            self._good or now_seconds - opened_at >= self.patience.settled_seconds
        )
        if good:
            self.failures, self._in_vain = 0, False
        if verdict is Verdict.RESTART:
            self.forgotten = error
        restarts = verdict is Verdict.RESTART or was is Phase.RESTARTING
        then = Phase.RESTARTING if restarts else Phase.CONNECTING
        if (good and error is None) or (verdict is Verdict.RESTART and was is not then and not self._in_vain):
            self.phase = then
            return
        self.failures += 1
        self.wait_seconds = self.patience.backoff_seconds(self.failures, jitter)
        self._next, self.phase = then, Phase.BACKING_OFF

    def waited(self) -> None:
        """The wait is over."""
        assert self.phase is Phase.BACKING_OFF, self.phase
        self.phase = self._next

    def statistics(self) -> FollowingStatistics[P]:
        return FollowingStatistics(
            self.phase,
            self.position,
            self.items,
            self.skipped,
            self.resumes,
            self.restarts,
            self.failures,
            self.cause,
        )
