"""Credit windows: both ends agree, the receiver is never overrun, and no credit is lost."""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from understudy.actors.remote.credit import ReceiveWindow, SendWindow
from understudy.actors.remote.framing import ProtocolError


class TwoEnds(RuleBasedStateMachine):
    """A sender, a receiver, and what is on its way between them."""

    @initialize(window=st.integers(1, 9))
    def open(self, window: int) -> None:
        self.sender: SendWindow[int] = SendWindow(window)
        self.receiver = ReceiveWindow(window)
        self.there: deque[int] = deque()
        self.back: deque[int] = deque()
        self.working = 0
        self.offered = 0
        self.handled: list[int] = []

    @rule()
    def offer(self) -> None:
        if self.sender.full:
            return
        self.offered += 1
        if self.sender.spend():
            self.there.append(self.offered)
        else:
            self.sender.wait(self.offered)

    @precondition(lambda self: self.there)
    @rule()
    def arrive(self) -> None:
        self.receiver.accept(1)
        self.handled.append(self.there.popleft())
        self.working += 1

    @precondition(lambda self: self.working)
    @rule(answered=st.booleans())
    def finish(self, answered: bool) -> None:
        self.working -= 1
        if answered:
            self.receiver.answered()
            self.back.append(1)
        elif credits := self.receiver.finish():
            self.back.append(credits)

    @rule()
    def flush(self) -> None:
        if credits := self.receiver.flush():
            self.back.append(credits)

    @precondition(lambda self: self.back)
    @rule()
    def granted(self) -> None:
        self.there.extend(self.sender.grant(self.back.popleft()))

    @invariant()
    def both_ends_agree(self) -> None:
        sender, receiver = self.sender, self.receiver
        assert 0 <= sender.credits <= sender.window and len(sender.waiting) <= sender.window
        assert not (sender.credits and sender.waiting), "who has credit does not wait"
        assert 0 <= receiver.outstanding <= receiver.window
        on_the_way = len(self.there) + sum(self.back)
        assert sender.window - sender.credits == receiver.outstanding + on_the_way
        assert self.handled == list(range(1, len(self.handled) + 1)), "in order"

    def teardown(self) -> None:
        if not hasattr(self, "sender"):
            return
        while self.there or self.back or self.working or not self.sender.idle:
            while self.there:
                self.arrive()
            while self.working:
                self.finish(False)
            self.flush()
            while self.back:
                self.granted()
        assert self.receiver.idle and len(self.handled) == self.offered, "no credit and no message is lost"


TestTwoEnds = TwoEnds.TestCase
TestTwoEnds.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.integers(1, 5), st.integers(-3, 9))
def test_credit_that_was_not_spent_cannot_come_back(window: int, granted: int) -> None:
    sender: SendWindow[int] = SendWindow(window)
    sender.spend()
    if granted == 1:
        assert sender.grant(granted) == []
    else:
        with pytest.raises(ProtocolError):
            sender.grant(granted)


def test_a_sender_that_ignores_credit_is_found_out() -> None:
    receiver = ReceiveWindow(3)
    receiver.accept(3)
    with pytest.raises(ProtocolError, match="4 messages for 3 credits"):
        receiver.accept(1)
