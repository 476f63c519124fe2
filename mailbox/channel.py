"""A bounded stream of numbered items between two actors, with credits: the state of both ends.

The reader grants credits, the writer spends one an item, so that neither end holds more than `capacity`
items whatever the other does. Items carry consecutive sequence numbers from 1; the reader refuses a gap.
A channel ends once: closed by the writer (after its items), failed (an error after its items), or
cancelled by the reader.
"""

from collections import deque
from typing import Any

from attrs import define, field

from .message import Refusal


@define
class ReaderState:
    """What the reader's end knows."""

    capacity: int
    buffer: deque[Any] = field(factory=deque, init=False)
    received: int = field(default=0, init=False)
    """Sequence number of the newest item that came."""
    consumed: int = field(default=0, init=False)
    """Items taken out since credits were last granted."""
    ended: bool = field(default=False, init=False)
    error: Exception | None = field(default=None, init=False)

    def accept(self, sequence: int, item: Any) -> None:
        """Take in the item numbered `sequence`."""
        assert not self.ended, "an item after the end of its channel"
        assert sequence == self.received + 1, f"item {sequence} came after item {self.received}"
        assert len(self.buffer) < self.capacity, f"the writer overran its {self.capacity} credits"
        self.received = sequence
        self.buffer.append(item)

    def take(self) -> tuple[Any, int]:
        """The next item, and how many credits to grant for what was taken (0: not yet worth a message)."""
        item = self.buffer.popleft()
        self.consumed += 1
        if self.consumed * 2 >= self.capacity or not self.buffer:
            granted, self.consumed = self.consumed, 0
            return item, granted
        return item, 0

    def end(self, error: Exception | None) -> None:
        """No item follows; `error` says why if that was not planned."""
        if not self.ended:
            self.ended = True
            self.error = error


@define
class WriterState:
    """What the writer's end knows."""

    credits: int
    sent: int = field(default=0, init=False)
    """Sequence number of the newest item that was sent."""
    ended: bool = field(default=False, init=False)
    """Closed, failed, or cancelled by the reader."""

    def next_sequence(self) -> int:
        """Spend a credit on the next item."""
        assert self.credits > 0 and not self.ended, f"{self.credits} credits, ended={self.ended}"
        self.credits -= 1
        self.sent += 1
        return self.sent

    def grant(self, credits: int) -> None:
        """The reader has taken that many items."""
        self.credits += credits


class ChannelClosed(Refusal):
    """The other end of the channel is gone: nothing more can be sent."""


class ChannelFull(Refusal):
    """`try_send` found no credit: the reader is slower than the writer."""
