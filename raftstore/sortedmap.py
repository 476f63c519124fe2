"""A sorted map that can be forked for next to nothing: its blocks are shared until one side writes to them.

Keys and values lie in blocks of some hundreds, so that a key costs two pointers and a range is a few slices.
A fork copies the list of blocks (some thousands for a million keys) and marks every block as shared; whoever
then writes to one copies that one first. So a snapshot of a large store takes microseconds, whatever is
written afterwards, and is paid back a block at a time.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from operator import lt
from typing import Any, Final, Generic, Protocol, TypeVar

from attrs import Factory, define


class Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


K = TypeVar("K", bound=Ordered)
V = TypeVar("V")

BLOCK_MAX: Final = 512
"""Keys of one block; a full one is split in halves, or left full where keys come in ascending order."""
BLOCK_MIN: Final = 64
"""A block that shrinks below it is put together with a neighbour that has room."""


class Block(Protocol[K, V]):
    """A stretch of a map: how its values are kept is its own business."""

    keys: list[K]
    """Ascending."""

    def read(self, at: int, /) -> V:
        """The value of `keys[at]`."""

    def slice(self, first: int, stop: int, /) -> list[V]:
        """Those of `keys[first:stop]`. Not to be changed."""

    def write(self, at: int, value: V, /) -> None:
        """Replace a value."""

    def insert(self, at: int, key: K, value: V, /) -> None:
        """Put a key and its value before `keys[at]`."""

    def remove(self, at: int, /) -> None:
        """Take `keys[at]` and its value out."""

    def cut(self, first: int, stop: int, /) -> "Block[K, V]":
        """A copy of a part, with no room to spare."""

    def extend(self, other: Any, /) -> None:
        """Append all of another block of the same class, whose keys are above."""


@define
class ListBlock(Generic[K, V]):
    """Any values, as they are."""

    keys: list[K] = Factory(list)
    values: list[V] = Factory(list)

    def read(self, at: int) -> V:
        return self.values[at]

    def slice(self, first: int, stop: int) -> list[V]:
        return self.values[first:stop]

    def write(self, at: int, value: V) -> None:
        self.values[at] = value

    def insert(self, at: int, key: K, value: V) -> None:
        self.keys.insert(at, key)
        self.values.insert(at, value)

    def remove(self, at: int) -> None:
        del self.keys[at], self.values[at]

    def cut(self, first: int, stop: int) -> "ListBlock[K, V]":
        return ListBlock(self.keys[first:stop], self.values[first:stop])

    def extend(self, other: "ListBlock[K, V]") -> None:
        self.keys.extend(other.keys)
        self.values.extend(other.values)


class SortedMap(Generic[K, V]):
    __slots__ = ("_blocks", "_copy_value", "_firsts", "_found", "_length", "_new_block", "_owned", "_sizes")

    def __init__(
        self,
        copy_value: Callable[[V], V] | None = None,
        new_block: Callable[[], Block[K, V]] = ListBlock,
    ) -> None:
        """`copy_value` makes the copy of a value that is changed in place (see `writable`); without it values
        are immutable and shared."""
        self._copy_value = copy_value
        self._new_block = new_block
        self._blocks: list[Block[K, V]] = []
        self._firsts: list[K] = []
        """A lower bound of each block's keys, above all keys of the block before. The very first block may
        hold keys below its own."""
        self._owned: list[bool] = []
        """Whether a block is this map's alone."""
        self._sizes = array("L")
        """How many keys each block has: to be added up without a look at the blocks."""
        self._length = 0
        self._found: tuple[Any, int, int] | None = None
        """(key, block, offset) of the last lookup: a write mostly follows a read of the same key."""

    def __len__(self) -> int:
        return self._length

    def __contains__(self, key: K) -> bool:
        at, offset = self._seek(key)
        return self._is_at(key, at, offset)

    def fork(self) -> "SortedMap[K, V]":
        """A map of the same content; what is written to either is not seen in the other."""
        twin: SortedMap[K, V] = SortedMap(self._copy_value, self._new_block)
        twin._blocks = self._blocks.copy()
        twin._firsts = self._firsts.copy()
        twin._sizes = self._sizes[:]
        twin._length = self._length
        twin._owned = [False] * len(self._owned)
        self._owned = [False] * len(self._owned)
        return twin

    # ---------------------------------------------------------------- reading

    def _seek(self, key: K) -> tuple[int, int]:
        """Where the first key at or above `key` is, or would be within its block."""
        at = bisect_right(self._firsts, key) - 1
        if at < 0:
            if not self._blocks:
                return 0, 0
            at = 0
        return at, bisect_left(self._blocks[at].keys, key)

    def _is_at(self, key: K, at: int, offset: int) -> bool:
        """Whether `_seek` has found the key itself."""
        if at >= len(self._blocks):
            return False
        keys = self._blocks[at].keys
        return offset < len(keys) and keys[offset] == key

    def get(self, key: K) -> V | None:
        at, offset = self._seek(key)
        self._found = (key, at, offset)
        if at < len(self._blocks):
            block = self._blocks[at]
            keys = block.keys
            if offset < len(keys) and keys[offset] == key:
                return block.read(offset)
        return None

    def count(self, start: K, end: K | None) -> int:
        """How many keys lie in [start, end); without an end, from `start` on."""
        if not self._blocks:
            return 0
        first, offset = self._seek(start)
        last, stop = (len(self._blocks) - 1, self._sizes[-1]) if end is None else self._seek(end)
        if (last, stop) <= (first, offset):
            return 0  # Also where `end` comes before `start`.
        return sum(self._sizes[first:last]) + stop - offset

    def values(self, start: K, end: K | None, limit: int = 0) -> list[V]:
        """The values of the keys in [start, end), ascending; the first `limit` of them, 0 for all."""
        found: list[V] = []
        for at, offset, to in self._pieces(start, end):
            if limit and len(found) + to - offset >= limit:
                found.extend(self._blocks[at].slice(offset, offset + limit - len(found)))
                break
            found.extend(self._blocks[at].slice(offset, to))
        return found

    def blocks(self) -> Iterator[Block[K, V]]:
        """All keys and values, ascending, some hundreds at a time. Not to be changed; of a fork that is not
        written to, so that it may be read bit by bit."""
        return iter(self._blocks)

    def items(self) -> Iterator[tuple[K, V]]:
        for block in self._blocks:
            yield from zip(block.keys, block.slice(0, len(block.keys)), strict=True)

    def _pieces(self, start: K, end: K | None) -> Iterator[tuple[int, int, int]]:
        """(block, from, to) of every block that has keys in [start, end)."""
        if not self._blocks:
            return
        first, offset = self._seek(start)
        if end is None:
            last, stop = len(self._blocks) - 1, self._sizes[-1]
        else:
            last, stop = self._seek(end)
        for at in range(first, last + 1):
            to = stop if at == last else self._sizes[at]
            if to > offset:
                yield at, offset, to
            offset = 0

    # ---------------------------------------------------------------- writing

    def put(self, key: K, value: V) -> None:
        """Set a key's value."""
        found = self._found
        at, offset = (found[1], found[2]) if found is not None and found[0] == key else self._seek(key)
        self._found = None
        if not self._blocks:
            self._length = 1
            self._begin_block(0, key, value)
            return
        block = self._blocks[at] if self._owned[at] else self._own(at)
        keys = block.keys
        if offset < len(keys):
            if keys[offset] == key:
                block.write(offset, value)
                return
        elif offset == BLOCK_MAX and at == len(self._blocks) - 1:
            # It stays full for the most part: no room to spare.
            self._blocks[at] = block.cut(0, offset)
            self._length += 1
            self._begin_block(at + 1, key, value)
            return
        block.insert(offset, key, value)
        self._sizes[at] += 1
        self._length += 1
        if len(keys) > BLOCK_MAX:
            half = len(keys) // 2
            self._insert_block(at + 1, block.cut(half, len(keys)))
            # A copy, and nothing removed: that would leave room for a whole block in each half.
            self._blocks[at] = block.cut(0, half)
            self._sizes[at] = half

    def extend(self, more: Block[K, V]) -> None:
        """Add keys, ascending and above all that are there: into full blocks, and no key's place is looked
        for. Raises ValueError when they are not."""
        keys = more.keys
        if not keys:
            return
        if not all(map(lt, keys, keys[1:])) or (self._blocks and not self._blocks[-1].keys[-1] < keys[0]):
            raise ValueError(f"keys from {keys[0]!r} to {keys[-1]!r} are not above all before them")
        self._found = None
        self._length += len(keys)
        at = 0
        while at < len(keys):
            last = len(self._blocks) - 1
            room = BLOCK_MAX - self._sizes[last] if self._blocks else 0
            if room <= 0:
                end = at + BLOCK_MAX
                self._insert_block(last + 1, more.cut(at, end))
            else:
                end = at + room
                block = self._blocks[last] if self._owned[last] else self._own(last)
                block.extend(more.cut(at, end))
                self._sizes[last] = size = len(block.keys)
                if size == BLOCK_MAX:
                    self._blocks[last] = block.cut(0, size)
            at = end

    def pop(self, key: K) -> V | None:
        """Remove a key; returns its value, None when it is not there."""
        at, offset = self._seek(key)
        self._found = None
        if not self._is_at(key, at, offset):
            return None
        block = self._blocks[at] if self._owned[at] else self._own(at)
        value = block.read(offset)
        block.remove(offset)
        self._sizes[at] -= 1
        self._length -= 1
        if self._sizes[at] < BLOCK_MIN:
            self._shrunk(at)
        return value

    def writable(self, key: K) -> V | None:
        """A key's value to be changed in place: one that no fork sees."""
        value = self.get(key)
        if value is None:
            return None
        _, at, offset = self._found or (None, *self._seek(key))
        if self._owned[at]:
            return value
        return self._own(at).read(offset)

    def _own(self, at: int) -> Block[K, V]:
        shared, copy = self._blocks[at], self._copy_value
        size = len(shared.keys)
        block = self._blocks[at] = shared.cut(0, size)
        if copy is not None:
            for offset in range(size):
                block.write(offset, copy(block.read(offset)))
        self._owned[at] = True
        return block

    def _begin_block(self, at: int, key: K, value: V) -> None:
        block = self._new_block()
        block.insert(0, key, value)
        self._insert_block(at, block)

    def _insert_block(self, at: int, block: Block[K, V]) -> None:
        self._blocks.insert(at, block)
        self._firsts.insert(at, block.keys[0])
        self._owned.insert(at, True)
        self._sizes.insert(at, len(block.keys))

    def _drop_block(self, at: int) -> None:
        del self._blocks[at], self._firsts[at], self._owned[at], self._sizes[at]

    def _shrunk(self, at: int) -> None:
        """A block has few keys left: it goes when it is empty, or into the one before or after it."""
        if not self._sizes[at]:
            self._drop_block(at)
            return
        for left in (at - 1, at):
            if not 0 <= left < len(self._blocks) - 1:
                continue
            if self._sizes[left] + self._sizes[left + 1] <= BLOCK_MAX // 2:
                block = self._blocks[left] if self._owned[left] else self._own(left)
                # Owned, too: values that are changed in place must be nobody else's.
                block.extend(self._blocks[left + 1] if self._owned[left + 1] else self._own(left + 1))
                self._sizes[left] = len(block.keys)
                self._drop_block(left + 1)
                return
