"""JSON texts to values, with the keys that a text says twice.

orjson keeps the last of two equal keys and does not say so. A text that equals the compact serialization
of what was read from it cannot hold such a key, and most clients' bodies do; any other text is read a
second time with the standard library, which hands over the pairs of every object.
"""

import json
import math
from collections.abc import Iterator
from typing import Any

import orjson

FINDINGS_MAX = 100
"""The server stops counting strict findings there."""


class MalformedText(ValueError):
    """The text is not JSON, or not YAML; the message is what the server's parser would say."""


def parse_json(body: bytes) -> tuple[Any, list[str]]:
    """The value, and `duplicate field "spec.replicas"` for each key that an object says twice.

    The last value of a key counts. Raises MalformedText.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _parse_json_slowly(body)
    if serialize(value) == body:
        return value, []
    return value, _duplicates(body.decode())


def serialize(value: Any) -> bytes:
    """The compact text of a value that was read. Raises MalformedText if it is nested deeper than 254.

    That is orjson's limit for writing (it reads 1,024 levels): a value over it must not come in.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        raise MalformedText("exceeded max depth") from None


def _parse_json_slowly(body: bytes) -> tuple[Any, list[str]]:
    """What orjson refuses: malformed texts, and what Go takes (bad UTF-8, lone surrogates, huge numbers)."""
    text = body.decode(errors="replace")
    try:
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_int=_parse_int, parse_float=_parse_float
        )
        value = _without_surrogates(value)
        serialize(value)
        return value, _duplicates(text)
    except json.JSONDecodeError as error:
        raise MalformedText(_words(error)) from None
    except RecursionError:
        raise MalformedText("exceeded max depth") from None


def _refuse_constant(name: str) -> Any:
    raise MalformedText(f"invalid character {name[0]!r} looking for beginning of value")


def _parse_int(digits: str) -> int | float:
    if len(digits) > 20:  # int() refuses texts of thousands of digits
        return _parse_float(digits)
    return int(digits) if -(2**63) <= int(digits) < 2**64 else float(digits)


def _parse_float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise MalformedText(f"json: cannot unmarshal number {digits[:40]} into Go value of type float64")
    return number


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return value


def _words(error: json.JSONDecodeError) -> str:
    text, at = error.doc, error.pos
    while at < len(text) and text[at] in " \t\r\n" and not error.msg.startswith("Invalid control"):
        at += 1
    if at >= len(text) or error.msg.startswith("Unterminated string"):
        return "unexpected end of JSON input"
    if error.msg == "Expecting value" and text[at] in "tfn":
        word = {"t": "true", "f": "false", "n": "null"}[text[at]]
        same = next(i for i in range(1, len(word) + 1) if text[at : at + i + 1] != word[: i + 1])
        if at + same >= len(text):
            return "unexpected end of JSON input"
        return f"invalid character {text[at + same]!r} in literal {word} (expecting {word[same]!r})"
    where = next((words for start, words in _WHERE.items() if error.msg.startswith(start)), "in the text")
    return f"invalid character {text[at]!r} {where}"


_WHERE = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name": "looking for beginning of object key string",
    "Illegal trailing comma": "looking for beginning of object key string",
    "Expecting ':'": "after object key",
    "Expecting ','": "after object key:value pair or array element",
    "Extra data": "after top-level value",
    "Invalid control": "in string literal",
    "Invalid \\": "in string escape code",
}


class _Pairs(list[tuple[str, Any]]):
    """The pairs of one object, in the order of the text."""


def _duplicates(text: str) -> list[str]:
    seen_twice = False

    def only_count(pairs: list[tuple[str, Any]]) -> None:
        nonlocal seen_twice
        if len(pairs) > 1 and len({key for key, _ in pairs}) != len(pairs):
            seen_twice = True

    try:
        # Numbers do not matter here, and int() refuses texts of thousands of digits: float() takes all.
        json.loads(text, object_pairs_hook=only_count, parse_int=float)
        if not seen_twice:
            return []
        pairs = json.loads(text, object_pairs_hook=_Pairs, parse_int=float)
        found = dict.fromkeys(_duplicate_paths(pairs, ""))
    except RecursionError:
        raise MalformedText("exceeded max depth") from None
    return [f'duplicate field "{path}"' for path in found][:FINDINGS_MAX]


def _duplicate_paths(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, _Pairs):
        seen = set()
        for key, item in value:
            below = f"{path}.{key}" if path else key
            if key in seen:
                yield below
            seen.add(key)
            yield from _duplicate_paths(item, below)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _duplicate_paths(item, f"{path}[{index}]")
