"""Which cluster a snapshot is restored into: another one for each token, file and list of members."""

from itertools import product
from pathlib import Path

from understudy.cli.restoring import origin
from understudy.raftstore.storage.cluster import ClusterMember
from understudy.raftstore.wal.logs import cluster_id, has_token


def test_a_restored_cluster_is_another_one_for_each_file_and_list_of_members(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    lists = [
        (ClusterMember(1, "a", ("http://h:1",)),),
        (ClusterMember(1, "a", ("http://h:2",)),),
        (ClusterMember(1, "a", ("http://h:1",)), ClusterMember(2, "b", ("http://h:2",))),
    ]
    found = {
        (token, cluster_id(token, origin(tmp_path / name, members)))
        for token, name, members in product(("s", "t"), ("one", "two"), lists)
    }
    clusters = [cluster for _, cluster in found]
    assert len({*clusters, cluster_id("s"), cluster_id("t")}) == 2 * 2 * 3 + 2
    for token, cluster in found:
        assert 0 < cluster < 2**63
        assert [has_token(cluster, each) for each in ("s", "t")] == [token == "s", token == "t"]
