"""What a node needs of the network: byte streams to addresses. TCP and simulated links implement it."""

from typing import Protocol

from attrs import frozen

from .protocol import NAME_CHARACTERS_MAX


class LinkLost(Exception):
    """The stream broke, or could not be made."""


class Link(Protocol):
    """A byte stream. One task reads, one task writes."""

    certificate_names: frozenset[str] | None
    """The names in the other side's certificate, once the link is open; None without TLS."""

    async def open(self) -> None:
        """Whatever comes before the first byte: a TLS handshake.

        Raises:
            LinkLost: it failed.
        """

    def send_now(self, data: bytes) -> int:
        """Send as much as can be sent without waiting; returns how many bytes that was.

        Raises:
            LinkLost: the stream is broken.
        """

    async def send(self, data: bytes) -> None:
        """Send everything. After a cancellation the stream is good for nothing but to be closed.

        Raises:
            LinkLost: the stream is broken.
        """

    async def receive(self) -> bytes:
        """The next bytes; b"" when the other side has closed.

        Raises:
            LinkLost: the stream is broken.
        """

    def close(self) -> None:
        """Give the stream up at once; harmless when it is closed."""


class Listener(Protocol):
    """A place where links arrive."""

    address: str
    """As others call it: the port is the real one."""

    async def accept(self) -> Link:
        """The next link. Raises LinkLost when this one was lost again; others may follow."""

    def close(self) -> None:
        """Accept no more."""


class Transport(Protocol):
    """A kind of network."""

    async def connect(self, address: str) -> Link:
        """A link to that address. Raises LinkLost with the reason when there is none."""

    async def listen(self, address: str) -> Listener:
        """A listener at that address. Raises AddressError when it cannot be had."""


class AddressError(ValueError):
    """No address, or one that cannot be had; says how it is written."""


@frozen
class Address:
    """A parsed address."""

    scheme: str
    """tcp, unix or sim"""
    host: str
    """Or the path of a Unix socket, or a simulated node's place."""
    port: int = 0

    def __str__(self) -> str:
        if self.scheme == "tcp":
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"tcp://{host}:{self.port}"
        return f"{self.scheme}:{self.host}"


def parse_address(text: str) -> Address:
    """Read `tcp://HOST:PORT`, `unix:PATH` or `sim:PLACE`.

    Raises:
        AddressError: it is none of these.
    """
    scheme, _, rest = text.partition(":")
    if scheme in ("unix", "sim") and rest:
        return Address(scheme, rest)
    if scheme == "tcp" and rest.startswith("//"):
        host, _, port = rest[2:].rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if 0 < len(host) <= NAME_CHARACTERS_MAX and port.isascii() and port.isdigit() and int(port) < 65536:
            return Address("tcp", host, int(port))
    raise AddressError(f"no address: {text!r}; write tcp://127.0.0.1:4000, tcp://[::1]:0 or unix:/path")
