"""The cluster's faces to the outside: HTTPS and DNS on real sockets, certificates and the kubeconfig.

A real adapter: everything is bound before any actor starts, so that an address in use is the user's error,
and outlives restarts of the actors that serve it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from attrs import frozen

from understudy.actors import Actor, Ref, World
from understudy.components.apiserver.certificates import Authority
from understudy.components.apiserver.https import HttpsServer
from understudy.components.apiserver.listening import BoundAddress, bind
from understudy.components.client.kubeconfig import kubeconfig_text
from understudy.components.dns.listener import BoundDns, DnsListener, bind_dns
from understudy.components.machinery.api import ApiServing
from understudy.components.machinery.tls import server_context


@frozen
class Front:
    """Bound sockets and what clients need to trust them."""

    host: str
    port: int
    url: str
    kubeconfig: str
    dns_address: tuple[str, int]
    certificate_authority: str
    """PEM."""
    https: Callable[[Ref[ApiServing]], Callable[[], Actor[Any]]]
    dns: Callable[[Ref[Any]], Callable[[], Actor[Any]]]

    @classmethod
    @asynccontextmanager
    async def open(cls, world: World, where: str, dns_port: int) -> AsyncIterator[Front]:
        """Bind, and make the certificates. Raises StartError."""
        bound: BoundAddress = await bind(where)
        try:
            names: BoundDns = await bind_dns(bound.address, dns_port)
        except BaseException:
            bound.close()
            raise
        try:
            authority = await Authority.open(world)
            tls = server_context(authority.serving((bound.host, bound.bound_host)), authority.certificate_pem)
            url = f"https://{bound.authority}"
            yield cls(
                bound.host,
                bound.port,
                url,
                kubeconfig_text(url, authority.certificate_pem, authority.admin()),
                (names.address, names.port),
                authority.certificate_pem.decode(),
                lambda api: lambda: HttpsServer(bound, api, tls),
                lambda server: lambda: DnsListener(names, server),
            )
        finally:
            names.close()
            bound.close()
