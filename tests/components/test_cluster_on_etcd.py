"""A cluster whose store is a real etcd: what it wrote is there for the next one."""

from pathlib import Path

import pytest
import trio

from tests.raftstore.etcd.etcds import at, real_etcd
from understudy.actors.startup import StartError
from understudy.components.cluster import Cluster, ClusterOptions
from understudy.components.machinery.resources import NODES


def test_the_next_cluster_finds_what_the_last_one_wrote(tmp_path: Path) -> None:
    async def uid(url: str) -> str:
        options = ClusterOptions(store=at(url), store_name=url)
        async with Cluster(nodes=1, bind=None, seed=1, options=options) as cluster:
            node = await cluster.client().get(NODES, "node-1")
            return str(node["metadata"]["uid"])

    with real_etcd(tmp_path) as url:
        assert trio.run(uid, url) == trio.run(uid, url)


async def test_a_store_that_does_not_answer_is_the_users_error() -> None:
    nowhere = "http://127.0.0.1:1"
    with pytest.raises(StartError, match="does not answer"):
        async with Cluster(nodes=1, bind=None, options=ClusterOptions(store=at(nowhere), store_name=nowhere)):
            pass
