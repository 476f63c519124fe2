"""Supervised channels: a stream from a source that may die, be cut off, overflow or forget.

    follower: Supervised[int, Batch, list[Row]] = Supervised(
        self.world, "orders",
        open=lambda position: asked(self.context, "orders", 256, lambda to: ref.ask(Follow(position, to))),
        position_of=lambda batch: batch.number,
        snapshot=self.read_all,                      # -> (position, rows)
    )
    async for news in follower.feed(self.context):
        if isinstance(news, Restarted): ...          # the rows as of a position; nothing else is missing
        else: ...                                    # the next batch

`open(position)` is an asynchronous context manager around the items after `position`, and closes what it
opened. It is called anew for each connection, so it may look for the source anew. What the follower does
when a connection ends is said in `mailbox.following`; this module gives it time and deadlines. A source
that cannot send more to a slow reader ends the stream, with an error, and is resumed like any other. One that
no longer has what comes after a position refuses with `PositionGone` (or what `verdict` takes for that).

Two forms: `run` calls back from the task that it runs in, one item after the other; `feed` is an iterator,
whose task belongs to an actor's incarnation. Either way there is back-pressure: what the consumer has not
taken stays with the source, but for the items of one channel.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio
from attrs import define, field, frozen

from understudy.mailbox import (
    ChannelClosed,
    Following,
    FollowingStatistics,
    Patience,
    Phase,
    SourceSilent,
    Verdict,
    verdict_on,
)
from understudy.mailbox.following import is_greater

from .channels import ChannelReader, ChannelWriter
from .dispatch import Timer
from .world import World

if TYPE_CHECKING:
    from .actor import Context

log = logging.getLogger("understudy.actors")

ROUNDING_SECONDS = 1e-6
"""A wait that ends less than this before its time has ended."""

P = TypeVar("P")
T = TypeVar("T")
S = TypeVar("S")


@frozen
class Restarted(Generic[P, S]):
    """Notice: the stream goes on behind a snapshot, and not behind the item before it."""

    position: P
    """The next item is the one that comes after this position."""
    snapshot: S
    """What the source held at that position."""
    cause: Exception | None
    """What the source said of the old position; None: this is the beginning."""


@define(eq=False)
class Supervised(Generic[P, T, S]):
    """One follower of one source."""

    world: World
    label: str
    """Who follows what, for log lines and traces."""
    open: Callable[[P], AbstractAsyncContextManager[AsyncIterable[T]]] = field(kw_only=True)
    position_of: Callable[[T], P | None] = field(kw_only=True)
    """Everything up to there is complete with this item; None: nothing yet, and it may come again."""
    snapshot: Callable[[Exception | None], Awaitable[tuple[P, S]]] | None = field(default=None, kw_only=True)
    """What the source holds now, and its position; given what is `Restarted.cause`. None: there is no such
    thing, and following ends when the position is gone."""
    position: P | None = field(default=None, kw_only=True)
    """Where to begin; None: with a snapshot."""
    is_after: Callable[[P, P], bool] | None = field(default=is_greater, kw_only=True)
    """See `Following.is_after`."""
    verdict: Callable[[Exception], Verdict] = field(default=verdict_on, kw_only=True)
    patience: Patience = field(factory=Patience, kw_only=True)
    _state: Following[P] = field(init=False)
    _began: bool = field(default=False, init=False)
    _consumer_error: Exception | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if self.snapshot is None and self.position is None:
            raise ValueError(f"{self.label}: give a position to begin at, or a way to get a snapshot")
        self._state = Following(self.patience, self.position, self.is_after)

    def statistics(self) -> FollowingStatistics[P]:
        """What it has been through so far."""
        return self._state.statistics()

    async def run(
        self,
        on_item: Callable[[T], Awaitable[None] | None],
        on_restart: Callable[[Restarted[P, S]], Awaitable[None] | None] | None = None,
    ) -> None:
        """Follow until cancelled; once. What the consumer was called with counts as consumed.

        Who has no `snapshot` needs no `on_restart`.

        Raises:
            Exception: what the consumer raised, or an error of the source for which the verdict is END.
        """
        state = self._state
        assert not self._began, f"{self.label} was run before: {state.phase}"
        self._began = True
        while True:
            if state.phase is Phase.BACKING_OFF:
                await self.world.sleep(state.wait_seconds, f"{self.label} back-off")
                state.waited()
                continue
            try:
                if state.phase is Phase.RESTARTING:
                    assert on_restart is not None, f"{self.label}: nobody to tell of a restart"
                    await self._restart(on_restart)
                    continue
                await self._connection(on_item)
            except Exception as error:
                if self._consumer_error is not None:
                    raise
                if self._broke(error) is Phase.ENDED:
                    raise
            else:
                self._broke(None)

    def _broke(self, error: Exception | None) -> Phase:
        verdict = Verdict.RESUME if error is None else self.verdict(error)
        if verdict is Verdict.RESTART and self.snapshot is None:
            verdict = Verdict.END
        jitter = self.world.rng("following").random()
        self._state.broke(error, verdict, self.world.monotonic(), jitter)
        if error is not None:
            log.info("%s: %s after %r", self.label, self._state.phase.value, error)
        return self._state.phase

    async def _restart(self, on_restart: Callable[[Restarted[P, S]], Awaitable[None] | None]) -> None:
        assert self.snapshot is not None, self.label
        cause = self._state.forgotten
        with self.world.limit(self.patience.snapshot_seconds) as scope:
            position, snapshot = await self.snapshot(cause)
        if scope.cancelled_caught:
            raise SourceSilent(self.label, self.patience.snapshot_seconds)
        self._state.restarted(position)
        await self._deliver(on_restart, Restarted(position, snapshot, cause))

    async def _connection(self, on_item: Callable[[T], Awaitable[None] | None]) -> None:
        """Open the source and pass on its items until it ends."""
        state = self._state
        position = state.position
        assert position is not None, self.label
        # One scope around the whole connection: it may hold scopes of its own from its beginning to its end.
        with trio.CancelScope() as scope:
            watchdog = _Watchdog(self.world, scope, self.label, self.patience)
            try:
                async with self.open(position) as stream:
                    # Cancelled scopes go on until the next wait: what is late must not reach the consumer.
                    if not scope.cancel_called:
                        state.opened(self.world.monotonic())
                        watchdog.opened()
                        async for item in stream:
                            if scope.cancel_called:
                                break
                            watchdog.pause()
                            if state.arrived(self.position_of(item)):
                                await self._deliver(on_item, item)
                            watchdog.wait()
            finally:
                watchdog.stop()
        if scope.cancel_called:
            raise SourceSilent(self.label, watchdog.seconds)

    async def _deliver(self, call: Callable[[Any], Awaitable[None] | None], news: Any) -> None:
        try:
            wait = call(news)
            if wait is not None:
                await wait
        except Exception as error:
            self._consumer_error = error
            raise

    def feed(self, context: Context[Any], capacity: int = 16) -> Feed[P, T, S]:
        """Follow in a task of that actor; at most `capacity` items wait for the consumer."""
        writer, reader = context.channel(self.label, capacity)
        cancel = context.start_soon(self._fill, writer, name=f"{context.path} follows {self.label}")
        return Feed(self, reader, cancel)

    async def _fill(self, writer: ChannelWriter[Any]) -> None:
        try:
            await self.run(writer.send, writer.send)
        except ChannelClosed:
            if not writer.finished:
                raise
        except Exception as error:
            writer.close(error)


@define(eq=False)
class Feed(Generic[P, T, S]):
    """What a follower brings, as an asynchronous iterator: items, and notices of restarts."""

    _supervised: Supervised[P, T, S]
    _reader: ChannelReader[T | Restarted[P, S]]
    _cancel: Callable[[], None]

    async def receive(self) -> T | Restarted[P, S]:
        """What comes next. A wait that is cancelled loses nothing.

        Raises:
            Exception: the error of the source that ended it.
        """
        return await self._reader.receive()

    def __aiter__(self) -> Feed[P, T, S]:
        return self

    async def __anext__(self) -> T | Restarted[P, S]:
        return await self._reader.__anext__()

    def cancel(self) -> None:
        """Follow no longer."""
        self._cancel()
        self._reader.cancel()

    def statistics(self) -> FollowingStatistics[P]:
        """What its follower has been through so far, items included that were not received yet."""
        return self._supervised.statistics()


@asynccontextmanager
async def asked(
    context: Context[Any], label: str, capacity: int, ask: Callable[[ChannelWriter[T]], Awaitable[object]]
) -> AsyncIterator[ChannelReader[T]]:
    """A connection to a source that is an actor: `ask` sends it the writer and returns once it has agreed."""
    writer, reader = context.channel(label, capacity)
    try:
        await ask(writer)
        yield reader
    finally:
        reader.cancel()


@define(eq=False)
class _Watchdog:
    """Cancels a connection that takes too long to open, or is silent for too long."""

    world: World
    scope: trio.CancelScope
    label: str
    patience: Patience
    seconds: float = field(init=False)
    """What it allows now."""
    _timer: Timer | None = field(default=None, init=False)
    _since: float | None = field(default=None, init=False)
    """Since when the next item is waited for; None: the consumer is at work."""

    def __attrs_post_init__(self) -> None:
        self.seconds = self.patience.open_seconds
        self.wait()
        self._arm(self.seconds)

    def opened(self) -> None:
        """From now on it is about silence."""
        self.stop()
        if self.patience.silence_seconds is not None:
            self.seconds = self.patience.silence_seconds
            self.wait()
            self._arm(self.seconds)

    def pause(self) -> None:
        """Something came."""
        self._since = None

    def wait(self) -> None:
        """The next thing is waited for."""
        self._since = self.world.monotonic()

    def stop(self) -> None:
        """The connection has ended."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, seconds: float) -> None:
        self._timer = self.world.call_later(seconds, self._look, f"{self.label} silence")

    def _look(self) -> None:
        # One timer a period instead of one an item.
        left = self.seconds
        if self._since is not None:
            left -= self.world.monotonic() - self._since
        if left > ROUNDING_SECONDS:
            self._arm(left)
        else:
            self.scope.cancel()
