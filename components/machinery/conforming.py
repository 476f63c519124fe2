"""Laying a schema over an object, as decoding into a Go struct does.

In one pass wrong types are refused, unknown fields are named and dropped, nulls are dropped (in lists and
maps they become the item's empty value), and scalars with a syntax of their own (quantities, times, bytes)
are checked and rewritten. Which empty values are then left out or written is the business of `defaults`.

Each schema is compiled to a closure when first used, and its fields when first met: a pod takes some tens of
microseconds.
"""

from typing import Any
from weakref import WeakKeyDictionary

import orjson

from understudy.components.machinery.errors import ApiError, Object, bad_request
from understudy.components.machinery.json_text import FINDINGS_MAX
from understudy.components.machinery.scalars import (
    SCALARS,
    Converter,
    Mismatch,
    Pass,
    Place,
    integer32,
    integer64,
)
from understudy.components.machinery.schema import Schema


def conform(schema: Schema, obj: Object) -> tuple[Object, list[str]]:
    """A new object as the server's type holds it, and `unknown field "spec.foo"` for each field it dropped.

    Raises the server's 400 for the first value of a wrong type.
    """
    state = Pass(lenient=False)
    try:
        made = _walk(schema, obj, state)
    except Mismatch as error:
        kind = obj.get("kind") or schema.name.rpartition(".")[2]
        raise unhandled(obj.get("apiVersion") or "", kind, _explain(schema, error)) from None
    return made, _findings(state)


def check_fields(schema: Schema, obj: Object) -> list[str]:
    """`unknown field "spec.containers[0].imagee"` for each; ill-typed values are passed over."""
    state = Pass(lenient=True)
    _walk(schema, obj, state)
    return _findings(state)


def prune_unknown(schema: Schema, obj: Object) -> Object:
    """A new object without unknown fields and nulls; ill-typed values stay as they are."""
    return _walk(schema, obj, Pass(lenient=True))


def _walk(schema: Schema, obj: Object, state: Pass) -> Object:
    try:
        made: Object = _converter(schema)(obj, None, state)
    except RecursionError:  # schemas within schemas, hundreds deep
        raise bad_request("exceeded max depth") from None
    return made


def check_types(schema: Schema, obj: Object) -> None:
    """Raise the server's 400 for the first value of a wrong type, in the order of the text."""
    conform(schema, obj)


def unhandled(api_version: str, kind: str, message: str) -> ApiError:
    """400 for an object that is not what its `kind` says."""
    version = api_version.rpartition("/")[2]
    return bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {message}')


def json_type(value: Any) -> str:
    """The type of a JSON value, as Go's decoder calls it."""
    match value:
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            return "null"


def _findings(state: Pass) -> list[str]:
    return [f'unknown field "{_path(place)}"' for place in state.unknown[:FINDINGS_MAX]]


def _steps(place: Place) -> list[str | int]:
    steps: list[str | int] = []
    while place is not None:
        place, step = place
        steps.append(step)
    return steps[::-1]


def _path(place: Place) -> str:
    text = ""
    for step in _steps(place):
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def _explain(schema: Schema, error: Mismatch) -> str:
    """The words of Go's decoder: innermost struct, path without indexes and map keys, and Go type."""
    if error.text:
        return error.text
    struct, names = schema, []
    for step in _steps(error.place):
        if schema.type == "object":
            struct = schema
            names.append(str(step))
            schema = schema.fields[str(step)]
        else:
            assert schema.item is not None, (schema, step)
            schema = schema.item
    said = json_type(error.value)
    if said == "number" and schema.type == "integer":
        said = f"number {orjson.dumps(error.value).decode()}"
    if not names:
        return f"json: cannot unmarshal {said} into Go value of type {_go_type(schema)}"
    where = f"{struct.name.rpartition('.')[2]}.{'.'.join(names)}"
    return f"json: cannot unmarshal {said} into Go struct field {where} of type {_go_type(schema)}"


def _go_type(schema: Schema) -> str:
    match schema.type:
        case "object":
            return ".".join(schema.name.split(".")[-2:]) or "map[string]interface {}"
        case "list":
            return "[]" + (_go_type(schema.item) if schema.item else "interface {}")
        case "map":
            return "map[string]" + (_go_type(schema.item) if schema.item else "interface {}")
        case "integer":
            return schema.format or "int"
        case "number":
            return "float64"
        case "boolean":
            return "bool"
        case "bytes":
            return "[]uint8"
        case "int-or-string":
            return "int32"
        case "any":
            return "interface {}"
        case _:
            return "string"


_COMPILED: WeakKeyDictionary[Schema, Converter] = WeakKeyDictionary()


def _converter(schema: Schema) -> Converter:
    made = _COMPILED.get(schema)
    if made is None:
        made = _COMPILED[schema] = _compile(schema)
    return made


def _compile(schema: Schema) -> Converter:
    match schema.type:
        case "object":
            return _object_converter(schema)
        case "list":
            return _list_converter(schema)
        case "map":
            return _map_converter(schema)
        case "integer":
            return integer32 if schema.format == "int32" else integer64
        case _:
            return SCALARS[schema.type]


def _step(schema: Schema) -> "type | Converter":
    """How a container treats a value: a type that passes as it is, or a converter."""
    match schema.type:
        case "string" | "duration":
            return str
        case "boolean":
            return bool
        case _:
            return _converter(schema)


def _object_converter(schema: Schema) -> Converter:
    fields = schema.fields
    preserve = schema.preserve_unknown
    steps: dict[str, Any] = {}  # filled as fields are met: most objects use few of a message's fields

    def convert(value: Any, place: Place, state: Pass) -> Any:
        if type(value) is not dict:
            return state.refuse(value, place)
        made = {}
        for key, item in value.items():
            step = steps.get(key)
            if type(item) is step:
                made[key] = item
            elif step is None:
                if key in fields:
                    step = steps[key] = _step(fields[key])
                    if item is not None:
                        made[key] = _apply(step, item, (place, key), state)
                elif preserve:
                    made[key] = item
                else:
                    state.unknown.append((place, key))
            elif item is not None:
                made[key] = _apply(step, item, (place, key), state)
        return made

    return convert


def _apply(step: Any, item: Any, place: Place, state: Pass) -> Any:
    if step is str or step is bool:
        return item if type(item) is step else state.refuse(item, place)
    return step(item, place, state)


def _list_converter(schema: Schema) -> Converter:
    assert schema.item is not None, schema
    item_schema = schema.item
    step: Any = None

    def convert(value: Any, place: Place, state: Pass) -> Any:
        nonlocal step
        if type(value) is not list:
            return state.refuse(value, place)
        if step is None:
            step = _step(item_schema)
        return [
            item
            if type(item) is step
            else _empty(item_schema)
            if item is None
            else _apply(step, item, (place, index), state)
            for index, item in enumerate(value)
        ]

    return convert


def _map_converter(schema: Schema) -> Converter:
    assert schema.item is not None, schema
    item_schema = schema.item
    step: Any = None

    def convert(value: Any, place: Place, state: Pass) -> Any:
        nonlocal step
        if type(value) is not dict:
            return state.refuse(value, place)
        if step is None:
            step = _step(item_schema)
        return {
            key: item
            if type(item) is step
            else _empty(item_schema)
            if item is None
            else _apply(step, item, (place, key), state)
            for key, item in value.items()
        }

    return convert


def _empty(schema: Schema) -> Any:
    """What a null in a list or map becomes: the zero value of its Go type, in JSON."""
    match schema.type:
        case "string" | "bytes" | "duration":
            return ""
        case "quantity":
            return "0"
        case "integer" | "number" | "int-or-string":
            return 0
        case "boolean":
            return False
        case "object":
            return {}
        case _:
            return None
