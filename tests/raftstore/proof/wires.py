"""Wires between processes on loopback that can be cut: a proxy in front of each, which knows who comes.

What is on a wire that is cut waits, as it would for a router that is gone; nobody is told. Linux only: whose
a connection is, is read from /proc.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import trio
from attrs import define, field

CHUNK_BYTES = 64 * 1024


@define(eq=False)
class Wires:
    """The proxies of several processes, by place."""

    ports: Sequence[int]
    """Where each process listens; connections come to `outside` instead."""
    pids: Callable[[], Sequence[int]]
    """The processes, now."""
    nursery: trio.Nursery
    outside: list[int] = field(factory=list)
    carried: dict[tuple[int, int], int] = field(factory=dict)
    """Connections so far, by (from, to)."""
    _listeners: list[trio.SocketListener] = field(factory=list)
    _cut: dict[tuple[int, int], None] = field(factory=dict)
    _mended: trio.Event = field(factory=trio.Event)

    async def open(self) -> None:
        """Begin to carry connections."""
        for place in range(len(self.ports)):
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            self._listeners.append(listener)
            self.outside.append(listener.socket.getsockname()[1])

            async def carry(stream: trio.SocketStream, place: int = place) -> None:
                await self._carry(stream, place)

            self.nursery.start_soon(trio.serve_listeners, carry, [listener])

    def isolate(self, place: int) -> None:
        """Let nothing through between one process and the others."""
        for other in range(len(self.ports)):
            self._cut[place, other] = self._cut[other, place] = None

    def mend(self) -> None:
        self._cut.clear()
        mended, self._mended = self._mended, trio.Event()
        mended.set()

    async def _until_whole(self, source: int, target: int) -> None:
        while (source, target) in self._cut:
            await self._mended.wait()

    async def _carry(self, caller: trio.SocketStream, target: int) -> None:
        source = self._place_of(caller.socket.getpeername()[1], self.outside[target])
        self.carried[source, target] = self.carried.get((source, target), 0) + 1
        await self._until_whole(source, target)
        try:
            called = await trio.open_tcp_stream("127.0.0.1", self.ports[target])
        except OSError:
            await caller.aclose()  # Nobody listens there now.
            return
        async with caller, called, trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, caller, called, source, target, nursery)
            nursery.start_soon(self._pump, called, caller, target, source, nursery)

    async def _pump(
        self,
        reading: trio.SocketStream,
        writing: trio.SocketStream,
        source: int,
        target: int,
        nursery: trio.Nursery,
    ) -> None:
        try:
            while data := await reading.receive_some(CHUNK_BYTES):
                await self._until_whole(source, target)
                await writing.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        # An end is news, too, and does not get through a wire that is cut.
        await self._until_whole(source, target)
        nursery.cancel_scope.cancel()

    def _place_of(self, port: int, proxy: int) -> int:
        """Which process has the connection from `port` to the proxy's."""
        inode = _inode(port, proxy)
        for place, pid in enumerate(self.pids()):
            try:
                handles = os.listdir(f"/proc/{pid}/fd")
            except OSError:
                continue
            for handle in handles:
                try:
                    if os.readlink(f"/proc/{pid}/fd/{handle}") == f"socket:[{inode}]":
                        return place
                except OSError:
                    continue
        return -1  # It was killed meanwhile.


def _inode(local: int, remote: int) -> str:
    """Of the socket on 127.0.0.1 with these ports; empty when it is gone."""
    wanted = [f"0100007F:{port:04X}" for port in (local, remote)]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1:3] == wanted:
            return fields[9]
    return ""
