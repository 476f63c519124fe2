"""What observers of a system see: each message, each answer and each channel item, in order and connected."""

from attrs import frozen

from understudy.actors import Actor, ActorSystem, ChannelWriter, Ref, SimWorld, World, handles
from understudy.actors.probe import Probe
from understudy.actors.system import Delivery
from understudy.mailbox import Envelope, Refusal, Request, message


class Doubling:
    """Protocol of the actor that is observed."""


@message("test.observers.double")
@frozen
class Double(Request[Doubling, int]):
    number: int


@message("test.observers.odd")
@frozen
class Odd(Refusal):
    number: int


@message("test.observers.stream")
@frozen
class Stream(Request[Doubling, None]):
    to: ChannelWriter[int]


class Doubler(Actor[Doubling]):
    @handles(Double)
    def double(self, request: Double) -> int:
        if request.number % 2:
            raise Odd(request.number)
        return request.number * 2

    @handles(Stream)
    def stream(self, request: Stream) -> None:
        request.to.try_send(7)
        request.to.close()


class Asking:
    """Protocol of the actor that asks."""


class Asker(Actor[Asking]):
    def __init__(self, doubler: Ref[Doubling]) -> None:
        self.doubler = doubler

    async def on_start(self) -> None:
        assert await self.doubler.ask(Double(2)) == 4
        try:
            await self.doubler.ask(Double(3))
        except Odd as odd:
            assert odd.number == 3
        writer, reader = self.context.channel("numbers")
        await self.doubler.ask(Stream(writer))
        assert [item async for item in reader] == [7]


def observed(far: bool) -> list[Delivery]:
    seen: list[Delivery] = []

    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            system.observers.append(seen.append)
            doubler = system.spawn(Doubler, "doubler", host="there" if far else "here")
            system.spawn(lambda: Asker(doubler), "asker", host="here")
            await world.sleep(1.0)

    SimWorld(seed=1).run(main)
    return seen


def test_an_answer_is_seen_with_the_number_of_its_request() -> None:
    for far in (False, True):
        seen = [delivery for delivery in observed(far) if delivery.ask]
        requests = {delivery.ask: delivery for delivery in seen if not delivery.answer}
        answers = [delivery for delivery in seen if delivery.answer]
        assert [type(d.message) for d in answers] == [int, Odd, type(None)]
        for answer in answers:
            request = requests[answer.ask]
            assert (answer.sender, answer.receiver) == (request.receiver, request.sender)
            assert answer.seconds >= request.seconds
        assert (answers[0].message, answers[1].message.number) == (4, 3)


def test_a_channels_item_is_seen_with_the_number_of_its_channel() -> None:
    for far in (False, True):
        seen = observed(far)
        opened = next(d.message.to.number for d in seen if isinstance(d.message, Stream))
        assert [d.message for d in seen if d.channel == opened] == [7]


@message("test.observers.nudge")
@frozen
class Nudge(Request[Asking, None]):
    """Tell the doubler something three times."""


class Nudger(Actor[Asking]):
    def __init__(self, doubler: Ref[Doubling]) -> None:
        self.doubler = doubler

    @handles(Nudge)
    def nudge(self, message: Nudge) -> None:
        for number in range(3):
            self.doubler.tell(Double(2 * number))


def test_a_probe_sees_what_is_told_although_it_comes_late() -> None:
    """A told message goes straight into a queue that has had as many: not while somebody looks."""

    class Sent(Probe):
        def __init__(self) -> None:
            self.paths: list[str] = []

        def sent(self, path: str, envelope: Envelope) -> None:
            self.paths.append(path)

    async def main(world: World) -> list[list[str]]:
        seen: list[list[str]] = []
        async with ActorSystem.open(world) as system:
            doubler = system.spawn(Doubler, "doubler")
            nudger = system.spawn(lambda: Nudger(doubler), "nudger")
            for looks in (False, True, False, True):
                probe = Sent()
                if looks:
                    system.add_probe(probe)
                await nudger.ask(Nudge())
                await doubler.ask(Double(0))
                if looks:
                    system.remove_probe(probe)
                seen.append(probe.paths)
        return seen

    looked = ["/nudger", "/doubler", "/doubler", "/doubler", "/doubler"]
    assert SimWorld().run(main) == [[], looked, [], looked]
