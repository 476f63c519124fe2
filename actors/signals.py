"""System messages: what an actor's mailbox loop is told beside the messages of its protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import define, frozen

if TYPE_CHECKING:
    from .actor import Terminated
    from .incarnation import Incarnation
    from .registry import ToldSubscription


@frozen
class Stop:
    """End for good."""


@frozen
class Leave:
    """End this incarnation; the supervision decides what follows."""

    incarnation: int


@frozen
class Notice:
    """An actor that this incarnation watches has ended."""

    incarnation: int
    terminated: Terminated


@frozen
class ListingChanged:
    """An incarnation has subscribed to a key of the registry, and has yet to be told the newest listing."""

    incarnation: int
    subscription: ToldSubscription


@define(eq=False)
class Inspection:
    """Do something between two messages, on behalf of whoever looks at the actor."""

    act: Callable[[Incarnation], None]
    lose: Callable[[Exception], None]
    """Called instead when the actor ends first, or when `act` raises."""
    withdrawn: bool = False
    """Whoever wanted it no longer waits."""
