"""The Maintenance service, and gRPC's health service."""

import re
from typing import TYPE_CHECKING, Any, Final

from attrs import define

from understudy.actors import ActorStopped
from understudy.raftstore.saving import CAPACITY
from understudy.raftstore.storage import Alarm, AlarmAction, AlarmType, Hash, HashKV, OpenSnapshot, Status
from understudy.raftstore.storage.cluster import Leadership

from .calls import Call
from .errors import DOWNGRADE_FORMAT, INVALID_DOWNGRADE, NO_DOWNGRADE, NO_LEADER, STOPPED
from .grpc import Code, RpcError
from .schema import messages

if TYPE_CHECKING:
    from .service import EtcdService, Handler, StreamHandler

ALARM_ACTIONS: Final[tuple[AlarmAction, ...]] = ("get", "activate", "deactivate")
ALARM_TYPES: Final[tuple[AlarmType, ...]] = ("none", "nospace", "corrupt")
"""Each by its number in the protocol."""
_VERSION: Final = re.compile(r"\d+\.\d+(\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?)?")
"""As a downgrade names it: with or without a patch."""
_SERVING: Final = 1
_NOT_SERVING: Final = 2
_SERVICE_UNKNOWN: Final = 3


@define
class Maintaining:
    service: "EtcdService"

    @property
    def unary(self) -> dict[str, "Handler"]:
        return {
            "/etcdserverpb.Maintenance/Alarm": self._alarm,
            "/etcdserverpb.Maintenance/Status": self._status,
            "/etcdserverpb.Maintenance/HashKV": self._hash_kv,
            "/etcdserverpb.Maintenance/Hash": self._hash,
            "/etcdserverpb.Maintenance/Defragment": self._defragment,
            "/etcdserverpb.Maintenance/Downgrade": self._downgrade,
            "/grpc.health.v1.Health/Check": self._health,
        }

    @property
    def streams(self) -> dict[str, "StreamHandler"]:
        return {
            "/etcdserverpb.Maintenance/Snapshot": self._snapshot,
            "/grpc.health.v1.Health/Watch": self._watch_health,
        }

    async def _alarm(self, request: Any, call: Call) -> Any:
        if not (0 <= request.action < len(ALARM_ACTIONS) and 0 <= request.alarm < len(ALARM_TYPES)):
            raise RpcError(Code.INVALID_ARGUMENT, f"no alarm {request.alarm} or action {request.action}")
        alarm = Alarm(ALARM_ACTIONS[request.action], request.memberID, ALARM_TYPES[request.alarm])
        reply = await self.service.ask(alarm, call)
        return messages.AlarmResponse(
            header=self.service.header(reply.revision),
            alarms=[
                messages.AlarmMember(memberID=each.member, alarm=ALARM_TYPES.index(each.alarm))
                for each in reply.alarms
            ],
        )

    async def _status(self, request: Any, call: Call) -> Any:
        reply = await self.service.ask(Status())
        return messages.StatusResponse(
            header=self.service.header(reply.revision),
            version=reply.version,
            dbSize=reply.size_bytes,
            dbSizeInUse=reply.in_use_bytes,
            leader=reply.leader,
            raftIndex=reply.commit_index,
            raftTerm=reply.term,
            raftAppliedIndex=reply.applied_index,
            errors=reply.errors or ([] if reply.leader else [NO_LEADER[1]]),
            isLearner=reply.is_learner,
        )

    async def _hash_kv(self, request: Any, call: Call) -> Any:
        reply = await self.service.ask(HashKV(request.revision), call)
        return messages.HashKVResponse(
            header=self.service.header(reply.revision),
            hash=reply.hash & 0xFFFFFFFF,
            compact_revision=reply.compact_revision,
        )

    async def _hash(self, request: Any, call: Call) -> Any:
        reply = await self.service.ask(Hash(), call)
        return messages.HashResponse(header=self.service.header(reply.revision), hash=reply.hash & 0xFFFFFFFF)

    async def _snapshot(self, call: Call) -> None:
        await call.receive()
        writer, reader = self.service.open_channel("etcd snapshot", CAPACITY)
        try:
            await self.service.ask(OpenSnapshot(writer), call)
            async for part in reader:
                response = messages.SnapshotResponse(remaining_bytes=part.remaining_bytes, blob=part.data)
                await call.send(response)
        except ActorStopped:
            raise RpcError(*STOPPED) from None
        finally:
            reader.cancel()

    async def _defragment(self, request: Any, call: Call) -> Any:
        """There is no file with holes in it: the state is in memory, the log is cut by snapshots."""
        reply = await self.service.ask(Status(), call)
        return messages.DefragmentResponse(header=self.service.header(reply.revision))

    async def _downgrade(self, request: Any, call: Call) -> Any:
        """Nothing older can read what this store keeps: no version is one to go back to. In etcd's words."""
        match request.action:
            case 0 | 1:  # Validate, enable.
                known = _VERSION.fullmatch(request.version)
                raise RpcError(*(INVALID_DOWNGRADE if known else DOWNGRADE_FORMAT))
            case 2:  # Cancel.
                raise RpcError(*NO_DOWNGRADE)
            case _:
                raise RpcError(Code.UNKNOWN, "etcdserver: unknown method")

    async def _health(self, request: Any, call: Call) -> Any:
        _check_name(request)
        return _health_response(await self.service.follow())

    async def _watch_health(self, call: Call) -> None:
        """Say how it is now, and whenever that changes."""
        request = await call.receive()
        if request is None or request.service:
            # Unlike `Check`, it must not end the stream: such a service may come yet.
            await call.send(messages.HealthCheckResponse(status=_SERVICE_UNKNOWN))
            await self.service.world.event("a service that never comes").wait()
        await self.service.follow()
        while True:
            changed = self.service.led_changed
            await call.send(_health_response(self.service.leadership))
            await changed.wait()


def _check_name(request: Any) -> None:
    """The server as a whole has a health; nothing in it has one of its own."""
    if request.service:
        raise RpcError(Code.NOT_FOUND, "unknown service")


def _health_response(leadership: Leadership) -> Any:
    return messages.HealthCheckResponse(status=_SERVING if leadership.leader else _NOT_SERVING)
