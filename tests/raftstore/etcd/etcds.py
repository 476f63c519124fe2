"""Stores that are reached by the etcd API, for tests: in memory, and a real etcd's server on loopback."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from understudy.actors import Actor
from understudy.raftstore.etcd.calls import LocalChannel
from understudy.raftstore.etcd.client import GrpcChannel
from understudy.raftstore.etcd.listening import parse_url
from understudy.raftstore.etcd.remote_store import RemoteOptions, RemoteStore, remote_store
from understudy.raftstore.etcd.service import EtcdService
from understudy.raftstore.memory import memory_store
from understudy.raftstore.storage import Storage

START_SECONDS = 20.0


class ThroughTheApi(RemoteStore):
    """A client's store over the service over a store in memory: every message is translated both ways."""

    def __init__(self, store: Callable[[], Actor[Storage]]) -> None:
        self._store = store

    async def on_start(self) -> None:
        service = EtcdService(self.world, self.context.spawn(self._store, "served"), self.context.channel)
        super().__init__(LocalChannel(service, self.world), RemoteOptions())
        self.context.start_soon(service.run)
        await super().on_start()


def through_the_api() -> Callable[[], Actor[Storage]]:
    """A factory for a store in memory behind the etcd API, without a wire."""
    store = memory_store()
    return lambda: ThroughTheApi(store)


def required(program: str, package: str) -> str:
    """The path of a program; without it the test is skipped, or fails where CI is set."""
    found = shutil.which(program)
    if found is None:
        message = f"no {program} here: apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def certificates(folder: Path, names: tuple[str, ...]) -> None:
    """An authority, and a certificate by it for each name, as PEM files."""
    openssl = required("openssl", "openssl")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    run("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority")
    for name in names:
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
        run("req", *new[:-2], "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        sign = ["-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        run("x509", "-req", *sign, "-out", f"{name}.pem", "-days", "2", "-extfile", "names")


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody has now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def process(command: list[str], log: Path, ready: str, environment: dict[str, str]) -> Iterator[None]:
    """A process that has said `ready`, ended with the block."""
    with log.open("w") as output:
        running = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environment}
        )
    try:
        end = time.monotonic() + START_SECONDS
        while ready not in log.read_text():
            if running.poll() is not None or time.monotonic() > end:
                pytest.fail(f"{command[0]} does not start:\n{log.read_text()}")
            time.sleep(0.02)
        yield
    finally:
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            pytest.fail(f"{command[0]} does not stop:\n{log.read_text()}")


@contextmanager
def real_etcd(folder: Path) -> Iterator[str]:
    """A fresh real etcd with its data in `folder`; yields its client URL."""
    program = required("etcd", "etcd-server")
    client, peer = free_ports(2)
    url, peer_url = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    command = [program, "--data-dir", str(folder / "data"), "--heartbeat-interval", "20"]
    command += ["--election-timeout", "100", "--bcrypt-cost", "4"]
    command += ["--initial-cluster", f"default={peer_url}"]
    command += ["--listen-client-urls", url, "--advertise-client-urls", url]
    command += ["--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url]
    with process(command, folder / "etcd.log", "ready to serve client requests", {}):
        yield url


def at(url: str) -> Callable[[], Actor[Storage]]:
    """A factory for a store at a server."""
    parsed = parse_url(url, "the test's URL")
    return remote_store(lambda: GrpcChannel([parsed]))
