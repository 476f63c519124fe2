"""Validation of the schemas of custom resources: that they are structural.

A structural schema says the type of every field it names, and logical parts (`allOf` and the like) only
narrow it; see "Specifying a structural schema" in the documentation of custom resource definitions.
"""

import re
from typing import Any

from understudy.components.machinery.validation.findings import (
    Findings,
    forbidden,
    invalid,
    not_supported,
    required,
    type_invalid,
)

Object = dict[str, Any]

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_UNSUPPORTED = (
    "definitions",
    "dependencies",
    "deprecated",
    "discriminator",
    "id",
    "patternProperties",
    "readOnly",
)
_ONLY_IN_STRUCTURE = ("additionalProperties", "default", "description", "nullable", "title", "type")
_EXTENSIONS = (
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
)
_LIST_TYPES = ("atomic", "set", "map")
_MAP_TYPES = ("granular", "atomic")
_step = re.compile(r"\.([-_A-Za-z0-9]+)|\['([^']*)'\]").match
_METADATA_DETAIL = (
    "must not specify anything other than name and generateName, but metadata is implicitly specified"
)


def validate_schema(schema: Object, path: str) -> Findings:
    """The whole schema of one version."""
    found = _values(schema, path)
    kind = schema.get("type", "")
    if kind != "object":
        detail = "must be object at the root"
        found.append(invalid(f"{path}.type", kind, detail) if kind else required(f"{path}.type", detail))
    if schema.get("nullable"):
        found.append(forbidden(f"{path}.nullable", "nullable cannot be true at the root"))
    if found:
        return found
    found += _structure(schema, path, root=True)
    return found or _defaults(schema, path)


def _values(schema: Object, path: str) -> Findings:
    """What must hold of any schema, structural or not."""
    if not isinstance(schema, dict):  # `items` and the like may be of several types
        return [invalid(path, schema, "must be a schema")]
    found: Findings = []
    kind = schema.get("type")
    if kind and kind not in _TYPES:
        found.append(not_supported(f"{path}.type", kind, _TYPES))
    if kind == "array" and "items" not in schema:
        found.append(required(f"{path}.items", "must be specified"))
    if schema.get("uniqueItems"):
        detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        found.append(forbidden(f"{path}.uniqueItems", detail))
    if "additionalProperties" in schema and "properties" in schema:
        detail = "additionalProperties and properties are mutual exclusive"
        found.append(forbidden(f"{path}.additionalProperties", detail))
    if schema.get("$ref"):
        found.append(forbidden(f"{path}.$ref", "$ref is not supported"))
    found += [
        forbidden(f"{path}.{field}", f"{field} is not supported")
        for field in _UNSUPPORTED
        if schema.get(field)
    ]
    pattern = schema.get("pattern")
    if pattern:
        try:
            re.compile(pattern)
        except re.error as error:
            detail = f"must be a valid regular expression, but isn't: {error}"
            found.append(invalid(f"{path}.pattern", pattern, detail))
    found += _list_and_map_types(schema, path)
    for child, where in _children(schema, path):
        found += _values(child, where)
    return found


def _list_and_map_types(schema: Object, path: str) -> Findings:
    found: Findings = []
    list_type, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys", [])
    if list_type is not None:
        if schema.get("type") != "array":
            detail = f"must be array if x-kubernetes-list-type is {list_type}"
            found.append(invalid(f"{path}.type", schema.get("type", ""), detail))
        if list_type not in _LIST_TYPES:
            found.append(not_supported(f"{path}.x-kubernetes-list-type", list_type, _LIST_TYPES))
    if list_type == "map" and not keys:
        detail = "must not be empty if x-kubernetes-list-type is map"
        found.append(required(f"{path}.x-kubernetes-list-map-keys", detail))
    if keys and list_type != "map":
        detail = "must be map if x-kubernetes-list-map-keys is non-empty"
        found.append(invalid(f"{path}.x-kubernetes-list-type", list_type, detail))
    items = schema.get("items", {})
    if list_type == "map" and isinstance(items, dict):
        for index, key in enumerate(keys):
            if key not in items.get("properties", {}):
                at = f"{path}.x-kubernetes-list-map-keys[{index}]"
                found.append(invalid(at, key, "entries must all be names of item properties"))
            elif key not in items.get("required", ()) and "default" not in items["properties"][key]:
                at = f"{path}.items.properties[{key}].default"
                detail = "this property is a list map key, so it must have a default or be a required"
                found.append(required(at, f"{detail} property"))
    map_type = schema.get("x-kubernetes-map-type")
    if map_type is not None:
        if schema.get("type") != "object":
            detail = f"must be object if x-kubernetes-map-type is {map_type}"
            found.append(invalid(f"{path}.type", schema.get("type", ""), detail))
        if map_type not in _MAP_TYPES:
            found.append(not_supported(f"{path}.x-kubernetes-map-type", map_type, _MAP_TYPES))
    return found


def _children(schema: Object, path: str) -> list[tuple[Object, str]]:
    found: list[tuple[Object, str]] = []
    if isinstance(schema.get("additionalProperties"), dict):
        found.append((schema["additionalProperties"], f"{path}.additionalProperties"))
    properties = schema.get("properties", {})
    found += [(properties[name], f"{path}.properties[{name}]") for name in sorted(properties)]
    if isinstance(schema.get("items"), dict):
        found.append((schema["items"], f"{path}.items"))
    for field in ("allOf", "anyOf", "oneOf"):
        found += [(part, f"{path}.{field}[{index}]") for index, part in enumerate(schema.get(field, ()))]
    if isinstance(schema.get("not"), dict):
        found.append((schema["not"], f"{path}.not"))
    return found


def _structure(schema: Object, path: str, *, root: bool = False) -> Findings:
    found: Findings = []
    any_type = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if not schema.get("type") and not any_type:
        detail = "must not be empty for specified object fields"
        if path.endswith(".items"):
            detail = "must not be empty for specified array items"
        found.append(required(f"{path}.type", detail))
    if schema.get("x-kubernetes-int-or-string") and schema.get("type"):
        detail = "must be empty if x-kubernetes-int-or-string is true"
        found.append(invalid(f"{path}.type", schema["type"], detail))
    embedded = root or schema.get("x-kubernetes-embedded-resource")
    metadata = schema.get("properties", {}).get("metadata")
    if embedded and metadata is not None and not _allowed_metadata(metadata):
        found.append(forbidden(f"{path}.properties[metadata]", _METADATA_DETAIL))
    for name in sorted(schema.get("properties", {})):
        found += _structure(schema["properties"][name], f"{path}.properties[{name}]")
    if isinstance(schema.get("items"), dict):
        found += _structure(schema["items"], f"{path}.items")
    elif isinstance(schema.get("items"), list):
        detail = "items must be a schema object and not an array"
        found.append(forbidden(f"{path}.items", detail))
    if isinstance(schema.get("additionalProperties"), dict):
        found += _structure(schema["additionalProperties"], f"{path}.additionalProperties")
    for field in ("allOf", "anyOf", "oneOf"):
        for index, part in enumerate(schema.get(field, ())):
            found += _narrowing(part, f"{path}.{field}[{index}]", bool(any_type))
    if isinstance(schema.get("not"), dict):
        found += _narrowing(schema["not"], f"{path}.not", False)
    return found


def _narrowing(schema: Object, path: str, int_or_string: bool) -> Findings:
    found: Findings = []
    for field in (*_ONLY_IN_STRUCTURE, *_EXTENSIONS):
        if field in schema and not (field == "type" and int_or_string):
            detail = (
                "must be empty to be structural" if field == "type" else "must be undefined to be structural"
            )
            found.append(forbidden(f"{path}.{field}", detail))
    for child, where in _children(schema, path):
        found += _narrowing(child, where, int_or_string)
    return found


def _allowed_metadata(schema: Object) -> bool:
    if set(schema) - {"type", "properties", "description"}:
        return False
    return not set(schema.get("properties", {})) - {"name", "generateName"}


def _defaults(schema: Object, path: str) -> Findings:
    """Defaults are values of their own schema."""
    found: Findings = []
    if "default" in schema:
        found += _fits(schema["default"], schema, f"{path}.default")
    for name in sorted(schema.get("properties", {})):
        found += _defaults(schema["properties"][name], f"{path}.properties[{name}]")
    for field in ("items", "additionalProperties"):
        if isinstance(schema.get(field), dict):
            found += _defaults(schema[field], f"{path}.{field}")
    return found


def _fits(value: Any, schema: Object, path: str) -> Findings:
    kind = schema.get("type", "")
    if value is None:
        return (
            [] if schema.get("nullable") else [type_invalid(path, "null", f"in body must be of type {kind}")]
        )
    own = _type_of(value)
    if kind and own != kind and not (kind == "number" and own == "integer"):
        return [type_invalid(path, own, f' in body must be of type {kind}: "{own}"')]
    found: Findings = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(not_supported(path, value, [str(item) for item in schema["enum"]]))
    if isinstance(value, dict):
        for name in schema.get("required", ()):
            if name not in value:
                found.append(required(f"{path}.{name}"))
        for name, child in sorted(schema.get("properties", {}).items()):
            if name in value:
                found += _fits(value[name], child, f"{path}.{name}")
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            found += _fits(item, schema["items"], f"{path}[{index}]")
    return found


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def schema_at(schema: Object, path: str) -> Object | None:
    """The schema of the field that a simple JSON path names, None when there is no such field."""
    while path:
        match = _step(path)
        if match is None:
            return None
        child = schema.get("properties", {}).get(match[1] or match[2])
        if not isinstance(child, dict):
            return None
        schema, path = child, path[match.end() :]
    return schema
