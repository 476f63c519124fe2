"""`understudy store snapshot restore`: folders for the members of a new cluster that begins from a snapshot.

A real adapter: it reads the snapshot and writes the folders. Flags are `etcdctl snapshot restore`'s, besides
`--members` for a cluster that is one process.
"""

import hashlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .folders import make_folder, member_folders, named_below, run_on_folder

if TYPE_CHECKING:
    from understudy.raftstore.etcd.configuration import EtcdConfig
    from understudy.raftstore.messages import Snapshot
    from understudy.raftstore.storage.cluster import ClusterMember
    from understudy.raftstore.wal.snapshot_format import SnapshotReader

TOKEN = "etcd-cluster"
PEER_URL = "http://localhost:2380"
"""Defaults of `understudy etcd`."""
BBOLT_MAGIC = bytes.fromhex("ed0cdaed")[::-1]
"""What a real etcd saves has this in its first page, ..."""
BBOLT_MAGIC_AT = 16
"""... behind the head that each page has."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--data-dir", default="", help="Where to make the folders; NAME.etcd unless given.")
@click.option("--members", type=click.IntRange(1, 9), default=3, help="Of a cluster that is one process.")
@click.option("--name", default="default", help="Name of this member, of several processes.")
@click.option("--initial-cluster", default="", help="NAME=URL,... of all members: a process for each.")
@click.option("--initial-advertise-peer-urls", default=PEER_URL, help="Where other members come.")
@click.option("--initial-cluster-token", "--token", "token", default=TOKEN, help="Names the new cluster.")
@click.option(
    "--skip-hash-check",
    type=click.BOOL,
    is_flag=False,
    flag_value="true",
    default=False,
    help="Take a file whose SHA-256 is wrong; its checksums must be right all the same.",
)
def restore(
    file: Path,
    data_dir: str,
    members: int,
    name: str,
    initial_cluster: str,
    initial_advertise_peer_urls: str,
    token: str,
    skip_hash_check: bool,
) -> int:
    """Make the folders of a new cluster that begins from a snapshot, with the same keys and revisions.

    For a cluster that is one process this is all: `understudy etcd --data-dir DIR` goes on from there. With
    --initial-cluster it makes the folder of one member: run it on each machine, with the same file, token and
    --initial-cluster, then start each member with the same flags. Members of the old cluster are not let in.
    """
    from understudy.raftstore.etcd.configuration import EtcdConfig

    config = EtcdConfig(
        name=name,
        data_dir=data_dir,
        members=members,
        initial_cluster=initial_cluster,
        initial_advertise_peer_urls=initial_advertise_peer_urls,
        initial_cluster_token=token,
    )
    return run_on_folder(lambda: _make(file, config, not skip_hash_check))


async def _make(file: Path, config: "EtcdConfig", check_digest: bool) -> int:
    from understudy.actors.real_disk import RealDisk
    from understudy.actors.startup import StartError
    from understudy.raftstore.founding import local_founders
    from understudy.raftstore.wal.disklog import DiskLog
    from understudy.raftstore.wal.folder import Identity
    from understudy.raftstore.wal.logs import cluster_id, restored_state

    config.check()
    founders = local_founders(config.members) if config.alone else config.founders()
    there = member_folders(Path(config.folder))
    if there:
        raise StartError(f"{there[0]} exists already", "name another folder")
    found, _ = await read_saved(file, check_digest)
    state = restored_state(found, founders)
    # Nobody comes from elsewhere to the members of one process.
    cluster = cluster_id(config.initial_cluster_token, "" if config.alone else origin(file, founders))
    folder = Path(config.folder)
    make_folder(folder)
    for member in founders:
        if not config.alone and member.name != config.name:
            continue
        place = f"member-{member.id}"
        log = DiskLog(RealDisk(folder), place, Identity(cluster, member.id), state)
        with named_below(folder):
            await log.open()
            await log.close()
        click.echo(f"{folder / place}: begins from entry {found.index}, in cluster {cluster:016x}")
    click.echo(f"start it: {shlex.join(['understudy', 'etcd', *_flags(config)])}")
    return 0


async def read_saved(file: Path, check_digest: bool = True) -> "tuple[Snapshot, SnapshotReader]":
    """What `etcdctl snapshot save` got from this store, and what its reader learnt.

    Raises:
        Damaged: it is not as it was written.
        FolderRefused: it is not there, or what a real etcd saves.
    """
    from understudy.actors.real_disk import RealDisk
    from understudy.raftstore.wal.errors import FolderRefused
    from understudy.raftstore.wal.saved_snapshots import read_saved_snapshot

    disk = RealDisk(file.parent)
    with named_below(file.parent):
        async with await disk.open(file.name) as opened:
            head = await opened.read(BBOLT_MAGIC_AT, len(BBOLT_MAGIC))
        if head == BBOLT_MAGIC:
            raise FolderRefused(
                file.name, "this is what a real etcd saves", "`etcdctl snapshot status|restore` open it"
            )
        return await read_saved_snapshot(disk, file.name, check_digest)


def origin(file: Path, founders: "Sequence[ClusterMember]") -> str:
    """What makes a restored cluster another one than any before: the file and its members, so that all
    machines come to the same."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return " ".join([digest, *(f"{each.name}={','.join(each.peer_urls)}" for each in founders)])


def _flags(config: "EtcdConfig") -> list[str]:
    """What the restored member is started with, besides where it listens."""
    given = {
        "--name": (config.name, "default"),
        "--data-dir": (config.folder, ""),
        "--members": (str(config.members), "3"),
        "--initial-cluster": (config.initial_cluster, ""),
        "--initial-advertise-peer-urls": (config.initial_advertise_peer_urls, PEER_URL),
        "--initial-cluster-token": (config.initial_cluster_token, TOKEN),
    }
    return [word for flag, (value, default) in given.items() if value != default for word in (flag, value)]
