"""The real network: TCP and Unix sockets, with TLS where contexts are given. The only part that knows Trio.

Plain sockets are read and written without Trio's stream layer: it goes through the scheduler once more for
every send and receive, which is half of what a small message costs.
"""

import errno
import os
import socket
import ssl
import stat
from contextlib import suppress
from typing import Any

import trio
from attrs import define, evolve, frozen

from .link import Address, AddressError, Link, LinkLost, Listener, parse_address

CHUNK_BYTES = 64 << 10
"""The most that is read at once."""

BACKLOG = 128

ACCEPT_AGAIN_SECONDS = 0.1
"""After so long, accepting is tried again when the machine had no room."""


@frozen
class Tls:
    """Mutual TLS: each side's contexts; both load the node's own certificate and whom it trusts.

    The name in a peer's certificate (a DNS name of its subject's alternatives, or the common name) must be
    the node name that the peer gives.
    """

    server: ssl.SSLContext
    """For connections that come in; must require a certificate."""
    client: ssl.SSLContext
    """For connections that go out. Node names, not host names, are checked: `check_hostname` must be off."""

    def __attrs_post_init__(self) -> None:
        for context in (self.server, self.client):
            if context.verify_mode is not ssl.CERT_REQUIRED:
                raise ValueError("mutual TLS needs verify_mode = ssl.CERT_REQUIRED in both contexts")
        if self.client.check_hostname:
            raise ValueError("node names are checked, not host names: set client.check_hostname = False")


def _certificate_names(certificate: dict[str, Any]) -> frozenset[str]:
    names = {value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"}
    names |= {
        value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"
    }
    return frozenset(names)


@define(eq=False)
class SocketLink(Link):
    """A plain socket."""

    _socket: socket.socket
    certificate_names: frozenset[str] | None = None

    async def open(self) -> None:
        pass

    def send_now(self, data: bytes) -> int:
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise LinkLost(_reason(error)) from error

    async def send(self, data: bytes) -> None:
        with memoryview(data) as view:
            sent = self.send_now(data)
            while sent < len(data):
                try:
                    await trio.lowlevel.wait_writable(self._socket)
                    sent += self._socket.send(view[sent:])
                except (BlockingIOError, InterruptedError):
                    continue
                except (OSError, trio.ClosedResourceError) as error:
                    raise LinkLost(_reason(error)) from error

    async def receive(self) -> bytes:
        # Waiting first lets others run between two chunks, however fast the other side sends.
        while True:
            try:
                await trio.lowlevel.wait_readable(self._socket)
                return self._socket.recv(CHUNK_BYTES)
            except (BlockingIOError, InterruptedError):
                continue
            except (OSError, trio.ClosedResourceError) as error:
                raise LinkLost(_reason(error)) from error

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


@define(eq=False)
class TlsLink(Link):
    """TLS over a socket."""

    _stream: trio.SSLStream[trio.SocketStream]
    certificate_names: frozenset[str] | None = None

    async def open(self) -> None:
        try:
            await self._stream.do_handshake()
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError) as error:
            raise LinkLost(f"no TLS: {_reason(error)}") from error
        self.certificate_names = _certificate_names(self._stream.getpeercert())

    def send_now(self, data: bytes) -> int:
        return 0

    async def send(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError) as error:
            raise LinkLost(_reason(error)) from error

    async def receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(CHUNK_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError) as error:
            raise LinkLost(_reason(error)) from error

    def close(self) -> None:
        self._stream.transport_stream.socket.close()


def _reason(error: BaseException) -> str:
    cause = error.__cause__
    return str(error) or (str(cause) if cause is not None else "") or type(error).__name__


def _link(sock: trio.socket.SocketType, context: ssl.SSLContext | None, server_side: bool) -> Link:
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is not None:
        stream = trio.SocketStream(sock)
        return TlsLink(trio.SSLStream(stream, context, server_side=server_side, https_compatible=True))
    own = socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
    own.setblocking(False)
    return SocketLink(own)


@define(eq=False)
class SocketListener(Listener):
    """A listening socket."""

    address: str
    _socket: trio.socket.SocketType
    _context: ssl.SSLContext | None
    _unix_path: str | None

    async def accept(self) -> Link:
        try:
            sock, _ = await self._socket.accept()
            return _link(sock, self._context, True)
        except trio.ClosedResourceError as error:
            raise LinkLost("the listener is closed") from error
        except OSError as error:
            if error.errno not in (errno.ECONNABORTED, errno.EBADF):
                # Out of file descriptors, say: whoever calls again at once would spin.
                await trio.sleep(ACCEPT_AGAIN_SECONDS)
            raise LinkLost(_reason(error)) from error

    def close(self) -> None:
        self._socket.close()
        path, self._unix_path = self._unix_path, None
        if path is not None:
            with suppress(FileNotFoundError):
                os.unlink(path)


@frozen
class Network:
    """TCP and Unix sockets of this machine; with TLS where it is given."""

    tls: Tls | None = None

    async def connect(self, address: str) -> Link:
        """See `Transport.connect`. Raises AddressError when it is no address of a socket."""
        parsed = _parse(address)
        context = None if self.tls is None else self.tls.client
        try:
            if parsed.scheme == "unix":
                sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                try:
                    await sock.connect(parsed.host)
                except BaseException:
                    sock.close()
                    raise
            else:
                sock = (await trio.open_tcp_stream(parsed.host, parsed.port)).socket
            return _link(sock, context, False)
        except OSError as error:
            raise LinkLost(_reason(error)) from error

    async def listen(self, address: str) -> Listener:
        """See `Transport.listen`."""
        parsed = _parse(address)
        context = None if self.tls is None else self.tls.server
        if parsed.scheme == "unix":
            return SocketListener(address, _unix_listener(parsed.host), context, parsed.host)
        try:
            # The first of several addresses of a name: a node has one place.
            listeners = await trio.open_tcp_listeners(parsed.port, host=parsed.host, backlog=BACKLOG)
        except OSError as error:
            raise AddressError(f"cannot listen at {address}: {_reason(error)}") from error
        for redundant in listeners[1:]:
            redundant.socket.close()
        sock = listeners[0].socket
        return SocketListener(str(evolve(parsed, port=sock.getsockname()[1])), sock, context, None)


def _parse(address: str) -> Address:
    parsed = parse_address(address)
    if parsed.scheme not in ("tcp", "unix"):
        raise AddressError(f"{address!r} is no address of a socket; write tcp://HOST:PORT or unix:PATH")
    return parsed


def _unix_listener(path: str) -> trio.socket.SocketType:
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        # `bind` on a Unix socket does not wait; Trio's only looks for a name to resolve.
        own = socket.socket(fileno=os.dup(sock.fileno()))
        try:
            own.bind(path)
        finally:
            own.close()
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise AddressError(f"cannot listen at unix:{path}: {_reason(error)}") from error
    return sock


def _remove_stale(path: str) -> None:
    """A socket's file that a dead process left behind is in the way of the next one."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except BlockingIOError:
            return
