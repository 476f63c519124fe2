"""What is sent again, between nodes that fail and over links that lose: done once, and bounded."""

import pytest

from tests.raftstore.nodes import Asking, Bench, simulate, url
from understudy.raftstore.membership import (
    Busy,
    Submission,
    Submit,
)
from understudy.raftstore.options import GroupOptions, MemberOptions, StoreOptions
from understudy.raftstore.sessions import Answer, Command
from understudy.raftstore.storage import (
    Alarm,
    AlarmMember,
    NoSpace,
    Put,
    PutReply,
    Unavailable,
)
from understudy.raftstore.storage.cluster import (
    MemberAdd,
    MemberAddReply,
    MemberList,
)


@pytest.mark.parametrize("seed", range(1, 6))
def test_forwarded_writes_are_done_once_when_the_leader_s_host_crashes(seed: int) -> None:
    async def scenario(b: Bench) -> None:
        leader = await b.leader()
        others = [member for member in b.stores if member != leader]
        async with b.world.nursery() as nursery:
            for number in range(40):
                nursery.start_soon(b.write, others[number % 2], number)
                if number == 20:
                    b.world.host(f"etcd-{leader}").crash()
                await b.world.sleep(0.0005)
        assert len(b.acknowledged) == 40
        b.world.host(f"etcd-{leader}").restart()
        await b.world.sleep(2.0)

    simulate(scenario, seed=seed)


@pytest.mark.parametrize("seed", range(1, 4))
def test_forwarded_writes_are_done_once_over_links_that_lose_and_double(seed: int) -> None:
    async def scenario(b: Bench) -> None:
        await b.write(1, 0)
        for one in b.stores:
            for other in b.stores:
                if one != other:
                    link = b.world.network.link(f"etcd-{one}", f"etcd-{other}")
                    link.loss, link.duplication = 0.1, 0.1
        async with b.world.nursery() as nursery:
            for number in range(1, 60):
                nursery.start_soon(b.write, 1 + number % 3, number)
                await b.world.sleep(0.01)
        for one in b.stores:
            for other in b.stores:
                if one != other:
                    link = b.world.network.link(f"etcd-{one}", f"etcd-{other}")
                    link.loss, link.duplication = 0.0, 0.0
        assert len(b.acknowledged) == 60

    simulate(scenario, seed=seed)


def test_nothing_is_kept_for_routers_that_are_answered() -> None:
    """Each has a session of its own, and a new one whenever it starts again."""

    async def scenario(b: Bench) -> None:
        leader = await b.leader()
        answers: list[Answer] = []
        asker = b.system.spawn(lambda: Asking(answers), "asker", host=f"etcd-{leader}")
        for session in range(100, 120):
            put = Submission(1, Put(b"k", b"v"))
            b.member(leader).context.self.tell(Submit(session, 0, (put,), asker))
        for member in b.stores:
            await b.write(member, member)
        assert len(answers) == 20
        for member in b.stores:
            clients = b.member(member)._clients
            assert clients._waiting == {} and clients._forwarded_bytes == 0

    simulate(scenario)


def test_what_is_forwarded_and_not_answered_is_bounded() -> None:
    options = GroupOptions(member=MemberOptions(max_forwarded_bytes=1000))

    async def scenario(b: Bench) -> None:
        follower = await b.follower()
        refused = 0

        async def put(number: int) -> None:
            nonlocal refused
            try:
                await b.stores[follower].ask(Put(b"k%d" % number, bytes(300)))
            except Unavailable as error:
                assert not error.maybe_applied, error
                refused += 1

        async with b.world.nursery() as nursery:
            for number in range(20):
                nursery.start_soon(put, number)
        assert 0 < refused < 20
        await b.write(follower, 1)

    simulate(scenario, options=options)


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_change_that_is_sent_twice_is_done_once(seed: int) -> None:
    async def scenario(b: Bench) -> None:
        follower, leader = await b.follower(), await b.leader()
        async with b.world.nursery() as nursery:
            nursery.start_soon(b.stores[follower].ask, MemberAdd((url(4),), is_learner=True))
            await b.world.sleep(0.0002 * seed)
            b.world.host(f"etcd-{leader}").crash()
        b.world.host(f"etcd-{leader}").restart()
        await b.world.sleep(2.0)
        listed = await b.stores[follower].ask(MemberList())
        assert [member.id for member in listed.members] == [1, 2, 3, 4]
        assert b.member(follower).raft.configuration.learners == (4,)

    simulate(scenario, seed=seed)


@pytest.mark.parametrize("pause_seconds", [0.0, 0.0008, 1.0])
def test_a_change_that_the_leader_gets_twice_is_done_once(pause_seconds: float) -> None:
    async def scenario(b: Bench) -> None:
        leader = await b.leader()
        answers: list[Answer] = []
        asker = b.system.spawn(lambda: Asking(answers), "asker", host=f"etcd-{leader}")
        for _ in range(2):
            add = Submission(5, MemberAdd((url(4),), is_learner=True))
            b.member(leader).context.self.tell(Submit(77, 0, (add,), asker))
            await b.world.sleep(pause_seconds)
        await b.world.sleep(1.0)
        listed = await b.stores[leader].ask(MemberList())
        assert [member.id for member in listed.members] == [1, 2, 3, 4]
        told = {answer for answer in answers if not isinstance(answer.refusal, Busy)}
        assert told == {Answer(MemberAddReply(1, listed.members[3], listed.members))}

    simulate(scenario)


def test_a_write_that_filled_the_store_is_no_refusal_when_it_is_sent_again() -> None:
    """`NoSpace` is certain: nothing was changed. Whether it was, only the log knows."""
    options = GroupOptions(member=MemberOptions(store=StoreOptions(quota_bytes=1000)))

    async def scenario(b: Bench) -> None:
        leader = await b.leader()
        answers: list[Answer] = []
        asker = b.system.spawn(lambda: Asking(answers), "asker", host=f"etcd-{leader}")
        for number in (5, 5, 6, 5, 6, 7):
            assert b.member(leader).machine.alarms.raised == {} or len(answers) > 2
            put = Submission(number, Put(b"k%d" % number, bytes(700)))
            b.member(leader).context.self.tell(Submit(77, 0, (put,), asker))
            await b.world.sleep(0.1)
        told = [answer.reply or answer.refusal for answer in answers]
        assert told[:2] == [PutReply(2)] * 2 and told[3] == PutReply(2)
        assert all(isinstance(told[each], NoSpace) for each in (2, 4, 5))
        assert (await b.stores[leader].ask(Alarm())).alarms == (AlarmMember(leader, "nospace"),)
        commands = [entry.data.request for entry in b.member(leader).raft.log.entries if entry.data]
        assert sum(each == Alarm("activate", leader, "nospace") for each in commands) == 1

    simulate(scenario, options=options)


def test_what_is_sent_again_is_not_put_into_the_same_leader_s_log_again() -> None:
    """While a majority, or a disk, is slow, repetitions would only add to what it has to do."""

    async def scenario(b: Bench) -> None:
        leader = await b.leader()
        rest = [f"etcd-{member}" for member in b.stores if member != leader]
        b.world.network.partition([f"etcd-{leader}"], rest)
        answers: list[Answer] = []
        asker = b.system.spawn(lambda: Asking(answers), "asker", host=f"etcd-{leader}")
        for _ in range(3):
            submit = Submit(77, 0, (Submission(5, Put(b"k", b"v")),), asker)
            b.member(leader).context.self.tell(submit)
            await b.world.sleep(0.1)
        commands = [entry.data for entry in b.member(leader).raft.log.entries]
        assert sum(isinstance(each, Command) and each.session == 77 for each in commands) == 1
        b.world.network.heal()
        await b.world.sleep(1.0)
        assert [answer.reply for answer in answers] == [PutReply(2)]

    simulate(scenario)
