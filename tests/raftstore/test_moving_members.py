"""Members that come and go while the group serves."""

from contextlib import suppress

import pytest

from tests.raftstore.nodes import Bench, simulate, url
from understudy.raftstore.membership import (
    Submission,
    Submit,
)
from understudy.raftstore.options import GroupOptions, MemberOptions
from understudy.raftstore.ready import PersistentState
from understudy.raftstore.storage import (
    Put,
    Unavailable,
)
from understudy.raftstore.storage.cluster import (
    ClusterMember,
    MemberAdd,
    MemberList,
    MemberPromote,
    MemberRemove,
    MembershipError,
    MemberUpdate,
)


@pytest.mark.parametrize("seed", range(1, 4))
def test_a_group_moves_to_other_hosts_one_by_one_while_it_is_written_to(seed: int) -> None:
    """A newcomer begins with nothing, catches up as a learner by snapshot, and takes an old one's place."""
    options = GroupOptions(member=MemberOptions(snapshot_entries=20, keep_entries=5))

    async def scenario(b: Bench) -> None:
        done = False

        async def writing() -> None:
            number = 0
            while not done:
                await b.write(max(b.stores), number)
                number += 1
                await b.world.sleep(0.02)

        async with b.world.nursery() as nursery:
            nursery.start_soon(writing)
            await b.world.sleep(1.0)
            for old, new in ((1, 4), (2, 5), (3, 6)):
                store = b.stores[3] if 3 in b.stores else b.stores[5]
                added = await store.ask(MemberAdd((url(new),), is_learner=True))
                assert added.member == ClusterMember(new, "", (url(new),), (), True)
                with pytest.raises(MembershipError, match=r"in sync|not enough started"):
                    await store.ask(MemberPromote(new))
                b.start(new, PersistentState.joining())
                with b.world.deadline(10.0):
                    while True:
                        await b.world.sleep(0.2)
                        with suppress(MembershipError):
                            await store.ask(MemberPromote(new))
                            break
                await b.world.sleep(1.0)
                store = b.stores[new]
                left = await store.ask(MemberRemove(old))
                assert [member.id for member in left.members] == sorted(
                    {1, 2, 3, 4, 5, 6} - set(range(1, old + 1)) - set(range(new + 1, 7))
                )
                await b.world.sleep(1.5)
                assert b.ended(old)
                del b.stores[old]
            done = True
        listed = await b.stores[4].ask(MemberList())
        assert [(member.id, member.name, member.is_learner) for member in listed.members] == [
            (4, "node-4", False),
            (5, "node-5", False),
            (6, "node-6", False),
        ]
        assert b.member(4).raft.configuration.voters == (4, 5, 6)

    simulate(scenario, seed=seed, options=options)


def test_a_member_that_was_removed_while_it_was_away_stops_when_it_is_back() -> None:
    async def scenario(b: Bench) -> None:
        await b.write(1, 1)
        gone = await b.follower()
        b.world.host(f"etcd-{gone}").crash()
        await b.world.sleep(6.0)
        stays = b.stores[await b.leader()]
        await stays.ask(MemberRemove(gone))
        b.world.host(f"etcd-{gone}").restart()
        await b.world.sleep(5.0)
        assert b.ended(gone)
        with pytest.raises(Unavailable):
            await b.stores[gone].ask(Put(b"x", b""), 6.0)
        del b.stores[gone]
        await b.write(await b.leader(), 2)

    simulate(scenario)


def test_what_could_cost_the_majority_is_refused() -> None:
    async def scenario(b: Bench) -> None:
        await b.write(1, 1)
        leader = await b.leader()
        store = b.stores[leader]
        down, other = [member for member in b.stores if member != leader]
        b.world.host(f"etcd-{down}").crash()
        await b.world.sleep(6.0)
        with pytest.raises(MembershipError, match="unhealthy cluster"):
            await store.ask(MemberRemove(other))
        with pytest.raises(MembershipError, match="unhealthy cluster"):
            await store.ask(MemberAdd((url(4),)))
        await store.ask(MemberAdd((url(4),), is_learner=True))
        with pytest.raises(MembershipError, match="too many learner"):
            await store.ask(MemberAdd((url(5),), is_learner=True))
        with pytest.raises(MembershipError, match="in sync"):
            await store.ask(MemberPromote(4))
        with pytest.raises(MembershipError, match="Peer URLs already exists"):
            await store.ask(MemberUpdate(4, (url(1),)))
        with pytest.raises(MembershipError, match="member not found"):
            await store.ask(MemberRemove(9))
        with pytest.raises(MembershipError, match="can only promote a learner"):
            await store.ask(MemberPromote(other))
        await store.ask(MemberRemove(4))
        with pytest.raises(MembershipError, match="member not found: 4 was removed"):
            await store.ask(MemberUpdate(4, (url(4),)))
        await store.ask(MemberRemove(down))
        assert [member.id for member in (await store.ask(MemberList())).members] == sorted((leader, other))
        b.world.host(f"etcd-{down}").restart()
        await b.world.sleep(2.0)

    simulate(scenario)


def test_voters_are_not_added_faster_than_they_start() -> None:
    async def scenario(b: Bench) -> None:
        store = b.stores[1]
        await store.ask(MemberAdd((url(2),)))
        with pytest.raises(MembershipError, match="not enough started members"):
            await store.ask(MemberAdd((url(3),)))
        b.start(2, PersistentState.joining())
        await b.world.sleep(2.0)
        await b.write(2, 1)
        await store.ask(MemberAdd((url(3),)))
        b.start(3, PersistentState.joining())
        await b.world.sleep(2.0)
        await b.write(3, 2)

    simulate(scenario, size=1)


def test_a_change_that_is_refused_when_the_log_has_it_changes_no_configuration() -> None:
    """What it collides with was in the log before it, and not applied yet when it was looked at."""

    async def scenario(b: Bench) -> None:
        leader = await b.leader()
        submissions = (
            Submission(5, MemberUpdate(1, (url(4),))),
            Submission(6, MemberAdd((url(4),), is_learner=True)),
        )
        b.member(leader).context.self.tell(Submit(77, 0, submissions, b.stores[leader]))
        await b.world.sleep(1.0)
        remembered = b.member(leader).machine.remembered(77, 6)
        assert remembered is not None and isinstance(remembered.refusal, MembershipError)
        for member in b.stores:
            assert b.member(member).raft.configuration.members == (1, 2, 3)
        listed = await b.stores[leader].ask(MemberList())
        assert [each.peer_urls for each in listed.members] == [(url(4),), (url(2),), (url(3),)]

    simulate(scenario)
