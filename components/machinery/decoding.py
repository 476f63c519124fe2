"""Request bodies to API objects, as a typed server reads them.

`decode_json` and `decode_yaml` read the text; `conform` then lays a schema over the object.
"""

from typing import Any

from understudy.components.machinery.conforming import (
    check_fields,
    check_types,
    conform,
    json_type,
    prune_unknown,
    unhandled,
)
from understudy.components.machinery.errors import ApiError, Object, bad_request
from understudy.components.machinery.json_text import MalformedText, parse_json

__all__ = [
    "check_fields",
    "check_types",
    "conform",
    "decode_json",
    "decode_yaml",
    "prune_unknown",
    "strict_error",
    "unrecognized",
]


def decode_json(body: bytes, kind: str = "") -> tuple[Object, list[str]]:
    """The object of a JSON body, and a finding for each duplicate field (see `json_text.parse_json`).

    `kind` is the kind that the path expects; it goes into the message. A body of `null` is an empty object.
    Raises a 400 ApiError if the body is not a JSON object with string `apiVersion` and `kind`.
    """
    try:
        value, duplicates = parse_json(body)
    except MalformedText as error:
        raise unrecognized(f"couldn't get version/kind; json parse error: {error}", body, kind) from None
    return _object(value, body, kind), duplicates


def decode_yaml(body: bytes, kind: str = "") -> tuple[Object, list[str]]:
    """The same for a YAML body; duplicates are worded by line (see `yaml_text.parse_yaml`)."""
    from understudy.components.machinery.yaml_text import parse_yaml  # PyYAML costs a start-up 20 ms

    try:
        value, duplicates = parse_yaml(body)
    except MalformedText as error:
        raise unrecognized(str(error), body, kind) from None
    return _object(value, body, kind), duplicates


def strict_error(api_version: str, kind: str, findings: list[str]) -> ApiError:
    """400 for `fieldValidation=Strict`: `findings` are those of decoding and of `conform`."""
    return unhandled(api_version, kind, "strict decoding error: " + ", ".join(findings))


def _object(value: Any, body: bytes, kind: str) -> Object:
    if value is None:
        return {}
    if not isinstance(value, dict):
        message = f"json: cannot unmarshal {json_type(value)} into Go value of type struct"
        raise unrecognized(f"couldn't get version/kind; json parse error: {message}", body, kind)
    for key in ("apiVersion", "kind"):
        if not isinstance(value.get(key), str | None):
            message = (
                f"json: cannot unmarshal {json_type(value[key])} into Go struct field .{key} of type string"
            )
            raise unrecognized(f"couldn't get version/kind; json parse error: {message}", body, kind)
    return value


def unrecognized(message: str, body: bytes, kind: str) -> ApiError:
    """400 for a body that is no object; `kind` (may be empty) is what the path expects."""
    if not kind:
        return bad_request(message)
    if not body:
        shown = "<empty>"
    elif body.startswith(b"{"):
        shown = body[:30].decode(errors="replace") + (" ..." if len(body) > 30 else "")
    else:
        shown = body[:15].hex() + (" ..." if len(body) > 15 else "")
    return bad_request(f"the object provided is unrecognized (must be of type {kind}): {message} ({shown})")
