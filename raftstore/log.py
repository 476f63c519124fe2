"""The replicated log as a member holds it in memory: entries after a floor, a snapshot that covers what is
gone.

    floor_index <= snapshot.index <= applied_index <= applying_index <= commit_index <= last_index

(a snapshot from the leader is ahead of `applied_index` until it is restored)
    floor_index <= stable_index <= offered_index <= last_index

(`commit_index` may be ahead of `stable_index`: the others make the majority.)
"""

from collections import deque

from attrs import define, field

from understudy.raftstore.messages import Entry, Snapshot


@define
class RaftLog:
    snapshot: Snapshot
    """The latest snapshot: what a member is sent that needs an entry at or below the floor."""
    entries: list[Entry] = field(factory=list)
    """The entries floor_index + 1 .. last_index."""
    floor_index: int = field(init=False)
    """The last entry that is gone."""
    floor_term: int = field(init=False)
    commit_index: int = field(init=False)
    applying_index: int = field(init=False)
    """Handed out to be applied up to here."""
    applied_index: int = field(init=False)
    offered_index: int = field(init=False)
    """Handed out to be made durable up to here."""
    stable_index: int = field(init=False)
    """Durable up to here."""
    _under_way: deque[int] = field(init=False, factory=deque)
    """For each batch handed out to be made durable, in order: up to where it is still the log's."""

    def __attrs_post_init__(self) -> None:
        if self.entries:
            # Entries that the snapshot covers may have been kept for followers that lag.
            first = self.entries[0]
            assert first.index <= self.snapshot.index + 1, (first.index, self.snapshot.index)
            del self.entries[: self.snapshot.index + 1 - first.index]
        self.floor_index, self.floor_term = self.snapshot.index, self.snapshot.term
        self.commit_index = self.applying_index = self.applied_index = self.snapshot.index
        self.stable_index = self.offered_index = self.last_index

    @property
    def last_index(self) -> int:
        return self.floor_index + len(self.entries)

    @property
    def last_term(self) -> int:
        return self.entries[-1].term if self.entries else self.floor_term

    def term_at(self, index: int) -> int | None:
        """The term of an entry; None when it is compacted away or not there yet."""
        offset = index - self.floor_index
        if offset == 0:
            return self.floor_term
        if 0 < offset <= len(self.entries):
            return self.entries[offset - 1].term
        return None

    def matches(self, index: int, term: int) -> bool:
        """Whether this log has the entry (index, term), so that both logs are the same up to it (§5.3)."""
        return self.term_at(index) == term

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a log that ends so is at least as up-to-date as this one (§5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def slice(self, first: int, last: int, max_bytes: int) -> tuple[Entry, ...]:
        """The entries first..last, cut at `max_bytes` but never to none."""
        assert self.floor_index < first and last <= self.last_index, (
            self.floor_index,
            first,
            last,
            self.last_index,
        )
        chosen = self.entries[first - self.floor_index - 1 : last - self.floor_index]
        total = 0
        for count, entry in enumerate(chosen):
            total += entry.size_bytes
            if total > max_bytes and count:
                return tuple(chosen[:count])
        return tuple(chosen)

    def reach(self, last: int, max_bytes: int) -> int:
        """The first index from which on the entries up to `last` come to at most `max_bytes`."""
        first = last + 1
        while first > self.floor_index + 1:
            max_bytes -= self.entries[first - self.floor_index - 2].size_bytes
            if max_bytes < 0:
                break
            first -= 1
        return first

    def append(self, entry: Entry) -> None:
        assert entry.index == self.last_index + 1, (entry.index, self.last_index)
        self.entries.append(entry)

    def merge(self, previous_index: int, entries: tuple[Entry, ...]) -> None:
        """Take over a leader's entries after `previous_index`, which matches. Conflicting ones go, and with
        them all that follow; entries that are here already stay, so that an old message undoes nothing
        (§5.3)."""
        for offset, entry in enumerate(entries):
            if self.term_at(entry.index) == entry.term:
                continue
            if entry.index <= self.last_index:
                assert entry.index > self.commit_index, (
                    f"entry {entry.index} is committed (up to {self.commit_index}), a leader would replace it"
                )
                del self.entries[entry.index - self.floor_index - 1 :]
                self.offered_index = min(self.offered_index, entry.index - 1)
                self.stable_index = min(self.stable_index, entry.index - 1)
                # What is on its way to the disk there is void, even if a later leader puts the same entries
                # back: the disk gets them again only after what replaces them now.
                self._under_way = deque([min(last, entry.index - 1) for last in self._under_way])
            assert entry.index == self.last_index + 1, (entry.index, self.last_index, previous_index)
            self.entries.extend(entries[offset:])
            return

    def last_agreement(self, index: int, term: int) -> tuple[int, int]:
        """The last place at or before `index` where this log may agree with one that has `term` at `index`.

        Terms only grow along a log, so that no entry of a later term than `term` can agree. Returns (index,
        term); the term is 0 where it is compacted away.
        """
        index = min(index, self.last_index)
        while index > self.floor_index:
            own = self.term_at(index)
            assert own is not None
            if own <= term:
                return index, own
            index -= 1
        return index, self.floor_term if index == self.floor_index else 0

    def offer_unstable(self) -> tuple[Entry, ...]:
        """Hand out the entries that are still to be made durable, once."""
        offered = tuple(self.entries[self.offered_index - self.floor_index :])
        self.offered_index = self.last_index
        if offered:
            self._under_way.append(self.last_index)
        return offered

    def offer_committed(self, max_bytes: int) -> tuple[Entry, ...]:
        """Hand out committed entries to be applied, once, and at least one if there is any."""
        if self.applying_index >= self.commit_index:
            return ()
        offered = self.slice(self.applying_index + 1, self.commit_index, max_bytes)
        self.applying_index = offered[-1].index
        return offered

    def made_durable(self) -> None:
        """The oldest batch that was handed out is durable; as far as it was not replaced meanwhile."""
        self.stable_index = max(self.stable_index, self._under_way.popleft())

    def commit_to(self, index: int) -> None:
        if index > self.commit_index:
            assert index <= self.last_index, (
                f"commit index {index} is beyond the log's end {self.last_index}: the log lost something"
            )
            self.commit_index = index

    def restore(self, snapshot: Snapshot) -> None:
        """Replace everything by a snapshot (§7)."""
        assert snapshot.index > self.commit_index, (snapshot.index, self.commit_index)
        self.snapshot = snapshot
        self.entries = []
        self.floor_index, self.floor_term = snapshot.index, snapshot.term
        self.commit_index = self.applying_index = snapshot.index
        self.stable_index = self.offered_index = snapshot.index
        self._under_way = deque([min(last, snapshot.index) for last in self._under_way])

    def compact(self, snapshot: Snapshot, keep_entries: int) -> None:
        """Take over a snapshot of the applied state, whose entry is durable; forget what it covers but the
        last `keep_entries`."""
        assert self.snapshot.index <= snapshot.index <= min(self.applied_index, self.stable_index), (
            self.snapshot.index,
            snapshot.index,
            self.applied_index,
            self.stable_index,
        )
        self.snapshot = snapshot
        floor = max(snapshot.index - keep_entries, self.floor_index)
        term = self.term_at(floor)
        assert term is not None
        del self.entries[: floor - self.floor_index]
        self.floor_index, self.floor_term = floor, term
