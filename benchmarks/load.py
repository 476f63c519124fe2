"""A load generator for HTTPS: whole requests prepared beforehand, answers read by their length only.

Runs in the benchmark's process, beside the server's, so that two cores serve one side each.
"""

import base64
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import trio
import yaml


def tls_context(kubeconfig: Path) -> tuple[ssl.SSLContext, str, int]:
    """The administrator's TLS context and the server's address, from a kubeconfig."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(
        cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
    )
    with tempfile.NamedTemporaryFile() as chain:
        chain.write(base64.b64decode(user["client-certificate-data"]))
        chain.write(base64.b64decode(user["client-key-data"]))
        chain.flush()
        context.load_cert_chain(chain.name)
    host, _, port = cluster["server"].removeprefix("https://").rpartition(":")
    return context, host, int(port)


def request(method: str, path: str, body: bytes = b"", accept: str = "application/json") -> bytes:
    """The bytes of one request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nUser-Agent: bench/1\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class Connection:
    """One keep-alive connection."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self._buffer = bytearray()

    @classmethod
    async def open(cls, context: ssl.SSLContext, host: str, port: int) -> "Connection":
        tcp = await trio.open_tcp_stream(host, port)
        stream = trio.SSLStream(tcp, context, server_hostname=host)
        await stream.do_handshake()
        return cls(stream)

    async def exchange(self, data: bytes) -> tuple[int, bytes]:
        """Send a request; its answer's status and body."""
        await self._stream.send_all(data)
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            await self._more()
        head = bytes(self._buffer[:end]).lower()
        status = int(head[9:12])
        at = head.index(b"content-length:") + 15
        length = int(head[at : head.find(b"\r\n", at) if head.find(b"\r\n", at) > 0 else len(head)])
        total = end + 4 + length
        while len(self._buffer) < total:
            await self._more()
        body = bytes(self._buffer[end + 4 : total])
        del self._buffer[:total]
        return status, body

    async def _more(self) -> None:
        data = await self._stream.receive_some(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._buffer += data


async def rate(
    kubeconfig: Path, connections: int, seconds: float, make: Callable[[int], bytes], expect: int
) -> float:
    """Requests per second over so many connections; `make` gives the request of a running number."""
    context, host, port = tls_context(kubeconfig)
    done = 0
    numbers = iter(range(10**9))

    async def worker(connection: Connection, until: float) -> None:
        nonlocal done
        while time.monotonic() < until:
            status, body = await connection.exchange(make(next(numbers)))
            if status != expect:
                raise AssertionError(f"{status}: {body[:300]!r}")
            done += 1

    opened = [await Connection.open(context, host, port) for _ in range(connections)]
    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        for connection in opened:
            nursery.start_soon(worker, connection, began + seconds)
    return done / (time.monotonic() - began)
