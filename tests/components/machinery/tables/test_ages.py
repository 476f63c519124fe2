"""How long things took, in words that a human reads at a glance."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.machinery.tables.ages import age, human_duration, microseconds, parse_time

SECOND, MINUTE, HOUR, DAY = 1, 60, 3600, 86400
YEAR = 365 * DAY


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-2, "<invalid>"),
        (-1.999, "0s"),
        (-0.001, "0s"),
        (0, "0s"),
        (0.999, "0s"),
        (119.9, "119s"),
        (2 * MINUTE, "2m"),
        (2 * MINUTE + 1, "2m1s"),
        (10 * MINUTE - 1, "9m59s"),
        (10 * MINUTE + 59, "10m"),
        (3 * HOUR - 1, "179m"),
        (3 * HOUR, "3h"),
        (3 * HOUR + 61, "3h1m"),
        (8 * HOUR - 1, "7h59m"),
        (8 * HOUR + 59 * MINUTE, "8h"),
        (2 * DAY - 1, "47h"),
        (2 * DAY, "2d"),
        (2 * DAY + 2 * HOUR, "2d2h"),
        (8 * DAY - 1, "7d23h"),
        (8 * DAY + 23 * HOUR, "8d"),
        (2 * YEAR - 1, "729d"),
        (2 * YEAR, "2y"),
        (2 * YEAR + 3 * DAY, "2y3d"),
        (8 * YEAR - 1, "7y364d"),
        (8 * YEAR + 100 * DAY, "8y"),
    ],
)
def test_two_units_at_most(seconds: float, text: str) -> None:
    assert human_duration(round(seconds * 1_000_000)) == text


UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "y": YEAR}


@given(st.integers(min_value=0, max_value=20 * YEAR))
def test_what_is_left_out_is_less_than_a_unit_of_what_is_shown(seconds: int) -> None:
    text = human_duration(seconds * 1_000_000)
    shown, number, smallest = 0, "", 0
    for character in text:
        if character.isdigit():
            number += character
        else:
            smallest = UNITS[character]
            shown, number = shown + int(number) * smallest, ""
    # "2h" stands for 2h0m: the unit that was not worth showing is at most the next smaller one's whole.
    assert 0 <= seconds - shown < max(smallest, 1)


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))
def test_times_are_read_exactly(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC)
    assert parse_time(moment.isoformat(timespec="microseconds") + "Z") == microseconds(aware)
    shifted = aware + timedelta(hours=2)
    text = shifted.replace(tzinfo=None).isoformat(timespec="microseconds") + "+02:00"
    assert parse_time(text) == microseconds(aware)


@pytest.mark.parametrize(
    "text",
    ["", "notadate", "2026-11-20", "2026-11-20T10:00:00", "2026-11-20 10:00:00Z", "2026-13-20T10:00:00Z"],
)
def test_anything_else_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_time(text)


def test_no_time_is_unknown() -> None:
    assert age(None, 0) == age("", 0) == "<unknown>"
    assert age("1970-01-01T00:00:00Z", 66_000_000) == "66s"
