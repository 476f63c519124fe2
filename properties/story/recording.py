"""Deliveries put in order: which answer belongs to which request, who reads which channel."""

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import fields, frozen, has

from understudy.actors import ChannelWriter
from understudy.actors.system import Delivery
from understudy.components.machinery.api import ApiRequest


@frozen(eq=False)
class Recording:
    """Deliveries in the order in which they were seen, with an index."""

    deliveries: Sequence[Delivery]
    answers: dict[int, Delivery]
    """By the number of the ask."""
    openers: dict[int, Delivery]
    """By the number of a channel: the message that brought its writing end to whoever writes."""

    def answer(self, request: Delivery) -> Delivery | None:
        """The answer to a request, if it came within the recording."""
        return self.answers.get(request.ask) if request.ask else None

    def reader(self, item: Delivery) -> str:
        """The path of the actor that reads the channel of an item; its label when nobody saw it opened."""
        opener = self.openers.get(item.channel)
        return item.receiver if opener is None else opener.sender

    def writer(self, item: Delivery) -> str:
        """The path of the actor that writes to the channel of an item."""
        opener = self.openers.get(item.channel)
        return item.sender if opener is None else opener.receiver


def recording(deliveries: Sequence[Delivery]) -> Recording:
    """Index deliveries."""
    answers: dict[int, Delivery] = {}
    openers: dict[int, Delivery] = {}
    for delivery in deliveries:
        if delivery.answer:
            answers[delivery.ask] = delivery
        elif not delivery.channel:
            for writer in _writers(delivery.message):
                # A router that passes a request on does not read the channel: the first sender does.
                openers.setdefault(writer.number, delivery)
    return Recording(deliveries, answers, openers)


def _writers(message: Any) -> Iterator[ChannelWriter[Any]]:
    if isinstance(message, ApiRequest):
        if message.stream is not None:
            yield message.stream
    elif has(type(message)):
        for each in fields(type(message)):
            value = getattr(message, each.name)
            if isinstance(value, ChannelWriter):
                yield value
