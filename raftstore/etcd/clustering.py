"""The Cluster service: who belongs to the group; and who is to lead it."""

from typing import TYPE_CHECKING, Any

from attrs import define

from understudy.raftstore.storage.cluster import (
    ClusterMember,
    MemberAdd,
    MemberList,
    MemberPromote,
    MemberRemove,
    MemberUpdate,
    MoveLeader,
)

from .calls import Call
from .errors import BAD_TRANSFEREE, MEMBER_BAD_URLS, NOT_LEADER
from .grpc import RpcError
from .schema import messages

if TYPE_CHECKING:
    from .service import EtcdService, Handler

URL_SCHEMES = ("http://", "https://", "unix://", "unixs://")


def member_to(member: ClusterMember) -> Any:
    return messages.Member(
        ID=member.id,
        name=member.name,
        peerURLs=member.peer_urls,
        clientURLs=member.client_urls,
        isLearner=member.is_learner,
    )


@define
class Clustering:
    service: "EtcdService"

    @property
    def unary(self) -> "dict[str, Handler]":
        return {
            "/etcdserverpb.Cluster/MemberAdd": self._add,
            "/etcdserverpb.Cluster/MemberRemove": self._remove,
            "/etcdserverpb.Cluster/MemberUpdate": self._update,
            "/etcdserverpb.Cluster/MemberPromote": self._promote,
            "/etcdserverpb.Cluster/MemberList": self._list,
            "/etcdserverpb.Maintenance/MoveLeader": self._move_leader,
        }

    async def _add(self, request: Any, call: Call) -> Any:
        urls = _peer_urls(request)
        reply = await self.service.ask(MemberAdd(urls, request.isLearner), call)
        return messages.MemberAddResponse(
            header=self.service.header(reply.revision),
            member=member_to(reply.member),
            members=[member_to(each) for each in reply.members],
        )

    async def _remove(self, request: Any, call: Call) -> Any:
        reply = await self.service.ask(MemberRemove(request.ID), call)
        return messages.MemberRemoveResponse(**self._members(reply))

    async def _update(self, request: Any, call: Call) -> Any:
        reply = await self.service.ask(MemberUpdate(request.ID, _peer_urls(request)), call)
        return messages.MemberUpdateResponse(**self._members(reply))

    async def _promote(self, request: Any, call: Call) -> Any:
        reply = await self.service.ask(MemberPromote(request.ID), call)
        return messages.MemberPromoteResponse(**self._members(reply))

    async def _list(self, request: Any, call: Call) -> Any:
        # Everybody may know where the members are: etcd's clients ask when they look for another endpoint.
        reply = await self.service.ask(MemberList(request.linearizable))
        return messages.MemberListResponse(**self._members(reply))

    def _members(self, reply: Any) -> dict[str, Any]:
        return {
            "header": self.service.header(reply.revision),
            "members": [member_to(each) for each in reply.members],
        }

    async def _move_leader(self, request: Any, call: Call) -> Any:
        leadership = await self.service.follow()
        if leadership.leader and leadership.leader != leadership.member:
            raise RpcError(*NOT_LEADER)
        if not request.targetID:
            raise RpcError(*BAD_TRANSFEREE)
        reply = await self.service.ask(MoveLeader(request.targetID), call)
        # Headers are to tell the new term from here on.
        await self.service.follow()
        return messages.MoveLeaderResponse(header=self.service.header(reply.revision))


def _peer_urls(request: Any) -> tuple[str, ...]:
    urls = tuple(request.peerURLs)
    if not urls or not all(url.startswith(URL_SCHEMES) for url in urls):
        raise RpcError(*MEMBER_BAD_URLS)
    return urls
