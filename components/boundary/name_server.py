"""The cluster's name server as messages: what a pod's resolver asks, in DNS wire format."""

from attrs import frozen

from understudy.mailbox import Request, message


class NameServer:
    """Protocol of the cluster's DNS."""


@message("name_server.query")
@frozen
class Query(Request[NameServer, "Answered"]):
    """One DNS query."""

    query: bytes
    """A whole DNS message, without the length that goes before it on TCP."""
    transport: str = "udp"
    """`udp` or `tcp`; says how long the answer may be."""


@message("name_server.answered")
@frozen
class Answered:
    answer: bytes
    """A whole DNS message, or empty: the query is not one that may be answered."""
