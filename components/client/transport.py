"""How a client's requests travel: as messages to an API server actor, or over HTTPS to any API server.

A caller cannot tell which: both give the same answers, the same streams and the same errors.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

from understudy.actors import ActorStopped, ActorSystem, AskTimeout, EndOfChannel, Ref
from understudy.actors.ref import ActorFailed
from understudy.components.machinery.api import ApiRequest, ApiResponse, ApiServing, PeerIdentity
from understudy.components.machinery.errors import ApiError, timeout, too_many_requests, unavailable
from understudy.mailbox import MailboxFull

REQUEST_TIMEOUT_SECONDS = 34.0
"""How long a request without a stream may take: a little more than the server's own 30 s for writes."""

STREAM_CAPACITY = 1000
"""Chunks of a stream that may wait for a slow reader before the server ends it."""

Headers = tuple[tuple[str, str], ...]
Query = tuple[tuple[str, str], ...]


class Transport(ABC):
    """Carries requests to one API server with one identity."""

    @abstractmethod
    async def request(
        self, method: str, path: str, query: Query, headers: Headers, body: bytes, timeout_seconds: float
    ) -> ApiResponse:
        """One request and its whole answer. Raises ApiError 503 or 504 when there is none."""

    @abstractmethod
    def stream(
        self, method: str, path: str, query: Query, headers: Headers
    ) -> AbstractAsyncContextManager[tuple[ApiResponse, AsyncIterator[bytes]]]:
        """A request whose answer comes in chunks until either side ends it."""


class ActorTransport(Transport):
    """Messages to an API server actor."""

    def __init__(self, system: ActorSystem, server: Ref[ApiServing], peer: PeerIdentity | None) -> None:
        self._system = system
        self._server = server
        self._peer = peer

    async def request(
        self, method: str, path: str, query: Query, headers: Headers, body: bytes, timeout_seconds: float
    ) -> ApiResponse:
        message = ApiRequest(method, path, query, headers, body, self._peer)
        return await self._ask(message, timeout_seconds)

    async def _ask(self, message: ApiRequest, timeout_seconds: float) -> ApiResponse:
        try:
            return await self._server.ask(message, timeout_seconds)
        except AskTimeout as error:
            raise timeout(f"no answer from {self._server.path} within {timeout_seconds:g} s") from error
        except (ActorStopped, ActorFailed) as error:
            raise _unreachable(self._server.path, error) from error
        except MailboxFull as error:
            raise too_many_requests(f"the mailbox of {self._server.path} is full: {error}", 1) from error

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, query: Query, headers: Headers
    ) -> AsyncIterator[tuple[ApiResponse, AsyncIterator[bytes]]]:
        writer, reader = self._system.own_channel(f"{method} {path}", STREAM_CAPACITY)
        try:
            message = ApiRequest(method, path, query, headers, b"", self._peer, writer)
            response = await self._ask(message, REQUEST_TIMEOUT_SECONDS)

            async def received() -> AsyncGenerator[bytes, None]:
                try:
                    while True:
                        yield await reader.receive()
                except EndOfChannel:
                    return
                except (ActorStopped, ActorFailed) as error:
                    raise _unreachable(self._server.path, error) from error

            chunks = received() if response.streaming else _one(response.body)
            # Trio warns of a generator that was left in the middle.
            async with aclosing(chunks):
                yield response, chunks
        finally:
            reader.cancel()


def _unreachable(path: str, error: Exception) -> ApiError:
    return unavailable(f"the API server {path} cannot be reached: {error!r}")


async def _one(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
