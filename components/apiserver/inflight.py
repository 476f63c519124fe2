"""How many requests are worked on at once: the rest wait their turn, and beyond a bound they are sent away.

Reading and writing requests are counted apart, as `--max-requests-inflight` and
`--max-mutating-requests-inflight` of kube-apiserver are; watches and followed logs are not counted. Where the
real server's priority and fairness queues by flow, here is one first-come queue a kind.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attrs import define, field

from understudy.actors import Event, World
from understudy.components.machinery.errors import too_many_requests

QUEUE_MAX = 10_000
"""Requests of one kind that may wait; the next is answered 429."""


@define(eq=False)
class InFlight:
    """Places for requests of one kind."""

    world: World
    limit: int
    running: int = 0
    _waiting: deque[Event] = field(factory=deque)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place for the block, waiting for one if need be. Raises 429 when too many wait already."""
        if self.running < self.limit:
            self.running += 1
        else:
            await self._wait()
        try:
            yield
        finally:
            if self._waiting:
                # The place is handed over, so that nobody who comes later can take it in between.
                self._waiting.popleft().set()
            else:
                self.running -= 1

    async def _wait(self) -> None:
        if len(self._waiting) >= QUEUE_MAX:
            raise too_many_requests("too many requests, please try again later", 1)
        turn = self.world.event("a place for a request")
        self._waiting.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif self._waiting:
                self._waiting.popleft().set()
            else:
                self.running -= 1
            raise
