"""A client inside the pod network: names by the cluster's DNS, addresses by the node's service rules.

What a program in a pod sees: its resolver's search list, the cluster's name server, the rules of the node
that its pod is on, and what listens in the end. For tests, examples and `Cluster.pod_client`.
"""

from urllib.parse import urlsplit

from attrs import frozen
from dnslib import QTYPE, RCODE, DNSRecord

from understudy.actors import Ref
from understudy.components.boundary.name_server import NameServer, Query
from understudy.components.boundary.podnet import HttpAnswer, HttpExchange, PodNetwork

NDOTS = 5
"""A name with fewer dots is tried with the search list first: what the kubelet writes into resolv.conf."""

TIMEOUT_SECONDS = 10.0


class NameNotFound(Exception):
    """No name of the search list exists; says which were tried."""


@frozen
class PodClient:
    """Requests from one pod's address."""

    namespace: str
    source_ip: str
    """The pod's address: it decides whose node's rules apply."""
    name_server: Ref[NameServer]
    network: Ref[PodNetwork]
    cluster_domain: str = "cluster.local"

    def candidates(self, name: str) -> list[str]:
        """The full names that a resolver tries, in order (resolv.conf(5), `search` and `ndots`)."""
        if name.endswith("."):
            return [name]
        domain = self.cluster_domain
        searched = [
            f"{name}.{suffix}." for suffix in (f"{self.namespace}.svc.{domain}", f"svc.{domain}", domain)
        ]
        absolute = [f"{name}."]
        return [*searched, *absolute] if name.count(".") < NDOTS else [*absolute, *searched]

    async def resolve(self, name: str) -> list[str]:
        """The IPv4 addresses of a name. Raises NameNotFound."""
        tried = self.candidates(name)
        for candidate in tried:
            query = DNSRecord.question(candidate, "A")
            answered = await self.name_server.ask(Query(query.pack()), TIMEOUT_SECONDS)
            answer = DNSRecord.parse(answered.answer)
            addresses = [str(record.rdata) for record in answer.rr if record.rtype == QTYPE.A]
            if answer.header.rcode == RCODE.NOERROR and addresses:
                return addresses
        raise NameNotFound(f"none of {', '.join(tried)} has an address: is there such a Service?")

    async def get(self, url: str) -> HttpAnswer:
        """GET `http://NAME[:PORT][/PATH]`.

        Raises:
            NameNotFound: the name does not resolve.
            ConnectionRefused: nothing listens there, or the Service has no ready endpoint.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        is_address = host.replace(".", "").isdigit()
        ip = host if is_address else (await self.resolve(host))[0]
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        exchange = HttpExchange(
            ip, parts.port or 80, "GET", path, (("host", parts.netloc),), source_ip=self.source_ip
        )
        return await self.network.ask(exchange, TIMEOUT_SECONDS)
