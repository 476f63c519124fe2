"""What one watch was told."""

from attrs import frozen

from understudy.raftstore.storage import ALL_KEYS_END, Event, Watch, WatchBatch


@frozen
class WatchRecord:
    """A watch, from its opening to its end or to the end of the run."""

    watch: Watch
    opened_revision: int
    """Where the store stood when it was opened."""
    batches: tuple[WatchBatch, ...] = ()
    """In the order in which they came. One without events is a bookmark."""
    seen_through: int = 0
    """Its reader waited, at the end, until everything up to here must have come; 0: it was cut off
    anywhere."""
    compacted: int = 0
    """It was ended, or refused, because so much is compacted; 0: it was not."""
    floors: tuple[int, ...] = ()
    """The newest revision at which anybody had asked to compact when each batch came, and when it ended for
    that reason; none where nobody compacts."""

    @property
    def first_revision(self) -> int:
        """The first that it is to see."""
        return self.watch.start_revision or self.opened_revision + 1

    @property
    def next_revision(self) -> int:
        """The first that it has still to see."""
        return max((batch.revision + 1 for batch in self.batches), default=self.first_revision)

    def floor(self, number: int) -> int:
        """Nothing after this revision can have been compacted when batch `number` came."""
        return self.floors[number] if number < len(self.floors) else 0

    @property
    def events(self) -> list[Event]:
        return [event for batch in self.batches for event in batch.events]

    def wants(self, event: Event) -> bool:
        """Whether it asked for an event like this, at whatever revision."""
        watch = self.watch
        if watch.range_end == b"":
            inside = event.kv.key == watch.key
        else:
            inside = watch.key <= event.kv.key and watch.range_end in (
                ALL_KEYS_END,
                max(watch.range_end, event.kv.key + b"\0"),
            )
        refused = watch.no_put if event.type == "PUT" else watch.no_delete
        return inside and not refused
