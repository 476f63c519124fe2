"""The command line as a user meets it: in a process of its own."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from understudy.actors import ActorSystem, RealWorld
from understudy.actors.real_disk import RealDisk
from understudy.raftstore import GroupOptions, raft_group
from understudy.raftstore.storage import Put
from understudy.raftstore.wal.logs import DiskLogs

COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "kube-scheduler",
    "kube-controller-manager",
    "coredns",
    "node-1",
    "node-2",
    "node-3",
)

HANGS = """
import sys, types, trio
class Cluster:
    ready_seconds = 0.1
    kubeconfig = ""
    def __init__(self, **arguments): pass
    async def __aenter__(self): return self
    async def __aexit__(self, *error):
        with trio.CancelScope(shield=True): await trio.sleep_forever()
module = types.ModuleType("understudy.components.cluster")
module.Cluster = Cluster
sys.modules[module.__name__] = module
from understudy.__main__ import main
main()
"""
"""The command line over a cluster that never stops."""


def understudy(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "understudy", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


@contextmanager
def started(*arguments: str, cwd: Path, code: str | None = None) -> Iterator[subprocess.Popen[str]]:
    program = ["-c", code] if code else ["-m", "understudy"]
    process = subprocess.Popen(
        [sys.executable, "-P", *program, "up", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until_ready(process: subprocess.Popen[str]) -> str:
    """What it printed up to its last line."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Ctrl-C"):
            return "".join(lines)
    assert process.stderr is not None
    pytest.fail(f"it ended before it was ready: {lines} {process.stderr.read()}")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_names_the_commands(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = understudy(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^  up .*\n(.*\n)*  version ", done.stdout, re.MULTILINE)


def test_the_help_of_up_is_honest_about_the_seed(tmp_path: Path) -> None:
    done = understudy("up", "--help", cwd=tmp_path)
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    assert "does not fix the interleaving" in text
    for default in ("default: 3", "127.0.0.1:6443", ".understudy/kubeconfig"):
        assert default in text


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("nothing",), "No such command 'nothing' (understudy --help shows"),
        (("etcd", "--bogus"), "No such option '--bogus' (understudy etcd --help shows"),
        (("store", "frob"), "No such command 'frob' (understudy store --help shows"),
        (
            ("store", "snapshot", "status", "."),
            "File '.' is a directory (understudy store snapshot status --help",
        ),
        (("etcd", "--data-dir", "/dev/null"), "/dev/null is a file, not a folder"),
        (("up", "--nodes", "many"), "Invalid value for '--nodes'"),
        (("up", "--nodes", "-1"), "Invalid value for '--nodes'"),
        (("up", "--seed", "x"), "Invalid value for '--seed'"),
        (("up", "--unknown"), "No such option"),
        (("up", "more"), "unexpected extra argument"),
        (("up", "--bind", "nonsense"), "HOST:PORT"),
        (("up", "--bind", "127.0.0.1:70000"), "HOST:PORT"),
        (("up", "--bind", "no-such-host.invalid:0"), "not a known host"),
        (("up", "--bind", "192.0.2.1:0"), "no such address"),
        (("up", "--bind", "127.0.0.1:0", "--kubeconfig", "/proc/no/such"), "cannot write the kubeconfig"),
        (("up", "--bind", "127.0.0.1:0", "--kubeconfig", "."), "cannot write the kubeconfig"),
        (
            ("up", "--bind", "127.0.0.1:0", "--store", "etcd=http://127.0.0.1:1"),
            "cannot connect to http://127.0.0.1:1: Connection refused",
        ),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], complaint: str, tmp_path: Path
) -> None:
    done = understudy(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done
    assert complaint in done.stderr
    assert done.stderr.startswith("understudy: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_port_in_use_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = understudy("up", "--bind", address, cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(rf"understudy: {address} is in use already \(.*\)\n", done.stderr)
    assert done.stdout == ""


def test_a_data_folder_in_use_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    flags = ("--nodes", "0", "--bind", "127.0.0.1:0", "--data-dir", "data")
    with started(*flags, cwd=tmp_path) as running:
        until_ready(running)
        done = understudy("up", *flags, cwd=tmp_path)
        assert done.returncode == 2
        assert re.fullmatch(
            r"understudy: --data-dir: data/\S+/lock: another process has this folder open \(.*\)\n",
            done.stderr,
        )
        assert done.stdout == ""


def test_a_data_folder_of_another_store_is_refused(tmp_path: Path) -> None:
    """A cluster's store beside it would begin empty."""
    disk = RealDisk(tmp_path)

    async def keep() -> None:
        async with RealWorld.open() as world, ActorSystem.open(world) as system:
            group = raft_group(GroupOptions(members=1), disk_logs=DiskLogs(folder="", disk=disk))
            await system.spawn(group, "etcd").ask(Put(b"k", b"v"))

    trio.run(keep)
    done = understudy(
        "up", "--nodes", "0", "--bind", "127.0.0.1:0", "--data-dir", str(tmp_path), cwd=tmp_path
    )
    assert done.returncode == 2
    assert "belongs to member 1 of cluster" in done.stderr and "give --store" in done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == ""


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_up_says_what_it_does_and_stops_cleanly(signal_number: signal.Signals, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        with started("--bind", "127.0.0.1:0", cwd=tmp_path) as process:
            said = until_ready(process)
            for component in (
                "etcd",
                "kube-apiserver",
                "kube-scheduler",
                "kube-controller-manager",
                "coredns",
                "node-3",
            ):
                assert re.search(rf"^  {component}\b", said, re.MULTILINE), said
            assert re.search(r"^ready in \d+ ms", said, re.MULTILINE)
            assert "\nkubeconfig: .understudy/kubeconfig\n" in said
            assert len(re.findall(r"^  kubectl .*$", said, re.MULTILINE)) == 3
            kubeconfig = tmp_path / ".understudy" / "kubeconfig"
            assert kubeconfig.stat().st_mode & 0o777 == 0o600
            port = int(re.findall(r"https://127\.0\.0\.1:(\d+)", said)[0])
            socket.create_connection(("127.0.0.1", port)).close()
            began = time.monotonic()
            process.send_signal(signal_number)
            said, errors = process.communicate(timeout=10)
            assert time.monotonic() - began < 2.0
            assert (process.returncode, errors) == (0, "")
    assert os.listdir(temporary) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_signal_during_the_start_stops_it_too(tmp_path: Path) -> None:
    with started("--bind", "127.0.0.1:0", cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        assert (process.returncode, errors) == (0, "")


def test_a_stop_that_hangs_is_cut_off(tmp_path: Path) -> None:
    with started(cwd=tmp_path, code=HANGS) as process:
        until_ready(process)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
        assert 1.5 < time.monotonic() - began < 4.0
        assert (process.returncode, errors) == (1, "understudy: not stopped within 2 s, cut off\n")


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with started(cwd=tmp_path, code=HANGS) as process:
        until_ready(process)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline() == "stopping ...\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
        assert process.returncode == -signal.SIGINT


def test_nobody_reads_the_output(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "understudy", "--help"],
        cwd=tmp_path,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")
