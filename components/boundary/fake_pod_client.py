"""What a program in a fake pod does on the network: resolve names as its resolv.conf says, and speak HTTP."""

from ipaddress import ip_address

from attrs import frozen
from dnslib import QTYPE, RCODE, DNSRecord

from understudy.actors import Ref
from understudy.mailbox import Refusal

from .cri import DNSConfig
from .fake_effects import Failure, Fetch, Fetched
from .podnet import ConnectionRefused, DatagramExchange, HttpExchange, PodNetwork

DNS_PORT = 53
DNS_TIMEOUT_SECONDS = 5.0
"""How long a resolver waits for a server before it asks the next, as glibc does."""

_NDOTS_DEFAULT = 1


@frozen
class PodResolver:
    """The resolver of one pod."""

    network: Ref[PodNetwork]
    source_ip: str
    config: DNSConfig

    def candidates(self, name: str) -> list[str]:
        """The full names to ask for, in order: resolv.conf(5), `search` and `ndots`."""
        if name.endswith("."):
            return [name]
        ndots = _NDOTS_DEFAULT
        for option in self.config.options:
            key, _, value = option.partition(":")
            if key == "ndots" and value.isdigit():
                ndots = int(value)
        searched = [f"{name}.{domain}." for domain in self.config.searches]
        return [*searched, f"{name}."] if name.count(".") < ndots else [f"{name}.", *searched]

    async def resolve(self, name: str) -> list[str]:
        """The IPv4 addresses of a name; none when it has none, or no server answers."""
        try:
            return [str(ip_address(name))]
        except ValueError:
            pass  # a name, not an address
        for candidate in self.candidates(name):
            found = await self._ask(candidate)
            if found:
                return found
        return []

    async def _ask(self, name: str) -> list[str]:
        query = DNSRecord.question(name, "A").pack()
        for server in self.config.servers:
            request = DatagramExchange(server, DNS_PORT, query, self.source_ip)
            try:
                reply = await self.network.ask(request, DNS_TIMEOUT_SECONDS)
            except Refusal:
                continue
            answer = DNSRecord.parse(reply.data)
            if answer.header.rcode == RCODE.NOERROR:
                return [str(record.rdata) for record in answer.rr if record.rtype == QTYPE.A]
            return []
        return []


async def fetch(resolver: PodResolver, wanted: Fetch) -> Fetched:
    """Perform one HTTP request from the pod."""
    addresses = await resolver.resolve(wanted.host)
    if not addresses:
        return Fetched(failure=Failure.RESOLVE)
    ip = addresses[0]
    exchange = HttpExchange(
        ip, wanted.port, wanted.method, wanted.path, wanted.headers, wanted.body, resolver.source_ip
    )
    try:
        answer = await resolver.network.ask(exchange, wanted.timeout_seconds)
    except ConnectionRefused:
        return Fetched(f"{ip}:{wanted.port}", Failure.REFUSED)
    except Refusal:
        return Fetched(f"{ip}:{wanted.port}", Failure.TIMEOUT)
    return Fetched(f"{ip}:{wanted.port}", None, answer.status, answer.body)
