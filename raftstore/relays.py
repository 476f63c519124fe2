"""The watches that a store passes on from its members to its readers, each at the next member when one ends.

What comes is passed on in the step in which it comes. A task there is only for a watch whose member has
ended it, and for so many at a time.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from attrs import define, evolve, field

from understudy.actors import ChannelReader, ChannelWriter, Context, EndOfChannel
from understudy.mailbox import ChannelFull, Following, Patience, Phase, SourceSilent, Verdict
from understudy.raftstore.storage import StorageError, Watch, WatchBatch, WatchOpened

log = logging.getLogger("understudy.raftstore")

SEARCHES_MAX: Final = 64
"""Watches for which the next member is looked for at a time; the others wait for their turn."""

Open = Callable[[Watch, str], Awaitable[tuple[ChannelReader[Any], WatchOpened]]]
"""Has a member serve a watch, whose channel is to be called so."""


@define(eq=False)
class Relay:
    watch: Watch
    """With the revision from which it is seen."""
    to: ChannelWriter[Any]
    following: Following[int]
    """Up to which revision everything was passed on."""
    reader: ChannelReader[Any]
    """From the present member, or the last one."""
    unsent: WatchBatch | None = None
    """What its reader had no room for."""
    lost: bool = False
    """Its member has ended it, and the next one does not serve it yet."""


@define
class Relays:
    context: Context[Any]
    open: Open
    verdict: Callable[[Exception], Verdict]
    """What an error means that a member ends or refuses a watch with."""
    patience: Patience
    _lost: deque[Relay] = field(factory=deque)
    """They wait until others are found a member for."""
    _searching: dict[Relay, Callable[[], None]] = field(factory=dict)
    """Those that a member is looked for, and what ends that."""

    def begin(self, watch: Watch, reader: ChannelReader[Any], to: ChannelWriter[Any]) -> None:
        """Pass on a watch that a member serves already, as long as its reader wants."""
        following = Following(self.patience, watch.start_revision - 1, is_after=None)
        relay = Relay(watch, to, following, reader)
        self.context.adopt(to)
        to.on_end(lambda: self._end(relay))
        to.on_room(lambda: self._pass_on(relay))
        self._connect(relay, reader)

    def _end(self, relay: Relay) -> None:
        """Its reader has seen enough, or all there is."""
        relay.reader.cancel()
        cancel = self._searching.pop(relay, None)
        if cancel is not None:
            cancel()
            self._look()

    def _connect(self, relay: Relay, reader: ChannelReader[Any]) -> None:
        relay.reader, relay.lost = reader, False
        relay.following.opened(self.context.world.monotonic())
        reader.on_readable(lambda: self._pass_on(relay))

    def _pass_on(self, relay: Relay) -> None:
        """Send what there is room for."""
        while not relay.to.finished:
            kept, relay.unsent = relay.unsent, None
            batch = kept or relay.reader.receive_nowait()
            if batch is None:
                if relay.reader.finished and not relay.lost:
                    relay.lost = True
                    self._lost.append(relay)
                    self._look()
                return
            try:
                relay.to.try_send(batch)
            except ChannelFull:
                relay.unsent = batch
                return
            # A bookmark may come from before a start in the future.
            relay.following.arrived(max(relay.watch.start_revision - 1, batch.revision))

    def _look(self) -> None:
        """Look for members for those that wait for it, as far as there is room."""
        while self._lost and len(self._searching) < SEARCHES_MAX:
            relay = self._lost.popleft()
            if not relay.to.finished:
                name = f"{self.context.path} {relay.to.label}"
                self._searching[relay] = self.context.start_soon(self._go_on, relay, name=name)

    async def _go_on(self, relay: Relay) -> None:
        """A member serves a watch no longer: go on at another, or end it for the reason that it gave."""
        world, following = self.context.world, relay.following
        error: Exception | None = None
        try:
            await relay.reader.receive()
        except EndOfChannel:
            pass
        except Exception as reason:
            error = reason
        while True:
            verdict = Verdict.RESUME if error is None else self.verdict(error)
            jitter = world.rng("following").random()
            following.broke(error, verdict, world.monotonic(), jitter)
            log.info("%s: %s after %r", relay.to.label, following.phase.value, error)
            if following.phase is Phase.ENDED:
                assert error is not None
                if not isinstance(error, StorageError):
                    raise error
                relay.to.close(error)
                return
            if following.phase is Phase.BACKING_OFF:
                await world.sleep(following.wait_seconds, f"{relay.to.label} back-off")
                following.waited()
            assert following.position is not None
            watch = evolve(relay.watch, start_revision=following.position + 1)
            error = SourceSilent(relay.to.label, self.patience.open_seconds)
            try:
                with world.limit(self.patience.open_seconds):
                    reader, _ = await self.open(watch, relay.to.label)
                    error = None
            except Exception as reason:
                error = reason
            if error is None:
                self._searching.pop(relay, None)
                self._look()
                self._connect(relay, reader)
                return
