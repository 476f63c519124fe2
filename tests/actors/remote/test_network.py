"""The real adapter: sockets, mutual TLS, and strangers who knock."""

import datetime
import logging
import socket
import ssl
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.actors.remote.nodes import QUICK, Add, Pair, Worker, Working, over_tcp
from understudy.actors import ActorSystem, RealWorld
from understudy.actors.remote import AddressError, ConnectFailed, Remote, Tls
from understudy.actors.remote.link import parse_address


class Authority:
    """Signs certificates for nodes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        certificate = self._certificate(self.name, self.key.public_key(), None)
        (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, node: str | None
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(
            self.name,
            subject,
            key,
            x509.random_serial_number(),
            now - datetime.timedelta(hours=1),
            now + datetime.timedelta(hours=1),
        ).add_extension(x509.BasicConstraints(ca=node is None, path_length=None), critical=True)
        if node is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(node)]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def tls(self, node: str) -> Tls:
        """Contexts of a node of that name."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(x509.Name([]), key.public_key(), node)
        path = self.folder / f"{node}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        contexts = []
        for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
            context = ssl.SSLContext(protocol)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.folder / "ca.pem")
            context.load_cert_chain(path)
            contexts.append(context)
        return Tls(*contexts)


async def call(first: Tls | None, second: Tls | None, seconds: float = 5.0) -> int:
    """What `alpha` gets from an actor of `beta`, each with its TLS."""
    async with (
        RealWorld.open() as world,
        ActorSystem.open(world) as one,
        ActorSystem.open(world) as two,
        Remote.listen(one, "tcp://127.0.0.1:0", name="alpha", tls=first, limits=QUICK) as alpha,
        Remote.listen(two, "tcp://127.0.0.1:0", name="beta", tls=second, limits=QUICK) as beta,
    ):
        two.spawn(Worker, "worker")
        peer = await alpha.connect(beta.address, seconds)
        answers = [await peer.ref("/worker", Working).ask(Add(1)) for _ in range(100)]
        return answers[-1]


def test_mutual_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    assert trio.run(call, authority.tls("alpha"), authority.tls("beta")) == 100


def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with pytest.raises(ConnectFailed, match="its certificate is not for beta, but for"):
        trio.run(call, authority.tls("alpha"), authority.tls("gamma"))
    with pytest.raises(ConnectFailed, match="its certificate is not for alpha"):
        trio.run(call, authority.tls("gamma"), authority.tls("beta"))


def test_whoever_another_authority_vouches_for_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    ours, theirs = Authority(tmp_path / "one"), Authority(tmp_path / "two")
    with pytest.raises(ConnectFailed, match="TLS"):
        trio.run(call, ours.tls("alpha"), theirs.tls("beta"), 0.3)


def test_whoever_speaks_without_tls_is_not_understood(tmp_path: Path) -> None:
    with pytest.raises(ConnectFailed):
        trio.run(call, None, Authority(tmp_path).tls("beta"), 0.3)


def test_tls_that_would_not_be_mutual_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="CERT_REQUIRED"):
        Tls(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


@pytest.mark.parametrize(
    "noise",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"understudy actors\n\xff\xff\xff\xff", b"x" * 300_000],
)
def test_garbage_closes_its_own_connection_with_a_log_line(
    noise: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(nodes: Pair) -> None:
        nodes.b.system.spawn(Worker, "worker")
        host, port = nodes.b.node.address.removeprefix("tcp://").split(":")
        stream = await trio.open_tcp_stream(host, int(port))
        async with stream:
            try:
                await stream.send_all(noise)
                while await stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                # Reset, because not everything was read: closed all the same.
                pass
        assert await nodes.a.peer.ref("/worker", Working).ask(Add(1)) == 1
        assert nodes.a.peer.connections == 1

    with caplog.at_level(logging.WARNING, "understudy.remote"):
        over_tcp(story)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "understudy.remote"]
    assert "outside the protocol" in line


def test_a_stale_unix_socket_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "node"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def main() -> None:
        async with (
            RealWorld.open() as world,
            ActorSystem.open(world) as system,
            Remote.listen(system, f"unix:{path}", name="alpha"),
        ):
            with pytest.raises(AddressError, match="cannot listen at unix:"):
                async with Remote.listen(system, f"unix:{path}", name="beta"):
                    pass

    trio.run(main)
    assert not path.exists(), "whoever ends takes its socket along"


def test_a_port_in_use_is_the_users_error() -> None:
    async def main() -> None:
        async with (
            RealWorld.open() as world,
            ActorSystem.open(world) as system,
            Remote.listen(system, "tcp://127.0.0.1:0", name="alpha") as node,
        ):
            with pytest.raises(AddressError, match="cannot listen at tcp:"):
                async with Remote.listen(system, node.address, name="beta"):
                    pass

    trio.run(main)


@pytest.mark.parametrize("text", ["tcp://[::1]:80", "tcp://host:0", "unix:/x/y", "sim:a"])
def test_addresses_are_read_and_written(text: str) -> None:
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text", ["", "tcp:host:1", "tcp://host", "tcp://:1", "tcp://h:65536", "unix:", "http://x:1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match="no address"):
        parse_address(text)
