"""Pod address ranges of nodes, cut from the cluster's. Pure."""

from ipaddress import IPv4Network, IPv6Network, ip_network

from attrs import define, field

Network = IPv4Network | IPv6Network


class RangeExhausted(Exception):
    """Every range is taken: enlarge cluster_cidr or node_cidr_mask_size."""


@define
class RangeAllocator:
    """Equal ranges of one network, lowest free first after the last given, as the real allocator does."""

    cluster: Network = field(converter=ip_network)
    prefix_length: int
    _taken: set[int] = field(factory=set)
    _next: int = 0

    def __attrs_post_init__(self) -> None:
        assert self.cluster.prefixlen <= self.prefix_length, (self.cluster, self.prefix_length)

    @property
    def size(self) -> int:
        """How many ranges there are."""
        return 1 << (self.prefix_length - self.cluster.prefixlen)

    def allocate(self) -> str:
        """A free range. Raises RangeExhausted."""
        for offset in range(self.size):
            index = (self._next + offset) % self.size
            if index not in self._taken:
                self._taken.add(index)
                self._next = (index + 1) % self.size
                return self._text(index)
        raise RangeExhausted(f"no free /{self.prefix_length} in {self.cluster}")

    def occupy(self, cidr: str) -> None:
        """Note that a range is in use; ranges outside the cluster's network are none of ours."""
        self._taken.update(self._indexes(cidr))

    def release(self, cidr: str) -> None:
        """Give a range back."""
        self._taken.difference_update(self._indexes(cidr))

    def _text(self, index: int) -> str:
        step = self.cluster.max_prefixlen - self.prefix_length
        start = self.cluster.network_address + (index << step)
        return f"{start}/{self.prefix_length}"

    def _indexes(self, cidr: str) -> range:
        network = ip_network(cidr, strict=False)
        if network.version != self.cluster.version or not self.cluster.overlaps(network):
            return range(0)
        step = self.cluster.max_prefixlen - self.prefix_length
        base = int(self.cluster.network_address)
        first = max(0, (int(network.network_address) - base) >> step)
        last = min(self.size - 1, (int(network.broadcast_address) - base) >> step)
        return range(first, last + 1)
