"""The list of members: numbers that are used once, and changes that could cost the group its majority."""

import pytest

from understudy.raftstore.cluster import Cluster, Health
from understudy.raftstore.storage.cluster import (
    ClusterMember,
    MemberAdd,
    MemberPromote,
    MemberPublish,
    MemberRemove,
    MembershipError,
    MemberUpdate,
)


def url(member: int) -> tuple[str, ...]:
    return (f"http://127.0.0.1:{member}",)


def founded(size: int) -> Cluster:
    members = [ClusterMember(each, f"member-{each}", url(each)) for each in range(1, size + 1)]
    return Cluster({member.id: member for member in members})


def health(heard: set[int], match: int = 100) -> Health:
    return Health(lambda member: member in heard, lambda member: match, 100)


def test_no_number_is_given_twice_also_after_a_snapshot() -> None:
    cluster = founded(3)
    for expected in (4, 5):
        added = cluster.with_id(MemberAdd(url(9), is_learner=True))
        assert isinstance(added, MemberAdd) and added.id == expected
        cluster.apply(added)
        cluster.apply(MemberRemove(added.id))
        cluster = Cluster.restore(cluster.state())
    for again in (4, 5):
        with pytest.raises(MembershipError, match=r"was removed|already exist"):
            cluster.apply(MemberAdd(url(9), is_learner=True, id=again))
    assert list(cluster.removed) == [4, 5] and list(cluster.members) == [1, 2, 3]


def test_a_learner_may_always_go_and_a_silent_voter_when_the_others_are_heard() -> None:
    cluster = founded(3)
    cluster.apply(MemberAdd(url(4), is_learner=True, id=4))
    cluster.check_safe(MemberRemove(4), health({1}))
    cluster.check_safe(MemberRemove(3), health({1, 2}))
    cluster.check_safe(MemberRemove(3), health({1, 2, 3}))
    with pytest.raises(MembershipError, match="unhealthy cluster"):
        cluster.check_safe(MemberRemove(2), health({1, 2}))


def test_a_voter_is_let_in_when_all_are_heard_and_enough_have_started() -> None:
    cluster = founded(3)
    cluster.check_safe(MemberAdd(url(4), id=4), health({1, 2, 3}))
    with pytest.raises(MembershipError, match="unhealthy cluster"):
        cluster.check_safe(MemberAdd(url(4), id=4), health({1, 2}))
    cluster.check_safe(MemberAdd(url(4), is_learner=True, id=4), health({1}))
    for each in (4, 5):
        cluster.apply(MemberAdd(url(each), id=each))
    with pytest.raises(MembershipError, match="not enough started members"):
        cluster.check_safe(MemberAdd(url(6), id=6), health({1, 2, 3, 4, 5}))
    cluster.apply(MemberPublish(4, "member-4"))
    cluster.check_safe(MemberAdd(url(6), id=6), health({1, 2, 3, 4, 5}))


@pytest.mark.parametrize(("match", "in_sync"), [(89, False), (90, True), (100, True)])
def test_a_learner_becomes_a_voter_with_nine_tenths_of_the_log(match: int, in_sync: bool) -> None:
    cluster = founded(3)
    cluster.apply(MemberAdd(url(4), is_learner=True, id=4))
    if in_sync:
        cluster.check_safe(MemberPromote(4), health({1, 2, 3, 4}, match))
        cluster.apply(MemberPromote(4))
        assert not cluster.members[4].is_learner
        return
    with pytest.raises(MembershipError, match="in sync with leader"):
        cluster.check_safe(MemberPromote(4), health({1, 2, 3, 4}, match))


def test_addresses_belong_to_one_member_each() -> None:
    cluster = founded(3)
    cluster.apply(MemberUpdate(1, (*url(1), *url(7))))
    for request in (MemberUpdate(2, url(7)), MemberAdd(url(1), id=4)):
        with pytest.raises(MembershipError, match="Peer URLs already exists"):
            cluster.apply(request)
    cluster.apply(MemberRemove(1))
    cluster.apply(MemberUpdate(2, url(7)))
    assert [member.peer_urls for member in cluster.all()] == [url(7), url(3)]
