"""What a member makes durable at a time, to bytes and back: hard state, entries, that the log was replaced.

An entry is encoded once in a process, however many members of a group are in it and write it.
"""

import struct
from collections.abc import Sequence
from typing import Any, Final

from attrs import define, field, frozen

from understudy.raftstore.messages import Entry, HardState
from understudy.raftstore.wal.entries import EntryError, array_head, encode_entry, read_rows

_BATCH = struct.Struct("<QQQQQ")
"""Term, vote, commit index, index and term of a replacing snapshot (0: none). The entries' rows follow."""
CACHE_BYTES: Final = 4 << 20
"""Encoded entries are kept up to so many bytes: members of one group write them at nearly the same time."""


@frozen
class Batch:
    """The body of one frame: durable together or not at all."""

    hard_state: HardState
    replaced: tuple[int, int] = (0, 0)
    """(index, term) of a snapshot that took the whole log's place before the entries; (0, 0): none did."""
    rows: Sequence[tuple[Any, ...]] = ()
    """The entries, for `decode_rows`; each begins with index and term. Whatever the log had from the first
    one's index on is void."""


@define
class EntryCache:
    """Entries with their bytes, the newest up to a limit."""

    max_bytes: int
    size_bytes: int = 0
    _known: dict[int, tuple[Entry, bytes]] = field(factory=dict)
    """By identity; the entry is held, so that nothing else gets its identity."""

    def encode(self, entry: Entry) -> bytes:
        """Raises `EntryError`."""
        known = self._known.get(id(entry))
        if known is not None:
            return known[1]
        encoded = encode_entry(entry)
        self._known[id(entry)] = (entry, encoded)
        self.size_bytes += len(encoded)
        while self.size_bytes > self.max_bytes:
            _, dropped = self._known.pop(next(iter(self._known)))
            self.size_bytes -= len(dropped)
        return encoded


_cache = EntryCache(CACHE_BYTES)


def encode_batch(
    hard_state: HardState, entries: Sequence[Entry] = (), replaced: tuple[int, int] = (0, 0)
) -> bytes:
    """The body of a frame. Raises `EntryError`."""
    head = _BATCH.pack(hard_state.term, hard_state.vote, hard_state.commit_index, *replaced)
    return b"".join([head, array_head(len(entries)), *[_cache.encode(entry) for entry in entries]])


def read_batch(body: bytes) -> Batch:
    """Raises `EntryError`: it was written by something else."""
    try:
        term, vote, commit_index, *replaced = _BATCH.unpack_from(body)
    except struct.error as error:
        raise EntryError(f"not a batch: {error}") from error
    rows = read_rows(body[_BATCH.size :])
    return Batch(HardState(term, vote, commit_index), (replaced[0], replaced[1]), rows)
