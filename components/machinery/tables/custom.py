"""Rows of custom resources: the columns that their definition asks for, each a JSONPath and a type.

A cell is the first value at the path. It is null when there is none or when it is not of the column's
type, except that a column of strings prints whatever it finds.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import orjson

from understudy.components.machinery.tables.ages import INVALID, UNKNOWN, human_duration, parse_time
from understudy.components.machinery.tables.json_path import JsonPath, parse
from understudy.components.machinery.tables.printer import NAME, Column, Object, Printer, name_of

_DEFAULT_COLUMNS: Sequence[Object] = (
    {
        "name": "Age",
        "type": "date",
        "description": "Time since the object was created.",
        "jsonPath": ".metadata.creationTimestamp",
    },
)

_Cell = Callable[[Any, int], Any]


def custom_printer(additional_printer_columns: Sequence[Object] | None) -> Printer:
    """The printer of a custom resource version; without columns of its own it shows name and age.

    `additional_printer_columns` is that of the version in `spec.versions`. Raises JsonPathError for a
    column whose path cannot be read, which validation of the definition is to prevent.
    """
    given = additional_printer_columns or _DEFAULT_COLUMNS
    columns = [
        Column(c["name"], c["type"], c.get("format", ""), c.get("priority", 0) or 0, c.get("description", ""))
        for c in given
    ]
    cells: list[tuple[JsonPath, _Cell]] = [
        (parse(c["jsonPath"]), _CELLS.get(c["type"], _no_cell)) for c in given
    ]

    def row(obj: Object, now_us: int) -> list[Any]:
        made: list[Any] = [name_of(obj)]
        for path, cell in cells:
            found = path.find(obj)
            made.append(cell(found[0], now_us) if found else None)
        return made

    return Printer((NAME, *columns), row)


def _no_cell(value: Any, now_us: int) -> None:
    return None


def _string(value: Any, now_us: int) -> str:
    match value:
        case str():
            return value
        case None:
            return "<no value>"
        case bool():
            return "true" if value else "false"
        case float():
            return _whole_or(value, repr)
        case int():
            return str(value)
        case _:
            return _json(value)


def _integer(value: Any, now_us: int) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value)


def _number(value: Any, now_us: int) -> int | float | None:
    return None if isinstance(value, bool) or not isinstance(value, (int, float)) else value


def _boolean(value: Any, now_us: int) -> bool | None:
    return value if isinstance(value, bool) else None


def _date(value: Any, now_us: int) -> str | None:
    if not isinstance(value, str):
        return None
    if value in ("", "null"):
        return UNKNOWN
    try:
        return human_duration(now_us - parse_time(value))
    except ValueError:
        return INVALID


_CELLS: dict[str, _Cell] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
}


def _whole_or(value: float, otherwise: Callable[[float], str]) -> str:
    """A float as Go writes it: whole numbers below 1e21 without point and exponent."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e21 else otherwise(value)


def _json_float(value: float) -> str:
    if 1e-6 <= abs(value) < 1e-4:
        return format(Decimal(repr(value)), "f")
    mantissa, exponent, digits = repr(value).partition("e")
    if not exponent:
        return mantissa
    return f"{mantissa}e{digits[0]}{digits[1:].lstrip('0')}" if digits[0] in "+-" else repr(value)


_HTML_SAFE = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def _json(value: Any) -> str:
    """JSON as Go's encoding/json writes it: sorted keys, no spaces, safe inside HTML."""
    match value:
        case dict():
            return "{" + ",".join(f"{_json(key)}:{_json(value[key])}" for key in sorted(value)) + "}"
        case list():
            return "[" + ",".join(map(_json, value)) + "]"
        case str():
            return orjson.dumps(value).decode().translate(_HTML_SAFE)
        case float():
            return _whole_or(value, _json_float)
        case _:
            return orjson.dumps(value).decode()
