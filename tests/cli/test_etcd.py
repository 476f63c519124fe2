"""What `understudy etcd` says to whoever starts it, and how it refuses."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.raftstore.etcd.etcds import free_ports

COMMAND = [sys.executable, "-m", "understudy", "etcd"]
ENVIRONMENT = {**os.environ, "PYTHONSAFEPATH": "1"}


def refused(*flags: str, lines: int = 1) -> str:
    """The line with which it ends, of so many."""
    done = subprocess.run([*COMMAND, *flags], capture_output=True, text=True, timeout=20, env=ENVIRONMENT)
    assert done.returncode == 2, done
    assert (done.stderr.count("\n"), done.stdout) == (lines, ""), done
    return done.stderr.splitlines()[-1]


def url() -> str:
    return f"http://127.0.0.1:{free_ports(1)[0]}"


def lines_of(running: "subprocess.Popen[str]", until: str) -> list[str]:
    assert running.stdout is not None
    found: list[str] = []
    while not found or until not in found[-1]:
        line = running.stdout.readline()
        assert line, found
        found.append(line.rstrip())
    return found


def end(running: "subprocess.Popen[str]") -> int:
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=10)
    return running.returncode


def start(*flags: str, **variables: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**ENVIRONMENT, **variables},
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, list[str]]]:
    """One that runs: its folder, URL and what it has said."""
    folder, client_url = tmp_path_factory.mktemp("etcd") / "data", url()
    running = start("--data-dir", str(folder), "--listen-client-urls", client_url)
    yield folder, client_url, lines_of(running, "try:")
    assert end(running) == 0


def test_it_says_who_serves_where_and_what_to_try(served: tuple[Path, str, list[str]]) -> None:
    folder, client_url, said = served
    assert said == [
        f"ready to serve client requests on {client_url} (3 members in {folder})",
        f"try: ETCDCTL_API=3 etcdctl --endpoints={client_url} member list -w table",
    ]


def test_what_another_process_has_is_refused(served: tuple[Path, str, list[str]], tmp_path: Path) -> None:
    folder, client_url, _ = served
    said = refused("--data-dir", str(tmp_path / "other"), "--listen-client-urls", client_url)
    assert "in use already" in said and "another port" in said
    said = refused("--data-dir", str(folder), "--listen-client-urls", url())
    assert str(folder) in said and "another process has this folder open" in said


def test_another_groups_folder_is_refused_and_so_is_a_damaged_one(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    flags = ["--data-dir", str(folder), "--listen-client-urls", url()]
    running = start(*flags)
    lines_of(running, "ready")
    assert end(running) == 0
    said = refused(*flags, "--initial-cluster-token", "other")
    assert "the folder belongs to member 1 of cluster" in said and "an empty one" in said
    said = refused(*flags, "--members", "5")
    assert "--members is 5" in said and "say --members 3" in said
    for members, lines in (("[23]", 3), ("1", 4)):  # Without a majority it ends, whoever is left.
        for segment in folder.glob(f"member-{members}/*.wal"):
            data = bytearray(segment.read_bytes())
            data[600] ^= 0xFF
            segment.write_bytes(data)
        said = refused(*flags, lines=lines)  # Each member may be damaged elsewhere.
        assert re.search(r"member-\d/\w+\.wal, byte \d+", said) and "understudy store repair" in said


def test_flags_that_contradict_one_another_are_refused(tmp_path: Path) -> None:
    said = refused("--name", "x", "--initial-cluster", "a=http://127.0.0.1:1")
    assert "does not name this member, 'x'" in said and "it names a" in said
    of_two = ["--listen-client-urls", url(), "--data-dir", str(tmp_path / "two")]
    said = refused("--name", "a/b", "--initial-cluster", "a/b=http://127.0.0.1:1", *of_two)
    assert said.startswith("understudy: --name: ") and "'a/b'" in said
    with socket.create_server(("127.0.0.1", 0)) as taken:
        peer = f"http://127.0.0.1:{taken.getsockname()[1]}"
        said = refused("--initial-cluster", f"default={peer}", "--listen-peer-urls", peer, *of_two)
    assert "--listen-peer-urls: cannot listen at" in said and "another address or port" in said
    (tmp_path / "file").write_text("")
    assert "is a file, not a folder" in refused(
        "--data-dir", str(tmp_path / "file"), "--listen-client-urls", url()
    )


def test_variables_that_mean_nothing_are_named(tmp_path: Path) -> None:
    flags = ["--data-dir", str(tmp_path / "data"), "--listen-client-urls", url()]
    running = start(*flags, ETCD_NAMES="a", ETCD_LOG_LEVEL="warn")
    said = lines_of(running, "ready")
    assert end(running) == 0
    assert len(said) == 2 and said[0].endswith("unrecognized environment variable ETCD_NAMES")


def test_it_says_for_whom_it_waits(tmp_path: Path) -> None:
    own, other = url(), url()
    flags = ["--name", "a", "--data-dir", str(tmp_path / "a"), "--listen-client-urls", url()]
    flags += ["--listen-peer-urls", own, "--initial-advertise-peer-urls", own]
    running = start(*flags, "--initial-cluster", f"a={own},b={other}")
    said = lines_of(running, "waiting for")[-1]
    assert f"a majority of a ({own}), b ({other})" in said
    assert end(running) == 0
