"""When leases end: the leader's clock beside the replicated lease table. Sans I/O.

Only the leader keeps it, in memory. A new leader gives every lease its whole time again, because it cannot
know what was kept alive: a lease lasts longer than its time to live across a change of leader and never
shorter. What is over is *proposed* for revocation; it ends when that is applied (etcd#15247: a deposed leader
that ended leases on its own).
"""

import heapq

from attrs import define, field


@define
class LeaseClock:
    deadlines_s: dict[int, float] = field(factory=dict)
    """By lease, when it is over."""
    _heap: list[tuple[float, int]] = field(factory=list)
    """(deadline, lease); entries that no longer agree with `deadlines_s` are void."""

    def start(self, lease: int, ttl_s: int, now_s: float) -> None:
        """Begin, or begin again, the time of a lease."""
        self.deadlines_s[lease] = now_s + ttl_s
        heapq.heappush(self._heap, (now_s + ttl_s, lease))

    def forget(self, lease: int) -> None:
        self.deadlines_s.pop(lease, None)

    def left_s(self, lease: int, now_s: float) -> float:
        return max(0.0, self.deadlines_s[lease] - now_s)

    def next_deadline_s(self) -> float | None:
        self._drop_void()
        return self._heap[0][0] if self._heap else None

    def take_over(self, now_s: float, retry_s: float) -> list[int]:
        """The leases whose time is over, ascending. They come again after `retry_s` unless they are
        forgotten."""
        over: list[int] = []
        self._drop_void()
        while self._heap and self._heap[0][0] <= now_s:
            _, lease = heapq.heappop(self._heap)
            over.append(lease)
            self.deadlines_s[lease] = now_s + retry_s
            heapq.heappush(self._heap, (now_s + retry_s, lease))
            self._drop_void()
        return sorted(over)

    def _drop_void(self) -> None:
        while self._heap and self.deadlines_s.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
