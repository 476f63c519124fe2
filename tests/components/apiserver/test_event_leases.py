"""Leases of events: shared by those written together, never shorter than the TTL."""

from understudy.actors import SimWorld
from understudy.components.apiserver.event_leases import EVENTS_PER_LEASE_MAX, REUSE_SECONDS_MAX, EventLeases

TTL_SECONDS = 3600


class Granter:
    """A store that counts its leases."""

    def __init__(self, world: SimWorld, delay_seconds: float = 0.0) -> None:
        self.world = world
        self.delay_seconds = delay_seconds
        self.granted: dict[int, float] = {}
        """By lease, when it ends."""

    async def grant(self, seconds: int) -> int:
        await self.world.sleep(self.delay_seconds)
        lease = len(self.granted) + 1
        self.granted[lease] = self.world.monotonic() + seconds
        return lease


def test_events_of_a_minute_share_a_lease_that_outlives_their_ttl() -> None:
    async def main(world: SimWorld) -> None:
        store = Granter(world)
        leases = EventLeases(world, TTL_SECONDS, store.grant)
        for _ in range(600):
            lease = await leases.current()
            left = store.granted[lease] - world.monotonic()
            assert TTL_SECONDS <= left <= TTL_SECONDS + REUSE_SECONDS_MAX
            await world.sleep(1.0)
        assert len(store.granted) <= 600 / REUSE_SECONDS_MAX + 1

    SimWorld(seed=1).run(main)


def test_a_crowd_of_writers_asks_for_one_lease() -> None:
    async def main(world: SimWorld) -> None:
        store = Granter(world, delay_seconds=0.5)
        leases = EventLeases(world, TTL_SECONDS, store.grant)
        found: list[int] = []

        async def write() -> None:
            found.append(await leases.current())

        async with world.nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(write)
        assert found == [1] * 50

    SimWorld(seed=1).run(main)


def test_a_lease_takes_so_many_events_and_no_more() -> None:
    async def main(world: SimWorld) -> None:
        store = Granter(world)
        leases = EventLeases(world, TTL_SECONDS, store.grant)
        used = [await leases.current() for _ in range(2 * EVENTS_PER_LEASE_MAX)]
        assert [used.count(lease) for lease in store.granted] == [EVENTS_PER_LEASE_MAX] * 2

    SimWorld(seed=1).run(main)


def test_a_lease_that_the_store_has_lost_is_replaced() -> None:
    async def main(world: SimWorld) -> None:
        leases = EventLeases(world, TTL_SECONDS, Granter(world).grant)
        first = await leases.current()
        leases.forget(first)
        assert await leases.current() != first

    SimWorld(seed=1).run(main)
