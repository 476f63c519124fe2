"""Short ways to make findings; see `errors.FieldError` for what they become."""

from collections.abc import Iterable
from typing import Any

from understudy.components.machinery.errors import FieldError

Findings = list[FieldError]


def required(path: str, detail: str = "") -> FieldError:
    """A value must be there."""
    return FieldError("FieldValueRequired", path, "", detail)


def invalid(path: str, value: Any, detail: str) -> FieldError:
    """The value is not of the form it should be."""
    return FieldError("FieldValueInvalid", path, value, detail)


def not_supported(path: str, value: Any, supported: Iterable[str]) -> FieldError:
    """The value is not among the supported ones."""
    listed = ", ".join(f'"{item}"' for item in supported)
    return FieldError("FieldValueNotSupported", path, value, f"supported values: {listed}")


def duplicate(path: str, value: Any, detail: str = "") -> FieldError:
    """The value was there before and may be there once."""
    return FieldError("FieldValueDuplicate", path, value, detail)


def forbidden(path: str, detail: str) -> FieldError:
    """The field may not be set, or not be changed, in this situation."""
    return FieldError("FieldValueForbidden", path, "", detail)


def not_found(path: str, value: Any, detail: str = "") -> FieldError:
    """The value names something that is not there."""
    return FieldError("FieldValueNotFound", path, value, detail)


def too_long(path: str, detail: str) -> FieldError:
    """The value has too many characters or bytes."""
    return FieldError("FieldValueTooLong", path, "", detail)


def too_many(path: str, count: int, limit: int) -> FieldError:
    """The list has too many items."""
    return FieldError("FieldValueTooMany", path, count, f"must have at most {limit} items")


def type_invalid(path: str, value: Any, detail: str) -> FieldError:
    """The value has another type than it should."""
    return FieldError("FieldValueTypeInvalid", path, value, detail)


def invalid_all(path: str, value: Any, problems: Iterable[str]) -> Findings:
    """One finding for each problem of a name check."""
    return [FieldError("FieldValueInvalid", path, value, problem) for problem in problems]


def immutable(path: str, new: Any, old: Any) -> Findings:
    """The value may not change once the object exists."""
    return [] if new == old else [invalid(path, new, "field is immutable")]


def non_negative(path: str, value: int) -> Findings:
    """The number may not be below zero."""
    return [] if value >= 0 else [invalid(path, value, "must be greater than or equal to 0")]


def one_of(path: str, value: str, supported: tuple[str, ...]) -> Findings:
    """The value is among the supported ones."""
    return [] if value in supported else [not_supported(path, value, supported)]
