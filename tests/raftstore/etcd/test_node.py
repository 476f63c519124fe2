"""A member that joins: which number the cluster has for it."""

import pytest

from understudy.actors.startup import StartError
from understudy.raftstore.etcd.configuration import EtcdConfig
from understudy.raftstore.etcd.node import number_in
from understudy.raftstore.storage.cluster import ClusterMember

MEMBERS = (
    ClusterMember(1, "a", ("http://h:1",)),
    ClusterMember(4, "", ("http://h:4", "http://i:4")),
)


@pytest.mark.parametrize("urls", ["http://h:4", "http://i:4"])
def test_who_was_let_in_is_known_by_any_of_its_addresses(urls: str) -> None:
    config = EtcdConfig(name="d", initial_cluster=f"a=http://h:1,d={urls}", initial_cluster_state="existing")
    config.check()
    assert number_in(config, MEMBERS) == 4


def test_who_was_not_let_in_is_told_how() -> None:
    config = EtcdConfig(name="d", initial_cluster="a=http://h:1,d=http://h:5")
    with pytest.raises(StartError, match=r"no member at http://h:5 .*etcdctl member add d --peer-urls"):
        number_in(config, MEMBERS)
