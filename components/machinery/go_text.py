"""JSON values in the words of a Go program: some of the real server's messages show them."""

from typing import Any, Final

_TYPES: Final = {dict: "object", list: "array", str: "string", bool: "bool", int: "number", float: "number"}


def go_text(value: Any) -> str:
    """A JSON value as Go prints it (`map[a:1 b:[x y]]`), for messages that show one."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{go_text(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(go_text(item) for item in value) + "]"
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def cannot_unmarshal(value: Any, target: str) -> str:
    """What the server says of a patch body whose JSON has the wrong shape; `target` is its Go type."""
    kind = "null" if value is None else _TYPES[type(value)]
    return f"error decoding patch: json: cannot unmarshal {kind} into Go value of type {target}"
