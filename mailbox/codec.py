"""The message codec: attrs classes to msgpack and back.

Every registered instance, however deep, becomes a msgpack extension that carries its wire name and its
fields, so that a field typed `Any` or as a union comes back as what was put in. `structure` checks the
fields against their annotations and makes the tuples, sets and enum members that they name. Where there is
no annotation to say so (inside `Any`), a tuple or set comes back as a list and an enum member as its value.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any

import attrs
import msgpack
from attrs import frozen

from .message import message_class, wire_name
from .structure import Mismatch, fields_reader, rows_reader

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

    name: str
    head: bytes
    """msgpack of an array of two, up to and with the wire name: the map of fields follows."""
    fields: Callable[[Any], dict[str, Any]]
    """An instance's fields by name, those that its constructor takes."""


_forms: dict[type, _Form] = {}
_readers: dict[type, Callable[[Any], Any]] = {}
_rows_readers: dict[type, Callable[[Any], list[Any]]] = {}


def _form(cls: type) -> _Form:
    name = wire_name(cls)
    names = [a.name for a in attrs.fields(cls) if a.init]
    # Compiled, as attrs compiles constructors: every message that crosses hosts passes here.
    display = ", ".join(f"{field!r}: item.{field}" for field in names)
    fields = eval(f"lambda item: {{{display}}}")
    form = _forms[cls] = _Form(name, b"\x92" + msgpack.packb(name), fields)
    return form


def _extension_head(size: int) -> bytes:
    """How msgpack begins an extension of a registered instance with a payload of so many bytes."""
    fixed = {1: b"\xd4", 2: b"\xd5", 4: b"\xd6", 8: b"\xd7", 16: b"\xd8"}.get(size)
    return (fixed or b"\xc7" + bytes([size])) + bytes([_REGISTERED])


def _array_head(size: int) -> bytes:
    """How msgpack begins an array of so many items."""
    if size < 16:
        return bytes([0x90 | size])
    return b"\xdc" + size.to_bytes(2) if size < 65536 else b"\xdd" + size.to_bytes(4)


_EXTENSION_HEADS = tuple(_extension_head(size) for size in range(256))


def _reader_of(cls: type) -> Callable[[Any], Any]:
    reader = _readers.get(cls)
    if reader is None:
        reader = _readers[cls] = fields_reader(cls)
    return reader


class Codec:
    """Messages to bytes and back with one resolver; cheaper than the functions below where many pass."""

    __slots__ = ("_depth", "_packers", "resolver")

    def __init__(self, resolver: Resolver = _DATA_ONLY) -> None:
        self.resolver = resolver
        self._depth = 0
        """Registered instances that the present one is inside of."""
        self._packers: list[Any] = []
        """By depth: one is busy at each while it packs."""

    def encode(self, value: Any) -> bytes:
        """The bytes of a message.

        Raises:
            CodecError: something in it has no wire form, it is nested too deeply, or too large; names the
                class.
        """
        form = _forms.get(type(value))
        try:
            if form is None:
                data = self._pack(value)
            else:
                self._depth = 1
                body = form.head + self._pack(form.fields(value))
                size = len(body)
                if size < 256:
                    data = _EXTENSION_HEADS[size] + body
                else:
                    data = msgpack.packb(msgpack.ExtType(_REGISTERED, body))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise CodecError(f"cannot encode {type(value).__qualname__}: {error}") from error
        finally:
            self._depth = 0
        self._check_size(type(value), data)
        return data

    def encode_fields(self, value: Any) -> tuple[str, bytes]:
        """The wire name of a message and the bytes of its fields: those of messages of one name may stand
        one after another, which is a *run*, at a third of the cost of reading each by itself.

        Raises:
            CodecError: as `encode`; and for what is no registered message itself.
        """
        cls = type(value)
        try:
            form = _forms.get(cls) or _form(cls)
            self._depth = 1
            packers = self._packers
            data = (packers[1].pack if len(packers) > 1 else self._pack)(form.fields(value))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise CodecError(f"cannot encode {cls.__qualname__}: {error}") from error
        finally:
            self._depth = 0
        if len(data) > _BUFFER_BYTES:
            self._check_size(cls, data)
        return form.name, data

    def _check_size(self, cls: type, data: bytes) -> None:
        if len(data) > _BUFFER_BYTES:
            # A packer keeps the largest buffer that it ever had.
            self._packers.clear()
        if len(data) > BYTES_MAX:
            raise CodecError(f"{cls.__qualname__} of {len(data)} bytes is over the limit of {BYTES_MAX}")

    def decode_run(self, name: str, count: int, data: bytes) -> list[Any]:
        """The `count` messages of a run, in order; in the place of one that cannot be read, its CodecError.

        Raises:
            CodecError: the run is longer than that.
        """
        cls = message_class(name)
        if cls is None:
            return [_unknown(name)] * count
        read = _rows_readers.get(cls)
        if read is None:
            read = _rows_readers[cls] = rows_reader(cls)
        self._depth = 1
        try:
            rows = msgpack.unpackb(_array_head(count) + data, ext_hook=self._extension, strict_map_key=False)
            return read(rows)
        except Exception:
            # Whatever is wrong with one message shall be said of that one; a field that is missing may have
            # a default.
            return self._decode_each(name, _reader_of(cls), count, data)

    def _decode_each(self, name: str, reader: Callable[[Any], Any], count: int, data: bytes) -> list[Any]:
        messages: list[Any] = []
        unpacker = msgpack.Unpacker(max_buffer_size=len(data))
        unpacker.feed(data)
        end = 0
        while len(messages) < count:
            begin = end
            try:
                unpacker.skip()
                end = unpacker.tell()
            except Exception as error:
                # Nobody can say where the next one would begin.
                return messages + [CodecError(f"{name}: {error!r}")] * (count - len(messages))
            self._depth = 1
            try:
                fields = msgpack.unpackb(data[begin:end], ext_hook=self._extension, strict_map_key=False)
                messages.append(reader(fields))
            except Mismatch as mismatch:
                messages.append(CodecError(f"{name}: {mismatch}"))
            except CodecError as error:
                messages.append(error)
            except Exception as error:
                messages.append(CodecError(f"not a message: {error!r}"))
        if end < len(data):
            raise CodecError(f"{name}: {len(data) - end} bytes behind a run of {count}")
        return messages

    def _pack(self, item: Any) -> bytes:
        packers, depth = self._packers, self._depth
        while depth >= len(packers):
            packers.append(msgpack.Packer(default=self._default, buf_size=_BUFFER_BYTES))
        packed = packers[depth].pack(item)
        assert isinstance(packed, bytes)
        return packed

    def _default(self, item: Any) -> Any:
        cls = type(item)
        form = _forms.get(cls)
        if form is None:
            name = self.resolver.name(item)
            if name is not None:
                return msgpack.ExtType(_ENDPOINT, name.encode())
            if isinstance(item, Enum):
                return item.value
            if isinstance(item, (frozenset, set)):
                return _in_order(item, self._pack_inside)
            form = _form(cls)
        if self._depth >= DEPTH_MAX:
            raise ValueError(f"more than {DEPTH_MAX} messages inside one another")
        return msgpack.ExtType(_REGISTERED, form.head + self._pack_inside(form.fields(item)))

    def _pack_inside(self, item: Any) -> bytes:
        self._depth += 1
        try:
            return self._pack(item)
        finally:
            self._depth -= 1

    def decode(self, data: bytes) -> Any:
        """The message in `data`.

        Raises:
            CodecError: the bytes are too many, not msgpack, name an unknown message, or a field has the
                wrong type; says the path, what was expected and what came.
        """
        if len(data) > BYTES_MAX:
            raise CodecError(f"a message of {len(data)} bytes is over the limit of {BYTES_MAX}")
        self._depth = 0
        try:
            if data[:1] == b"\xc7" and data[1] == len(data) - 3:
                # One extension and no more, as `encode` writes most messages.
                return self._extension(data[2], data[3:])
            return msgpack.unpackb(data, ext_hook=self._extension, strict_map_key=False)
        except CodecError:
            raise
        except Exception as error:
            # Whatever bytes do, to msgpack or to a class's own validators, is an error of the bytes.
            raise CodecError(f"not a message: {error!r}") from error

    def _extension(self, code: int, payload: bytes) -> Any:
        if code == _ENDPOINT:
            return self.resolver.resolve(payload.decode())
        if code != _REGISTERED:
            raise CodecError(f"unknown extension {code}")
        if self._depth >= DEPTH_MAX:
            raise CodecError(f"more than {DEPTH_MAX} messages inside one another")
        self._depth += 1
        name, fields = msgpack.unpackb(payload, ext_hook=self._extension, strict_map_key=False)
        self._depth -= 1
        cls = message_class(name)
        if cls is None:
            raise _unknown(name)
        try:
            return _reader_of(cls)(fields)
        except Mismatch as mismatch:
            raise CodecError(f"{name}: {mismatch}") from None


def _unknown(name: str) -> CodecError:
    return CodecError(f"unknown message {name!r}: is the module that defines it imported?")


def encode(value: Any, resolver: Resolver = _DATA_ONLY) -> bytes:
    """The bytes of a message. Raises CodecError, see `Codec.encode`."""
    return Codec(resolver).encode(value)


def decode(data: bytes, resolver: Resolver = _DATA_ONLY) -> Any:
    """The message in `data`. Raises CodecError, see `Codec.decode`."""
    return Codec(resolver).decode(data)


def _in_order(items: set[Any] | frozenset[Any], pack: Callable[[Any], bytes]) -> list[Any]:
    """A set's items in an order that does not depend on the process."""
    try:
        return sorted(items)
    except TypeError:
        return sorted(items, key=pack)
