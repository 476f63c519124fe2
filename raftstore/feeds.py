"""The watches that one actor serves: a task each, which sends as fast as its reader takes."""

from typing import Any

from attrs import define, field

from understudy.actors import ChannelWriter, Context, Signal
from understudy.mailbox import ChannelClosed
from understudy.raftstore.machine import StateMachine
from understudy.raftstore.storage import Compacted, Watch, WatchOpened


@define
class Feed:
    to: ChannelWriter[Any]
    signal: Signal
    """Raised when there may be something to send."""


@define
class Feeds:
    context: Context[Any]
    machine: StateMachine
    _feeds: dict[int, Feed] = field(factory=dict)
    """By the watch's number in the machine's hub."""

    def open(self, watch: Watch, to: ChannelWriter[Any]) -> WatchOpened:
        """Begin to feed a channel. Raises `EmptyKey`, `Compacted`, `AuthError`."""
        number = self.machine.open_watch(watch)
        feed = self._feeds[number] = Feed(to, self.context.world.signal(f"{to.label} feed"))
        self.context.adopt(to)
        to.on_end(feed.signal.set)
        self.context.start_soon(self._run, number, feed, name=f"{self.context.path} feed {number}")
        return WatchOpened(self.machine.store.revision)

    def wake(self, numbers: list[int]) -> None:
        """These watches have something to send."""
        for number in numbers:
            self._feeds[number].signal.set()

    def wake_all(self) -> None:
        for feed in self._feeds.values():
            feed.signal.set()

    def close_all(self) -> None:
        """End every watch as planned: who reads goes on elsewhere."""
        feeds, self._feeds = self._feeds, {}
        for number, feed in feeds.items():
            self.machine.hub.remove(number)
            feed.to.close()

    async def _run(self, number: int, feed: Feed) -> None:
        try:
            while not feed.to.finished:
                batch = self.machine.hub.pull(number)
                if batch is None:
                    if self.machine.hub.is_behind(number):
                        feed.signal.set()
                    await feed.signal.wait()
                else:
                    await feed.to.send(batch)
        except ChannelClosed:
            pass
        except Compacted as error:
            feed.to.close(error)
        finally:
            if self._feeds.pop(number, None) is not None:
                self.machine.hub.remove(number)
