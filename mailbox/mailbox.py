"""A bounded mailbox: system messages, then urgent ones, then the rest; sync, atomic, O(1) at any depth.

The state machine only; an actor's wake-up, and the waiting of senders, are the runtime's business.
"""

from collections import deque
from collections.abc import Hashable
from typing import Any

from attrs import define, field, frozen

from .envelope import Envelope, Told, envelope_of
from .overflow import Conflate, MailboxFull, Overflow, OverflowPolicy

_NOTHING: deque[Any] = deque(maxlen=0)
"""The user messages of every mailbox that never had one: a deque of its own is 760 bytes."""

CAPACITY = 1024
"""User messages that a mailbox holds unless told otherwise."""


@frozen
class MailboxStatistics:
    """A mailbox at one moment."""

    depth: int
    """User messages waiting."""
    high_water: int
    """The most user messages that ever waited."""
    accepted: int
    """User messages taken in since the start."""
    displaced: int
    """User messages lost to the overflow policy."""


@define(eq=False)
class _Keyed:
    """The place in the queue of the newest message with its key."""

    key: Hashable
    entry: Envelope | Told


@define
class Mailbox:
    """User messages in order of arrival behind system messages in order of arrival.

    `capacity` bounds the user messages, urgent ones included. `urgent` names the classes of user messages
    that go before all others.
    """

    capacity: int = CAPACITY
    overflow: OverflowPolicy = Overflow.REJECT
    urgent: frozenset[type] = frozenset()
    room: int = field(init=False)
    """Whoever finds fewer entries than this in `user` may append a :data:`Told` to it instead of calling
    `put`. Never more than `high_water`, so that `put` sees every new one; 0 where `put` does more."""
    user: deque[Any] = field(default=_NOTHING, init=False)
    """User messages that are not urgent, as envelopes, :data:`Told`, or places of keyed messages.

    Another deque once the first has come: look again after a `put`."""
    plain: bool = field(init=False)
    """Whoever finds no `system` message may take the next user message out of `user` itself, counting it."""
    high_water: int = field(default=0, init=False)
    """The most user messages that ever waited."""
    taken: int = field(default=0, init=False)
    """User messages taken out since the start, in whatever way."""
    # Deques of a kind that most mailboxes never need: an empty one is 600 bytes.
    system: deque[Any] | None = field(default=None, init=False)
    """System messages; None before the first."""
    _urgent: deque[Envelope | Told] | None = field(default=None, init=False)
    _keyed: dict[Hashable, _Keyed] | None = field(default=None, init=False)
    _watched: bool = field(default=False, init=False)
    closed: bool = field(default=False, init=False)
    """Takes no user message any more."""
    _displaced: int = field(default=0, init=False)
    _replaced: int = field(default=0, init=False)
    """Of the displaced: how many had been accepted before."""

    def __attrs_post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError(f"a mailbox holds at least one message, not {self.capacity}")
        self.plain = not self.urgent and not isinstance(self.overflow, Conflate)
        self.room = 0

    def watch(self, watched: bool) -> None:
        """Whether every message is looked at on its way in, so that nobody may append to `user` by itself."""
        self._watched = watched
        self._set_room()

    def _set_room(self) -> None:
        shut = self.closed or self._watched or self.user is _NOTHING
        self.room = min(self.capacity, self.high_water) if self.plain and not shut else 0

    def _open(self) -> None:
        """Make room for the first message."""
        if self.user is _NOTHING:
            self.user = deque()
            self._set_room()

    @property
    def depth(self) -> int:
        """User messages waiting."""
        return len(self.user) + (len(self._urgent) if self._urgent else 0)

    def put(self, entry: Envelope | Told) -> Envelope | None:
        """Take a user message in; returns the one that was displaced for it, if any. Closed, it takes none.

        Raises:
            MailboxFull: the mailbox is full and its policy is to reject.
        """
        if self.closed:
            return envelope_of(entry)
        policy = self.overflow
        urgent = bool(self.urgent) and type(_message(entry)) in self.urgent
        key = None
        if isinstance(policy, Conflate) and not urgent:
            key = policy.key(_message(entry))
            if self._keyed is None:
                self._keyed = {}
            place = self._keyed.get(key) if key is not None else None
            if place is not None:
                older, place.entry = place.entry, entry
                self._displaced += 1
                self._replaced += 1
                return envelope_of(older)
        displaced = None
        depth = self.depth
        if depth >= self.capacity:
            if policy is Overflow.DROP_NEWEST:
                self._displaced += 1
                return envelope_of(entry)
            if policy is not Overflow.DROP_OLDEST:
                raise MailboxFull(self.capacity)
            self._displaced += 1
            if not self.user and not urgent:
                # All that wait are urgent: the newcomer is not the one to push them out.
                return envelope_of(entry)
            self._replaced += 1
            oldest = self.user.popleft() if self.user else self._urgent.popleft()  # type: ignore[union-attr]
            displaced = envelope_of(oldest)
        if urgent:
            if self._urgent is None:
                self._urgent = deque()
            self._urgent.append(entry)
        elif key is not None:
            assert self._keyed is not None, key
            self._open()
            place = self._keyed[key] = _Keyed(key, entry)
            self.user.append(place)
        else:
            self._open()
            self.user.append(entry)
        if displaced is None:
            self._note_depth(depth + 1)
        return displaced

    def put_system(self, message: Any) -> None:
        """Take a system message in: always accepted, since each has a bounded number of senders."""
        if self.system is None:
            self.system = deque()
        self.system.append(message)

    def next(self) -> Any | None:
        """What is to be done next: a system message, else an envelope or :data:`Told`, else None."""
        if self.system:
            return self.system.popleft()
        return self.get()

    def get_system(self) -> Any | None:
        """The next system message, or None."""
        return self.system.popleft() if self.system else None

    def get(self) -> Envelope | Told | None:
        """The next user message, or None."""
        if self._urgent:
            self.taken += 1
            return self._urgent.popleft()
        if not self.user:
            return None
        self.taken += 1
        entry: Any = self.user.popleft()
        if type(entry) is _Keyed:
            assert self._keyed is not None, entry.key
            del self._keyed[entry.key]
            return entry.entry
        return entry  # type: ignore[no-any-return]

    def queued(self) -> list[Envelope]:
        """The user messages that wait, in the order in which they will be taken out; for inspection."""
        entries = [*(self._urgent or ()), *self.user]
        return [envelope_of(e.entry if type(e) is _Keyed else e) for e in entries]

    def put_back(self, entries: list[Envelope | Told]) -> None:
        """Messages that were taken out and not handled go before all that wait, full or not."""
        self._open()
        self.user.extendleft(reversed(entries))
        self.taken -= len(entries)
        self._note_depth(self.depth)

    def close(self) -> None:
        """From now on take in no user message; what waits goes on waiting."""
        self.closed = True
        self._set_room()

    def drain(self) -> list[Envelope]:
        """Everything that still waits, taken out: the dead letters of an actor that has ended."""
        rest = []
        while (entry := self.get()) is not None:
            rest.append(envelope_of(entry))
        return rest

    def count_handled(self) -> None:
        """Count a message that was handled at once, without waiting here."""
        self.taken += 1
        self._note_depth(1)

    def _note_depth(self, depth: int) -> None:
        if depth > self.high_water:
            self.high_water = depth
            self._set_room()

    def __bool__(self) -> bool:
        return bool(self.system or self.user or self._urgent)

    def __len__(self) -> int:
        return (len(self.system) if self.system else 0) + self.depth

    def statistics(self) -> MailboxStatistics:
        """The counts of this moment."""
        depth = self.depth
        accepted = self.taken + depth + self._replaced
        return MailboxStatistics(depth, self.high_water, accepted, self._displaced)


def _message(entry: Envelope | Told) -> Any:
    return entry[0] if type(entry) is tuple else entry.message  # type: ignore[union-attr]
