"""Stores to compare with: a real etcd of one or three members, and PySyncObj, each in its own processes."""

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import define, field

HERE = Path(__file__).parent


@contextmanager
def folder_here() -> Iterator[Path]:
    """A folder on the disk that the repository is on: /tmp may be memory."""
    with tempfile.TemporaryDirectory(prefix=".store-", dir=HERE) as folder:
        yield Path(folder)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has at the moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block; what it says goes into a file."""
    with log.open("ab") as output:
        running = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield running
        finally:
            if running.poll() is None:
                running.terminate()
                try:
                    running.wait(10)
                except subprocess.TimeoutExpired:
                    running.kill()
                    running.wait()
            elif running.returncode != -signal.SIGKILL:
                sys.stderr.write(f"{' '.join(command)} ended by itself:\n{log.read_text()[-2000:]}\n")


@define
class Server:
    """An etcd, ours or the real one: where clients come, and its processes."""

    endpoints: list[str]
    commands: list[list[str]]
    logs: list[Path]
    running: list[subprocess.Popen[bytes]] = field(factory=list)

    def start(self, number: int, stack: ExitStack) -> None:
        """Start a process, or start it again."""
        started = stack.enter_context(process(self.commands[number], self.logs[number]))
        if number < len(self.running):
            self.running[number] = started
        else:
            self.running.append(started)


OURS = [sys.executable, "-m", "understudy", "etcd"]


@contextmanager
def server(program: Sequence[str], members: int) -> Iterator[Server]:
    """One process for each member, with etcd's flags, on this machine's disk."""
    ports = free_ports(2 * members)
    clients, peers = ports[:members], ports[members:]
    initial = ",".join(f"m{n}=http://127.0.0.1:{port}" for n, port in enumerate(peers))
    with folder_here() as folder, ExitStack() as stack:
        commands = []
        for n in range(members):
            client, peer = f"http://127.0.0.1:{clients[n]}", f"http://127.0.0.1:{peers[n]}"
            command = [*program, "--name", f"m{n}", "--data-dir", f"{folder}/m{n}"]
            command += ["--listen-client-urls", client, "--advertise-client-urls", client]
            command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            commands.append([*command, "--initial-cluster", initial])
        started = Server(
            [f"127.0.0.1:{port}" for port in clients],
            commands,
            [folder / f"m{n}.log" for n in range(members)],
        )
        for n in range(members):
            started.start(n, stack)
        yield started


@contextmanager
def ours_in_one(members: int, program: Sequence[str] = OURS) -> Iterator[Server]:
    """Our server: one process with so many members."""
    (port,) = free_ports(1)
    with folder_here() as folder, ExitStack() as stack:
        command = [*program, "--members", str(members), "--data-dir", f"{folder}/data"]
        command += ["--listen-client-urls", f"http://127.0.0.1:{port}"]
        started = Server([f"127.0.0.1:{port}"], [command], [folder / "server.log"])
        started.start(0, stack)
        yield started


def drive(endpoints: list[str], clients: int, seconds: float, what: str) -> dict[str, float]:
    """`etcd_load.py` in one process, or in two with more than 16 clients; rates add up."""
    processes = 2 if clients > 16 and what != "watch" else 1
    command = [sys.executable, str(HERE / "etcd_load.py"), "--endpoints", ",".join(endpoints)]
    command += ["--clients", str(clients // processes), "--seconds", str(seconds), what]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(processes)]
    results = []
    try:
        for each in running:
            output, _ = each.communicate(timeout=seconds + 60)
            if each.returncode:
                raise SystemExit(f"{' '.join(command)} ended with {each.returncode}")
            results.append(json.loads(output))
    finally:
        for each in running:
            each.kill()  # Nothing to one that has ended.
            each.wait()
    return {
        name: sum(result[name] for result in results) / (1 if name == "rate" else len(results))
        for name in results[0]
    }


def pysyncobj(clients: int, seconds: float, *, sync: bool) -> dict[str, float]:
    """Three members of PySyncObj with a journal each; `sync`: flushed to the disk before each answer."""
    ports = free_ports(3)
    with folder_here() as folder, ExitStack() as stack:
        command = [sys.executable, str(HERE / "pysyncobj_peer.py"), "--folder", str(folder)]
        command += ["--ports", ",".join(map(str, ports)), "--clients", str(clients)]
        command += ["--seconds", str(seconds), *(["--sync"] if sync else [])]
        for member in (1, 2):
            stack.enter_context(process([*command, "--member", str(member)], folder / f"{member}.log"))
        time.sleep(0.5)
        with (folder / "0.log").open("wb") as log:
            done = subprocess.run(
                [*command, "--member", "0"],
                stdout=subprocess.PIPE,
                stderr=log,
                check=True,
                timeout=seconds + 60,
            )
        result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return result
