"""Overflow policies: what happens to a user message that finds its mailbox full."""

from collections.abc import Callable, Hashable
from enum import Enum
from typing import Any

from attrs import frozen

from .message import message


class Overflow(Enum):
    """What happens to a user message that finds the mailbox full."""

    REJECT = "reject"
    """The sender gets :class:`MailboxFull`, unless it said that it would wait; nothing is lost."""
    WAIT = "wait"
    """Whoever can wait waits, within its deadline: `send` and `ask`. `tell` gets :class:`MailboxFull`."""
    DROP_NEWEST = "drop-newest"
    """The arriving message becomes a dead letter."""
    DROP_OLDEST = "drop-oldest"
    """The message that has waited longest, of those that are not urgent, becomes a dead letter."""


@frozen
class Conflate:
    """Of several messages with one key only the newest waits, at the place of the first.

    The older one becomes a dead letter as soon as the newer one comes, full or not. A message with another
    key (or None: no key) that finds the mailbox full is rejected.
    """

    key: Callable[[Any], Hashable | None]


OverflowPolicy = Overflow | Conflate


@message("mailbox.full")
@frozen
class MailboxFull(Exception):
    """The receiver's mailbox is full and its policy is to reject: slow down, or ask instead of tell."""

    capacity: int

    def __str__(self) -> str:
        return f"{self.capacity} messages wait already: `send` waits for room"
