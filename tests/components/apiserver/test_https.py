"""The HTTPS server against clients that behave and clients that do not."""

import gzip
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
import trio
from attrs import define, evolve

from understudy.actors import Actor, ActorSystem, ChannelWriter, RealWorld, Ref, handles
from understudy.components.apiserver.certificates import ADMIN, ADMIN_GROUPS, Authority
from understudy.components.apiserver.https import HttpsOptions, HttpsServer, HttpsServing
from understudy.components.apiserver.listening import bind
from understudy.components.machinery.api import ApiRequest, ApiResponse, ApiServing, PeerIdentity
from understudy.components.machinery.tls import client_context, server_context
from understudy.mailbox import ChannelClosed

JSON = (("content-type", "application/json"),)
BIG = orjson.dumps({"items": list(range(200_000))})


class Scripted(Actor[ApiServing]):
    """Answers by path."""

    def __init__(self, seen: list[ApiRequest], stopped: trio.Event) -> None:
        self.seen = seen
        self.stopped = stopped

    @handles(ApiRequest, concurrent=True)
    async def handle(self, request: ApiRequest) -> ApiResponse:
        self.seen.append(request)
        match request.path:
            case "/boom":
                raise RuntimeError("boom")
            case "/slow":
                await self.world.sleep(1000)
            case "/big":
                return ApiResponse(200, JSON, BIG)
            case "/none":
                return ApiResponse(204, (), b"")
            case "/count" | "/forever" | "/cut" if request.stream is not None:
                self.context.adopt(request.stream)
                self.context.start_soon(self.write, request.path, request.stream)
                return ApiResponse(200, JSON, b"", streaming=True)
        return ApiResponse(200, JSON, orjson.dumps({"path": request.path, "length": len(request.body)}))

    async def write(self, path: str, stream: ChannelWriter[bytes]) -> None:
        try:
            for number in range(3):
                await stream.send(b"%d\n" % number)
            while path == "/forever":
                await stream.send(b"x" * 10_000)
        except ChannelClosed:
            self.stopped.set()
        if path == "/cut":
            raise RuntimeError("the API server crashes")
        stream.close()


@define
class Running:
    port: int
    seen: list[ApiRequest]
    stream_stopped: trio.Event
    authority: Authority | None
    server: Ref[HttpsServing]
    system: ActorSystem

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)


FAST = HttpsOptions(
    head_seconds=0.15, body_seconds=0.15, idle_seconds=0.3, write_seconds=0.15, sweep_seconds=0.02
)
PATIENT = HttpsOptions()


@asynccontextmanager
async def running(options: HttpsOptions = PATIENT, *, tls: bool = False) -> AsyncIterator[Running]:
    with trio.fail_after(20):
        async with RealWorld.open(seed=1) as world:
            with await bind("127.0.0.1:0") as bound:
                async with ActorSystem.open(world) as system:
                    seen: list[ApiRequest] = []
                    stopped = trio.Event()
                    authority = await Authority.open(world) if tls else None
                    context = (
                        server_context(authority.serving(), authority.certificate_pem) if authority else None
                    )
                    api: Ref[ApiServing] = system.spawn(lambda: Scripted(seen, stopped), "api")
                    server = system.spawn(lambda: HttpsServer(bound, api, context, options), "https")
                    yield Running(bound.port, seen, stopped, authority, server, system)


def request(path: str = "/", *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: h", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


@define
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        parsed: dict[str, object] = orjson.loads(self.body)
        return parsed


class Reading:
    """A deliberately simple HTTP client: reads answers one after the other."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self.stream = stream
        self.buffer = b""

    async def _more(self) -> None:
        data = await self.stream.receive_some()
        if not data:
            raise EOFError(self.buffer)
        self.buffer += data

    async def until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            await self._more()
        found, _, self.buffer = self.buffer.partition(mark)
        return found

    async def exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            await self._more()
        found, self.buffer = self.buffer[:count], self.buffer[count:]
        return found

    async def answer(self, *, head: bool = False) -> Answer:
        first, *lines = (await self.until(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await self.until(b"\r\n"), 16):
                body += await self.exactly(size)
                assert await self.exactly(2) == b"\r\n"
            assert await self.exactly(2) == b"\r\n"
        elif not head:
            body = await self.exactly(int(headers.get("content-length", "0")))
        return Answer(int(first.split()[1]), headers, body)

    async def closed(self) -> bytes:
        """Everything up to the end of the connection."""
        try:
            while True:
                await self._more()
        except EOFError:
            return self.buffer
        except trio.BrokenResourceError:
            return self.buffer


async def once(server: Running, data: bytes, *, head: bool = False) -> Answer:
    async with await server.connect() as stream:
        await stream.send_all(data)
        return await Reading(stream).answer(head=head)


async def test_requests_follow_one_another_on_a_connection_and_may_be_pipelined() -> None:
    async with running() as server, await server.connect() as stream:
        reading = Reading(stream)
        for path in ("/a", "/b/"):
            await stream.send_all(request(path))
            assert (await reading.answer()).json["path"] == path.rstrip("/")
        await stream.send_all(b"".join(request(f"/{n}") for n in range(100)))
        assert [(await reading.answer()).json["path"] for _ in range(100)] == [f"/{n}" for n in range(100)]


async def test_the_message_holds_what_the_client_sent() -> None:
    async with running() as server:
        await once(server, request("/a%20b?x=1&y=", "Authorization: Bearer t", method="POST", body=b"{}"))
        [message] = server.seen
        assert (message.method, message.path, message.body) == ("POST", "/a b", b"{}")
        assert message.query == (("x", "1"), ("y", ""))
        assert message.header("authorization") == "Bearer t"
        assert message.peer is None
        assert message.stream is None


async def test_a_stream_comes_in_chunks_and_the_connection_goes_on() -> None:
    async with running() as server, await server.connect() as stream:
        reading = Reading(stream)
        await stream.send_all(request("/count") + request("/next"))
        answer = await reading.answer()
        assert (answer.status, answer.body) == (200, b"0\n1\n2\n")
        assert answer.headers["transfer-encoding"] == "chunked"
        assert (await reading.answer()).json["path"] == "/next"


async def test_http_1_0_gets_its_stream_up_to_the_end_of_the_connection() -> None:
    async with running() as server, await server.connect() as stream:
        await stream.send_all(b"GET /count HTTP/1.0\r\n\r\n")
        assert (await Reading(stream).closed()).endswith(b"\r\n\r\n0\n1\n2\n")


async def test_a_client_that_leaves_ends_its_stream() -> None:
    async with running() as server:
        stream = await server.connect()
        await stream.send_all(request("/forever"))
        await stream.receive_some()
        await stream.aclose()
        await server.stream_stopped.wait()


async def test_a_client_that_does_not_read_ends_its_stream_and_harms_nobody() -> None:
    async with running(FAST) as server, await server.connect() as stuck:
        await stuck.send_all(request("/forever"))
        assert (await once(server, request("/a"))).status == 200
        await server.stream_stopped.wait()


async def test_a_stream_that_breaks_off_is_not_ended_as_if_it_were_whole() -> None:
    async with running() as server, await server.connect() as stream:
        await stream.send_all(request("/cut"))
        rest = await Reading(stream).closed()
        assert rest.startswith(b"HTTP/1.1 200 OK")
        assert rest.endswith(b"2\n\r\n"), "the last chunk is missing, so the client knows"


@pytest.mark.parametrize("sent", [b"", b"GET / HT", request("/", "Content-Length: 9")])
async def test_slow_clients_are_cut_off_and_hold_up_nobody(sent: bytes) -> None:
    async with running(FAST) as server, await server.connect() as slow:
        await slow.send_all(sent)
        assert (await once(server, request("/a"))).status == 200
        assert await Reading(slow).closed() == b""


async def test_drops_of_a_header_do_not_extend_its_deadline() -> None:
    async with running(FAST) as server, await server.connect() as slow:
        with pytest.raises(trio.BrokenResourceError):
            for byte in request("/", *["X: y"] * 10_000):
                await slow.send_all(bytes([byte]))
                await trio.sleep(0.01)


async def test_a_body_over_the_limit_is_refused_and_its_sender_reads_the_answer() -> None:
    body = b"x" * (3 * 1024 * 1024)
    async with running() as server:
        answer = await once(server, request("/a", method="POST", body=body))
        assert answer.json == {"path": "/a", "length": len(body)}
        over = request("/a", method="POST", body=body + b"x")
        chunks = request("/a", "Transfer-Encoding: chunked", method="POST") + b"400000\r\n" + body * 2
        for data in (over, chunks):
            async with await server.connect() as stream, trio.open_nursery() as nursery:
                nursery.start_soon(_send_what_fits, stream, data)
                answer = await Reading(stream).answer()
                assert answer.status == 413
                assert answer.headers["connection"] == "close"
                assert answer.json["message"] == "Request entity too large: limit is 3145728"
                nursery.cancel_scope.cancel()


async def _send_what_fits(stream: trio.SocketStream, data: bytes) -> None:
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        return


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"nonsense\r\n\r\n", 400),
        (request("/", "X: " + "y" * 200_000), 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
    ],
)
async def test_what_cannot_be_read_gets_a_status_and_the_connection_closes(data: bytes, code: int) -> None:
    async with running() as server, await server.connect() as stream:
        await stream.send_all(data)
        reading = Reading(stream)
        answer = await reading.answer()
        assert (answer.status, answer.json["kind"], answer.json["code"]) == (code, "Status", code)
        assert answer.headers["connection"] == "close"
        assert await reading.closed() == b""


async def test_continue_is_said_before_the_body_is_sent() -> None:
    async with running() as server, await server.connect() as stream:
        reading = Reading(stream)
        await stream.send_all(request("/a", "Expect: 100-continue", "Content-Length: 2", method="PUT"))
        assert await reading.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue"
        await stream.send_all(b"{}")
        assert (await reading.answer()).json["length"] == 2


async def test_an_answer_to_head_has_no_body() -> None:
    async with running() as server, await server.connect() as stream:
        reading = Reading(stream)
        await stream.send_all(request("/a", method="HEAD") + request("/none") + request("/b"))
        head = await reading.answer(head=True)
        assert int(head.headers["content-length"]) > 0
        assert server.seen[0].method == "HEAD"
        assert (await reading.answer()).status == 204
        assert (await reading.answer()).json["path"] == "/b"


async def test_an_upgrade_is_answered_like_any_request_and_ends_the_connection() -> None:
    async with running() as server, await server.connect() as stream:
        await stream.send_all(request("/exec", "Connection: Upgrade", "Upgrade: websocket"))
        reading = Reading(stream)
        answer = await reading.answer()
        assert (answer.json["path"], answer.headers["connection"]) == ("/exec", "close")
        assert await reading.closed() == b""


async def test_big_answers_are_compressed_for_who_accepts_it() -> None:
    async with running() as server:
        plain = await once(server, request("/big"))
        assert plain.body == BIG
        packed = await once(server, request("/big", "Accept-Encoding: br, gzip;q=0.5"))
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(packed.body) == BIG
        refused = await once(server, request("/big", "Accept-Encoding: gzip;q=0"))
        assert "content-encoding" not in refused.headers
        small = await once(server, request("/a", "Accept-Encoding: gzip"))
        assert "content-encoding" not in small.headers


async def test_a_crash_of_the_api_server_is_a_status_of_its_request_only() -> None:
    async with running(evolve(PATIENT, request_seconds=0.05)) as server:
        answer = await once(server, request("/boom"))
        assert (answer.status, answer.json["reason"]) == (500, "InternalError")
        answer = await once(server, request("/slow"))
        assert (answer.status, answer.json["reason"]) == (504, "Timeout")
        await server.system.stop(server.system.ref("/api"))
        answer = await once(server, request("/a"))
        assert (answer.status, answer.json["reason"]) == (503, "ServiceUnavailable")


async def test_at_the_limit_an_idle_connection_makes_room() -> None:
    async with running(evolve(PATIENT, connections_max=2, sweep_seconds=0.02)) as server:
        first, second = await server.connect(), await server.connect()
        for stream in (first, second):
            await stream.send_all(request("/a"))
            await Reading(stream).answer()
        assert (await once(server, request("/b"))).status == 200
        assert await Reading(first).closed() == b""
        await second.send_all(request("/c"))
        assert (await Reading(second).answer()).status == 200
        for stream in (first, second):
            await stream.aclose()


async def test_stopping_closes_every_connection_within_the_deadline() -> None:
    async with running(tls=False) as server:
        streams = [await server.connect() for _ in range(5)]
        for stream, path in zip(streams, ["/slow", "/forever", "/a", "/count", "/slow"], strict=True):
            await stream.send_all(request(path))
        await streams[2].receive_some()
        began = trio.current_time()
        await server.system.stop(server.server)
        assert trio.current_time() - began < 1.0
        for stream in streams:
            await Reading(stream).closed()
            await stream.aclose()


# -- TLS


async def tls_once(server: Running, context: ssl.SSLContext, data: bytes, name: str = "localhost") -> Answer:
    async with trio.SSLStream(await server.connect(), context, server_hostname=name) as stream:
        await stream.send_all(data)
        return await Reading(stream).answer()


async def test_a_client_certificate_is_the_peer() -> None:
    async with running(tls=True) as server:
        assert server.authority is not None
        pem = server.authority.certificate_pem
        admin = client_context(pem, server.authority.admin())
        await tls_once(server, admin, request("/a"))
        await tls_once(server, client_context(pem, None), request("/a"), "kubernetes.default.svc")
        await tls_once(server, client_context(pem, None), request("/a"), "127.0.0.1")
        assert [message.peer for message in server.seen] == [PeerIdentity(ADMIN, ADMIN_GROUPS), None, None]


async def test_a_stream_over_tls_goes_both_ways() -> None:
    async with running(tls=True) as server:
        assert server.authority is not None
        context = client_context(server.authority.certificate_pem, None)
        raw = await server.connect()
        async with trio.SSLStream(raw, context, server_hostname="localhost") as stream:
            await stream.send_all(request("/count") + request("/a"))
            reading = Reading(stream)
            assert (await reading.answer()).body == b"0\n1\n2\n"
            assert (await reading.answer()).json["path"] == "/a"
            assert raw is not None
            assert stream.selected_alpn_protocol() == "http/1.1"
        stream = trio.SSLStream(await server.connect(), context, server_hostname="localhost")
        await stream.send_all(request("/forever"))
        await stream.receive_some()
        await trio.aclose_forcefully(stream)
        await server.stream_stopped.wait()


async def test_strangers_to_tls_are_turned_away_and_harm_nobody() -> None:
    async with running(tls=True) as server:
        assert server.authority is not None
        with pytest.raises(ssl.SSLError):
            ssl.create_default_context().load_verify_locations(cadata="x")
        other = await _another_authority()
        pem = server.authority.certificate_pem
        for context in (client_context(other.certificate_pem, None), client_context(pem, other.admin())):
            with pytest.raises(trio.BrokenResourceError):
                await tls_once(server, context, request("/a"))
        async with await server.connect() as stream:
            await stream.send_all(request("/a"))
            assert b"this port speaks HTTPS" in await Reading(stream).closed()
        async with await server.connect() as stream:
            await stream.send_all(b"\x16\x03\x01\x00\x05garbage")
            await Reading(stream).closed()
        assert (await tls_once(server, client_context(pem, None), request("/a"))).status == 200


async def _another_authority() -> Authority:
    async with RealWorld.open() as world:
        return await Authority.open(world)
