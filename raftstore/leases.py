"""Leases: the replicated table of them, and the leader's clock beside it. Sans I/O.

Only the leader keeps the clock, in memory. What is over is *proposed* for revocation; it ends when that is
applied (etcd#15247: a deposed leader that ended leases on its own). A new leader cannot know what was kept
alive lately: it gives every lease its whole time again, or what its last *checkpoint* left of it. So a lease
lasts longer than its time to live across a change of leader, and never shorter.
"""

import heapq
from collections.abc import Iterator
from typing import Final

from attrs import define, evolve, field, frozen

from understudy.mailbox import message
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


@define
class LeaseTable:
    states: SortedMap[int, LeaseState] = field(factory=SortedMap)
    attached: dict[int, dict[bytes, None]] = field(factory=dict)
    """The keys that live by a lease, in the order in which they came; none for a lease without keys."""

    def fork(self) -> "LeaseTable":
        """The same leases, without the keys that live by them: those say it themselves."""
        return LeaseTable(self.states.fork())

    def __contains__(self, lease: object) -> bool:
        return isinstance(lease, int) and lease in self.states

    def __len__(self) -> int:
        return len(self.states)

    def get(self, lease: int) -> LeaseState | None:
        return self.states.get(lease)

    def __iter__(self) -> Iterator[LeaseState]:
        for states in self.states.blocks():
            yield from states

    def ids(self) -> tuple[int, ...]:
        return tuple(state.id for state in self)

    def add(self, state: LeaseState) -> None:
        self.states.put(state.id, state)

    def remove(self, lease: int) -> list[bytes]:
        """End a lease; returns its keys, sorted."""
        self.states.pop(lease)
        return sorted(self.attached.pop(lease, ()))

    def keys(self, lease: int) -> tuple[bytes, ...]:
        return tuple(sorted(self.attached.get(lease, ())))

    def attach(self, lease: int, key: bytes) -> None:
        assert lease in self.states, (lease, key)
        self.attached.setdefault(lease, {})[key] = None

    def detach(self, lease: int, key: bytes) -> None:
        keys = self.attached.get(lease)
        if keys is not None:
            keys.pop(key, None)
            if not keys:
                del self.attached[lease]

    def checkpoint(self, lease: int, remaining_s: int) -> None:
        """Write down what is left of a lease; nothing if it is gone."""
        state = self.states.get(lease)
        if state is not None:
            self.states.put(lease, evolve(state, remaining_s=remaining_s))


@define
class LeaseClock:
    checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S
    deadlines_s: dict[int, float] = field(factory=dict)
    """By lease, when it is over."""
    _heap: list[tuple[float, int]] = field(factory=list)
    """(deadline, lease); entries that no longer agree with `deadlines_s` are void."""
    _checkpoints_s: dict[int, float] = field(factory=dict)
    """By lease, when its remaining time is to be written down next; only of those that last long enough."""
    _checkpoint_heap: list[tuple[float, int]] = field(factory=list)

    def start(self, lease: int, left_s: float, now_s: float) -> None:
        """Begin, or begin again, the time of a lease."""
        self.deadlines_s[lease] = now_s + left_s
        heapq.heappush(self._heap, (now_s + left_s, lease))
        self._schedule_checkpoint(lease, now_s)

    def _schedule_checkpoint(self, lease: int, now_s: float) -> None:
        due_s = now_s + self.checkpoint_interval_s
        if due_s < self.deadlines_s[lease]:
            self._checkpoints_s[lease] = due_s
            heapq.heappush(self._checkpoint_heap, (due_s, lease))
        else:
            self._checkpoints_s.pop(lease, None)

    def forget(self, lease: int) -> None:
        self.deadlines_s.pop(lease, None)
        self._checkpoints_s.pop(lease, None)

    def left_s(self, lease: int, now_s: float) -> float:
        return max(0.0, self.deadlines_s[lease] - now_s)

    def next_deadline_s(self) -> float | None:
        """When `take_over` or `take_checkpoints` has something to tell."""
        _drop_void(self._heap, self.deadlines_s)
        _drop_void(self._checkpoint_heap, self._checkpoints_s)
        heads = [heap[0][0] for heap in (self._heap, self._checkpoint_heap) if heap]
        return min(heads, default=None)

    def take_over(self, now_s: float, retry_s: float) -> list[int]:
        """The leases whose time is over, ascending. They come again after `retry_s` unless they are
        forgotten."""
        over: list[int] = []
        heap = self._heap
        _drop_void(heap, self.deadlines_s)
        while heap and heap[0][0] <= now_s:
            _, lease = heapq.heappop(heap)
            over.append(lease)
            self.deadlines_s[lease] = now_s + retry_s
            heapq.heappush(heap, (now_s + retry_s, lease))
            _drop_void(heap, self.deadlines_s)
        return sorted(over)

    def take_checkpoints(self, now_s: float) -> list[tuple[int, int]]:
        """(lease, seconds left, rounded up) of those whose remaining time is to be written down now."""
        due: list[tuple[int, int]] = []
        heap = self._checkpoint_heap
        _drop_void(heap, self._checkpoints_s)
        while heap and heap[0][0] <= now_s and len(due) < CHECKPOINTS_MAX:
            _, lease = heapq.heappop(heap)
            left_s = -int(-self.left_s(lease, now_s) // 1)
            if left_s > 0:
                due.append((lease, left_s))
            self._schedule_checkpoint(lease, now_s)
            _drop_void(heap, self._checkpoints_s)
        return sorted(due)


def _drop_void(heap: list[tuple[float, int]], deadlines_s: dict[int, float]) -> None:
    if len(heap) > 2 * len(deadlines_s) + 64:
        # A long lease that is kept alive often leaves an entry each time, far down in the heap.
        heap[:] = [(due_s, lease) for lease, due_s in deadlines_s.items()]
        heapq.heapify(heap)
    while heap and deadlines_s.get(heap[0][1]) != heap[0][0]:
        heapq.heappop(heap)
