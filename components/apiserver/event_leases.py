"""Events are kept for `--event-ttl` only: each is written under a lease of the store, and goes with it.

Events that are written soon after one another share a lease, so that a busy cluster does not have one lease
an event: a lease lasts a little longer than the TTL, and serves as long as the TTL still fits into it. So an
event lives at least as long as it should, and at most `REUSE_SECONDS_MAX` longer.
"""

from collections.abc import Awaitable, Callable

from attrs import define, field

from understudy.actors import Event, World

REUSE_SECONDS_MAX = 60.0
REUSE_SHARE = 0.05
"""How much longer than the TTL a lease lasts: this share of the TTL, but no more than the maximum."""

EVENTS_PER_LEASE_MAX = 1000
"""The store revokes a lease with all its keys in one revision; this bounds that revision."""

Grant = Callable[[int], Awaitable[int]]
"""(seconds) -> the id of a new lease of the store that lasts so long."""


@define(eq=False)
class EventLeases:
    """The lease that the next event is written under."""

    world: World
    ttl_seconds: int
    grant: Grant
    _lease: int = 0
    _ends: float = 0.0
    """When the store may end the lease, at the earliest; on the monotonic clock."""
    _uses: int = 0
    _granting: Event | None = field(default=None)

    async def current(self) -> int:
        """The id of a lease that lasts at least the TTL from now on. Raises what `grant` raises."""
        while True:
            now = self.world.monotonic()
            if self._lease and now + self.ttl_seconds <= self._ends and self._uses < EVENTS_PER_LEASE_MAX:
                self._uses += 1
                return self._lease
            if self._granting is None:
                await self._renew(now)
            else:
                await self._granting.wait()

    def forget(self, lease: int) -> None:
        """The store does not know that lease any more."""
        if lease == self._lease:
            self._lease = 0

    async def _renew(self, now: float) -> None:
        done = self._granting = self.world.event("event lease")
        # The lease's time begins after this moment, so that it never ends before `_ends`.
        lasting = self.ttl_seconds + max(1, round(min(REUSE_SECONDS_MAX, REUSE_SHARE * self.ttl_seconds)))
        try:
            self._lease = await self.grant(lasting)
            self._ends, self._uses = now + lasting, 0
        finally:
            self._granting = None
            done.set()
