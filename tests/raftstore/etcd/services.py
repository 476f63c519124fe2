"""The services over a store in virtual time, for tests: calls in memory, without a wire."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import define

from understudy.actors import ActorSystem, Ref, Shuffled, SimWorld, World
from understudy.raftstore.etcd.calls import ClientStream, LocalChannel
from understudy.raftstore.etcd.grpc import RpcError
from understudy.raftstore.etcd.schema import messages
from understudy.raftstore.etcd.service import EtcdService, ServiceOptions
from understudy.raftstore.memory import memory_store
from understudy.raftstore.storage import Storage

KV = "/etcdserverpb.KV/"


@define
class Served:
    world: World
    store: Ref[Storage]
    service: EtcdService
    channel: LocalChannel

    async def call(self, path: str, request: Any, **metadata: str) -> Any:
        return await self.channel.unary(path, request, 30.0, metadata)

    async def put(self, key: bytes, value: bytes = b"") -> int:
        response = await self.call(f"{KV}Put", messages.PutRequest(key=key, value=value))
        return int(response.header.revision)

    async def watch(self, **create: Any) -> ClientStream:
        stream = self.channel.stream("/etcdserverpb.Watch/Watch")
        await self.create(stream, **create)
        return stream

    async def create(self, stream: ClientStream, **create: Any) -> None:
        await stream.send(messages.WatchRequest(create_request=messages.WatchCreateRequest(**create)))


@asynccontextmanager
async def served(world: World, store: Any, options: ServiceOptions) -> AsyncIterator[Served]:
    async with ActorSystem.open(world) as system:
        ref: Ref[Storage] = system.spawn(store, "etcd")
        service = EtcdService(world, ref, system.own_channel, options)
        channel = LocalChannel(service, world)
        async with world.nursery() as nursery:
            nursery.start_soon(service.run)
            nursery.start_soon(channel.run)
            yield Served(world, ref, service, channel)
            nursery.cancel()


def play(
    scenario: Callable[[Served], Awaitable[None]],
    store: Any = None,
    options: ServiceOptions | None = None,
    schedule: int | None = None,
) -> None:
    async def main(world: World) -> None:
        async with served(world, store or memory_store(), options or ServiceOptions()) as s:
            with world.deadline(3600.0 * 24):
                await scenario(s)

    order = None if schedule is None else Shuffled(schedule)
    SimWorld(1, order, turns_max=300_000).run(main)


async def refusal(call: Awaitable[Any]) -> RpcError:
    with pytest.raises(RpcError) as refused:
        await call
    return refused.value
