"""Overflow policies and the urgent lane against one sorted list: what is displaced, and in what order."""

from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.mailbox import Conflate, Mailbox, MailboxFull, Overflow, OverflowPolicy, envelope_of

POLICIES: list[OverflowPolicy] = [*Overflow, Conflate(lambda text: text[0] if text[0] != "-" else None)]


class Alarm(str):
    """A message that is urgent."""


MESSAGES = st.one_of(
    st.none(),
    st.builds(str, st.sampled_from(["a1", "a2", "b1", "b2", "c1", "-1", "-2"])),
    st.builds(Alarm, st.sampled_from(["a!", "b!"])),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(MESSAGES, max_size=60), st.integers(1, 4), st.sampled_from(POLICIES), st.booleans())
def test_a_mailbox_is_a_bounded_list_ordered_by_urgency(
    operations: list[str | None], capacity: int, policy: OverflowPolicy, lane: bool
) -> None:
    mailbox = Mailbox(capacity, policy, frozenset([Alarm]) if lane else frozenset())
    model: list[str] = []
    accepted = lost = taken = 0

    def urgent(text: str) -> bool:
        return lane and type(text) is Alarm

    for text in operations:
        if text is None:
            entry = mailbox.get()
            expected = next((m for m in model if urgent(m)), model[0] if model else None)
            assert (None if entry is None else envelope_of(entry).message) == expected
            if expected is not None:
                model.remove(expected)
                taken += 1
            continue
        displaced: str | None = None
        rejected = False
        twin = None
        if isinstance(policy, Conflate) and not urgent(text) and text[0] != "-":
            twin = next((m for m in model if m[0] == text[0] and not urgent(m)), None)
        if twin is not None:
            model[model.index(twin)], displaced = text, twin
            accepted += 1
        elif len(model) < capacity:
            model.append(text)
            accepted += 1
        elif policy is Overflow.DROP_NEWEST:
            displaced = text
        elif policy is Overflow.DROP_OLDEST:
            calm = [m for m in model if not urgent(m)]
            if not calm and not urgent(text):
                displaced = text
            else:
                displaced = calm[0] if calm else model[0]
                model.remove(displaced)
                model.append(text)
                accepted += 1
        else:
            rejected = True
        lost += displaced is not None
        try:
            letter = mailbox.put((text, "somebody"))
        except MailboxFull:
            assert rejected
        else:
            assert not rejected
            assert (None if letter is None else letter.message) == displaced
        order = [m for m in model if urgent(m)] + [m for m in model if not urgent(m)]
        assert [envelope.message for envelope in mailbox.queued()] == order
        statistics = mailbox.statistics()
        assert (statistics.depth, statistics.accepted, statistics.displaced) == (len(model), accepted, lost)
        assert statistics.high_water <= capacity
    order = [m for m in model if urgent(m)] + [m for m in model if not urgent(m)]
    assert [envelope.message for envelope in mailbox.drain()] == order
