"""Resource quantities: exact numbers with a suffix ("100m", "1.5Gi", "12e6").

Three families of suffixes, each a *format*: decimal (n u m "" k M G T P E), binary (Ki ... Ei) and decimal
exponent (e3, E-3). A quantity is rewritten in canonical form: no fraction, the largest suffix that needs
none, the format it was written in; a binary quantity that is not a whole number of units, or smaller than
1024, falls back to decimal. Nothing finer than 1n is kept: smaller amounts are rounded away from zero,
because who asks for some of a resource should get some. Rules: the API conventions, "Quantity" of the core
types.
"""

from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from typing import Final, Literal

Format = Literal["DecimalSI", "BinarySI", "DecimalExponent"]

_PATTERN_HINT: Final = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX: Final = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_BINARY_SUFFIX: Final = {exponent: suffix for suffix, exponent in _BINARY.items()}
_NANO: Final = 10**9
_BINARY_MAX: Final = (2**63 - 1) * _NANO
_EXPONENT_LIMIT: Final = 10_000
"""Beyond it the number might not fit in memory: "1e999999999" must not take the server down."""


class QuantityError(ValueError):
    """A text that is no quantity; the message says what was expected."""


def parse(text: str | float) -> Fraction:
    """The exact value of a quantity, a whole number of nano-units. Raises QuantityError."""
    nanos, _ = _parse(text if isinstance(text, str) else str(text))
    return Fraction(nanos, _NANO)


def canonical(text: str | float) -> str:
    """The quantity as the server rewrites it: `1024Ki` is `1Mi`, `0.5` is `500m`. Raises QuantityError."""
    return _render(*_parse(text if isinstance(text, str) else str(text)))


def add(left: str | float, right: str | float) -> str:
    """The sum in canonical form, in the format of `left` (of `right` when `left` is zero)."""
    return _combine(left, right, 1)


def subtract(left: str | float, right: str | float) -> str:
    """The difference in canonical form, in the format of `left` (of `right` when `left` is zero)."""
    return _combine(left, right, -1)


def total(quantities: Iterable[str | float]) -> str:
    """The sum of any number of quantities, `0` for none."""
    result = "0"
    for quantity in quantities:
        result = add(result, quantity)
    return result


def compare(left: str | float, right: str | float) -> int:
    """-1, 0 or 1 as `left` is smaller than, equal to or greater than `right`."""
    a, b = parse(left), parse(right)
    return (a > b) - (a < b)


def round_up(text: str | float, exponent: int = -3) -> str:
    """The quantity rounded away from zero to a multiple of 10**exponent, canonical.

    Resource lists (requests, limits, capacity, quota) are kept in thousandths: `100n` becomes `1m`.
    """
    assert -9 <= exponent <= 18, exponent
    nanos, format = _parse(text if isinstance(text, str) else str(text))
    step = 10 ** (exponent + 9)
    magnitude = -(-abs(nanos) // step) * step
    return _render(magnitude if nanos >= 0 else -magnitude, format)


def render(value: Fraction, format: Format = "DecimalSI") -> str:
    """An exact value in canonical form; finer than 1n is rounded away from zero."""
    return _render(_nanos(value), format)


def format_of(text: str | float) -> Format:
    """The family of suffixes the quantity is written in. Raises QuantityError."""
    return _parse(text if isinstance(text, str) else str(text))[1]


def _combine(left: str | float, right: str | float, sign: int) -> str:
    a, a_format = _parse(left if isinstance(left, str) else str(left))
    b, b_format = _parse(right if isinstance(right, str) else str(right))
    return _render(a + sign * b, a_format if a else b_format)


def _nanos(value: Fraction) -> int:
    scaled = value * _NANO
    magnitude = -(-abs(scaled.numerator) // scaled.denominator)
    return magnitude if scaled >= 0 else -magnitude


@lru_cache(maxsize=4096)
def _parse(text: str) -> tuple[int, Format]:
    if not text:
        raise QuantityError(_PATTERN_HINT)
    negative = text[0] == "-"
    position = 1 if text[0] in "+-" else 0
    whole, position = _digits(text, position)
    fraction = ""
    if position < len(text) and text[position] == ".":
        fraction, position = _digits(text, position + 1)
    exponent, base, format = _suffix(text[position:])
    digits = int((whole + fraction) or "0")
    if base == 2:
        value = Fraction(digits * 2**exponent, 10 ** len(fraction))
    else:
        shift = exponent - len(fraction)
        value = Fraction(digits * 10**shift) if shift >= 0 else Fraction(digits, 10**-shift)
    nanos = _nanos(value)
    if format == "BinarySI":
        nanos = min(nanos, _BINARY_MAX)
        if 0 < nanos < _NANO:
            format = "DecimalSI"
    return (-nanos if negative else nanos), format


def _digits(text: str, start: int) -> tuple[str, int]:
    end = start
    while end < len(text) and text[end] in "0123456789":
        end += 1
    return text[start:end], end


def _suffix(suffix: str) -> tuple[int, int, Format]:
    """(exponent, base, format) of a suffix."""
    if suffix in _DECIMAL:
        return _DECIMAL[suffix], 10, "DecimalSI"
    if suffix in _BINARY:
        return _BINARY[suffix], 2, "BinarySI"
    letters = suffix.lstrip("eEinumkKMGTP")
    number, end = _digits(letters, 1 if letters[:1] in ("+", "-") and letters else 0)
    if end != len(letters):
        raise QuantityError(_PATTERN_HINT)
    if suffix[0] not in "eE" or len(suffix) - len(letters) != 1 or not number:
        raise QuantityError("unable to parse quantity's suffix")
    exponent = int(letters)
    if abs(exponent) > _EXPONENT_LIMIT:
        raise QuantityError(f"unable to parse numeric part of quantity: exponent beyond {_EXPONENT_LIMIT}")
    return exponent, 10, "DecimalExponent"


def _render(nanos: int, format: Format) -> str:
    if nanos == 0:
        return "0"
    if format == "BinarySI" and abs(nanos) >= 1024 * _NANO and nanos % _NANO == 0:
        value, exponent = nanos // _NANO, 0
        while value % 1024 == 0 and exponent < 60:
            value //= 1024
            exponent += 10
        return f"{value}{_BINARY_SUFFIX.get(exponent, '')}"
    value, exponent = nanos, -9
    while value % 1000 == 0 and (exponent < 18 or format == "DecimalExponent"):
        value //= 1000
        exponent += 3
    if format == "DecimalExponent":
        return f"{value}e{exponent}" if exponent else str(value)
    return f"{value}{_DECIMAL_SUFFIX[exponent]}"
