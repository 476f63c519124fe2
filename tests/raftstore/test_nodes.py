"""A group whose members are nodes of their own, each on its host: any of them serves everything, and members
come and go while it runs."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from attrs import define, field

from understudy.actors import (
    Actor,
    ActorSystem,
    AskTimeout,
    ChannelReader,
    Ref,
    Shuffled,
    SimWorld,
    handles,
)
from understudy.raftstore.founding import LocalPeers, VolatileLogs, founding_state
from understudy.raftstore.group import raft_node
from understudy.raftstore.member import Member
from understudy.raftstore.membership import (
    Busy,
    LocateLeader,
    Outcomes,
    StartMember,
    StopMember,
    Submission,
    Submit,
)
from understudy.raftstore.options import GroupOptions, MemberOptions, RaftOptions, StoreOptions
from understudy.raftstore.ready import PersistentState, Role
from understudy.raftstore.sessions import Answer, Command
from understudy.raftstore.storage import (
    ALL_KEYS_END,
    Alarm,
    AlarmMember,
    AsUser,
    AuthDisable,
    AuthEnable,
    Authenticate,
    AuthError,
    Compact,
    Compacted,
    Compare,
    Hash,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseTimeToLive,
    NoSpace,
    OpenWatch,
    Put,
    PutReply,
    Range,
    Status,
    Storage,
    Txn,
    Unavailable,
    UserAdd,
    UserGrantRole,
    Watch,
    WatchBatch,
)
from understudy.raftstore.storage.cluster import (
    ClusterMember,
    MemberAdd,
    MemberAddReply,
    MemberList,
    MemberPromote,
    MemberRemove,
    MembershipError,
    MemberUpdate,
    MoveLeader,
)


def url(member: int) -> str:
    return f"tcp://etcd-{member}:2380"


@define
class Bench:
    world: SimWorld
    system: ActorSystem
    options: GroupOptions
    logs: VolatileLogs = field(factory=VolatileLogs)
    peers: LocalPeers = field(factory=LocalPeers)
    stores: dict[int, Ref[Storage]] = field(factory=dict)
    acknowledged: list[bytes] = field(factory=list)

    def found(self, size: int) -> None:
        founders = [ClusterMember(each, f"node-{each}", (url(each),)) for each in range(1, size + 1)]
        state = founding_state(founders)
        for each in range(1, size + 1):
            self.start(each, state)

    def start(self, member: int, state: PersistentState) -> None:
        factory = raft_node(
            member, self.peers, self.logs.log, state, name=f"node-{member}", options=self.options
        )
        self.stores[member] = self.system.spawn(factory, f"etcd-{member}", host=f"etcd-{member}")

    def member(self, member: int) -> Member:
        actor = self.system._cells[f"/etcd-{member}/member-{member}"].actor
        assert isinstance(actor, Member)
        return actor

    def ended(self, member: int) -> bool:
        """The member has stopped for good."""
        return f"/etcd-{member}/member-{member}" not in self.system._cells

    async def leader(self) -> int:
        with self.world.deadline(10.0):
            while True:
                for member, store in self.stores.items():
                    with suppress(AskTimeout, Unavailable):
                        status = await store.ask(Status(), 1.0)
                        if status.leader == member:
                            return member
                await self.world.sleep(0.05)

    async def follower(self) -> int:
        leader = await self.leader()
        return next(member for member in sorted(self.stores) if member != leader)

    async def write(self, via: int, number: int) -> None:
        """Write a key that was not there, once, however often it has to be sent."""
        key = b"/n/%06d" % number
        reply = await self.stores[via].ask(Txn((Compare(key, "mod", "=", 0),), (Put(key, b"x"),)))
        assert reply.succeeded, f"write {number} was done twice"
        self.acknowledged.append(key)

    async def watch(self, via: int, watch: Watch) -> ChannelReader[WatchBatch]:
        writer, reader = self.system.own_channel("test watch", 16)
        await self.stores[via].ask(OpenWatch(watch, writer))
        return reader

    async def check(self) -> None:
        """Every acknowledged write is there once, at whichever node one asks."""
        for member, store in self.stores.items():
            if self.ended(member):
                continue
            reply = await store.ask(Range(b"/n/", b"/n0"))
            assert set(self.acknowledged) <= {kv.key for kv in reply.kvs}, member
            assert all(kv.version == 1 for kv in reply.kvs)
        hashes = {
            (await store.ask(Hash())).hash for member, store in self.stores.items() if not self.ended(member)
        }
        assert len(hashes) == 1, "the members differ"


Scenario = Callable[[Bench], Awaitable[None]]


def simulate(
    scenario: Scenario, *, size: int = 3, seed: int = 1, options: GroupOptions | None = None
) -> None:
    async def main(world: SimWorld) -> None:
        async with ActorSystem.open(world) as system:
            b = Bench(world, system, options or GroupOptions())
            b.found(size)
            await scenario(b)
            world.network.heal()
            await b.check()

    SimWorld(seed, Shuffled(seed) if seed else None, turns_max=2_000_000).run(main)


async def seen(b: Bench, reader: ChannelReader[WatchBatch], count: int) -> list[int]:
    revisions: list[int] = []
    with b.world.deadline(20.0):
        while len(revisions) < count:
            revisions.extend(event.kv.mod_revision for event in (await reader.receive()).events)
    return revisions


# ------------------------------------------------------------------ any node serves everything


def test_a_write_through_one_node_is_read_at_every_other_at_once() -> None:
    """Linearizable: the reader's node asks the leader from when on it may read (thesis §6.4)."""

    async def scenario(b: Bench) -> None:
        for number in range(12):
            await b.write(1 + number % 3, number)
            for store in b.stores.values():
                reply = await store.ask(Range(b"/n/%06d" % number))
                assert [kv.value for kv in reply.kvs] == [b"x"]

    simulate(scenario)


def test_status_is_the_node_s_own() -> None:
    async def scenario(b: Bench) -> None:
        await b.write(1, 1)
        leader = await b.leader()
        for member, store in b.stores.items():
            status = await store.ask(Status())
            assert (status.member, status.leader, status.is_learner) == (member, leader, False)

    simulate(scenario)


def test_a_follower_watches_for_its_clients_whatever_becomes_of_the_leader() -> None:
    async def scenario(b: Bench) -> None:
        follower = await b.follower()
        reader = await b.watch(follower, Watch(b"\0", ALL_KEYS_END))
        for number in range(30):
            if number == 10:
                await b.stores[await b.leader()].ask(StopMember(await b.leader()))
            await b.write(follower, number)
        assert await seen(b, reader, 30) == list(range(2, 32))
        for member, store in b.stores.items():
            await store.ask(StartMember(member))

    simulate(scenario)


def test_leases_are_kept_alive_through_followers() -> None:
    async def scenario(b: Bench) -> None:
        store = b.stores[await b.follower()]
        lease = (await store.ask(LeaseGrant(ttl_s=5))).id
        await store.ask(Put(b"k", b"", lease=lease))
        for _ in range(6):
            await b.world.sleep(2.0)
            assert (await store.ask(LeaseKeepAlive(lease))).ttl_s == 5
        assert (await store.ask(LeaseTimeToLive(lease))).ttl_s >= 4
        await b.world.sleep(7.0)
        assert (await store.ask(Range(b"k"))).count == 0

    simulate(scenario)


def test_a_token_that_is_used_at_a_follower_stays_good() -> None:
    """The leader, which ends tokens, counts their uses."""
    store_options = StoreOptions(token_ttl_s=3.0, bcrypt_cost=4)
    options = GroupOptions(member=MemberOptions(store=store_options))

    async def scenario(b: Bench) -> None:
        store = b.stores[await b.follower()]
        await store.ask(UserAdd("root", "secret"))
        await store.ask(UserGrantRole("root", "root"))
        await store.ask(AuthEnable())
        token = (await store.ask(Authenticate("root", "secret"))).token
        for _ in range(8):
            await b.world.sleep(1.0)
            await store.ask(AsUser(Range(b"k"), token))
        await b.world.sleep(6.0)
        with pytest.raises(AuthError, match="invalid auth token"):
            await store.ask(AsUser(Range(b"k"), token))
        token = (await store.ask(Authenticate("root", "secret"))).token
        await store.ask(AsUser(AuthDisable(), token))

    simulate(scenario, options=options)


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


def test_a_node_that_is_cut_off_promises_nothing() -> None:
    async def scenario(b: Bench) -> None:
        await b.write(1, 1)
        leader = await b.leader()
        rest = [f"etcd-{member}" for member in b.stores if member != leader]
        b.world.network.partition([f"etcd-{leader}"], rest)
        await b.world.sleep(2.0)
        await b.write(await b.leader(), 2)
        cut_off = b.stores[leader]
        with pytest.raises(Unavailable):
            await cut_off.ask(Range(b"/n/", b"/n0"), 6.0)
        with pytest.raises(Unavailable):
            await cut_off.ask(Put(b"x", b""), 6.0)
        assert (await cut_off.ask(Range(b"/n/", b"/n0", serializable=True))).count == 1
        b.world.network.heal()
        await b.world.sleep(1.0)
        assert (await cut_off.ask(Range(b"/n/", b"/n0"))).count == 2

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


# ------------------------------------------------------------------ known bugs that need more than a core


def test_etcd_8411_a_watch_at_a_follower_goes_on_after_its_state_was_replaced() -> None:
    """It went silent when the state that it looked at was exchanged for a snapshot."""
    options = GroupOptions(member=MemberOptions(snapshot_entries=20, keep_entries=5))

    async def scenario(b: Bench) -> None:
        leader = await b.leader()
        follower = await b.follower()
        reader = await b.watch(follower, Watch(b"/n/", b"/n0"))
        await b.write(leader, 0)
        rest = [f"etcd-{member}" for member in b.stores if member != follower]
        b.world.network.partition([f"etcd-{follower}"], rest)
        for number in range(1, 100):
            await b.write(leader, number)
        b.world.network.heal()
        await b.world.sleep(3.0)
        assert b.member(follower).raft.log.floor_index > 20
        await b.write(leader, 100)
        assert await seen(b, reader, 101) == list(range(2, 103))

    simulate(scenario, options=options)


def test_etcd_8411_a_watch_at_a_follower_is_told_what_its_new_state_has_no_more() -> None:
    """What it had still to see was compacted meanwhile: it says so, and from where it can go on."""
    options = GroupOptions(member=MemberOptions(snapshot_entries=20, keep_entries=5))

    async def scenario(b: Bench) -> None:
        leader = await b.leader()
        follower = await b.follower()
        reader = await b.watch(follower, Watch(b"/n/", b"/n0"))
        await b.write(leader, 0)
        assert await seen(b, reader, 1) == [2]
        rest = [f"etcd-{member}" for member in b.stores if member != follower]
        b.world.network.partition([f"etcd-{follower}"], rest)
        for number in range(1, 100):
            await b.write(leader, number)
        await b.stores[leader].ask(Compact(90))
        for number in range(100, 150):
            await b.write(leader, number)  # So that the compaction is in the snapshot.
        b.world.network.heal()
        came: list[int] = []
        with b.world.deadline(20.0), pytest.raises(Compacted) as told:
            while True:  # Some may have been on their way to the follower all the time.
                came.extend(event.kv.mod_revision for event in (await reader.receive()).events)
        assert told.value.compact_revision == 90
        assert came == list(range(3, len(came) + 3)) and len(came) < 80
        again = await b.watch(follower, Watch(b"/n/", b"/n0", start_revision=90))
        assert await seen(b, again, 62) == list(range(90, 152))

    simulate(scenario, options=options)


def test_etcd_15247_a_leader_that_was_stuck_ends_no_lease() -> None:
    """Deposed without knowing it, it found all leases over. Leases end through the log alone."""

    async def scenario(b: Bench) -> None:
        leader = await b.leader()
        store = b.stores[await b.follower()]
        lease = (await store.ask(LeaseGrant(ttl_s=5))).id
        await store.ask(Put(b"k", b"", lease=lease))
        rest = [f"etcd-{member}" for member in b.stores if member != leader]
        b.world.network.partition([f"etcd-{leader}"], rest)
        b.world.host(f"etcd-{leader}").pause()
        await b.world.sleep(2.0)
        for _ in range(8):
            assert (await store.ask(LeaseKeepAlive(lease))).id == lease
            await b.world.sleep(1.0)
        # It wakes up, hears of nobody yet, and its clock says that the lease is long over.
        b.world.host(f"etcd-{leader}").resume()
        await b.world.sleep(0.3)
        assert b.member(leader).raft.role is Role.LEADER
        assert (await b.stores[leader].ask(Range(b"k", serializable=True))).count == 1
        b.world.network.heal()
        for _ in range(5):
            await b.world.sleep(0.5)
            assert (await store.ask(Range(b"k"))).count == 1
            await store.ask(LeaseKeepAlive(lease))

    simulate(scenario)


# ------------------------------------------------------------------ members that come and go


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
        with pytest.raises(MembershipError, match="was removed"):
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


class Asking(Actor[Storage]):
    """Keeps what it is answered."""

    def __init__(self, answers: list[Answer]) -> None:
        self.answers = answers

    @handles(Outcomes)
    def on_outcomes(self, outcomes: Outcomes) -> None:
        self.answers.extend(outcome.answer for outcome in outcomes.outcomes)


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
        for number in (5, 5, 6, 5, 6):
            assert b.member(leader).machine.alarms.raised == {} or len(answers) > 2
            put = Submission(number, Put(b"k%d" % number, bytes(700)))
            b.member(leader).context.self.tell(Submit(77, 0, (put,), asker))
            await b.world.sleep(0.1)
        told = [answer.reply or answer.refusal for answer in answers]
        assert told[:2] == [PutReply(2)] * 2 and told[3] == PutReply(2)
        assert isinstance(told[2], NoSpace) and isinstance(told[4], NoSpace)
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


def test_leadership_is_moved_on_request() -> None:
    async def scenario(b: Bench) -> None:
        for via in (1, 2, 3):
            for target in (1, 2, 3):
                assert (await b.stores[via].ask(MoveLeader(target))).leader == target
                await b.write(via, 10 * via + target)
                assert await b.leader() == target
        with pytest.raises(MembershipError, match="bad leader transferee"):
            await b.stores[1].ask(MoveLeader(9))
        assert await b.stores[1].ask(LocateLeader()) == 3

    simulate(scenario)


# ------------------------------------------------------------------ lease reads by the world's clocks


@pytest.mark.parametrize(("drift", "stale"), [(1.0, True), (4.0, False)])
def test_lease_reads_are_as_good_as_the_bound_on_the_clocks(drift: float, stale: bool) -> None:
    """A leader's clock goes at less than a third of the others' speed. With a bound that says so its reads
    are not stale; with one that denies it they can be (thesis §6.4.1)."""
    options = GroupOptions(
        member=MemberOptions(raft=RaftOptions(lease_read_clock_drift=drift)), request_timeout_seconds=1.0
    )

    async def scenario(b: Bench) -> None:
        await b.stores[1].ask(MoveLeader(1))
        b.world.host("etcd-1").set_drift(-0.7)
        await b.world.sleep(3.0)
        if await b.leader() != 1:
            await b.stores[1].ask(MoveLeader(1))
        await b.write(1, 1)
        b.world.network.partition(["etcd-1"], ["etcd-2", "etcd-3"])
        await b.world.sleep(0.85)
        await b.write(2, 2)
        count = 2
        with suppress(Unavailable):
            count = (await b.stores[1].ask(Range(b"/n/", b"/n0"), 10.0)).count
        assert (count == 1) is stale
        b.world.host("etcd-1").set_drift(0.0)
        b.world.network.heal()
        await b.world.sleep(2.0)

    simulate(scenario, options=options, seed=0)
