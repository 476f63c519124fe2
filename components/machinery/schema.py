"""The shape of every kind: fields, types, and how their lists and maps merge.

A :class:`Schema` says what the OpenAPI of a real server says, with the `x-kubernetes-*` topology that
patches and server-side apply need. The schemas of built-in kinds are made from the shipped facts when
first walked, one message at a time, so that recursive messages (JSONSchemaProps) need no care. Custom
resources make theirs from their definitions with the same class.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal

from attrs import evolve, field, frozen

from understudy.components.machinery import facts

SchemaType = Literal[
    "object",
    "map",
    "list",
    "string",
    "integer",
    "number",
    "boolean",
    "any",
    "quantity",
    "int-or-string",
    "time",
    "micro-time",
    "bytes",
    "duration",
]

_NOTHING: frozenset[str] = frozenset()


@frozen(eq=False)
class Schema:
    """One type, with what the field that holds it adds. Compared by identity (the graph has cycles)."""

    type: SchemaType
    """`any` = nothing below is declared: a raw extension, or JSON."""
    fields: Mapping[str, "Schema"] = field(factory=dict, repr=False)
    """Of an object, by JSON name."""
    item: "Schema | None" = field(default=None, repr=False)
    """Of a list, its elements; of a map, its values."""
    required: frozenset[str] = _NOTHING
    """Fields of an object that OpenAPI calls required. The server decodes an object without them."""
    list_type: Literal["atomic", "set", "map"] = "atomic"
    list_map_keys: tuple[str, ...] = ()
    """The fields that together name an element, in order; only for `list_type="map"`."""
    map_type: Literal["granular", "atomic"] = "granular"
    """Of an object or map: do its fields have owners of their own?"""
    patch_merge_key: str | None = None
    """The element field by which a strategic merge patch pairs elements."""
    patch_strategy: frozenset[str] = _NOTHING
    """Of `merge`, `replace`, `retainKeys`; empty = replace lists, merge objects."""
    enum: frozenset[str] | None = None
    format: str = ""
    """`int32`, `int64`, `double`, `date-time`, `byte`, ... or empty."""
    name: str = ""
    """Name of the message, e.g. `io.k8s.api.core.v1.PodSpec`; empty if it has none."""
    zero: Any = None
    """What the server writes when the field is absent (`""`, `0`, `{}`, ...); None = it leaves it out."""
    preserve_unknown: bool = False
    """Undeclared fields of this object are kept (custom resources only)."""


def schema_for(api_version: str, kind: str) -> Schema | None:
    """The schema of a built-in kind (also of options, lists and `Status`); None if it is not built in."""
    name = _kinds().get(f"{api_version}/{kind}")
    return None if name is None else message(name)


@cache
def message(name: str) -> Schema:
    """The schema of the message of that OpenAPI name; KeyError if there is none."""
    row = facts.table("schemas.tsv.gz")[name]
    if "type" in row:
        return Schema(type=row["type"], name=name)
    return Schema(
        type="object",
        fields=_Fields(row["fields"]),
        required=frozenset(row.get("required", ())),
        map_type=row.get("map_type", "granular"),
        name=name,
    )


@cache
def _kinds() -> Mapping[str, str]:
    kinds: Mapping[str, str] = facts.document("schema_kinds.json")
    return kinds


class _Fields(Mapping[str, Schema]):
    """The fields of a message; each becomes a Schema when it is first looked at."""

    __slots__ = ("_made", "_rows")

    def __init__(self, rows: Mapping[str, Any]) -> None:
        self._rows = rows
        self._made: dict[str, Schema] = {}

    def __getitem__(self, key: str) -> Schema:
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = _property(self._rows[key])
        return made

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


@cache
def _scalar(name: SchemaType) -> Schema:
    return Schema(type=name)


def _property(row: Any) -> Schema:
    """One property in the notation of the generator's `compact_schema`."""
    if isinstance(row, str):
        return message(row[1:]) if row.startswith("#") else _scalar(row)
    added: dict[str, Any] = {}
    if "zero" in row:
        added["zero"] = row["zero"]
    if "strategy" in row:
        added["patch_strategy"] = frozenset(row["strategy"])
    if "merge_key" in row:
        added["patch_merge_key"] = row["merge_key"]
    if "map_type" in row:
        added["map_type"] = row["map_type"]
    if "enum" in row:
        added["enum"] = frozenset(row["enum"])
    if "format" in row:
        added["format"] = row["format"]
    if "ref" in row:
        return evolve(message(row["ref"]), **added)
    if "list" in row:
        return Schema(
            type="list",
            item=_property(row["list"]),
            list_type=row.get("list_type", "atomic"),
            list_map_keys=tuple(row.get("keys", ())),
            **added,
        )
    if "map" in row:
        return Schema(type="map", item=_property(row["map"]), **added)
    return Schema(type=row["type"], **added)
