"""Credit windows: how many messages of one peer may wait at one actor. Pure state machines.

The receiver grants, the sender spends one credit a message, and what it may not send yet waits with it, up
to the same number. So a slow actor costs its own senders' patience, and never the connection that others
share: its reader puts every message somewhere at once.
Law: on both sides the messages that were sent and not finished are `window - credits` and `outstanding`,
which are equal once what is on the way has arrived, and never above the window.
"""

from collections import deque
from typing import Generic, TypeVar

from attrs import define, field

from .framing import ProtocolError

T = TypeVar("T")


@define(eq=False)
class SendWindow(Generic[T]):
    """The sender's end: credits of one target, and what waits for them, in order."""

    window: int
    """As the receiver's node told it."""
    credits: int = field(init=False)
    """0 <= credits <= window"""
    waiting: deque[T] = field(factory=deque, init=False)
    """Not empty only when `credits` is 0; at most `window`."""

    def __attrs_post_init__(self) -> None:
        self.credits = self.window

    @property
    def idle(self) -> bool:
        """Nothing is on its way or waiting: the state is that of a new window."""
        return self.credits == self.window

    @property
    def full(self) -> bool:
        """Neither credit nor room to wait for it."""
        return not self.credits and len(self.waiting) >= self.window

    def spend(self) -> bool:
        """Take a credit for a message that is sent now; False when there is none."""
        if self.credits > 0:
            self.credits -= 1
            return True
        return False

    def wait(self, item: T) -> None:
        """Keep a message until there is credit."""
        assert not self.credits and len(self.waiting) < self.window, (self.credits, len(self.waiting))
        self.waiting.append(item)

    def grant(self, credits: int) -> list[T]:
        """The receiver has finished so many; returns what is to be sent now.

        Raises:
            ProtocolError: it had not got so many.
        """
        if credits < 1 or self.credits + credits > self.window:
            raise ProtocolError(f"{credits} credits for {self.window - self.credits} messages")
        self.credits += credits
        released: list[T] = []
        while self.waiting and self.credits:
            self.credits -= 1
            released.append(self.waiting.popleft())
        return released


@define(eq=False)
class ReceiveWindow:
    """The receiver's end: what came and is not finished."""

    window: int
    outstanding: int = field(default=0, init=False)
    """Messages that came and that the sender does not know to be finished; 0 <= outstanding <= window."""
    _finished: int = field(default=0, init=False)
    """Of those, the ones that are finished; 0 <= finished <= outstanding."""

    @property
    def idle(self) -> bool:
        """The sender has all its credits back, or they are on their way."""
        return self.outstanding == 0

    def accept(self, count: int) -> None:
        """So many messages came.

        Raises:
            ProtocolError: more than there were credits.
        """
        if self.outstanding + count > self.window:
            raise ProtocolError(f"{self.outstanding + count} messages for {self.window} credits")
        self.outstanding += count

    def finish(self, count: int = 1) -> int:
        """So many messages are finished; returns the credits to grant (0: not yet worth a frame)."""
        self._finished += count
        assert self._finished <= self.outstanding, f"{self._finished} finished of {self.outstanding}"
        return self.flush() if self._finished * 2 >= self.window else 0

    def answered(self) -> None:
        """One message is finished, and the frame of its answer gives its credit back."""
        assert self.outstanding > self._finished, f"{self._finished} finished of {self.outstanding}"
        self.outstanding -= 1

    def flush(self) -> int:
        """The credits that are due, now."""
        due, self._finished = self._finished, 0
        self.outstanding -= due
        return due
