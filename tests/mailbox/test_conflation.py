"""What a writer keeps for want of credit, against a dict."""

from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.mailbox import ReaderState, WriterState

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from("abcdef")),
        st.tuples(st.sampled_from(["take", "grant"]), st.just("")),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.integers(1, 4), st.integers(1, 5))
def test_of_each_key_the_newest_at_the_place_of_the_first(
    steps: list[tuple[str, str]], capacity: int, keys_max: int
) -> None:
    reader, writer = ReaderState(capacity), WriterState(capacity)
    granted: list[int] = []
    model: dict[str, int] = {}
    """What should be unsent: a dict keeps the place of a key whose value changes."""
    expected: list[tuple[str, int]] = []
    taken: list[tuple[str, int]] = []
    refused = replaced = 0

    def deliver(item: tuple[str, int]) -> None:
        reader.accept(writer.next_sequence(), item)
        expected.append(item)

    def grant() -> None:
        if granted:
            writer.grant(granted.pop(0))
        while writer.unsent and writer.credits > 0:
            key, number = writer.unsent.pop()
            assert (key, number) == next(iter(model.items()))
            del model[key]
            deliver((key, number))

    for number, (what, key) in enumerate(steps):
        if what == "send" and writer.credits > 0:
            deliver((key, number))
        elif what == "send":
            room = key in model or len(model) < keys_max
            assert writer.put(key, (key, number), keys_max) == room
            replaced += key in model
            refused += not room
            if room:
                model[key] = number
        elif what == "take" and reader.buffer:
            item, credits = reader.take()
            taken.append(item)
            if credits:
                granted.append(credits)
        elif what == "grant":
            grant()
        assert len(writer.unsent) == len(model) <= keys_max
        assert writer.unsent.conflated == replaced
    while model or granted or reader.buffer:
        grant()
        while reader.buffer:
            item, credits = reader.take()
            taken.append(item)
            if credits:
                granted.append(credits)
    assert taken == expected
    sent = sum(what == "send" for what, _ in steps)
    assert len(taken) == sent - replaced - refused, "each item was read, replaced or refused"


def test_what_is_ended_keeps_nothing() -> None:
    writer = WriterState(0)
    assert writer.put("a", 1, 8) and writer.put("b", 2, 8)
    writer.end()
    assert writer.ended and not writer.unsent
