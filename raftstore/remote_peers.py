"""Members in other processes: a connection to each, made from its peer URLs, and again when it is lost."""

import logging
from typing import Final

from attrs import define, field

from understudy.actors import Ref, Signal
from understudy.actors.remote import ConnectFailed, Peer, Remote
from understudy.mailbox import Refusal
from understudy.raftstore.membership import Membership, WhichCluster
from understudy.raftstore.storage import Storage
from understudy.raftstore.storage.cluster import ClusterMember

log = logging.getLogger("understudy.raftstore")

CONNECT_SECONDS: Final = 2.0
"""One attempt at one address."""
ASK_SECONDS: Final = 2.0
"""Who is there says which cluster it belongs to within this time."""
AGAIN_SECONDS: Final = 0.2
"""Between attempts."""


def remote_address(url: str) -> str:
    """The address of a node, from a peer URL as etcd has it: `http(s)://HOST:PORT` is `tcp://HOST:PORT`.

    Whether there is TLS is for the node to say, not for the URL.
    """
    for scheme in ("http://", "https://"):
        if url.startswith(scheme):
            return "tcp://" + url.removeprefix(scheme).rstrip("/")
    return url


@define(eq=False)
class RemotePeers:
    """`Peers` over remoting. Run `run` in a task for as long as the member lives.

    Every node has its group's actor under the same name; its member is the child `member-ID`. A newcomer has
    to be told (`learn`) who is there, as etcd's `--initial-cluster` does; the log tells everything later. Who
    was taken out stays known: it may have to be told. One of a member's addresses is used at
    a time. Nobody of another cluster is ever told anything, whatever its number and address.
    """

    node: Remote
    member: int
    """The own one, to whom no connection is needed."""
    group: str = "etcd"
    """The name of the group's actor at every node."""
    cluster: int = 0
    """The id of the own cluster."""
    _addresses: dict[int, tuple[str, ...]] = field(factory=dict)
    """Of each other member: at least one."""
    _peers: dict[int, Peer] = field(factory=dict)
    """Those that there is a connection to."""
    _changed: Signal = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._changed = self.node.world.signal(f"peers of member {self.member}")

    def get(self, member: int) -> Ref[Membership] | None:
        peer = self._peers.get(member)
        return peer.ref(f"/{self.group}/member-{member}", Membership) if peer is not None else None

    def learn(self, members: tuple[ClusterMember, ...]) -> None:
        for member in members:
            if member.id != self.member and member.peer_urls:
                addresses = tuple(remote_address(url) for url in member.peer_urls)
                if self._addresses.get(member.id) != addresses:
                    self._addresses[member.id] = addresses
                    self._changed.set()

    async def run(self) -> None:
        """Keep connections to all members, until cancelled."""
        kept: dict[int, tuple[str, ...]] = {}
        async with self.node.world.nursery() as nursery:
            while True:
                for member, addresses in self._addresses.items():
                    if kept.get(member) != addresses:
                        kept[member] = addresses
                        nursery.start_soon(self._keep, member, addresses, name=f"way to member {member}")
                await self._changed.wait()

    async def _keep(self, member: int, addresses: tuple[str, ...]) -> None:
        """Have a connection to a member for as long as these are its addresses."""
        world, turn, strangers = self.node.world, 0, 0
        while self._addresses[member] == addresses:
            address = addresses[turn % len(addresses)]
            try:
                peer = await self.node.connect(address, CONNECT_SECONDS)
                there: Ref[Storage] = peer.ref(f"/{self.group}", Storage)
                cluster = await there.ask(WhichCluster(), ASK_SECONDS)
                if self._addresses[member] != addresses:
                    return
                if cluster == self.cluster:
                    self._peers[member] = peer
                    await peer.wait(connected=False)
                    continue  # It may well be back there first.
                if cluster != strangers:
                    strangers = cluster
                    log.warning(
                        "member %d is not at %s: who is there belongs to cluster %016x, and not to %016x",
                        member,
                        address,
                        cluster,
                        self.cluster,
                    )
            except (ConnectFailed, Refusal) as error:
                log.debug("member %d cannot be reached at %s: %s", member, address, error)
            finally:
                if self._addresses[member] == addresses:
                    self._peers.pop(member, None)
            turn += 1
            await world.sleep(AGAIN_SECONDS, f"member {member} cannot be reached")
