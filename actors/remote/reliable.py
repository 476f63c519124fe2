"""At-least-once delivery that dedups: the two ends of a numbered stream of messages. Pure state machines.

The sender keeps what is not acknowledged and sends all of it again after a reconnect. The receiver takes the
next number only (go-back-N: what is early will come again), so each message is handed on once and in order
for as long as both ends keep their state. Whoever lost it has a new incarnation, and the stream fails.
"""

from collections import deque
from typing import Generic, TypeVar

from attrs import define, field

from .framing import ProtocolError

T = TypeVar("T")


@define(eq=False)
class Outbox(Generic[T]):
    """The sender's end."""

    capacity: int
    """Messages that may be unacknowledged."""
    sent: int = field(default=0, init=False)
    """Number of the newest message; the first is 1."""
    acknowledged: int = field(default=0, init=False)
    """Everything up to this number is done; acknowledged <= sent."""
    _unacknowledged: deque[T] = field(factory=deque, init=False)
    """Exactly the messages acknowledged + 1 ... sent."""

    @property
    def full(self) -> bool:
        """No further message is taken before one is acknowledged."""
        return len(self._unacknowledged) >= self.capacity

    def add(self, item: T) -> int:
        """Take a message in; returns its number."""
        assert not self.full, f"{self.capacity} messages are unacknowledged"
        self._unacknowledged.append(item)
        self.sent += 1
        return self.sent

    def acknowledge(self, number: int) -> int:
        """Everything up to `number` is done; returns how many became so. An old one changes nothing.

        Raises:
            ProtocolError: nothing of that number was sent.
        """
        if not 0 <= number <= self.sent:
            raise ProtocolError(f"message {number} is acknowledged and {self.sent} were sent")
        news = max(0, number - self.acknowledged)
        for _ in range(news):
            self._unacknowledged.popleft()
        self.acknowledged += news
        return news

    def unacknowledged(self) -> list[tuple[int, T]]:
        """What is to be sent again, with its numbers, in order."""
        return list(enumerate(self._unacknowledged, self.acknowledged + 1))


@define(eq=False)
class Inbox:
    """The receiver's end."""

    received: int = field(default=0, init=False)
    """Number of the newest message that was handed on, none before it missing."""
    done: int = field(default=0, init=False)
    """Everything up to this number is done; done <= received."""
    acknowledged: int = field(default=0, init=False)
    """What the sender was told of `done`; acknowledged <= done. The owner writes it."""
    _done_early: set[int] = field(factory=set, init=False)
    """Done, but something before them is not."""

    def accept(self, number: int) -> bool:
        """Whether the message of that number is to be handed on: it is the next one."""
        if number != self.received + 1:
            return False
        self.received = number
        return True

    def finish(self, number: int) -> None:
        """A message is done."""
        assert self.done < number <= self.received, (self.done, number, self.received)
        self._done_early.add(number)
        while self.done + 1 in self._done_early:
            self.done += 1
            self._done_early.remove(self.done)
