"""`understudy actors` as a user meets it: a small system's picture, a cluster's, and every mistake."""

import json
import re
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
from attrs import frozen

from understudy.actors import (
    Actor,
    ActorSystem,
    RealWorld,
    Ref,
    RestartIntensityExceeded,
    Supervision,
    handles,
)
from understudy.actors.observe import InspectionPoint
from understudy.actors.observe.serving import InspectionError, inspection_socket, serve_inspection
from understudy.cli import run
from understudy.cli.actors import tree_of
from understudy.mailbox import Request, message


class Nesting:
    """Protocol of the test's actor."""


@message("test.cli.nest")
@frozen
class Nest(Request[Nesting, Ref[Nesting]]):
    name: str


class Nest_(Actor[Nesting]):
    @handles(Nest)
    def nest(self, message: Nest) -> Ref[Nesting]:
        return self.context.spawn(Nest_, message.name)


async def test_a_system_of_one_s_own_is_shown_where_it_has_an_inspection_point(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "folder" / "sock"
    async with RealWorld.open() as world, ActorSystem.open(world) as system:
        system.spawn(Nest_, "outer")
        point = system.spawn(lambda: InspectionPoint(path), "inspection")
        while not path.exists():
            await world.sleep(0.001)
        assert await actors(path, "--once") == 0
        assert "outer  running" in capsys.readouterr().out
        await system.stop(point)
        assert not path.exists()
        assert await actors(path, "--once") == 2
        assert "InspectionPoint" in capsys.readouterr().err


def test_a_path_that_cannot_be_served_is_an_error_with_a_hint(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("data")

    async def main() -> None:
        async with RealWorld.open() as world, ActorSystem.open(world) as system:
            system.spawn(lambda: InspectionPoint(taken), "inspection", Supervision(restarts_max=0))
            await world.sleep(100.0)

    with pytest.raises(RestartIntensityExceeded, match="there is a file already', 'choose another path"):
        trio.run(main)


@asynccontextmanager
async def inspected(path: Path) -> AsyncIterator[ActorSystem]:
    async with RealWorld.open() as world, ActorSystem.open(world) as system, trio.open_nursery() as nursery:
        with inspection_socket(path) as listener:
            nursery.start_soon(serve_inspection, listener, system)
            yield system
            nursery.cancel_scope.cancel()


async def actors(*arguments: str | Path) -> int:
    return await trio.to_thread.run_sync(run, ["actors", *map(str, arguments)])


async def test_it_prints_the_tree_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "folder" / "sock"
    async with inspected(path) as system:
        outer = system.spawn(Nest_, "outer")
        await outer.ask(Nest("inner"))
        assert await actors(path, "--once") == 0
        lines = capsys.readouterr().out.splitlines()
        assert "2 actors, 0 messages wait, 0 dead letters" in lines[0]
        assert re.fullmatch(r"└── outer  running  mailbox 0 \(most 1, 1 in all\)", lines[1].rstrip())
        assert lines[2].strip().startswith("└── inner  running")
        assert await actors(path, "--once", "--depth", "1") == 0
        assert "inner" not in capsys.readouterr().out
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


async def test_pictures_go_on_and_hold_handler_times_of_while_somebody_looks(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    async with inspected(path) as system:
        ref = system.spawn(Nest_, "outer")
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(b'{"every_seconds": 0}\n')
            received = b""
            with trio.fail_after(10):
                while received.count(b"\n") < 1:
                    received += await stream.receive_some()
                await ref.ask(Nest("inner"))
                while b"test.cli.nest" not in received:
                    received += await stream.receive_some()
            first, *_ = received.splitlines()
            assert [actor["path"] for actor in json.loads(first)["actors"]] == ["/outer"]
            assert len(system.probes) == 1
        with trio.fail_after(10):
            while system.probes:
                await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("request_line", [b"nonsense\n", b"{}\n", b"x" * 5000])
async def test_garbage_ends_the_connection_only(tmp_path: Path, request_line: bytes) -> None:
    path = tmp_path / "sock"
    async with inspected(path):
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(request_line)
            with trio.fail_after(10):
                with suppress(trio.BrokenResourceError):
                    assert await stream.receive_some() == b""
        assert await actors(path, "--once") == 0


def test_what_is_no_system_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["actors", str(tmp_path / "nothing")]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and "understudy up --inspect" in complaint


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "no actor system"),
        (b"\xff\xfe\n", "no actor system"),
        (b"[1]\n", "no actor system"),
        (b'{"version": 2}\n', "newer than this command"),
        (b'{"version": 1}\n', "lacks something"),
        (b'{"version": 1, "pid": 1, "dead_letters": 0, "actors": [{"path": "/a"}]}\n', "lacks something"),
        (b"", "has ended"),
    ],
)
async def test_whatever_else_answers_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: bytes, says: str
) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(answer)

    with inspection_socket(tmp_path / "sock") as listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            assert await actors(tmp_path / "sock", "--once") == 2
            nursery.cancel_scope.cancel()
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and says in complaint


def test_the_socket_is_refused_where_others_could_reach_it(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(InspectionError, match="others may write"), inspection_socket(open_to_all / "sock"):
        pass
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InspectionError, match="a file already"), inspection_socket(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(InspectionError, match="too long"), inspection_socket(tmp_path / ("x" * 200)):
        pass


async def test_a_socket_that_was_left_behind_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with inspected(path):
        with pytest.raises(InspectionError, match="another process"), inspection_socket(path):
            pass


def test_a_cluster_is_shown(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "understudy"]
    up = subprocess.Popen(
        [*command, "up", "--nodes", "1", "--bind", "127.0.0.1:0", "--inspect"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert up.stdout is not None
        for line in up.stdout:
            if line.startswith("Ctrl-C"):
                break
        shown = subprocess.run([*command, "actors"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    finally:
        up.terminate()
        up.communicate(timeout=30)
    assert shown.returncode == 0, shown.stderr
    assert "kube-apiserver  running" in shown.stdout
    assert "member-1  running" in shown.stdout
    assert up.returncode == 0
    assert not (tmp_path / ".understudy" / "actors.sock").exists()


def test_the_line_of_an_actor_in_trouble_says_so() -> None:
    actor = {
        "path": "/a", "host": "local", "state": "backing off", "incarnation": 3, "restarts": 2, "tasks": 1,
        "owed": 4,
        "depth": 7, "high_water": 9, "accepted": 100, "displaced": 4,
        "times": [["m.fast", 10, 0.01, 0.002], ["m.slow", 2, 1.0, 0.75]],
    }  # fmt: skip
    tree = tree_of({"pid": 1, "dead_letters": 4, "actors": [actor]})
    assert str(tree.children[0].label) == (
        "a  backing off  mailbox 7 (most 9, 100 in all)  4 displaced  2 restarts  1 tasks  4 answers owed"
        "  m.slow 2x mean 500.00 ms, max 750.00 ms"
    )
