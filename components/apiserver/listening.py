"""The API server's listening socket: a real adapter, so that nothing else touches sockets to bind one.

It is bound before the server actor starts (so that a port in use is the user's error and no crash) and
outlives the actor's restarts: clients that connect meanwhile wait in its backlog.
"""

from __future__ import annotations

import errno
import socket
from types import TracebackType

import trio

from understudy.actors.startup import StartError

BACKLOG = 1024
PORT_MAX = 65535


class BoundAddress:
    """A listening socket. Close it, or use it as a context manager."""

    def __init__(self, sock: socket.socket, host: str) -> None:
        self.bound_host = host
        """As the user gave it."""
        self.port: int = sock.getsockname()[1]
        self.address: str = sock.getsockname()[0]
        self._socket = sock
        sock.setblocking(False)

    async def accept(self) -> socket.socket:
        """The next connection. Raises OSError: it failed, or the process has no file descriptor for it."""
        while True:
            try:
                return self._socket.accept()[0]
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)

    @property
    def host(self) -> str:
        """The host by which a client on this machine reaches it."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address, self.bound_host or "127.0.0.1")

    @property
    def authority(self) -> str:
        """`host:port`, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def close(self) -> None:
        """Stop listening; harmless when done already."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def __enter__(self) -> BoundAddress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def parse_bind(text: str) -> tuple[str, int]:
    """`HOST:PORT`, `[IPv6]:PORT` or `:PORT` (every address).

    Raises:
        StartError: it is none of these.
    """
    host, colon, port_text = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not (port_text.isascii() and port_text.isdigit()) or int(port_text) > PORT_MAX:
        raise StartError(
            f"cannot bind to {text!r}: it must be HOST:PORT with a port from 0 to {PORT_MAX}",
            "for example 127.0.0.1:6443; port 0 picks a free one",
        )
    return host, int(port_text)


async def bind(text: str) -> BoundAddress:
    """Listen at `HOST:PORT`; port 0 picks a free one.

    Raises:
        StartError: the address is malformed, unknown, in use or not permitted.
    """
    host, port = parse_bind(text)
    try:
        found = await trio.socket.getaddrinfo(
            host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise StartError(f"cannot bind to {text}: {host!r} is not a known host or address") from error
    # One address is enough, and IPv4 is what `localhost` means to most clients.
    family, kind, protocol, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address[0] == "::" else 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _explained(text, error) from error
    return BoundAddress(sock, host)


def _explained(text: str, error: OSError) -> StartError:
    if error.errno == errno.EADDRINUSE:
        return StartError(f"{text} is in use already", "choose another port, or port 0 for a free one")
    if error.errno in (errno.EACCES, errno.EPERM):
        return StartError(f"binding to {text} is not permitted", "choose a port above 1023")
    if error.errno == errno.EADDRNOTAVAIL:
        return StartError(f"cannot bind to {text}: this machine has no such address")
    return StartError(f"cannot bind to {text}: {error.strerror or error}")
