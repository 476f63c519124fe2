"""A client's channel to an etcd server, real or ours: gRPC on one connection that is made anew when it ends.

A real adapter: it alone connects. `run` holds the connection, in a task of its own; calls are made from any.
"""

import logging
import os
import ssl
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import trio
from attrs import define, field

from .calls import Channel, ClientStream
from .client_connection import CallEnded, ClientConnection
from .grpc import MESSAGE_BYTES_MAX, Code, NotSent, RpcError
from .http2 import ConnectionEnded, MessageCame
from .listening import Url, load_pem, notice_silence
from .schema import METHODS, Method

log = logging.getLogger("understudy.raftstore.etcd")

READ_BYTES: Final = 64 * 1024
CONNECT_SECONDS: Final = 5.0
STREAM_WAITING_BYTES_MAX: Final = 1 << 20


def client_tls(ca_file: str = "", cert_file: str = "", key_file: str = "") -> ssl.SSLContext:
    """TLS to a server that `ca_file` vouches for, or whom the system trusts (SSL_CERT_FILE names others);
    with the client's own certificate, where there is one.

    Raises:
        StartError: a file is missing, unreadable or not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    if not ca_file:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    load_pem(context, cert_file, key_file, ca_file)
    return context


@define(eq=False)
class GrpcStream(ClientStream):
    channel: "GrpcChannel"
    connection: "Connected"
    number: int
    method: Method
    _came: deque[MessageCame] = field(factory=deque)
    _ended: CallEnded | None = None
    _waits: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    async def send(self, request: Any) -> None:
        self._raise_if_ended()
        protocol = self.connection.protocol
        protocol.send(self.number, request.SerializeToString())
        if not self.method.client_streaming:
            protocol.half_close(self.number)
        self.connection.say()
        while protocol.waiting_bytes(self.number) > STREAM_WAITING_BYTES_MAX:
            await self.connection.windows.park()
            self._raise_if_ended()

    def _raise_if_ended(self) -> None:
        if self._ended is not None:
            raise self._ended.error or RpcError(Code.CANCELLED, "the call is over")

    async def receive(self) -> Any:
        while not self._came:
            if self._ended is not None:
                if self._ended.error is not None:
                    raise self._ended.error
                return None
            await self._waits.park()
        came = self._came.popleft()
        self.connection.protocol.taken(self.number, came.taken_bytes)
        self.connection.say()
        try:
            return self.method.response.FromString(came.payload)
        except Exception as error:
            # protobuf's DecodeError has no public name of its own.
            what = f"the answer is no {self.method.response.DESCRIPTOR.name}: {error}"
            raise RpcError(Code.INTERNAL, what) from error

    def cancel(self) -> None:
        if self._ended is None:
            self.end(CallEnded(self.number, RpcError(Code.CANCELLED, "the call is over")))
            self.connection.streams.pop(self.number, None)
            self.connection.protocol.cancel(self.number)
            for came in self._came:
                self.connection.protocol.taken(self.number, came.taken_bytes)
            self.connection.say()

    def take(self, came: MessageCame) -> None:
        self._came.append(came)
        self._waits.unpark_all()

    def end(self, ended: CallEnded) -> None:
        self._ended = ended
        self._waits.unpark_all()
        # Others' calls look again, too: who waits for a window has no place of its own to wait at.
        self.connection.windows.unpark_all()


@define(eq=False)
class Connected:
    """A connection, and the calls on it."""

    stream: trio.abc.Stream
    protocol: ClientConnection
    streams: dict[int, GrpcStream] = field(factory=dict)
    windows: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)
    _something: trio.Event = field(factory=trio.Event)

    def say(self) -> None:
        """Have the writer look."""
        self._something.set()

    async def serve(self) -> None:
        """Carry the calls until the connection ends."""
        why = ""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                while not self.protocol.ended and (data := await self.stream.receive_some(READ_BYTES)):
                    for happening in self.protocol.receive(bytes(data)):
                        self._take(happening)
                    self.say()
                    if self.windows:
                        self.windows.unpark_all()
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError) as broken:
            why = f": {_why(broken)}"
        finally:
            self.protocol.ended = True
            streams, self.streams = self.streams, {}
            for number, stream in streams.items():
                stream.end(CallEnded(number, RpcError(Code.UNAVAILABLE, f"the connection has ended{why}")))
            with trio.move_on_after(0):
                await self.stream.aclose()

    async def _write(self) -> None:
        while True:
            if data := self.protocol.take_output():
                await self.stream.send_all(data)
            await self._something.wait()
            self._something = trio.Event()

    def _take(self, happening: Any) -> None:
        match happening:
            case MessageCame():
                stream = self.streams.get(happening.stream)
                if stream is not None:
                    stream.take(happening)
                else:
                    self.protocol.taken(happening.stream, happening.taken_bytes)
            case CallEnded():
                stream = self.streams.pop(happening.stream, None)
                if stream is not None:
                    stream.end(happening)
            case ConnectionEnded():
                pass


def _why(error: BaseException) -> str:
    """What the system or TLS says of a connection that ended, or did not come about."""
    while inner := error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__:
        error = inner
    if isinstance(error, trio.TooSlowError):
        return f"no answer within {CONNECT_SECONDS:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason is not None:
        return f"TLS: {error.reason.lower().replace('_', ' ')}"
    if isinstance(error, ConnectionError) and error.errno is not None:
        return os.strerror(error.errno)  # Trio's own words name the address, as ours do.
    return str(error)


@define(eq=False)
class GrpcChannel(Channel):
    """Calls to one of several servers, whichever can be reached."""

    urls: list[Url]
    tls: ssl.SSLContext | None = None
    message_bytes_max: int = MESSAGE_BYTES_MAX
    _connected: Connected | None = None
    _wanted: trio.Event = field(factory=trio.Event)
    _attempt: trio.Event = field(factory=trio.Event)
    """Set when an attempt to connect has ended, and made anew for the next."""
    _error: str = ""
    _turn: int = 0

    async def run(self) -> None:
        """Connect whenever a call is made and there is no connection, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            try:
                self._connected = await self._connect()
            except OSError as error:
                self._error = str(error)
            attempt, self._attempt = self._attempt, trio.Event()
            attempt.set()
            if self._connected is not None:
                try:
                    await self._connected.serve()
                finally:
                    self._connected = None

    async def _connect(self) -> Connected:
        """Raises OSError."""
        url = self.urls[self._turn % len(self.urls)]
        self._turn += 1
        try:
            with trio.fail_after(CONNECT_SECONDS):
                stream = await self._open(url)
        except (trio.TooSlowError, trio.BrokenResourceError, OSError) as error:
            raise OSError(f"cannot connect to {url}: {_why(error)}") from error
        authority = f"{url.host}:{url.port}"
        return Connected(stream, ClientConnection(self.message_bytes_max, authority, url.scheme))

    async def _open(self, url: Url) -> trio.abc.Stream:
        plain = await trio.open_tcp_stream(url.host, url.port)
        try:
            notice_silence(plain.setsockopt)
            if url.scheme != "https":
                return plain
            assert self.tls is not None, url
            secured = trio.SSLStream(plain, self.tls, server_hostname=url.host, https_compatible=True)
            await secured.do_handshake()
            return secured
        except BaseException:
            await trio.aclose_forcefully(plain)
            raise

    async def connect(self) -> None:
        """Return once there is a connection. Raises RpcError: one attempt at each server failed."""
        for _ in self.urls:
            if self._usable() is not None:
                return
            attempt = self._attempt
            self._wanted.set()
            await attempt.wait()
        if self._usable() is None:
            raise NotSent(Code.UNAVAILABLE, self._error or "no connection")

    def _usable(self) -> Connected | None:
        connected = self._connected
        return connected if connected is not None and not connected.protocol.ended else None

    async def unary(
        self, path: str, request: Any, timeout_seconds: float, metadata: Mapping[str, str] | None = None
    ) -> Any:
        with trio.move_on_after(timeout_seconds):
            await self.connect()
            stream = self._begin(path, metadata or {}, timeout_seconds)
            try:
                await stream.send(request)
                response = await stream.receive()
                if response is None:
                    raise RpcError(Code.INTERNAL, f"{path} answered nothing")
                return response
            finally:
                stream.cancel()
        raise RpcError(Code.DEADLINE_EXCEEDED, f"{path}: not answered within {timeout_seconds:g} s")

    def stream(self, path: str, metadata: Mapping[str, str] | None = None) -> ClientStream:
        return self._begin(path, metadata or {}, None)

    def _begin(self, path: str, metadata: Mapping[str, str], timeout_seconds: float | None) -> GrpcStream:
        connected = self._usable()
        if connected is None:
            raise NotSent(Code.UNAVAILABLE, "no connection")
        number = connected.protocol.call(path, metadata, timeout_seconds)
        stream = GrpcStream(self, connected, number, METHODS[path])
        connected.streams[number] = stream
        connected.say()
        return stream
