"""A sequential model of an etcd store: enough of it for histories of concurrent clients.

Every answer of the store carries the revision at which it was made, which leaves the checker little choice:
a write that is answered with revision r comes right after revision r - 1.
"""

from collections.abc import Iterable
from typing import Any

from attrs import frozen

from .history import UNKNOWN

State = tuple[int, tuple[tuple[bytes, bytes, int], ...]]
"""The revision, and (key, value, mod_revision) of each key that is there, ascending by key."""


@frozen
class Write:
    """Put a key."""

    key: bytes
    value: bytes


@frozen
class CompareAndSet:
    """Put a key if its last change was at `mod_revision`; 0: if it is not there."""

    key: bytes
    mod_revision: int
    value: bytes


@frozen
class Delete:
    """Delete a key; without it there, that is no revision."""

    key: bytes


@frozen
class Read:
    """Read a key, linearizably."""

    key: bytes


@frozen
class WriteTogether:
    """Put several keys in one transaction."""

    pairs: tuple[tuple[bytes, bytes], ...]
    """(key, value), no key twice."""


@frozen
class ReadAll:
    """Read every key at one revision, linearizably."""


@frozen
class WriteResult:
    revision: int
    """The store's, afterwards."""
    done: bool = True
    """Whether it changed anything."""


@frozen
class ReadResult:
    revision: int
    value: bytes | None
    """None: there is no such key."""
    mod_revision: int = 0


@frozen
class ReadAllResult:
    revision: int
    pairs: tuple[tuple[bytes, bytes, int], ...]
    """(key, value, mod_revision) of each key, ascending by key."""


class StoreModel:
    """The specification; keys may be there at the start."""

    def __init__(self, revision: int = 1, pairs: Iterable[tuple[bytes, bytes, int]] = ()) -> None:
        self._initial: State = (revision, tuple(sorted(pairs)))

    def initial(self) -> State:
        """See `Model`."""
        return self._initial

    def step(self, state: State, request: Any, result: Any) -> tuple[State, ...]:
        """See `Model`."""
        revision, pairs = state
        match request:
            case ReadAll():
                return (state,) if result in (ReadAllResult(revision, pairs), UNKNOWN) else ()
            case WriteTogether():
                written = request.pairs
                done = bool(written)
            case _:
                pair = next((pair for pair in pairs if pair[0] == request.key), None)
                if isinstance(request, Read):
                    seen = ReadResult(revision, None) if pair is None else ReadResult(revision, *pair[1:])
                    return (state,) if result in (seen, UNKNOWN) else ()
                done, written = _effect(request, pair)
        after = revision + done
        if result not in (WriteResult(after, done), UNKNOWN):
            return ()
        if not done:
            return (state,)
        changed = {request.key} if isinstance(request, Delete) else {key for key, _ in written}
        rest = [pair for pair in pairs if pair[0] not in changed]
        return ((after, tuple(sorted([*rest, *((key, value, after) for key, value in written)]))),)


def _effect(
    request: Any, pair: tuple[bytes, bytes, int] | None
) -> tuple[bool, tuple[tuple[bytes, bytes], ...]]:
    """Whether a request for one key, which is so now, changes anything, and what it puts."""
    match request:
        case Write():
            return True, ((request.key, request.value),)
        case CompareAndSet():
            mod_revision = 0 if pair is None else pair[2]
            return request.mod_revision == mod_revision, ((request.key, request.value),)
        case Delete():
            return pair is not None, ()
    raise AssertionError(f"no operation of this model: {request}")
