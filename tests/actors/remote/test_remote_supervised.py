"""A supervised channel whose source is on another node goes on when the connection has come back."""

from attrs import frozen

from understudy.actors import Actor, ChannelWriter, Feed, Ref, Supervised, asked, handles
from understudy.mailbox import ChannelClosed, Patience, Request, message

from .nodes import Pair, simulated, until


class Counting:
    """Protocol of the source."""


@message("test.remote.count-on")
@frozen
class CountOn(Request[Counting, None]):
    after: int
    to: ChannelWriter[int]


class Counter(Actor[Counting]):
    """Counts as fast as it is read."""

    @handles(CountOn)
    def count_on(self, message: CountOn) -> None:
        self.context.adopt(message.to)
        self.context.start_soon(self.write, message)

    async def write(self, message: CountOn) -> None:
        number = message.after
        try:
            while True:
                number += 1
                await message.to.send(number)
        except ChannelClosed:
            pass


class Reader(Actor[Counting]):
    def __init__(self, source: Ref[Counting], feeds: list[Feed[int, int, None]]) -> None:
        self.source, self.feeds = source, feeds

    async def on_start(self) -> None:
        follower: Supervised[int, int, None] = Supervised(
            self.world,
            "count",
            open=lambda after: asked(
                self.context, "count", 4, lambda to: self.source.ask(CountOn(after, to), 1.0)
            ),
            position_of=int,
            position=0,
            patience=Patience(open_seconds=2.0, backoff_max_seconds=0.5),
        )
        self.feeds.append(follower.feed(self.context, capacity=4))


def test_each_item_once_though_the_connection_is_cut_again_and_again() -> None:
    async def story(nodes: Pair) -> None:
        nodes.b.system.spawn(Counter, "counter")
        feeds: list[Feed[int, int, None]] = []
        nodes.a.system.spawn(lambda: Reader(nodes.a.peer.ref("/counter", Counting), feeds), "reader")
        await until(nodes.world, lambda: bool(feeds))
        assert nodes.network is not None
        numbers = []
        for round in range(1, 5):
            with nodes.world.deadline(30.0):
                numbers += [await feeds[0].receive() for _ in range(25)]
            nodes.network.cut("a", "b")
            await nodes.world.sleep(1.5)
            statistics = feeds[0].statistics()
            assert statistics.items - len(numbers) <= 4 + 1, "bounded while nobody reads"
            assert statistics.resumes <= round
        assert numbers == list(range(1, 101))
        assert feeds[0].statistics().resumes >= 3

    simulated(story)
