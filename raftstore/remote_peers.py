"""Members in other processes: a connection to each, made from its peer URL and made again when it is lost."""

from typing import Final

from attrs import define, field

from understudy.actors import Ref, Signal
from understudy.actors.remote import ConnectFailed, Peer, PeerQuarantined, Remote
from understudy.raftstore.membership import Membership
from understudy.raftstore.storage.cluster import ClusterMember

CONNECT_SECONDS: Final = 2.0
"""One attempt."""
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
    was taken out stays known: it may have to be told.
    """

    node: Remote
    member: int
    """The own one, to whom no connection is needed."""
    group: str = "etcd"
    """The name of the group's actor at every node."""
    _addresses: dict[int, str] = field(factory=dict)
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
                address = remote_address(member.peer_urls[0])
                if self._addresses.get(member.id) != address:
                    self._addresses[member.id] = address
                    self._changed.set()

    async def run(self) -> None:
        """Keep connections to all members, until cancelled."""
        kept: dict[int, str] = {}
        async with self.node.world.nursery() as nursery:
            while True:
                for member, address in self._addresses.items():
                    if kept.get(member) != address:
                        kept[member] = address
                        nursery.start_soon(self._keep, member, address, name=f"way to member {member}")
                await self._changed.wait()

    async def _keep(self, member: int, address: str) -> None:
        """Have a connection to a member for as long as this is its address."""
        while self._addresses[member] == address:
            try:
                peer = await self.node.connect(address, CONNECT_SECONDS)
                self._peers[member] = peer
                await peer.wait(connected=False)
            except (ConnectFailed, PeerQuarantined):
                await self.node.world.sleep(AGAIN_SECONDS, f"member {member} cannot be reached")
            if self._addresses[member] == address:
                self._peers.pop(member, None)
