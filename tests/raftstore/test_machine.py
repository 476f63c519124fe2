"""What the state machine says of itself: hashes over all that is replicated, its status, what is left of a
lease."""

from typing import Any

import pytest

from understudy.mailbox import decode, encode
from understudy.raftstore.machine import StateMachine
from understudy.raftstore.restorer import Restorer
from understudy.raftstore.storage import (
    Alarm,
    Compact,
    Hash,
    HashKV,
    LeaseCheckpoint,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseRevoke,
    LeaseTimeToLive,
    Put,
    RoleAdd,
    UserAdd,
    Watch,
)
from understudy.raftstore.storage.cluster import MemberAdd


def begun() -> StateMachine:
    machine = StateMachine()
    for request in (LeaseGrant(60, id=5), Put(b"k", b"1", lease=5), Put(b"k", b"2", lease=5)):
        assert machine.run(request)[0].refusal is None
    return machine


def hashed(machine: StateMachine, request: Any = None) -> int:
    answer = machine.read(request or Hash(), 0.0)
    assert answer.refusal is None
    return int(answer.reply.hash)


@pytest.mark.parametrize(
    ("requests", "seen_in_keys"),
    [
        ([Put(b"k", b"3")], True),
        ([Compact(3)], True),
        ([LeaseGrant(60, id=6)], False),
        # What a lease was given as an id by the store shows in the next one alone.
        ([LeaseGrant(60), LeaseRevoke(1)], False),
        ([LeaseCheckpoint(((5, 30),))], False),
        ([UserAdd("ada", no_password=True)], False),
        ([RoleAdd("reader")], False),
        ([Alarm("activate", 1, "nospace")], False),
        ([MemberAdd(("http://127.0.0.1:1",), is_learner=True, id=9)], False),
    ],
)
def test_a_hash_is_over_all_that_is_replicated(requests: list[Any], seen_in_keys: bool) -> None:
    machine, same = begun(), begun()
    assert hashed(machine) == hashed(same)
    for request in requests:
        assert machine.run(request, trusted=True)[0].refusal is None
    assert hashed(machine) != hashed(same)
    assert (hashed(machine, HashKV()) != hashed(same, HashKV())) is seen_in_keys
    restorer = Restorer()
    for part in machine.snapshot().slices():
        restorer.add(decode(encode(part)))
    same.restore(restorer.finish())
    assert hashed(machine) == hashed(same)


def test_what_is_left_of_a_lease_is_told_by_the_leader_and_its_keys_to_who_asks() -> None:
    machine = begun()
    machine.start_leading(100.0)
    assert machine.read(LeaseTimeToLive(5), 130.5).reply.ttl_s == 29
    assert machine.read(LeaseTimeToLive(5), 130.5).reply.keys == ()
    assert machine.read(LeaseTimeToLive(5, keys=True), 130.5).reply.keys == (b"k",)
    assert machine.read(LeaseKeepAlive(5), 150.0).reply.ttl_s == 60
    assert machine.read(LeaseTimeToLive(5), 209.5).reply.ttl_s == 0
    assert machine.read(LeaseTimeToLive(5), 300.0).reply.ttl_s == 0
    assert machine.read(LeaseTimeToLive(5), 300.0).reply.granted_ttl_s == 60


def test_a_status_says_what_is_wrong_as_etcd_does() -> None:
    machine = begun()
    assert machine.status(1, 1, 2, 3, 3, is_learner=False).errors == ()
    machine.run(Alarm("activate", 7, "nospace"))
    alarm = "memberID:7 alarm:NOSPACE "
    assert machine.status(1, 1, 2, 3, 3, is_learner=False).errors == (alarm,)
    assert machine.status(1, 0, 2, 3, 3, is_learner=True).errors == ("etcdserver: no leader", alarm)


def test_a_watch_is_told_nothing_of_a_revision_before_its_own_that_others_were_told() -> None:
    """What is kept for watches that agree is of one revision, also when nobody watched the next."""
    machine = begun()
    first = machine.open_watch(Watch(b"k", start_revision=3))
    told = machine.hub.pull(first)
    assert told is not None and [event.kv.mod_revision for event in told.events] == [3]
    machine.hub.remove(first)
    machine.run(Put(b"k", b"3"))
    told = machine.hub.pull(machine.open_watch(Watch(b"k", start_revision=4)))
    assert told is not None and [event.kv.mod_revision for event in told.events] == [4]
