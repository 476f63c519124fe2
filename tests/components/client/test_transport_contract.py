"""What a caller may rely on, whichever transport its requests travel by."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import orjson
import pytest
import trio
from attrs import define

from understudy.actors import Actor, ActorSystem, ChannelWriter, RealWorld, Ref, handles
from understudy.components.apiserver.certificates import ADMIN, ADMIN_GROUPS, Authority
from understudy.components.apiserver.https import HttpsServer
from understudy.components.apiserver.listening import bind
from understudy.components.client import ActorTransport, Client, Transport
from understudy.components.client.https import HttpsTransport
from understudy.components.client.kubeconfig import Access, KubeconfigError, kubeconfig_text, parse_kubeconfig
from understudy.components.machinery.api import ApiRequest, ApiResponse, ApiServing, PeerIdentity
from understudy.components.machinery.errors import ApiError, not_found
from understudy.components.machinery.resources import Resource
from understudy.components.machinery.tls import server_context
from understudy.mailbox import ChannelClosed

JSON = (("content-type", "application/json"),)
STREAMS = ("/stream/short", "/stream/endless", "/stream/flood", "/stream/cut", "/api/v1/pods")
PEER = PeerIdentity(ADMIN, ADMIN_GROUPS)


class Scripted(Actor[ApiServing]):
    """Answers by path; echoes what it got otherwise."""

    def __init__(self, running: "Running") -> None:
        self.running = running

    @handles(ApiRequest, concurrent=True)
    async def handle(self, request: ApiRequest) -> ApiResponse:
        if request.path == "/missing":
            error = not_found("", "pods", "x")
            return ApiResponse(404, JSON, orjson.dumps(error.status))
        if request.path == "/slow":
            await self.world.sleep(1000)
        if request.path == "/boom":
            raise RuntimeError("boom")
        if request.path in STREAMS and request.stream is not None:
            self.context.adopt(request.stream)
            self.context.start_soon(self.write, request.path, request.stream)
            return ApiResponse(200, JSON, b"", streaming=True)
        echo = {
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "body": request.body.decode(),
            "agent": request.header("user-agent"),
            "user": request.peer.user if request.peer else None,
            "groups": request.peer.groups if request.peer else None,
            "token": request.header("authorization"),
            "size": len(request.body),
        }
        return ApiResponse(201, (*JSON, ("Warning", '299 - "x"')), orjson.dumps(echo))

    async def write(self, path: str, stream: ChannelWriter[bytes]) -> None:
        try:
            for number in range(3):
                await stream.send(b'{"type":"ADDED","object":{"n":%d}}\n' % number)
            if path == "/stream/endless":
                await self.world.event("never").wait()
            while path in ("/stream/flood", "/api/v1/pods"):
                await stream.send(b"x" * 1000)
        except ChannelClosed:
            self.running.stream_stopped.set()
        if path == "/stream/cut":
            raise RuntimeError("the API server crashes")
        stream.close()


@define
class Running:
    transport: Transport
    system: ActorSystem
    stream_stopped: trio.Event

    async def get(self, path: str, seconds: float = 5.0) -> ApiResponse:
        return await self.transport.request("GET", path, (), (), b"", seconds)


Opening = Callable[[], AbstractAsyncContextManager[Running]]


@asynccontextmanager
async def by_messages() -> AsyncIterator[Running]:
    with trio.fail_after(20):
        async with RealWorld.open(seed=1) as world, ActorSystem.open(world) as system:
            api: Ref[ApiServing] = system.ref("/api")
            running = Running(ActorTransport(system, api, PEER), system, trio.Event())
            system.spawn(lambda: Scripted(running), "api")
            yield running


@asynccontextmanager
async def by_https() -> AsyncIterator[Running]:
    with trio.fail_after(20):
        async with RealWorld.open(seed=1) as world:
            with await bind("127.0.0.1:0") as bound:
                authority = await Authority.open(world)
                tls = server_context(authority.serving(), authority.certificate_pem)
                url = f"https://{bound.authority}"
                written = kubeconfig_text(url, authority.certificate_pem, authority.admin())
                async with ActorSystem.open(world) as system:
                    api: Ref[ApiServing] = system.ref("/api")
                    async with HttpsTransport(parse_kubeconfig(written)) as transport:
                        running = Running(transport, system, trio.Event())
                        system.spawn(lambda: Scripted(running), "api")
                        system.spawn(lambda: HttpsServer(bound, api, tls), "https")
                        yield running


either = pytest.mark.parametrize("opened", [by_messages, by_https])


@either
async def test_a_request_arrives_as_it_was_sent(opened: Opening) -> None:
    async with opened() as running:
        response = await running.transport.request(
            "PATCH",
            "/api/v1/a b/\u00e4",
            (("labelSelector", "a=b,c in (d, e)"), ("empty", ""), ("again", "1"), ("again", "2")),
            (("user-agent", "test"), ("content-type", "application/json")),
            b"{}",
            5.0,
        )
        assert (response.status, response.streaming) == (201, False)
        assert response.header("content-type") == "application/json"
        assert response.header("warning") == '299 - "x"'
        assert orjson.loads(response.body) == {
            "method": "PATCH",
            "path": "/api/v1/a b/\u00e4",
            "query": [["labelSelector", "a=b,c in (d, e)"], ["empty", ""], ["again", "1"], ["again", "2"]],
            "body": "{}",
            "agent": "test",
            "user": ADMIN,
            "groups": list(ADMIN_GROUPS),
            "token": None,
            "size": 2,
        }


@either
async def test_large_bodies_go_through(opened: Opening) -> None:
    async with opened() as running:
        body = b"x" * 1_000_000
        response = await running.transport.request("POST", "/a", (), (), body, 5.0)
        assert orjson.loads(response.body)["size"] == len(body)
        assert len(response.body) > len(body)


@either
async def test_many_requests_at_once(opened: Opening) -> None:
    async with opened() as running:
        answered: list[str] = []

        async def one(number: int) -> None:
            for again in range(5):
                response = await running.get(f"/{number}/{again}")
                answered.append(orjson.loads(response.body)["path"])

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(one, number)
        assert sorted(answered) == sorted(f"/{n}/{again}" for n in range(20) for again in range(5))


@either
async def test_a_refusal_is_an_answer(opened: Opening) -> None:
    async with opened() as running:
        response = await running.get("/missing")
        assert response.status == 404
        assert orjson.loads(response.body)["reason"] == "NotFound"


@either
async def test_a_late_answer_is_a_timeout(opened: Opening) -> None:
    async with opened() as running:
        with pytest.raises(ApiError) as caught:
            await running.get("/slow", 0.05)
        assert (caught.value.code, caught.value.reason) == (504, "Timeout")
        assert (await running.get("/a")).status == 201


@either
async def test_a_stream_comes_in_order_and_ends(opened: Opening) -> None:
    async with opened() as running:
        for _ in range(3):
            async with running.transport.stream("GET", "/stream/short", (), ()) as (response, chunks):
                assert (response.status, response.streaming) == (200, True)
                lines = b"".join([chunk async for chunk in chunks]).splitlines()
                assert [orjson.loads(line)["object"]["n"] for line in lines] == [0, 1, 2]


@either
async def test_what_was_sent_of_a_stream_is_there_before_it_ends(opened: Opening) -> None:
    async with (
        opened() as running,
        running.transport.stream("GET", "/stream/endless", (), ()) as (_, chunks),
    ):
        got = b""
        while got.count(b"\n") < 3:
            got += await anext(chunks)


@either
async def test_leaving_a_stream_stops_its_writer(opened: Opening) -> None:
    async with opened() as running:
        async with running.transport.stream("GET", "/stream/flood", (), ()) as (_, chunks):
            await anext(chunks)
        await running.stream_stopped.wait()


@either
async def test_a_stream_that_breaks_off_is_an_error(opened: Opening) -> None:
    async with opened() as running:
        with pytest.raises(ApiError) as caught:
            async with running.transport.stream("GET", "/stream/cut", (), ()) as (_, chunks):
                async for _ in chunks:
                    pass
        assert caught.value.code == 503


@either
async def test_a_watch_may_be_left_after_any_event(opened: Opening) -> None:
    async with opened() as running:
        client = Client(running.transport, "test", running.system.world)
        pods = Resource("", "v1", "pods", "Pod", "pod", True, frozenset())
        async with client.watch(pods) as events:
            async for event in events:
                assert (event.type, event.object) == ("ADDED", {"n": 0})
                break
        await running.stream_stopped.wait()


@either
async def test_a_refused_stream_has_its_status_in_the_body(opened: Opening) -> None:
    async with (
        opened() as running,
        running.transport.stream("GET", "/missing", (), ()) as (response, chunks),
    ):
        assert (response.status, response.streaming) == (404, False)
        assert orjson.loads(response.body)["reason"] == "NotFound"
        assert b"".join([chunk async for chunk in chunks]) == response.body


@either
async def test_without_an_api_server_the_error_says_so(opened: Opening) -> None:
    async with opened() as running:
        await running.system.stop(running.system.ref("/api"))
        client = Client(running.transport, "test", running.system.world)
        with pytest.raises(ApiError) as caught:
            await client._json("GET", "/a")
        assert (caught.value.code, caught.value.reason) == (503, "ServiceUnavailable")


# -- what only sockets can do


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used() -> None:
    async with by_https() as running:
        assert (await running.get("/a")).status == 201
        server = running.system.ref("/https")
        await running.system.stop(server)
        with pytest.raises(ApiError) as caught:
            await running.get("/a", 0.05)
        assert caught.value.code in (503, 504), "the socket still listens, and nobody answers"


async def test_a_token_is_sent_with_every_request() -> None:
    async with RealWorld.open(seed=1) as world, ActorSystem.open(world) as system:
        with await bind("127.0.0.1:0") as bound:
            api: Ref[ApiServing] = system.ref("/api")
            access = Access(f"http://{bound.authority}/prefix/", token="secret")
            async with HttpsTransport(access) as transport:
                running = Running(transport, system, trio.Event())
                system.spawn(lambda: Scripted(running), "api")
                server = system.spawn(lambda: HttpsServer(bound, api, None), "https")
                echo = orjson.loads((await running.get("/a")).body)
                assert (echo["token"], echo["path"], echo["user"]) == ("Bearer secret", "/prefix/a", None)
                await system.stop(server)


async def test_nobody_listens() -> None:
    with await bind("127.0.0.1:0") as bound:
        port = bound.port
    async with HttpsTransport(Access(f"https://127.0.0.1:{port}")) as transport:
        with pytest.raises(ApiError, match="Connection refused") as caught:
            await transport.request("GET", "/", (), (), b"", 5.0)
        assert caught.value.code == 503


@pytest.mark.parametrize("server", ["ftp://a", "https://", "https://a:b", "localhost:6443"])
def test_a_server_that_is_no_url_is_refused(server: str) -> None:
    with pytest.raises(KubeconfigError):
        HttpsTransport(Access(server))
