"""TLS contexts from keys that are only in memory: a real adapter (it needs the `ssl` module and a file).

`ssl` loads a certificate chain from a file only, so the chain is written to an anonymous file that is gone
as soon as it was read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from attrs import field, frozen

from .api import PeerIdentity

if TYPE_CHECKING:
    import ssl


@frozen
class Certificate:
    """A certificate and its private key."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)
    """Not encrypted."""


def server_context(serving: Certificate, authority_pem: bytes) -> ssl.SSLContext:
    """TLS 1.2 and newer, HTTP/1.1, client certificates optional and verified against the authority."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_verify_locations(cadata=authority_pem.decode("ascii"))
    context.verify_mode = ssl.CERT_OPTIONAL
    _load_chain(context, serving)
    return context


def client_context(authority_pem: bytes | None, identity: Certificate | None) -> ssl.SSLContext:
    """Verifies the server against the authority, or the system's authorities when it is None."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if authority_pem is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=authority_pem.decode("ascii"))
    if identity is not None:
        _load_chain(context, identity)
    return context


def peer_identity(connection: ssl.SSLObject) -> PeerIdentity | None:
    """The subject of the certificate that the client showed and TLS has verified, or None.

    User and groups are its common name and organizations ("X509 client certificates" in the Kubernetes
    authentication reference).
    """
    certificate = connection.getpeercert()
    if not certificate:
        return None
    names: list[tuple[str, str]] = [pair for part in certificate.get("subject", ()) for pair in part]  # type: ignore[misc]
    user = next((value for key, value in names if key == "commonName"), "")
    groups = tuple(value for key, value in names if key == "organizationName")
    return PeerIdentity(user, groups)


def _load_chain(context: ssl.SSLContext, certificate: Certificate) -> None:
    with _short_lived_file(certificate.certificate_pem + certificate.key_pem) as path:
        context.load_cert_chain(path)


@contextmanager
def _short_lived_file(content: bytes) -> Iterator[str]:
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
        try:
            _write_all(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    import tempfile

    descriptor, path = tempfile.mkstemp(prefix="understudy-")  # created 0600
    try:
        try:
            _write_all(descriptor, content)
        finally:
            os.close(descriptor)
        yield path
    finally:
        os.unlink(path)


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
