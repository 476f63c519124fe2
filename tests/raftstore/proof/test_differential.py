"""The same steps at a real etcd and at Understudy, over gRPC, through one client: the answers are the same.

Both begin empty and are sent the same, so that revisions agree, too. Watches are compared by what they tell,
in which order; how many revisions come in one answer is each server's own.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.raftstore.etcd.etcds import real_etcd
from tests.raftstore.etcd.test_etcdctl import understudy_etcd
from tests.raftstore.proof.budget import CAMPAIGN
from tests.raftstore.proof.exchanges import (
    AUTH,
    KV,
    LEASE,
    MAINTENANCE,
    PAST_WATCHES,
    PERMITTED,
    STEPS,
    CancelWatch,
    KeepAlive,
    OpenWatch,
    RaiseAlarm,
    Step,
    TakeBackAlarms,
    masked,
    nests,
    unary,
)
from understudy.properties.store_requests import LEASES
from understudy.raftstore.etcd.client import GrpcChannel
from understudy.raftstore.etcd.grpc import RpcError
from understudy.raftstore.etcd.listening import parse_url
from understudy.raftstore.etcd.schema import messages

EXAMPLES = 60
AUTH_EXAMPLES = 8
STEPS_MAX = 25
CALL_SECONDS = 5.0
WATCH_SECONDS = 3.0
ALL_KEYS = (b"a", b"aa", b"ab", b"b", b"b\xff", b"c")
WATCH_PATH = "/etcdserverpb.Watch/Watch"
NAMES_ALL = ("root", "ada", "bob")
ROLES_ALL = ("root", "reader", "writer")


def _permission(role: str, kind: int, key: bytes, end: bytes) -> Any:
    granted = messages.Permission(permType=kind, key=key, range_end=end)
    return messages.AuthRoleGrantPermissionRequest(name=role, perm=granted)


ENABLING = [
    *(("UserAdd", messages.AuthUserAddRequest(name=name, password="pw")) for name in NAMES_ALL),
    *(("RoleAdd", messages.AuthRoleAddRequest(name=role)) for role in ROLES_ALL),
    ("RoleGrantPermission", _permission("reader", 0, b"a", b"b")),
    ("RoleGrantPermission", _permission("writer", 2, b"aa", b"")),
    ("RoleGrantPermission", _permission("writer", 1, b"b", b"\0")),
    ("UserGrantRole", messages.AuthUserGrantRoleRequest(user="root", role="root")),
    ("UserGrantRole", messages.AuthUserGrantRoleRequest(user="ada", role="reader")),
    ("UserGrantRole", messages.AuthUserGrantRoleRequest(user="ada", role="writer")),
    ("UserGrantRole", messages.AuthUserGrantRoleRequest(user="bob", role="reader")),
    ("AuthEnable", messages.AuthEnableRequest()),
]


@define(eq=False)
class Watches:
    """The stream of watches at one server, and what it has told."""

    stream: Any
    told: dict[int, list[Any]] = field(factory=dict)
    """By watch: events, and what else it was told."""
    ended: dict[int, Any] = field(factory=dict)
    revisions: dict[int, int] = field(factory=dict)
    """By watch: of the last event."""
    requests: list[Any] = field(factory=list)
    created: list[Any] = field(factory=list)
    changed: trio.Event = field(factory=trio.Event)

    async def read(self) -> None:
        while (response := await self.stream.receive()) is not None:
            self._take(response)
            self.changed.set()
            self.changed = trio.Event()

    def _take(self, response: Any) -> None:
        watch = response.watch_id
        if response.created:
            self.created.append((watch, response.canceled, response.cancel_reason))
        elif response.canceled:
            self.ended[watch] = (response.compact_revision, response.cancel_reason)
        else:
            told = self.told.setdefault(watch, [])
            for event in response.events:
                last = self.revisions.get(watch, 0)
                assert event.kv.mod_revision >= last, f"watch {watch} goes back from {last}: {event}"
                told.append(event)
            firsts = {event.kv.mod_revision for event in response.events}
            assert self.revisions.get(watch, 0) not in firsts, f"watch {watch}: a revision in two parts"
            if response.events:
                self.revisions[watch] = response.events[-1].kv.mod_revision

    async def until(self, what: str, done: Any) -> None:
        with trio.move_on_after(WATCH_SECONDS) as limit:
            while not done():
                await self.changed.wait()
        assert not limit.cancelled_caught, f"no {what}: {self}"

    async def create(self, request: Any) -> None:
        count = len(self.created)
        self.requests.append(request)
        await self.stream.send(messages.WatchRequest(create_request=request))
        await self.until("answer to a watch", lambda: len(self.created) > count)

    async def cancel(self, watch: int) -> None:
        await self.stream.send(
            messages.WatchRequest(cancel_request=messages.WatchCancelRequest(watch_id=watch))
        )
        if watch in self.live():
            await self.until("end of a watch", lambda: watch in self.ended)

    def live(self) -> dict[int, Any]:
        """Watch by id, with its request."""
        made = zip(self.created, self.requests, strict=True)
        return {
            watch: request
            for (watch, canceled, _), request in made
            if not canceled and watch not in self.ended
        }

    async def see(self, put: int, deleted: int) -> None:
        """Every watch that is to see the puts or the deletions at these revisions has seen them."""

        def seen() -> bool:
            for watch, request in self.live().items():
                wanted = [r for r, kind in ((put, 0), (deleted, 1)) if kind not in request.filters]
                wanted = [r for r in wanted if r >= request.start_revision]
                if wanted and self.revisions.get(watch, 0) < max(wanted):
                    return False
            return True

        await self.until(f"event of revision {deleted}", seen)


@define(eq=False)
class Server:
    name: str
    channel: GrpcChannel
    revision: int = 1
    compacted: int = 0
    tokens: dict[str, str] = field(factory=lambda: {"nobody": "x.1"})

    async def call(self, path: str, request: Any, token: str = "") -> Any:
        try:
            metadata = {"token": token} if token else {}
            answer = await self.channel.unary(path, request, CALL_SECONDS, metadata)
        except RpcError as error:
            assert error.code.name not in ("UNAVAILABLE", "DEADLINE_EXCEEDED"), (self.name, path, error)
            return masked(error)
        self.revision = max(self.revision, answer.header.revision)
        if isinstance(request, messages.CompactionRequest):
            self.compacted = request.revision
        return masked(answer)

    async def keep_alive(self, id: int) -> Any:
        await self.channel.connect()
        stream = self.channel.stream(f"{LEASE}/LeaseKeepAlive")
        try:
            await stream.send(messages.LeaseKeepAliveRequest(ID=id))
            return masked(await stream.receive())
        finally:
            stream.cancel()

    async def step(self, step: Step, watches: Watches, revision: int) -> Any:
        match step:
            case KeepAlive():
                return await self.keep_alive(step.id)
            case OpenWatch():
                return await watches.create(step.request(revision, self.compacted))
            case CancelWatch():
                return await watches.cancel(step.id)
            case RaiseAlarm() | TakeBackAlarms():
                return await self.alarms(step)
            case _:
                return await self.call(*unary(step, revision))

    async def alarms(self, step: RaiseAlarm | TakeBackAlarms) -> list[Any]:
        return [await self.call(f"{MAINTENANCE}/Alarm", request) for request in step.requests()]

    async def log_in(self) -> None:
        """Enable authentication, and get a token for everybody."""
        for path, request in ENABLING:
            await self.call(f"{AUTH}/{path}", request)
        for name in NAMES_ALL:
            request = messages.AuthenticateRequest(name=name, password="pw")
            answer = await self.channel.unary(f"{AUTH}/Authenticate", request, CALL_SECONDS)
            self.tokens[name] = answer.token

    async def log_out(self) -> bool:
        """Disable authentication; False when root cannot any more."""
        answer = await self.call(f"{AUTH}/AuthDisable", messages.AuthDisableRequest(), self.tokens["root"])
        return not isinstance(answer, tuple)

    async def clear(self) -> None:
        """Take back all that steps can do."""
        await self.alarms(TakeBackAlarms())
        for lease in LEASES:
            await self.call(f"{LEASE}/LeaseRevoke", messages.LeaseRevokeRequest(ID=lease))
        await self.call(f"{KV}/DeleteRange", messages.DeleteRangeRequest(key=b"\0", range_end=b"\0"))
        for name in NAMES_ALL:
            await self.call(f"{AUTH}/UserDelete", messages.AuthUserDeleteRequest(name=name))
        for role in ROLES_ALL:
            await self.call(f"{AUTH}/RoleDelete", messages.AuthRoleDeleteRequest(role=role))


async def both(servers: Sequence[Server], act: Any) -> list[Any]:
    """The same at both, at the same time."""
    results: list[Any] = [None] * len(servers)

    async def run(number: int) -> None:
        results[number] = await act(number)

    async with trio.open_nursery() as nursery:
        for number in range(len(servers)):
            nursery.start_soon(run, number)
    return results


async def compare(urls: Sequence[tuple[str, str]], steps: Sequence[Step], past: Sequence[OpenWatch]) -> None:
    async with trio.open_nursery() as nursery:
        servers = [Server(name, GrpcChannel([parse_url(url, "the test's URL")])) for name, url in urls]
        streams = []
        for server in servers:
            nursery.start_soon(server.channel.run)
            await server.channel.connect()
            watches = Watches(server.channel.stream(WATCH_PATH))
            nursery.start_soon(watches.read)
            streams.append(watches)
        revision = await begin(servers)
        full = False
        for step in steps:
            at = revision
            match step:
                case RaiseAlarm():
                    full = step.kind == 1
                case TakeBackAlarms():
                    full = False
            if full and nests(step):
                continue
            answers = await both(servers, lambda n, step=step, at=at: servers[n].step(step, streams[n], at))
            assert answers[0] == answers[1], difference(step, revision, answers)
            revision = max(server.revision for server in servers)
        await both(servers, lambda n: servers[n].alarms(TakeBackAlarms()))
        for watch in past:
            await both(servers, lambda n, watch=watch: servers[n].step(watch, streams[n], revision))
        everything = [messages.RequestOp(request_put=messages.PutRequest(key=key)) for key in ALL_KEYS]
        for request in (
            (f"{KV}/Txn", messages.TxnRequest(success=everything)),
            (f"{KV}/DeleteRange", messages.DeleteRangeRequest(key=b"a", range_end=b"d")),
        ):
            await both(servers, lambda n, request=request: servers[n].call(*request))
        revision = await agree(servers)
        # Each watch sees the last puts or the last deletions, if it is to see anything.
        await both(servers, lambda n: streams[n].see(revision - 1, revision))
        for what in ("created", "ended"):
            told = [getattr(each, what) for each in streams]
            assert told[0] == told[1], difference(f"watches {what}", revision, told)
        for watch, request in streams[0].live().items():
            events = [each.told.get(watch, []) for each in streams]
            for pair in zip_longest(*events):
                assert pair[0] == pair[1], difference(f"an event of {request}", revision, pair)
        nursery.cancel_scope.cancel()


async def compare_permitted(urls: Sequence[tuple[str, str]], steps: Sequence[tuple[str, Step]]) -> bool:
    """The same with users and roles; returns whether authentication could be disabled again."""
    async with trio.open_nursery() as nursery:
        servers = [Server(name, GrpcChannel([parse_url(url, "the test's URL")])) for name, url in urls]
        for server in servers:
            nursery.start_soon(server.channel.run)
        revision = await begin(servers)
        await both(servers, lambda n: servers[n].log_in())
        for user, step in steps:
            at = revision
            answers = await both(
                servers,
                lambda n, step=step, user=user, at=at: servers[n].call(
                    *unary(step, at), servers[n].tokens.get(user, "")
                ),
            )
            assert answers[0] == answers[1], difference((user, step), revision, answers)
            revision = max(server.revision for server in servers)
        cleared = await both(servers, lambda n: servers[n].log_out())
        nursery.cancel_scope.cancel()
    return all(cleared)


async def begin(servers: Sequence[Server]) -> int:
    """Make both empty; returns the revision, up to which everything is compacted."""
    await both(servers, lambda n: servers[n].clear())
    revision = await agree(servers)
    # What is compacted is known from here on. (A store that never was takes a compaction at 0, in etcd.)
    forget = messages.CompactionRequest(revision=revision)
    answers = await both(servers, lambda n: servers[n].call(f"{KV}/Compact", forget))
    assert answers[0] == answers[1], difference(forget, revision, answers)
    return revision


async def agree(servers: Sequence[Server]) -> int:
    """The revision, which is the same at both."""
    request = messages.RangeRequest(key=b"\0", range_end=b"\0")
    answers = await both(servers, lambda n: servers[n].call(f"{KV}/Range", request))
    assert answers[0] == answers[1], difference("all keys", servers[0].revision, answers)
    revision: int = answers[0].header.revision
    return revision


def difference(step: Step, revision: int, answers: Sequence[Any]) -> str:
    return f"at revision {revision}, {step}:\n  a real etcd: {answers[0]}\n  Understudy: {answers[1]}"


def _ours(folder: Path) -> AbstractContextManager[str]:
    return understudy_etcd(folder, "--bcrypt-cost", "4", "--log-level", "warn")


@define
class Pair:
    """A real etcd and ours, both fresh or at the same revision."""

    folder: Path
    count: int = 0
    _running: ExitStack = field(factory=ExitStack)
    _urls: list[tuple[str, str]] = field(factory=list)

    def urls(self) -> list[tuple[str, str]]:
        if not self._urls:
            self.count += 1
            for name, start in (("theirs", real_etcd), ("ours", _ours)):
                folder = self.folder / f"{name}-{self.count}"
                folder.mkdir()
                self._urls.append((name, self._running.enter_context(start(folder))))
        return self._urls

    def stop(self) -> None:
        self._urls = []
        self._running.close()

    def compare_permitted(self, steps: Sequence[tuple[str, Step]]) -> None:
        reusable = False
        try:
            reusable = trio.run(compare_permitted, self.urls(), steps)
        finally:
            if not reusable:
                self.stop()

    def compare(self, steps: Sequence[Step], past: Sequence[OpenWatch]) -> None:
        try:
            trio.run(compare, self.urls(), steps, past)
        except BaseException:
            # They may have come apart: others begin anew.
            self.stop()
            raise


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pair = Pair(tmp_path_factory.mktemp("pair"))
    yield pair
    pair.stop()


@settings(
    max_examples=EXAMPLES * CAMPAIGN,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
@given(
    steps=st.lists(STEPS, min_size=1, max_size=STEPS_MAX),
    past=st.lists(PAST_WATCHES, max_size=3),
)
def test_the_same_steps_are_answered_alike(pair: Pair, steps: list[Step], past: list[OpenWatch]) -> None:
    pair.compare(steps, past)


@settings(
    max_examples=AUTH_EXAMPLES * CAMPAIGN,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
@given(steps=st.lists(PERMITTED, min_size=5, max_size=STEPS_MAX))
def test_what_users_may_do_is_answered_alike(pair: Pair, steps: list[tuple[str, Step]]) -> None:
    pair.compare_permitted(steps)
