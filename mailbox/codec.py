"""The message codec: attrs classes to msgpack and back.

Every registered instance, however deep, becomes a msgpack extension that carries its wire name and its
fields, so that a field typed `Any` or as a union comes back as what was put in. `structure` checks the
fields against their annotations and makes the tuples, sets and enum members that they name. Where there is
no annotation to say so (inside `Any`), a tuple or set comes back as a list and an enum member as its value.
"""

from collections.abc import Callable
from enum import Enum
from operator import attrgetter
from typing import Any

import attrs
import msgpack
from attrs import frozen

from .message import message_class, wire_name
from .structure import Mismatch, fields_reader

BYTES_MAX = 64 << 20
"""The largest encoded message, in bytes: a larger one is neither written nor read."""

DEPTH_MAX = 64
"""Registered instances inside one another. (Lists and maps: 511, a limit of msgpack.)"""

_BUFFER_BYTES = 512
"""What a packer begins with; msgpack's own 256 KiB, nested, cost ten times as much as a small message."""

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


@frozen
class _Form:
    """How the instances of one class are written."""

    head: bytes
    """msgpack of an array of two, up to and with the wire name: the map of fields follows."""
    names: tuple[str, ...]
    values: Callable[[Any], tuple[Any, ...]]
    """The fields' values, in the order of `names`."""


_forms: dict[type, _Form] = {}
_readers: dict[type, Callable[[Any], Any]] = {}


def _form(cls: type) -> _Form:
    name = wire_name(cls)
    names = tuple(a.name for a in attrs.fields(cls) if a.init)
    values: Callable[[Any], tuple[Any, ...]]
    if len(names) > 1:
        values = attrgetter(*names)
    elif names:
        one = attrgetter(names[0])
        values = lambda item: (one(item),)  # noqa: E731
    else:
        values = lambda item: ()  # noqa: E731
    form = _forms[cls] = _Form(b"\x92" + msgpack.packb(name), names, values)
    return form


def encode(value: Any, resolver: Resolver = _DATA_ONLY) -> bytes:
    """The bytes of a message.

    Raises:
        CodecError: something in it has no wire form, it is nested too deeply, or too large; names the class.
    """
    depth = 0

    def default(item: Any) -> Any:
        nonlocal depth
        cls = type(item)
        form = _forms.get(cls)
        if form is None:
            name = resolver.name(item)
            if name is not None:
                return msgpack.ExtType(_ENDPOINT, name.encode())
            if isinstance(item, Enum):
                return item.value
            if isinstance(item, (frozenset, set)):
                return _in_order(item, pack)
            form = _form(cls)
        if depth >= DEPTH_MAX:
            raise ValueError(f"more than {DEPTH_MAX} messages inside one another")
        depth += 1
        fields = dict(zip(form.names, form.values(item), strict=True))
        packed = msgpack.ExtType(_REGISTERED, form.head + pack(fields))
        depth -= 1
        return packed

    def pack(item: Any) -> bytes:
        packed = msgpack.Packer(default=default, buf_size=_BUFFER_BYTES).pack(item)
        assert isinstance(packed, bytes)
        return packed

    try:
        data = pack(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CodecError(f"cannot encode {type(value).__qualname__}: {error}") from error
    if len(data) > BYTES_MAX:
        raise CodecError(f"{type(value).__qualname__} of {len(data)} bytes is over the limit of {BYTES_MAX}")
    return data


def _in_order(items: set[Any] | frozenset[Any], pack: Callable[[Any], bytes]) -> list[Any]:
    """A set's items in an order that does not depend on the process."""
    try:
        return sorted(items)
    except TypeError:
        return sorted(items, key=pack)


def decode(data: bytes, resolver: Resolver = _DATA_ONLY) -> Any:
    """The message in `data`.

    Raises:
        CodecError: the bytes are too many, not msgpack, name an unknown message, or a field has the
            wrong type; says the path, what was expected and what came.
    """
    if len(data) > BYTES_MAX:
        raise CodecError(f"a message of {len(data)} bytes is over the limit of {BYTES_MAX}")
    depth = 0

    def extension(code: int, payload: bytes) -> Any:
        nonlocal depth
        if code == _ENDPOINT:
            return resolver.resolve(payload.decode())
        if code != _REGISTERED:
            raise CodecError(f"unknown extension {code}")
        if depth >= DEPTH_MAX:
            raise CodecError(f"more than {DEPTH_MAX} messages inside one another")
        depth += 1
        name, fields = unpack(payload)
        depth -= 1
        cls = message_class(name)
        if cls is None:
            raise CodecError(f"unknown message {name!r}: is the module that defines it imported?")
        reader = _readers.get(cls)
        if reader is None:
            reader = _readers[cls] = fields_reader(cls)
        try:
            return reader(fields)
        except Mismatch as mismatch:
            raise CodecError(f"{name}: {mismatch}") from None

    def unpack(payload: bytes) -> Any:
        return msgpack.unpackb(payload, ext_hook=extension, strict_map_key=False)

    try:
        return unpack(data)
    except CodecError:
        raise
    except Exception as error:
        # Whatever bytes do, to msgpack or to a class's own validators, is an error of the bytes.
        raise CodecError(f"not a message: {error!r}") from error
