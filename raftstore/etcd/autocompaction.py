"""When a store forgets its past by itself: etcd's two modes, without I/O.

- `revision`: keep so many revisions; looked at every five minutes.
- `periodic`: keep what is younger than a time; the revision is noted ten times per period (per hour, for
  longer ones), and compacted up to the note that is old enough once per period (per hour).
"""

import re
from collections import deque
from typing import Final, Literal, Protocol

from attrs import define, field

Mode = Literal["revision", "periodic"]

REVISION_CHECK_SECONDS: Final = 300.0
HOUR_SECONDS: Final = 3600.0
NOTES_PER_PERIOD: Final = 10
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d*)?)(h|m|s|ms)")
_UNIT_SECONDS: Final = {"h": HOUR_SECONDS, "m": 60.0, "s": 1.0, "ms": 1e-3}


class Compactor(Protocol):
    look_seconds: float
    """How often `look` is to be called."""

    def look(self, now_s: float, revision: int) -> int:
        """The revision to compact up to, now that the store is at `revision`; 0 for none."""


@define
class RevisionCompactor:
    keep_revisions: int
    look_seconds: float = REVISION_CHECK_SECONDS
    _last: int = 0

    def look(self, now_s: float, revision: int) -> int:
        target = revision - self.keep_revisions
        if target <= self._last:
            return 0
        self._last = target
        return target


@define
class PeriodicCompactor:
    keep_seconds: float
    look_seconds: float = field(init=False)
    _notes: deque[tuple[float, int]] = field(factory=deque)
    """(time, revision), oldest first."""
    _due_s: float = 0.0
    _last: int = 0

    def __attrs_post_init__(self) -> None:
        self.look_seconds = min(self.keep_seconds, HOUR_SECONDS) / NOTES_PER_PERIOD

    def look(self, now_s: float, revision: int) -> int:
        self._notes.append((now_s, revision))
        target = 0
        # Half an interval of grace: timers are late by a little.
        while self._notes[0][0] <= now_s - self.keep_seconds + self.look_seconds / 2:
            target = self._notes.popleft()[1]
        if not target or now_s < self._due_s:
            return 0
        self._due_s = now_s + min(self.keep_seconds, HOUR_SECONDS) - self.look_seconds / 2
        if target <= self._last:
            return 0
        self._last = target
        return target


def parse_duration(text: str) -> float:
    """Seconds of a duration as Go writes it (`1h30m`, `90s`). Raises ValueError."""
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration such as 1h30m or 90s")
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)


def compactor(mode: str, retention: str) -> Compactor | None:
    """What `--auto-compaction-mode` and `--auto-compaction-retention` ask for; None: nothing, which is the
    default. A bare number is hours in periodic mode.

    Raises:
        ValueError: neither mode, or no such retention.
    """
    if mode not in ("periodic", "revision"):
        raise ValueError(f"{mode!r} is neither periodic nor revision")
    if retention.isdecimal():
        number = int(retention)
        if not number:
            return None
        return RevisionCompactor(number) if mode == "revision" else PeriodicCompactor(number * HOUR_SECONDS)
    if mode == "revision":
        raise ValueError(f"{retention!r} is no number of revisions")
    seconds = parse_duration(retention)
    return PeriodicCompactor(seconds) if seconds else None
