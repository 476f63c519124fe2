"""JSON and YAML texts to JSON values, with the keys that a text says twice.

orjson keeps the last of two equal keys and does not say so. A text that equals the compact serialization
of what was read from it cannot hold such a key, and most clients' bodies do; any other text is read a
second time with the standard library, which hands over the pairs of every object.

YAML is read as the server reads it: YAML 1.1 booleans (`y`, `on`), Go's integers (`0x1F`, `0o17`, `017`,
no sexagesimals), no timestamps, keys made strings, the first document only.
"""

import base64
import binascii
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import orjson
import yaml

FINDINGS_MAX = 100
"""The server stops counting strict findings there."""

ALIASED_NODES_MAX = 400_000
"""Nodes that one YAML text may expand to; more is an attack by aliases."""


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
    if orjson.dumps(value) == body:
        return value, []
    return value, _duplicates(body.decode())


def _parse_json_slowly(body: bytes) -> tuple[Any, list[str]]:
    """What orjson refuses: malformed texts, and what Go takes (bad UTF-8, lone surrogates, huge numbers)."""
    text = body.decode(errors="replace")
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_int=_parse_int)
    except json.JSONDecodeError as error:
        raise MalformedText(_words(error)) from None
    except RecursionError:
        raise MalformedText("exceeded max depth") from None
    return _without_surrogates(value), _duplicates(text)


def _refuse_constant(name: str) -> Any:
    raise MalformedText(f"invalid character {name[0]!r} looking for beginning of value")


def _parse_int(digits: str) -> int | float:
    if len(digits) > 20:  # int() refuses texts of thousands of digits
        return float(digits)
    return int(digits) if -(2**63) <= int(digits) < 2**64 else float(digits)


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

    json.loads(text, object_pairs_hook=only_count)
    if not seen_twice:
        return []
    found = dict.fromkeys(_duplicate_paths(json.loads(text, object_pairs_hook=_Pairs), ""))
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


class _Loader(yaml.CSafeLoader):
    """libyaml's parser with the scalar rules of the server's YAML library."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's hook


_TAG = "tag:yaml.org,2002:"
_TRUE = frozenset("y Y yes Yes YES true True TRUE on On ON".split())  # noqa: SIM905
_FALSE = frozenset("n N no No NO false False FALSE off Off OFF".split())  # noqa: SIM905
_SCALARS = {
    "bool": ("|".join(sorted(_TRUE | _FALSE)), "yYnNtTfFoO"),
    "null": ("~|null|Null|NULL|", ["~", "n", "N", ""]),
    "int": (
        r"[-+]?(0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO]?[0-7_]+|0|[1-9][0-9_]*)",
        "-+0123456789",
    ),
    "float": (
        r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "merge": ("<<", "<"),
}
for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), list(_first))


def parse_yaml(body: bytes) -> tuple[Any, list[str]]:
    """The first document as a JSON value, and `line 5: key "data" already set in map` for each
    key said twice.

    The last value of a key counts. Raises MalformedText.
    """
    text = body.decode(errors="replace")
    try:
        loader = _Loader(text)
        try:
            node = loader.get_node() if loader.check_node() else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = _line(error)
        raise MalformedText(f"error converting YAML to JSON: yaml: {line}{error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise MalformedText(f"error converting YAML to JSON: yaml: {error}") from None
    if node is None:
        return None, []
    builder = _Builder()
    return builder.value(node), builder.duplicates[:FINDINGS_MAX]


def _line(error: yaml.MarkedYAMLError) -> str:
    """Where the server says the error is: a parser's lines count from 0 (not shown), a scanner's from 1."""
    lines = [mark.line for mark in (error.context_mark, error.problem_mark) if mark is not None and mark.line]
    if not lines:
        return ""
    return f"line {lines[0] + isinstance(error, yaml.scanner.ScannerError)}: "


class _Builder:
    """Nodes to JSON values; aliases are copied, so that no two fields share a value."""

    def __init__(self) -> None:
        self.duplicates: list[str] = []
        self._open: set[int] = set()
        self._count = 0

    def value(self, node: yaml.Node) -> Any:
        self._count += 1
        if self._count > ALIASED_NODES_MAX:
            raise MalformedText("error converting YAML to JSON: yaml: document contains excessive aliasing")
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if id(node) in self._open:
            raise MalformedText("error converting YAML to JSON: yaml: anchor value contains itself")
        self._open.add(id(node))
        made = (
            self._mapping(node) if isinstance(node, yaml.MappingNode) else [self.value(n) for n in node.value]
        )
        self._open.remove(id(node))
        return made

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        made: dict[str, Any] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                continue
            key = _key(key_node)
            if key in made:
                line = key_node.start_mark.line + 1
                self.duplicates.append(f"line {line}: key {json.dumps(key)} already set in map")
            made[key] = self.value(value_node)
        for source in merged:
            below = self.value(source)
            if not isinstance(below, dict):
                words = "map merge requires map or sequence of maps as the value"
                raise MalformedText(f"error converting YAML to JSON: yaml: {words}")
            for key, item in below.items():
                made.setdefault(key, item)
        return made


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise MalformedText("error converting YAML to JSON: yaml: invalid map key")
    value = _scalar(node)
    if value is None:
        raise MalformedText("error converting YAML to JSON: unsupported map key of type: <nil>")
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    match node.tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            if text in _TRUE or text in _FALSE:
                return text in _TRUE
            raise MalformedText(f"error converting YAML to JSON: yaml: cannot decode {text!r} as a bool")
        case "int":
            return _integer(text.replace("_", ""))
        case "float":
            return _float(text.replace("_", ""))
        case "binary":
            try:
                return base64.b64decode(text, validate=False).decode(errors="replace")
            except binascii.Error:
                raise MalformedText(
                    "error converting YAML to JSON: yaml: !!binary value contains invalid base64 data"
                ) from None
        case _:
            return text


def _integer(text: str) -> int | float:
    digits = text.lstrip("+-").lower()
    try:
        if digits.startswith(("0x", "0b", "0o")):
            number = int(digits, 0)
        else:
            number = int(digits, 8 if digits.startswith("0") else 10)
    except ValueError:
        raise MalformedText(
            f"error converting YAML to JSON: yaml: cannot decode {text!r} as an int"
        ) from None
    number = -number if text.startswith("-") else number
    return number if -(2**63) <= number < 2**64 else float(number)


def _float(text: str) -> int | float:
    try:
        number = float(text.replace(".inf", "inf").replace(".Inf", "inf").replace(".INF", "inf"))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise MalformedText(f"error converting YAML to JSON: json: unsupported value: {text}")
    return int(number) if number.is_integer() and abs(number) < 1e21 else number
