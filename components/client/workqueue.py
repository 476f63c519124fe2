"""A work queue: a mailbox of keys that conflates, delays and limits rates; client-go's semantics.

A key waits in the queue once, however often it is added; a key that is being worked on and is added again
waits until `done`. Rates: per key 5 ms doubling up to 1,000 s, and overall 10 a second with a burst of 100;
the longer of both counts. Its size is bounded by the number of keys.
"""

from collections import deque
from typing import Generic, TypeVar

from attrs import define, field

from understudy.actors import Signal, World

K = TypeVar("K")

BASE_DELAY_SECONDS = 0.005
MAX_DELAY_SECONDS = 1000.0
BUCKET_RATE_PER_SECOND = 10.0
BUCKET_BURST = 100.0


class QueueClosed(Exception):
    """The queue was closed while a worker waited for a key."""


@define(eq=False)
class WorkQueue(Generic[K]):
    """Keys to work on. Any number of workers may `get`; each calls `done` with what it got."""

    world: World
    name: str
    _queue: deque[K] = field(factory=deque)
    _dirty: dict[K, None] = field(factory=dict)
    _processing: dict[K, None] = field(factory=dict)
    _failures: dict[K, int] = field(factory=dict)
    _waiting: dict[K, float] = field(factory=dict)
    _getters: deque[Signal] = field(factory=deque)
    _tokens: float = BUCKET_BURST
    _tokens_at: float = field(init=False)
    _closed: bool = False

    def __attrs_post_init__(self) -> None:
        self._tokens_at = self.world.monotonic()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, key: K) -> None:
        """Work on `key` as soon as may be."""
        if self._closed or key in self._dirty:
            return
        self._dirty[key] = None
        if key not in self._processing:
            self._queue.append(key)
            self._wake_one()

    def add_after(self, key: K, seconds: float) -> None:
        """Work on `key` after a while; an earlier time for the same key stands."""
        if seconds <= 0:
            self.add(key)
            return
        due = self.world.monotonic() + seconds
        known = self._waiting.get(key)
        if self._closed or (known is not None and known <= due):
            return
        self._waiting[key] = due
        self.world.call_later(seconds, lambda: self._due(key, due), f"queue {self.name}")

    def _due(self, key: K, due: float) -> None:
        if self._waiting.get(key) == due:
            del self._waiting[key]
            self.add(key)

    def add_rate_limited(self, key: K) -> None:
        """Work on `key` again after a failure, later with every failure in a row."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(MAX_DELAY_SECONDS, BASE_DELAY_SECONDS * 2.0 ** min(failures, 60))
        self.add_after(key, max(delay, self._take_token()))

    def _take_token(self) -> float:
        now = self.world.monotonic()
        self._tokens = min(BUCKET_BURST, self._tokens + (now - self._tokens_at) * BUCKET_RATE_PER_SECOND)
        self._tokens_at = now
        self._tokens -= 1.0
        return max(0.0, -self._tokens / BUCKET_RATE_PER_SECOND)

    def forget(self, key: K) -> None:
        """`key` succeeded: its next failure counts as its first."""
        self._failures.pop(key, None)

    def num_requeues(self, key: K) -> int:
        """Failures in a row."""
        return self._failures.get(key, 0)

    async def get(self) -> K:
        """The next key; the caller owns it until `done`.

        Raises:
            QueueClosed: nobody will add anything any more.
        """
        while not self._queue:
            if self._closed:
                raise QueueClosed(self.name)
            signal = self.world.signal(f"queue {self.name}")
            self._getters.append(signal)
            try:
                await signal.wait()
            finally:
                if signal in self._getters:
                    self._getters.remove(signal)
        key = self._queue.popleft()
        self._processing[key] = None
        del self._dirty[key]
        if self._queue:
            self._wake_one()
        return key

    def done(self, key: K) -> None:
        """Work on `key` has ended; if it was added meanwhile it waits again."""
        self._processing.pop(key, None)
        if key in self._dirty:
            self._queue.append(key)
            self._wake_one()

    def close(self) -> None:
        """Take nothing more in, and send the workers away."""
        self._closed = True
        while self._getters:
            self._getters.popleft().set()

    def _wake_one(self) -> None:
        if self._getters:
            self._getters.popleft().set()
