"""What is seen of messages: those that reached somebody, and those that nobody handled."""

from collections import Counter, deque
from typing import Any

from attrs import define, field, frozen

DEAD_LETTERS_MAX = 1000
"""How many dead letters are kept to be looked at; the counts go on."""


@frozen
class DeadLetter:
    """A message that nobody handled."""

    path: str
    sender: str
    message: Any
    reason: str
    """One of few phrases, so that it can be counted."""
    detail: str = ""
    """What else there is to say of this one."""


@define
class DeadLetterBox:
    """The last dead letters, and how many there were for each reason."""

    letters: deque[DeadLetter] = field(factory=lambda: deque(maxlen=DEAD_LETTERS_MAX), init=False)
    counts: Counter[str] = field(factory=Counter, init=False)
    """By reason."""

    def add(self, letter: DeadLetter) -> None:
        """Keep and count one."""
        self.counts[letter.reason] += 1
        self.letters.append(letter)


@frozen
class Delivery:
    """A message, or an item of a channel, that reached its receiver: what observers see."""

    seconds: float
    """Monotonic time."""
    sender: str
    """Path of the sending actor; of a channel item: the channel's label."""
    receiver: str
    message: Any
    ask: int = 0
    """Names the ask that this is the request or the answer of; 0 for what nobody waits for."""
    answer: bool = False
    """The answer to an ask, or the exception that came instead of one."""
    channel: int = 0
    """Number of the channel that the item came through; 0 for what was sent to an actor."""
