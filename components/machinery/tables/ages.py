"""Ages and durations as `kubectl get` shows them.

A human wants two significant units at most: seconds up to two minutes, minutes with seconds up to ten
minutes, and so on up to years. The thresholds are those of apimachinery's `duration.HumanDuration`; the
tests state them as a table. Times are integers of microseconds since the epoch (UTC), so that no
rounding of floats can move an age across a second.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

UNKNOWN = "<unknown>"
INVALID = "<invalid>"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.,]\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_SECOND_US = 1_000_000


def microseconds(moment: datetime) -> int:
    """The moment as whole microseconds since the epoch; `moment` must know its time zone."""
    assert moment.tzinfo is not None, f"a time without a zone: {moment!r}"
    return (moment - _EPOCH) // _MICROSECOND


@lru_cache(maxsize=65536)
def parse_time(text: str) -> int:
    """Microseconds since the epoch of an RFC 3339 time; raises ValueError for anything else."""
    if not _RFC3339.fullmatch(text):
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    return microseconds(datetime.fromisoformat(text))


def human_duration(duration_us: int) -> str:
    """A duration in microseconds as a human reads it: `66s`, `5m6s`, `25h`, `2y10d`.

    Clocks differ by a little, so up to a second of negative time counts as none; more is `<invalid>`.
    """
    if duration_us < 0:
        return INVALID if duration_us <= -2 * _SECOND_US else "0s"
    seconds = duration_us // _SECOND_US
    if seconds < 120:
        return f"{seconds}s"
    minutes = seconds // 60
    if minutes < 10:
        return _two_units(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    hours = minutes // 60
    if hours < 8:
        return _two_units(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if days < 8:
        return _two_units(days, "d", hours % 24, "h")
    if days < 2 * 365:
        return f"{days}d"
    years = days // 365
    if years < 8:
        return _two_units(years, "y", days % 365, "d")
    return f"{years}y"


def age(timestamp: str | None, now_us: int) -> str:
    """How long ago `timestamp` was, or `<unknown>` when there is none."""
    if not timestamp:
        return UNKNOWN
    return human_duration(now_us - parse_time(timestamp))


def _two_units(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"
