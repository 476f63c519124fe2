"""The history of writes: every revision of a store with its events, replayed from nothing."""

from collections.abc import Iterable, Mapping

from attrs import evolve, field, frozen

from understudy.raftstore.storage import Event, KeyValue


class ContradictoryEvents(AssertionError):
    """Events that no store can have made in this order."""


@frozen
class Ledger:
    """Every event from revision 2 on, with the pair before it, by revision and in order."""

    by_revision: Mapping[int, tuple[Event, ...]] = field(factory=dict)
    pairs: Mapping[bytes, KeyValue] = field(factory=dict)
    """What is there at the end, by key."""

    @classmethod
    def of(cls, events: Iterable[Event]) -> "Ledger":
        """The ledger that these events are, from a fresh store on.

        Raises:
            ContradictoryEvents: a revision is missing or comes again, or an event's versions and create
                revisions are not what those before it make them.
        """
        by_revision: dict[int, tuple[Event, ...]] = {}
        pairs: dict[bytes, KeyValue] = {}
        last = 1
        for event in events:
            revision = event.kv.mod_revision
            if revision not in (last, last + 1) or revision == 1:
                raise ContradictoryEvents(f"revision {revision} comes after {last}: {event}")
            before = pairs.get(event.kv.key)
            expected = _after(before, event)
            if event.kv != expected:
                raise ContradictoryEvents(f"{event.kv} where {before} makes it {expected}")
            if any(other.kv.key == event.kv.key for other in by_revision.get(revision, ())):
                raise ContradictoryEvents(f"revision {revision} changes {event.kv.key!r} twice")
            by_revision[revision] = (*by_revision.get(revision, ()), evolve(event, prev_kv=before))
            if event.type == "PUT":
                pairs[event.kv.key] = event.kv
            else:
                del pairs[event.kv.key]
            last = revision
        return cls(by_revision, pairs)

    def at(self, revision: int) -> dict[bytes, KeyValue]:
        """What was there after a revision, by key."""
        pairs: dict[bytes, KeyValue] = {}
        for event in self.events:
            if event.kv.mod_revision > revision:
                break
            if event.type == "PUT":
                pairs[event.kv.key] = event.kv
            else:
                del pairs[event.kv.key]
        return pairs

    @property
    def revision(self) -> int:
        """The newest."""
        return max(self.by_revision, default=1)

    @property
    def events(self) -> list[Event]:
        return [event for revision in sorted(self.by_revision) for event in self.by_revision[revision]]


def _after(before: KeyValue | None, event: Event) -> KeyValue | None:
    """What the key's pair is after an event; None when there can be no such event."""
    kv = event.kv
    if event.type == "DELETE":
        return None if before is None else KeyValue(kv.key, b"", 0, kv.mod_revision, 0)
    create_revision, version = (
        (kv.mod_revision, 1) if before is None else (before.create_revision, before.version + 1)
    )
    return KeyValue(kv.key, kv.value, create_revision, kv.mod_revision, version, kv.lease)
