"""A bounded stream of numbered items between two actors, with credits: the state of both ends.

The reader grants credits, the writer spends one an item, so that neither end holds more than `capacity`
items whatever the other does. Items carry consecutive sequence numbers from 1; the reader holds back what
comes before its time.
A channel ends once: closed by the writer (after its items), failed (an error after its items), or
cancelled by the reader. A writer that may not wait can have its unsent items conflated by key.
"""

from collections import deque
from collections.abc import Hashable
from typing import Any

from attrs import define, field, frozen

from .conflation import Conflation
from .message import Refusal, message


@define
class ReaderState:
    """What the reader's end knows."""

    capacity: int
    buffer: deque[Any] = field(factory=deque, init=False)
    received: int = field(default=0, init=False)
    """Sequence number of the newest item that came, none before it missing."""
    early: dict[int, Any] = field(factory=dict, init=False)
    """Items that overtook others: those of a writer that moved to another host come by another way."""
    consumed: int = field(default=0, init=False)
    """Items taken out since credits were last granted."""
    ended: bool = field(default=False, init=False)
    """Nothing more will come; what is in the buffer may still be read."""
    error: Exception | None = field(default=None, init=False)
    _ends_at: int | None = field(default=None, init=False)
    """Sequence number of the last item, once the writer has told it."""

    def accept(self, sequence: int, item: Any) -> list[Any]:
        """Take in the item numbered `sequence`; returns the items that can now be read, in order."""
        assert not self.ended, "an item after the end of its channel"
        assert sequence > self.received and sequence not in self.early, f"item {sequence} came twice"
        assert self._ends_at is None or sequence <= self._ends_at, f"item {sequence} after the last"
        held = len(self.buffer) + len(self.early)
        assert held < self.capacity, f"the writer overran its {self.capacity} credits"
        self.early[sequence] = item
        arrived = []
        while self.received + 1 in self.early:
            self.received += 1
            arrived.append(self.early.pop(self.received))
        self.buffer.extend(arrived)
        self.ended = self.received == self._ends_at
        return arrived

    def take(self) -> tuple[Any, int]:
        """The next item, and how many credits to grant for what was taken (0: not yet worth a message)."""
        item = self.buffer.popleft()
        self.consumed += 1
        if self.consumed * 2 >= self.capacity or not self.buffer:
            granted, self.consumed = self.consumed, 0
            return item, granted
        return item, 0

    def finish(self, sent: int, error: Exception | None) -> None:
        """No item follows the one numbered `sent`; `error` says why if that was not planned."""
        if not self.ended:
            assert sent >= self.received, f"the channel ends at {sent}, but item {self.received} came"
            self._ends_at = sent
            self.error = error
            self.ended = self.received == sent

    def break_off(self, error: Exception) -> None:
        """Nothing more can come; what came in order may still be read, and then there is the error."""
        if not self.ended:
            self.ended = True
            self.error = error
            self.early.clear()

    def cancel(self, error: Exception | None) -> None:
        """Nothing more is read: what came and was not taken is gone."""
        if not self.ended:
            self.ended = True
            self.error = error
            self.buffer.clear()
            self.early.clear()


@define
class WriterState:
    """What the writer's end knows."""

    credits: int
    sent: int = field(default=0, init=False)
    """Sequence number of the newest item that was sent."""
    ended: bool = field(default=False, init=False)
    """Closed, failed, or cancelled by the reader."""
    unsent: Conflation = field(factory=Conflation, init=False)
    """Not empty only without credits."""
    draining: bool = field(default=False, init=False)
    """Closed, but what is unsent still goes out before the reader is told."""

    def put(self, key: Hashable, item: Any, keys_max: int) -> bool:
        """Keep an item until there is credit for it; False: there is no room for another key."""
        assert self.credits <= 0 and not self.ended, f"{self.credits} credits, ended={self.ended}"
        return self.unsent.put(key, item, keys_max)

    def end(self) -> None:
        """Nothing more is sent, of what is unsent neither."""
        self.ended, self.draining = True, False
        self.unsent.clear()

    def next_sequence(self) -> int:
        """Spend a credit on the next item."""
        may = not self.ended or self.draining
        assert self.credits > 0 and may, f"{self.credits} credits, ended={self.ended}"
        self.credits -= 1
        self.sent += 1
        return self.sent

    def take_back(self, sequence: int) -> None:
        """The item numbered `sequence` was not sent after all."""
        assert sequence == self.sent, f"item {self.sent} was sent after item {sequence}"
        self.credits += 1
        self.sent -= 1

    def grant(self, credits: int) -> None:
        """The reader has taken that many items."""
        self.credits += credits


@message("channel.closed")
@frozen
class ChannelClosed(Refusal):
    """The other end of the channel is gone: nothing more can be sent."""

    label: str


@message("channel.full")
@frozen
class ChannelFull(Refusal):
    """`try_send` found no credit, or `send_latest` no room for another key: the reader is slower than the
    writer."""

    label: str
