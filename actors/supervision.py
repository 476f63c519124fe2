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

    def __attrs_post_init__(self) -> None:
        check_intensity(self.restarts_max, self.within_seconds)
        waits = (self.backoff_initial_seconds, self.backoff_max_seconds, self.stop_seconds)
        if min(waits) < 0.0:
            raise ValueError(f"a wait is not below 0 s: {self}")

    def backoff_seconds(self, crashes: int, jitter: float) -> float:
        """How long to wait after the given number of crashes in the window; `jitter` is in [0, 1)."""
        assert crashes >= 1, crashes
        base = min(self.backoff_max_seconds, self.backoff_initial_seconds * 2.0 ** min(crashes - 1, 30))
        return base * (1.0 + 0.2 * jitter)


def check_intensity(restarts_max: int, within_seconds: float) -> None:
    """Raises ValueError where no number of restarts in no time is meant."""
    if restarts_max < 0 or within_seconds <= 0.0:
        raise ValueError(
            f"at most {restarts_max} restarts within {within_seconds:g} s: "
            "the first is 0 or more, the second above 0"
        )


PERMANENT = Supervision()
TRANSIENT = Supervision(Restart.TRANSIENT)
TEMPORARY = Supervision(Restart.TEMPORARY)


class RestartIntensityExceeded(Exception):
    """An actor crashed more often than its supervision allows; raised in its parent."""
