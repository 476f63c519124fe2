"""Leases: the replicated table of them, and the leader's clock beside it. Sans I/O.

Only the leader keeps the clock, in memory. What is over is *proposed* for revocation; it ends when that is
applied (etcd#15247: a deposed leader that ended leases on its own). A new leader cannot know what was kept
alive lately: it gives every lease its whole time again, or what its last *checkpoint* left of it. So a lease
lasts longer than its time to live across a change of leader, and never shorter.
"""

from collections.abc import Iterator
from math import ceil
from typing import Final

from attrs import define, evolve, field, frozen

from understudy.mailbox import message
from understudy.raftstore.deadlines import Deadlines
from understudy.raftstore.sortedmap import SortedMap

CHECKPOINT_INTERVAL_S: Final = 300
"""The remaining time of a lease is written down so often, if it is granted more than that (as etcd does)."""
CHECKPOINTS_MAX: Final = 1000
"""Leases of one checkpoint."""


@message("etcd.lease-state")
@frozen
class LeaseState:
    """A lease as it is replicated."""

    id: int
    ttl_s: int
    """As granted."""
    remaining_s: int = 0
    """What was left at the last checkpoint; 0 where there was none since the last keep-alive."""


def _attached() -> SortedMap[int, dict[bytes, None]]:
    return SortedMap(dict.copy)


@define
class LeaseTable:
    states: SortedMap[int, LeaseState] = field(factory=SortedMap)
    attached: SortedMap[int, dict[bytes, None]] = field(factory=_attached)
    """The keys that live by a lease, in the order in which they came; none for a lease without keys."""

    def fork(self) -> "LeaseTable":
        """The same leases and keys; see `SortedMap.fork`."""
        return LeaseTable(self.states.fork(), self.attached.fork())

    def __contains__(self, lease: object) -> bool:
        return isinstance(lease, int) and lease in self.states

    def __len__(self) -> int:
        return len(self.states)

    def get(self, lease: int) -> LeaseState | None:
        return self.states.get(lease)

    def __iter__(self) -> Iterator[LeaseState]:
        for block in self.states.blocks():
            yield from block.slice(0, len(block.keys))

    def ids(self) -> tuple[int, ...]:
        return tuple(state.id for state in self)

    def add(self, state: LeaseState) -> None:
        self.states.put(state.id, state)

    def remove(self, lease: int) -> list[bytes]:
        """End a lease; returns its keys, sorted."""
        self.states.pop(lease)
        return sorted(self.attached.pop(lease) or ())

    def keys(self, lease: int) -> tuple[bytes, ...]:
        return tuple(sorted(self.attached.get(lease) or ()))

    def attach(self, lease: int, key: bytes) -> None:
        assert lease in self.states, (lease, key)
        keys = self.attached.writable(lease)
        if keys is None:
            self.attached.put(lease, {key: None})
        else:
            keys[key] = None

    def detach(self, lease: int, key: bytes) -> None:
        keys = self.attached.writable(lease)
        if keys is not None:
            keys.pop(key, None)
            if not keys:
                self.attached.pop(lease)

    def checkpoint(self, lease: int, remaining_s: int) -> None:
        """Write down what is left of a lease; nothing if it is gone."""
        state = self.states.get(lease)
        if state is not None:
            self.states.put(lease, evolve(state, remaining_s=remaining_s))


@define
class LeaseClock:
    checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S
    _ends: Deadlines[int] = field(factory=Deadlines)
    _checkpoints: Deadlines[int] = field(factory=Deadlines)
    """When the remaining time of a lease is to be written down next; only of those that last long enough."""

    def start(self, lease: int, left_s: float, now_s: float) -> None:
        """Begin, or begin again, the time of a lease."""
        self._ends.set(lease, now_s + left_s)
        self._schedule_checkpoint(lease, now_s)

    def _schedule_checkpoint(self, lease: int, now_s: float) -> None:
        end_s = self._ends.get(lease)
        if end_s is not None and now_s + self.checkpoint_interval_s < end_s:
            self._checkpoints.set(lease, now_s + self.checkpoint_interval_s)
        else:
            self._checkpoints.forget(lease)

    def forget(self, lease: int) -> None:
        self._ends.forget(lease)
        self._checkpoints.forget(lease)

    def left_s(self, lease: int, now_s: float) -> float | None:
        """None for a lease that this clock has not been told of."""
        end_s = self._ends.get(lease)
        return None if end_s is None else max(0.0, end_s - now_s)

    def next_deadline_s(self) -> float | None:
        """When `take_over` or `take_checkpoints` has something to tell."""
        times = [self._ends.next_s(), self._checkpoints.next_s()]
        return min([time for time in times if time is not None], default=None)

    def take_over(self, now_s: float, retry_s: float) -> list[int]:
        """The leases whose time is over, ascending. They come again after `retry_s` unless they are
        forgotten."""
        over = sorted(self._ends.take(now_s))
        for lease in over:
            self._ends.set(lease, now_s + retry_s)
        return over

    def take_checkpoints(self, now_s: float) -> list[tuple[int, int]]:
        """(lease, seconds left, rounded up) of those whose remaining time is to be written down now."""
        due: list[tuple[int, int]] = []
        for lease in sorted(self._checkpoints.take(now_s, CHECKPOINTS_MAX)):
            due.append((lease, ceil(self.left_s(lease, now_s) or 0.0)))
            self._schedule_checkpoint(lease, now_s)
        return due
