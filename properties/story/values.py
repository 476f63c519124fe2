"""Messages as plain JSON values, to be looked at; and the strings in them, to find what they are about."""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import orjson
from attrs import fields, has

from understudy.actors import ChannelWriter, Ref
from understudy.mailbox import label

BYTES_SHOWN_MAX = 65_536


def plain(value: Any, bytes_max: int = BYTES_SHOWN_MAX) -> Any:
    """A message as JSON values: fields with their default left out, bytes as JSON or text where they are.

    Of more bytes than `bytes_max` only their number is told.
    """
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, bytes):
        return _bytes(value) if len(value) <= bytes_max else f"{len(value)} bytes"
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item, bytes_max) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item, bytes_max) for item in value]
    if isinstance(value, Ref):
        return value.path
    if isinstance(value, ChannelWriter):
        return f"channel {value.label}"
    if has(type(value)):
        shown = {
            each.name: plain(getattr(value, each.name), bytes_max)
            for each in fields(type(value))
            if getattr(value, each.name) != each.default
        }
        return {"message": label(value), **shown}
    return repr(value)


def _bytes(value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        pass
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.hex()
    return text


def strings(value: Any) -> Iterator[str]:
    """Every string in a message, keys of mappings left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Enum | int | float | bytes | Ref | ChannelWriter) or value is None:
        return
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from strings(item)
    elif has(type(value)):
        for each in fields(type(value)):
            yield from strings(getattr(value, each.name))
