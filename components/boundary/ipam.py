"""Address management of the pod network: a block for each node, an address for each sandbox.

`NodeCidrs` is the cluster's side (`--cluster-cidr`, `--node-cidr-mask-size`); `PodAddresses` is the node's
side and behaves as the `host-local` plugin: addresses are handed out in order and one that was given back
is not given out again before the others had their turn, so that a stale connection meets nobody. Errors
are the plugin's. State is small and can be rebuilt with `hold` from what exists.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network

from attrs import Factory, define, field

from understudy.components.boundary.cni import CniCode, CniError, IPConfig


def _network(cidr: str) -> IPv4Network:
    network = ip_network(cidr)
    assert isinstance(network, IPv4Network), cidr
    return network


@define(eq=False)
class PodAddresses:
    """The addresses of one node's pod CIDR. The first is the node's own, the gateway."""

    network: IPv4Network = field(converter=_network)
    _by_owner: dict[str, int] = Factory(dict)
    """Sandbox id to offset in the network."""
    _taken: dict[int, str] = Factory(dict)
    _last: int = 1
    """The offset given out last."""

    @property
    def gateway(self) -> str:
        return str(self.network[1])

    @property
    def capacity(self) -> int:
        """How many sandboxes fit: all but network, gateway and broadcast address."""
        return max(0, self.network.num_addresses - 3)

    @property
    def in_use(self) -> int:
        return len(self._by_owner)

    def owner_of(self, address: str) -> str | None:
        """The sandbox that has an address."""
        parsed = ip_address(address)
        if not isinstance(parsed, IPv4Address) or parsed not in self.network:
            return None
        return self._taken.get(int(parsed) - int(self.network.network_address))

    def address_of(self, owner: str) -> IPConfig | None:
        """What a sandbox has."""
        offset = self._by_owner.get(owner)
        return None if offset is None else self._config(offset)

    def allocate(self, owner: str) -> IPConfig:
        """The next free address, for a sandbox that has none. Raises CniError: twice, or exhausted."""
        if owner in self._by_owner:
            held = self.network[self._by_owner[owner]]
            raise CniError(
                CniCode.INTERNAL, f"{held} has been allocated to {owner}, duplicate allocation is not allowed"
            )
        for offset in self._candidates():
            if offset not in self._taken:
                self._take(owner, offset)
                self._last = offset
                return self._config(offset)
        first, last = self.network[1], self.network[-2]
        raise CniError(
            CniCode.INTERNAL,
            "failed to allocate for range 0",
            f"no IP addresses available in range set: {first}-{last}",
        )

    def hold(self, owner: str, address: str) -> None:
        """Note an address that a sandbox already has, when the state is rebuilt."""
        offset = int(ip_address(address)) - int(self.network.network_address)
        assert 2 <= offset < self.network.num_addresses - 1, (address, self.network)
        assert self._taken.get(offset, owner) == owner, (address, self._taken[offset], owner)
        assert self._by_owner.get(owner, offset) == offset, (owner, address)
        self._take(owner, offset)

    def release(self, owner: str) -> None:
        """Give an address back; nothing to do for a sandbox that has none, as DEL demands."""
        offset = self._by_owner.pop(owner, None)
        if offset is not None:
            del self._taken[offset]

    def _candidates(self) -> Iterator[int]:
        """Every assignable offset, from the one after the last, going round."""
        yield from range(self._last + 1, self.network.num_addresses - 1)
        yield from range(2, min(self._last + 1, self.network.num_addresses - 1))

    def _take(self, owner: str, offset: int) -> None:
        self._by_owner[owner] = offset
        self._taken[offset] = owner

    def _config(self, offset: int) -> IPConfig:
        return IPConfig(f"{self.network[offset]}/{self.network.prefixlen}", self.gateway)


class CidrsExhausted(Exception):
    """The cluster CIDR has no block left for another node."""


@define(eq=False)
class NodeCidrs:
    """Hands each node a block of the cluster CIDR, the lowest free one first."""

    cluster_cidr: IPv4Network = field(converter=_network)
    node_mask_bits: int = 24
    _by_node: dict[str, IPv4Network] = Factory(dict)
    _taken: dict[IPv4Network, str] = Factory(dict)

    def __attrs_post_init__(self) -> None:
        assert self.cluster_cidr.prefixlen <= self.node_mask_bits, (self.cluster_cidr, self.node_mask_bits)

    def allocate(self, node: str) -> str:
        """The node's block, a new one if it has none. Raises CidrsExhausted."""
        if node in self._by_node:
            return str(self._by_node[node])
        for block in self.cluster_cidr.subnets(new_prefix=self.node_mask_bits):
            if block not in self._taken:
                self._by_node[node] = block
                self._taken[block] = node
                return str(block)
        raise CidrsExhausted(
            f"no /{self.node_mask_bits} is left in the cluster CIDR {self.cluster_cidr} for node {node}: "
            f"all {len(self._taken)} are in use; use a larger --cluster-cidr or --node-cidr-mask-size"
        )

    def hold(self, node: str, cidr: str) -> None:
        """Note the block that a node already has."""
        block = _network(cidr)
        assert self._taken.get(block, node) == node, (cidr, self._taken[block], node)
        self.release(node)
        self._by_node[node] = block
        self._taken[block] = node

    def release(self, node: str) -> None:
        """The node is gone; nothing to do if it had no block."""
        block = self._by_node.pop(node, None)
        if block is not None:
            del self._taken[block]
