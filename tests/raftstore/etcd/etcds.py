"""Stores that are reached by the etcd API, for tests: in memory; ours and a real etcd as processes."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

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
READY = "ready to serve client requests"
"""What either server says when it is."""


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
    """A process that has said `ready`, ended with the block. What it says is in `log`."""
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )
    said: SimpleQueue[bool] = SimpleQueue()

    def listen() -> None:
        assert running.stdout is not None
        with running.stdout as lines, log.open("w", buffering=1) as output:
            for line in lines:
                output.write(line)
                if ready in line:
                    said.put(True)
        said.put(False)

    listener = Thread(target=listen)
    listener.start()
    try:
        try:
            started = said.get(timeout=START_SECONDS)
        except Empty:
            started = False
        if not started:
            pytest.fail(f"{command[0]} does not start:\n{log.read_text()}")
        yield
    finally:
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            pytest.fail(f"{command[0]} does not stop:\n{log.read_text()}")
        finally:
            listener.join()


def understudy(*arguments: str) -> str:
    """What a command of ours prints: output first, then complaints."""
    command = [sys.executable, "-m", "understudy", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=20, env={**os.environ, "PYTHONSAFEPATH": "1"}
    )
    assert "Traceback" not in done.stderr, done.stderr
    return f"{done.stdout}{done.stderr}"


@contextmanager
def understudy_etcd(folder: Path, *flags: str) -> Iterator[str]:
    """Three members in one process; yields the client URL."""
    (port,) = free_ports(1)
    scheme = "https" if "--cert-file" in flags else "http"
    url = f"{scheme}://127.0.0.1:{port}"
    command = [sys.executable, "-m", "understudy", "etcd", "--data-dir", str(folder / "data")]
    command += ["--listen-client-urls", url, *flags]
    with process(command, folder / "understudy.log", READY, {"PYTHONSAFEPATH": "1"}):
        yield url


def side_by_side(starts: Sequence[AbstractContextManager[None]], stack: ExitStack) -> None:
    """Enter what waits for one another: nobody is ready before there is a majority."""
    with ThreadPoolExecutor(len(starts)) as pool:
        for each, entering in [(each, pool.submit(each.__enter__)) for each in starts]:
            entering.result()
            stack.push(each)


def etcdctl(url: str, *arguments: str, given: str = "", seconds: float = 15.0) -> str:
    """What etcdctl prints, without its log lines; output first, then complaints."""
    program = required("etcdctl", "etcd-client")
    done = subprocess.run(
        [program, "--endpoints", url, "--command-timeout", "8s", *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, "ETCDCTL_API": "3"},
    )
    lines = [line for line in f"{done.stdout}{done.stderr}".splitlines() if '"level":' not in line]
    return "\n".join(lines)


@contextmanager
def real_etcd(folder: Path, *flags: str) -> Iterator[str]:
    """A fresh real etcd with its data in `folder`; yields its client URL."""
    program = required("etcd", "etcd-server")
    client, peer = free_ports(2)
    scheme = "https" if "--cert-file" in flags else "http"
    url, peer_url = f"{scheme}://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    command = [program, "--data-dir", str(folder / "data"), "--heartbeat-interval", "20"]
    command += ["--election-timeout", "100", "--bcrypt-cost", "4"]
    command += ["--initial-cluster", f"default={peer_url}"]
    command += ["--listen-client-urls", url, "--advertise-client-urls", url]
    command += ["--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url, *flags]
    with process(command, folder / "etcd.log", READY, {}):
        yield url


def at(url: str) -> Callable[[], Actor[Storage]]:
    """A factory for a store at a server."""
    parsed = parse_url(url, "the test's URL")
    return remote_store(lambda: GrpcChannel([parsed]))
