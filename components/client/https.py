"""The transport to any Kubernetes API server, ours or a real one, over HTTP/1.1 and TLS.

A real adapter: it opens sockets with Trio. Connections are kept and used again, newest first; one that the
server closed meanwhile is noticed before a request is written to it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import trio
from attrs import define

from understudy.components.machinery.api import ApiResponse
from understudy.components.machinery.errors import ApiError, timeout, unavailable
from understudy.components.machinery.tls import client_context

from .http1 import AnswerReader, MalformedAnswer, request_bytes
from .kubeconfig import Access, KubeconfigError
from .transport import REQUEST_TIMEOUT_SECONDS, Headers, Query, Transport

if TYPE_CHECKING:
    import ssl

READ_BYTES = 64 * 1024
IDLE_CONNECTIONS_MAX = 25
IDLE_SECONDS_MAX = 60.0
"""Less than the 90 s after which servers close an idle connection."""


@define(eq=False)
class _Connection:
    raw: trio.SocketStream
    stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]
    used: bool = False
    """It has carried an answer before."""
    idle_since: float = 0.0

    def close(self) -> None:
        self.raw.socket.close()


class _Unanswered(Exception):
    """The connection ended before the first byte of the answer."""


class HttpsTransport(Transport):
    """Requests to the server of an `Access`, each with its credentials.

    Use it as an async context manager, or call `close` at the end.

    Raises:
        KubeconfigError: the access's server is not an http or https URL, or its certificates are broken.
    """

    def __init__(self, access: Access) -> None:
        url = urlsplit(access.server)
        try:
            port = url.port
        except ValueError as error:
            raise KubeconfigError(f"the server {access.server!r} has no valid port") from error
        if url.scheme not in ("https", "http") or not url.hostname:
            raise KubeconfigError(f"the server {access.server!r} is not an https or http URL")
        self._host = url.hostname
        self._port = port or (443 if url.scheme == "https" else 80)
        self._authority = url.netloc.rpartition("@")[2]
        self._prefix = url.path.rstrip("/")
        self._server_name = access.server_name or url.hostname
        self._tls = _context(access) if url.scheme == "https" else None
        self._credentials: Headers = (
            (("Authorization", f"Bearer {access.token}"),) if access.token is not None else ()
        )
        self._idle: list[_Connection] = []
        self._closed = False

    async def __aenter__(self) -> HttpsTransport:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections, and every other one when its answer ends."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    async def request(
        self, method: str, path: str, query: Query, headers: Headers, body: bytes, timeout_seconds: float
    ) -> ApiResponse:
        data = self._request(method, path, query, headers, body)
        with trio.move_on_after(timeout_seconds):
            connection, reader = await self._begin(method, data)
            try:
                await self._finish(connection, reader)
            except BaseException:
                connection.close()
                raise
            self._release(connection, reader)
            return ApiResponse(reader.status, tuple(reader.headers), b"".join(reader.pieces))
        raise timeout(f"no answer from {self._authority} within {timeout_seconds:g} s")

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, query: Query, headers: Headers
    ) -> AsyncIterator[tuple[ApiResponse, AsyncIterator[bytes]]]:
        data = self._request(method, path, query, headers, b"")
        connection = None
        try:
            with trio.move_on_after(REQUEST_TIMEOUT_SECONDS) as scope:
                connection, reader = await self._begin(method, data)
                streaming = reader.chunked and reader.status < 400
                if not streaming:
                    await self._finish(connection, reader)
            if connection is None or scope.cancelled_caught:
                raise timeout(f"no answer from {self._authority} within {REQUEST_TIMEOUT_SECONDS:g} s")
            body = b"" if streaming else b"".join(reader.pieces)
            response = ApiResponse(reader.status, tuple(reader.headers), body, streaming)
            chunks = self._chunks(connection, reader) if streaming else _one(body)
            # Trio warns of a generator that was left in the middle.
            async with aclosing(chunks):
                yield response, chunks
            self._release(connection, reader)
        except BaseException:
            if connection is not None:
                connection.close()
            raise

    def _request(self, method: str, path: str, query: Query, headers: Headers, body: bytes) -> bytes:
        every = (*headers, *self._credentials)
        return request_bytes(method, self._authority, self._prefix + path, query, every, body)

    async def _begin(self, method: str, data: bytes) -> tuple[_Connection, AnswerReader]:
        """Send a request and read the head of its answer, once more when a kept connection was stale."""
        while True:
            connection = self._kept() or await self._connect()
            reader = AnswerReader(method)
            try:
                # A server that refuses may close before it read everything: its answer is still there.
                with suppress(trio.BrokenResourceError):
                    await connection.stream.send_all(data)
                while not reader.head_complete:
                    await self._advance(connection, reader)
            except _Unanswered as error:
                connection.close()
                # A request that may have been carried out is repeated only if that changes nothing.
                if not (connection.used and method in ("GET", "HEAD")):
                    raise self._unreachable(str(error)) from error
            except BaseException:
                connection.close()
                raise
            else:
                return connection, reader

    async def _finish(self, connection: _Connection, reader: AnswerReader) -> None:
        while not reader.complete:
            await self._advance(connection, reader)

    async def _chunks(self, connection: _Connection, reader: AnswerReader) -> AsyncGenerator[bytes, None]:
        while True:
            if reader.pieces:
                piece = b"".join(reader.pieces)
                reader.pieces.clear()
                yield piece
            if reader.complete:
                return
            await self._advance(connection, reader)

    async def _advance(self, connection: _Connection, reader: AnswerReader) -> None:
        """Read once."""
        try:
            data = await connection.stream.receive_some(READ_BYTES)
            if data:
                reader.feed(data)
            elif not reader.started:
                raise _Unanswered("it closed the connection without an answer")
            elif not reader.end():
                raise self._unreachable("the connection ended in the middle of the answer")
        except trio.BrokenResourceError as error:
            if not reader.started:
                raise _Unanswered(_cause(error)) from error
            raise self._unreachable(_cause(error)) from error
        except MalformedAnswer as error:
            raise self._unreachable(f"the answer is not HTTP: {error}") from error

    # -- connections

    def _kept(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            # Anything that can be read now is the end, or an answer that nobody asked for.
            old = trio.current_time() - connection.idle_since > IDLE_SECONDS_MAX
            if not old and not connection.raw.socket.is_readable():
                return connection
            connection.close()
        return None

    def _release(self, connection: _Connection, reader: AnswerReader) -> None:
        whole = reader.complete and reader.keep_alive
        if whole and not self._closed and len(self._idle) < IDLE_CONNECTIONS_MAX:
            connection.used = True
            connection.idle_since = trio.current_time()
            self._idle.append(connection)
        else:
            connection.close()

    async def _connect(self) -> _Connection:
        try:
            raw = await trio.open_tcp_stream(self._host, self._port)
        except OSError as error:
            raise self._unreachable(_cause(error)) from error
        if self._tls is None:
            return _Connection(raw, raw)
        stream = trio.SSLStream(raw, self._tls, server_hostname=self._server_name, https_compatible=True)
        try:
            await stream.do_handshake()
        except BaseException as error:
            raw.socket.close()
            if isinstance(error, trio.BrokenResourceError):
                raise self._unreachable(_cause(error)) from error
            raise
        return _Connection(raw, stream)

    def _unreachable(self, why: str) -> ApiError:
        return unavailable(f"the API server {self._authority} cannot be reached: {why}")


def _context(access: Access) -> ssl.SSLContext:
    import ssl

    try:
        context = client_context(access.authority_pem, access.certificate)
    except ssl.SSLError as error:
        raise KubeconfigError(f"the certificates for {access.server} cannot be used: {error}") from error
    if not access.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _cause(error: BaseException) -> str:
    """The innermost reason: Trio's own errors only say that something broke."""
    inner: Any = error
    while isinstance(inner, BaseExceptionGroup) or inner.__cause__ is not None:
        inner = inner.exceptions[0] if isinstance(inner, BaseExceptionGroup) else inner.__cause__
    return str(getattr(inner, "strerror", None) or inner or type(inner).__name__)


async def _one(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
