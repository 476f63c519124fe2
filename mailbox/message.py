"""Messages: frozen attrs classes with a stable wire name, typed by the protocol they belong to.

A *protocol* is any class that stands for what a group of actors understands; the actor class itself will
do. `Message[P]` may be told to a `Ref[P]`; `Request[P, R]` may also be asked, and its answer is an `R`.
Both checks are made by the type checker and cost nothing at run time.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

P = TypeVar("P")
R = TypeVar("R", covariant=True)  # an answer that is an int is an object, too: `print(await ref.ask(...))`
T = TypeVar("T", bound=type)


class Message(Generic[P]):
    """Something that may be told to an actor that speaks the protocol `P`."""

    __slots__ = ()


class Request(Message[P], Generic[P, R]):
    """A message that is answered with an `R`."""

    __slots__ = ()


class Refusal(Exception):
    """An answer that says no: raised in a handler, it reaches the asker and the actor lives on.

    Subclasses are frozen attrs classes registered with :func:`message`, so that they cross hosts.
    Any other exception in a handler is a broken invariant: it crashes the actor.
    """


_by_name: dict[str, type] = {}
_names: dict[type, str] = {}


def message(wire_name: str) -> Callable[[T], T]:
    """Register a frozen attrs class under the name that it has on the wire.

    The name is part of the wire format: renaming the class keeps it, and two classes may not share one.
    Versions: unknown fields are ignored on decoding, and a new field needs a default.

    Raises:
        TypeError: the class is not a frozen attrs class, or the name is taken.
    """

    def register(cls: T) -> T:
        if "__attrs_attrs__" not in vars(cls) or "__setattr__" not in vars(cls):
            raise TypeError(
                f"{cls.__qualname__} must be a frozen attrs class: put @attrs.frozen below @message"
            )
        known = _by_name.get(wire_name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(
                f"the wire name {wire_name!r} of {cls.__qualname__} is {known.__qualname__}'s already"
            )
        _by_name[wire_name] = cls
        _names[cls] = wire_name
        return cls

    return register


def wire_name(cls: type) -> str:
    """The wire name of a registered class. Raises TypeError with a hint when it has none."""
    try:
        return _names[cls]
    except KeyError:
        hint = f'decorate it with @message("...") to let {cls.__qualname__} cross hosts'
        raise TypeError(f"{cls.__qualname__} has no wire name: {hint}") from None


def message_class(name: str) -> type | None:
    """The class registered under a wire name, or None."""
    return _by_name.get(name)


def registered() -> dict[str, type]:
    """Every registered class by wire name (a copy)."""
    return dict(_by_name)


def label(value: Any) -> str:
    """How a message is called in traces: its wire name, or its class name where it has none."""
    cls = type(value)
    return _names.get(cls, cls.__name__)
