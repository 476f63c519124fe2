"""The written form of an object: which fields are always there and which empty ones never are.

The API conventions call it the optional and required fields of a type; a client sees it as `status: {}` on a
fresh Deployment and as the disappearance of `args: []`. `shape_facts` lists one letter a field:

`s` `i` `b`  a string, integer, boolean that is always written ("" 0 false)
`o`          a scalar whose zero is the same as absence
`L` `A`      a list that is left out when empty; one that is `null` then. A message may follow: its items
`M` `Q` `q`  a map (a message may follow: its values); a map of quantities; a quantity
`S` `P` `N`  a struct that is always written; one that may be absent; one that is `null` when absent
`t` `u`      a time to the second, to the microsecond; capitals when always written, `null` when unset

Fields without a letter may hold explicit zeros, or hold JSON that the API does not look into.
"""

from functools import cache
from typing import Any

from attrs import frozen

from understudy.components.machinery.defaults import shape_facts
from understudy.components.machinery.defaults.scalars import canonical_time, resource_quantity
from understudy.components.machinery.quantity import canonical

Object = dict[str, Any]

_ZEROS: dict[str, Any] = {"s": "", "i": 0, "b": False, "T": None, "U": None, "A": None, "N": None}


@frozen
class _Shape:
    fields: dict[str, tuple[str, str]]
    """Field to (letter, message of the items or of the struct)."""
    always: tuple[tuple[str, str, str], ...]
    """(field, letter, message) of what is written even when unset."""


@cache
def _shape(message: str) -> _Shape:
    fields = {}
    for entry in shape_facts.MESSAGES.get(message, "").split():
        field, _, code = entry.rpartition(":")
        fields[field] = (code[0], code[1:])
    always = tuple(
        (field, letter, child) for field, (letter, child) in fields.items() if letter in "sibTUANS"
    )
    return _Shape(fields, always)


def message_for(api_version: str, kind: str) -> str | None:
    """The type that objects of the kind have, or None for a kind without one (custom resources)."""
    return shape_facts.KINDS.get(f"{api_version} {kind}")


def field_message(message: str, field: str) -> str | None:
    """The type of a struct field, or None when the field is not a struct."""
    letter, child = _shape(message).fields.get(field, ("", ""))
    return child if letter in ("S", "P", "N") else None


def zero(message: str) -> Object:
    """A fresh value of the type with nothing set, as it is written."""
    value: Object = {}
    normalise(value, message)
    return value


def normalise(obj: Object, message: str) -> None:
    """Bring the object into its written form, in place.

    Nulls and empty optional values go, required zero values come, quantities and times take their canonical
    texts. The object's fields must have the types of the API (`decoding.check_types`).
    """
    shape = _shape(message)
    fields = shape.fields
    for key in tuple(obj):
        value = obj[key]
        if value is None:
            del obj[key]
            continue
        entry = fields.get(key)
        if entry is None:
            continue
        letter, child = entry
        if letter == "o":
            if not value:
                del obj[key]
        elif letter in "SPN":
            if isinstance(value, dict):  # a schema may also be a boolean, or a list of schemas
                normalise(value, child)
        elif letter in "LA":
            if not value:
                del obj[key]
            elif child:
                for item in value:
                    if isinstance(item, dict):
                        normalise(item, child)
        elif letter == "M":
            if not value:
                del obj[key]
            elif child:
                for item in value.values():
                    if isinstance(item, dict):
                        normalise(item, child)
        elif letter == "Q":
            if not value:
                del obj[key]
            else:
                for name, amount in value.items():
                    value[name] = resource_quantity(str(amount))
        elif letter == "q":
            obj[key] = canonical(str(value))
        elif letter in "tTuU":
            obj[key] = canonical_time(value, microseconds=letter in "uU")
    for field, letter, child in shape.always:
        if field not in obj:
            obj[field] = zero(child) if letter == "S" else _ZEROS[letter]
