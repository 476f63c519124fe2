"""`understudy up --store etcd=https://...`: against a real etcd and ours, and with files that are wrong."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.raftstore.etcd.etcds import certificates, etcdctl, process, real_etcd, required, understudy_etcd
from understudy.actors.startup import StartError
from understudy.cli.backing import store_options


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    certificates(folder, ("server", "client", "other"))
    (folder / "nonsense.pem").write_text("nonsense")
    openssl = required("openssl", "openssl")
    lock = [openssl, "ec", "-in", "client.key", "-aes256", "-passout", "pass:secret", "-out", "locked.key"]
    subprocess.run(lock, cwd=folder, check=True, capture_output=True)
    return folder


def serving(kind: str, files: Path, folder: Path) -> AbstractContextManager[str]:
    """An etcd that serves only clients with a certificate by our authority."""
    flags = ["--cert-file", str(files / "server.pem"), "--key-file", str(files / "server.key")]
    flags += ["--trusted-ca-file", str(files / "ca.pem"), "--client-cert-auth"]
    return understudy_etcd(folder, *flags) if kind == "ours" else real_etcd(folder, *flags)


@pytest.fixture(params=["ours", "etcd"], scope="module")
def url(
    request: pytest.FixtureRequest, files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    with serving(request.param, files, tmp_path_factory.mktemp("served")) as url:
        yield url


def up(folder: Path, *flags: str) -> list[str]:
    command = [sys.executable, "-P", "-m", "understudy", "up", "--nodes", "0", "--bind", "127.0.0.1:0"]
    return [*command, "--kubeconfig", str(folder / "kubeconfig"), *flags]


def complaint(folder: Path, *flags: str) -> str:
    """The one line with which it ends."""
    done = subprocess.run(up(folder, *flags), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done
    return done.stderr


def test_a_cluster_runs_on_an_etcd_behind_tls(url: str, files: Path, tmp_path: Path) -> None:
    required("etcdctl", "etcd-client")
    flags = ["--etcd-cafile", str(files / "ca.pem")]
    flags += ["--etcd-certfile", str(files / "client.pem"), "--etcd-keyfile", str(files / "client.key")]
    with process(up(tmp_path, "--store", f"etcd={url}", *flags), tmp_path / "log", "Ctrl-C", {}):
        known = ["--cacert", "ca.pem", "--cert", "client.pem", "--key", "client.key"]
        known = [word if word.startswith("--") else str(files / word) for word in known]
        key = "/registry/namespaces/kube-system"
        assert etcdctl(url, *known, "get", key, "--keys-only").strip() == key


def test_who_is_told_whom_to_trust_serves_nobody_else(files: Path, tmp_path: Path) -> None:
    required("etcdctl", "etcd-client")
    flags = ["--cert-file", str(files / "server.pem"), "--key-file", str(files / "server.key")]
    flags += ["--trusted-ca-file", str(files / "ca.pem")]
    (tmp_path / "theirs").mkdir()
    for served in (understudy_etcd(tmp_path, *flags), real_etcd(tmp_path / "theirs", *flags)):
        with served as url:
            known = ["--cacert", str(files / "ca.pem"), "--dial-timeout", "1s"]
            assert "Error" in etcdctl(url, *known, "put", "k", "v")
            known += ["--cert", str(files / "client.pem"), "--key", str(files / "client.key")]
            assert etcdctl(url, *known, "put", "k", "v") == "OK"


def test_a_server_that_nobody_vouches_for_is_refused(url: str, files: Path, tmp_path: Path) -> None:
    said = complaint(tmp_path, "--store", f"etcd={url}")
    assert re.search(r"its certificate is not good: .*--etcd-cafile names who vouches for it", said)


def test_who_has_no_certificate_is_refused_and_told_so(url: str, files: Path, tmp_path: Path) -> None:
    said = complaint(tmp_path, "--store", f"etcd={url}", "--etcd-cafile", str(files / "ca.pem"))
    # In TLS 1.3 it is refused after the handshake; not everybody says why.
    assert re.search(r"the connection has ended.*--etcd-certfile", said)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("none.pem", "", ""), "cannot read none.pem: No such file"),
        (("nonsense.pem", "", ""), "cannot use nonsense.pem: .*PEM certificates are needed"),
        (("", "client.pem", ""), "go together"),
        (("ca.pem", "client.pem", "other.key"), "other.key is not the key of client.pem"),
        (("ca.pem", "client.pem", "ca.pem"), "a PEM certificate and its PEM key"),
        (("", "client.pem", "locked.key"), "locked.key is locked by a passphrase"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    flags: tuple[str, str, str], said: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    with pytest.raises(StartError, match=said):
        store_options("etcd=https://127.0.0.1:1", *flags)


def test_files_without_a_use_are_refused(files: Path, tmp_path: Path) -> None:
    ca = str(files / "ca.pem")
    with pytest.raises(StartError, match=r"are for https .write --store etcd=https://127.0.0.1:1"):
        store_options("etcd=http://127.0.0.1:1", ca, "", "")
    assert "are for --store etcd=https" in complaint(tmp_path, "--etcd-cafile", ca)
