"""Supervision policies: what follows when an actor's incarnation ends, and how it is stopped."""

from enum import Enum

from attrs import frozen


class Restart(Enum):
    """When a new incarnation is started."""

    PERMANENT = "permanent"
    """Always, unless it was stopped from outside."""
    TRANSIENT = "transient"
    """After a crash only."""
    TEMPORARY = "temporary"
    """Never."""


@frozen
class Supervision:
    """A restart policy with its intensity limit and back-off, and the way to stop."""

    restart: Restart = Restart.PERMANENT
    restarts_max: int = 5
    """More crashes than this within `within_seconds` escalate: the parent crashes."""
    within_seconds: float = 30.0
    backoff_initial_seconds: float = 0.05
    """Wait before the first restart; doubles with every crash in the window, with up to 20 % jitter."""
    backoff_max_seconds: float = 5.0
    stop_seconds: float = 1.0
    """How long it may go on when it is to stop; then it is cancelled."""
    drains: bool = False
    """When it is to stop it first handles what it has accepted, and takes nothing new meanwhile."""

    def backoff_seconds(self, crashes: int, jitter: float) -> float:
        """How long to wait after the given number of crashes in the window; `jitter` is in [0, 1)."""
        assert crashes >= 1, crashes
        base = min(self.backoff_max_seconds, self.backoff_initial_seconds * 2.0 ** min(crashes - 1, 30))
        return base * (1.0 + 0.2 * jitter)


PERMANENT = Supervision()
TRANSIENT = Supervision(Restart.TRANSIENT)
TEMPORARY = Supervision(Restart.TEMPORARY)


class RestartIntensityExceeded(Exception):
    """An actor crashed more often than its supervision allows; raised in its parent."""
