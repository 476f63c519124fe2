"""Probes: what an instrument may see of every message, from its sending to the end of its handling.

A system without probes pays one look at an empty list for each message.
"""

from __future__ import annotations

from typing import Any

from outcome import Outcome

from understudy.mailbox import Envelope


class Probe:
    """Base class of instruments; each method does nothing. They are called in the system's own thread, must
    be quick, and must not raise."""

    def sent(self, path: str, envelope: Envelope) -> None:
        """A message to the actor at `path` is about to be delivered, here or to another host."""

    def began(self, path: str, envelope: Envelope) -> Any:
        """A handler is about to be called, in the task that it runs in; `ended` gets what this returns."""

    def ended(self, path: str, envelope: Envelope, token: Any, outcome: Outcome[Any]) -> None:
        """The handler has returned, or raised."""

    def changed(self, path: str, incarnation: int, state: str) -> None:
        """The actor at `path` has come into another state of its life."""
