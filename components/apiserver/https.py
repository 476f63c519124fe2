"""The HTTPS server: every HTTP/1.1 request becomes one message to the API server actor.

A real adapter: with `streams` and `listening` it alone touches the API server's sockets. One task serves a
connection; another reads ahead only while an answer streams, to see the client go. Deadlines are one
attribute of a connection that one task looks at, so that a request costs no timer.
"""

from __future__ import annotations

import errno
import logging
import zlib
from typing import TYPE_CHECKING

import orjson
import trio
from attrs import frozen

from understudy.actors import (
    Actor,
    ActorFailed,
    ActorStopped,
    AskTimeout,
    ChannelReader,
    EndOfChannel,
    Nursery,
    Ref,
)
from understudy.components.machinery.api import (
    BODY_BYTES_MAX,
    ApiRequest,
    ApiResponse,
    ApiServing,
    PeerIdentity,
)
from understudy.components.machinery.errors import (
    ApiError,
    internal_error,
    timeout,
    too_many_requests,
    unavailable,
)
from understudy.components.machinery.tls import peer_identity
from understudy.mailbox import MailboxFull

from .http1 import (
    CONTINUE,
    HEAD_BYTES_MAX,
    LAST_CHUNK,
    Request,
    RequestReader,
    answer_head,
    chunk,
    http_date,
)
from .listening import BoundAddress
from .streams import PlainStream, TlsStream

if TYPE_CHECKING:
    import socket
    import ssl

log = logging.getLogger("understudy.apiserver.https")

READ_BYTES = 64 * 1024
WRITE_BYTES = 256 * 1024
"""A client gets the write deadline anew for each piece of this size."""
READ_AHEAD_REQUESTS_MAX = 64
"""Requests pipelined behind a streaming answer; with more the reader waits for the stream's end."""
STREAM_CAPACITY = 1000
"""Chunks that wait for a slow watcher before the API server ends its watch."""
GZIP_BYTES_MIN = 128 * 1024
GZIP_LEVEL = 1
"""Both are those of kube-apiserver's APIResponseCompression."""
GZIP_THREAD_BYTES_MIN = 512 * 1024
"""Above this, compressing would hold up others for longer than a thread costs."""
LINGER_SECONDS = 2.0
"""How long a refused client may go on sending before the connection is cut, so that it reads the answer."""
_PLAIN_ON_TLS = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"this port speaks HTTPS, and the request came in plain HTTP\n"
)
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)


@frozen
class HttpsOptions:
    """Limits of the server."""

    connections_max: int = 4096
    handshake_seconds: float = 10.0
    head_seconds: float = 10.0
    """From the first byte of a request to the end of its headers."""
    body_seconds: float = 60.0
    """From the first byte of a request to the end of its body."""
    idle_seconds: float = 90.0
    """Between two requests."""
    write_seconds: float = 30.0
    """For each piece of an answer."""
    request_seconds: float = 60.0
    """For the API server to answer (kube-apiserver's --request-timeout)."""
    sweep_seconds: float = 0.5
    """How often deadlines are looked at."""
    head_bytes_max: int = HEAD_BYTES_MAX
    body_bytes_max: int = BODY_BYTES_MAX


class HttpsServing:
    """Protocol of the HTTPS server; it takes no messages of its own."""


class HttpsServer(Actor[HttpsServing]):
    """Serves one listening socket; plain HTTP when there is no TLS context."""

    def __init__(
        self,
        bound: BoundAddress,
        api: Ref[ApiServing],
        tls: ssl.SSLContext | None,
        options: HttpsOptions | None = None,
    ) -> None:
        self.bound = bound
        self.api = api
        self.tls = tls
        self.options = options or HttpsOptions()
        self.connections: dict[Connection, None] = {}
        self._room = trio.Event()
        self._date = (-1.0, "")

    async def on_start(self) -> None:
        self.context.start_soon(self._serve, name=f"{self.context.path} accept")
        self.context.start_soon(self._sweep, name=f"{self.context.path} deadlines")

    async def _serve(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                sock = await self._accept()
                if len(self.connections) >= self.options.connections_max:
                    await self._make_room()
                connection = Connection(self, sock)
                self.connections[connection] = None
                nursery.start_soon(connection.run, name=f"{self.context.path} connection")

    async def _accept(self) -> socket.socket:
        while True:
            try:
                return await self.bound.accept()
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    log.warning("cannot accept a connection: %s", error.strerror)
                    self._evict_idle()
                    await self.world.sleep(0.1)

    async def _make_room(self) -> None:
        """At the limit, the connection that idles longest makes room; when none idles, wait for an end."""
        while len(self.connections) >= self.options.connections_max:
            self._evict_idle()
            self._room = trio.Event()
            with trio.move_on_after(self.options.sweep_seconds):
                await self._room.wait()

    def _evict_idle(self) -> None:
        idle = [connection for connection in self.connections if connection.idle]
        if idle:
            oldest = min(idle, key=lambda connection: connection.due)
            oldest.idle = False
            oldest.scope.cancel()

    async def _sweep(self) -> None:
        while True:
            await self.world.sleep(self.options.sweep_seconds, "connection deadlines")
            now = trio.current_time()
            for connection in self.connections:
                if connection.due < now:
                    connection.scope.cancel()

    def left(self, connection: Connection) -> None:
        """A connection has ended."""
        del self.connections[connection]
        self._room.set()

    def date(self) -> str:
        """The value of `Date`, made once a second."""
        now = trio.current_time()
        if now - self._date[0] >= 1.0 or self._date[0] < 0:
            self._date = (now, http_date(self.world.now()))
        return self._date[1]


class _Gone(Exception):
    """The client has left, or the API server ended a stream with an error: cut the connection."""


class Connection:
    """One client's connection, from accept to close."""

    def __init__(self, server: HttpsServer, sock: socket.socket) -> None:
        self.server = server
        self.options = server.options
        self.stream = PlainStream(sock) if server.tls is None else TlsStream(sock, server.tls)
        self.scope = trio.CancelScope()
        self.due = trio.current_time() + self.options.handshake_seconds
        """When the connection is cut unless it gets on, on Trio's clock."""
        self.idle = False
        """Between two requests, with nothing read of the next."""
        self.peer: PeerIdentity | None = None
        self.reader = RequestReader(self.options.head_bytes_max, self.options.body_bytes_max)
        self._began = 0.0

    async def run(self) -> None:
        """Serve until either side is done. Never raises: a broken connection is its own matter."""
        try:
            with self.scope:
                try:
                    await self._handshake()
                    await self._serve()
                except (trio.BrokenResourceError, trio.ClosedResourceError, _Gone) as error:
                    log.debug("connection ended: %r", error)
                except Exception:
                    log.exception("a connection failed")
        finally:
            self.reader.close()
            self.stream.close()
            self.server.left(self)

    async def _handshake(self) -> None:
        if not isinstance(self.stream, TlsStream):
            return
        import ssl

        try:
            await self.stream.do_handshake()
        except trio.BrokenResourceError as error:
            cause = error.__cause__
            if isinstance(cause, ssl.SSLError) and cause.reason == "HTTP_REQUEST":
                await PlainStream.send_all(self.stream, _PLAIN_ON_TLS)
                await self._linger()
            raise
        self.peer = peer_identity(self.stream.tls)

    async def _serve(self) -> None:
        keep_alive = True
        while keep_alive:
            try:
                request = await self._next_request()
            except ApiError as refusal:
                await self._write_answer(None, _status_answer(refusal), keep_alive=False)
                await self._linger()
                return
            if request is None:
                break
            keep_alive = await self._answer(request)
        # The client reads to the end of the answer before it sees the connection close.
        self.due = trio.current_time() + self.options.write_seconds
        await self._linger()

    # -- requests

    async def _next_request(self) -> Request | None:
        """The next request, or None when the client has closed the connection between two."""
        reader = self.reader
        while (request := reader.next()) is None:
            if reader.wants_continue:
                reader.wants_continue = False
                await self._send(CONTINUE)
            self._set_read_deadline()
            data = await self.stream.receive_some()
            self.idle = False
            if not data:
                if reader.in_message:
                    raise _Gone("the client left in the middle of a request")
                return None
            reader.feed(data)
        self.due = float("inf")
        return request

    def _set_read_deadline(self) -> None:
        now = trio.current_time()
        if not self.reader.in_message:
            self.idle = True
            self._began = 0.0
            self.due = now + self.options.idle_seconds
            return
        self._began = self._began or now
        limit = self.options.body_seconds if self.reader.in_body else self.options.head_seconds
        self.due = self._began + limit

    async def _answer(self, request: Request) -> bool:
        """Answer one request; returns whether another may follow on this connection."""
        self._began = 0.0
        writer = channel = None
        if request.method == "GET":
            writer, channel = self.server.context.channel(f"GET {request.path}", STREAM_CAPACITY)
        message = ApiRequest(
            # HEAD is answered like GET, without the body (RFC 9110, 9.3.2); for resources it is refused.
            request.method,
            request.path,
            request.query,
            request.headers,
            request.body,
            self.peer,
            writer,
        )
        try:
            response = await self._ask(message)
            if response.streaming and channel is not None:
                return await self._write_stream(request, response, channel)
        finally:
            if channel is not None:
                channel.cancel()
        await self._write_answer(request, response, keep_alive=request.keep_alive)
        return request.keep_alive

    async def _ask(self, message: ApiRequest) -> ApiResponse:
        server = self.server
        try:
            return await server.api.ask(message, self.options.request_seconds)
        except AskTimeout:
            error = timeout(f"the request was not answered within {self.options.request_seconds:g} s")
        except MailboxFull:
            error = too_many_requests("the API server is overloaded, please try again later", 1)
        except ActorStopped:
            error = unavailable("the API server is not running")
        except ActorFailed as failure:
            error = internal_error(failure.error)
        return _status_answer(error)

    # -- answers

    async def _write_answer(
        self, request: Request | None, response: ApiResponse, *, keep_alive: bool
    ) -> None:
        body, headers = response.body, response.headers
        if len(body) > GZIP_BYTES_MIN and request is not None and _accepts_gzip(request, response):
            body = await _compressed(body)
            headers = (*headers, ("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"))
        head = answer_head(
            response.status,
            headers,
            date=self.server.date(),
            length=len(body),
            chunked=False,
            keep_alive=keep_alive,
        )
        if (request is not None and request.method == "HEAD") or response.status in (204, 304):
            await self._send(head)
        elif len(body) <= WRITE_BYTES:
            await self._send(head + body)
        else:
            await self._send(head)
            rest = memoryview(body)
            while rest:
                await self._send(rest[:WRITE_BYTES])
                rest = rest[WRITE_BYTES:]

    async def _send(self, data: bytes | memoryview) -> None:
        self.due = trio.current_time() + self.options.write_seconds
        await self.stream.send_all(data)
        self.due = float("inf")

    async def _write_stream(
        self, request: Request, response: ApiResponse, channel: ChannelReader[bytes]
    ) -> bool:
        """Write what comes on the channel until it ends; a client that leaves ends it at once."""
        keep_alive = request.keep_alive and request.chunks
        head = answer_head(
            response.status,
            response.headers,
            date=self.server.date(),
            length=None,
            chunked=request.chunks,
            keep_alive=keep_alive,
        )
        await self._send(head)
        gone = True
        async with self.server.world.nursery() as nursery:
            nursery.start_soon(self._notice_leaving, nursery)
            await self._write_chunks(channel, framed=request.chunks)
            gone = False
            nursery.cancel()
        if gone:
            raise _Gone("the client left in the middle of a stream")
        if request.chunks:
            await self._send(LAST_CHUNK)
        return keep_alive

    async def _write_chunks(self, channel: ChannelReader[bytes], *, framed: bool) -> None:
        try:
            while True:
                data = await channel.receive()
                if len(data) < READ_BYTES and (more := channel.receive_nowait()) is not None:
                    parts = [data, more]
                    size = len(data) + len(more)
                    while size < READ_BYTES and (more := channel.receive_nowait()) is not None:
                        parts.append(more)
                        size += len(more)
                    data = b"".join(parts)
                await self._send(chunk(data) if framed else data)
        except EndOfChannel:
            return
        except (ActorStopped, ActorFailed) as error:
            # Without the last chunk the client knows that the stream was cut, and resumes it.
            raise _Gone(f"the API server ended the stream: {error!r}") from error

    async def _notice_leaving(self, nursery: Nursery) -> None:
        try:
            while self.reader.waiting < READ_AHEAD_REQUESTS_MAX:
                data = await self.stream.receive_some()
                if not data:
                    break
                self.reader.feed(data)
                await trio.lowlevel.checkpoint()
            else:
                return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        nursery.cancel()

    async def _linger(self) -> None:
        """Say that no more comes, then read until the client closes too.

        Closing with unread bytes would reset the connection, and the client might lose the answer.
        """
        self.due = trio.current_time() + LINGER_SECONDS
        self.stream.say_end()
        while await self.stream.receive_raw():
            await trio.lowlevel.checkpoint()


def _status_answer(error: ApiError) -> ApiResponse:
    headers = (("Content-Type", "application/json"), *error.headers)
    return ApiResponse(error.code, headers, orjson.dumps(error.status))


def _accepts_gzip(request: Request, response: ApiResponse) -> bool:
    if response.header("content-encoding") is not None:
        return False
    for part in request.header("accept-encoding").split(","):
        coding, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if coding in ("gzip", "*"):
            return not any(parameter.replace(" ", "") in ("q=0", "q=0.0") for parameter in parameters)
    return False


async def _compressed(body: bytes) -> bytes:
    if len(body) < GZIP_THREAD_BYTES_MIN:
        return _gzip(body)
    return await trio.to_thread.run_sync(_gzip, body)


def _gzip(body: bytes) -> bytes:
    compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()
