"""Pairs by the hundred, in columns: what a key costs in memory beside its own bytes and its value's.

An object for each pair would be 80 bytes, and one more for each of its numbers that no other pair shares; and
the garbage collector would look at a million of them again and again. So a pair is two pointers and four
numbers here, 48 bytes, and an object only while somebody looks at it.
"""

from array import array
from collections.abc import Sequence
from struct import Struct
from typing import Final

from attrs import Factory, define

from understudy.raftstore.storage import KeyValue

Columns = tuple[Sequence[bytes], Sequence[bytes], Sequence[int], Sequence[int], Sequence[int], Sequence[int]]
"""Keys, values, create and mod revisions, versions, leases."""

_NUMBERS: Final = Struct("=qqqq")
"""Create and mod revision, version, lease."""
_WIDTH: Final = _NUMBERS.size
_COUNT: Final = 4


@define
class PairBlock:
    """A `Block` of live pairs."""

    keys: list[bytes] = Factory(list)
    values: list[bytes] = Factory(list)
    _numbers: bytearray = Factory(bytearray)

    @classmethod
    def of(cls, columns: Columns) -> "PairBlock":
        """Raises ValueError: a number that does not fit into 64 bits."""
        keys, values, *rows = columns
        numbers = array("q", bytes(_WIDTH * len(keys)))
        try:
            for at, row in enumerate(rows):
                numbers[at::_COUNT] = array("q", row)
        except (OverflowError, TypeError) as error:
            raise ValueError(f"numbers of pairs: {error}") from error
        return cls(list(keys), list(values), bytearray(numbers))

    def columns(self, first: int, stop: int) -> Columns:
        """A part, column by column."""
        with memoryview(self._numbers).cast("q") as numbers:
            created, modified, versions, leases = (
                numbers[_COUNT * first + at : _COUNT * stop : _COUNT].tolist() for at in range(_COUNT)
            )
        return self.keys[first:stop], self.values[first:stop], created, modified, versions, leases

    def read(self, at: int) -> KeyValue:
        return KeyValue(self.keys[at], self.values[at], *_NUMBERS.unpack_from(self._numbers, _WIDTH * at))

    def slice(self, first: int, stop: int) -> list[KeyValue]:
        return list(map(KeyValue, *self.columns(first, stop)))

    def write(self, at: int, value: KeyValue) -> None:
        self.values[at] = value.value
        _NUMBERS.pack_into(
            self._numbers,
            _WIDTH * at,
            value.create_revision,
            value.mod_revision,
            value.version,
            value.lease,
        )

    def insert(self, at: int, key: bytes, value: KeyValue) -> None:
        self.keys.insert(at, key)
        self.values.insert(at, value.value)
        place = _WIDTH * at
        self._numbers[place:place] = _NUMBERS.pack(
            value.create_revision, value.mod_revision, value.version, value.lease
        )

    def remove(self, at: int) -> None:
        del self.keys[at], self.values[at], self._numbers[_WIDTH * at : _WIDTH * (at + 1)]

    def cut(self, first: int, stop: int) -> "PairBlock":
        return PairBlock(
            self.keys[first:stop], self.values[first:stop], self._numbers[_WIDTH * first : _WIDTH * stop]
        )

    def extend(self, other: "PairBlock") -> None:
        self.keys.extend(other.keys)
        self.values.extend(other.values)
        self._numbers += other._numbers
