"""An envelope: a message on its way, with who sent it and who waits for the answer."""

from collections.abc import Callable
from typing import Any, Protocol

from attrs import define


class Reply(Protocol):
    """Where an answer goes. The runtime implements it; a mailbox only carries it."""

    __slots__ = ()

    def answer(self, value: Any) -> None:
        """Give the asker its answer; ignored when it no longer waits."""

    def fail(self, error: Exception) -> None:
        """Raise `error` at the asker; ignored when it no longer waits."""

    def taken(self, work: Any) -> None:
        """The answer depends on `work` alone from now on: what the runtime uses to find circles of asks."""
        del work  # whoever asks from where no circle can be seen has nothing to note

    def wanted(self) -> bool:
        """Whether, as far as is known here, the asker still waits."""

    def on_abandoned(self, cancel: Callable[[], None]) -> None:
        """Call `cancel` when the asker no longer waits; at once if that is so already."""


@define(eq=False)
class Envelope:
    """A message and what the runtime must know of it."""

    message: Any
    sender: str
    """Path of the sending actor, or "" when the message came from outside the system."""
    reply: Reply | None = None
    incarnation: int | None = None
    """The one incarnation of the receiver that it is for; None: whichever runs."""
    cause: tuple[str, str] | None = None
    """The story that it belongs to and its own step in it, while causes are traced."""


Told = tuple[Any, str]
"""The message and the sender of an envelope that has nothing else: what most messages are, at a fraction of
the cost of an object. A mailbox holds either."""


def envelope_of(entry: Envelope | Told) -> Envelope:
    """The envelope of whatever a mailbox held."""
    return Envelope(*entry) if type(entry) is tuple else entry  # type: ignore[return-value]
