"""A cluster with a data folder: what was acknowledged is there for the next, however this one ends."""

import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import trio

from understudy.actors import RealWorld
from understudy.actors.startup import StartError
from understudy.components.client import Client
from understudy.components.client.https import HttpsTransport
from understudy.components.client.kubeconfig import load_kubeconfig
from understudy.components.cluster import Cluster
from understudy.components.machinery.resources import CONFIG_MAPS, DEPLOYMENTS, PODS

KILLS = 4
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "nginx"}]},
        },
    },
}


async def running_pods(client: Client, count: int) -> dict[str, str]:
    """The addresses of the deployment's pods, by UID, once so many run and are ready."""
    async with client.watch(PODS, "default", send_initial_events=True) as events:
        ready: dict[str, str] = {}
        async for event in events:
            metadata, status = event.object["metadata"], event.object.get("status") or {}
            conditions = {each["type"]: each["status"] for each in status.get("conditions") or ()}
            if event.type == "DELETED" or conditions.get("Ready") != "True":
                ready.pop(metadata.get("uid", ""), None)
            elif metadata.get("uid"):
                ready[metadata["uid"]] = status["podIP"]
            if len(ready) == count:
                return ready
    raise AssertionError("the watch ended")


async def test_the_next_cluster_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with Cluster(nodes=2, bind=None, data_dir=tmp_path / "data") as cluster:
            made = await cluster.client().create(DEPLOYMENTS, DEPLOYMENT)
            before = await running_pods(cluster.client(), 2)
        async with Cluster(nodes=2, bind=None, data_dir=tmp_path / "data") as cluster:
            client = cluster.client()
            found = await client.get(DEPLOYMENTS, "web", "default")
            assert found["metadata"]["uid"] == made["metadata"]["uid"]
            assert await running_pods(client, 2)
            assert {pod["metadata"]["uid"] for pod in (await client.list(PODS, "default")).items} == set(
                before
            )
            await client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 3}}, "default")
            assert len(await running_pods(client, 3)) == 3


async def test_a_folder_in_use_is_the_users_error(tmp_path: Path) -> None:
    async with Cluster(nodes=0, bind=None, data_dir=tmp_path):
        with pytest.raises(StartError, match="another process has this folder open") as refused:
            async with Cluster(nodes=0, bind=None, data_dir=tmp_path):
                pass
        assert str(tmp_path) in refused.value.message


async def test_a_folder_that_cannot_be_made_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="cannot use the folder"):
        async with Cluster(nodes=0, bind=None, data_dir=tmp_path / "file"):
            pass


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    """The kubeconfig of the first start serves for all: the authority is the same."""
    command = [sys.executable, "-P", "-m", "understudy", "up", "--nodes", "0", "--data-dir", "data"]
    acknowledged: list[str] = []
    rng = Random(1)
    port = "0"
    for kill in range(KILLS + 1):
        written = tmp_path / f"kubeconfig-{kill}"
        with (tmp_path / "log").open("a") as log:
            process = subprocess.Popen(
                [*command, "--bind", f"127.0.0.1:{port}", "--kubeconfig", str(written)],
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("Ctrl-C"):
                    break
            else:
                pytest.fail(f"it ended before it was ready: {(tmp_path / 'log').read_text()}")
            access = load_kubeconfig(tmp_path / "kubeconfig-0")
            port = re.sub(r".*:", "", access.server)
            last = kill == KILLS
            trio.run(
                write_until_killed,
                tmp_path / "kubeconfig-0",
                acknowledged,
                0 if last else rng.randint(5, 60),
                process,
            )
        finally:
            process.kill()
            process.communicate()
    assert len(acknowledged) > KILLS * 5


async def write_until_killed(
    kubeconfig: Path, acknowledged: list[str], writes: int, process: "subprocess.Popen[str]"
) -> None:
    """Find all that was acknowledged; write on, and kill the process behind some acknowledgement."""
    with trio.fail_after(60):
        async with RealWorld.open() as world, HttpsTransport(load_kubeconfig(kubeconfig)) as transport:
            client = Client(transport, "test", world)
            found = {each["metadata"]["name"] for each in (await client.list(CONFIG_MAPS, "default")).items}
            assert set(acknowledged) <= found
            for number in range(writes):
                name = f"c-{len(acknowledged)}-{number}"
                config = {"metadata": {"name": name, "namespace": "default"}, "data": {"a": "b" * 200}}
                await client.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", **config})
                acknowledged.append(name)
            process.kill()
