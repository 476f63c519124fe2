"""The registry's caches while its watch on the store breaks, and while the store forgets what comes next."""

from typing import Any

import pytest

from understudy.actors import Actor, ActorSystem, Ref, Shuffled, SimWorld
from understudy.components.apiserver.cacher import Interest, Seen
from understudy.components.apiserver.registry import Registry
from understudy.components.machinery.api import ApiServing, Object
from understudy.components.machinery.resources import CONFIG_MAPS
from understudy.raftstore.memory import memory_store
from understudy.raftstore.storage import Compact, Storage


class Holder(Actor[ApiServing]):
    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    async def on_start(self) -> None:
        self.context.start_soon(self.registry.follow, self.context)


def config_map(number: int, world: SimWorld) -> Object:
    metadata = {
        "name": f"m-{number % 5 if number < 100 else number}",
        "namespace": "n",
        "uid": world.uuid("test"),
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"n": str(number)}}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("compacts", [False, True], ids=["resumed", "compacted"])
def test_watchers_of_the_cache_see_each_object_s_newest_state(seed: int, compacts: bool) -> None:
    async def main(world: SimWorld) -> None:
        async with ActorSystem.open(world) as system:
            store: Ref[Storage] = system.spawn(memory_store(), "store", host="etcd")
            here, elsewhere = Registry(store, world), Registry(store, world)
            system.spawn(lambda: Holder(here), "api-1", host="one")
            system.spawn(lambda: Holder(elsewhere), "api-2", host="two")
            await here.ready()
            await elsewhere.ready()
            seen: dict[str, tuple[str, int]] = {}
            revisions: list[int] = []

            def deliver(news: Seen, revision: int) -> None:
                assert not revisions or revision >= revisions[-1]
                revisions.append(revision)
                if news.type == "DELETED":
                    del seen[news.entry.name]
                else:
                    assert (news.type == "ADDED") == (news.entry.name not in seen)
                    seen[news.entry.name] = (news.type, news.entry.revision)

            here.cache(CONFIG_MAPS).subscribe(Interest(), deliver)

            async def change(numbers: range) -> None:
                for number in numbers:
                    obj = config_map(number, world)
                    name = obj["metadata"]["name"]
                    current = await elsewhere.live(CONFIG_MAPS, "n", name)
                    if current is None:
                        await elsewhere.create(CONFIG_MAPS, obj)
                    elif number % 3 == 0:
                        await elsewhere.remove(current)
                    else:
                        await elsewhere.replace(current, obj)

            await change(range(8))
            # Longer than a session lives in silence: the watch breaks.
            world.network.partition(["one"], ["etcd", "two", "local"])
            # Changed once: who misses this one never makes up for it.
            await change(range(100, 101))
            await change(range(8, 20))
            await world.sleep(15.0)
            if compacts:
                await store.ask(Compact(elsewhere.revision))
            world.network.heal()
            await change(range(20, 27))
            with world.deadline(30.0):
                await here.reach(elsewhere.revision)
            assert contents(here) == contents(elsewhere)
            assert {name: revision for name, (_, revision) in seen.items()} == contents(here)
            assert (here.cache(CONFIG_MAPS).oldest > 8) == compacts, "a restart is no history"
            restarts = [status.restarts for status in system.statistics()]
            assert restarts == [0] * len(restarts)

    SimWorld(seed, Shuffled(seed) if seed else None).run(main)


def contents(registry: Registry) -> dict[str, int]:
    entries: Any = registry.cache(CONFIG_MAPS).list(Interest())
    return {entry.name: entry.revision for entry in entries}
