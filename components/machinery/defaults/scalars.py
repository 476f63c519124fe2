"""Canonical texts of the scalars that the API rewrites: times and amounts of resources."""

import re
from datetime import UTC, datetime
from functools import lru_cache

from understudy.components.machinery.quantity import round_up

_whole_seconds = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ").fullmatch


@lru_cache(maxsize=8192)
def resource_quantity(text: str) -> str:
    """The canonical text of an amount of a resource, rounded up to a thousandth as resource lists are."""
    return round_up(text)


def canonical_time(text: str, *, microseconds: bool) -> str:
    """An RFC 3339 time in UTC, to the second, or to the microsecond with six digits.

    Raises ValueError when the text is not a time; decoding refuses such a body before.
    """
    if _whole_seconds(text) and not microseconds:
        return text
    moment = datetime.fromisoformat(_six_digits(text)).astimezone(UTC).replace(tzinfo=None)
    if microseconds:
        return moment.isoformat(timespec="microseconds") + "Z"
    return moment.isoformat(timespec="seconds") + "Z"


def _six_digits(text: str) -> str:
    """The time with at most six digits of a second's fraction, all that a datetime holds."""
    return re.sub(r"(\.\d{6})\d+", r"\1", text)
