"""The wire front: every connection on the client port, gRPC over HTTP/2 or plain HTTP/1.1.

A real adapter: with `listening` it alone touches the server's sockets. One task reads a connection, one
writes it, and each call has one while it goes on; whatever calls have to say while the writer works goes out
in one piece.
"""

import errno
import logging
import math
import re
import socket
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import trio
from attrs import define, field

from understudy.actors import Actor, ActorStopped, Ref, World
from understudy.actors.startup import StartError
from understudy.mailbox import Refusal
from understudy.raftstore.storage import Status, Storage, Unavailable
from understudy.raftstore.storage.cluster import MemberList, MemberPublish

from .autocompaction import Compactor
from .calls import Call
from .configuration import EtcdConfig
from .connection import (
    CallAborted,
    CallBegan,
    ClientFinished,
    Happening,
    ServerConnection,
)
from .grpc import Code, RpcError, parse_timeout
from .http1 import PREFACE, Http1Reader, Http1Request, Page, answer, page
from .http2 import ConnectionEnded, MessageCame
from .listening import Bound
from .schema import METHODS, Method
from .service import EtcdService, ServiceOptions

log = logging.getLogger("understudy.raftstore.etcd")

READ_BYTES: Final = 64 * 1024
STREAM_WAITING_BYTES_MAX: Final = 1 << 20
"""A call that has so much waiting for its client's window waits too."""
OUTPUT_BYTES_MAX: Final = 4 << 20
"""Of a connection: what its client's windows allow and it does not read."""
IDLE_MAX: Final = 64
"""Tasks of a connection that wait for calls."""
CONNECTIONS_MAX: Final = 10_000
"""Who comes then waits to be accepted until another leaves."""
HANDSHAKE_SECONDS: Final = 10.0
FIRST_BYTES_SECONDS: Final = 120.0
"""Who connects says what he speaks within this time, as with grpc-go."""
MESSAGE_OVERHEAD_BYTES: Final = 512 * 1024
"""etcd reads messages of its request limit and so much more."""
NO_MAJORITY: Final = "which is no majority"
"""What a group says of itself when too few members run."""
_STOPPED: Final = re.compile(r"; member \d+ stopped: (.*)", re.DOTALL)
LOOK_SECONDS: Final = 0.02
SAY_SECONDS: Final = 1.0
SAY_AGAIN_SECONDS: Final = 10.0
PUBLISHED_SECONDS: Final = 5.0
OVER_SECONDS: Final = 0.5
GOODBYE_SECONDS: Final = 1.0
_OUT_OF_RESOURCES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)


class EtcdServing:
    """Protocol of the front; it takes no messages of its own."""


async def until_led(world: World, store: Ref[Storage], where: str, waiting_for: str = "") -> None:
    """Return once a store has a leader, or is no more: its supervisor has the reason.

    Args:
        where: what the store is called in errors.
        waiting_for: whom it takes besides this process, as the log says now and then.

    Raises:
        StartError: members cannot run, and the rest is no majority.
    """
    say_s = world.monotonic() + SAY_SECONDS
    while True:
        if waiting_for and world.monotonic() >= say_s:
            say_s += SAY_AGAIN_SECONDS
            log.warning("no leader yet: waiting for %s", waiting_for)
        try:
            if (await store.ask(Status())).leader:
                return
            if not waiting_for:
                # All members are here. One that runs tells nothing of others that have stopped for good.
                await store.ask(MemberList())
        except ActorStopped:
            return
        except Unavailable as refusal:
            if NO_MAJORITY in refusal.reason:
                raise StartError(f"{where}: the store cannot start: {refusal.reason}") from None
            log.info("no leader yet: %s", refusal)
        except Refusal as refusal:
            log.info("no leader yet: %s", refusal)
        await world.sleep(LOOK_SECONDS, "until there is a leader")


async def publish(store: Ref[Storage], config: EtcdConfig) -> None:
    """Say in the list of members what each is called and where clients come, where it says otherwise."""
    client_urls = tuple(str(url) for url in config.advertised_urls())
    for member in (await store.ask(MemberList())).members:
        wanted = MemberPublish(member.id, f"{config.name}-{member.id}", client_urls)
        if (member.name, member.client_urls) != (wanted.name, wanted.client_urls):
            await store.ask(wanted)


async def until_published(world: World, store: Ref[Storage], config: EtcdConfig) -> None:
    """Return once the list of members says what this one is called and where clients come, as it tells them
    itself; or, with a line in the log, after a while."""
    wanted = config.name, tuple(str(url) for url in config.advertised_urls())
    end_s = world.monotonic() + PUBLISHED_SECONDS
    while world.monotonic() < end_s:
        try:
            if wanted in [(each.name, each.client_urls) for each in (await store.ask(MemberList())).members]:
                return
        except Refusal as refusal:
            log.info("not in the list of members yet: %s", refusal)
        await world.sleep(LOOK_SECONDS, "until it is in the list of members")
    log.warning("the list of members does not tell yet what %s is called and where clients come", config.name)


async def until_over(world: World, store: Ref[Storage], where: str) -> None:
    """Wait until the only member of this process has stopped for good: it was taken out, or its disk failed.
    What is left could answer nothing any more, and who restarts processes should see it end.

    Raises:
        StartError: that, and why.
    """
    while True:
        await world.sleep(OVER_SECONDS, "until the member has stopped for good")
        try:
            await store.ask(Status())
        except ActorStopped:
            return
        except Unavailable as refusal:
            if NO_MAJORITY in refusal.reason and (why := _STOPPED.search(refusal.reason)) is not None:
                raise StartError(
                    f"{where}: the member has stopped: {why[1]}",
                    "who was taken out comes back with `etcdctl member add` and an empty folder",
                ) from None
        except Refusal:
            continue


class EtcdFront(Actor[EtcdServing]):
    """Serves the etcd v3 API of a store on listening sockets."""

    def __init__(
        self,
        store: Ref[Storage],
        bound: Sequence[Bound],
        options: ServiceOptions,
        compactor: Compactor | None = None,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        self.store = store
        self.bound = bound
        self.options = options
        self.compactor = compactor
        self.room = trio.Semaphore(connections_max)

    async def on_start(self) -> None:
        self.service = EtcdService(self.world, self.store, self.context.channel, self.options)
        self.context.start_soon(self.service.run, name=f"{self.context.path} who leads")
        if self.compactor is not None:
            self.context.start_soon(self.service.compact_regularly, self.compactor)
        for bound in self.bound:
            self.context.start_soon(self._listen, bound, name=f"{self.context.path} {bound.url}")

    async def _listen(self, bound: Bound) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await self.room.acquire()
                try:
                    accepted = await bound.accept()
                except OSError as error:
                    self.room.release()
                    if error.errno in _OUT_OF_RESOURCES:
                        log.warning("cannot accept a connection: %s", error.strerror)
                        await self.world.sleep(0.1)
                    continue
                nursery.start_soon(self._serve, accepted, bound.tls)

    async def _serve(self, accepted: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Serve a connection. Never raises: a broken one is its own matter."""
        stream: trio.abc.Stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
        common_name = ""
        try:
            if tls is not None:
                secured = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
                stream = secured
                with trio.fail_after(HANDSHAKE_SECONDS):
                    await secured.do_handshake()
                common_name = _common_name(secured.getpeercert())
            with trio.fail_after(FIRST_BYTES_SECONDS):
                data = bytes(await stream.receive_some(READ_BYTES))
                while data and len(data) < len(PREFACE) and PREFACE.startswith(data):
                    data += bytes(await stream.receive_some(READ_BYTES))
            if data.startswith(PREFACE):
                await Connection(self.service, stream, common_name).serve(data)
            elif data:
                await self._serve_http1(stream, data)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as ended:
            log.debug("connection ended: %r", ended)
        except* Exception:
            log.exception("a connection failed")
        finally:
            self.room.release()
            with trio.move_on_after(0):
                await stream.aclose()

    async def _serve_http1(self, stream: trio.abc.Stream, data: bytes) -> None:
        reader = Http1Reader()
        request = reader.feed(data)
        with trio.move_on_after(HANDSHAKE_SECONDS):
            while request is None:
                more = await stream.receive_some(READ_BYTES)
                if not more:
                    return
                request = reader.feed(bytes(more))
            await stream.send_all(await answer(self.service, request))


def _common_name(certificate: Any) -> str:
    """The common name of a client's certificate, empty without one."""
    if certificate:
        for part in certificate.get("subject", ()):
            for name, value in part:
                if name == "commonName":
                    return str(value)
    return ""


@define(eq=False)
class ServerCall(Call):
    connection: "Connection"
    number: int
    method: Method
    metadata: Mapping[str, str]
    common_name: str
    deadline: float
    """By Trio's clock."""
    scope: trio.CancelScope | None = None
    """Of the worker that serves it, once one does."""
    aborted: bool = False
    """The client has given it up."""
    requests: deque[MessageCame] = field(factory=deque)
    finished: bool = False
    """The client sends no more."""
    waits: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    async def receive(self) -> Any:
        while not self.requests:
            if self.finished:
                return None
            await self.waits.park()
        came = self.requests.popleft()
        self.connection.protocol.taken(self.number, came.taken_bytes)
        if self.connection.protocol.output_bytes:
            # The client may have no window left with which to say anything that would be answered.
            self.connection.say()
        try:
            return self.method.request.FromString(came.payload)
        except Exception as error:
            # protobuf's DecodeError has no public name of its own.
            raise RpcError(Code.INTERNAL, f"grpc: error unmarshalling request: {error}") from error

    async def send(self, response: Any) -> None:
        await self.send_encoded([response.SerializeToString()])

    async def send_encoded(self, responses: Sequence[bytes]) -> None:
        connection = self.connection
        protocol = connection.protocol
        waiting_bytes = protocol.send(self.number, *responses)
        connection.say()
        while waiting_bytes > STREAM_WAITING_BYTES_MAX or protocol.output_bytes > OUTPUT_BYTES_MAX:
            await connection.windows.park()
            waiting_bytes = protocol.waiting_bytes(self.number)


@define(eq=False)
class Connection:
    """One client's HTTP/2 connection."""

    service: EtcdService
    stream: trio.abc.Stream
    common_name: str
    protocol: ServerConnection = field(init=False)
    windows: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)
    """Calls that wait for the client's windows."""
    _calls: dict[int, ServerCall] = field(factory=dict)
    _pages: dict[int, trio.CancelScope] = field(factory=dict)
    """Of streams that ask for a page."""
    _begun: deque[ServerCall] = field(factory=deque)
    """Calls for workers that are on their way."""
    _idle: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)
    """Workers without a call."""
    _something: trio.Event = field(factory=trio.Event)
    """There is something to write."""
    _nursery: trio.Nursery = field(init=False)
    _heard: float = field(factory=trio.current_time)
    """When the client last sent anything."""

    def __attrs_post_init__(self) -> None:
        limit = self.service.options.max_request_bytes + MESSAGE_OVERHEAD_BYTES
        self.protocol = ServerConnection(limit)

    async def serve(self, data: bytes) -> None:
        """Serve until either side is done; `data` was read already."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._write)
            nursery.start_soon(self._look_after)
            try:
                while data:
                    for happening in self.protocol.receive(data):
                        self._take(happening)
                    self.say()
                    if self.windows:
                        self.windows.unpark_all()
                    if self.protocol.ended:
                        break
                    while self.protocol.output_bytes > OUTPUT_BYTES_MAX:
                        # Who does not read is not read either: what he asks for would pile up.
                        await self.windows.park()
                    data = bytes(await self.stream.receive_some(READ_BYTES))
                    self._heard = trio.current_time()
            finally:
                nursery.cancel_scope.cancel()
                with trio.move_on_after(GOODBYE_SECONDS) as goodbye:
                    goodbye.shield = True
                    await self._say_goodbye()

    async def _say_goodbye(self) -> None:
        self.protocol.close()
        try:
            await self.stream.send_all(self.protocol.take_output())
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            log.debug("a client left before the goodbye")

    def say(self) -> None:
        """Have the writer look."""
        self._something.set()

    async def _write(self) -> None:
        while True:
            await self._something.wait()
            self._something = trio.Event()
            if data := self.protocol.take_output():
                await self.stream.send_all(data)
                if len(data) > OUTPUT_BYTES_MAX:
                    self.windows.unpark_all()

    async def _look_after(self) -> None:
        """Ask a client that has been silent for long whether it is there, and end the connection if not."""
        options = self.service.options
        while True:
            silent = trio.current_time() - self._heard
            if silent < options.keepalive_seconds:
                await trio.sleep(options.keepalive_seconds - silent)
                continue
            asked = trio.current_time()
            self.protocol.ping()
            self.say()
            await trio.sleep(options.keepalive_timeout_seconds)
            if self._heard < asked:
                log.info("a client does not answer any more: %d of its calls end", len(self._calls))
                self._nursery.cancel_scope.cancel()

    def _take(self, happening: Happening) -> None:
        match happening:
            case MessageCame():
                call = self._calls.get(happening.stream)
                if call is not None:
                    call.requests.append(happening)
                    call.waits.unpark_all()
                else:
                    self.protocol.taken(happening.stream, happening.taken_bytes)
            case CallBegan():
                self._begin(happening)
            case ClientFinished():
                call = self._calls.get(happening.stream)
                if call is not None:
                    call.finished = True
                    call.waits.unpark_all()
            case CallAborted():
                call = self._calls.get(happening.stream)
                if call is not None:
                    call.aborted = True
                    if call.scope is not None:
                        call.scope.cancel()
                elif happening.stream in self._pages:
                    self._pages[happening.stream].cancel()
            case ConnectionEnded():
                pass

    def _begin(self, began: CallBegan) -> None:
        headers = began.headers
        if headers.get(":method") in ("GET", "HEAD"):
            self._nursery.start_soon(self._show, began, name="etcd pages")
            return
        if headers.get(":method") != "POST":
            self.protocol.reject(began.stream, 405)
            return
        if not headers.get("content-type", "").startswith("application/grpc"):
            self.protocol.reject(began.stream, 415)
            return
        path = headers.get(":path", "")
        method = METHODS.get(path)
        if method is None:
            self.protocol.finish(began.stream, RpcError(Code.UNIMPLEMENTED, _unknown(path)))
            return
        deadline = math.inf
        if "grpc-timeout" in headers:
            try:
                deadline = trio.current_time() + parse_timeout(headers["grpc-timeout"])
            except RpcError as error:
                self.protocol.finish(began.stream, error)
                return
        call = ServerCall(self, began.stream, method, headers, self.common_name, deadline)
        self._calls[began.stream] = call
        if self._idle:
            self._begun.append(call)
            self._idle.unpark()
        else:
            self._nursery.start_soon(self._work, call, name="etcd calls")

    async def _show(self, began: CallBegan) -> None:
        """Answer a probe, or Prometheus."""
        path, _, query = began.headers.get(":path", "").partition("?")
        method = began.headers[":method"]
        with trio.CancelScope() as scope:
            self._pages[began.stream] = scope
            try:
                found = await page(self.service, Http1Request(method, path, query))
            except Exception:
                log.exception("%s failed", path)
                found = Page(500, "text/plain", b"the server failed; its log says why\n")
            finally:
                del self._pages[began.stream]
            self.protocol.respond(
                began.stream, found.status, found.content_type, found.body, head=method == "HEAD"
            )
            self.say()

    async def _work(self, call: ServerCall) -> None:
        """Serve a call, and then others: most are too short to be worth a task and a scope each."""
        with trio.CancelScope() as scope:
            while True:
                call.scope, scope.deadline = scope, call.deadline
                if call.aborted:
                    scope.cancel()
                self._end(call, await self._serve(call))
                scope.deadline = math.inf
                if scope.cancel_called or len(self._idle) >= IDLE_MAX:
                    return
                await self._idle.park()
                call = self._begun.popleft()
        # It was given up, or is too late.
        self._end(call, RpcError(Code.DEADLINE_EXCEEDED, "context deadline exceeded"))

    async def _serve(self, call: ServerCall) -> RpcError | None:
        try:
            await self.service.serve(call)
        except RpcError as error:
            return error
        except Exception:
            log.exception("%s failed", call.method.path)
            return RpcError(Code.INTERNAL, "the server failed; its log says why")
        return None

    def _end(self, call: ServerCall, failure: RpcError | None) -> None:
        del self._calls[call.number]
        # What came and was not taken still counts against the connection's window.
        for came in call.requests:
            self.protocol.taken(call.number, came.taken_bytes)
        self.protocol.finish(call.number, failure)
        self.say()


def _unknown(path: str) -> str:
    service, _, method = path.strip("/").partition("/")
    if any(known.startswith(f"/{service}/") for known in METHODS):
        return f"unknown method {method} for service {service}"
    return f"unknown service {service}"
