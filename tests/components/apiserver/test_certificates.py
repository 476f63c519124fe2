"""The cluster's certificates, as a strict verifier sees them."""

from datetime import UTC, datetime
from ipaddress import ip_address

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from understudy.actors import SimWorld, World
from understudy.actors.real import GeneratedKeys
from understudy.components.apiserver.certificates import SERVING_HOSTS, Authority
from understudy.components.machinery.tls import client_context, server_context


def made(key_pem: bytes | None = None, seed: int = 1) -> Authority:
    async def make(world: World) -> Authority:
        return await Authority.open(world) if key_pem is None else Authority(world, key_pem)

    return SimWorld(seed=seed).run(make)


def policy(authority: Authority) -> PolicyBuilder:
    root = x509.load_pem_x509_certificate(authority.certificate_pem)
    return PolicyBuilder().store(Store([root])).time(datetime(2026, 1, 1, tzinfo=UTC))


def test_the_serving_certificate_holds_for_every_name_of_the_server() -> None:
    authority = made()
    leaf = x509.load_pem_x509_certificate(authority.serving(["192.0.2.7", "box.test"]).certificate_pem)
    for host in (*SERVING_HOSTS, "192.0.2.7", "box.test"):
        try:
            subject: x509.GeneralName = x509.IPAddress(ip_address(host))
        except ValueError:
            subject = x509.DNSName(host)
        assert isinstance(subject, (x509.DNSName, x509.IPAddress))
        policy(authority).build_server_verifier(subject).verify(leaf, [])
    with pytest.raises(VerificationError):
        policy(authority).build_server_verifier(x509.DNSName("elsewhere.test")).verify(leaf, [])


def test_a_client_certificate_names_user_and_groups_and_is_no_server_certificate() -> None:
    authority = made()
    certificate = authority.client("system:node:node-1", ("system:nodes", "b", "a"))
    leaf = x509.load_pem_x509_certificate(certificate.certificate_pem)
    names = [(attribute.oid, attribute.value) for attribute in leaf.subject]
    assert names == [
        (NameOID.ORGANIZATION_NAME, "system:nodes"),
        (NameOID.ORGANIZATION_NAME, "b"),
        (NameOID.ORGANIZATION_NAME, "a"),
        (NameOID.COMMON_NAME, "system:node:node-1"),
    ]
    key = load_pem_private_key(certificate.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == leaf.public_key()
    with pytest.raises(VerificationError):
        policy(authority).build_server_verifier(x509.DNSName("localhost")).verify(leaf, [])


def test_times_come_from_the_world_and_serial_numbers_differ() -> None:
    authority = made()
    certificates = [
        x509.load_pem_x509_certificate(pem)
        for pem in (
            authority.certificate_pem,
            authority.admin().certificate_pem,
            authority.serving().certificate_pem,
        )
    ]
    for certificate in certificates:
        assert certificate.not_valid_before_utc == datetime(2025, 12, 31, 23, 55, tzinfo=UTC)
    assert len({certificate.serial_number for certificate in certificates}) == 3


def test_another_authority_is_not_trusted_though_it_has_the_same_name() -> None:
    leaf = x509.load_pem_x509_certificate(made().serving().certificate_pem)
    other = made(trio.run(GeneratedKeys().ec_private_key, "other"))
    with pytest.raises(VerificationError):
        policy(other).build_server_verifier(x509.DNSName("localhost")).verify(leaf, [])


def test_authorities_of_the_same_key_are_trusted_like_one() -> None:
    before, after = made(), made(seed=2)
    assert before.certificate_pem != after.certificate_pem
    for signed, trusted in ((before, after), (after, before)):
        leaf = x509.load_pem_x509_certificate(signed.serving().certificate_pem)
        policy(trusted).build_server_verifier(x509.DNSName("localhost")).verify(leaf, [])


def test_contexts_are_made_from_memory() -> None:
    authority = made()
    assert server_context(authority.serving(), authority.certificate_pem).get_ca_certs()
    assert client_context(authority.certificate_pem, authority.admin()).get_ca_certs()
    assert "PRIVATE" not in repr(authority.admin())
