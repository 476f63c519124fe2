"""A timer for whatever is due first, of an actor that has much that is due at some time."""

from collections.abc import Callable
from typing import Final

from attrs import define, field

from understudy.actors import Timer, World

ROUNDING_S: Final = 1e-6
"""Timers are this late: one that fires a rounding error too early would find nothing due, for ever."""


@define(eq=False)
class Waking:
    """Calls `wake` by the earliest of the times that it was given, once; then it waits for another.

    Who is woken looks at what is due, by his own host's clock, and says when the next is. It may be early,
    where the clock has changed its speed meanwhile.
    """

    world: World
    wake: Callable[[], None]
    """Called on nobody's behalf: it sets a signal, and looks at no clock."""
    label: str
    due_s: float = field(default=float("inf"), init=False)
    """When it wakes; infinity while it is not to."""
    _timer: Timer | None = field(default=None, init=False)

    def by(self, due_s: float) -> None:
        """Wake by then, or before."""
        if due_s < self.due_s:
            if self._timer is not None:
                self._timer.cancel()
            self.due_s = due_s
            delay_s = max(0.0, due_s - self.world.monotonic()) + ROUNDING_S
            self._timer = self.world.call_later(delay_s, self._fire, self.label)

    def _fire(self) -> None:
        self.due_s, self._timer = float("inf"), None
        self.wake()
