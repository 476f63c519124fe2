"""Which method answers which request of the Storage contract, and how the two are turned into each other."""

from collections.abc import Callable
from typing import Any, Final

from attrs import frozen

from understudy.raftstore import storage
from understudy.raftstore.storage import cluster

from .authority import PERMISSION_TYPES
from .maintaining import ALARM_ACTIONS, ALARM_TYPES
from .schema import messages
from .translation import (
    delete_reply,
    delete_request,
    put_reply,
    put_request,
    range_reply,
    range_request,
    txn_reply,
    txn_request,
)


@frozen
class Route:
    path: str
    request: Callable[[Any], Any]
    """From the contract's request to protobuf's."""
    reply: Callable[[Any], Any]
    """From protobuf's response to the contract's reply."""


def _revision(response: Any) -> int:
    revision: int = response.header.revision
    return revision


def _auth_reply(response: Any) -> storage.AuthReply:
    return storage.AuthReply(_revision(response))


def _status_reply(response: Any) -> storage.StatusReply:
    return storage.StatusReply(
        revision=_revision(response),
        version=response.version,
        member=response.header.member_id,
        leader=response.leader,
        term=response.raftTerm,
        commit_index=response.raftIndex,
        applied_index=response.raftAppliedIndex,
        # The protocol tells it with HashKV only, which reads every key.
        compact_revision=0,
        size_bytes=response.dbSize,
        in_use_bytes=response.dbSizeInUse,
        is_learner=response.isLearner,
        errors=tuple(response.errors),
    )


def _time_to_live_reply(response: Any) -> storage.LeaseTimeToLiveReply:
    if response.TTL < 0:
        raise storage.LeaseNotFound(response.ID)
    return storage.LeaseTimeToLiveReply(
        _revision(response), response.ID, response.TTL, response.grantedTTL, tuple(response.keys)
    )


def _alarm_request(request: storage.Alarm) -> Any:
    return messages.AlarmRequest(
        action=ALARM_ACTIONS.index(request.action),
        memberID=request.member,
        alarm=ALARM_TYPES.index(request.alarm),
    )


def _alarm_reply(response: Any) -> storage.AlarmReply:
    alarms = [storage.AlarmMember(each.memberID, ALARM_TYPES[each.alarm]) for each in response.alarms]
    return storage.AlarmReply(_revision(response), tuple(alarms))


def _user_add(request: storage.UserAdd) -> Any:
    return messages.AuthUserAddRequest(
        name=request.name,
        password=request.password,
        options=messages.UserAddOptions(no_password=request.no_password),
    )


def _grant_permission(request: storage.RoleGrantPermission) -> Any:
    granted = request.permission
    if granted is None:
        return messages.AuthRoleGrantPermissionRequest(name=request.name)
    permission = messages.Permission(
        permType=PERMISSION_TYPES.index(granted.type), key=granted.key, range_end=granted.range_end
    )
    return messages.AuthRoleGrantPermissionRequest(name=request.name, perm=permission)


def _role_get_reply(response: Any) -> storage.RoleGetReply:
    permissions = [
        storage.Permission(PERMISSION_TYPES[each.permType], each.key, each.range_end)
        for each in response.perm
    ]
    return storage.RoleGetReply(_revision(response), tuple(permissions))


def _member(member: Any) -> cluster.ClusterMember:
    return cluster.ClusterMember(
        member.ID, member.name, tuple(member.peerURLs), tuple(member.clientURLs), member.isLearner
    )


def _members(response: Any) -> tuple[cluster.ClusterMember, ...]:
    return tuple(sorted(map(_member, response.members), key=lambda member: member.id))


def _members_reply(response: Any) -> cluster.MembersReply:
    return cluster.MembersReply(_revision(response), _members(response))


def _auth(name: str, request: Callable[[Any], Any], reply: Callable[[Any], Any] = _auth_reply) -> Route:
    return Route(f"/etcdserverpb.Auth/{name}", request, reply)


ROUTES: Final[dict[type, Route]] = {
    storage.Range: Route("/etcdserverpb.KV/Range", range_request, range_reply),
    storage.Put: Route("/etcdserverpb.KV/Put", put_request, put_reply),
    storage.DeleteRange: Route("/etcdserverpb.KV/DeleteRange", delete_request, delete_reply),
    storage.Txn: Route("/etcdserverpb.KV/Txn", txn_request, txn_reply),
    storage.Compact: Route(
        "/etcdserverpb.KV/Compact",
        # Physical: answered once what is forgotten is gone, so that hashes can be compared.
        lambda request: messages.CompactionRequest(revision=request.revision, physical=True),
        lambda response: storage.CompactReply(_revision(response)),
    ),
    storage.LeaseGrant: Route(
        "/etcdserverpb.Lease/LeaseGrant",
        lambda request: messages.LeaseGrantRequest(TTL=request.ttl_s, ID=request.id),
        lambda response: storage.LeaseGrantReply(_revision(response), response.ID, response.TTL),
    ),
    storage.LeaseRevoke: Route(
        "/etcdserverpb.Lease/LeaseRevoke",
        lambda request: messages.LeaseRevokeRequest(ID=request.id),
        lambda response: storage.LeaseRevokeReply(_revision(response)),
    ),
    storage.LeaseTimeToLive: Route(
        "/etcdserverpb.Lease/LeaseTimeToLive",
        lambda request: messages.LeaseTimeToLiveRequest(ID=request.id, keys=request.keys),
        _time_to_live_reply,
    ),
    storage.LeaseList: Route(
        "/etcdserverpb.Lease/LeaseLeases",
        lambda request: messages.LeaseLeasesRequest(),
        lambda response: storage.LeaseListReply(
            _revision(response), tuple(sorted(each.ID for each in response.leases))
        ),
    ),
    storage.Status: Route(
        "/etcdserverpb.Maintenance/Status", lambda request: messages.StatusRequest(), _status_reply
    ),
    storage.HashKV: Route(
        "/etcdserverpb.Maintenance/HashKV",
        lambda request: messages.HashKVRequest(revision=request.revision),
        lambda response: storage.HashKVReply(
            _revision(response), response.hash, max(0, response.compact_revision)
        ),
    ),
    storage.Hash: Route(
        "/etcdserverpb.Maintenance/Hash",
        lambda request: messages.HashRequest(),
        lambda response: storage.HashReply(_revision(response), response.hash),
    ),
    storage.Alarm: Route("/etcdserverpb.Maintenance/Alarm", _alarm_request, _alarm_reply),
    cluster.MemberList: Route(
        "/etcdserverpb.Cluster/MemberList",
        lambda request: messages.MemberListRequest(linearizable=request.linearizable),
        lambda response: cluster.MemberListReply(_revision(response), _members(response)),
    ),
    cluster.MemberAdd: Route(
        "/etcdserverpb.Cluster/MemberAdd",
        lambda request: messages.MemberAddRequest(peerURLs=request.peer_urls, isLearner=request.is_learner),
        lambda response: cluster.MemberAddReply(
            _revision(response), _member(response.member), _members(response)
        ),
    ),
    cluster.MemberRemove: Route(
        "/etcdserverpb.Cluster/MemberRemove",
        lambda request: messages.MemberRemoveRequest(ID=request.id),
        _members_reply,
    ),
    cluster.MemberUpdate: Route(
        "/etcdserverpb.Cluster/MemberUpdate",
        lambda request: messages.MemberUpdateRequest(ID=request.id, peerURLs=request.peer_urls),
        _members_reply,
    ),
    cluster.MemberPromote: Route(
        "/etcdserverpb.Cluster/MemberPromote",
        lambda request: messages.MemberPromoteRequest(ID=request.id),
        _members_reply,
    ),
    cluster.MoveLeader: Route(
        "/etcdserverpb.Maintenance/MoveLeader",
        lambda request: messages.MoveLeaderRequest(targetID=request.target),
        lambda response: cluster.MoveLeaderReply(_revision(response), 0),
    ),
    storage.AuthEnable: _auth("AuthEnable", lambda request: messages.AuthEnableRequest()),
    storage.AuthDisable: _auth("AuthDisable", lambda request: messages.AuthDisableRequest()),
    storage.AuthStatus: _auth(
        "AuthStatus",
        lambda request: messages.AuthStatusRequest(),
        lambda response: storage.AuthStatusReply(
            _revision(response), response.enabled, response.authRevision
        ),
    ),
    storage.Authenticate: _auth(
        "Authenticate",
        lambda request: messages.AuthenticateRequest(name=request.name, password=request.password),
        lambda response: storage.AuthenticateReply(_revision(response), response.token),
    ),
    storage.UserAdd: _auth("UserAdd", _user_add),
    storage.UserGet: _auth(
        "UserGet",
        lambda request: messages.AuthUserGetRequest(name=request.name),
        lambda response: storage.UserGetReply(_revision(response), tuple(response.roles)),
    ),
    storage.UserList: _auth(
        "UserList",
        lambda request: messages.AuthUserListRequest(),
        lambda response: storage.UserListReply(_revision(response), tuple(response.users)),
    ),
    storage.UserDelete: _auth(
        "UserDelete", lambda request: messages.AuthUserDeleteRequest(name=request.name)
    ),
    storage.UserChangePassword: _auth(
        "UserChangePassword",
        lambda request: messages.AuthUserChangePasswordRequest(name=request.name, password=request.password),
    ),
    storage.UserGrantRole: _auth(
        "UserGrantRole",
        lambda request: messages.AuthUserGrantRoleRequest(user=request.user, role=request.role),
    ),
    storage.UserRevokeRole: _auth(
        "UserRevokeRole",
        lambda request: messages.AuthUserRevokeRoleRequest(name=request.name, role=request.role),
    ),
    storage.RoleAdd: _auth("RoleAdd", lambda request: messages.AuthRoleAddRequest(name=request.name)),
    storage.RoleGet: _auth(
        "RoleGet", lambda request: messages.AuthRoleGetRequest(role=request.role), _role_get_reply
    ),
    storage.RoleList: _auth(
        "RoleList",
        lambda request: messages.AuthRoleListRequest(),
        lambda response: storage.RoleListReply(_revision(response), tuple(response.roles)),
    ),
    storage.RoleDelete: _auth(
        "RoleDelete", lambda request: messages.AuthRoleDeleteRequest(role=request.role)
    ),
    storage.RoleGrantPermission: _auth("RoleGrantPermission", _grant_permission),
    storage.RoleRevokePermission: _auth(
        "RoleRevokePermission",
        lambda request: messages.AuthRoleRevokePermissionRequest(
            role=request.role, key=request.key, range_end=request.range_end
        ),
    ),
}
"""The requests that are one call with one answer."""
