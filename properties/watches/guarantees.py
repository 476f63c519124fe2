"""etcd's guarantees of watches, one function each: what is told against what happened.

Source: "Watch APIs" of etcd's API guarantees, and the nine that its robustness tests validate. A tenth is
about compactions: who needs what is gone is told so, and nobody else.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from attrs import evolve, frozen

from understudy.raftstore.storage import Event

from .ledger import Ledger
from .record import WatchRecord


@frozen
class Breach:
    """A guarantee that a watch did not keep."""

    guarantee: str
    watch: str
    what: str

    def __str__(self) -> str:
        return f"{self.guarantee}: {self.what} (of {self.watch})"


Check = Callable[[WatchRecord, Ledger], Iterator[str]]


def _filtered(record: WatchRecord, ledger: Ledger) -> Iterator[str]:
    """It tells of nothing that it was not asked for."""
    for event in record.events:
        if not record.wants(event):
            yield f"not asked for: {event}"


def _ordered(record: WatchRecord, ledger: Ledger) -> Iterator[str]:
    """Revisions never go back."""
    last = 0
    for event in record.events:
        if event.kv.mod_revision < last:
            yield f"after revision {last} comes {event}"
        last = max(last, event.kv.mod_revision)


def _unique(record: WatchRecord, ledger: Ledger) -> Iterator[str]:
    """No event comes twice."""
    seen: dict[tuple[int, bytes], None] = {}
    for event in record.events:
        which = (event.kv.mod_revision, event.kv.key)
        if which in seen:
            yield f"again: {event}"
        seen[which] = None


def _atomic(record: WatchRecord, ledger: Ledger) -> Iterator[str]:
    """The events of one revision come together."""
    told: dict[int, int] = {}
    for number, batch in enumerate(record.batches):
        for event in batch.events:
            first = told.setdefault(event.kv.mod_revision, number)
            if first != number:
                yield f"revision {event.kv.mod_revision} comes in batches {first} and {number}"


def _bookmarkable(record: WatchRecord, ledger: Ledger) -> Iterator[str]:
    """Nothing up to a bookmark, or up to the revision of a batch, is still to come; it does not run ahead."""
    said = 0
    for batch in record.batches:
        for event in batch.events:
            if event.kv.mod_revision <= said:
                yield f"after a bookmark of {said} comes {event}"
            if event.kv.mod_revision > batch.revision:
                yield f"a batch of revision {batch.revision} tells of {event}"
        if batch.revision < said:
            yield f"a bookmark of {batch.revision} comes after one of {said}"
        said = max(said, batch.revision)


def _resumable(record: WatchRecord, ledger: Ledger) -> Iterator[str]:
    """It begins where it was asked to begin: with the first event from then on."""
    told = record.events
    if told and told[0].kv.mod_revision < record.first_revision:
        yield f"asked for from {record.first_revision} on, it begins with {told[0]}"
    first = next(_wanted(record, ledger, record.first_revision, _through(record)), None)
    if first is not None and (not told or told[0].kv.mod_revision > first.kv.mod_revision):
        yield f"from {record.first_revision} on it was to begin with {first}, not {told[:1]}"


def _reliable(record: WatchRecord, ledger: Ledger) -> Iterator[str]:
    """Nothing is missing between its beginning and the last that it told, and nothing is made up."""
    expected = list(_wanted(record, ledger, record.first_revision, _through(record)))
    told = [_key_and_value(event) for event in record.events]
    in_truth = [_key_and_value(event) for event in expected]
    for event in in_truth:
        if event not in told:
            yield f"never told: {event}"
    for event in told:
        if event not in in_truth:
            yield f"never happened: {event}"
    if sorted(told) == sorted(in_truth) and told != in_truth:
        yield "the events of one revision are not in the order of its operations"


def _is_create(record: WatchRecord, ledger: Ledger) -> Iterator[str]:
    """A put says that it made the key exactly when the key was not there."""
    truth = _by_place(ledger)
    for event in record.events:
        happened = truth.get((event.kv.mod_revision, event.kv.key))
        if happened is None or event.type != "PUT":
            continue
        made = event.kv.create_revision == event.kv.mod_revision
        if made != (happened.prev_kv is None) or made != (event.kv.version == 1):
            yield f"{event.kv} where {happened.prev_kv} was before"


def _previous(record: WatchRecord, ledger: Ledger) -> Iterator[str]:
    """The pair before the event, where it was asked for and may not be compacted, and no other."""
    truth = _by_place(ledger)
    for number, batch in enumerate(record.batches):
        for event in batch.events:
            happened = truth.get((event.kv.mod_revision, event.kv.key))
            if happened is None:
                continue
            expected = happened.prev_kv if record.watch.prev_kv else None
            gone = event.prev_kv is None and event.kv.mod_revision <= record.floor(number)
            if event.prev_kv != expected and not gone:
                yield f"{event} says {event.prev_kv} was before, not {expected}"


def _compacted(record: WatchRecord, ledger: Ledger) -> Iterator[str]:
    """It is told that something is compacted only when it is, and when it needs it. (That it *is* told shows
    by what is missing otherwise: see "reliable".)"""
    if record.compacted:
        if record.compacted <= record.next_revision:
            yield f"ended for a compaction at {record.compacted}, and it needs {record.next_revision}"
        if record.compacted > record.floor(len(record.batches)):
            yield f"ended for a compaction at {record.compacted}, which nobody had asked for"


GUARANTEES: Final[dict[str, Check]] = {
    "filter": _filtered,
    "ordered": _ordered,
    "unique": _unique,
    "atomic": _atomic,
    "bookmarkable": _bookmarkable,
    "resumable": _resumable,
    "is-create": _is_create,
    "reliable": _reliable,
    "prev-kv": _previous,
    "compacted": _compacted,
}


def check_watch(record: WatchRecord, ledger: Ledger) -> list[Breach]:
    """Every guarantee that one watch broke."""
    watch = str(record.watch)
    return [
        Breach(guarantee, watch, what)
        for guarantee, check in GUARANTEES.items()
        for what in check(record, ledger)
    ]


def check_reader(records: Sequence[WatchRecord], ledger: Ledger) -> list[Breach]:
    """The same for a reader who saw all with several watches, each begun right after what it had seen; or,
    after it was told that this is compacted, after what it has listed since.

    Args:
        records: the same watch but for its start, in order.
    """
    breaches = [breach for record in records for breach in check_watch(record, ledger)]
    stretches = [[records[0]]]
    for earlier, later in pairwise(records):
        if earlier.compacted and later.first_revision >= earlier.compacted:
            stretches.append([later])
            continue
        stretches[-1].append(later)
        if later.first_revision != earlier.next_revision:
            what = f"a reader who had to see {earlier.next_revision} began again at {later.first_revision}"
            breaches.append(Breach("resumable", str(later.watch), what))
    for stretch in stretches:
        whole = evolve(
            stretch[0],
            batches=tuple(batch for record in stretch for batch in record.batches),
            floors=tuple(record.floor(n) for record in stretch for n in range(len(record.batches))),
            seen_through=stretch[-1].seen_through,
            compacted=0,
        )
        breaches += [Breach(b.guarantee, f"all of {b.watch}", b.what) for b in check_watch(whole, ledger)]
    return breaches


def _through(record: WatchRecord) -> int:
    """Everything up to here must have come."""
    return max([record.seen_through, *(batch.revision for batch in record.batches)])


def _wanted(record: WatchRecord, ledger: Ledger, first: int, last: int) -> Iterator[Event]:
    for revision in range(max(2, first), last + 1):
        for event in ledger.by_revision.get(revision, ()):
            if record.wants(event):
                yield event


def _key_and_value(event: Event) -> tuple[int, bytes, str, bytes]:
    return event.kv.mod_revision, event.kv.key, event.type, event.kv.value


def _by_place(ledger: Ledger) -> Mapping[tuple[int, bytes], Event]:
    return {(event.kv.mod_revision, event.kv.key): event for event in ledger.events}
