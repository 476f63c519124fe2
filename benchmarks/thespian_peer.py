"""Thespian's consumer: in a module of its own, because Thespian imports an actor's module again by name."""

from typing import Any

from thespian.actors import Actor


class ThespianConsumer(Actor):  # type: ignore[misc]
    """Counts tuples, answers numbers with themselves and anything else with the count."""

    def __init__(self) -> None:
        self.seen = 0

    def receiveMessage(self, message: Any, sender: Any) -> None:
        if isinstance(message, tuple):
            self.seen += 1
        elif isinstance(message, int):
            self.send(sender, message)
        elif message == "count":
            self.send(sender, self.seen)
