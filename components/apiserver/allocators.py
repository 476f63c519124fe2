"""Cluster IPs and node ports of Services: what is taken, what is free, and who asked for what.

The lower band of each range is left to explicit requests as long as the upper one has room (KEP-3070 for
addresses, KEP-3668 for ports), so that `clusterIP: 10.96.0.10` rarely meets an address that was drawn.
An allocation is a :class:`Reservation`: taken at once, so that two requests at the same time cannot get the
same, and then kept when the object is stored or given back when it is not. The Services are the truth:
`hold` each of them to rebuild the state.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Protocol

from attrs import Factory, define, field

from understudy.components.machinery.errors import FieldError, internal_error
from understudy.components.machinery.service_fields import (
    NEEDS_CLUSTER_IP,
    NEEDS_NODE_PORT,
    needs_health_check_port,
)

Object = dict[str, Any]
Spec = Mapping[str, Any]

DEFAULT_SERVICE_CIDR = "10.96.0.0/16"
DEFAULT_NODE_PORT_RANGE = (30000, 32767)


class Rng(Protocol):
    """What allocation asks of a source of randomness: `random.Random` has it."""

    def randrange(self, stop: int, /) -> int: ...


class RangeFull(Exception):
    """Every number of the range is taken."""


@define(eq=False)
class RangeAllocator:
    """Numbers 0 to size - 1, each taken at most once."""

    size: int
    static_size: int
    """Numbers below this one are drawn only when all others are taken."""
    _taken: set[int] = Factory(set)

    def __attrs_post_init__(self) -> None:
        assert 0 <= self.static_size <= self.size, (self.static_size, self.size)

    def take(self, number: int) -> bool:
        """Take this number; False when somebody has it."""
        assert 0 <= number < self.size, (number, self.size)
        if number in self._taken:
            return False
        self._taken.add(number)
        return True

    def draw(self, rng: Rng) -> int:
        """Take some free number: at random in the upper band, else in the lower. Raises RangeFull."""
        for low, high in ((self.static_size, self.size), (0, self.static_size)):
            width = high - low
            start = rng.randrange(width) if width else 0
            for step in range(width):
                number = low + (start + step) % width
                if self.take(number):
                    return number
        raise RangeFull

    def give_back(self, number: int) -> None:
        """The number is free again; nothing to do if it was."""
        self._taken.discard(number)

    def is_taken(self, number: int) -> bool:
        return number in self._taken

    @property
    def free(self) -> int:
        return self.size - len(self._taken)


@define(eq=False)
class AddressRange:
    """The cluster IPs of one family: all addresses of a network but its first, and for IPv4 its last."""

    network: IPv4Network | IPv6Network = field(converter=ip_network)
    numbers: RangeAllocator = field(init=False)

    def __attrs_post_init__(self) -> None:
        # At most 2**16 addresses are used of a large IPv6 network, as the bitmap allocator did.
        size = min(self.network.num_addresses - (2 if self.network.version == 4 else 1), 1 << 16)
        assert size > 0, f"the service CIDR {self.network} has no usable address"
        self.numbers = RangeAllocator(size, min(size, _static_band(size, 16, 256)))

    def take(self, address: str) -> str:
        """Take this address; a text that says why not, or empty."""
        number = self._number(address)
        if number is None:
            return "the provided network does not match the current range"
        return "" if self.numbers.take(number) else "provided IP is already allocated"

    def draw(self, rng: Rng) -> str:
        return str(self.network[self.numbers.draw(rng) + 1])

    def give_back(self, address: str) -> None:
        number = self._number(address)
        if number is not None:
            self.numbers.give_back(number)

    def _number(self, address: str) -> int | None:
        parsed = ip_address(address)
        if parsed.version != self.network.version or parsed not in self.network:
            return None
        number = int(parsed) - int(self.network.network_address) - 1
        return number if 0 <= number < self.numbers.size else None


@define(eq=False)
class PortRange:
    """The node ports, `--service-node-port-range`; both ends belong to it."""

    first: int = DEFAULT_NODE_PORT_RANGE[0]
    last: int = DEFAULT_NODE_PORT_RANGE[1]
    numbers: RangeAllocator = field(init=False)

    def __attrs_post_init__(self) -> None:
        size = self.last - self.first + 1
        self.numbers = RangeAllocator(size, min(size, _static_band(size, 32, 128)))

    def take(self, port: int) -> str:
        """Take this port; a text that says why not, or empty."""
        if not self.first <= port <= self.last:
            bounds = f"The range of valid ports is {self.first}-{self.last}"
            return f"provided port is not in the valid range. {bounds}"
        return "" if self.numbers.take(port - self.first) else "provided port is already allocated"

    def draw(self, rng: Rng) -> int:
        return self.first + self.numbers.draw(rng)

    def give_back(self, port: int) -> None:
        if self.first <= port <= self.last:
            self.numbers.give_back(port - self.first)


def _static_band(size: int, step: int, most: int) -> int:
    """`min(max(step, size / step), most)`, and nothing of a range that is smaller than that."""
    return 0 if size <= step else min(max(step, size // step), most)


def cluster_ips(spec: Spec) -> list[str]:
    """The cluster IPs that a Service holds."""
    if spec.get("type", "ClusterIP") not in NEEDS_CLUSTER_IP:
        return []
    listed = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    return [address for address in listed if address and address != "None"]


def node_ports(spec: Spec) -> list[int]:
    """The node ports that a Service holds, each once: two protocols may share one."""
    if spec.get("type", "ClusterIP") not in NEEDS_NODE_PORT:
        return []
    ports = [port.get("nodePort") or 0 for port in spec.get("ports") or ()]
    return list(dict.fromkeys([port for port in [*ports, spec.get("healthCheckNodePort") or 0] if port]))


@define(eq=False)
class Reservation:
    """What was taken for one request. Exactly one of `keep` and `give_back` must be called."""

    service: Object
    """The Service with everything allocated filled in."""
    _allocators: "ServiceAllocators"
    _new_ips: list[str] = Factory(list)
    _new_ports: list[int] = Factory(list)
    _old_ips: list[str] = Factory(list)
    """What the former state of the Service held and this one does not."""
    _old_ports: list[int] = Factory(list)
    _settled: bool = False

    def keep(self) -> None:
        """The Service was stored: what its former state no longer needs becomes free."""
        self._settle()
        self._allocators.free(self._old_ips, self._old_ports)

    def give_back(self) -> None:
        """The Service was not stored, or it was a dry run: nothing has happened."""
        self._settle()
        self._allocators.free(self._new_ips, self._new_ports)

    def _settle(self) -> None:
        assert not self._settled, "a reservation is kept or given back once"
        self._settled = True


class Unallocatable(Exception):
    """A Service asks for something that it cannot have; `findings` are for the 422."""

    def __init__(self, findings: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{finding.field}: {finding.message}" for finding in findings))
        self.findings = tuple(findings)


@define(eq=False)
class ServiceAllocators:
    """The cluster IP ranges by family, the preferred one first, and the node ports."""

    addresses: dict[str, AddressRange] = field(factory=lambda: {"IPv4": AddressRange(DEFAULT_SERVICE_CIDR)})
    ports: PortRange = Factory(PortRange)

    def hold(self, service: Object) -> list[str]:
        """Take what a stored Service has; texts say what is wrong with it (a conflict, out of range)."""
        spec, problems = service.get("spec") or {}, []
        for address in cluster_ips(spec):
            of_family = self.addresses.get(_family(address))
            problem = "no such range" if of_family is None else of_family.take(address)
            if problem:
                problems.append(f"{address}: {problem}")
        for port in node_ports(spec):
            problem = self.ports.take(port)
            if problem:
                problems.append(f"{port}: {problem}")
        return problems

    def release(self, service: Object) -> None:
        """A Service was deleted."""
        spec = service.get("spec") or {}
        self.free(cluster_ips(spec), node_ports(spec))

    def free(self, addresses: Sequence[str], ports: Sequence[int]) -> None:
        for address in addresses:
            of_family = self.addresses.get(_family(address))
            if of_family is not None:
                of_family.give_back(address)
        for port in ports:
            self.ports.give_back(port)

    def allocate(self, new: Object, old: Object | None, rng: Rng) -> Reservation:
        """Fill in what a Service needs, on create (`old` None) and on update.

        `new` has its defaults, its `ipFamilies` among them, and has passed validation; it is not changed.

        Raises:
            Unallocatable: an explicit address or port is taken or out of range.
            ApiError: 500, a range is full.
        """
        before: Spec = {} if old is None else old.get("spec") or {}
        had_ips, had_ports = cluster_ips(before), node_ports(before)
        reservation = Reservation(deepcopy(new), self)
        spec = reservation.service["spec"]
        try:
            self._fill_cluster_ips(spec, had_ips, reservation._new_ips, rng)
            self._fill_node_ports(spec, had_ports, reservation._new_ports, rng)
        except RangeFull:
            self.free(reservation._new_ips, reservation._new_ports)
            what = "nodePort" if self.ports.numbers.free == 0 else "serviceIP"
            raise internal_error(f"failed to allocate a {what}: range is full") from None
        except Unallocatable:
            self.free(reservation._new_ips, reservation._new_ports)
            raise
        kept_ips, kept_ports = cluster_ips(spec), node_ports(spec)
        reservation._old_ips = [address for address in had_ips if address not in kept_ips]
        reservation._old_ports = [port for port in had_ports if port not in kept_ports]
        return reservation

    def _fill_cluster_ips(self, spec: Object, had: Sequence[str], taken: list[str], rng: Rng) -> None:
        if spec.get("type", "ClusterIP") not in NEEDS_CLUSTER_IP or spec.get("clusterIP") == "None":
            return
        stated = list(spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else []))
        if stated[:1] == ["None"]:
            return
        # PreferDualStack on a cluster of one family names only that one.
        wanted = [family for family in spec.get("ipFamilies") or ["IPv4"] if family in self.addresses]
        for address in stated:
            if address in had:
                continue
            of_family = self.addresses.get(_family(address))
            problem = (
                f"{_family(address)} is not configured on this cluster"
                if of_family is None
                else of_family.take(address)
            )
            if problem:
                detail = f"failed to allocate IP {address}: {problem}"
                raise Unallocatable([FieldError("FieldValueInvalid", "spec.clusterIPs", stated, detail)])
            taken.append(address)
        for family in wanted[len(stated) :]:
            address = self.addresses[family].draw(rng)
            taken.append(address)
            stated.append(address)
        if stated:
            spec["clusterIP"], spec["clusterIPs"] = stated[0], stated

    def _fill_node_ports(self, spec: Object, had: Sequence[int], taken: list[int], rng: Rng) -> None:
        kind = spec.get("type", "ClusterIP")
        if kind not in NEEDS_NODE_PORT:
            return
        findings: list[FieldError] = []
        ports = spec.get("ports") or []
        for index, port in enumerate(ports):
            self._take_port(port.get("nodePort") or 0, f"spec.ports[{index}].nodePort", had, taken, findings)
        check = spec.get("healthCheckNodePort") or 0
        self._take_port(check, "spec.healthCheckNodePort", had, taken, findings)
        if findings:
            raise Unallocatable(findings)
        if kind == "NodePort" or spec.get("allocateLoadBalancerNodePorts", True):
            self._draw_ports(ports, taken, rng)
        if needs_health_check_port(spec) and not check:
            drawn = self.ports.draw(rng)
            taken.append(drawn)
            spec["healthCheckNodePort"] = drawn

    def _take_port(
        self, port: int, path: str, had: Sequence[int], taken: list[int], findings: list[FieldError]
    ) -> None:
        """Take a port that is asked for, once for the Service: it may repeat it for another protocol."""
        if not port or port in had or port in taken:
            return
        problem = self.ports.take(port)
        if problem:
            findings.append(FieldError("FieldValueInvalid", path, port, problem))
        else:
            taken.append(port)

    def _draw_ports(self, ports: Sequence[Object], taken: list[int], rng: Rng) -> None:
        """Draw for each port that has none; the same port under two protocols gets the same."""
        shared = {(p["port"], p.get("protocol", "TCP")): p["nodePort"] for p in ports if p.get("nodePort")}
        for port in ports:
            if port.get("nodePort"):
                continue
            number, protocol = port["port"], port.get("protocol", "TCP")
            other = next((n for (p, kind), n in shared.items() if p == number and kind != protocol), None)
            free = other is not None and not any(
                n == other and kind == protocol for (_, kind), n in shared.items()
            )
            if other is None or not free:
                other = self.ports.draw(rng)
                taken.append(other)
            port["nodePort"] = other
            shared[number, protocol] = other


def _family(address: str) -> str:
    return f"IPv{ip_address(address).version}"
