"""A concurrent history: operations with the times at which they were called and answered."""

from enum import Enum
from typing import Any, Final

from attrs import field, frozen


class Unknown(Enum):
    """The result of an operation that was never answered, or was answered "maybe"."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN


@frozen
class Operation:
    """One call of one client. Times are of one clock, in any unit.

    An operation whose outcome is unknown may take effect at any time after its call, or never.
    """

    client: int
    called: float
    returned: float | None
    """None exactly when the result is unknown."""
    request: Any
    result: Any = field(default=UNKNOWN)

    def __attrs_post_init__(self) -> None:
        if (self.returned is None) != (self.result is UNKNOWN):
            raise ValueError(f"an operation has a time of return exactly when it has a result: {self}")
        if self.returned is not None and self.returned < self.called:
            raise ValueError(f"an operation returns after it is called: {self}")
