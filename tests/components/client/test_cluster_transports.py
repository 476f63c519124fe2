"""A whole cluster by both transports: a client cannot tell which one it uses."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from understudy.components.client import Client
from understudy.components.client.https import HttpsTransport
from understudy.components.client.kubeconfig import parse_kubeconfig
from understudy.components.cluster import Cluster
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import builtin_resources

CONFIG_MAPS = next(resource for resource in builtin_resources() if resource.plural == "configmaps")
PODS = next(resource for resource in builtin_resources() if resource.plural == "pods")


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default", "labels": {"test": "transports"}},
        "data": data,
    }


@asynccontextmanager
async def both() -> AsyncIterator[tuple[Client, Client]]:
    """Clients of one cluster: by messages, and by HTTPS with its own kubeconfig."""
    with trio.fail_after(30):
        async with (
            Cluster(nodes=0, bind="127.0.0.1:0", seed=1) as cluster,
            HttpsTransport(parse_kubeconfig(cluster.kubeconfig)) as transport,
        ):
            yield cluster.client(), Client(transport, "understudy", cluster.world)


async def test_what_one_writes_the_other_reads_alike() -> None:
    async with both() as (messages, https):
        made = [
            await messages.create(CONFIG_MAPS, config_map("a", x="1")),
            await https.create(CONFIG_MAPS, config_map("b", x="\u00e4" * 50_000)),
        ]
        for client in (messages, https):
            assert [await client.get(CONFIG_MAPS, name, "default") for name in ("a", "b")] == made
            listed = await client.list(CONFIG_MAPS, "default", label_selector="test in (transports)")
            assert listed.items == made
        changed = await https.patch(CONFIG_MAPS, "a", {"data": {"x": "2"}}, "default")
        assert await messages.get(CONFIG_MAPS, "a", "default") == changed
        await https.delete(CONFIG_MAPS, "b", "default")
        with pytest.raises(ApiError, match='configmaps "b" not found'):
            await messages.get(CONFIG_MAPS, "b", "default")


async def test_errors_are_the_same() -> None:
    async with both() as clients:
        said = []
        for client in clients:
            with pytest.raises(ApiError) as missing:
                await client.get(PODS, "none", "default")
            with pytest.raises(ApiError) as invalid:
                await client.create(CONFIG_MAPS, config_map("No_Name"))
            with pytest.raises(ApiError) as large:
                await client.create(CONFIG_MAPS, config_map("large", x="x" * 1_100_000))
            said.append([(error.value.code, error.value.status) for error in (missing, invalid, large)])
        assert said[0] == said[1]
        assert [code for code, _ in said[0]] == [404, 422, 422]


async def test_watches_see_the_same_changes() -> None:
    async with both() as (messages, https):
        start = (await https.list(CONFIG_MAPS, "default")).resource_version
        seen: list[list[tuple[str, dict[str, Any]]]] = []
        async with (
            messages.watch(CONFIG_MAPS, "default", resource_version=start) as first,
            https.watch(CONFIG_MAPS, "default", resource_version=start) as second,
        ):
            await https.create(CONFIG_MAPS, config_map("w", x="1"))
            await messages.patch(CONFIG_MAPS, "w", {"data": {"x": "2"}}, "default")
            await https.delete(CONFIG_MAPS, "w", "default")
            for events in (first, second):
                mine: list[tuple[str, dict[str, Any]]] = []
                async for event in events:
                    if event.object["metadata"].get("name") == "w":
                        mine.append((event.type, event.object))
                        if event.type == "DELETED":
                            break
                seen.append(mine)
        assert [kind for kind, _ in seen[0]] == ["ADDED", "MODIFIED", "DELETED"]
        assert seen[0] == seen[1]
