"""What a member makes durable at a time, to bytes and back: hard state, entries, that the log was replaced.

An entry is encoded once in a process, however many members of a group are in it and write it: encoding costs
more than all else that a write to the log does.
"""

import struct
from collections.abc import Sequence
from typing import Final

from attrs import define, field, frozen

from understudy.mailbox.codec import Codec, CodecError
from understudy.raftstore.messages import Entry, EntryKind, HardState

_BATCH = struct.Struct("<BQQQQQI")
"""Format, term, vote, commit index, index and term of a replacing snapshot (0: none), number of entries."""
_ENTRY = struct.Struct("<QQQIB")
"""Index, term, size in bytes as reckoned, length of what follows, kind."""
_FORMAT: Final = 1
_KINDS: Final[tuple[EntryKind, ...]] = ("normal", "configuration")
CACHE_BYTES: Final = 16 << 20
"""Encoded entries are kept up to so many bytes: members of one group write them at nearly the same time."""

_codec = Codec()


class BatchError(Exception):
    """Bytes that are no batch."""


@frozen
class Batch:
    """The body of one frame: durable together or not at all."""

    hard_state: HardState
    entries: tuple[Entry, ...] = ()
    """Whatever the log had from entries[0].index on is void."""
    replaced: tuple[int, int] = (0, 0)
    """(index, term) of a snapshot that took the whole log's place before `entries`; (0, 0): none did."""


@define
class EntryCache:
    """Entries with their bytes, the newest up to a limit."""

    max_bytes: int
    size_bytes: int = 0
    _known: dict[int, tuple[Entry, bytes]] = field(factory=dict)
    """By identity; the entry is held, so that nothing else gets its identity."""

    def encode(self, entry: Entry) -> bytes:
        """Raises `BatchError`."""
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


def encode_entry(entry: Entry) -> bytes:
    """Raises `BatchError`: what it holds has no wire form."""
    try:
        data = _codec.encode(entry.data) if entry.data is not None else b""
    except CodecError as error:
        raise BatchError(f"entry {entry.index} cannot be written: {error}") from error
    kind = _KINDS.index(entry.kind)
    return _ENTRY.pack(entry.index, entry.term, entry.size_bytes, len(data), kind) + data


def encode_batch(
    hard_state: HardState, entries: Sequence[Entry] = (), replaced: tuple[int, int] = (0, 0)
) -> bytes:
    """The body of a frame. Raises `BatchError`."""
    head = _BATCH.pack(
        _FORMAT, hard_state.term, hard_state.vote, hard_state.commit_index, *replaced, len(entries)
    )
    return b"".join([head, *[_cache.encode(entry) for entry in entries]])


def decode_batch(body: bytes, after: int = 0) -> tuple[Batch, tuple[tuple[int, int], ...]]:
    """A batch, of whose entries only those after index `after` are decoded, and (index, term) of all of them.

    Raises:
        BatchError: it was written by something else.
    """
    try:
        version, term, vote, commit_index, *replaced, count = _BATCH.unpack_from(body)
        if version != _FORMAT:
            raise BatchError(f"batch format {version}, known is {_FORMAT}")
        position = _BATCH.size
        entries: list[Entry] = []
        places: list[tuple[int, int]] = []
        for _ in range(count):
            index, entry_term, size_bytes, length, kind = _ENTRY.unpack_from(body, position)
            position += _ENTRY.size
            places.append((index, entry_term))
            if index > after:
                data = _codec.decode(body[position : position + length]) if length else None
                entries.append(Entry(index, entry_term, _KINDS[kind], data, size_bytes))
            position += length
        if position != len(body):
            raise BatchError(f"{len(body) - position} bytes beside the entries")
    except (struct.error, CodecError, IndexError) as error:
        raise BatchError(f"not a batch: {error}") from error
    state = HardState(term, vote, commit_index)
    return Batch(state, tuple(entries), (replaced[0], replaced[1])), tuple(places)
