"""The TCP example over real sockets on loopback."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from understudy.actors import ActorSystem, Ref

from . import example

tcp_service = example("tcp_service")
Address, Connections = tcp_service.Address, tcp_service.Connections


async def served(main: Callable[[ActorSystem, Ref[Any]], Awaitable[None]]) -> None:
    started: list[tuple[ActorSystem, Ref[Any]]] = []
    ready = trio.Event()

    def note(system: ActorSystem, ref: Ref[Any]) -> None:
        started.append((system, ref))
        ready.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tcp_service.serve, "127.0.0.1", 0, note)
        with trio.fail_after(120):
            await ready.wait()
            await main(*started[0])
        nursery.cancel_scope.cancel()


async def line(stream: trio.SocketStream, text: bytes) -> bytes:
    """As many lines as were sent, or what came before the connection ended."""
    received = b""
    await stream.send_all(text)
    while received.count(b"\n") < text.count(b"\n") and (data := await stream.receive_some()):
        received += data
    return received


async def test_sums_are_answered_and_a_bad_line_ends_only_its_own_connection() -> None:
    async def main(system: ActorSystem, listener: Ref[Any]) -> None:
        host, port = await listener.ask(Address())
        good = await trio.open_tcp_stream(host, port)
        bad = await trio.open_tcp_stream(host, port)
        async with good, bad:
            assert await line(good, b"1 + 2\n3+4\n") == b"3\n7\n"
            assert await line(bad, b"7\n") == b"7\n"
            assert await listener.ask(Connections()) == 2
            assert await line(bad, b"one + two\n") == b"", "its actor crashed, so its socket is closed"
            assert await line(good, b"5+6\n") == b"11\n"
            await system.stop(system.ref("/listener/2"))
            assert await listener.ask(Connections()) == 1

    await served(main)


async def test_a_client_that_leaves_is_forgotten_and_a_stop_closes_the_others() -> None:
    async def main(system: ActorSystem, listener: Ref[Any]) -> None:
        host, port = await listener.ask(Address())
        leaving = await trio.open_tcp_stream(host, port)
        assert await line(leaving, b"1\n") == b"1\n"
        await leaving.aclose()
        await system.stop(system.ref("/listener/1"))
        staying = await trio.open_tcp_stream(host, port)
        async with staying:
            assert await line(staying, b"2\n") == b"2\n"
            assert await listener.ask(Connections()) == 1
            await system.stop(listener)
            assert await staying.receive_some() == b""

    await served(main)


async def test_a_crashed_listener_listens_again() -> None:
    async def main(system: ActorSystem, listener: Ref[Any]) -> None:
        await listener.ask(Address())
        system.crash(listener, RuntimeError("on purpose"))
        host, port = await listener.ask(Address())
        async with await trio.open_tcp_stream(host, port) as stream:
            assert await line(stream, b"1+1\n") == b"2\n"

    await served(main)
