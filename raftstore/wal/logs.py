"""The logs of a whole group on disks."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from attrs import evolve, field, frozen

from understudy.actors import World
from understudy.actors.disk import Disk
from understudy.raftstore.cluster import ClusterState
from understudy.raftstore.configuration import Configuration
from understudy.raftstore.messages import HardState, Snapshot
from understudy.raftstore.ready import PersistentState
from understudy.raftstore.storage.cluster import ClusterMember
from understudy.raftstore.wal.disklog import DiskLog
from understudy.raftstore.wal.folder import Identity, inside
from understudy.raftstore.wal.segments import LogOptions

DEFAULT_TOKEN: Final = "understudy"


_ORIGIN_BITS: Final = 24
"""Of a cluster's id: they tell apart clusters with one token, restored from snapshots."""


def cluster_id(token: str, origin: str = "") -> int:
    """The id of the cluster with that token: members of clusters with other tokens refuse its folders.

    `origin` is what a restored cluster begins from; empty for one that began with nothing.
    """
    found = int.from_bytes(sha256(f"understudy raft cluster {token}".encode()).digest()[:8]) >> 1
    if not origin:
        return found
    restored = cluster_id(f"{token} restored from {origin}")
    return found >> _ORIGIN_BITS << _ORIGIN_BITS | restored & (1 << _ORIGIN_BITS) - 1


def has_token(cluster: int, token: str) -> bool:
    """Whether a cluster was founded, or restored, with that token."""
    return cluster >> _ORIGIN_BITS == cluster_id(token) >> _ORIGIN_BITS


def restored_state(snapshot: Snapshot, founders: Sequence[ClusterMember]) -> PersistentState:
    """The state in which the first members of a new group start that begins from another group's snapshot.

    The other group's list of members is dropped, and so is who was taken out of it: numbers are given anew.
    """
    founders = sorted(founders, key=lambda member: member.id)
    configuration = Configuration(voters=tuple([member.id for member in founders]))
    state = HardState(term=snapshot.term, commit_index=snapshot.index)
    data = snapshot.data
    if data is not None:
        data = evolve(data, cluster=ClusterState(tuple(founders)))
    return PersistentState(state, evolve(snapshot, configuration=configuration, data=data))


@frozen
class DiskLogs:
    """Where the members of a group keep their logs: each in the folder `FOLDER/member-N`."""

    folder: str = "etcd"
    """On the disk; empty for its root."""
    disk: Disk | None = None
    """The disk of all members; None: each member's host's own."""
    token: str = DEFAULT_TOKEN
    """Names the cluster, as etcd's `--initial-cluster-token` does."""
    options: LogOptions = field(factory=LogOptions)
    cluster: int = 0
    """The cluster's id; 0 for that of the token."""

    def log(self, world: World, host: str, member: int, bootstrap: PersistentState) -> DiskLog:
        """The log of one member; it is opened by the member."""
        disk = self.disk if self.disk is not None else world.disk(host)
        owner = Identity(self.cluster or cluster_id(self.token), member)
        folder = inside(self.folder, f"member-{member}")

        async def pause() -> None:
            await world.sleep(0.0, f"{folder} is long")

        return DiskLog(disk, folder, owner, bootstrap, self.options, pause)

    def logs(self, world: World, hosts: Sequence[str]) -> list[DiskLog]:
        """The logs of a group's first members, from 1 on, each on its host."""
        members = range(1, len(hosts) + 1)
        bootstrap = PersistentState.bootstrap(members)
        return [self.log(world, host, member, bootstrap) for member, host in zip(members, hosts, strict=True)]
