"""Leases behind the Storage contract."""

from typing import Any

import pytest

from tests.raftstore.contract.stores import STORES, Bench, Play, bench
from understudy.actors import ActorSystem, SimWorld, World
from understudy.raftstore.group import raft_group
from understudy.raftstore.memory import memory_store
from understudy.raftstore.options import GroupOptions, MemberOptions, StoreOptions
from understudy.raftstore.storage import (
    ALL_KEYS_END,
    KeyNotFound,
    LeaseExists,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseList,
    LeaseNotFound,
    LeaseRevoke,
    LeaseTimeToLive,
    Put,
    Range,
)


def test_leases_take_their_keys_with_them(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        lease = (await b.store.ask(LeaseGrant(ttl_s=60))).id
        assert (await b.store.ask(LeaseGrant(ttl_s=60, id=500))).id == 500
        with pytest.raises(LeaseExists):
            await b.store.ask(LeaseGrant(ttl_s=60, id=500))
        await b.store.ask(Put(b"a", b"", lease=lease))
        await b.store.ask(Put(b"b", b"", lease=lease))
        await b.store.ask(Put(b"c", b"", lease=lease))
        await b.store.ask(Put(b"c", b""))
        await b.store.ask(Put(b"b", b"x", ignore_lease=True))
        left = await b.store.ask(LeaseTimeToLive(lease, keys=True))
        assert sorted(left.keys) == [b"a", b"b"] and 55 < left.ttl_s <= 60
        assert (await b.store.ask(LeaseList())).ids == tuple(sorted((lease, 500)))
        before = (await b.store.ask(Range(b"a"))).revision
        assert (await b.store.ask(LeaseRevoke(lease))).revision == before + 1
        assert [kv.key for kv in (await b.store.ask(Range(b"\0", ALL_KEYS_END))).kvs] == [b"c"]
        late: tuple[Any, ...] = (LeaseRevoke(lease), LeaseKeepAlive(lease), LeaseTimeToLive(lease))
        for request in late:
            with pytest.raises(LeaseNotFound):
                await b.store.ask(request)
        with pytest.raises(KeyNotFound):
            await b.store.ask(Put(b"none", b"", ignore_lease=True))

    play(scenario)


@pytest.mark.parametrize("store", sorted(STORES))
def test_leases_end_when_nobody_keeps_them_alive(store: str) -> None:
    async def main(world: World) -> None:
        async with bench(world, store) as b:
            lease = (await b.store.ask(LeaseGrant(ttl_s=5))).id
            await b.store.ask(Put(b"k", b"", lease=lease))
            for _ in range(4):
                await world.sleep(4.0)
                await b.store.ask(LeaseKeepAlive(lease))
            assert (await b.store.ask(Range(b"k"))).count == 1
            await world.sleep(4.5)
            assert (await b.store.ask(Range(b"k"))).count == 1
            await world.sleep(1.0)
            gone = await b.store.ask(Range(b"k"))
            assert (gone.count, gone.revision) == (0, 3)

    SimWorld(1, turns_max=200_000).run(main)


@pytest.mark.parametrize("kind", ["memory", "raft"])
def test_many_leases_end_together_and_their_checkpoints_come_in_parts(kind: str) -> None:
    options = StoreOptions(checkpoint_interval_s=5.0)

    async def main(world: World) -> None:
        group = GroupOptions(member=MemberOptions(store=options))
        factory = memory_store(options=options) if kind == "memory" else raft_group(group)
        async with ActorSystem.open(world) as system:
            store = system.spawn(factory, "etcd")
            for _ in range(3):
                async with world.nursery() as nursery:
                    for _ in range(500):
                        nursery.start_soon(store.ask, LeaseGrant(ttl_s=20))
            await world.sleep(19.0)
            assert len((await store.ask(LeaseList())).ids) == 1500
            await world.sleep(2.0)
            assert (await store.ask(LeaseList())).ids == ()

    SimWorld(1, turns_max=400_000).run(main)
