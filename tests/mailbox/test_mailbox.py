"""The mailbox against two lists: bounded, in order, system messages first, and nothing vanishes uncounted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.mailbox import Envelope, Mailbox, MailboxFull, Overflow

KINDS = ["put", "put", "put", "system", "get", "get system", "next", "drain"]
OPERATIONS = st.lists(st.sampled_from(KINDS), max_size=80)


@settings(max_examples=300, deadline=None)
@given(OPERATIONS, st.integers(1, 5), st.sampled_from(Overflow))
def test_a_mailbox_is_two_bounded_lists(operations: list[str], capacity: int, overflow: Overflow) -> None:
    mailbox = Mailbox(capacity, overflow)
    user: list[Envelope] = []
    system: list[int] = []
    accepted = displaced = high_water = 0
    for number, operation in enumerate(operations):
        if operation == "put":
            envelope = Envelope(number, "")
            if len(user) < capacity:
                assert mailbox.put(envelope) is None
                user.append(envelope)
                accepted += 1
            elif overflow in (Overflow.REJECT, Overflow.WAIT):
                with pytest.raises(MailboxFull, match=f"{capacity} messages wait already"):
                    mailbox.put(envelope)
            elif overflow is Overflow.DROP_NEWEST:
                assert mailbox.put(envelope) is envelope
                displaced += 1
            else:
                assert mailbox.put(envelope) is user.pop(0)
                user.append(envelope)
                accepted += 1
                displaced += 1
            high_water = max(high_water, len(user))
        elif operation == "system":
            mailbox.put_system(number)
            system.append(number)
        elif operation == "get":
            assert mailbox.get() is (user.pop(0) if user else None)
        elif operation == "get system":
            assert mailbox.get_system() == (system.pop(0) if system else None)
        elif operation == "next":
            expected = system.pop(0) if system else user.pop(0) if user else None
            assert mailbox.next() is expected
        else:
            assert mailbox.drain() == user
            user.clear()
        assert len(mailbox) == len(user) + len(system)
        assert bool(mailbox) == bool(user or system)
        statistics = mailbox.statistics()
        assert (statistics.depth, statistics.accepted) == (len(user), accepted)
        assert (statistics.displaced, statistics.high_water) == (displaced, high_water)
