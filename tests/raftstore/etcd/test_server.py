"""The wire front on loopback: TLS, HTTP/1.1 beside gRPC, deadlines, clients that leave."""

import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
import trio
import trio.testing

from tests.raftstore.etcd.etcds import certificates, required
from tests.raftstore.etcd.test_etcdctl import etcdctl, understudy_etcd
from understudy.actors import Actor, ActorSystem, RealWorld, handles
from understudy.actors.startup import StartError
from understudy.raftstore.etcd.calls import Call
from understudy.raftstore.etcd.client import Connected, GrpcChannel, GrpcStream
from understudy.raftstore.etcd.client_connection import CallEnded, ClientConnection
from understudy.raftstore.etcd.grpc import Code, NotSent, RpcError
from understudy.raftstore.etcd.http2 import MessageCame
from understudy.raftstore.etcd.listening import UNANSWERED_MS, Url, bind, prepare, server_tls
from understudy.raftstore.etcd.schema import messages
from understudy.raftstore.etcd.server import CONNECTIONS_MAX, IDLE_MAX, Connection, EtcdFront
from understudy.raftstore.etcd.service import EtcdService, ServiceOptions
from understudy.raftstore.memory import memory_store
from understudy.raftstore.serving import serving, serving_aside
from understudy.raftstore.storage import Put, Range, RangeReply, Status, StatusReply, Storage, Unavailable


@asynccontextmanager
async def front(
    tls: ssl.SSLContext | None = None,
    store: Callable[[], Actor[Storage]] | None = None,
    options: ServiceOptions | None = None,
    connections_max: int = CONNECTIONS_MAX,
) -> AsyncIterator[Url]:
    bound = await bind(Url("https" if tls else "http", "127.0.0.1", 0), tls, "the test's URL")
    try:
        async with RealWorld.open(seed=1) as world, ActorSystem.open(world) as system:
            served = system.spawn(store or memory_store(), "etcd")
            system.spawn(
                lambda: EtcdFront(
                    served, [bound], options or ServiceOptions(), connections_max=connections_max
                ),
                "front",
            )
            yield bound.url
    finally:
        bound.close()


@asynccontextmanager
async def channel(url: Url, tls: ssl.SSLContext | None = None) -> AsyncIterator[GrpcChannel]:
    made = GrpcChannel([url], tls)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        yield made
        nursery.cancel_scope.cancel()


async def get(url: Url, path: str, method: str = "GET") -> tuple[int, bytes]:
    def fetch() -> tuple[int, bytes]:
        request = urllib.request.Request(f"{url}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    return await trio.to_thread.run_sync(fetch)


async def test_a_probe_and_a_dashboard_use_the_same_port() -> None:
    async with front() as url:
        assert await get(url, "/health") == (200, b'{"health":"true","reason":""}')
        status, body = await get(url, "/version")
        assert status == 200 and set(json.loads(body)) == {"etcdserver", "etcdcluster"}
        status, body = await get(url, "/metrics")
        assert status == 200 and b"\netcd_server_has_leader 1\n" in body
        assert (await get(url, "/nothing"))[0] == 404
        assert (await get(url, "/health", "POST"))[0] == 405


async def get_over_http2(url: Url, *requests: tuple[str, str]) -> list[tuple[str, bytes, int]]:
    """Status, body and length as it was told, of requests (method, path) on one connection."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    for number, (method, path) in enumerate(requests):
        headers = {":method": method, ":path": path, ":scheme": "http", ":authority": "test"}
        connection.send_headers(1 + 2 * number, list(headers.items()), end_stream=True)
    answers: dict[int, tuple[str, bytes, int]] = {}
    ended = 0
    stream = await trio.open_tcp_stream(url.host, url.port)
    with trio.fail_after(30):
        async with stream:
            while ended < len(requests):
                await stream.send_all(connection.data_to_send())
                for event in connection.receive_data(await stream.receive_some()):
                    if isinstance(event, h2.events.ResponseReceived):
                        headers = dict(event.headers)
                        length = int(headers.get("content-length", "0"))
                        answers[event.stream_id] = headers[":status"], b"", length
                    elif isinstance(event, h2.events.DataReceived):
                        status, body, length = answers[event.stream_id]
                        answers[event.stream_id] = status, body + event.data, length
                    elif isinstance(event, h2.events.StreamEnded):
                        ended += 1
    return [answers[number] for number in sorted(answers)]


async def test_who_speaks_http2_gets_the_same_pages() -> None:
    """As whoever scrapes over TLS does."""
    async with front() as url:
        requests = [
            ("GET", "/health"),
            ("GET", "/metrics"),
            ("HEAD", "/health"),
            ("GET", "/nothing"),
            ("PUT", "/"),
        ]
        health, metrics, head, nothing, put = await get_over_http2(url, *requests)
    assert health == ("200", b'{"health":"true","reason":""}', 29)
    assert metrics[0] == "200" and b"\netcd_server_has_leader 1\n" in metrics[1]
    assert head == ("200", b"", 29)
    assert nothing[0] == "404" and put[0] == "405"


class Unanswering(Actor[Storage]):
    """A store that says how it is to nobody, and tells when it is asked and when nobody waits any more."""

    def __init__(self) -> None:
        self.asked, self.given_up = trio.Event(), trio.Event()

    @handles(Status, concurrent=True)
    async def on_status(self, request: Status) -> StatusReply:
        self.asked.set()
        try:
            await self.world.sleep(1000.0)
        finally:
            self.given_up.set()
        raise Unavailable("nobody waits so long")


async def test_a_page_that_is_given_up_is_not_worked_on_any_more() -> None:
    """Or whoever asks and gives up at once would have any number of them made."""
    store = Unanswering()
    async with front(store=lambda: store) as url:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        connection.initiate_connection()
        headers = {":method": "GET", ":path": "/metrics", ":scheme": "http", ":authority": "test"}
        connection.send_headers(1, list(headers.items()), end_stream=True)
        with trio.fail_after(5):  # The service itself waits for longer.
            async with await trio.open_tcp_stream(url.host, url.port) as stream:
                await stream.send_all(connection.data_to_send())
                await store.asked.wait()
                connection.reset_stream(1)
                await stream.send_all(connection.data_to_send())
                await store.given_up.wait()


async def test_health_is_of_alarms_a_leader_and_a_read() -> None:
    async with front() as url, channel(url) as client:
        alarm = messages.AlarmRequest(action=1, memberID=1, alarm=1)
        await client.unary("/etcdserverpb.Maintenance/Alarm", alarm, 5.0)
        assert await get(url, "/health") == (503, b'{"health":"false","reason":"ALARM NOSPACE"}')
        assert (await get(url, "/health?exclude=CORRUPT"))[0] == 503
        assert (await get(url, "/health?exclude=CORRUPT&exclude=NOSPACE"))[0] == 200
    async with front(store=Leaderless) as url:
        assert await get(url, "/health") == (503, b'{"health":"false","reason":"RAFT NO LEADER"}')
        assert (await get(url, "/health?serializable=true"))[0] == 200
    async with front(store=Unreadable) as url:
        status, body = await get(url, "/health")
        assert status == 503 and json.loads(body)["reason"].startswith("RANGE ERROR:etcdserver: ")


class Leaderless(Actor[Storage]):
    """A store that answers what its member has, and knows no leader."""

    leader = 0
    _status = serving(Status)
    _range = serving(Range)

    def serve(self, request: Status | Range) -> Any:
        if isinstance(request, Status):
            return StatusReply(1, "3.5.13", 1, self.leader, 1, 1, 1, 0, 0)
        return self.read(request)

    def read(self, request: Range) -> RangeReply:
        if not request.serializable:
            raise Unavailable("no leader")
        return RangeReply(1, (), more=False, count=0)


class Unreadable(Leaderless):
    """One that believes in a leader, and cannot reach it."""

    leader = 2


async def test_calls_side_by_side_on_one_connection() -> None:
    async with front() as url, channel(url) as client:

        async def put(number: int) -> None:
            request = messages.PutRequest(key=b"%d" % number, value=b"x" * (number * 2000))
            await client.unary("/etcdserverpb.KV/Put", request, 5.0)

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(put, number)
        every = messages.RangeRequest(key=b"\0", range_end=b"\0")
        assert (await client.unary("/etcdserverpb.KV/Range", every, 5.0)).count == 100


class Silent(Actor[Storage]):
    """A store that takes its time."""

    _range = serving_aside(Range)

    async def serve_aside(self, request: Range) -> None:
        await self.world.sleep(60.0)


class Paced(Actor[Storage]):
    """A store that answers as late as the key says, in milliseconds."""

    _range = serving_aside(Range)

    async def serve_aside(self, request: Range) -> RangeReply:
        await self.world.sleep(int(request.key) / 1000)
        return RangeReply(1, (), more=False, count=0)


RANGE = "/etcdserverpb.KV/Range"


async def test_more_calls_at_once_than_wait_idle() -> None:
    async with front(store=Paced) as url, channel(url) as client:

        async def get(milliseconds: int) -> None:
            await client.unary(RANGE, messages.RangeRequest(key=b"%d" % milliseconds), 10.0)

        for _ in range(2):
            async with trio.open_nursery() as nursery:
                for number in range(3 * IDLE_MAX):
                    nursery.start_soon(get, number % 50)


async def test_the_deadline_of_a_call_is_its_own() -> None:
    async with front(store=Paced) as url, channel(url) as client:
        await client.connect()

        async def get(milliseconds: int, timeout_seconds: float) -> None:
            await client.unary(RANGE, messages.RangeRequest(key=b"%d" % milliseconds), timeout_seconds)

        for _ in range(3):
            async with trio.open_nursery() as nursery:
                # Who served the first one waits for another call beyond that one's deadline.
                nursery.start_soon(get, 1, 0.1)
                nursery.start_soon(get, 200, 5.0)
            await get(200, 5.0)


class Counting(Actor[Storage]):
    """A store that never answers, and tells how many wait whenever that changes."""

    _range = serving_aside(Range)

    def __init__(self, told: trio.MemorySendChannel[int]) -> None:
        self.told = told
        self.waiting = 0

    async def serve_aside(self, request: Range) -> None:
        self._count(+1)
        try:
            await self.world.sleep(3600.0)
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        self.waiting += more
        self.told.send_nowait(self.waiting)


async def test_a_call_that_is_given_up_is_worked_on_no_longer() -> None:
    told, waiting = trio.open_memory_channel[int](100)
    request = messages.RangeRequest(key=b"k").SerializeToString()
    async with (
        front(store=lambda: Counting(told)) as url,
        await trio.open_tcp_stream(url.host, url.port) as stream,
    ):
        client = ClientConnection(1 << 20, "test")
        numbers = [client.call(RANGE, {}) for _ in range(10)]
        for number in numbers:
            client.send(number, request)
        refused = client.call(RANGE, {})
        client.send(refused, b"")
        for number in [refused, *numbers[:5]]:
            # Begun and given up in one packet.
            client.cancel(number)
        await stream.send_all(client.take_output())
        with trio.fail_after(5.0):
            while await waiting.receive() != 5:
                pass
            await trio.testing.wait_all_tasks_blocked()
            for number in numbers[5:]:
                client.cancel(number)
            await stream.send_all(client.take_output())
            while await waiting.receive():
                pass


async def test_a_call_ends_at_its_deadline_whatever_its_client_does() -> None:
    told, waiting = trio.open_memory_channel[int](100)
    async with (
        front(store=lambda: Counting(told)) as url,
        await trio.open_tcp_stream(url.host, url.port) as stream,
    ):
        client = ClientConnection(1 << 20, "test")
        client.send(client.call(RANGE, {}, 0.05), messages.RangeRequest(key=b"k").SerializeToString())
        await stream.send_all(client.take_output())
        found: list[object] = []
        with trio.fail_after(5.0):
            while not any(isinstance(each, CallEnded) for each in found):
                found += client.receive(bytes(await stream.receive_some(65_536)))
            assert [await waiting.receive(), await waiting.receive()] == [1, 0]
        (ended,) = [each for each in found if isinstance(each, CallEnded)]
        assert ended.error is not None and ended.error.code is Code.DEADLINE_EXCEEDED


class Taking(EtcdService):
    """Takes whatever it is sent, and never says anything."""

    async def serve(self, call: Call) -> None:
        await trio.testing.wait_all_tasks_blocked()
        while await call.receive() is not None:
            # All that there was to be written has been.
            await trio.testing.wait_all_tasks_blocked()


async def test_who_is_not_answered_may_go_on_sending() -> None:
    async with RealWorld.open(seed=1) as world, ActorSystem.open(world) as system:
        service = Taking(world, system.spawn(memory_store(), "etcd"), system.own_channel)
        ours, theirs = trio.testing.memory_stream_pair()
        client = ClientConnection(1 << 20, "test")
        number = client.call(WATCH, {})
        for _ in range(40):
            client.send(number, watch_of(b"k" * 100_000).SerializeToString())  # type: ignore[attr-defined]
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                await Connection(service, theirs, "").serve(bytes(await theirs.receive_some()))

            nursery.start_soon(serve)
            with trio.fail_after(5.0):
                while client.waiting_bytes(number):
                    await ours.send_all(client.take_output())
                    client.receive(bytes(await ours.receive_some()))
            nursery.cancel_scope.cancel()


async def test_a_call_that_nobody_answers_ends_in_time() -> None:
    async with front(store=Silent) as url, channel(url) as client:
        await client.connect()
        with pytest.raises(RpcError) as late:
            await client.unary("/etcdserverpb.KV/Range", messages.RangeRequest(key=b"k"), 0.05)
        assert late.value.code is Code.DEADLINE_EXCEEDED
        # The connection goes on.
        with pytest.raises(RpcError) as refused:
            await client.unary("/etcdserverpb.KV/Range", messages.RangeRequest(), 5.0)
        assert refused.value.code is Code.INVALID_ARGUMENT


async def test_what_is_no_method_is_unimplemented() -> None:
    async with front() as url:
        stream = await trio.open_tcp_stream(url.host, url.port)
        async with stream:
            client = ClientConnection(1 << 20, "test")
            number = client.call("/etcdserverpb.KV/Nothing", {})
            await stream.send_all(client.take_output())
            found: list[object] = []
            while not any(isinstance(each, CallEnded) for each in found):
                found += client.receive(bytes(await stream.receive_some(65_536)))
            ended = next(each for each in found if isinstance(each, CallEnded))
    assert ended.stream == number and ended.error is not None
    assert ended.error.code is Code.UNIMPLEMENTED and "unknown method Nothing" in ended.error.message


WATCH = "/etcdserverpb.Watch/Watch"


def watch_of(key: bytes) -> object:
    return messages.WatchRequest(create_request=messages.WatchCreateRequest(key=key))


async def test_a_client_that_vanished_loses_its_watches_and_one_that_is_silent_does_not() -> None:
    quick = ServiceOptions(keepalive_seconds=0.05, keepalive_timeout_seconds=0.3)
    async with front(options=quick) as url, channel(url) as client:
        await client.connect()
        alive = client.stream(WATCH)
        await alive.send(watch_of(b"k"))
        assert (await alive.receive()).created
        async with await trio.open_tcp_stream(url.host, url.port) as stream:
            vanished = ClientConnection(1 << 20, "test")
            number = vanished.call(WATCH, {})
            vanished.send(number, watch_of(b"k").SerializeToString())  # type: ignore[attr-defined]
            await stream.send_all(vanished.take_output())
            with trio.fail_after(5.0):
                # It reads, and says nothing any more: the server ends the connection.
                while await stream.receive_some(65_536):
                    pass
        await client.unary("/etcdserverpb.KV/Put", messages.PutRequest(key=b"k"), 5.0)
        assert (await alive.receive()).events[0].kv.key == b"k"
        alive.cancel()


async def test_so_many_connections_and_the_next_when_one_has_left() -> None:
    async with front(connections_max=2) as url:
        first = await trio.open_tcp_stream(url.host, url.port)
        await first.send_all(b"GET /hea")
        async with channel(url) as second:
            await second.connect()
            await second.unary("/etcdserverpb.KV/Put", messages.PutRequest(key=b"k"), 5.0)
            async with channel(url) as third:
                with pytest.raises(RpcError):
                    await third.unary("/etcdserverpb.KV/Put", messages.PutRequest(key=b"k"), 0.2)
                await first.aclose()
                await third.unary("/etcdserverpb.KV/Put", messages.PutRequest(key=b"k"), 5.0)


async def test_who_does_not_read_is_not_read_either() -> None:
    async with RealWorld.open(seed=1) as world, ActorSystem.open(world) as system:
        store = system.spawn(memory_store(), "etcd")
        await store.ask(Put(b"large", b"x" * 1_000_000))
        service = EtcdService(world, store, system.own_channel)
        ours, theirs = trio.testing.lockstep_stream_pair()
        client = ClientConnection(64 << 20, "test")
        request = messages.RangeRequest(key=b"large").SerializeToString()
        asked = 0
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                try:
                    await Connection(service, theirs, "").serve(bytes(await theirs.receive_some()))
                except* trio.BrokenResourceError:
                    pass

            async def ask() -> None:
                nonlocal asked
                while asked < 15:
                    number = client.call("/etcdserverpb.KV/Range", {})
                    client.send(number, request)
                    await ours.send_all(client.take_output())
                    asked += 1
                    await trio.testing.wait_all_tasks_blocked()

            nursery.start_soon(serve)
            with trio.move_on_after(0.5):
                await ask()
            # The windows would take all 15 answers.
            assert 4 <= asked < 8, asked
            await ours.aclose()


def test_a_connection_whose_peer_vanished_is_noticed_by_tcp() -> None:
    with socket.socket() as connected:
        prepare(connected)
        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNANSWERED_MS


async def test_a_server_that_is_not_there_is_not_reached() -> None:
    async with front() as url:
        pass
    async with channel(url) as client:
        with pytest.raises(NotSent):
            await client.unary("/etcdserverpb.KV/Put", messages.PutRequest(key=b"k"), 5.0)


@asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[GrpcStream, trio.abc.Stream]]:
    """A call on a connection whose server takes what comes and says nothing; and the server's end."""
    ours, theirs = trio.testing.memory_stream_pair()
    channel = GrpcChannel([Url("http", "127.0.0.1", 1)])
    channel._connected = Connected(ours, ClientConnection(64 << 20, "localhost:2379"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel._connected.serve)
        stream = channel.stream("/etcdserverpb.Watch/Watch")
        assert isinstance(stream, GrpcStream)
        yield stream, theirs
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("end", ["closed", "cancelled"])
async def test_who_waits_for_the_server_s_window_hears_of_the_end(end: str) -> None:
    create = messages.WatchCreateRequest(key=bytes(3 << 20))
    codes: list[Code] = []
    with trio.fail_after(5.0):
        async with silent_server() as (stream, theirs):

            async def send() -> None:
                with pytest.raises(RpcError) as refused:
                    await stream.send(messages.WatchRequest(create_request=create))
                codes.append(refused.value.code)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                await trio.testing.wait_all_tasks_blocked()
                assert not codes
                if end == "closed":
                    await theirs.aclose()
                else:
                    stream.cancel()
    assert codes == [Code.UNAVAILABLE if end == "closed" else Code.CANCELLED]


async def test_an_answer_that_is_no_message_ends_its_call_alone() -> None:
    async with silent_server() as (stream, _):
        stream.take(MessageCame(stream.number, b"\xff", 0))
        with pytest.raises(RpcError, match=r"INTERNAL: .*Watch"):
            await stream.receive()


@pytest.mark.parametrize("answer", [b"", b"this is no TLS\r\n\r\n"])
async def test_a_connection_that_did_not_come_about_is_closed(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("understudy.raftstore.etcd.client.CONNECT_SECONDS", 0.2)
    left = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        if answer:
            await stream.send_all(answer)
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                pass
        left.set()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), serve, 0)
        url = Url("https", "127.0.0.1", listener.socket.getsockname()[1])
        async with channel(url, ssl.create_default_context()) as client:
            with trio.fail_after(5.0):
                with pytest.raises(NotSent) as refused:
                    await client.connect()
                await left.wait()
            assert refused.value.code is Code.UNAVAILABLE
        nursery.cancel_scope.cancel()


async def test_an_address_in_use_is_its_users_error() -> None:
    async with front() as url:
        with pytest.raises(StartError, match="in use already"):
            await bind(url, None, "--listen-client-urls")
    with pytest.raises(StartError, match="needs a certificate"):
        await bind(Url("https", "127.0.0.1", 0), None, "--listen-client-urls")


def test_files_that_are_no_certificate_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nonsense")
    with pytest.raises(StartError, match="a PEM certificate and its PEM key are needed"):
        server_tls(str(tmp_path / "cert.pem"), str(tmp_path / "cert.pem"))
    with pytest.raises(StartError, match="No such file"):
        server_tls(str(tmp_path / "none.pem"), str(tmp_path / "none.pem"))


def test_etcdctl_over_tls_is_who_its_certificate_says(tmp_path: Path) -> None:
    required("etcdctl", "etcd-client")
    certificates(tmp_path, ("server", "root"))
    path = {
        name: str(tmp_path / name) for name in ("ca.pem", "server.pem", "server.key", "root.pem", "root.key")
    }
    flags = ["--cert-file", path["server.pem"], "--key-file", path["server.key"]]
    flags += ["--trusted-ca-file", path["ca.pem"], "--client-cert-auth"]
    with understudy_etcd(tmp_path, *flags) as url:
        anonymous = ["--cacert", path["ca.pem"], "--dial-timeout", "2s"]
        assert "Error" in etcdctl(url, *anonymous, "put", "k", "v")
        known = ["--cacert", path["ca.pem"], "--cert", path["root.pem"], "--key", path["root.key"]]
        assert etcdctl(url, *known, "put", "k", "v") == "OK"
        etcdctl(url, *known, "user", "add", "root:secret")
        etcdctl(url, *known, "user", "grant-role", "root", "root")
        assert etcdctl(url, *known, "auth", "enable") == "Authentication Enabled"
        assert etcdctl(url, *known, "get", "k") == "k\nv"
