"""Entries of the log to bytes and back: rows of msgpack, which stand one after another.

What most entries are, a command with a request on keys or leases, is a row of plain values in a fixed order:
a fifth of what messages cost that name every field. The rest, users and members and what is proposed by
nobody's command, is a message in its row. The order of a class's fields is part of the format, see
`SEGMENT_FORMAT`; a field that is added at the end, with a default, is not.

A row begins with index, term, size in bytes as reckoned, and its form.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

import attrs
import msgpack
from attrs import frozen

from understudy.mailbox import message
from understudy.mailbox.codec import Codec, CodecError
from understudy.raftstore.messages import Entry, EntryKind
from understudy.raftstore.sessions import Command
from understudy.raftstore.storage import (
    Compact,
    Compare,
    DeleteRange,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseRevoke,
    Put,
    Range,
    Txn,
)

NOTHING: Final = 0
"""A normal entry without data: no more follows."""
PUT: Final = 1
"""A command with a plain put: session, number, settled, key, value, lease."""
COMMAND: Final = 2
"""A command with a request that has a row: session, number, settled, the row."""
OTHER: Final = 3
"""Anything else: kind, a message."""

_KINDS: Final[tuple[EntryKind, ...]] = ("normal", "configuration")
_TXN: Final = 1
_FLAT: Final[dict[type, int]] = {
    Put: 2,
    DeleteRange: 3,
    Range: 4,
    Compact: 5,
    LeaseGrant: 6,
    LeaseRevoke: 7,
    LeaseKeepAlive: 8,
}
"""What a request's row begins with, before its fields."""
_BUFFER_BYTES: Final = 1024
"""What a packer begins with; one that has grown beyond `_KEPT_BYTES` is dropped: it would stay as large."""
_KEPT_BYTES: Final = 64 << 10
SEALED_BYTES: Final = 4096
"""Commands of so many bytes, as reckoned, are `Sealed` when a log is read."""

_codec = Codec()


class EntryError(Exception):
    """What has no wire form, or bytes that are no entry."""


@message("raft.sealed")
@frozen
class Sealed:
    """A large command as a log was read: it could be decoded, and is again when it is applied.

    A member that starts may have much to apply. As objects that would take twice the memory of its bytes,
    and leave that full of holes.
    """

    row: bytes
    """msgpack of session, number, settled and the request's row."""


def _fields(cls: type) -> Callable[[Any], Any]:
    names = [field.name for field in attrs.fields(cls)]
    if len(names) == 1:
        return lambda item: (getattr(item, names[0]),)
    return attrgetter(*names)


_encoders: Final = {cls: (tag, _fields(cls)) for cls, tag in _FLAT.items()}
_decoders: Final[dict[int, Callable[..., Any]]] = {tag: cls for cls, tag in _FLAT.items()}
_compare: Final = _fields(Compare)
_packer = msgpack.Packer(buf_size=_BUFFER_BYTES)


# ---------------------------------------------------------------- to bytes


def encode_entry(entry: Entry) -> bytes:
    """The row of an entry. Raises `EntryError`: what it holds has no wire form."""
    global _packer
    try:
        data = _packer.pack(_row(entry))
    except (TypeError, ValueError, OverflowError, CodecError) as error:
        raise EntryError(f"entry {entry.index} cannot be written: {error}") from error
    if len(data) > _KEPT_BYTES:
        _packer = msgpack.Packer(buf_size=_BUFFER_BYTES)
    assert isinstance(data, bytes)
    return data


def _row(entry: Entry) -> tuple[Any, ...]:
    command = unsealed(entry.data)
    head = (entry.index, entry.term, entry.size_bytes)
    if entry.kind == "normal":
        if command is None:
            return (*head, NOTHING)
        if type(command) is Command:
            request = command.request
            session = (command.session, command.number, command.settled)
            if type(request) is Put and not (request.prev_kv or request.ignore_value or request.ignore_lease):
                return (*head, PUT, *session, request.key, request.value, request.lease)
            row = _request_row(request)
            if row is not None:
                return (*head, COMMAND, *session, row)
    return (*head, OTHER, _KINDS.index(entry.kind), _codec.encode(command))


def _request_row(request: Any) -> tuple[Any, ...] | None:
    """None for a request that has none."""
    cls = type(request)
    known = _encoders.get(cls)
    if known is not None:
        tag, fields = known
        return (tag, *fields(request))
    if cls is not Txn:
        return None
    compares = [_compare(compare) for compare in request.compares]
    success = [_request_row(operation) for operation in request.success]
    failure = [_request_row(operation) for operation in request.failure]
    return None if None in success or None in failure else (_TXN, compares, success, failure)


def array_head(count: int) -> bytes:
    """What makes an array of so many rows behind it."""
    return b"\xdd" + count.to_bytes(4)


# ---------------------------------------------------------------- and back


def read_rows(data: bytes) -> Sequence[tuple[Any, ...]]:
    """The rows of an array, not decoded yet but for index and term. Raises `EntryError`."""
    try:
        rows = msgpack.unpackb(data, use_list=False)
        if type(rows) is not tuple:
            raise EntryError(f"expected rows, found {type(rows).__name__}")
        for row in rows:
            if type(row) is not tuple or len(row) < 4 or not type(row[0]) is type(row[1]) is int:
                raise EntryError(f"expected a row, found {row!r:.60}")
    except ValueError as error:  # As msgpack's own are.
        raise EntryError(f"not entries: {error}") from error
    return rows


def decode_rows(rows: Sequence[tuple[Any, ...]]) -> list[Entry]:
    """The entries of rows. Raises `EntryError`."""
    entries: list[Entry] = []
    add = entries.append
    try:
        for row in rows:
            if row[3] == PUT:
                index, term, size, _, session, number, settled, key, value, lease = row
                command = Command(session, number, settled, Put(key, value, lease))
                add(Entry(index, term, "normal", command, size))
            else:
                add(_entry(*row))
    except (TypeError, ValueError, KeyError, IndexError, RecursionError, CodecError) as error:
        raise EntryError(f"row {len(entries)}: not an entry: {error!r}") from error
    return entries


def _entry(index: int, term: int, size_bytes: int, form: int, *rest: Any) -> Entry:
    if form == COMMAND:
        session, number, settled, row = rest
        command: Command | Sealed = Command(session, number, settled, _request(row))
        if size_bytes >= SEALED_BYTES:
            command = Sealed(msgpack.packb(rest))
        return Entry(index, term, "normal", command, size_bytes)
    if form == OTHER:
        kind, data = rest
        return Entry(index, term, _KINDS[kind], _codec.decode(data), size_bytes)
    if form != NOTHING or rest:
        raise ValueError(f"form {form} with {len(rest)} values")
    return Entry(index, term, "normal", None, size_bytes)


def unsealed(data: Any) -> Any:
    """What an entry holds, `Sealed` or not."""
    if type(data) is not Sealed:
        return data
    session, number, settled, row = msgpack.unpackb(data.row, use_list=False)
    return Command(session, number, settled, _request(row))


def _request(row: tuple[Any, ...]) -> Any:
    tag = row[0]
    if tag != _TXN:
        return _decoders[tag](*row[1:])
    _, compares, success, failure = row
    return Txn(
        tuple([Compare(*compare) for compare in compares]),
        tuple([_request(operation) for operation in success]),
        tuple([_request(operation) for operation in failure]),
    )
