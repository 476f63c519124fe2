"""YAML texts to JSON values, as the server reads them.

YAML 1.1 booleans (`y`, `on`), Go's integers (`0x1F`, `0o17`, `017`, no sexagesimals), no timestamps, keys
made strings, the first document only.
"""

import base64
import binascii
import json
import math
import re
from typing import Any

import orjson
import yaml

from understudy.components.machinery.json_text import FINDINGS_MAX, MalformedText, serialize

ALIASED_NODES_MAX = 400_000
"""Nodes that one YAML text may expand to; more is an attack by aliases."""


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
    try:
        value = builder.value(node)
    except RecursionError:
        raise MalformedText("error converting YAML to JSON: exceeded max depth") from None
    serialize(value)
    return value, builder.duplicates[:FINDINGS_MAX]


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
