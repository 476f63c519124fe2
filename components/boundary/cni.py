"""The pod network as messages: ADD, DEL and CHECK of the CNI specification 1.0.

A container runtime sends these once per sandbox. A call that fails raises :class:`CniError` with the
error codes of the specification, section 5. DEL succeeds when the attachment is gone already or the
network namespace no longer exists.
"""

from enum import IntEnum

from attrs import frozen

CNI_VERSION = "1.0.0"


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


@frozen
class CniError(Exception):
    """A call that the network plugin could not do."""

    code: CniCode
    msg: str
    details: str = ""

    def __str__(self) -> str:
        return f"{self.msg}: {self.details}" if self.details else self.msg


@frozen
class Interface:
    name: str
    mac: str = ""
    sandbox: str = ""
    """Path of the network namespace; empty for an interface of the node."""


@frozen
class IPConfig:
    address: str
    """With its prefix length: `10.244.1.5/24`."""
    gateway: str = ""
    interface: int | None = None
    """Index into the result's interfaces."""


@frozen
class Route:
    dst: str
    """A CIDR: `0.0.0.0/0`."""
    gw: str = ""


@frozen
class DNS:
    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@frozen
class Result:
    """What ADD made, and what CHECK and DEL are given back as `prev_result`."""

    ips: tuple[IPConfig, ...]
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: DNS = DNS()
    cni_version: str = CNI_VERSION


@frozen
class PortMapping:
    """The `portMappings` capability argument."""

    host_port: int
    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""


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


@frozen
class Add:
    """Attach a sandbox to the network. Answer: :class:`Result`. A second ADD without a DEL is an error."""

    attachment: Attachment


@frozen
class Del:
    """Detach it; idempotent. Answer: :class:`Detached`."""

    attachment: Attachment
    prev_result: Result | None = None


@frozen
class Detached:
    """The answer of :class:`Del`."""


@frozen
class Check:
    """Verify that the attachment is still as `prev_result` says. Answer: :class:`Checked`."""

    attachment: Attachment
    prev_result: Result


@frozen
class Checked:
    """The answer of :class:`Check`."""
