"""The watches that one actor serves: one task sends to all of them, to each as fast as its reader takes."""

from typing import Any, Final

from attrs import define, field

from understudy.actors import ChannelWriter, Context, Signal
from understudy.mailbox import ChannelFull
from understudy.raftstore.machine import StateMachine
from understudy.raftstore.storage import Compacted, Watch, WatchBatch, WatchOpened

WATCHES_A_TURN: Final = 16
"""So many are sent to before others may run."""


@define
class Feed:
    to: ChannelWriter[Any]
    unsent: WatchBatch | None = None
    """What its reader had no room for."""


@define
class Feeds:
    context: Context[Any]
    machine: StateMachine
    _feeds: dict[int, Feed] = field(factory=dict)
    """By the watch's number in the machine's hub."""
    _due: dict[int, None] = field(factory=dict)
    """Watches for which there may be something, in the order in which they are looked at."""
    _something: Signal | None = None
    """There are some that are due; None: nobody has watched yet."""

    def open(self, watch: Watch, to: ChannelWriter[Any]) -> WatchOpened:
        """Begin to feed a channel. Raises `EmptyKey`, `Compacted`, `AuthError`."""
        number = self.machine.open_watch(watch)
        self._feeds[number] = Feed(to)
        self.context.adopt(to)
        to.on_end(lambda: self._remove(number))
        to.on_room(lambda: self._has_room(number))
        if self._something is None:
            self._something = self.context.world.signal("feeds")
            self.context.start_soon(self._run, self._something, name=f"{self.context.path} feeds")
        self.wake([number])
        return WatchOpened(self.machine.store.revision)

    def wake(self, numbers: list[int]) -> None:
        """These watches have something to send."""
        if numbers:
            self._due.update(dict.fromkeys(numbers))
            assert self._something is not None, numbers
            self._something.set()

    def wake_all(self) -> None:
        self.wake(list(self._feeds))

    def close_all(self) -> None:
        """End every watch as planned: who reads goes on elsewhere."""
        for feed in list(self._feeds.values()):
            feed.to.close()

    def _remove(self, number: int) -> None:
        """Its channel has ended."""
        if self._feeds.pop(number, None) is not None:
            self.machine.hub.remove(number)

    def _has_room(self, number: int) -> None:
        feed = self._feeds.get(number)
        if feed is not None and feed.unsent is not None:
            self.wake([number])

    async def _run(self, something: Signal) -> None:
        while True:
            await something.wait()
            while self._due:
                due, self._due = self._due, {}
                for place, number in enumerate(due, 1):
                    feed = self._feeds.get(number)
                    more = feed is not None and self._send(number, feed)
                    if more:
                        self._due[number] = None
                    if more or place % WATCHES_A_TURN == 0:
                        # Neither many watches nor one that begins far back hold up the rest of the actor.
                        something.set()
                        await something.wait()

    def _send(self, number: int, feed: Feed) -> bool:
        """Send the next batch of a watch; returns whether there may be another at once."""
        hub = self.machine.hub
        kept, feed.unsent = feed.unsent, None
        try:
            batch = kept or hub.pull(number)
        except Compacted as error:
            feed.to.close(error)
            return False
        if batch is not None:
            try:
                feed.to.try_send(batch)
            except ChannelFull:
                feed.unsent = batch
                return False
        return kept is not None or hub.is_behind(number)
