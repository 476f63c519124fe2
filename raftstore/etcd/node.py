"""One member of a cluster as a process of its own: its way to the others, and which member it is.

A founder's number is its place among the names of `--initial-cluster`. Who joins a running cluster was let in
by `member add` first, and asks there which number belongs to its peer URL, and which cluster it is. Whoever
has a folder is who that folder says.
"""

import ssl
from contextlib import AsyncExitStack
from typing import Any

import trio
from attrs import evolve

from understudy.actors import ActorSystem, Ref
from understudy.actors.remote import AddressError, ConnectFailed, Remote
from understudy.actors.remote.network import Tls
from understudy.actors.startup import StartError
from understudy.mailbox import Refusal
from understudy.raftstore.founding import founding_state
from understudy.raftstore.group import raft_node
from understudy.raftstore.membership import WhichCluster
from understudy.raftstore.ready import PersistentState
from understudy.raftstore.remote_peers import RemotePeers, remote_address
from understudy.raftstore.storage import Storage
from understudy.raftstore.storage.cluster import ClusterMember, MemberList
from understudy.raftstore.wal.folder import Identity
from understudy.raftstore.wal.logs import DiskLogs, cluster_id

from .configuration import EtcdConfig, parse_urls
from .listening import load_pem

GROUP = "etcd"
"""The name of the store's actor at every node."""
ASK_SECONDS = 5.0


def peer_tls(config: EtcdConfig) -> Tls | None:
    """Mutual TLS among members; None for none. Raises StartError."""
    if not config.peer_cert_file:
        return None
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    for context in (server, client):
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        load_pem(context, config.peer_cert_file, config.peer_key_file, config.peer_trusted_ca_file)
    return Tls(server, client)


async def start_node(
    config: EtcdConfig,
    stack: AsyncExitStack,
    nursery: trio.Nursery,
    system: ActorSystem,
    logs: DiskLogs,
    owner: Identity | None,
) -> tuple[Ref[Storage], int]:
    """Start one member; `owner` is whose log the folder holds, None for nobody's. Returns its store, and the
    cluster's id.

    Raises:
        StartError: its peer address cannot be had, or no cluster knows this member.
    """
    founders = config.founders()
    (listen, *_) = parse_urls(config.listen_peer_urls, "--listen-peer-urls")
    try:
        node = await stack.enter_async_context(
            Remote.listen(system, remote_address(str(listen)), name=config.name, tls=peer_tls(config))
        )
    except AddressError as error:
        raise StartError(f"--listen-peer-urls: {error}", "choose another address or port") from error
    except ValueError as error:
        raise StartError(f"--name: {error}") from error
    known: tuple[ClusterMember, ...] = ()
    state = PersistentState.joining()
    if config.initial_cluster_state == "new":
        known = founders
        state = founding_state(founders, config.group_options().member.store)
        if owner is None:
            number = next(each.id for each in founders if each.name == config.name)
            owner = Identity(cluster_id(config.initial_cluster_token), number)
    elif owner is None:
        cluster, known = await _members_of(node, config, founders)
        owner = Identity(cluster, number_in(config, known))
    # Who was there before is told by its log where the others are.
    peers = RemotePeers(node, owner.member, GROUP, owner.cluster)
    peers.learn(known)
    nursery.start_soon(peers.run)
    client_urls = tuple(str(url) for url in config.advertised_urls())
    factory = raft_node(
        owner.member,
        peers,
        evolve(logs, cluster=owner.cluster).log,
        state,
        name=config.name,
        client_urls=client_urls,
        options=config.group_options(),
        cluster=owner.cluster,
    )
    return system.spawn(factory, GROUP), owner.cluster


async def _members_of(
    node: Remote, config: EtcdConfig, known: tuple[ClusterMember, ...]
) -> tuple[int, tuple[ClusterMember, ...]]:
    """The cluster's id and list of members, from whoever of the known ones answers. Raises StartError."""
    reasons: list[str] = []
    for member in known:
        if member.name == config.name:
            continue
        for url in member.peer_urls:
            try:
                peer = await node.connect(remote_address(url), ASK_SECONDS)
                store: Ref[Any] = peer.ref(f"/{GROUP}", Storage)
                cluster: int = await store.ask(WhichCluster(), ASK_SECONDS)
                members: tuple[ClusterMember, ...] = (await store.ask(MemberList(), ASK_SECONDS)).members
            except (ConnectFailed, Refusal) as error:
                reasons.append(f"{member.name} ({url}): {error}")
            else:
                return cluster, members
    raise StartError(
        f"nobody of --initial-cluster tells who belongs to it: {'; '.join(reasons) or 'it names none'}",
        "start the others first; for a new cluster say --initial-cluster-state new",
    )


def number_in(config: EtcdConfig, members: tuple[ClusterMember, ...]) -> int:
    """The number under which a running cluster expects this member. Raises StartError."""
    own = {str(url) for url in config.cluster()[config.name]}
    for member in members:
        if own & set(member.peer_urls):
            return member.id
    raise StartError(
        f"the cluster expects no member at {', '.join(sorted(own))}",
        f"say there first: etcdctl member add {config.name} --peer-urls={sorted(own)[0]}",
    )
