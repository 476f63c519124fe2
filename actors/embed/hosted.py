"""The Trio side of an embedded system: it opens a world and a system, and makes calls for its host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from attrs import define, field
from outcome import Error, Outcome, Value

from understudy.actors.real import RealWorld
from understudy.actors.system import ActorSystem
from understudy.actors.world import World, only_leaf

SHUTDOWN_SECONDS = 10.0
"""How long the actors may take to stop, all together, before they are cancelled."""


class SystemEnded(Exception):
    """The embedded actor system has ended, so the call was not made, or was given up half-way."""

    def __init__(self) -> None:
        super().__init__("the actor system has ended: calls belong inside its block")


Answer = Callable[[Outcome[Any]], None]
"""Where the outcome of a call goes; called in the Trio thread, at most once."""


@define(eq=False)
class Hosted:
    """A running system, and the calls that its host makes into it. Touched in the Trio thread only."""

    world: World
    system: ActorSystem
    _nursery: trio.Nursery
    """Holds the calls in progress."""
    linger_passes: int = 0
    """So many passes of Trio's loop go on after the last answer. As a guest, Trio waits in another thread, to
    call it back costs several times what an ask does, and whoever asks again at once finds it awake."""
    _passes_left: int = field(default=0, init=False)
    _stopping: trio.Event = field(factory=trio.Event, init=False)

    def call(
        self, function: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...], answer: Answer
    ) -> Callable[[], None]:
        """Call an async function in a Trio task of its own; returns what cancels it.

        The outcome is `SystemEnded` when the system ends first; a call that was cancelled has none.
        """
        scope = trio.CancelScope()
        if self._stopping.is_set():
            answer(Error(SystemEnded()))
            return scope.cancel
        name = getattr(function, "__qualname__", "call")
        self._nursery.start_soon(self._make, function, arguments, answer, scope, name=name)
        return scope.cancel

    async def _make(
        self,
        function: Callable[..., Awaitable[Any]],
        arguments: tuple[Any, ...],
        answer: Answer,
        scope: trio.CancelScope,
    ) -> None:
        try:
            with scope:
                answer(Value(await function(*arguments)))
        except trio.Cancelled:
            answer(Error(SystemEnded()))
            raise
        except Exception as error:
            leaf = only_leaf(error)
            answer(Error(leaf if isinstance(leaf, Exception) else error))
        lingering, self._passes_left = self._passes_left > 0, self.linger_passes
        # One call lingers for all, so that many calls at a time cost no more.
        while not lingering and self._passes_left:
            self._passes_left -= 1
            await trio.lowlevel.checkpoint()

    def stop(self) -> None:
        """Give up the calls in progress and stop every actor."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Nothing new is started any more."""
        return self._stopping.is_set()

    async def until_stopped(self) -> None:
        """Wait for `stop`."""
        await self._stopping.wait()


async def host(ready: Callable[[Hosted], None], seed: int | None, shutdown_seconds: float) -> None:
    """Run a system until it is told to stop; `ready` gets it once it runs.

    Raises:
        RestartIntensityExceeded: an actor without a parent crashed too often.
    """
    async with (
        RealWorld.open(seed) as world,
        ActorSystem.open(world, shutdown_seconds=shutdown_seconds) as system,
        trio.open_nursery() as nursery,
    ):
        hosted = Hosted(world, system, nursery)
        try:
            ready(hosted)
            await hosted.until_stopped()
        finally:
            # Also when the system fails: from now on nobody starts anything.
            hosted.stop()
            nursery.cancel_scope.cancel()
