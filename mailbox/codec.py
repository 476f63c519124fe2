"""The message codec: attrs classes to msgpack and back.

Every registered instance, however deep, becomes a msgpack extension that carries its wire name and its
fields, so that a field typed `Any` or as a union comes back as what was put in. Field types are checked
and converted by cattrs (lists to tuples, numbers to enums).
"""

from enum import Enum
from types import UnionType
from typing import Any, Union, get_origin

import attrs
import msgpack
from cattrs import Converter
from cattrs.errors import ClassValidationError
from cattrs.v import transform_error

from .message import message_class, registered, wire_name

BYTES_MAX = 64 << 20
"""The largest encoded message, in bytes, that is decoded: a larger one is refused unread."""

_REGISTERED = 1
_ENDPOINT = 2


class CodecError(Exception):
    """Bytes that are no message, or a message that cannot be put in bytes; says where and what."""


class Resolver:
    """How references to live things (refs, channel ends) are written and found again.

    The runtime supplies one; the codec alone knows only data.
    """

    def name(self, value: Any) -> str | None:
        """A name for a live reference, or None when `value` is not one."""
        return None

    def resolve(self, name: str) -> Any:
        """The live reference that `name` stands for."""
        raise CodecError(f"a reference {name!r} outside a running actor system")


_DATA_ONLY = Resolver()


def _registered_hook(converter: Converter, cls: type) -> Any:
    fields = {a.name: a for a in attrs.fields(cls) if a.init}
    attrs.resolve_types(cls)
    types = {a.name: a.type for a in attrs.fields(cls) if a.init}

    def structure(value: Any, _: Any) -> Any:
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            raise TypeError(f"expected the fields of {cls.__qualname__}, got {type(value).__name__}")
        arguments = {}
        for name in fields.keys() & value.keys():
            arguments[name] = converter.structure(value[name], types[name] or Any)
        missing = [n for n, a in fields.items() if n not in arguments and a.default is attrs.NOTHING]
        if missing:
            raise TypeError(f"{cls.__qualname__} lacks {', '.join(missing)}")
        return cls(**arguments)

    return structure


def _make_converter() -> Converter:
    converter = Converter()
    converter.register_structure_hook_func(
        lambda t: getattr(get_origin(t) or t, "__understudy_live__", False) or _is_union(t), lambda v, _: v
    )
    converter.register_structure_hook_factory(
        lambda t: isinstance(t, type) and t in set(registered().values()),
        lambda t: _registered_hook(converter, t),
    )
    return converter


def _is_union(t: Any) -> bool:
    """Unions come out of the extension types as the right class already."""
    return get_origin(t) in (Union, UnionType)


_converter = _make_converter()


def encode(value: Any, resolver: Resolver = _DATA_ONLY) -> bytes:
    """The bytes of a message.

    Raises:
        CodecError: something in it has no wire form; names the class.
    """

    def default(item: Any) -> Any:
        name = resolver.name(item)
        if name is not None:
            return msgpack.ExtType(_ENDPOINT, name.encode())
        if isinstance(item, Enum):
            return item.value
        if isinstance(item, (frozenset, set)):
            return sorted(item)
        cls = type(item)
        fields = {a.name: getattr(item, a.name) for a in attrs.fields(cls) if a.init}
        return msgpack.ExtType(_REGISTERED, pack([wire_name(cls), fields]))

    def pack(item: Any) -> bytes:
        packed = msgpack.packb(item, default=default, use_bin_type=True)
        assert isinstance(packed, bytes)
        return packed

    try:
        return pack(value)
    except (TypeError, ValueError, OverflowError, attrs.exceptions.NotAnAttrsClassError) as error:
        raise CodecError(f"cannot encode {type(value).__qualname__}: {error}") from error


def decode(data: bytes, resolver: Resolver = _DATA_ONLY) -> Any:
    """The message in `data`.

    Raises:
        CodecError: the bytes are too many, not msgpack, name an unknown message, or a field has the
            wrong type; says the path, what was expected and what came.
    """
    if len(data) > BYTES_MAX:
        raise CodecError(f"a message of {len(data)} bytes is over the limit of {BYTES_MAX}")

    def extension(code: int, payload: bytes) -> Any:
        if code == _ENDPOINT:
            return resolver.resolve(payload.decode())
        if code != _REGISTERED:
            raise CodecError(f"unknown extension {code}")
        name, fields = unpack(payload)
        cls = message_class(name)
        if cls is None:
            raise CodecError(f"unknown message {name!r}: is the module that defines it imported?")
        return _converter.structure(fields, cls)

    def unpack(payload: bytes) -> Any:
        return msgpack.unpackb(payload, ext_hook=extension, raw=False, strict_map_key=False)

    try:
        return unpack(data)
    except CodecError:
        raise
    except ClassValidationError as error:
        raise CodecError("; ".join(transform_error(error))) from error
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise CodecError(f"not a message: {error}") from error
