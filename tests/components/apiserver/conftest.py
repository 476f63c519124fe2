"""A registry on a store in memory, in a simulated world: what the parts of the API server stand on."""

import importlib.util
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from attrs import define

from understudy.actors import Actor, ActorSystem, SimWorld
from understudy.components.apiserver.admission import Attributes, Plugin
from understudy.components.apiserver.context import UserInfo
from understudy.components.apiserver.encoding import Stored
from understudy.components.apiserver.registry import Registry
from understudy.components.machinery.api import ApiServing, Object
from understudy.components.machinery.resources import Resource, for_kind
from understudy.raftstore.memory import memory_store

SOMEBODY = UserInfo("somebody", ("system:authenticated",))


class _Holder(Actor[ApiServing]):
    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    async def on_start(self) -> None:
        self.context.start_soon(self.registry.follow, self.context, name="watch cache")


@define(eq=False)
class Stage:
    """What a test writes to and asks."""

    world: SimWorld
    registry: Registry

    async def store(self, *objects: Object) -> list[Stored]:
        """Store objects as they are, and wait until the cache has them."""
        kept = []
        for obj in objects:
            metadata = {"creationTimestamp": "2026-01-01T00:00:00Z", **obj["metadata"]}
            metadata.setdefault("uid", self.world.uuid("test"))
            kept.append(await self.registry.create(resource_of(obj), {**obj, "metadata": metadata}))
        await self.registry.fresh()
        return kept

    async def remove(self, obj: Object) -> None:
        """Delete an object, and wait until it is gone from the cache."""
        metadata = obj["metadata"]
        current = await self.registry.live(resource_of(obj), metadata.get("namespace", ""), metadata["name"])
        assert current is not None and await self.registry.remove(current) is not None
        await self.registry.fresh()

    async def write(
        self,
        plugin: Plugin,
        obj: Object | None,
        old: Object | None = None,
        *,
        user: UserInfo = SOMEBODY,
        subresource: str = "",
        operation: str = "",
        dry_run: bool = False,
    ) -> Attributes:
        """Let a plugin see a write; the attributes hold what it made of the object. Raises ApiError."""
        given = obj if obj is not None else old
        assert given is not None
        attributes = Attributes(
            operation or ("CREATE" if old is None else "UPDATE" if obj is not None else "DELETE"),
            resource_of(given),
            subresource,
            given["metadata"].get("namespace", ""),
            given["metadata"]["name"],
            obj,
            old,
            user,
            dry_run,
            [],
        )
        await plugin.admit(attributes, self.registry)
        await plugin.validate(attributes, self.registry)
        return attributes


def resource_of(obj: Object) -> Resource:
    """The resource of an object."""
    resource = for_kind(obj["apiVersion"], obj["kind"])
    assert resource is not None, obj
    return resource


Perform = Callable[[Callable[[Stage], Awaitable[Any]]], Any]


@pytest.fixture
def perform() -> Perform:
    """Runs a test's main function with a `Stage`, in virtual time."""

    def run(main: Callable[[Stage], Awaitable[Any]]) -> Any:
        async def body(world: SimWorld) -> Any:
            async with ActorSystem.open(world) as system:
                registry = Registry(system.spawn(memory_store(), "store"), world)
                system.spawn(lambda: _Holder(registry), "holder")
                await registry.ready()
                return await main(Stage(world, registry))

        return SimWorld(seed=1).run(body)

    return run


@pytest.fixture(scope="session")
def replaying() -> ModuleType:
    """The module tests/golden/replaying.py, which is no test and belongs to no package."""
    path = Path(__file__).resolve().parents[2] / "golden" / "replaying.py"
    spec = importlib.util.spec_from_file_location("golden_replaying", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
