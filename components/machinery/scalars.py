"""Scalars as a typed server reads them: ranges, quantities, times, bytes.

A converter takes a value, its place and the pass it belongs to; it returns the value as the server would
write it, or has the pass refuse it.
"""

import binascii
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
from attrs import define, field

# A place in the object: (the place above, the field name or index below it); None is the object itself.
Place = tuple["Place", str | int] | None
Converter = Callable[[Any, Place, "Pass"], Any]


@define
class Pass:
    """One walk over one object."""

    lenient: bool
    """Ill-typed values pass."""
    unknown: list[Place] = field(factory=list)

    def refuse(self, value: Any, place: Place, text: str = "") -> Any:
        """Refuse a value of the wrong type, or with `text` one of a wrong syntax."""
        if self.lenient:
            return value
        raise Mismatch(value, place, text)


class Mismatch(Exception):
    def __init__(self, value: Any, place: Place, text: str) -> None:
        super().__init__(value, place, text)
        self.value = value
        self.place = place
        self.text = text


def _integer(low: int, high: int) -> Converter:
    def convert(value: Any, place: Place, state: Pass) -> Any:
        if type(value) is int and low <= value <= high:
            return value
        return state.refuse(value, place)

    return convert


integer32 = _integer(-(2**31), 2**31 - 1)
integer64 = _integer(-(2**63), 2**63 - 1)


def _any(value: Any, place: Place, state: Pass) -> Any:
    return value


def _string(value: Any, place: Place, state: Pass) -> Any:
    return value if type(value) is str else state.refuse(value, place)


def _boolean(value: Any, place: Place, state: Pass) -> Any:
    return value if type(value) is bool else state.refuse(value, place)


def _number(value: Any, place: Place, state: Pass) -> Any:
    return value if type(value) is int or type(value) is float else state.refuse(value, place)


def _int_or_string(value: Any, place: Place, state: Pass) -> Any:
    return value if type(value) is str else integer32(value, place, state)


_QUANTITY = re.compile(
    r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?", re.ASCII
)


def _quantity(value: Any, place: Place, state: Pass) -> Any:
    if type(value) is int or type(value) is float:
        value = orjson.dumps(value).decode()
    if type(value) is not str:
        return state.refuse(value, place, "quantities must be a number or a string")
    text = value.strip()
    if _QUANTITY.fullmatch(text):
        return text
    pattern = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
    suffix_wrong = re.fullmatch(pattern, text, re.ASCII) is not None
    return state.refuse(
        value,
        place,
        "unable to parse quantity's suffix"
        if suffix_wrong
        else f"quantities must match the regular expression '{pattern}'",
    )


_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)


def moment(text: str) -> datetime | None:
    """An RFC 3339 time in UTC; None if it is none. Digits beyond microseconds are cut off."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    offset = timedelta(hours=int(match[9] or 0), minutes=int(match[10] or 0))
    zone = timezone(-offset if match[8] == "-" else offset) if match[8] else UTC
    try:
        local = datetime(
            year, month, day, hour, minute, second, int((match[7] or "0")[:6].ljust(6, "0")), zone
        )
        return local.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _time(value: Any, place: Place, state: Pass) -> Any:
    if type(value) is not str:
        return state.refuse(value, place)
    point = moment(value)
    if point is None:
        return state.refuse(
            value, place, f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse'
        )
    if len(value) == 20:
        return value
    return point.replace(tzinfo=None, microsecond=0).isoformat() + "Z"


def _micro_time(value: Any, place: Place, state: Pass) -> Any:
    if type(value) is not str:
        return state.refuse(value, place)
    point = moment(value)
    if point is None or len(value) < 27 or value[19] != "." or value[26].isdigit():
        layout = "2006-01-02T15:04:05.000000Z07:00"
        return state.refuse(value, place, f'parsing time "{value}" as "{layout}": cannot parse')
    return value if value[26] == "Z" else point.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _bytes(value: Any, place: Place, state: Pass) -> Any:
    if type(value) is not str:
        return state.refuse(value, place)
    text = value.replace("\n", "").replace("\r", "")
    try:
        content = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        wrong = re.search(r"[^A-Za-z0-9+/]", text)
        at = wrong.start() if wrong else len(text)
        return state.refuse(value, place, f"illegal base64 data at input byte {at}")
    return binascii.b2a_base64(content, newline=False).decode()


SCALARS: dict[str, Converter] = {
    "any": _any,
    "string": _string,
    "duration": _string,
    "boolean": _boolean,
    "number": _number,
    "int-or-string": _int_or_string,
    "quantity": _quantity,
    "time": _time,
    "micro-time": _micro_time,
    "bytes": _bytes,
}
