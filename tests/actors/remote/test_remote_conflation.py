"""A writer on another node keeps the newest item of each key until its reader has granted credit."""

from attrs import frozen

from understudy.actors import Actor, ChannelWriter, handles
from understudy.mailbox import Request, message

from .nodes import Pair, Run, collect, everywhere


class Telling:
    """Protocol of the actor that tells states."""


@message("test.remote.tell-states")
@frozen
class TellStates(Request[Telling, int]):
    """Answered with how many items were replaced."""

    count: int
    keys: int
    to: ChannelWriter[int]


class Teller(Actor[Telling]):
    @handles(TellStates)
    def tell_states(self, message: TellStates) -> int:
        self.context.adopt(message.to)
        for number in range(message.count):
            message.to.send_latest(number, number % message.keys)
        message.to.close()
        return message.to.statistics().conflated


@everywhere
def test_the_newest_of_each_key_arrives_before_the_end(run: Run) -> None:
    async def story(nodes: Pair) -> None:
        nodes.b.system.spawn(Teller, "teller")
        writer, reader = nodes.a.system.channel("states", capacity=4)
        replaced = await nodes.a.peer.ref("/teller", Telling).ask(TellStates(1000, 10, writer))
        assert replaced == 1000 - 4 - 10
        newest = [990 + (key - 990) % 10 for key in range(4, 14)]
        assert await collect(reader) == [0, 1, 2, 3, *newest], "in order of the keys' first kept items"

    run(story)
