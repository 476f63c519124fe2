"""The network that pods and nodes talk over, as messages: what a TCP client on it can do.

Kubelet probes, in-cluster requests and the API server's proxy ask these. The network finds out where the
source is, lets the rules of the source's node decide about Service addresses (`dataplane.Connect`), and
brings the exchange to whatever listens at the address in the end. In simulation that is a container of a
fake runtime; a real adapter opens sockets instead.

An address that nobody owns, or a rule that drops, is silence, as on a real network: the asker's own
deadline tells it (`AskTimeout`), or at last :class:`TimedOut` does.
"""

from attrs import frozen

from understudy.actors import Ref
from understudy.mailbox import Refusal, Request, message

from .dataplane import Dataplane
from .name_server import NameServer


class PodNetwork:
    """Protocol of the cluster's network."""


class Listener:
    """Protocol of what answers for addresses: a container runtime, for the pods that it runs."""


@message("podnet.connection_refused")
@frozen
class ConnectionRefused(Refusal):
    """Nothing listens on that port, or a Service has no endpoints."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"dial tcp {_host_port(self.ip, self.port)}: connect: connection refused"


@message("podnet.timed_out")
@frozen
class TimedOut(Refusal):
    """Nobody answered at that address for as long as the network tries."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"dial tcp {_host_port(self.ip, self.port)}: i/o timeout"


@message("podnet.http_answer")
@frozen
class HttpAnswer:
    status: int
    headers: tuple[tuple[str, str], ...] = ()
    """Names in lower case."""
    body: bytes = b""


@message("podnet.http_exchange")
@frozen
class HttpExchange(Request[PodNetwork, HttpAnswer]):
    """One HTTP request over a connection of its own. Refused with :class:`ConnectionRefused`."""

    ip: str
    port: int
    method: str = "GET"
    path: str = "/"
    """With its query."""
    headers: tuple[tuple[str, str], ...] = ()
    """Names in lower case; `host` is among them if it matters."""
    body: bytes = b""
    source_ip: str = ""
    """The client's address: it decides whose node's rules apply. "" is outside of every node, where no
    rule applies."""
    tls: bool = False


@message("podnet.connected")
@frozen
class Connected:
    """A connection came about."""

    ip: str
    """Where it really went: an endpoint, when a Service was asked for."""
    port: int


@message("podnet.tcp_connect")
@frozen
class TcpConnect(Request[PodNetwork, Connected]):
    """Open a TCP connection and close it again. Refused with :class:`ConnectionRefused`."""

    ip: str
    port: int
    source_ip: str = ""


@message("podnet.grpc_health_answer")
@frozen
class GrpcHealthAnswer:
    status: str
    """`SERVING`, `NOT_SERVING`, `UNKNOWN` or `SERVICE_UNKNOWN`, of `grpc.health.v1`."""


@message("podnet.grpc_health_check")
@frozen
class GrpcHealthCheck(Request[PodNetwork, GrpcHealthAnswer]):
    """`grpc.health.v1.Health/Check`. Refused with :class:`ConnectionRefused`."""

    ip: str
    port: int
    service: str = ""
    source_ip: str = ""


@message("podnet.datagram")
@frozen
class Datagram:
    """The answer to a datagram."""

    data: bytes


@message("podnet.datagram_exchange")
@frozen
class DatagramExchange(Request[PodNetwork, Datagram]):
    """One UDP datagram and its answer. Where nothing answers there is silence."""

    ip: str
    port: int
    data: bytes
    source_ip: str = ""


# --------------------------------------------------------------------------- who is where


@message("podnet.done")
@frozen
class Done:
    """The answer of requests that only succeed."""


@message("podnet.join_node")
@frozen
class JoinNode(Request[PodNetwork, Done]):
    """A node is on the network; its rules decide about what leaves the node and its pods."""

    node: str
    ips: tuple[str, ...]
    dataplane: Ref[Dataplane]
    """Answers `dataplane.Connect`."""


@message("podnet.join_name_server")
@frozen
class JoinNameServer(Request[PodNetwork, Done]):
    """A name server answers on port 53 of an address: the cluster's DNS, as pods are told of it."""

    ip: str
    server: Ref[NameServer]


@message("podnet.listen")
@frozen
class Listen(Request[PodNetwork, Done]):
    """From now on the listener answers for an address; replaces an earlier one."""

    ip: str
    node: str
    listener: Ref[Listener]


@message("podnet.unlisten")
@frozen
class Unlisten(Request[PodNetwork, Done]):
    """Nobody answers for the address any more. Only undoes a `Listen` from the same node; idempotent."""

    ip: str
    node: str


# --------------------------------------------------------------------------- what a listener is asked


@message("podnet.serve_http")
@frozen
class ServeHttp(Request[Listener, HttpAnswer]):
    """An HTTP request has come to an address of the listener's."""

    exchange: HttpExchange
    """With the address and port that it really came to."""


@message("podnet.accept_tcp")
@frozen
class AcceptTcp(Request[Listener, Connected]):
    """A connection has come to an address of the listener's."""

    ip: str
    port: int
    source_ip: str = ""


@message("podnet.serve_grpc_health")
@frozen
class ServeGrpcHealth(Request[Listener, GrpcHealthAnswer]):
    """A health check has come to an address of the listener's."""

    check: GrpcHealthCheck


def _host_port(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
