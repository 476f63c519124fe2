"""Channels between actors: the waiting ends around the state of `mailbox.channel`.

Items and credits travel like messages do: by reference within a host, encoded and in order between hosts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from attrs import define, field

from understudy.mailbox import ChannelClosed, ChannelFull, ReaderState, WriterState

from .world import Signal

if TYPE_CHECKING:
    from .system import ActorSystem

T = TypeVar("T")


class EndOfChannel(Exception):
    """The writer closed the channel and everything was read."""


@define(eq=False)
class Core:
    """Both ends of one channel, and the hosts that they are on."""

    system: ActorSystem
    number: int
    label: str
    reader_host: str
    writer_host: str
    reader: ReaderState
    writer: WriterState
    readable: Signal
    writable: Signal
    on_writer_end: Callable[[], None] | None = None

    def accept(self, sequence: int, item: Any) -> None:
        if not self.reader.ended:
            self.reader.accept(sequence, item)
            self.system._delivered_item(self, item)
            self.readable.set()

    def end_reader(self, error: Exception | None) -> None:
        self.reader.end(error)
        self.readable.set()
        self.system._channels.pop(self.number, None)

    def end_writer(self) -> None:
        self.writer.ended = True
        self.writable.set()
        self.writer_ended()

    def writer_ended(self) -> None:
        callback, self.on_writer_end = self.on_writer_end, None
        if callback is not None:
            callback()

    def grant(self, credits: int) -> None:
        self.writer.grant(credits)
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

    def try_send(self, item: T) -> None:
        """Send without waiting.

        Raises:
            ChannelFull: the reader has granted no credit.
            ChannelClosed: the channel has ended.
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

    def close(self, error: Exception | None = None) -> None:
        """End the channel behind the items already sent; the reader gets `error` after them, if any."""
        core = self._core
        if not core.writer.ended:
            core.writer.ended = True
            core.writer_ended()
            core.system.transmit(core.writer_host, core.reader_host, error, core.end_reader, core.label)

    def _transmit(self, item: T) -> None:
        core = self._core
        sequence = core.writer.next_sequence()
        core.system.transmit(
            core.writer_host, core.reader_host, item, lambda it: core.accept(sequence, it), core.label
        )


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
        item, granted = state.take()
        core = self._core
        if granted and not core.writer.ended:
            core.system.transmit(core.reader_host, core.writer_host, granted, core.grant, core.label)
        return item  # type: ignore[no-any-return]

    def receive_nowait(self) -> T | None:
        """The next item if one is here already, else None."""
        state = self._core.reader
        if not state.buffer:
            return None
        item, granted = state.take()
        core = self._core
        if granted and not core.writer.ended:
            core.system.transmit(core.reader_host, core.writer_host, granted, core.grant, core.label)
        return item  # type: ignore[no-any-return]

    def cancel(self) -> None:
        """Stop reading: what was sent and not read is gone, and the writer's next send fails."""
        core = self._core
        if not core.reader.ended:
            core.reader.buffer.clear()
            core.end_reader(None)
            core.system.transmit(
                core.reader_host, core.writer_host, None, lambda _: core.end_writer(), core.label
            )

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            try:
                yield await self.receive()
            except EndOfChannel:
                return
