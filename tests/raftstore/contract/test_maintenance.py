"""What operators ask behind the Storage contract: status, hashes, alarms, members, snapshots."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from tests.raftstore.contract.stores import Bench, Play, saved
from understudy.actors import Actor, ActorSystem, SimWorld, World
from understudy.raftstore import mvcc
from understudy.raftstore.group import raft_group
from understudy.raftstore.memory import memory_store
from understudy.raftstore.options import GroupOptions, MemberOptions, StoreOptions
from understudy.raftstore.storage import (
    Alarm,
    AlarmMember,
    Compact,
    Corrupt,
    DeleteRange,
    Hash,
    HashKV,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseRevoke,
    NoSpace,
    OpenSnapshot,
    Put,
    Range,
    Status,
    Storage,
    Txn,
    UserAdd,
)
from understudy.raftstore.storage.cluster import (
    MemberList,
    MemberRemove,
    MembershipError,
    MoveLeader,
)


def test_status_and_hash(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        await b.store.ask(Put(b"k", b"v"))
        status = await b.store.ask(Status())
        assert status.leader
        one = await b.store.ask(HashKV())
        await b.store.ask(Put(b"k", b"w"))
        assert (await b.store.ask(HashKV(revision=2))).hash == one.hash
        assert (await b.store.ask(HashKV())).hash != one.hash

    play(scenario)


def test_its_version_is_one_that_an_api_server_trusts(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        version = (await b.store.ask(Status())).version
        assert tuple(map(int, version.split("."))) >= (3, 5, 13)

    play(scenario)


def test_alarms_are_raised_and_taken_back(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        await b.store.ask(Put(b"k", b""))
        no_space = AlarmMember(7, "nospace")
        assert (await b.store.ask(Alarm())).alarms == ()
        assert (await b.store.ask(Alarm("activate", 7, "nospace"))).alarms == (no_space,)
        assert (await b.store.ask(Alarm("activate", 7, "nospace"))).alarms == (no_space,)
        assert (await b.store.ask(Alarm("get", alarm="corrupt"))).alarms == ()
        assert (await b.store.ask(Alarm())).alarms == (no_space,)
        full: tuple[Any, ...] = (Put(b"k", b""), Txn((), (), (Put(b"k", b""),)), LeaseGrant(60))
        for refused in full:
            with pytest.raises(NoSpace):
                await b.store.ask(refused)
        assert (await b.store.ask(Txn((), (Range(b"k"),)))).succeeded
        assert (await b.store.ask(DeleteRange(b"k"))).deleted == 1
        assert any("NOSPACE" in error for error in (await b.store.ask(Status())).errors)
        assert (await b.store.ask(Alarm("deactivate", 7, "nospace"))).alarms == (no_space,)
        assert (await b.store.ask(Alarm("deactivate", 7, "nospace"))).alarms == ()
        await b.store.ask(Put(b"k", b""))
        await b.store.ask(LeaseGrant(60, id=5))
        await b.store.ask(Alarm("activate", 1, "corrupt"))
        changes: tuple[Any, ...] = (
            *(Put(b"k", b""), DeleteRange(b"k"), Compact(2), LeaseGrant(60), LeaseRevoke(5)),
            *(Txn((), (DeleteRange(b"k"),)), Txn((), (), (Put(b"k", b""),)), Txn((), (Txn(),))),
        )
        for refused in changes:
            with pytest.raises(Corrupt):
                await b.store.ask(refused)
        assert (await b.store.ask(Range(b"k"))).count == 1
        assert (await b.store.ask(Txn((), (Range(b"k"),)))).succeeded
        assert (await b.store.ask(LeaseKeepAlive(5))).ttl_s == 60
        await b.store.ask(UserAdd("ada", "pw"))

    play(scenario)


SMALL = StoreOptions(quota_bytes=5_000, bcrypt_cost=4)


@pytest.mark.parametrize(
    "factory",
    [
        lambda: memory_store(options=SMALL),
        lambda: raft_group(GroupOptions(member=MemberOptions(store=SMALL))),
    ],
    ids=["memory", "raft"],
)
def test_a_store_that_is_full_takes_writes_again_when_room_was_made(
    factory: Callable[[], Callable[[], Actor[Storage]]],
) -> None:
    async def main(world: World) -> None:
        async with ActorSystem.open(world) as system:
            ask = system.spawn(factory(), "etcd").ask
            written = 0
            with pytest.raises(NoSpace):
                for _ in range(100):
                    written = (await ask(Put(b"k", b"x" * 500))).revision
            assert 5 < written < 15
            assert [alarm.alarm for alarm in (await ask(Alarm())).alarms] == ["nospace"]
            await ask(Compact(written))
            status = await ask(Status())
            assert status.size_bytes < 1_000 and status.quota_bytes == 5_000
            with pytest.raises(NoSpace):
                await ask(Put(b"k", b""))
            await ask(Alarm("deactivate", status.member, "nospace"))
            assert (await ask(Put(b"k", b""))).revision == written + 1

    SimWorld(1, turns_max=200_000).run(main)


def test_a_short_lease_lasts_two_seconds_and_a_physical_compaction_is_one(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that both take several steps.
    monkeypatch.setattr(mvcc, "PRUNED_AT_ONCE", 1)
    monkeypatch.setattr(mvcc, "HASHED_AT_ONCE", 1)

    async def scenario(b: Bench) -> None:
        assert (await b.store.ask(LeaseGrant(1))).ttl_s == 2
        for _ in range(3):
            await b.store.ask(Put(b"k", b"1234567"))
        before = (await b.store.ask(Status())).size_bytes
        hashed = await b.store.ask(Hash())
        await b.store.ask(Compact(4, physical=True))
        assert (await b.store.ask(Status())).size_bytes == before // 3
        assert (await b.store.ask(Hash())).hash != hashed.hash
        assert (await b.store.ask(HashKV())).compact_revision == 4

    play(scenario)


def test_a_store_says_who_keeps_it_and_who_leads(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        await b.store.ask(Put(b"k", b""))
        status = await b.store.ask(Status())
        for linearizable in (True, False):
            members = (await b.store.ask(MemberList(linearizable))).members
            assert status.member in {member.id for member in members}
            assert status.leader in {member.id for member in members}
        assert (await b.store.ask(MoveLeader(status.leader))).leader == status.leader
        with pytest.raises(MembershipError, match="bad leader transferee"):
            await b.store.ask(MoveLeader(9))
        with pytest.raises(MembershipError, match="member not found"):
            await b.store.ask(MemberRemove(9))

    play(scenario)


def test_a_snapshot_is_a_whole_file_with_a_checksum(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        for number in range(40):
            await b.store.ask(Put(b"key %d" % number, b"x" * 10_000))
        # One reader that goes early costs the other nothing.
        writer, gone = b.system.own_channel("test snapshot", 1)
        await b.store.ask(OpenSnapshot(writer))
        await gone.receive()
        gone.cancel()
        data = await saved(b)
        assert len(data) % 512 == 32 and len(data) > 400_000
        assert sha256(data[:-32]).digest() == data[-32:]

    play(scenario)
