"""The watch cache: what reads and watches are served from, apart from the store.

One `Cache` a resource, filled from the store's watch, with a revision of its own: everything up to it has
been seen. It keeps a bounded history of events so that a watch can start in the past. Sans-I/O: `apply`
goes in, watchers' queues come out; `server` moves the bytes.

Invariants: an event is delivered to a watcher at most once and in order of revision; a watcher that is too
slow is ended, never waited for; `oldest` is the first revision from which a watch misses nothing.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence

from attrs import define, field, frozen
from sortedcontainers import SortedDict

from understudy.components.machinery.resources import Resource
from understudy.components.machinery.selectors import FieldSelector, LabelSelector

from .encoding import Stored

Rendered = dict[Hashable, bytes]

HISTORY_MAX = 4096
"""Events a resource remembers, so that a watch that comes back within them need not relist."""


HISTORY_BYTES_MAX = 16 * 1024 * 1024
"""The same bound in bytes of stored objects."""


@frozen
class Change:
    """One event of one resource."""

    revision: int
    old: Stored | None
    new: Stored | None
    """None: deleted. `gone` then holds its last state."""
    gone: Stored | None = None
    """A deleted object's last state at the revision of its deletion."""
    rendered: Rendered = field(factory=dict, eq=False, repr=False)
    """The change as it goes out, while it is being delivered: made once for all watchers."""


@frozen
class Interest:
    """What a list or a watch wants to see of a resource."""

    namespace: str = ""
    labels: LabelSelector | None = None
    fields: FieldSelector | None = None

    def matches(self, entry: Stored | None) -> bool:
        """Whether the object is of interest."""
        if entry is None or (self.namespace and entry.namespace != self.namespace):
            return False
        if self.labels is not None and not self.labels.matches(entry.labels):
            return False
        return self.fields is None or self.fields.matches(entry.fields)


@frozen
class Seen:
    """A change as one watcher sees it."""

    type: str
    """ADDED, MODIFIED or DELETED: an object that stops matching is DELETED for that watcher."""
    entry: Stored
    old: Stored | None
    """The state before, for renderings that need it."""
    rendered: Rendered = field(factory=dict, eq=False, repr=False)
    """What other watchers have made of the same change, by type and representation."""


def seen_as(change: Change, interest: Interest) -> Seen | None:
    """How a change looks through selectors; None when it cannot be seen."""
    before, after = interest.matches(change.old), interest.matches(change.new)
    if after:
        assert change.new is not None
        return Seen("MODIFIED" if before else "ADDED", change.new, change.old, change.rendered)
    if before:
        entry = change.gone if change.gone is not None else change.new
        assert entry is not None and change.old is not None
        if change.new is not None:
            # It still exists but no longer matches: the watcher gets the state that did, at this revision.
            old = change.old
            entry = Stored(
                old.resource,
                old.data,
                change.revision,
                old.namespace,
                old.name,
                old.labels,
                old.fields,
                old.uid,
            )
        return Seen("DELETED", entry, change.old, change.rendered)
    return None


Deliver = Callable[[Seen, int], None]
"""What a watcher is called with: what it sees, and the revision."""


def _size_bytes(change: Change) -> int:
    """What a change alone keeps in memory; its old state is the new one of the change before."""
    entry = change.new if change.new is not None else change.old
    assert entry is not None, "a change of nothing"
    return len(entry.data)


@define(eq=False)
class Cache:
    """All objects of one resource."""

    resource: Resource
    revision: int = 0
    """Everything up to this revision is in here."""
    oldest: int = 0
    """A watch from this revision on misses nothing."""
    objects: "SortedDict" = field(factory=SortedDict)
    """`Stored` by (namespace, name)."""
    _history: deque[Change] = field(factory=deque)
    _history_bytes: int = 0
    _watchers: dict[int, tuple[Interest, Deliver]] = field(factory=dict)
    _number: int = 0

    def get(self, namespace: str, name: str) -> Stored | None:
        """One object, or None."""
        return self.objects.get((namespace, name))  # type: ignore[no-any-return]

    def list(self, interest: Interest) -> Sequence[Stored]:
        """The objects of interest, in the order of the store."""
        if interest.namespace:
            keys = self.objects.irange(
                (interest.namespace, ""), (interest.namespace + "\0", ""), (True, False)
            )
            found: Iterable[Stored] = (self.objects[key] for key in keys)
        else:
            found = self.objects.values()
        if interest.labels is None and interest.fields is None:
            return tuple(found)
        return [entry for entry in found if interest.matches(entry)]

    def apply(self, change: Change) -> None:
        """Take in one event of the store and hand it to the watchers that see it."""
        entry = change.new if change.new is not None else change.old
        assert entry is not None, "a change of nothing"
        assert change.revision >= self.revision, f"{change.revision} came after {self.revision}"
        key = (entry.namespace, entry.name)
        if change.new is not None:
            self.objects[key] = change.new
        else:
            self.objects.pop(key, None)
        self.revision = change.revision
        self._history.append(change)
        self._history_bytes += _size_bytes(change)
        while len(self._history) > HISTORY_MAX or self._history_bytes > HISTORY_BYTES_MAX:
            self.oldest = self._drop_oldest()
        for interest, deliver in list(self._watchers.values()):
            seen = seen_as(change, interest)
            if seen is not None:
                deliver(seen, change.revision)
        # The history keeps the change, not what was made of it.
        change.rendered.clear()
        if change.old is not None:
            change.old.forget_wire()

    def forget(self, revision: int) -> None:
        """Drop the history up to `revision`, which the store has compacted away too."""
        history = self._history
        while history and history[0].revision <= revision:
            self._drop_oldest()
        self.oldest = max(self.oldest, min(revision, self.revision))

    def _drop_oldest(self) -> int:
        """Forget the first change; its revision."""
        change = self._history.popleft()
        self._history_bytes -= _size_bytes(change)
        return change.revision

    def since(self, revision: int, interest: Interest) -> Sequence[tuple[Seen, int]]:
        """What happened after `revision`; the caller has checked that it is not before `oldest`."""
        assert revision >= self.oldest, f"{revision} is before {self.oldest}"
        found = []
        for change in reversed(self._history):  # most watches start near its end
            if change.revision <= revision:
                break
            seen = seen_as(change, interest)
            if seen is not None:
                found.append((seen, change.revision))
        return found[::-1]

    def subscribe(self, interest: Interest, deliver: Deliver) -> Callable[[], None]:
        """Call `deliver` with what happens from now on; returns the function that ends it."""
        self._number += 1
        number = self._number
        self._watchers[number] = (interest, deliver)
        return lambda: self._forget(number)

    def _forget(self, number: int) -> None:
        self._watchers.pop(number, None)

    @property
    def watcher_count(self) -> int:
        """How many watches are open."""
        return len(self._watchers)
