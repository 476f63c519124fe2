"""Channels between actors: the waiting ends around the state of `mailbox.channel`.

Items and credits travel like messages do: by reference within a host, encoded and in order between hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from attrs import define, field, frozen

from understudy.mailbox import (
    CONFLATED_KEYS_MAX,
    ChannelClosed,
    ChannelFull,
    CodecError,
    ReaderState,
    WriterState,
)

from .ref import ActorFailed
from .world import Signal

if TYPE_CHECKING:
    from .system import ActorSystem

T = TypeVar("T")


class EndOfChannel(Exception):
    """The writer closed the channel and everything was read."""


@frozen
class WriterStatistics:
    """How a channel goes, as its writer sees it."""

    sent: int
    """Items so far; those that were conflated and not sent are not among them."""
    credits: int
    """Items that may be sent at once."""
    unsent: int
    """Items that `send_latest` keeps, one a key."""
    conflated: int
    """Items that a newer one of their key has replaced."""


@define(eq=False)
class Core:
    """Both ends of one channel, and the hosts that they are on."""

    system: ActorSystem
    number: int
    """0 for a channel that had ended before its writer arrived."""
    label: str
    reader_host: str
    writer_host: str
    reader: ReaderState
    writer: WriterState
    readable: Signal
    writable: Signal
    on_writer_end: Callable[[], None] | None = None
    on_credit: Callable[[], None] | None = None
    """Sends what was kept, or says that there is room, when there is credit."""
    on_readable: Callable[[], None] | None = None

    def accept(self, sequence: int, item: Any) -> None:
        if not self.reader.ended:
            for arrived in self.reader.accept(sequence, item):
                self.system._delivered_item(self, arrived)
            self._look_again()

    def finish(self, sent: int, error: Exception | None) -> None:
        """The writer has ended the channel behind so many items."""
        self.reader.finish(sent, error)
        self._look_again()

    def cancel(self, error: Exception | None) -> None:
        """End both ends at once: nobody reads, or nobody can."""
        self.reader.cancel(error)
        self._look_again()
        self.carry(self.reader_host, self.writer_host, None, lambda _: self.end_writer())

    def _look_again(self) -> None:
        self.readable.set()
        if self.on_readable is not None:
            self.on_readable()
        if self.reader.ended:
            self.system._channels.pop(self.number, None)

    def carry(self, source: str, target: str, item: Any, deliver: Callable[[Any], None]) -> None:
        """Transmit something of this channel; when it cannot be read over there, the channel fails."""
        self.system.transmit(
            source, target, item, deliver, self.label, self._unreadable, on_lost=lambda _: self.end_writer()
        )

    def break_off(self, error: Exception) -> None:
        """The hosts of the two ends have lost each other: both ends end, and each knows why."""
        self.reader.break_off(error)
        self._look_again()
        if not self.writer.ended or self.writer.draining:
            self.end_writer()

    def _unreadable(self, error: CodecError) -> None:
        if not self.reader.ended:
            self.cancel(error)

    def end_writer(self) -> None:
        self.writer.end()
        self.writable.set()
        self.writer_ended()

    def writer_ended(self) -> None:
        callback, self.on_writer_end = self.on_writer_end, None
        if callback is not None:
            callback()

    def grant(self, credits: int) -> None:
        self.writer.grant(credits)
        if self.on_credit is not None:
            self.on_credit()
        self.writable.set()


@define(eq=False)
class ChannelWriter(Generic[T]):
    """The sending end; one task at a time may wait in `send`."""

    __understudy_live__ = True

    _core: Core = field(repr=False)

    @property
    def number(self) -> int:
        """Which channel of its system this is: observers see it with each item."""
        return self._core.number

    @property
    def label(self) -> str:
        """Who reads, and what for."""
        return self._core.label

    @property
    def finished(self) -> bool:
        """Nothing more can be sent."""
        return self._core.writer.ended

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when nothing more can be sent: the reader has gone, or `close` was called."""
        if self._core.writer.ended:
            callback()
        else:
            self._core.on_writer_end = callback

    def on_room(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever the reader has taken something: what was full may be tried again.

        For one task that sends to many channels by `try_send`; not together with `send_latest`.
        """
        self._core.on_credit = callback

    def try_send(self, item: T) -> None:
        """Send without waiting.

        Raises:
            ChannelFull: the reader has granted no credit.
            ChannelClosed: the channel has ended.
            CodecError: the item has no wire form, and the reader is on another host.
        """
        state = self._core.writer
        if state.ended:
            raise ChannelClosed(self._core.label)
        if state.credits <= 0:
            raise ChannelFull(self._core.label)
        self._transmit(item)

    async def send(self, item: T) -> None:
        """Send, waiting for credit as long as the reader is slower.

        Raises:
            ChannelClosed: the channel has ended.
        """
        state = self._core.writer
        while state.credits <= 0 and not state.ended:
            await self._core.writable.wait()
        if state.ended:
            raise ChannelClosed(self._core.label)
        self._transmit(item)

    def send_latest(self, item: T, key: Hashable, *, keys_max: int = CONFLATED_KEYS_MAX) -> None:
        """Send now, or keep the item until the reader has granted credit; never waits.

        A kept item is replaced by the next one of its key, at its place: the reader misses older values of a
        key, never the newest. `send` and `try_send` send behind what is kept.

        Raises:
            ChannelFull: items of `keys_max` other keys are kept already.
            ChannelClosed: the channel has ended.
            CodecError: as for `try_send`; if the item is kept first, the channel fails when its turn comes.
        """
        state = self._core.writer
        if state.ended:
            raise ChannelClosed(self._core.label)
        if state.credits > 0:
            self._transmit(item)
            return
        self._core.on_credit = self._send_unsent
        if not state.put(key, item, keys_max):
            raise ChannelFull(self._core.label)

    def _send_unsent(self) -> None:
        state = self._core.writer
        while state.unsent and state.credits > 0:
            try:
                self._transmit(state.unsent.pop())
            except CodecError as error:
                # Whoever sent it has gone on long ago.
                self._core.end_writer()
                self._tell_end(error)
        if state.draining and not state.unsent:
            self._core.end_writer()
            self._tell_end(None)

    def close(self, error: Exception | None = None) -> None:
        """End the channel behind the items already sent; the reader gets `error` after them, if any.

        What is kept for want of credit is still sent, unless there is an error.
        """
        state = self._core.writer
        if state.ended:
            return
        if state.unsent and error is None:
            state.ended = state.draining = True
            self._core.writable.set()
            self._core.writer_ended()
        else:
            self._core.end_writer()
            self._tell_end(error)

    def check_portable(self) -> None:
        """Raises CodecError when this end cannot go to another host: what it keeps would stay behind."""
        kept = len(self._core.writer.unsent)
        if kept:
            raise CodecError(f"the writer of {self.label} keeps {kept} unsent items: it cannot travel")

    def statistics(self) -> WriterStatistics:
        """How the channel goes."""
        state = self._core.writer
        return WriterStatistics(state.sent, state.credits, len(state.unsent), state.unsent.conflated)

    def _tell_end(self, error: Exception | None) -> None:
        """Tell the reader that nothing follows what was sent."""
        core = self._core
        sent = core.writer.sent

        def finish(reason: Exception | None) -> None:
            core.finish(sent, reason)

        try:
            core.carry(core.writer_host, core.reader_host, error, finish)
        except CodecError:
            # The reader must hear of the end in any case.
            failed = ActorFailed(core.label, repr(error))
            core.carry(core.writer_host, core.reader_host, failed, finish)

    def _transmit(self, item: T) -> None:
        core = self._core
        sequence = core.writer.next_sequence()
        try:
            core.carry(core.writer_host, core.reader_host, item, lambda it: core.accept(sequence, it))
        except CodecError:
            core.writer.take_back(sequence)
            raise


@define(eq=False)
class ChannelReader(Generic[T]):
    """The receiving end: an async iterator; one task reads."""

    _core: Core = field(repr=False)

    @property
    def label(self) -> str:
        """Who reads, and what for."""
        return self._core.label

    @property
    def finished(self) -> bool:
        """Nothing more will come, read or unread."""
        return self._core.reader.ended

    async def receive(self) -> T:
        """The next item.

        Raises:
            EndOfChannel: the writer closed it and everything was read.
            Exception: whatever error the writer ended it with, once everything was read.
        """
        state = self._core.reader
        while not state.buffer:
            if state.ended:
                if state.error is not None:
                    raise state.error
                raise EndOfChannel(self._core.label)
            await self._core.readable.wait()
        return self._take()

    def on_readable(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever there is something to read, or the end to hear of: now, if so already.

        For one task that reads many channels: it takes what is here with `receive_nowait`, and hears of the
        end by `receive` once the channel has `finished`.
        """
        self._core.on_readable = callback
        if self._core.reader.buffer or self._core.reader.ended:
            callback()

    def receive_nowait(self) -> T | None:
        """The next item if one is here already, else None."""
        return self._take() if self._core.reader.buffer else None

    def _take(self) -> T:
        core = self._core
        item, granted = core.reader.take()
        if granted and (not core.writer.ended or core.writer.draining):
            core.carry(core.reader_host, core.writer_host, granted, core.grant)
        return item  # type: ignore[no-any-return]

    def cancel(self) -> None:
        """Stop reading: what was sent and not read is gone, and the writer's next send fails."""
        core = self._core
        if not core.reader.ended:
            core.cancel(None)

    def __aiter__(self) -> ChannelReader[T]:
        return self

    async def __anext__(self) -> T:
        try:
            return await self.receive()
        except EndOfChannel:
            raise StopAsyncIteration from None
