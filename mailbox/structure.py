"""From plain data to typed fields: what comes out of msgpack, checked against a class's annotations.

A *reader* takes a decoded value and returns what the field shall hold: lists become the tuples or sets that
the annotation names, values become enum members, and everything else must already be of its type. Nothing is
coerced: a number in a text field is an error, not its digits. Registered instances and live references have
been decoded by then, so that a field typed as a union or `Any` holds what was put in.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NewType, TypeVar, Union, get_args, get_origin

import attrs
from attrs import frozen
from cattrs import Converter

Reader = Callable[[Any], Any]

SHOWN_MAX = 60
"""Characters of a wrong value that an error message shows."""

_others = Converter()
"""Knows the types that are none of those below."""


class Mismatch(Exception):
    """A value is not what its annotation says."""

    def __init__(self, expected: str, got: Any) -> None:
        super().__init__()
        self.expected = expected
        shown = repr(got)
        if len(shown) > SHOWN_MAX:
            shown = shown[: SHOWN_MAX - 1] + "…"
        self.got = f"{type(got).__name__} {shown}"
        self.path = ""

    def below(self, step: str) -> "Mismatch":
        """The same, seen from one level further out."""
        self.path = step + self.path
        return self

    def __str__(self) -> str:
        return f"{self.path.lstrip('.') or 'value'}: expected {self.expected}, got {self.got}"


@frozen
class _Field:
    """A field that a constructor takes."""

    name: str
    alias: str
    """The constructor's parameter."""
    type: Any
    reader: Reader | None


def _fields(cls: type) -> list[_Field]:
    attrs.resolve_types(cls)
    return [_Field(a.name, a.alias or a.name, a.type, _reader(a.type)) for a in attrs.fields(cls) if a.init]


def _compiled(template: str, cls: type, known: list[_Field]) -> Any:
    """A function, compiled as attrs compiles constructors, in which `CALL` makes an instance from a mapping
    `values` that is whole and right; it raises where one is not."""
    arguments = []
    for position, field in enumerate(known):
        value = f"values[{field.name!r}]"
        if isinstance(field.type, type) and field.type in _SCALARS:
            # What most fields are: a look instead of a call.
            value = f"(v if type(v := {value}) is {field.type.__name__} else readers[{position}](v))"
        elif field.reader is not None:
            value = f"readers[{position}]({value})"
        arguments.append(f"{field.alias}={value}")
    names = {"cls": cls, "NoneType": NoneType, "readers": [field.reader for field in known]}
    return eval(template.replace("CALL", f"cls({', '.join(arguments)})"), names)


def rows_reader(cls: type) -> Callable[[Any], list[Any]]:
    """What makes instances of an attrs class from a list of mappings; raises when one is not whole or wrong.

    `fields_reader` says which, and what is wrong with it.
    """
    reader: Callable[[Any], list[Any]] = _compiled(
        "lambda rows: [CALL for values in rows]", cls, _fields(cls)
    )
    return reader


def fields_reader(cls: type) -> Callable[[Any], Any]:
    """What makes an instance of an attrs class from a mapping of its fields: unknown ones are ignored."""
    known = _fields(cls)
    needed = [a.name for a in attrs.fields(cls) if a.init and a.default is attrs.NOTHING]
    whole = _compiled("lambda values: CALL", cls, known)

    def read(values: Any) -> Any:
        try:
            return whole(values)
        except (KeyError, TypeError, Mismatch):
            # Something is missing or wrong: say what, or take the defaults.
            return slowly(values)

    def slowly(values: Any) -> Any:
        if not isinstance(values, dict):
            raise Mismatch(f"the fields of {cls.__qualname__}", values)
        arguments = {}
        for field in known:
            if field.name in values:
                value = values[field.name]
                if field.reader is not None:
                    try:
                        value = field.reader(value)
                    except Mismatch as mismatch:
                        raise mismatch.below(f".{field.name}") from None
                arguments[field.alias] = value
        if len(arguments) < len(known):
            missing = [name for name in needed if name not in values]
            if missing:
                raise Mismatch(f"{cls.__qualname__} with {', '.join(missing)}", values)
        return cls(**arguments)

    return read


def _reader(t: Any) -> Reader | None:
    """The reader of a type; None where anything passes."""
    if t is None or t is Any or t is object or isinstance(t, TypeVar):
        return None
    if isinstance(t, NewType):
        return _reader(t.__supertype__)
    if hasattr(t, "__value__"):
        return _reader(t.__value__)
    origin, arguments = get_origin(t), get_args(t)
    if origin is Annotated:
        return _reader(arguments[0])
    if origin in (Union, UnionType):
        return _union(t, arguments)
    if origin is Literal:
        return _literal(arguments)
    cls = origin or t
    if not isinstance(cls, type):
        return _other(t)
    if issubclass(cls, Enum):
        return _enum(cls)
    if cls in _SCALARS:
        return _instance(_SCALARS[cls], cls.__name__)
    if cls is tuple:
        return _tuple(arguments)
    if cls in (list, Sequence) or cls in (set, frozenset, AbstractSet):
        return _collection(cls, arguments)
    if cls in (dict, Mapping):
        return _mapping(arguments)
    if attrs.has(cls) or getattr(cls, "__understudy_live__", False) or issubclass(cls, Exception):
        return _instance((cls,), cls.__qualname__)
    return _other(t)


# A `float` may hold an int, as for the type checker; so may an `int` hold a bool.
_SCALARS: dict[type, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (float, int),
    str: (str,),
    bytes: (bytes,),
    NoneType: (NoneType,),
}


def _instance(classes: tuple[type, ...], name: str) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, classes):
            raise Mismatch(name, value)
        return value

    return read


def _enum(cls: type[Enum]) -> Reader:
    def read(value: Any) -> Any:
        try:
            return cls(value)
        except ValueError:
            raise Mismatch(f"a {cls.__qualname__}", value) from None

    return read


def _literal(allowed: tuple[Any, ...]) -> Reader:
    def read(value: Any) -> Any:
        if value not in allowed:
            raise Mismatch(f"one of {', '.join(map(repr, allowed))}", value)
        return value

    return read


def _union(t: Any, arguments: tuple[Any, ...]) -> Reader:
    readers = [_reader(argument) for argument in arguments]

    def read(value: Any) -> Any:
        if len(readers) == 2 and value is not None and NoneType in arguments:
            # An optional value: what is wrong with it says more than that it is neither.
            reader = readers[0 if arguments[1] is NoneType else 1]
            return value if reader is None else reader(value)
        for reader in readers:
            if reader is None:
                return value
            try:
                return reader(value)
            except Mismatch:
                continue
        raise Mismatch(str(t), value)

    return read


def _items(reader: Reader | None, values: Any, name: str) -> Sequence[Any]:
    if not isinstance(values, (list, tuple)):
        raise Mismatch(name, values)
    if reader is None:
        return values
    items = []
    for index, value in enumerate(values):
        try:
            items.append(reader(value))
        except Mismatch as mismatch:
            raise mismatch.below(f"[{index}]") from None
    return items


def _tuple(arguments: tuple[Any, ...]) -> Reader:
    if not arguments or arguments[-1] is Ellipsis:
        reader = _reader(arguments[0]) if arguments else None
        return lambda values: tuple(_items(reader, values, "a list"))
    readers = [_reader(argument) for argument in arguments]

    def read(values: Any) -> Any:
        if len(_items(None, values, "a list")) != len(readers):
            raise Mismatch(f"{len(readers)} items", values)
        items = []
        for index, (reader, value) in enumerate(zip(readers, values, strict=True)):
            try:
                items.append(value if reader is None else reader(value))
            except Mismatch as mismatch:
                raise mismatch.below(f"[{index}]") from None
        return tuple(items)

    return read


def _collection(cls: type, arguments: tuple[Any, ...]) -> Reader:
    reader = _reader(arguments[0]) if arguments else None
    make: Any = frozenset if cls is AbstractSet else tuple if cls is Sequence else cls
    return lambda values: make(_items(reader, values, "a list"))


def _mapping(arguments: tuple[Any, ...]) -> Reader:
    key_reader, value_reader = (_reader(arguments[0]), _reader(arguments[1])) if arguments else (None, None)

    def read(values: Any) -> Any:
        if not isinstance(values, dict):
            raise Mismatch("a map", values)
        if key_reader is None and value_reader is None:
            return values
        read_values = {}
        for key, value in values.items():
            try:
                read_key = key if key_reader is None else key_reader(key)
                read_values[read_key] = value if value_reader is None else value_reader(value)
            except Mismatch as mismatch:
                raise mismatch.below(f"[{key!r}]") from None
        return read_values

    return read


def _other(t: Any) -> Reader:
    hook = _others.get_structure_hook(t)

    def read(value: Any) -> Any:
        try:
            return hook(value, t)
        except Exception as error:
            raise Mismatch(f"{getattr(t, '__qualname__', t)} ({error})", value) from error

    return read
