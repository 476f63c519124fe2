"""Alarms: which there are, what each stands against, and what needs room."""

from typing import Any

import pytest

from understudy.raftstore.alarms import Alarms, room_needed
from understudy.raftstore.storage import (
    Alarm,
    AlarmMember,
    Compact,
    Corrupt,
    DeleteRange,
    LeaseGrant,
    LeaseRevoke,
    NoSpace,
    Put,
    Range,
    Txn,
    UserAdd,
)

FULL, CORRUPT = AlarmMember(1, "nospace"), AlarmMember(2, "corrupt")
PUT = Put(b"key", b"value")


def test_alarms_are_a_set_in_the_order_in_which_they_were_raised() -> None:
    alarms = Alarms()
    assert alarms.apply(Alarm("activate", 2, "corrupt")) == (CORRUPT,)
    for _ in range(2):
        assert alarms.apply(Alarm("activate", 1, "nospace")) == (FULL,)
    assert alarms.apply(Alarm("activate", 3, "none")) == ()
    assert alarms.apply(Alarm()) == (CORRUPT, FULL)
    assert alarms.apply(Alarm("get", alarm="nospace")) == (FULL,)
    assert alarms.apply(Alarm("deactivate", 2, "nospace")) == ()
    assert alarms.apply(Alarm("deactivate", 2, "corrupt")) == (CORRUPT,)
    assert alarms.apply(Alarm()) == (FULL,)


@pytest.mark.parametrize(
    ("request_", "refused_by"),
    [
        (PUT, {FULL, CORRUPT}),
        (LeaseGrant(60), {FULL, CORRUPT}),
        (DeleteRange(b"a"), {CORRUPT}),
        (Compact(1), {CORRUPT}),
        (LeaseRevoke(1), {CORRUPT}),
        (Txn((), (PUT,)), {FULL, CORRUPT}),
        (Txn((), (), (PUT,)), {FULL, CORRUPT}),
        (Txn((), (Txn((), (PUT,)),)), {FULL, CORRUPT}),
        (Txn((), (Range(b"a"),), (DeleteRange(b"a"),)), {CORRUPT}),
        (Txn((), (Range(b"a"),), (Range(b"b"),)), set()),
        (Alarm("deactivate", 2, "corrupt"), set()),
        (UserAdd("ada"), set()),
    ],
)
def test_each_kind_stands_against_something_else(request_: Any, refused_by: set[AlarmMember]) -> None:
    for alarm, error in ((FULL, NoSpace), (CORRUPT, Corrupt)):
        alarms = Alarms({alarm: None})
        if alarm in refused_by:
            with pytest.raises(error):
                alarms.check(request_)
        else:
            alarms.check(request_)
    Alarms().check(request_)


def test_what_a_write_needs_is_what_its_larger_branch_does() -> None:
    """The same reckoning as etcd's: 256 bytes for a put, 64 for a lease."""
    assert room_needed(PUT) == 264 and room_needed(LeaseGrant(60)) == 64
    assert room_needed(Txn((), (PUT, PUT), (PUT, Range(b"a")))) == 528
    assert room_needed(Txn((), (), (PUT, Txn((), (PUT,), (PUT, PUT))))) == 792
    assert room_needed(Txn((), (Range(b"a"), DeleteRange(b"a")))) == room_needed(Compact(1)) == 0
