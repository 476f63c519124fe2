"""The service dataplane of one node as messages: a desired set of rules, replaced as a whole.

Policies are already decided in the rules (which endpoints serve traffic from inside and from outside, and
what happens when there are none), so that an adapter only has to express them: a user-space balancer, or
nftables. Replacing is idempotent, and an adapter works out the difference itself.
"""

from enum import Enum

from attrs import frozen

from understudy.mailbox import Request, message


class Dataplane:
    """Protocol of the service dataplane of one node."""


class Protocol(Enum):
    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


@message("dataplane.service_port_name")
@frozen(order=True)
class ServicePortName:
    """Which port of which Service a rule is for."""

    namespace: str
    name: str
    port: str = ""
    """The port's name; empty when the Service has one port without a name."""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" + (f":{self.port}" if self.port else "")


@message("dataplane.endpoint")
@frozen
class Endpoint:
    """Where a connection may be sent."""

    ip: str
    port: int
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    is_local: bool = False
    """On the node whose rules these are."""


class Empty(Enum):
    """What becomes of a connection when there is no endpoint for it."""

    REJECT = "reject"
    """Refused at once: the Service has no usable endpoint anywhere."""
    DROP = "drop"
    """Silence: other nodes have usable endpoints, but the traffic policy is Local."""


@message("dataplane.service_rule")
@frozen
class ServiceRule:
    """How connections to one Service port are sent to its endpoints."""

    service: ServicePortName
    protocol: Protocol
    cluster_ips: tuple[str, ...]
    port: int
    node_port: int = 0
    """0 when there is none."""
    external_ips: tuple[str, ...] = ()
    """spec.externalIPs and the load balancer's addresses."""
    session_affinity_seconds: int = 0
    """0: none; otherwise ClientIP affinity that lapses this long after a client's last connection."""
    cluster_endpoints: tuple[Endpoint, ...] = ()
    """For connections to a cluster IP; sorted by (ip, port)."""
    external_endpoints: tuple[Endpoint, ...] = ()
    """For connections to the node port or an external IP; sorted by (ip, port)."""
    cluster_empty: Empty = Empty.REJECT
    external_empty: Empty = Empty.REJECT


@message("dataplane.rule_set")
@frozen
class RuleSet:
    """Everything that the dataplane of one node must do; nothing else may be left in place."""

    services: tuple[ServiceRule, ...] = ()
    """Sorted by (service, protocol)."""
    node_ips: tuple[str, ...] = ()
    """Addresses on which node ports are served."""


@message("dataplane.replace_rules")
@frozen
class ReplaceRules(Request[Dataplane, "RulesApplied"]):
    """Make the dataplane do exactly this."""

    rules: RuleSet
    generation: int
    """Counts up with each replacement; an older one that comes late is answered but not applied."""


@message("dataplane.rules_applied")
@frozen
class RulesApplied:
    generation: int
    """The generation that is in force now."""


@message("dataplane.connect")
@frozen
class Connect(Request[Dataplane, "Verdict"]):
    """Where does a new connection go?"""

    source_ip: str
    destination_ip: str
    destination_port: int
    protocol: Protocol = Protocol.TCP


class Action(Enum):
    FORWARD = "forward"
    """To the endpoint of a Service."""
    PASS = "pass"
    """No rule is about this destination: it goes where it was going."""
    REJECT = "reject"
    DROP = "drop"


@message("dataplane.verdict")
@frozen
class Verdict:
    action: Action
    ip: str = ""
    """The address and port that the connection really goes to, for FORWARD and PASS."""
    port: int = 0
    service: ServicePortName | None = None
    """The Service that decided, if one did."""
