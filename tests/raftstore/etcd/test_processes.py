"""A process for each member: `understudy etcd` with etcd's flags, and etcdctl against it."""

import re
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from attrs import field, frozen

from tests.raftstore.etcd.etcds import (
    READY,
    certificates,
    etcdctl,
    free_ports,
    process,
    required,
    side_by_side,
    understudy,
)

WAITS = "no leader yet"
"""What a member says that finds no majority."""


def urls_of(scheme: str, count: int) -> list[str]:
    return [f"{scheme}://127.0.0.1:{port}" for port in free_ports(count)]


@frozen
class Machines:
    """Where members called a, b, ... live, each with a folder of its own."""

    folder: Path
    clients: Sequence[str] = field(factory=lambda: urls_of("http", 4))
    peers: Sequence[str] = field(factory=lambda: urls_of("http", 4))

    def flags(self, number: int, count: int = 3) -> list[str]:
        """What a member is told of itself and of the others."""
        cluster = ",".join(f"{'abcd'[each]}={self.peers[each]}" for each in range(count))
        own = ["--name", "abcd"[number], "--data-dir", str(self.folder / "abcd"[number])]
        return [*own, "--initial-cluster", cluster, "--initial-advertise-peer-urls", self.peers[number]]

    def member(
        self, number: int, *flags: str, count: int = 3, ready: str = READY
    ) -> AbstractContextManager[None]:
        command = [sys.executable, "-m", "understudy", "etcd", *self.flags(number, count)]
        command += ["--listen-client-urls", self.clients[number], "--listen-peer-urls", self.peers[number]]
        log = self.folder / f"{'abcd'[number]}.log"
        return process([*command, *flags], log, ready, {"PYTHONSAFEPATH": "1"})

    def at(self, folder: Path) -> "Machines":
        """The same addresses, other folders."""
        folder.mkdir(exist_ok=True)
        return Machines(folder, self.clients, self.peers)


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    required("etcdctl", "etcd-client")
    return Machines(tmp_path)


def test_members_that_know_one_another_by_their_certificates(tmp_path: Path) -> None:
    required("etcdctl", "etcd-client")
    certificates(tmp_path, ("a", "b"))
    machines = Machines(tmp_path, peers=urls_of("https", 2))

    def member(number: int) -> AbstractContextManager[None]:
        name = str(tmp_path / "ab"[number])
        tls = ["--peer-cert-file", f"{name}.pem", "--peer-key-file", f"{name}.key"]
        tls += ["--peer-trusted-ca-file", str(tmp_path / "ca.pem")]
        return machines.member(number, *tls, count=2)

    with ExitStack() as stack:
        side_by_side([member(0), member(1)], stack)
        assert etcdctl(machines.clients[0], "put", "k", "v") == "OK"
        assert etcdctl(machines.clients[1], "get", "k") == "k\nv"


def test_one_process_per_member_and_a_fourth_that_joins(machines: Machines) -> None:
    urls = machines.clients
    with ExitStack() as stack:
        # The token names a new cluster: who joins it learns there which it is, as with etcd.
        founders = [machines.member(number, "--initial-cluster-token", "ours") for number in range(3)]
        side_by_side(founders, stack)
        assert etcdctl(urls[1], "put", "k", "v") == "OK"
        assert etcdctl(urls[2], "get", "k") == "k\nv"
        added = etcdctl(urls[0], "member", "add", "d", "--learner", "--peer-urls", machines.peers[3])
        found = re.search(r"Member +([0-9a-f]+) added", added)
        assert found is not None, added
        joining = ["--initial-cluster-state", "existing"]
        with machines.member(3, *joining, count=4):
            # Who says that it is ready is in the list, as its name and where clients come.
            assert f"4, started, d, {machines.peers[3]}, {urls[3]}, true" in etcdctl(
                urls[0], "member", "list"
            )
            end = time.monotonic() + 10.0
            while "promoted" not in (said := etcdctl(urls[0], "member", "promote", found[1])):
                assert "in sync with leader" in said and time.monotonic() < end, said
        # It is the same member when it comes again.
        stack.enter_context(machines.member(3, *joining, count=4))
        assert etcdctl(urls[0], "member", "list").count(", false") == 4
        assert etcdctl(urls[3], "get", "k") == "k\nv"
        assert len(etcdctl(urls[3], "member", "list").splitlines()) == 4
        hashes = {etcdctl(url, "endpoint", "hashkv").split(", ")[1] for url in urls}
        assert len(hashes) == 1


def test_the_process_of_a_member_that_was_removed_ends_and_says_so(machines: Machines) -> None:
    urls = machines.clients
    with ExitStack() as stack:
        side_by_side([machines.member(number) for number in range(3)], stack)
        etcdctl(urls[0], "member", "remove", "3")
        end, log = time.monotonic() + 10.0, machines.folder / "c.log"
        while "the member has stopped: it was taken out of the group" not in (said := log.read_text()):
            assert time.monotonic() < end, said
            time.sleep(0.05)
        assert "etcdctl member add" in said and "Traceback" not in said
        assert etcdctl(urls[0], "put", "k", "v") == "OK"


def test_a_snapshot_is_restored_on_each_machine_and_the_old_members_stay_out(machines: Machines) -> None:
    urls, file = machines.clients, machines.folder / "saved.db"
    with ExitStack() as stack:
        side_by_side([machines.member(number) for number in range(3)], stack)
        for key in ("one", "two", "gone"):
            assert etcdctl(urls[0], "put", key, key * 2) == "OK"
        etcdctl(urls[1], "del", "gone")
        saved = [etcdctl(urls[2], "get", "--prefix", "", *rev) for rev in ((), ("--rev", "4"))]
        etcdctl(urls[2], "snapshot", "save", str(file))
    restored = machines.at(machines.folder / "restored")
    for number in range(3):
        made = understudy("store", "snapshot", "restore", str(file), *restored.flags(number))
        assert made.splitlines()[-1] == f"start it: understudy etcd {' '.join(restored.flags(number))}"
    assert "exists already" in understudy("store", "snapshot", "restore", str(file), *restored.flags(0))
    with ExitStack() as stack:
        side_by_side([restored.member(number) for number in range(2)], stack)
        # In place of the third, with its number and at its address, the old one comes.
        with machines.member(2, ready=WAITS):
            assert etcdctl(urls[0], "put", "three", "3") == "OK"
            assert "deadline exceeded" in etcdctl(urls[2], "put", "lost", "1", "--command-timeout", "1s")
        assert "belongs to cluster" in (machines.folder / "c.log").read_text()
        stack.enter_context(restored.member(2))
        again = [etcdctl(urls[2], "get", "--prefix", "", *rev) for rev in (("--rev", "5"), ("--rev", "4"))]
        assert again == saved
        assert etcdctl(urls[2], "get", "three") == "three\n3"
        names = [row.split(", ")[2] for row in etcdctl(urls[2], "member", "list").splitlines()]
        assert names == ["a", "b", "c"]
