"""A supervised TCP service: a listener actor, and one actor a connection that may crash alone.

python examples/tcp_service.py, then: nc 127.0.0.1 9000

Each line is an arithmetic sum such as `1 + 2`. A line that is none crashes that connection's actor, which
closes its own socket and nobody else's; a crash of the listener starts a new one on the same port.
"""

from collections.abc import Callable
from functools import partial

import trio
from attrs import frozen

from understudy.actors import TEMPORARY, Actor, ActorSystem, RealWorld, Ref, Terminated, handles
from understudy.mailbox import Request, message

LINE_BYTES_MAX = 1000
CONNECTIONS_MAX = 100


class Serving:
    """Protocol of the listener."""


class Talking:
    """Protocol of a connection."""


@message("example.tcp.address")
@frozen
class Address(Request[Serving, tuple[str, int]]):
    """Where it listens."""


@message("example.tcp.connections")
@frozen
class Connections(Request[Serving, int]):
    """How many connections are open."""


class Connection(Actor[Talking]):
    """Answers the lines of one client. It owns the socket: however it ends, the socket is closed."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream

    async def on_start(self) -> None:
        self.context.start_soon(self.talk)

    async def on_stop(self) -> None:
        await trio.aclose_forcefully(self.stream)

    async def talk(self) -> None:
        received = b""
        try:
            while data := await self.stream.receive_some():
                *lines, received = (received + data).split(b"\n")
                if len(received) > LINE_BYTES_MAX:
                    raise ValueError(f"a line of over {LINE_BYTES_MAX} bytes")
                await self.stream.send_all(b"".join(answer(line) for line in lines))
        except trio.BrokenResourceError:
            pass  # the client went without a word
        self.context.stop_self()


def answer(line: bytes) -> bytes:
    """The sum of one line."""
    return b"%d\n" % sum(int(number) for number in line.split(b"+"))


class Listener(Actor[Serving]):
    """Accepts connections while there are fewer than the limit; the others wait in the kernel's backlog."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.listeners: list[trio.SocketListener] = []
        self.open: dict[str, Ref[Talking]] = {}
        self.accepted = 0

    async def on_start(self) -> None:
        self.listeners = await trio.open_tcp_listeners(self.port, host=self.host)
        self.one_less = self.world.signal("a connection has ended")
        self.context.start_soon(self.accept)

    async def on_stop(self) -> None:
        for listener in self.listeners:
            await trio.aclose_forcefully(listener)

    async def accept(self) -> None:
        while True:
            while len(self.open) >= CONNECTIONS_MAX:
                await self.one_less.wait()
            stream = await self.listeners[0].accept()
            self.accepted += 1
            # TEMPORARY: a connection that crashed is not started again, its client connects again.
            ref = self.context.spawn(partial(Connection, stream), f"{self.accepted}", TEMPORARY)
            self.open[ref.path] = ref
            self.context.watch(ref)

    @handles(Terminated)
    def ended(self, message: Terminated) -> None:
        del self.open[message.path]
        self.one_less.set()

    @handles(Address)
    def address(self, message: Address) -> tuple[str, int]:
        host, port = self.listeners[0].socket.getsockname()[:2]
        return host, port

    @handles(Connections)
    def connections(self, message: Connections) -> int:
        return len(self.open)


async def serve(host: str, port: int, ready: Callable[[ActorSystem, Ref[Serving]], None]) -> None:
    """Serve until cancelled."""
    async with RealWorld.open() as world, ActorSystem.open(world) as system:
        ready(system, system.spawn(lambda: Listener(host, port), "listener"))
        await trio.sleep_forever()


if __name__ == "__main__":
    try:
        trio.run(serve, "127.0.0.1", 9000, lambda system, ref: print("nc 127.0.0.1 9000"))
    except KeyboardInterrupt:
        print("stopped")
