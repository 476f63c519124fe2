"""A bounded mailbox with a lane for system messages: sync, atomic, O(1) whatever the backlog.

The state machine only; an actor's wake-up is the runtime's business.
"""

from collections import deque
from enum import Enum
from typing import Any

from attrs import define, field, frozen

from .envelope import Envelope
from .message import message

CAPACITY = 1024
"""User messages that a mailbox holds unless told otherwise."""


class Overflow(Enum):
    """What happens to a user message that finds the mailbox full."""

    REJECT = "reject"
    """The sender gets :class:`MailboxFull`; nothing is lost."""
    DROP_NEWEST = "drop-newest"
    """The arriving message becomes a dead letter."""
    DROP_OLDEST = "drop-oldest"
    """The message that has waited longest becomes a dead letter."""


@message("mailbox.full")
@frozen
class MailboxFull(Exception):
    """The receiver's mailbox is full and its policy is to reject: slow down, or ask instead of tell."""

    capacity: int

    def __str__(self) -> str:
        return f"{self.capacity} messages wait already"


@frozen
class MailboxStatistics:
    """A mailbox at one moment."""

    depth: int
    """User messages waiting."""
    high_water: int
    """The most user messages that ever waited."""
    accepted: int
    """User messages taken in since the start."""
    displaced: int
    """User messages lost to the overflow policy."""


@define
class Mailbox:
    """User messages in order of arrival behind system messages in order of arrival."""

    capacity: int = CAPACITY
    overflow: Overflow = Overflow.REJECT
    _system: deque[Any] = field(factory=deque, init=False)
    _user: deque[Envelope] = field(factory=deque, init=False)
    _high_water: int = field(default=0, init=False)
    _accepted: int = field(default=0, init=False)
    _displaced: int = field(default=0, init=False)

    def put(self, envelope: Envelope) -> Envelope | None:
        """Take a user message in; returns the one that was displaced for it, if any.

        Raises:
            MailboxFull: the mailbox is full and its policy is to reject.
        """
        user = self._user
        displaced = None
        if len(user) >= self.capacity:
            if self.overflow is Overflow.REJECT:
                raise MailboxFull(self.capacity)
            self._displaced += 1
            if self.overflow is Overflow.DROP_NEWEST:
                return envelope
            displaced = user.popleft()
        user.append(envelope)
        self._accepted += 1
        if len(user) > self._high_water:
            self._high_water = len(user)
        return displaced

    def put_system(self, message: Any) -> None:
        """Take a system message in: always accepted, since each has a bounded number of senders."""
        self._system.append(message)

    def next(self) -> Any | None:
        """What is to be done next: a system message, else an :class:`Envelope`, else None."""
        if self._system:
            return self._system.popleft()
        return self._user.popleft() if self._user else None

    def get_system(self) -> Any | None:
        """The next system message, or None."""
        return self._system.popleft() if self._system else None

    def get(self) -> Envelope | None:
        """The next user message, or None."""
        return self._user.popleft() if self._user else None

    def drain(self) -> list[Envelope]:
        """Everything that still waits, taken out: the dead letters of an actor that has ended."""
        rest = list(self._user)
        self._user.clear()
        return rest

    def __bool__(self) -> bool:
        return bool(self._system or self._user)

    def __len__(self) -> int:
        return len(self._system) + len(self._user)

    def statistics(self) -> MailboxStatistics:
        """The counts of this moment."""
        return MailboxStatistics(len(self._user), self._high_water, self._accepted, self._displaced)
