"""A read-only look into a running system for other processes of the same user: `understudy actors`.

A Unix socket in a private directory. A client sends one line, a JSON object with `every_seconds`; the server
answers with a snapshot as one line of JSON, and again every so often until the client goes. Handler times
are taken only while somebody looks.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import trio

from understudy.actors.actor import Actor
from understudy.actors.startup import StartError
from understudy.actors.system import ActorStatus, ActorSystem

from .tree import HandlerTimes

log = logging.getLogger("understudy.actors")

VERSION = 1
"""Of the lines; a client refuses others."""
CLIENTS_MAX = 8
"""A client beyond it waits until one of the others has gone."""
REQUEST_BYTES_MAX = 1000
SEND_SECONDS_MAX = 5.0
"""A client that does not read for so long is dropped."""
EVERY_SECONDS_MIN = 0.05


class InspectionError(StartError):
    """The socket cannot be made."""


@contextmanager
def inspection_socket(path: Path) -> Iterator[trio.SocketListener]:
    """Listen at `path`, for this user only; it is removed in the end. A missing folder is made, mode 0700.

    Raises:
        InspectionError: somebody serves there already, others may write to the folder, or the system says no.
    """
    with ExitStack() as stack:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_private(path.parent)
            _remove_stale(path)
            bound = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            before = os.umask(0o177)
            try:
                bound.bind(str(path))
            finally:
                os.umask(before)
            stack.callback(path.unlink, missing_ok=True)
            bound.listen()
        except OSError as error:
            raise InspectionError(f"{path}: {error.strerror or error}", "choose another path") from None
        yield trio.SocketListener(trio.socket.from_stdlib_socket(bound))


def _check_private(folder: Path) -> None:
    found = folder.stat()
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InspectionError(
            f"{folder}: others may write to it", "choose a folder that only you can write to"
        )


def _remove_stale(path: Path) -> None:
    """Remove a socket that a process left behind; nothing else is ever removed."""
    if not path.exists():
        return
    if not path.is_socket():
        raise InspectionError(f"{path}: there is a file already", "choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise InspectionError(f"{path}: another process serves there", "choose another path")


async def serve_inspection(listener: trio.SocketListener, system: ActorSystem) -> None:
    """Answer clients until cancelled."""
    room = trio.CapacityLimiter(CLIENTS_MAX)

    async def serve(stream: trio.SocketStream) -> None:
        async with stream, room:
            try:
                await _serve_one(system, stream)
            except* (trio.BrokenResourceError, trio.TooSlowError):
                log.info("a client of the inspection socket has gone or does not read")

    await trio.serve_listeners(serve, [listener])


class InspectionPoint(Actor[Any]):
    """Lets `understudy actors PATH` show the system that it is spawned in, wherever that runs.

    A path that cannot be served is a crash: see `inspection_socket` for the reasons.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._closing = ExitStack()

    async def on_start(self) -> None:
        if self.world.simulated:
            raise InspectionError("other processes cannot look into a simulation", "use snapshot(system)")
        listener = self._closing.enter_context(inspection_socket(self._path))
        self.context.start_soon(serve_inspection, listener, self.context._system)

    async def on_stop(self) -> None:
        self._closing.close()


async def _serve_one(system: ActorSystem, stream: trio.SocketStream) -> None:
    request = b""
    with trio.fail_after(SEND_SECONDS_MAX):
        while b"\n" not in request and len(request) <= REQUEST_BYTES_MAX:
            data = await stream.receive_some(REQUEST_BYTES_MAX)
            if not data:
                return
            request += data
    try:
        every = float(json.loads(request)["every_seconds"])
    except (ValueError, KeyError, TypeError):
        return
    with HandlerTimes.of(system) as times:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_gone, stream, nursery.cancel_scope)
            while True:
                with trio.fail_after(SEND_SECONDS_MAX):
                    await stream.send_all(json.dumps(snapshot_data(system, times)).encode() + b"\n")
                await trio.sleep(max(EVERY_SECONDS_MIN, every))


async def _until_gone(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    while await stream.receive_some(REQUEST_BYTES_MAX):
        pass
    scope.cancel()


def snapshot_data(system: ActorSystem, times: HandlerTimes) -> dict[str, Any]:
    """A snapshot as plain data, actors in order of path. Times of actors that have ended are dropped."""
    statuses = system.statistics()
    living = {status.path for status in statuses}
    for path in times.paths():
        if path not in living:
            times.forget(path)
    return {
        "version": VERSION,
        "pid": os.getpid(),
        "seconds": system.world.monotonic(),
        "dead_letters": system.dead_letter_count,
        "actors": [_actor_data(status, times) for status in statuses],
    }


def _actor_data(status: ActorStatus, times: HandlerTimes) -> dict[str, Any]:
    box = status.mailbox
    return {
        "path": status.path,
        "host": status.host,
        "state": status.state,
        "incarnation": status.incarnation,
        "restarts": status.restarts,
        "tasks": status.tasks,
        "owed": status.owed,
        "depth": box.depth,
        "high_water": box.high_water,
        "accepted": box.accepted,
        "displaced": box.displaced,
        "times": [[t.message, t.count, t.seconds_total, t.seconds_max] for t in times.at(status.path)],
    }
