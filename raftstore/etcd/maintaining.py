"""The Maintenance service, and gRPC's health service."""

from typing import TYPE_CHECKING, Any, Final

from attrs import define

from understudy.raftstore.storage import HashKV, Status

from .calls import Call
from .errors import INVALID_DOWNGRADE, NO_DOWNGRADE, NO_LEADER
from .grpc import RpcError
from .schema import messages

if TYPE_CHECKING:
    from .service import EtcdService, Handler, StreamHandler

_DOWNGRADE_CANCEL: Final = 2
_SERVING: Final = 1
_NOT_SERVING: Final = 2


@define
class Maintaining:
    service: "EtcdService"

    @property
    def unary(self) -> dict[str, "Handler"]:
        return {
            "/etcdserverpb.Maintenance/Status": self._status,
            "/etcdserverpb.Maintenance/HashKV": self._hash_kv,
            "/etcdserverpb.Maintenance/Hash": self._hash,
            "/etcdserverpb.Maintenance/Defragment": self._defragment,
            "/etcdserverpb.Maintenance/Downgrade": self._downgrade,
            "/grpc.health.v1.Health/Check": self._health,
        }

    @property
    def streams(self) -> dict[str, "StreamHandler"]:
        return {}

    async def _status(self, request: Any, call: Call) -> Any:
        reply = await self.service.ask(Status())
        self.service.status = reply
        return messages.StatusResponse(
            header=self.service.header(reply.revision),
            version=reply.version,
            dbSize=reply.size_bytes,
            dbSizeInUse=reply.size_bytes,
            leader=reply.leader,
            raftIndex=reply.commit_index,
            raftTerm=reply.term,
            raftAppliedIndex=reply.applied_index,
            errors=[] if reply.leader else [NO_LEADER[1]],
        )

    async def _hash_kv(self, request: Any, call: Call) -> Any:
        reply = await self.service.ask(HashKV(request.revision))
        return messages.HashKVResponse(
            header=self.service.header(reply.revision),
            hash=reply.hash & 0xFFFFFFFF,
            compact_revision=reply.compact_revision,
        )

    async def _hash(self, request: Any, call: Call) -> Any:
        reply = await self.service.ask(HashKV())
        return messages.HashResponse(header=self.service.header(reply.revision), hash=reply.hash & 0xFFFFFFFF)

    async def _defragment(self, request: Any, call: Call) -> Any:
        """There is no file with holes in it: the state is in memory, the log is cut by snapshots."""
        reply = await self.service.ask(Status())
        return messages.DefragmentResponse(header=self.service.header(reply.revision))

    async def _downgrade(self, request: Any, call: Call) -> Any:
        """There is one version of this store, and no older one to go back to."""
        raise RpcError(*(NO_DOWNGRADE if request.action == _DOWNGRADE_CANCEL else INVALID_DOWNGRADE))

    async def _health(self, request: Any, call: Call) -> Any:
        healthy = await self.service.look()
        return messages.HealthCheckResponse(status=_SERVING if healthy else _NOT_SERVING)
