"""The checker of watches: what keeps every guarantee passes, each guarantee has a watch that breaks it."""

from collections.abc import Callable, Sequence

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from understudy.properties.watches import (
    GUARANTEES,
    ContradictoryEvents,
    Ledger,
    WatchRecord,
    check_reader,
    check_watch,
)
from understudy.raftstore.storage import ALL_KEYS_END, Event, KeyValue, Watch, WatchBatch

KEYS = (b"a", b"b", b"c")


def put(revision: int, key: bytes, value: bytes, create: int, version: int) -> Event:
    return Event("PUT", KeyValue(key, value, create, revision, version))


EVENTS = (
    put(2, b"a", b"1", 2, 1),
    put(3, b"a", b"2", 2, 2),
    put(3, b"b", b"2", 3, 1),
    Event("DELETE", KeyValue(b"a", b"", 0, 4, 0)),
    put(5, b"a", b"5", 5, 1),
)
LEDGER = Ledger.of(EVENTS)
WATCH = Watch(b"a", ALL_KEYS_END, start_revision=2, prev_kv=True)


def batches(events: Sequence[Event]) -> tuple[WatchBatch, ...]:
    """One for each revision."""
    revisions = sorted({event.kv.mod_revision for event in events})
    return tuple(
        WatchBatch(r, tuple(event for event in events if event.kv.mod_revision == r)) for r in revisions
    )


TRUE = WatchRecord(WATCH, 1, (*batches(LEDGER.events), WatchBatch(5)), seen_through=5)


def changed(number: int, batch: WatchBatch | None) -> WatchRecord:
    """With one batch in another's place, or without it."""
    rest = TRUE.batches[number + 1 :]
    return evolve(TRUE, batches=(*TRUE.batches[:number], *([batch] if batch else []), *rest))


def event_changed(number: int, change: Callable[[Event], Event]) -> WatchRecord:
    """With another first event in a batch."""
    first, *rest = TRUE.batches[number].events
    return changed(number, evolve(TRUE.batches[number], events=(change(first), *rest)))


_first, _second, _third, _fourth, _bookmark = TRUE.batches
BROKEN = {
    "filter": evolve(TRUE, watch=evolve(WATCH, key=b"a", range_end=b"b")),
    "filter puts": evolve(TRUE, watch=evolve(WATCH, no_put=True)),
    "ordered": evolve(TRUE, batches=(_second, _first, _third, _fourth)),
    "unique": evolve(TRUE, batches=(_first, _second, _second, _third, _fourth)),
    "atomic": evolve(
        TRUE,
        batches=(
            _first,
            WatchBatch(2, ()),
            evolve(_second, revision=3, events=_second.events[:1]),
            evolve(_second, revision=3, events=_second.events[1:]),
            _third,
            _fourth,
        ),
    ),
    "bookmarkable": evolve(TRUE, batches=(_first, WatchBatch(4), _second, _third, _fourth)),
    "bookmarkable back": evolve(TRUE, batches=(*TRUE.batches, WatchBatch(3))),
    "resumable": evolve(TRUE, batches=TRUE.batches[1:]),
    "resumable too early": evolve(TRUE, watch=evolve(WATCH, start_revision=3)),
    "reliable": changed(2, None),
    "reliable at the end": evolve(TRUE, batches=TRUE.batches[:3]),
    "reliable values": event_changed(1, lambda e: evolve(e, kv=evolve(e.kv, value=b"x"))),
    "reliable, order": changed(1, evolve(_second, events=_second.events[::-1])),
    "is-create": event_changed(1, lambda e: evolve(e, kv=evolve(e.kv, create_revision=3, version=1))),
    "is-create not": event_changed(3, lambda e: evolve(e, kv=evolve(e.kv, version=2))),
    "prev-kv": event_changed(1, lambda e: evolve(e, prev_kv=None)),
    "prev-kv wrong": event_changed(2, lambda e: evolve(e, prev_kv=LEDGER.events[0].kv)),
    "prev-kv unasked": evolve(TRUE, watch=evolve(WATCH, prev_kv=False)),
    "compacted, and not needed": evolve(TRUE, batches=TRUE.batches[:2], compacted=4, floors=(0, 0, 4)),
    "compacted by nobody": evolve(TRUE, batches=TRUE.batches[:1], compacted=4, floors=(0, 3)),
}


def test_what_happened_breaks_no_guarantee() -> None:
    assert check_watch(TRUE, LEDGER) == []


@pytest.mark.parametrize("case", BROKEN)
def test_each_guarantee_has_a_watch_that_breaks_it(case: str) -> None:
    guarantee = next(name for name in GUARANTEES if case.startswith(name))
    breaches = check_watch(BROKEN[case], LEDGER)
    assert guarantee in {breach.guarantee for breach in breaches}, breaches


def test_every_guarantee_is_planted_against() -> None:
    assert {name for name in GUARANTEES for case in BROKEN if case.startswith(name)} == {*GUARANTEES}


@given(st.integers(0, 4), st.booleans(), st.booleans())
def test_a_reader_may_begin_again_wherever_it_was(cut: int, no_put: bool, no_delete: bool) -> None:
    watch = evolve(WATCH, no_put=no_put, no_delete=no_delete)

    def shown(record: WatchRecord) -> tuple[WatchBatch, ...]:
        told = (evolve(b, events=tuple(e for e in b.events if record.wants(e))) for b in TRUE.batches)
        return tuple(told)

    all_of_it = shown(evolve(TRUE, watch=watch))
    seen = max((batch.revision for batch in all_of_it[:cut]), default=1)
    first = WatchRecord(watch, 1, all_of_it[:cut])
    second = WatchRecord(evolve(watch, start_revision=seen + 1), 5, all_of_it[cut:], 5)
    assert check_reader([first, second], LEDGER) == []
    late = evolve(second, watch=evolve(watch, start_revision=seen + 2))
    assert [breach.guarantee for breach in check_reader([first, late], LEDGER)]


@pytest.mark.parametrize(
    "events",
    [
        EVENTS[1:],
        EVENTS[:1] + EVENTS[3:],
        (EVENTS[0], EVENTS[0]),
        (EVENTS[0], put(3, b"a", b"2", 3, 1)),
        (Event("DELETE", KeyValue(b"a", b"", 0, 2, 0)),),
        (put(2, b"a", b"1", 2, 2),),
    ],
)
def test_events_that_no_store_makes_are_no_ledger(events: Sequence[Event]) -> None:
    with pytest.raises(ContradictoryEvents):
        Ledger.of(events)


# ------------------------------------------------------------------ compactions

COMPACTED = WatchRecord(WATCH, 1, batches(LEDGER.events)[:1], compacted=4, floors=(0, 4))


def test_who_was_told_of_a_compaction_goes_on_after_what_he_listed() -> None:
    assert check_watch(COMPACTED, LEDGER) == []
    again = WatchRecord(evolve(WATCH, start_revision=5), 5, batches(LEDGER.events)[3:], 5)
    assert check_reader([COMPACTED, again], LEDGER) == []
    # Nobody may be told nothing, and find that there is a gap.
    gap = check_reader([evolve(COMPACTED, compacted=0), again], LEDGER)
    assert {"resumable", "reliable"} <= {breach.guarantee for breach in gap}
    # Nor begin where it is compacted still.
    early = check_reader([COMPACTED, evolve(again, watch=evolve(WATCH, start_revision=2))], LEDGER)
    assert "resumable" in {breach.guarantee for breach in early}


def test_what_was_before_is_left_out_only_where_it_may_be_compacted() -> None:
    first, second, *rest = batches(LEDGER.events)
    forgotten = evolve(second, events=tuple(evolve(event, prev_kv=None) for event in second.events))
    record = WatchRecord(WATCH, 1, (first, forgotten, *rest), floors=(0, 3, 3, 3), seen_through=5)
    assert check_watch(record, LEDGER) == []
    told = check_watch(evolve(record, floors=(0, 2, 3, 3)), LEDGER)
    assert [breach.guarantee for breach in told] == ["prev-kv"]
