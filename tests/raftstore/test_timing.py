"""What the leader proposes because of the time, with leaders that change."""

from typing import Any

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.raftstore.deadlines import Deadlines
from understudy.raftstore.machine import LONG_READS, StateMachine, is_write, unwrapped
from understudy.raftstore.mvcc import finished
from understudy.raftstore.options import StoreOptions
from understudy.raftstore.storage import (
    AssignToken,
    AsUser,
    AuthEnable,
    ExpireTokens,
    HashKV,
    LeaseCheckpoint,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseRevoke,
    Put,
    Range,
    UserAdd,
    UserGrantRole,
)
from understudy.raftstore.timing import Timing

OPTIONS = StoreOptions(checkpoint_interval_s=10.0, token_ttl_s=30.0)


@define
class Group:
    """A state machine and a log that is applied late; whoever leads keeps the clocks."""

    machine: StateMachine = field(factory=lambda: StateMachine(OPTIONS))
    now_s: float = 0.0
    log: list[Any] = field(factory=list)
    """Proposed, and not applied yet."""

    def __attrs_post_init__(self) -> None:
        self.machine.start_leading(self.now_s)

    def propose_due(self) -> None:
        self.log.extend(self.machine.timing.due(self.now_s, retry_s=1.0))

    def apply(self) -> list[Any]:
        """Apply all that was proposed; the refusals and replies."""
        answers = []
        for request in self.log:
            answer, _ = self.machine.run(request, trusted=not isinstance(request, AsUser))
            self.machine.follow(request, answer, self.now_s)
            answers.append(answer)
        self.log.clear()
        return answers

    def ask(self, request: Any) -> Any:
        """As a member does it: through the log or beside it, each after what was proposed before."""
        if is_write(request) or self.machine.through_log(request):
            self.log.append(self.machine.proposal(request, self.now_s))
            return self.apply()[-1]
        if isinstance(unwrapped(request), LONG_READS):
            return finished(self.machine.reading(request, self.now_s))
        return self.machine.read(request, self.now_s)

    def change_leader(self) -> None:
        """The next one applies what is committed before it answers anything."""
        self.machine.stop_leading()
        self.machine.start_leading(self.now_s)
        self.apply()


STEPS = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.5, 2.0, 5.0, 11.0])),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 2.0, 5.0, 11.0])),
    st.tuples(st.just("grant"), st.sampled_from([3, 8, 25, 60])),
    st.tuples(st.just("keep alive"), st.sampled_from([1, 2, 3])),
    st.tuples(st.just("keep alive"), st.sampled_from([1, 2, 3])),
    st.tuples(st.just("lead"), st.just(0)),
    st.tuples(st.just("apply"), st.just(0)),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_a_lease_never_ends_before_its_newest_keep_alive_says(steps: list[tuple[str, float]]) -> None:
    group = Group()
    promised: dict[int, float] = {}
    """By lease: it was said to live until then."""
    for step, number in steps:
        match step:
            case "wait":
                # Commands are proposed when they are due, and applied only sometime later.
                for _ in range(int(number * 2)):
                    group.now_s += 0.5
                    group.propose_due()
            case "grant":
                answer = group.ask(LeaseGrant(int(number)))
                promised[answer.reply.id] = group.now_s + number
            case "keep alive":
                answer = group.ask(LeaseKeepAlive(int(number)))
                if answer.refusal is None:
                    promised[int(number)] = group.now_s + answer.reply.ttl_s
            case "lead":
                group.change_leader()
            case "apply":
                group.apply()
        for lease, until_s in promised.items():
            assert lease in group.machine.store.leases or group.now_s >= until_s
    # And each ends, once nobody keeps it alive.
    for _ in range(200):
        group.now_s += 0.5
        group.propose_due()
        group.apply()
    assert not group.machine.store.leases.ids()


def test_a_new_leader_gives_a_lease_what_its_checkpoint_left_of_it() -> None:
    group = Group()
    lease = group.ask(LeaseGrant(60)).reply.id
    group.now_s = 40.0
    group.propose_due()
    assert group.log == [LeaseCheckpoint(((lease, 20),))]
    group.apply()
    group.change_leader()
    assert group.machine.timing.leases.left_s(lease, group.now_s) == 20.0
    # A keep-alive makes that void, through the log, before it is answered.
    assert group.machine.through_log(LeaseKeepAlive(lease))
    assert group.ask(LeaseKeepAlive(lease)).reply.ttl_s == 60
    group.change_leader()
    assert group.machine.timing.leases.left_s(lease, group.now_s) == 60.0


def test_a_lease_that_lasts_no_longer_than_the_interval_has_no_checkpoints() -> None:
    group = Group()
    lease = group.ask(LeaseGrant(10)).reply.id
    assert group.machine.timing.next_deadline_s() == 10.0
    group.now_s = 10.0
    group.propose_due()
    assert group.log == [LeaseRevoke(lease)]


def test_a_keep_alive_does_not_overtake_the_end_of_its_lease() -> None:
    group = Group()
    lease = group.ask(LeaseGrant(5)).reply.id
    group.now_s = 5.0
    group.propose_due()
    assert group.log == [LeaseRevoke(lease)]
    assert group.machine.through_log(AsUser(LeaseKeepAlive(lease)))
    assert group.ask(LeaseKeepAlive(lease)).refusal is not None


def test_a_keep_alive_does_not_overtake_a_checkpoint() -> None:
    """It would be written down after it, and the next leader would end the lease before its time."""
    group = Group()
    lease = group.ask(LeaseGrant(60)).reply.id
    assert not group.machine.through_log(LeaseKeepAlive(lease))
    group.now_s = 10.0
    group.propose_due()
    assert isinstance(group.log[0], LeaseCheckpoint) and group.machine.through_log(LeaseKeepAlive(lease))
    assert group.ask(LeaseKeepAlive(lease)).reply.ttl_s == 60
    assert not group.machine.through_log(LeaseKeepAlive(lease))
    group.change_leader()
    assert group.machine.timing.leases.left_s(lease, group.now_s) == 60.0


def test_a_checkpoint_leaves_a_lease_no_less_than_it_has() -> None:
    """Seconds are rounded up: the next leader must not end it before its time."""
    group = Group()
    lease = group.ask(LeaseGrant(60)).reply.id
    group.now_s = 0.75
    group.ask(LeaseKeepAlive(lease))
    group.now_s = 11.0
    group.propose_due()
    assert group.log == [LeaseCheckpoint(((lease, 50),))]


def test_what_was_applied_is_under_way_no_more() -> None:
    group = Group()
    ends, stays = (group.ask(LeaseGrant(ttl_s)).reply.id for ttl_s in (10, 60))
    group.now_s = 10.0
    group.propose_due()
    assert sorted(group.machine.timing.under_way) == [ends, stays]
    group.apply()
    assert group.machine.timing.under_way == {}
    # An end that came to nothing is over as well.
    for request in (LeaseGrant(5, id=70), LeaseRevoke(70), LeaseRevoke(70)):
        group.machine.timing.under_way[70] = None
        group.ask(request)
    assert group.machine.timing.under_way == {}


def test_checkpoints_of_many_leases_come_a_thousand_at_a_time() -> None:
    group = Group()
    for _ in range(2500):
        group.ask(LeaseGrant(60))
    group.now_s = 10.0
    sizes = []
    while (due_s := group.machine.timing.next_deadline_s()) is not None and due_s <= group.now_s:
        group.propose_due()
        sizes.extend(len(request.remaining) for request in group.log)
        group.apply()
    assert sizes == [1000, 1000, 500]
    assert all(lease.remaining_s == 50 for lease in group.machine.store.leases)


def test_an_end_that_was_lost_is_proposed_again() -> None:
    group = Group()
    lease = group.ask(LeaseGrant(5)).reply.id
    group.now_s = 5.0
    assert group.machine.timing.due(group.now_s, retry_s=1.0) == [LeaseRevoke(lease)]
    assert group.machine.timing.due(group.now_s, retry_s=1.0) == []
    group.now_s = 6.0
    assert group.machine.timing.due(group.now_s, retry_s=1.0) == [LeaseRevoke(lease)]


def test_a_short_lease_lasts_as_long_as_the_least() -> None:
    group = Group()
    assert group.ask(LeaseGrant(0)).reply.ttl_s == OPTIONS.min_lease_ttl_s
    assert group.ask(LeaseGrant(-5)).reply.ttl_s == OPTIONS.min_lease_ttl_s


def test_a_token_ends_when_nobody_used_it_for_its_time() -> None:
    group = Group()
    for request in (UserAdd("root", hashed_password="#"), UserGrantRole("root", "root"), AuthEnable()):
        group.ask(request)
    token = group.ask(AssignToken("root", "n", group.machine.users.revision)).reply.token
    for request in (Range(b"a"), Put(b"a", b""), Put(b"a", b""), HashKV(), Range(b"a")):
        group.now_s += 25.0
        group.propose_due()
        group.apply()
        assert group.ask(AsUser(request, token)).refusal is None
    group.now_s += 31.0
    group.propose_due()
    assert group.log == [ExpireTokens((token,))]
    group.apply()
    assert group.ask(AsUser(Range(b"a"), token)).refusal.problem == "invalid auth token"
    assert group.machine.timing.next_deadline_s() is None


def test_who_does_not_lead_proposes_nothing() -> None:
    group = Group()
    group.ask(LeaseGrant(5))
    group.machine.stop_leading()
    group.now_s = 100.0
    group.propose_due()
    assert group.log == [] and group.machine.timing.next_deadline_s() is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 20))), max_size=300))
def test_deadlines_are_a_dict_that_is_sorted_by_time(steps: list[tuple[str, int | None]]) -> None:
    deadlines: Deadlines[str] = Deadlines()
    model: dict[str, float] = {}
    for key, due_s in steps:
        if due_s is None:
            deadlines.forget(key)
            model.pop(key, None)
        else:
            deadlines.set(key, due_s)
            model[key] = due_s
        assert deadlines.next_s() == min(model.values(), default=None)
        assert len(deadlines._heap) <= 2 * len(model) + 65
    taken = deadlines.take(10.0)
    assert taken == sorted((key for key in model if model[key] <= 10), key=lambda key: (model[key], key))
    assert len(deadlines) == len(model) - len(taken)


def test_timing_starts_empty() -> None:
    with pytest.raises(TypeError):
        Timing()  # type: ignore[call-arg]  # it needs the options that all members share
    assert Timing(OPTIONS).due(1e9, retry_s=1.0) == []
