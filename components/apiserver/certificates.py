"""The cluster's certificates: an authority, a serving certificate, and client certificates.

The kubeconfig carries what a client needs; what a world may keep is the authority's key. The layout follows
kubeadm's: ECDSA P-256 keys, the user in the common name, the groups in the organizations.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

from understudy.actors import World
from understudy.components.machinery.tls import Certificate

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

AUTHORITY_NAME = "kubernetes"
AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365
CLOCK_SKEW = timedelta(minutes=5)
"""Certificates are valid from this long ago on, for clients whose clocks are behind."""

SERVICE_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
SERVING_HOSTS = ("localhost", "127.0.0.1", "::1", *SERVICE_NAMES, "10.96.0.1")
"""Every name by which clients reach the API server, beside the address that it is bound to."""

ADMIN = "kubernetes-admin"
ADMIN_GROUPS = ("system:masters",)


class Authority:
    """The cluster's certificate authority; its key never leaves this object."""

    @classmethod
    async def open(cls, world: World) -> Authority:
        """The world's authority. In a world that keeps its keys it is the same every time: its certificate is
        made anew, and what either one signed is good for whoever trusts the other."""
        return cls(world, await world.keys.ec_private_key("certificate-authority"))

    def __init__(self, world: World, key_pem: bytes) -> None:
        """Make an authority, valid from the world's present on; keys that it gives away come from OpenSSL's
        own entropy."""
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        self._world = world
        key = load_pem_private_key(key_pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey), type(key)
        self._key = key
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        self._name = _name(AUTHORITY_NAME, ())
        builder = (
            self._builder(self._name, self._key.public_key(), AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(self._identifier, critical=False)
        )
        self._certificate = self._sign(builder)
        self.certificate_pem: bytes = _pem(self._certificate)

    def serving(self, hosts: Sequence[str] = ()) -> Certificate:
        """A server's certificate for `SERVING_HOSTS` and more host names or addresses."""
        from cryptography import x509
        from cryptography.x509.oid import ExtendedKeyUsageOID

        names = [_general_name(host) for host in dict.fromkeys((*SERVING_HOSTS, *hosts)) if host]
        alternative = x509.SubjectAlternativeName(names)
        return self._issue("kube-apiserver", (), ExtendedKeyUsageOID.SERVER_AUTH, alternative)

    def client(self, user: str, groups: Sequence[str] = ()) -> Certificate:
        """A client's certificate: who shows it is that user in those groups."""
        from cryptography.x509.oid import ExtendedKeyUsageOID

        return self._issue(user, groups, ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def admin(self) -> Certificate:
        """The certificate that the kubeconfig carries."""
        return self.client(ADMIN, ADMIN_GROUPS)

    def _issue(
        self,
        user: str,
        groups: Sequence[str],
        usage: x509.ObjectIdentifier,
        alternative: x509.SubjectAlternativeName | None,
    ) -> Certificate:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            self._builder(_name(user, groups), key.public_key(), CERTIFICATE_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier),
                critical=False,
            )
        )
        if alternative is not None:
            builder = builder.add_extension(alternative, critical=False)
        key_pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Certificate(_pem(self._sign(builder)), key_pem)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: int
    ) -> x509.CertificateBuilder:
        from cryptography import x509

        now = self._world.now()
        # RFC 5280, 4.1.2.2: positive, at most 20 octets, unique within the authority.
        serial = self._world.rng("certificates").getrandbits(158) + 1
        return x509.CertificateBuilder(
            self._name,
            subject,
            key,
            serial,
            (now - CLOCK_SKEW).replace(microsecond=0),
            (now + timedelta(days=days)).replace(microsecond=0),
        )

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        from cryptography.hazmat.primitives import hashes

        return builder.sign(self._key, hashes.SHA256())


def _name(user: str, groups: Sequence[str]) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _general_name(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        return x509.DNSName(host)
    return x509.IPAddress(address)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    usages: dict[str, Any] = dict.fromkeys(
        ("content_commitment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
    )
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        **usages,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM)
