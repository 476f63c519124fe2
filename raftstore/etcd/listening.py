"""The sockets on which clients are served: a real adapter.

They are bound before anything starts, so that an address in use is its user's error.
"""

import errno
import socket
import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import trio
from attrs import define, frozen

from understudy.actors.startup import StartError

BACKLOG: Final = 1024
KEEPALIVE_SECONDS: Final = 15
"""A peer that vanished is noticed by TCP itself: after so long without a word it is asked, and again ..."""
UNANSWERED_MS: Final = 60_000
"""... and the connection ends when nothing was acknowledged for so long (on Linux)."""
_PEM_NEEDED: Final = "a PEM certificate and its PEM key are needed"


@frozen
class Url:
    """Where to listen or connect."""

    scheme: str
    """http or https."""
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_url(text: str, what: str) -> Url:
    """`http[s]://HOST:PORT`; `what` names the flag in errors.

    Raises:
        StartError: it is not that.
    """
    hint = "for example http://127.0.0.1:2379"
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise StartError(f"{what}: {text!r} is no URL: {error}", hint) from None
    if parts.scheme not in ("http", "https"):
        raise StartError(f"{what}: {text!r} must begin with http:// or https://", hint)
    if not parts.hostname or port is None or parts.path not in ("", "/") or parts.query:
        raise StartError(f"{what}: {text!r} must be a scheme, a host and a port, and no more", hint)
    return Url(parts.scheme, parts.hostname, port)


@define(eq=False)
class Bound:
    """A listening socket, and TLS for what it accepts."""

    url: Url
    tls: ssl.SSLContext | None
    _socket: socket.socket

    async def accept(self) -> socket.socket:
        """The next connection. Raises OSError."""
        while True:
            try:
                accepted = self._socket.accept()[0]
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)
            else:
                prepare(accepted)
                return accepted

    def close(self) -> None:
        """Stop listening; harmless when done already."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


def prepare(connected: socket.socket) -> None:
    """Set what a connection of ours has."""
    connected.setblocking(False)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    notice_silence(connected.setsockopt)


def notice_silence(setsockopt: Callable[[int, int, int], None]) -> None:
    """Have TCP itself notice, at either end of a connection, that the other one has vanished."""
    setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, option):
            setsockopt(socket.IPPROTO_TCP, getattr(socket, option), KEEPALIVE_SECONDS)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_MS)


async def bind(url: Url, tls: ssl.SSLContext | None, what: str) -> Bound:
    """Listen at a URL; port 0 picks a free one, and `Bound.url` says which.

    Raises:
        StartError: the address is unknown, in use or not permitted, or https without a certificate.
    """
    if url.scheme == "https" and tls is None:
        raise StartError(
            f"{what}: {url} needs a certificate", "give --cert-file and --key-file, or write http://"
        )
    try:
        found = await trio.socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise StartError(f"{what}: {url.host!r} is no known host or address") from None
    family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address[0] == "::" else 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise _explained(what, url, error) from error
    port = listener.getsockname()[1]
    return Bound(Url(url.scheme, url.host, port), tls if url.scheme == "https" else None, listener)


def _explained(what: str, url: Url, error: OSError) -> StartError:
    if error.errno == errno.EADDRINUSE:
        return StartError(f"{what}: {url} is in use already", "end the other server or choose another port")
    if error.errno in (errno.EACCES, errno.EPERM):
        return StartError(f"{what}: binding to {url} is not permitted", "choose a port above 1023")
    if error.errno == errno.EADDRNOTAVAIL:
        return StartError(f"{what}: this machine has no address {url.host}")
    return StartError(f"{what}: cannot bind to {url}: {error.strerror or error}")


def server_tls(cert_file: str, key_file: str, trusted_ca_file: str = "") -> ssl.SSLContext:
    """TLS as a server from PEM files, offering HTTP/2 and HTTP/1.1. With somebody to trust, clients show a
    certificate by him: so it is with etcd, too.

    Raises:
        StartError: a file is missing, unreadable or no certificate or key.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2", "http/1.1"])
    load_pem(context, cert_file, key_file, trusted_ca_file)
    if trusted_ca_file:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def load_pem(context: ssl.SSLContext, cert_file: str, key_file: str, trusted_ca_file: str) -> None:
    """Load a certificate with its key, and whom to trust; either is left alone where no file is named.

    Raises:
        StartError: a file is missing, unreadable or not what it should be.
    """
    for name in filter(None, (cert_file, key_file, trusted_ca_file)):
        try:
            with open(name, "rb"):
                pass
        except OSError as error:
            raise StartError(
                f"cannot read {name}: {error.strerror}", "look at its name, and whether this user may read it"
            ) from error

    def no_passphrase() -> str:
        # OpenSSL would ask for it on the terminal.
        raise StartError(f"{key_file} is locked by a passphrase", "give a key without one")

    if cert_file:
        try:
            context.load_cert_chain(cert_file, key_file, no_passphrase)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise StartError(
                    f"{key_file} is not the key of {cert_file}", "give the two that were made together"
                ) from error
            raise StartError(
                f"cannot use {cert_file} with {key_file}: {error.reason or error}", _PEM_NEEDED
            ) from error
    if trusted_ca_file:
        try:
            context.load_verify_locations(trusted_ca_file)
        except ssl.SSLError as error:
            raise StartError(
                f"cannot use {trusted_ca_file}: {error.reason or error}", "PEM certificates are needed"
            ) from error
