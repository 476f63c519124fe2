"""When which of many things is over. Sans I/O."""

import heapq
from typing import Any, Generic, TypeVar

from attrs import define, field

K = TypeVar("K")


@define
class Deadlines(Generic[K]):
    _due_s: dict[K, float] = field(factory=dict)
    _heap: list[tuple[float, Any]] = field(factory=list)
    """(due, key); entries that no longer agree with `_due_s` are void."""

    def __len__(self) -> int:
        return len(self._due_s)

    def __contains__(self, key: object) -> bool:
        return key in self._due_s

    def set(self, key: K, due_s: float) -> None:
        self._due_s[key] = due_s
        heapq.heappush(self._heap, (due_s, key))

    def forget(self, key: K) -> None:
        self._due_s.pop(key, None)

    def get(self, key: K) -> float | None:
        return self._due_s.get(key)

    def next_s(self) -> float | None:
        self._drop_void()
        return self._heap[0][0] if self._heap else None

    def take(self, now_s: float, most: int | None = None) -> list[K]:
        """Remove what is due, in order; `most` of it."""
        taken: list[K] = []
        while len(taken) != most and (due_s := self.next_s()) is not None and due_s <= now_s:
            _, key = heapq.heappop(self._heap)
            del self._due_s[key]
            taken.append(key)
        return taken

    def _drop_void(self) -> None:
        heap, due_s = self._heap, self._due_s
        if len(heap) > 2 * len(due_s) + 64:
            # What is put off often leaves an entry each time, far down in the heap.
            heap[:] = [(due, key) for key, due in due_s.items()]
            heapq.heapify(heap)
        while heap and due_s.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
