"""The pod network as messages: ADD, DEL and CHECK of the CNI specification 1.0.

A container runtime sends these once per sandbox. A call that fails is refused with :class:`CniError` and
the error codes of the specification, section 5. DEL succeeds when the attachment is gone already or the
network namespace no longer exists.
"""

from enum import IntEnum

from attrs import frozen

from understudy.mailbox import Refusal, Request, message

CNI_VERSION = "1.0.0"


class NetworkPlugin:
    """Protocol of a node's network plugin."""


class CniCode(IntEnum):
    """Reserved error codes; plugins use 100 and up, and `host-local` answers 999 when out of addresses."""

    INCOMPATIBLE_CNI_VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3
    INVALID_ENVIRONMENT_VARIABLES = 4
    IO_FAILURE = 5
    FAILED_TO_DECODE = 6
    INVALID_NETWORK_CONFIG = 7
    TRY_AGAIN_LATER = 11
    INTERNAL = 999


@message("cni.cni_error")
@frozen
class CniError(Refusal):
    """A call that the network plugin could not do."""

    code: CniCode
    msg: str
    details: str = ""

    def __str__(self) -> str:
        return f"{self.msg}: {self.details}" if self.details else self.msg


@message("cni.interface")
@frozen
class Interface:
    name: str
    mac: str = ""
    sandbox: str = ""
    """Path of the network namespace; empty for an interface of the node."""


@message("cni.ip_config")
@frozen
class IPConfig:
    address: str
    """With its prefix length: `10.244.1.5/24`."""
    gateway: str = ""
    interface: int | None = None
    """Index into the result's interfaces."""


@message("cni.route")
@frozen
class Route:
    dst: str
    """A CIDR: `0.0.0.0/0`."""
    gw: str = ""


@message("cni.dns")
@frozen
class DNS:
    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@message("cni.result")
@frozen
class Result:
    """What ADD made, and what CHECK and DEL are given back as `prev_result`."""

    ips: tuple[IPConfig, ...]
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: DNS = DNS()
    cni_version: str = CNI_VERSION


@message("cni.port_mapping")
@frozen
class PortMapping:
    """The `portMappings` capability argument."""

    host_port: int
    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""


@message("cni.attachment")
@frozen
class Attachment:
    """The parameters common to the three operations, and the Kubernetes arguments (`K8S_POD_*`)."""

    container_id: str
    """The sandbox's id: the same for ADD, CHECK and DEL."""
    netns: str
    """Path of the network namespace; empty in a DEL after it has gone."""
    pod_namespace: str
    pod_name: str
    pod_uid: str
    ifname: str = "eth0"
    port_mappings: tuple[PortMapping, ...] = ()


@message("cni.network_config")
@frozen
class NetworkConfig:
    """The network configuration that the runtime hands to the plugin with each call."""

    name: str = "understudy"
    subnet: str = ""
    """The node's pod CIDR, as the `host-local` address manager is given it: `10.244.1.0/24`."""


@message("cni.add")
@frozen
class Add(Request[NetworkPlugin, "Result"]):
    """Attach a sandbox to the network. A second ADD without a DEL is an error."""

    attachment: Attachment
    config: NetworkConfig = NetworkConfig()


@message("cni.del")
@frozen
class Del(Request[NetworkPlugin, "Detached"]):
    """Detach it; idempotent."""

    attachment: Attachment
    prev_result: Result | None = None


@message("cni.detached")
@frozen
class Detached:
    """The answer of :class:`Del`."""


@message("cni.check")
@frozen
class Check(Request[NetworkPlugin, "Checked"]):
    """Verify that the attachment is still as `prev_result` says."""

    attachment: Attachment
    prev_result: Result


@message("cni.checked")
@frozen
class Checked:
    """The answer of :class:`Check`."""


@message("cni.collect_garbage")
@frozen
class CollectGarbage(Request[NetworkPlugin, "Detached"]):
    """Detach whatever is not in the list: GC of the specification 1.1, sent when a runtime starts."""

    valid_attachments: tuple[str, ...] = ()
    """Ids of the sandboxes that exist."""
