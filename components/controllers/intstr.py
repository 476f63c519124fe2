"""Numbers that may be given as a share: `2` or `25%`."""

import math

from understudy.components.machinery.errors import bad_request


def scaled(value: int | str | None, total: int, *, round_up: bool) -> int:
    """The number that an int-or-string of the API means, of `total`; None is 0.

    Raises ApiError (400) for text that is no percentage: validation does not let it in.
    """
    if value is None:
        return 0
    if isinstance(value, int):
        return value
    digits = value.removesuffix("%")
    if digits == value or not digits.isdigit():
        raise bad_request(f"invalid value for IntOrString: invalid type: string is not a percentage: {value}")
    # Exact in integers: 25 % of 3 must not come out as 0.7499...
    return -(-int(digits) * total // 100) if round_up else int(digits) * total // 100


def rounded(value: float) -> int:
    """To the nearest integer, halves away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))
