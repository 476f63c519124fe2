"""The Lease service: grants, revocations, and streams of keep-alives."""

from typing import TYPE_CHECKING, Any

from attrs import define

from understudy.raftstore.storage import (
    LeaseGrant,
    LeaseKeepAlive,
    LeaseList,
    LeaseRevoke,
    LeaseTimeToLive,
)

from .calls import Call
from .errors import LEASE_NOT_FOUND
from .grpc import RpcError
from .schema import messages

if TYPE_CHECKING:
    from .service import EtcdService, Handler, StreamHandler


@define
class Leasing:
    service: "EtcdService"

    @property
    def unary(self) -> dict[str, "Handler"]:
        return {
            "/etcdserverpb.Lease/LeaseGrant": self._grant,
            "/etcdserverpb.Lease/LeaseRevoke": self._revoke,
            "/etcdserverpb.Lease/LeaseTimeToLive": self._time_to_live,
            "/etcdserverpb.Lease/LeaseLeases": self._leases,
        }

    @property
    def streams(self) -> dict[str, "StreamHandler"]:
        return {"/etcdserverpb.Lease/LeaseKeepAlive": self._keep_alive}

    async def _grant(self, request: Any, call: Call) -> Any:
        reply = await self.service.ask(LeaseGrant(request.TTL, request.ID), call)
        header = self.service.header(reply.revision)
        return messages.LeaseGrantResponse(header=header, ID=reply.id, TTL=reply.ttl_s)

    async def _revoke(self, request: Any, call: Call) -> Any:
        reply = await self.service.ask(LeaseRevoke(request.ID), call)
        return messages.LeaseRevokeResponse(header=self.service.header(reply.revision))

    async def _time_to_live(self, request: Any, call: Call) -> Any:
        try:
            reply = await self.service.ask(LeaseTimeToLive(request.ID, request.keys), call)
        except RpcError as error:
            if (error.code, error.message) != LEASE_NOT_FOUND:
                raise
            header = self.service.header(await self._revision())
            return messages.LeaseTimeToLiveResponse(header=header, ID=request.ID, TTL=-1)
        return messages.LeaseTimeToLiveResponse(
            header=self.service.header(reply.revision),
            ID=reply.id,
            TTL=reply.ttl_s,
            grantedTTL=reply.granted_ttl_s,
            keys=reply.keys,
        )

    async def _leases(self, request: Any, call: Call) -> Any:
        reply = await self.service.ask(LeaseList(), call)
        return messages.LeaseLeasesResponse(
            header=self.service.header(reply.revision),
            leases=[messages.LeaseStatus(ID=lease) for lease in reply.ids],
        )

    async def _keep_alive(self, call: Call) -> None:
        while (request := await call.receive()) is not None:
            try:
                reply = await self.service.ask(LeaseKeepAlive(request.ID), call)
            except RpcError as error:
                if (error.code, error.message) != LEASE_NOT_FOUND:
                    raise
                # A lease that is over has no time left; the stream goes on for the others.
                header = self.service.header(await self._revision())
                await call.send(messages.LeaseKeepAliveResponse(header=header, ID=request.ID, TTL=0))
                continue
            header = self.service.header(reply.revision)
            await call.send(messages.LeaseKeepAliveResponse(header=header, ID=reply.id, TTL=reply.ttl_s))

    async def _revision(self) -> int:
        revision: int = (await self.service.ask(LeaseList())).revision
        return revision
