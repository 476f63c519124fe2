"""A sorted map that can be forked for next to nothing: its blocks are shared until one side writes to them.

Keys and values lie in parallel lists of some hundreds, so that a key costs two pointers and a range is a few
slices. A fork copies the list of blocks (some thousands for a million keys) and marks every block as shared;
whoever then writes to one copies that one first. So a snapshot of a large store takes microseconds, whatever
is written afterwards, and is paid back a block at a time.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from operator import lt
from typing import Any, Final, Generic, Protocol, TypeVar


class Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


K = TypeVar("K", bound=Ordered)
V = TypeVar("V")

BLOCK_MAX: Final = 1024
"""Keys of one block; a full one is split in halves, or left full where keys come in ascending order."""
BLOCK_MIN: Final = 128
"""A block that shrinks below it is put together with a neighbour that has room."""


class SortedMap(Generic[K, V]):
    __slots__ = ("_copy_value", "_firsts", "_found", "_keys", "_owned", "_sizes", "_values")

    def __init__(self, copy_value: Callable[[V], V] | None = None) -> None:
        """`copy_value` makes the copy of a value that is changed in place (see `writable`); without it values
        are immutable and shared."""
        self._copy_value = copy_value
        self._keys: list[list[K]] = []
        self._values: list[list[V]] = []
        self._firsts: list[K] = []
        """A lower bound of each block's keys, above all keys of the block before. The very first block may
        hold keys below its own."""
        self._owned: list[bool] = []
        """Whether a block is this map's alone."""
        self._sizes = array("L")
        """How many keys each block has: to be added up without a look at the blocks."""
        self._found: tuple[Any, int, int] | None = None
        """(key, block, offset) of the last lookup: a write mostly follows a read of the same key."""

    def __len__(self) -> int:
        return sum(self._sizes)

    def __contains__(self, key: K) -> bool:
        at, offset = self._seek(key)
        return at < len(self._keys) and offset < len(self._keys[at]) and self._keys[at][offset] == key

    def fork(self) -> "SortedMap[K, V]":
        """A map of the same content; what is written to either is not seen in the other."""
        twin: SortedMap[K, V] = SortedMap(self._copy_value)
        twin._keys = self._keys.copy()
        twin._values = self._values.copy()
        twin._firsts = self._firsts.copy()
        twin._sizes = self._sizes[:]
        twin._owned = [False] * len(self._owned)
        self._owned = [False] * len(self._owned)
        return twin

    # ---------------------------------------------------------------- reading

    def _seek(self, key: K) -> tuple[int, int]:
        """Where the first key at or above `key` is, or would be within its block."""
        at = bisect_right(self._firsts, key) - 1
        if at < 0:
            if not self._keys:
                return 0, 0
            at = 0
        return at, bisect_left(self._keys[at], key)

    def get(self, key: K) -> V | None:
        at, offset = self._seek(key)
        self._found = (key, at, offset)
        if at < len(self._keys):
            keys = self._keys[at]
            if offset < len(keys) and keys[offset] == key:
                return self._values[at][offset]
        return None

    def count(self, start: K, end: K | None) -> int:
        """How many keys lie in [start, end); without an end, from `start` on."""
        if not self._keys:
            return 0
        first, offset = self._seek(start)
        last, stop = (len(self._keys) - 1, len(self._keys[-1])) if end is None else self._seek(end)
        return max(0, sum(self._sizes[first:last]) + stop - offset)

    def values(self, start: K, end: K | None, limit: int = 0) -> list[V]:
        """The values of the keys in [start, end), ascending; the first `limit` of them, 0 for all."""
        found: list[V] = []
        for at, offset, to in self._pieces(start, end):
            if limit and len(found) + to - offset >= limit:
                found.extend(self._values[at][offset : offset + limit - len(found)])
                break
            found.extend(self._values[at][offset:to])
        return found

    def blocks(self) -> Iterator[list[V]]:
        """All values, ascending by key, some hundreds at a time. Not to be changed; of a fork that is not
        written to, so that it may be read bit by bit."""
        return iter(self._values)

    def items(self) -> Iterator[tuple[K, V]]:
        for keys, values in zip(self._keys, self._values, strict=True):
            yield from zip(keys, values, strict=True)

    def _pieces(self, start: K, end: K | None) -> Iterator[tuple[int, int, int]]:
        """(block, from, to) of every block that has keys in [start, end)."""
        if not self._keys:
            return
        first, offset = self._seek(start)
        if end is None:
            last, stop = len(self._keys) - 1, len(self._keys[-1])
        else:
            last, stop = self._seek(end)
        for at in range(first, last + 1):
            to = stop if at == last else len(self._keys[at])
            if to > offset:
                yield at, offset, to
            offset = 0

    # ---------------------------------------------------------------- writing

    def put(self, key: K, value: V) -> V | None:
        """Set a key's value; returns the one before."""
        found = self._found
        at, offset = (found[1], found[2]) if found is not None and found[0] == key else self._seek(key)
        self._found = None
        if not self._keys:
            self._insert_block(0, [key], [value])
            return None
        if not self._owned[at]:
            self._own(at)
        keys, values = self._keys[at], self._values[at]
        if offset < len(keys):
            if keys[offset] == key:
                before, values[offset] = values[offset], value
                return before
        elif offset == BLOCK_MAX and at == len(self._keys) - 1:
            self._insert_block(at + 1, [key], [value])
            return None
        keys.insert(offset, key)
        values.insert(offset, value)
        self._sizes[at] += 1
        if len(keys) > BLOCK_MAX:
            half = len(keys) // 2
            self._insert_block(at + 1, keys[half:], values[half:])
            # Copies, and no `del`: it would leave room for a whole block in each half.
            self._keys[at], self._values[at] = keys[:half], values[:half]
            self._sizes[at] = half
        return None

    def extend(self, keys: Sequence[K], values: Sequence[V]) -> None:
        """Add keys, ascending and above all that are there: into full blocks, and no key's place is looked
        for. Raises ValueError when they are not."""
        if not keys:
            return
        if not all(map(lt, keys, keys[1:])) or (self._keys and not self._keys[-1][-1] < keys[0]):
            raise ValueError(f"keys from {keys[0]!r} to {keys[-1]!r} are not above all before them")
        assert len(keys) == len(values), (len(keys), len(values))
        self._found = None
        at = 0
        while at < len(keys):
            last = len(self._keys) - 1
            room = BLOCK_MAX - len(self._keys[last]) if self._keys else 0
            if room <= 0:
                end = at + BLOCK_MAX
                self._insert_block(last + 1, list(keys[at:end]), list(values[at:end]))
            else:
                end = at + room
                if not self._owned[last]:
                    self._own(last)
                self._keys[last].extend(keys[at:end])
                self._values[last].extend(values[at:end])
                self._sizes[last] = len(self._keys[last])
            at = end

    def pop(self, key: K) -> V | None:
        """Remove a key; returns its value, None when it is not there."""
        at, offset = self._seek(key)
        self._found = None
        if at >= len(self._keys) or offset >= len(self._keys[at]) or self._keys[at][offset] != key:
            return None
        if not self._owned[at]:
            self._own(at)
        keys, values = self._keys[at], self._values[at]
        del keys[offset]
        value = values.pop(offset)
        self._sizes[at] -= 1
        if len(keys) < BLOCK_MIN:
            self._shrunk(at)
        return value

    def writable(self, key: K) -> V | None:
        """A key's value to be changed in place: one that no fork sees."""
        value = self.get(key)
        if value is None:
            return None
        _, at, offset = self._found or (None, *self._seek(key))
        if not self._owned[at]:
            self._own(at)
        return self._values[at][offset]

    def _own(self, at: int) -> None:
        copy = self._copy_value
        self._keys[at] = self._keys[at].copy()
        values = self._values[at]
        self._values[at] = values.copy() if copy is None else [copy(value) for value in values]
        self._owned[at] = True

    def _insert_block(self, at: int, keys: list[K], values: list[V]) -> None:
        self._keys.insert(at, keys)
        self._values.insert(at, values)
        self._firsts.insert(at, keys[0])
        self._owned.insert(at, True)
        self._sizes.insert(at, len(keys))

    def _drop_block(self, at: int) -> None:
        del self._keys[at], self._values[at], self._firsts[at], self._owned[at], self._sizes[at]

    def _shrunk(self, at: int) -> None:
        """A block has few keys left: it goes when it is empty, or into the one before or after it."""
        size = len(self._keys[at])
        if not size:
            self._drop_block(at)
            return
        for left in (at - 1, at):
            if not 0 <= left < len(self._keys) - 1:
                continue
            if len(self._keys[left]) + len(self._keys[left + 1]) <= BLOCK_MAX // 2:
                for side in (left, left + 1):
                    if not self._owned[side]:
                        self._own(side)
                self._keys[left].extend(self._keys[left + 1])
                self._values[left].extend(self._values[left + 1])
                self._sizes[left] = len(self._keys[left])
                self._drop_block(left + 1)
                return
