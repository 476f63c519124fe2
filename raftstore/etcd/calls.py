"""One call as the service sees it, and calls without a wire.

The service works on decoded messages and knows neither gRPC nor sockets: whoever carries the messages hands
it a `Call`. `LocalChannel` carries them in memory, through nothing but World primitives, for simulation and
tests; `server` carries them over HTTP/2. What clients use is the `Channel` either offers.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define, field

from understudy.actors import Event, Signal, World

from .grpc import Code, RpcError
from .schema import METHODS, Method

if TYPE_CHECKING:
    from .service import EtcdService


class Call(ABC):
    """A call at the server."""

    method: Method
    metadata: Mapping[str, str]
    """What the client sent beside its messages: `token`, `hasleader`, ..."""
    common_name: str = ""
    """Of the client's certificate, empty without one."""

    @abstractmethod
    async def receive(self) -> Any:
        """The client's next message, None when it will send no more. One task at a time receives."""

    @abstractmethod
    async def send(self, response: Any) -> None:
        """Send a message, then wait while the client is slower. Several tasks may send: what they send goes
        out in the order in which they began."""

    @abstractmethod
    async def send_encoded(self, responses: Sequence[bytes]) -> None:
        """`send` for several messages at once, which are encoded already."""


class ClientStream(ABC):
    """A streaming call at the client."""

    @abstractmethod
    async def send(self, request: Any) -> None:
        """Send a message. Raises RpcError: the call is over."""

    @abstractmethod
    async def receive(self) -> Any:
        """The next answer, None at the end. Raises RpcError: the call failed."""

    @abstractmethod
    def cancel(self) -> None:
        """End the call; harmless when it is over."""


class Channel(ABC):
    """A client's way to a server."""

    @abstractmethod
    async def run(self) -> None:
        """Carry calls until cancelled: to be run in a task for as long as calls are made."""

    @abstractmethod
    async def connect(self) -> None:
        """Return once calls can be made. Raises RpcError: no server can be reached."""

    @abstractmethod
    async def unary(
        self, path: str, request: Any, timeout_seconds: float, metadata: Mapping[str, str] | None = None
    ) -> Any:
        """Make a call with one request and one answer. Raises RpcError."""

    @abstractmethod
    def stream(self, path: str, metadata: Mapping[str, str] | None = None) -> ClientStream:
        """Begin a call with streams of messages. Cancel it in the end. Raises RpcError: see `connect`."""


@define(eq=False)
class _Pipe:
    """Messages one way, as they are on the wire."""

    world: World
    label: str
    capacity: int = 16
    items: deque[bytes] = field(factory=deque)
    ended: bool = False
    error: RpcError | None = None
    _changed: Event = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._changed = self.world.event(self.label)

    def _wake(self) -> None:
        changed, self._changed = self._changed, self.world.event(self.label)
        changed.set()

    async def put(self, *items: bytes) -> None:
        if self.ended:
            raise self.error or RpcError(Code.CANCELLED, "the call is over")
        # Taken in first and waited for then: of two senders the first to begin comes first.
        self.items.extend(items)
        self._wake()
        while len(self.items) > self.capacity and not self.ended:
            await self._changed.wait()

    async def get(self) -> bytes | None:
        while not self.items and not self.ended:
            await self._changed.wait()
        if self.items:
            item = self.items.popleft()
            self._wake()
            return item
        if self.error is not None:
            raise self.error
        return None

    def end(self, error: RpcError | None = None) -> None:
        if not self.ended:
            self.ended, self.error = True, error
            self._wake()


@define(eq=False)
class LocalCall(Call):
    method: Method
    metadata: Mapping[str, str]
    requests: _Pipe
    responses: _Pipe
    common_name: str = ""

    async def receive(self) -> Any:
        data = await self.requests.get()
        return None if data is None else self.method.request.FromString(data)

    async def send(self, response: Any) -> None:
        await self.responses.put(response.SerializeToString())

    async def send_encoded(self, responses: Sequence[bytes]) -> None:
        await self.responses.put(*responses)


@define(eq=False)
class LocalStream(ClientStream):
    _call: LocalCall
    _over: Event

    async def send(self, request: Any) -> None:
        await self._call.requests.put(request.SerializeToString())

    async def receive(self) -> Any:
        data = await self._call.responses.get()
        return None if data is None else self._call.method.response.FromString(data)

    def cancel(self) -> None:
        self._over.set()


@define(eq=False)
class LocalChannel(Channel):
    """Calls to a service in the same process."""

    service: "EtcdService"
    world: World
    _waiting: deque[tuple[LocalCall, Event]] = field(factory=deque)
    _arrived: Signal = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._arrived = self.world.signal("local etcd calls")

    async def unary(
        self, path: str, request: Any, timeout_seconds: float, metadata: Mapping[str, str] | None = None
    ) -> Any:
        stream = self.stream(path, metadata)
        with self.world.limit(timeout_seconds):
            try:
                await stream.send(request)
                response = await stream.receive()
                assert response is not None, f"{path} answered nothing"
                return response
            finally:
                stream.cancel()
        raise RpcError(Code.DEADLINE_EXCEEDED, "context deadline exceeded")

    def stream(self, path: str, metadata: Mapping[str, str] | None = None) -> ClientStream:
        call = LocalCall(
            METHODS[path], metadata or {}, _Pipe(self.world, f"{path} requests"), _Pipe(self.world, path)
        )
        over = self.world.event(f"{path} over")
        self._waiting.append((call, over))
        self._arrived.set()
        return LocalStream(call, over)

    async def connect(self) -> None:
        return

    async def run(self) -> None:
        async with self.world.nursery() as nursery:
            while True:
                await self._arrived.wait()
                while self._waiting:
                    call, over = self._waiting.popleft()
                    nursery.start_soon(self._run, call, over, name=call.method.path)

    async def _run(self, call: LocalCall, over: Event) -> None:
        failure: RpcError | None = RpcError(Code.CANCELLED, "the call is over")
        try:
            async with self.world.nursery() as nursery:

                async def end_when_over() -> None:
                    await over.wait()
                    nursery.cancel()

                nursery.start_soon(end_when_over)
                await self.service.serve(call)
                failure = None
                nursery.cancel()
        except RpcError as error:
            failure = error
        finally:
            call.requests.end(failure)
            call.responses.end(failure)
