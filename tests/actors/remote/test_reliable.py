"""Reliable streams over a network that loses, repeats and reorders: once each, in order, none forgotten."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from understudy.actors.remote.framing import ProtocolError
from understudy.actors.remote.reliable import Inbox, Outbox


class Stream(RuleBasedStateMachine):
    """Both ends, and everything that was ever sent: any of it may arrive at any time, and again."""

    @initialize(capacity=st.integers(1, 8))
    def open(self, capacity: int) -> None:
        self.outbox: Outbox[int] = Outbox(capacity)
        self.inbox = Inbox()
        self.flying: list[tuple[int, int]] = []
        self.acks: list[int] = [0]
        self.handed_on: list[int] = []
        self.working: list[int] = []

    @rule()
    def add(self) -> None:
        if not self.outbox.full:
            item = 100 + self.outbox.sent + 1
            self.flying.append((self.outbox.add(item), item))

    @rule()
    def reconnect(self) -> None:
        self.flying = self.outbox.unacknowledged()

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        number, item = data.draw(st.sampled_from(self.flying))
        if self.inbox.accept(number):
            self.handed_on.append(item)
            self.working.append(number)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        self.flying.remove(data.draw(st.sampled_from(self.flying)))

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.working))
        self.working.remove(number)
        self.inbox.finish(number)
        self.acks.append(self.inbox.done)

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        self.outbox.acknowledge(data.draw(st.sampled_from(self.acks)))

    @invariant()
    def once_and_in_order(self) -> None:
        assert self.handed_on == [100 + n for n in range(1, len(self.handed_on) + 1)]
        outbox, inbox = self.outbox, self.inbox
        assert outbox.acknowledged <= inbox.done <= inbox.received <= outbox.sent
        assert outbox.sent - outbox.acknowledged <= outbox.capacity
        assert [item for _, item in outbox.unacknowledged()] == [
            100 + n for n in range(outbox.acknowledged + 1, outbox.sent + 1)
        ]

    def teardown(self) -> None:
        if not hasattr(self, "outbox"):
            return
        for number, item in self.outbox.unacknowledged():
            if self.inbox.accept(number):
                self.handed_on.append(item)
                self.working.append(number)
        for number in self.working:
            self.inbox.finish(number)
        self.outbox.acknowledge(self.inbox.done)
        assert self.outbox.acknowledged == self.outbox.sent == len(self.handed_on), "none is forgotten"


TestStream = Stream.TestCase
TestStream.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_nobody_acknowledges_what_was_not_sent() -> None:
    outbox: Outbox[str] = Outbox(2)
    outbox.add("x")
    with pytest.raises(ProtocolError, match="message 2 is acknowledged and 1 were sent"):
        outbox.acknowledge(2)
