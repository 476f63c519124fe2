"""A channel's two ends against a list, joined by two ways whose pace is drawn, one of them out of order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.mailbox import ReaderState, WriterState

STEPS = st.lists(st.tuples(st.sampled_from(["send", "arrive", "take", "grant", "finish"]), st.integers(0, 9)))


@settings(max_examples=300, deadline=None)
@given(STEPS, st.integers(1, 6))
def test_items_come_once_in_order_and_bounded(steps: list[tuple[str, int]], capacity: int) -> None:
    reader, writer = ReaderState(capacity), WriterState(capacity)
    items_on_way: list[int] = []
    credits_on_way: list[int] = []
    taken: list[int] = []
    error = ValueError("the end")
    end_told = False

    def step(what: str, which: int) -> None:
        nonlocal end_told
        if what == "send" and writer.credits and not writer.ended:
            items_on_way.append(writer.next_sequence())
        elif what == "arrive" and items_on_way:
            sequence = items_on_way.pop(which % len(items_on_way))
            reader.accept(sequence, sequence)
        elif what == "take" and reader.buffer:
            item, granted = reader.take()
            taken.append(item)
            if granted:
                credits_on_way.append(granted)
        elif what == "grant" and credits_on_way:
            writer.grant(credits_on_way.pop(0))
        elif what == "finish" and not end_told:
            writer.ended = end_told = True
            reader.finish(writer.sent, error)

    for what, which in steps:
        step(what, which)
        assert len(reader.buffer) + len(reader.early) + len(items_on_way) + writer.credits <= capacity
        assert taken == list(range(1, len(taken) + 1))
        assert reader.ended == (end_told and reader.received == writer.sent)
    step("finish", 0)
    while items_on_way:
        step("arrive", 7)
    while reader.buffer:
        step("take", 0)
    assert taken == list(range(1, writer.sent + 1))
    assert reader.ended and reader.error is error


def test_a_writer_that_cheats_is_found_out() -> None:
    reader = ReaderState(2)
    reader.accept(1, "a")
    with pytest.raises(AssertionError, match="item 1 came twice"):
        reader.accept(1, "a")
    reader.accept(2, "b")
    with pytest.raises(AssertionError, match="overran its 2 credits"):
        reader.accept(3, "c")
    writer = WriterState(0)
    with pytest.raises(AssertionError, match="0 credits"):
        writer.next_sequence()


def test_an_item_taken_back_was_never_sent() -> None:
    writer = WriterState(2)
    writer.take_back(writer.next_sequence())
    assert (writer.credits, writer.sent) == (2, 0)
    assert writer.next_sequence() == 1


def test_a_cancelled_reader_keeps_nothing() -> None:
    reader = ReaderState(4)
    reader.accept(1, "a")
    reader.accept(3, "c")
    reader.cancel(None)
    assert not reader.buffer and not reader.early and reader.ended
    reader.finish(3, ValueError())
    assert reader.error is None
