"""What the cluster's names stand for: Services, their endpoints, and pods by address.

Rules: the Kubernetes DNS specification 1.1.0, and CoreDNS where it leaves room (`pods insecure`). Names are
tuples of lower-case labels, the leftmost first. A name that exists without a record of the asked type is
NODATA (no error, no answers); a name that does not exist is NXDOMAIN; both carry the zone's SOA.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import Any

from attrs import Factory, define, frozen

from understudy.components.machinery.endpoint_slices import SliceEndpoint, SliceInfo, slice_info

Object = dict[str, Any]
Name = tuple[str, ...]

SPECIFICATION_VERSION = "1.1.0"
CNAME_CHAIN_MAX = 8
"""ExternalName Services that point at each other end here."""


class Code(Enum):
    NOERROR = 0
    NXDOMAIN = 3


@frozen
class Srv:
    port: int
    target: Name
    priority: int = 0
    weight: int = 100


@frozen
class Record:
    """One resource record of class IN."""

    name: Name
    type: str
    data: str | Name | Srv
    """An address or text, a name (CNAME, PTR, NS), or a service location."""


@frozen
class Answer:
    code: Code
    answers: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    outside: Name | None = None
    """A CNAME leads here, out of the cluster's zone: the rest of the answer is an upstream's."""


NXDOMAIN = Answer(Code.NXDOMAIN)
NODATA = Answer(Code.NOERROR)


@frozen
class _Host:
    """One endpoint address of a Service, under the name it has there."""

    label: str
    address: str
    ports: tuple[tuple[str, str, int], ...]
    """(name, protocol in lower case, number)."""


def parse_name(text: str) -> Name:
    """`web.default.svc.cluster.local.` as labels."""
    stripped = text.rstrip(".").lower()
    return tuple(stripped.split(".")) if stripped else ()


def reverse_name(name: Name) -> str | None:
    """The address that a name under `in-addr.arpa` or `ip6.arpa` stands for; None if it is not whole."""
    try:
        if name[-2:] == ("in-addr", "arpa") and len(name) == 6:
            return str(IPv4Address(".".join(reversed(name[:4]))))
        if name[-2:] == ("ip6", "arpa") and len(name) == 34 and all(len(label) == 1 for label in name[:32]):
            digits = "".join(reversed(name[:32]))
            return str(IPv6Address(":".join(digits[i : i + 4] for i in range(0, 32, 4))))
    except AddressValueError:
        return None
    return None


def _dashed(address: str) -> str:
    return address.replace(".", "-").replace(":", "-")


def _undashed(label: str) -> str | None:
    for separator in (".", ":"):
        try:
            return str(ip_address(label.replace("-", separator)))
        except ValueError:
            continue
    return None


def _type_of(address: str) -> str:
    return "AAAA" if ":" in address else "A"


@define(eq=False)
class Zone:
    """The cluster's zone, kept up as Services, EndpointSlices and Namespaces change."""

    cluster_domain: Name = ("cluster", "local")
    _services: dict[tuple[str, str], Object] = Factory(dict)
    _slices: dict[tuple[str, str], dict[str, SliceInfo]] = Factory(dict)
    """By (namespace, Service), then by slice name."""
    _slice_service: dict[tuple[str, str], str] = Factory(dict)
    _namespaces: dict[str, None] = Factory(dict)
    _by_cluster_ip: dict[str, tuple[str, str]] = Factory(dict)
    _by_endpoint: dict[str, dict[tuple[str, str], str]] = Factory(dict)
    """Endpoint address to the Services that have it, each with the endpoint's label."""

    # what comes in

    def set_namespace(self, name: str) -> None:
        self._namespaces[name] = None

    def remove_namespace(self, name: str) -> None:
        self._namespaces.pop(name, None)

    def set_service(self, service: Object) -> None:
        key = service["metadata"].get("namespace") or "default", service["metadata"]["name"]
        self.remove_service(*key)
        self._services[key] = service
        for address in _cluster_ips(service):
            self._by_cluster_ip[address] = key

    def remove_service(self, namespace: str, name: str) -> None:
        old = self._services.pop((namespace, name), None)
        for address in () if old is None else _cluster_ips(old):
            if self._by_cluster_ip.get(address) == (namespace, name):
                del self._by_cluster_ip[address]

    def set_slice(self, endpoint_slice: Object) -> None:
        info = slice_info(endpoint_slice)
        self.remove_slice(info.namespace, info.name)
        if info.service and info.address_type != "FQDN":
            self._slice_service[info.namespace, info.name] = info.service
            self._slices.setdefault((info.namespace, info.service), {})[info.name] = info
            self._index((info.namespace, info.service), info)

    def remove_slice(self, namespace: str, name: str) -> None:
        service = self._slice_service.pop((namespace, name), None)
        if service is None:
            return
        key = namespace, service
        gone = self._slices[key].pop(name)
        for host in _hosts([gone]):
            of_address = self._by_endpoint.get(host.address, {})
            of_address.pop(key, None)
            if not of_address:
                self._by_endpoint.pop(host.address, None)
        for other in self._slices[key].values():
            self._index(key, other)
        if not self._slices[key]:
            del self._slices[key]

    def _index(self, key: tuple[str, str], info: SliceInfo) -> None:
        for host in _hosts([info]):
            self._by_endpoint.setdefault(host.address, {})[key] = host.label

    # what is asked

    def holds(self, name: Name) -> bool:
        """Whether the name is in the cluster's own zone."""
        return name[-len(self.cluster_domain) :] == self.cluster_domain

    def lookup(self, name: Name, rtype: str) -> Answer | None:
        """What a name stands for; None when that is for others to say. `rtype` as in "A", "SRV", "ANY"."""
        if self.holds(name):
            return self._chased(name, rtype)
        address = reverse_name(name)
        if address is None:
            return None
        targets = list(self._pointers(address))
        if not targets:
            return None
        if rtype not in ("PTR", "ANY"):
            return NODATA
        return Answer(Code.NOERROR, tuple(Record(name, "PTR", target) for target in targets))

    def _pointers(self, address: str) -> Iterator[Name]:
        service = self._by_cluster_ip.get(address)
        if service is not None:
            yield self._service_name(service)
            return
        for key, label in sorted(self._by_endpoint.get(address, {}).items()):
            if key in self._services:
                yield (label, *self._service_name(key))

    def _service_name(self, key: tuple[str, str]) -> Name:
        return (key[1], key[0], "svc", *self.cluster_domain)

    def _chased(self, name: Name, rtype: str) -> Answer:
        """The answer with the CNAMEs of ExternalName Services followed while they stay in the zone."""
        chain: list[Record] = []
        while True:
            found = self._inside(name, rtype)
            alias = next((record for record in found.answers if record.type == "CNAME"), None)
            if alias is None or rtype in ("CNAME", "ANY"):
                return Answer(found.code, (*chain, *found.answers), found.additional)
            chain.append(alias)
            assert isinstance(alias.data, tuple), alias
            name = alias.data
            if not self.holds(name):
                return Answer(Code.NOERROR, tuple(chain), outside=name)
            if len(chain) >= CNAME_CHAIN_MAX:
                return Answer(Code.NOERROR, tuple(chain))

    def _inside(self, name: Name, rtype: str) -> Answer:
        relative = name[: -len(self.cluster_domain)]
        if not relative:
            return NODATA
        if relative == ("dns-version",):
            return _of_type([Record(name, "TXT", SPECIFICATION_VERSION)], rtype)
        kind, rest = relative[-1], relative[:-1]
        if kind not in ("svc", "pod"):
            return NXDOMAIN
        if not rest:
            return NODATA
        namespace, rest = rest[-1], rest[:-1]
        if namespace not in self._namespaces:
            return NXDOMAIN
        if not rest:
            return NODATA
        if kind == "pod":
            address = _undashed(rest[0]) if len(rest) == 1 else None
            return (
                NXDOMAIN if address is None else _of_type([Record(name, _type_of(address), address)], rtype)
            )
        return self._service(name, (namespace, rest[-1]), rest[:-1], rtype)

    def _service(self, name: Name, key: tuple[str, str], rest: Name, rtype: str) -> Answer:
        """`rest` is what stands before the Service's name: nothing, an endpoint, or `_port._protocol`."""
        service = self._services.get(key)
        if service is None or len(rest) > 2:
            return NXDOMAIN
        spec = service.get("spec") or {}
        if spec.get("type") == "ExternalName":
            alias = Record(name, "CNAME", parse_name(spec.get("externalName") or ""))
            return Answer(Code.NOERROR, (alias,)) if not rest else NXDOMAIN
        if len(rest) == 2:
            return self._ports(name, key, service, rest, rtype)
        addresses = _cluster_ips(service)
        hosts = _hosts(self._slices.get(key, {}).values())
        if rest:
            found = [host.address for host in hosts if host.label == rest[0]]
        elif addresses:
            found = addresses
        else:
            found = [host.address for host in hosts]
        if not found:
            # A headless Service without endpoints has a name but no addresses; CoreDNS says NXDOMAIN.
            return NXDOMAIN
        if not rest and rtype in ("SRV", "ANY"):
            return self._ports(name, key, service, ("", ""), rtype)
        unique = dict.fromkeys(found)
        return _of_type([Record(name, _type_of(a), a) for a in unique], rtype)

    def _ports(self, name: Name, key: tuple[str, str], service: Object, wanted: Name, rtype: str) -> Answer:
        """SRV records; `wanted` is (`_port`, `_protocol`), empty for every port."""
        port_label, protocol_label = wanted
        records: list[Record] = []
        additional: dict[Record, None] = {}
        base = self._service_name(key)

        def fits(port: str, protocol: str) -> bool:
            return port_label in ("", f"_{port}") and protocol_label in ("", f"_{protocol}")

        addresses = _cluster_ips(service)
        if addresses:
            for port in service["spec"].get("ports") or ():
                if fits(port.get("name") or "", (port.get("protocol") or "TCP").lower()):
                    records.append(Record(name, "SRV", Srv(port["port"], base)))
                    additional |= dict.fromkeys(Record(base, _type_of(a), a) for a in addresses)
        else:
            for host in _hosts(self._slices.get(key, {}).values()):
                for port_name, protocol, number in host.ports:
                    if fits(port_name, protocol):
                        target = (host.label, *base)
                        records.append(Record(name, "SRV", Srv(number, target)))
                        additional[Record(target, _type_of(host.address), host.address)] = None
        if not records:
            return NODATA if wanted == ("", "") else NXDOMAIN
        if rtype == "ANY" and wanted == ("", ""):
            records += [Record(name, r.type, r.data) for r in additional if r.name == base]
        unique = tuple(dict.fromkeys(records))
        if rtype not in ("SRV", "ANY"):
            return NODATA
        return Answer(Code.NOERROR, _weighed(unique), tuple(additional))


def _weighed(records: Iterable[Record]) -> tuple[Record, ...]:
    """SRV weights shared out evenly: 100 divided by how many records there are."""
    found = list(records)
    count = sum(isinstance(record.data, Srv) for record in found)
    weight = max(1, 100 // count)
    return tuple(
        Record(r.name, r.type, Srv(r.data.port, r.data.target, r.data.priority, weight))
        if isinstance(r.data, Srv)
        else r
        for r in found
    )


def _of_type(records: Iterable[Record], rtype: str) -> Answer:
    return Answer(Code.NOERROR, tuple(r for r in records if rtype in (r.type, "ANY")))


def _cluster_ips(service: Mapping[str, Any]) -> list[str]:
    """Its cluster IPs; empty for a headless or an ExternalName Service."""
    spec = service.get("spec") or {}
    listed = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    return [str(ip_address(address)) for address in listed if address != "None"]


def _label(endpoint: SliceEndpoint, address: str) -> str:
    return endpoint.hostname.lower() or _dashed(address)


def _hosts(slices: Iterable[SliceInfo]) -> list[_Host]:
    """Ready endpoints by slice name, each address once. Unready ones that are published are called ready."""
    found: dict[tuple[str, str], _Host] = {}
    for one in sorted(slices, key=lambda info: info.name):
        ports = tuple((port.name, port.protocol.lower(), port.port) for port in one.ports)
        for endpoint in one.endpoints:
            if endpoint.ready:
                for address in endpoint.addresses:
                    label = _label(endpoint, address)
                    known = found.get((label, address))
                    more = ports if known is None else tuple(dict.fromkeys(known.ports + ports))
                    found[label, address] = _Host(label, address, more)
    return list(found.values())
