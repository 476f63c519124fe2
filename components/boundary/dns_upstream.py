"""DNS beyond the cluster as messages: who answers for names that the cluster's zones do not hold."""

from attrs import frozen

from understudy.mailbox import Refusal, Request, message


class DnsUpstream:
    """Protocol of a forwarder to other name servers."""


@message("dns_upstream.unreachable")
@frozen
class UpstreamUnreachable(Refusal):
    """No upstream answered in time; the client is told SERVFAIL."""

    detail: str


@message("dns_upstream.exchange")
@frozen
class Exchange(Request[DnsUpstream, "Exchanged"]):
    """Ask an upstream the query in `query`, a whole DNS message."""

    query: bytes
    transport: str = "udp"
    """`udp` or `tcp`: how the client asked, and so how long the answer may be."""


@message("dns_upstream.exchanged")
@frozen
class Exchanged:
    answer: bytes
    """A whole DNS message with the query's id."""
