"""Processes of `understudy etcd` that are killed, stopped and started again, each by its own id."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest
import trio
from attrs import define, field

from tests.raftstore.proof.wires import Wires

READY = b"ready to serve client requests"
START_SECONDS = 30.0


@define(eq=False)
class ServerProcess:
    """One process, over all its lives."""

    command: list[str]
    log: Path
    nursery: trio.Nursery
    lives: int = 0
    ends_by_itself: bool = False
    """Its member was taken out."""
    _process: trio.Process | None = None
    _ready: trio.Event = field(factory=trio.Event)
    _ended: trio.Event = field(factory=trio.Event)

    async def start(self) -> None:
        """Start it; `until_ready` waits for it."""
        assert self._process is None
        self.lives += 1
        self._ready, self._ended = trio.Event(), trio.Event()
        self._process = await trio.lowlevel.open_process(
            self.command,
            stdout=-1,
            stderr=-2,
            env={**os.environ, "PYTHONSAFEPATH": "1", "PYTHONFAULTHANDLER": "1"},
        )
        self.nursery.start_soon(self._read, self._process, self._ready, self._ended)

    async def _read(self, process: trio.Process, ready: trio.Event, ended: trio.Event) -> None:
        """Keep what it says."""
        assert process.stdout is not None
        said = b""
        with self.log.open("ab") as log:
            async with process.stdout:
                while data := await process.stdout.receive_some():
                    log.write(data)
                    log.flush()
                    if not ready.is_set():
                        said += data
                        if READY in said:
                            ready.set()
        ended.set()
        ready.set()
        # Who kills it, or stops it, has taken it away before.
        assert self.ends_by_itself or self._process is not process, (
            f"it has ended by itself:\n{self.log.read_text()[-4000:]}"
        )

    async def until_ready(self) -> None:
        with trio.move_on_after(START_SECONDS):
            await self._ready.wait()
        if not self._ready.is_set() or self._ended.is_set():
            pytest.fail(f"{' '.join(self.command)} does not start:\n{self.log.read_text()[-4000:]}")

    @property
    def pid(self) -> int:
        """0 while it does not run."""
        return self._process.pid if self._process is not None else 0

    async def kill(self) -> None:
        """SIGKILL, at whatever it is doing."""
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        await process.wait()

    def pause(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGCONT)

    async def until_ended(self, within_seconds: float) -> None:
        """Wait for the end of one that ends by itself."""
        process, self._process = self._process, None
        assert process is not None and self.ends_by_itself
        with trio.fail_after(within_seconds):
            await process.wait()

    async def stop(self) -> None:
        """Let it end in its own time; harmless when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        os.kill(process.pid, signal.SIGCONT)
        process.terminate()
        with trio.move_on_after(10.0) as limit:
            limit.shield = True
            await process.wait()
        if process.returncode is None:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


def one_process(folder: Path, nursery: trio.Nursery) -> tuple[ServerProcess, str]:
    """Three members in one process, and its client URL."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [*UNDERSTUDY, "--data-dir", str(folder / "data"), "--listen-client-urls", url]
    return ServerProcess([*command, *OFTEN], folder / "log", nursery), url


async def member_processes(
    folder: Path, nursery: trio.Nursery
) -> tuple[list[ServerProcess], list[str], Wires]:
    """Four processes of one member each, their client URLs, and the wires between them.

    Three found a cluster, the fourth is to join it.
    """
    names = "abcd"
    ports = free_ports(2 * len(names))
    clients, peers = ports[: len(names)], ports[len(names) :]
    processes: list[ServerProcess] = []
    wires = Wires(peers, lambda: [process.pid for process in processes], nursery)
    await wires.open()
    advertised = [f"http://127.0.0.1:{port}" for port in wires.outside]
    members = [f"{name}={url}" for name, url in zip(names, advertised, strict=True)]
    urls = [f"http://127.0.0.1:{port}" for port in clients]
    for place, name in enumerate(names):
        joins = place == len(names) - 1
        command = [*UNDERSTUDY, "--name", name, "--data-dir", str(folder / name)]
        command += ["--listen-client-urls", urls[place]]
        command += ["--listen-peer-urls", f"http://127.0.0.1:{peers[place]}"]
        command += ["--initial-advertise-peer-urls", advertised[place]]
        command += ["--initial-cluster", ",".join(members if joins else members[:-1])]
        command += ["--initial-cluster-state", "existing" if joins else "new"]
        processes.append(ServerProcess([*command, *OFTEN], folder / f"{name}.log", nursery))
    return processes, urls, wires


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody has now, and that nobody is given by chance while a server is down."""
    first, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    found: list[int] = []
    port = PORT_MIN + 17 * os.getpid() % (first - PORT_MIN)
    while len(found) < count:
        port = port + 1 if port + 1 < first else PORT_MIN
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found


PORT_MIN = 20_000
UNDERSTUDY = [sys.executable, "-m", "understudy", "etcd"]
OFTEN = ["--snapshot-count", "200", "--log-level", "warn"]
"""Snapshots come often, so that kills fall into them, too."""
